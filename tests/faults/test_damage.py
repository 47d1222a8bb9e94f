"""FAULT-F9: bits flip and pages are torn in a spool at rest; rows of PostgreSQL change behind its back.

Nothing that is not as it was stored may leave. Every message that was acknowledged is delivered whole, or it
is named: held, set aside as malformed, or the start is refused because of it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.faults import ledger
from tests.faults.account import account_of
from tests.faults.figures import publish, short_and_long
from tests.faults.load import Load
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.postgresql import PostgresServer
from tests.peers.rooms import body_files, wait_until

pytestmark = pytest.mark.serial

MESSAGES = 40
PAGE = 4096

Damage = Callable[[Path, random.Random], None]


def flip_a_bit(path: Path, chance: random.Random) -> None:
    """Somewhere."""
    octets = bytearray(path.read_bytes())
    octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
    path.write_bytes(octets)


def zero_a_page(path: Path, chance: random.Random) -> None:
    """A page that never reached the disk."""
    octets = bytearray(path.read_bytes())
    start = chance.randrange(-(-len(octets) // PAGE)) * PAGE
    octets[start : start + PAGE] = bytes(len(octets[start : start + PAGE]))
    path.write_bytes(octets)


def tear_a_page(path: Path, chance: random.Random) -> None:
    """A page of which only the first sectors are there, the rest is of another one."""
    octets = bytearray(path.read_bytes())
    pages = max(1, len(octets) // PAGE)
    here, other = (chance.randrange(pages) * PAGE for _ in range(2))
    torn = chance.randrange(1, 8) * 512
    octets[here + torn : here + PAGE] = octets[other + torn : other + PAGE]
    path.write_bytes(octets)


DAMAGES: tuple[Damage, ...] = (flip_a_bit, zero_a_page, tear_a_page)


def refill(server: OutriderServer, load: Load) -> None:
    """Some mail in the queue, in the database as well as in files."""
    with load:
        wait_until(lambda: len(load.acknowledged) >= MESSAGES, "a queue")
    server.stop()


@dataclass(slots=True)
class Found:
    """What became of the mail in all rounds."""

    acknowledged: int = 0
    refused_starts: int = 0
    held: int = 0
    set_aside: int = 0
    truncated: int = 0
    lost: int = 0

    def figures(self, rounds: int) -> dict[str, float]:
        """As they are published."""
        return {
            "rounds": rounds,
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "truncated": self.truncated,
            "refused starts": self.refused_starts,
            "held": self.held,
            "set aside": self.set_aside,
        }


@pytest.mark.covers("FAULT-F9", "SEC-212")
@short_and_long(6, 100)
def test_what_is_damaged_is_found(rounds: int, tmp_path: Path) -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(9)
    found = Found()
    with OutriderServer(relay(address, sink_address)) as server:
        load = Load(address, PORT, sessions=4, refused=False)
        refill(server, load)
        data = server.folder / "data"
        shutil.copytree(data, tmp_path / "copy")
        for number in range(rounds):
            shutil.rmtree(data)
            shutil.copytree(tmp_path / "copy", data)
            (database,) = data.rglob("spool.db")
            bodies = body_files(data)
            chance.choice(DAMAGES)(chance.choice(bodies) if number % 3 == 2 else database, chance)
            found.acknowledged += len(load.acknowledged)
            logged = len(server.log_events())
            if starts(server):
                judge(server, load, sink_address, found, logged)
            else:
                found.refused_starts += 1
    publish("F9", "bits flipped, pages torn or empty, at rest", "SQLite", found.figures(rounds))
    assert not found.truncated
    assert not found.lost


COLUMNS = (
    *("messages.data", "contents.headers", "contents.body", "contents.digest", "contents.reference"),
    *("items.data", "items.destination", "pieces.octets"),
)


def spoil(dsn: str, column: str, chance: random.Random) -> None:
    """Flip a bit in one row's octets, or empty or tear them, or lose a piece of a body: all that a database
    may do which has no checksums of its own, or which somebody else wrote to."""
    table, _, name = column.partition(".")
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = f"SELECT ctid::text, {name} FROM outrider.{table} WHERE length({name}) > 0"
        place, octets = chance.choice(connection.execute(query.encode(), binary=True).fetchall())
        if table == "pieces" and chance.random() < 0.3:
            connection.execute("DELETE FROM outrider.pieces WHERE ctid = %s::tid", (place,))
            return
        damaged = bytearray(octets)
        cut = chance.randrange(len(damaged))
        way = chance.randrange(3)
        if way == 0 or not any(damaged[cut:]):
            damaged[cut] ^= 1 << chance.randrange(8)
        elif way == 1:
            damaged[cut:] = bytes(len(damaged) - cut)
        else:
            del damaged[cut:]
        change = f"UPDATE outrider.{table} SET {name} = %b WHERE ctid = %s::tid"
        connection.execute(change.encode(), (bytes(damaged), place))


@pytest.mark.covers("FAULT-F9", "SEC-212")
@short_and_long(4, 60)
def test_what_is_damaged_in_postgresql_is_found(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    chance = random.Random(10)
    found = Found()
    with PostgresServer(loopback_address()) as postgres:
        dsn = postgres.create_database("spool")
        configuration = relay(address, sink_address, spool={"backend": "postgresql", "dsn": dsn})
        with OutriderServer(configuration) as server:
            load = Load(address, PORT, sessions=4, refused=False)
            refill(server, load)
            postgres.sql("CREATE DATABASE kept TEMPLATE spool", "postgres")
            for _ in range(rounds):
                postgres.sql("DROP DATABASE spool WITH (FORCE)", "postgres")
                postgres.sql("CREATE DATABASE spool TEMPLATE kept", "postgres")
                spoil(dsn, chance.choice(COLUMNS), chance)
                found.acknowledged += len(load.acknowledged)
                logged = len(server.log_events())
                server.start()
                judge(server, load, sink_address, found, logged)
    publish("F9", "rows changed behind its back, at rest", "PostgreSQL", found.figures(rounds))
    assert not found.truncated
    assert not found.lost
    assert found.held + found.set_aside >= rounds, "somebody did not notice"


def starts(server: OutriderServer) -> bool:
    """Whether it starts; if not it must say why in a line."""
    try:
        server.start()
    except RuntimeError as refusal:
        said = str(refusal)[-1000:]
        if "Traceback" in said or "is damaged" not in said:
            raise
        return False
    return True


def judge(server: OutriderServer, load: Load, sink_address: str, found: Found, logged: int) -> None:
    """Deliver what can be delivered. A recipient who got nothing must have a message that is held, or one
    that is named as malformed; or the spool has said that it is damaged and takes nothing more. What was
    logged before this start does not count."""

    def said(event: str) -> list[str]:
        return [str(entry) for entry in server.log_events()[logged:] if entry["event"] == event]

    with Sink(sink_address, PORT) as sink:
        wait_until(
            lambda: bool(said("spool_unavailable")) or is_at_rest(server), "the queue to come to rest", 60
        )
        account = account_of(load, sink)
        stopped = bool(said("spool_unavailable"))
        held = {row["id"] for row in ledger.queue_list(server) if row["state"] == "held"}
    aside = said("row_quarantined")
    server.kill()
    lost = {load.ids[token_of(name)] for name in account.lost} - held
    unnamed = [one for one in lost if not any(one in entry for entry in aside)]
    found.held += len(held)
    found.set_aside += len(aside)
    found.truncated += len(account.truncated)
    found.refused_starts += stopped
    found.lost += 0 if stopped else len(unnamed)


def token_of(recipient: str) -> str:
    """The token in "a-TOKEN@far.example"."""
    return recipient.partition("@")[0].partition("-")[2]


def is_at_rest(server: OutriderServer) -> bool:
    """Whether all that can go has gone."""
    counts = ledger.counts(server)
    if counts["ready"]:
        server.cli("queue", "retry", "--all", check=False)
    return bool(counts["ready"] + counts["active"] == 0)
