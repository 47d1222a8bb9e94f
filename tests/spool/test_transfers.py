"""The ledger of MT2 transfers, and objects, in a SQLite spool: siblings, damage, older releases."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.model.message import NewMessage
from outrider.spool import codec
from outrider.spool.codec import Malformed
from outrider.spool.interface import SpoolUnavailable
from outrider.spool.sharded import ShardedSpool
from outrider.spool.sqlite.place import DATABASE
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_samples import NOW, OBJECTS, message, one_leased, transfer

PEER = "mx.peer.example"

BEFORE_MT2 = """
DROP VIEW queue;
DROP TABLE transfers;
ALTER TABLE contents DROP COLUMN objects;
CREATE VIEW queue AS
  SELECT i.seq, i.number, i.state, i.rank, i.next_attempt_at, i.destination, i.data,
    m.id, m.received_at, m.data AS message, c.headers, c.body, c.file, c.digest
  FROM items i LEFT JOIN messages m ON m.seq = i.seq LEFT JOIN contents c ON c.seq = i.seq;
PRAGMA user_version = 2;
"""


def shard(folder: Path, number: int, *, siblings: bool = True) -> SqliteSpool:
    """One of several spools beside each other."""
    return SqliteSpool(folder / str(number), reserve=0, has_siblings=siblings)


def sent(name: str) -> NewMessage:
    """A message with its transfer."""
    new = message()
    return replace(new, transfer=transfer(new.id, id_=name))


@pytest.mark.covers("MT2-18a")
async def test_what_another_worker_took_is_known(tmp_path: Path) -> None:
    one, two = shard(tmp_path, 1), shard(tmp_path, 2)
    await one.start(NOW)
    await two.start(NOW)
    assert await two.find_transfer(PEER, "t1") is None
    await one.store(new := sent("t1"))
    assert await two.find_transfer(PEER, "t1") == new.transfer
    await one.close()
    assert await two.find_transfer(PEER, "t1") == new.transfer, "also of a worker that is down"
    three = shard(tmp_path, 3)
    await three.start(NOW)
    await three.store(sent("t3"))
    assert await two.find_transfer(PEER, "t3") is not None, "and of one that came later"
    assert await two.find_transfer(PEER, "t4") is None
    alone = shard(tmp_path, 4, siblings=False)
    await alone.start(NOW)
    assert await alone.find_transfer(PEER, "t1") is None
    for spool in (two, three, alone):
        await spool.close()
    with pytest.raises(SpoolUnavailable):
        await two.find_transfer(PEER, "t1")


@pytest.mark.covers("MT2-18a")
async def test_an_adopted_spool_is_asked_too(tmp_path: Path) -> None:
    left = shard(tmp_path, 2, siblings=False)
    await left.start(NOW)
    await left.store(new := sent("t1"))
    await left.close()
    sharded = ShardedSpool(shard(tmp_path, 1, siblings=False))
    await sharded.start(NOW)
    assert await sharded.find_transfer(PEER, "t1") is None
    await sharded.adopt(shard(tmp_path, 2, siblings=False), NOW)
    assert await sharded.find_transfer(PEER, "t1") == new.transfer
    await sharded.close()


@pytest.mark.covers("MT2-18a", "SEC-212")
async def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path) -> None:
    spool = shard(tmp_path, 1)
    await spool.start(NOW)
    await spool.store(sent("t1"))
    await spool.store(sent("t2"))
    await spool.close()
    with sqlite3.connect(tmp_path / "1" / DATABASE) as database:
        database.execute("UPDATE transfers SET data = substr(data, 1, 20) WHERE transfer = 't1'")
    database.close()
    spool = shard(tmp_path, 1)
    await spool.start(NOW)
    with pytest.raises(SpoolUnavailable, match="t1"):
        await spool.find_transfer(PEER, "t1")
    assert await spool.find_transfer(PEER, "t2") is not None
    await spool.close()


@pytest.mark.covers("MT2-29")
async def test_a_spool_of_an_older_release_is_brought_up_to_date(tmp_path: Path) -> None:
    spool = shard(tmp_path, 1)
    await spool.start(NOW)
    await spool.store(old := message())
    await spool.close()
    database = sqlite3.connect(tmp_path / "1" / DATABASE)
    database.executescript(BEFORE_MT2)
    database.close()
    spool = shard(tmp_path, 1)
    await spool.start(NOW)
    assert (await spool.read(old.id)).objects is None
    (leased,) = await spool.lease_due(NOW, NOW + 300, 5)
    assert leased.message.objects is None
    new = replace(message(), objects=OBJECTS)
    assert (await one_leased(spool, new)).message.objects == OBJECTS
    assert await spool.find_transfer(PEER, "t1") is None
    await spool.close()


@pytest.mark.covers("MT2-18a")
async def test_a_sibling_of_an_older_release_has_taken_nothing(tmp_path: Path) -> None:
    old = shard(tmp_path, 1)
    await old.start(NOW)
    await old.close()
    database = sqlite3.connect(tmp_path / "1" / DATABASE)
    database.executescript(BEFORE_MT2)
    database.close()
    spool = shard(tmp_path, 2)
    await spool.start(NOW)
    assert await spool.find_transfer(PEER, "t1") is None
    await spool.close()


@pytest.mark.covers("FAULT-F9")
async def test_damaged_objects_hold_the_message(tmp_path: Path) -> None:
    spool = shard(tmp_path, 1)
    await spool.start(NOW)
    await spool.store(new := replace(message(), objects=OBJECTS))
    await spool.close()
    with sqlite3.connect(tmp_path / "1" / DATABASE) as database:
        database.execute("UPDATE contents SET objects = CAST(replace(objects, x'3c', x'3d') AS BLOB)")
    database.close()
    spool = shard(tmp_path, 1)
    await spool.start(NOW)
    assert await spool.lease_due(NOW, NOW + 300, 5) == ()
    (item,) = await spool.items(new.id)
    assert item.state.value == "held"
    assert "damaged" in item.reason
    await spool.close()


def test_records_are_bound_to_their_names() -> None:
    taken = transfer("M1")
    row = codec.encode_transfer(taken)
    assert codec.decode_transfer(taken.peer, taken.transfer, row) == taken
    with pytest.raises(Malformed):
        codec.decode_transfer("other.example", taken.transfer, row)
    octets = codec.encode_objects(message(id_="M1").id, OBJECTS)
    assert codec.decode_objects("M1", octets) == OBJECTS
    with pytest.raises(Malformed):
        codec.decode_objects("M2", octets)
    assert codec.decode_objects("M1", codec.encode_objects(message(id_="M1").id, None)) is None
