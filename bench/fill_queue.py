"""Make a spool with a long queue in it, as if so many messages had been accepted and could not be delivered.

    python bench/fill_queue.py DATA_DIR [--messages 1000000] [--destinations 1000] [--octets 1000] [--shard 1]

The rows are those that the spool itself would have stored, made by the same code, but written in large
transactions without a sync. No server may be running on DATA_DIR. All of it is due within the next hour, or
at once with `--due`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outrider.model.address import Address, Domain
from outrider.model.content import Content, inline_content
from outrider.model.envelope import Envelope, Recipient
from outrider.model.facts import Fact, Provenance
from outrider.model.message import Event, ItemState, MessageId, NewItem, NewMessage
from outrider.spool.sqlite.connection import open_database
from outrider.spool.sqlite.place import DATABASE, DirectoryLock, read_epoch
from outrider.spool.sqlite.rows import Rows, write_rows
from outrider.spool.sqlite.spool import EPOCH_SHIFT, SqliteSpool
from outrider.spool.sqlite.storing import prepare

BATCH = 10_000
SPREAD_S = 3600.0
"""Over how long the next attempts are spread when they are not due at once."""
_KNOWN: dict[str, str | bool] = {
    "client.address": "192.0.2.9",
    "client.name": "mx.load.example",
    "tls.used": True,
}
FACTS = tuple(Fact(name, value, Provenance.PROVEN, "connection", 0.0) for name, value in _KNOWN.items())


@dataclass(frozen=True)
class Queue:
    """What the queue is to be like."""

    messages: int = 1_000_000
    destinations: int = 1000
    """Domains, each with as many messages: ``d0.load.example`` and so on."""
    lane: str = ""
    """Their common destination, where one route leads to all of them: ``smtp:[192.0.2.1]:25``."""
    octets: int = 1000
    """Of each message."""
    due: bool = False
    """At once; otherwise by turns within the next hour."""
    now: float = 0.0


def fill(directory: Path, queue: Queue) -> Iterator[int]:
    """Fill the SQLite spool in `directory`, which is made if missing; yields how many messages are in it.

    Raises SpoolError when another process has it.
    """
    asyncio.run(_make(directory, queue.now))
    lock = DirectoryLock(directory)
    lock.take()
    connection = open_database(directory / DATABASE)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        yield from _fill(connection, read_epoch(directory), queue)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
        lock.release()


async def _make(directory: Path, now: float) -> None:
    """The tables, and a start of its own for the numbers that follow."""
    spool = SqliteSpool(directory, reserve=0)
    await spool.start(now)
    await spool.close()


def _fill(connection: sqlite3.Connection, epoch: int, queue: Queue) -> Iterator[int]:
    # The middle of the start's numbers: those from its beginning may have been used.
    numbers = itertools.count((epoch << EPOCH_SHIFT) + (1 << (EPOCH_SHIFT - 1)))
    content = inline_content(b"Subject: waiting\r\n\r\n" + b"x" * max(queue.octets - 22, 0) + b"\r\n")
    chance = random.Random(queue.messages)  # noqa: S311
    for start in range(0, queue.messages, BATCH):
        end = min(start + BATCH, queue.messages)
        rows: list[Rows] = []
        for number in range(start, end):
            new = _message(queue, number, content, chance)
            rows.append(prepare(new, 0.0, numbers.__next__).rows)
        connection.execute("BEGIN IMMEDIATE")
        write_rows(connection, rows)
        connection.execute("COMMIT")
        if start % (10 * BATCH) == 0:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        yield end


def _message(queue: Queue, number: int, content: Content, chance: random.Random) -> NewMessage:
    received_at = queue.now - 7200.0 + number / queue.messages
    domain = f"d{number % queue.destinations}.load.example"
    recipient = Recipient(Address(f"user{number}", Domain(domain)))
    due = queue.now if queue.due else queue.now + chance.random() * SPREAD_S
    return NewMessage(
        MessageId(f"{number:07d}{chance.getrandbits(40):010x}"),
        received_at,
        Envelope(Address("sender", Domain("load.example")), (recipient,)),
        b"Received: from mx.load.example (mx.load.example [192.0.2.9]) by mx.example with ESMTP\r\n",
        content,
        (NewItem(queue.lane or domain, (0,), ItemState.READY, due),),
        FACTS,
        (Event(received_at, "received", "from mx.load.example [192.0.2.9]"),),
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--messages", type=int, default=Queue.messages)
    parser.add_argument("--destinations", type=int, default=Queue.destinations)
    parser.add_argument("--octets", type=int, default=Queue.octets)
    parser.add_argument("--lane", default="")
    parser.add_argument("--shard", type=int, default=1)
    parser.add_argument("--due", action="store_true")
    given = parser.parse_args()
    queue = Queue(given.messages, given.destinations, given.lane, given.octets, given.due, now=time.time())
    for done in fill(given.data_dir / "spool" / str(given.shard), queue):
        if sys.stderr.isatty():
            print(f"\r{done:,} of {queue.messages:,}", end="", file=sys.stderr)
    print(f"\n{given.data_dir}: {queue.messages:,} messages wait", file=sys.stderr)


if __name__ == "__main__":
    main()
