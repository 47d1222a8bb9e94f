"""FAULT-F9 in the rows of PostgreSQL: an octet that a stranger, or a disk, changed behind our back.

Whatever is hit, nothing leaves that is not as it was stored, and what was hit is named: its item is held, or
set aside as malformed. Everything else goes on.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from outrider.model.content import Content
from outrider.model.message import ItemKey, ItemState, MessageId, NewMessage
from outrider.spool.interface import ContentDamaged, SpoolError
from outrider.spool.postgresql.spool import PostgresSpool
from outrider.testing.spool_samples import DEFERRED, DELIVERED, NOW, OBJECTS, message, outcome

ROUNDS = 12
"""For each column, each with a bit of its own."""
COLUMNS = (
    *("messages.data", "contents.headers", "contents.body", "contents.reference", "contents.digest"),
    *("contents.objects", "items.data", "items.destination", "pieces.octets"),
)

Kept = dict[MessageId, tuple[NewMessage, bytes]]
"""Messages, each with its header section and body."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The database, as a stranger sees it."""

    dsn: str

    def flip(self, column: str, chance: random.Random) -> None:
        """One bit in one row."""
        table, _, name = column.partition(".")
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            rows = connection.execute(
                f"SELECT ctid::text, {name} FROM outrider.{table} WHERE {name} IS NOT NULL".encode(),
                binary=True,
            ).fetchall()
            place, octets = chance.choice(rows)
            damaged = bytearray(octets)
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            statement = f"UPDATE outrider.{table} SET {name} = %b WHERE ctid = %s::tid"
            connection.execute(statement.encode(), (bytes(damaged), place))

    def empty(self) -> None:
        """Nothing is left."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("DELETE FROM outrider.items")
            connection.execute(
                "TRUNCATE outrider.messages, outrider.contents, outrider.bodies, outrider.pieces"
            )

    def set_aside(self) -> set[ItemKey]:
        """Items that are in quarantine."""
        query = "SELECT item->>'message', (item->>'number')::integer FROM outrider.quarantine"
        with psycopg.connect(self.dsn) as connection:
            return {ItemKey(MessageId(name), number) for name, number in connection.execute(query)}


@pytest.fixture
async def spool(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[PostgresSpool]:
    """Started, with small bodies in rows and larger ones in pieces."""
    spool = PostgresSpool(postgres_dsn, owner="one", scratch=tmp_path, inline_limit=1000)
    await spool.start(NOW)
    yield spool
    await spool.close()


async def stored(spool: PostgresSpool) -> Kept:
    """Three messages, one of them with a body in pieces and one with objects; with what each has to say."""
    plain, large = message(), message("a@b.example", "c@d.example")
    layered = replace(message(), objects=OBJECTS)
    body = random.Random(5).randbytes(300_000)
    writer = spool.body_writer(large.id)
    await writer.write(body)
    large = replace(large, content=Content(b"Subject: large\r\n\r\n", await writer.finish(), is_ascii=False))
    kept = {}
    for new in (plain, large, layered):
        await spool.store(new)
        octets = body if new is large else b"".join(new.content.body.chunks())
        kept[new.id] = (new, new.content.headers + octets)
    return kept


@pytest.mark.covers("FAULT-F9", "SEC-212")
@pytest.mark.parametrize("column", COLUMNS)
async def test_a_flipped_bit_is_found_wherever_it_is(
    spool: PostgresSpool, postgres_dsn: str, column: str
) -> None:
    rows, chance = Rows(postgres_dsn), random.Random(column)
    for _ in range(ROUNDS):
        kept = await stored(spool)
        rows.flip(column, chance)
        left = await everything_that_leaves(spool, kept)
        wanted = keys_of(kept)
        assert wanted - left == await named(spool, rows, kept)
        assert left != wanted, "nobody noticed"
        rows.empty()


async def everything_that_leaves(spool: PostgresSpool, kept: Kept) -> set[ItemKey]:
    """The items that are delivered; each as it was stored."""
    left = set()
    for leased in await spool.lease_due(NOW, NOW + 300, 10):
        new, octets = kept[leased.message.id]
        assert leased.message.envelope == new.envelope
        assert leased.message.objects == new.objects
        assert leased.item.destination == new.items[leased.item.key.number].destination
        assert leased.message.content is not None
        try:
            sent = b"".join(leased.message.content.chunks())
        except ContentDamaged:
            await spool.settle(outcome(leased, DEFERRED))
            continue
        assert sent == octets
        left.add(leased.item.key)
        await spool.settle(outcome(leased, DELIVERED))
    return left


def keys_of(kept: Kept) -> set[ItemKey]:
    """All their items."""
    return {ItemKey(name, number) for name, (new, _) in kept.items() for number in range(len(new.items))}


async def named(spool: PostgresSpool, rows: Rows, kept: Kept) -> set[ItemKey]:
    """The items that are held or set aside."""
    found = rows.set_aside()
    for name in kept:
        # The row of its message may be what was hit.
        with contextlib.suppress(SpoolError):
            found |= {item.key for item in await spool.items(name) if item.state is ItemState.HELD}
    return found & keys_of(kept)
