"""A process that stores, settles and tells, to be killed by its test.

    python -m tests.spool.crash_child DIRECTORY load|plain|large|slow|once [STEP]

Writes one line for each fact, at once: "begin ID", "ack ID" when a store has resolved, "done ID" when a
settlement has, "failed ID ERROR" when either raised. With STEP, it kills itself when the spool reports that
step.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

from outrider.model.content import Content, InlineBody
from outrider.spool.interface import Spool, SpoolError
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_samples import DELIVERED, NOW, OBJECTS, message, outcome, transfer
from outrider.testing.writing import put

INLINE_LIMIT = 65_536


def body_of(name: str, size: int) -> bytes:
    """Octets that only this message has."""
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def size_of(name: str) -> int:
    """The size is in the name: "WORKER-NUMBER-SIZE"."""
    return int(name.rpartition("-")[2])


def tell(word: str, name: str, more: str = "") -> None:
    """One line, in one write: what a reader has got did happen before the kill."""
    os.write(1, f"{word} {name} {more}".strip().encode() + b"\n")


async def store(spool: Spool, name: str, *, settle: bool) -> None:
    """One message's life as far as it goes."""
    body = body_of(name, size_of(name))
    new = replace(message(id_=name), objects=OBJECTS, transfer=transfer(name))
    tell("begin", name)
    try:
        if len(body) > INLINE_LIMIT:
            writer = spool.body_writer(new.id)
            await put(writer, body)
            new = replace(new, content=Content(b"Subject: x\r\n\r\n", await writer.finish()))
        else:
            new = replace(new, content=Content(b"Subject: x\r\n\r\n", InlineBody(body)))
        leased = await spool.store(new, lease_until=NOW + 300)
        tell("ack", name)
        for one in leased if settle else ():
            await spool.settle(outcome(one, DELIVERED))
            tell("done", name)
    except SpoolError as error:
        tell("failed", name, f"{type(error).__name__} {error}")


async def worker(spool: Spool, number: int, sizes: tuple[int, ...], count: int) -> None:
    """One caller after the other."""
    chance = random.Random(f"{os.getpid()} {number}")
    for turn in range(count):
        name = f"P{os.getpid()}W{number}-{turn}-{chance.choice(sizes)}"
        await store(spool, name, settle=chance.random() < 0.4)


async def main(directory: str, work: str, stop_at: str = "") -> None:
    """Run until done or killed."""

    def step(name: str) -> None:
        if name == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)

    spool = SqliteSpool(Path(directory), inline_limit=INLINE_LIMIT, reserve=0, steps=step)
    await spool.start(NOW)
    tell("started", "")
    if work == "load":
        await asyncio.gather(*(worker(spool, n, (500, 4096, 60_000, 300_000), 10**9) for n in range(20)))
    elif work == "plain":
        await asyncio.gather(*(worker(spool, n, (4096,), 50) for n in range(20)))
    elif work == "large":
        await store(spool, "LARGE-0-700000", settle=False)
    elif work == "slow":
        for turn in range(60):
            await store(spool, f"SLOW-{turn}-4096", settle=False)
            await asyncio.sleep(0.05)
    else:
        await store(spool, "ONCE-0-4096", settle=False)
    await spool.close()
    tell("closed", "")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
