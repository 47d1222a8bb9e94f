"""A SQLite spool on a device that is full, read-only or lying, and with rows that a stranger wrote."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.model.content import Content, InlineBody
from outrider.model.message import ItemKey, ItemState, MessageId, NewMessage
from outrider.spool.interface import (
    BodyWriter,
    Change,
    ContentDamaged,
    Filter,
    SpoolError,
    SpoolFull,
    SpoolUnavailable,
)
from outrider.spool.observer import NullObserver
from outrider.spool.sqlite.place import DATABASE, LOCK
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_samples import DEFERRED, DELIVERED, NOW, item_of, message, one_leased, outcome
from outrider.testing.writing import put
from tests.peers.rooms import body_files

MARK = b"a body with a mark in it 0123456789"


class Notes(NullObserver):
    """Keeps what the spool had to say."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.quarantined: list[str] = []
        self.damaged: list[str] = []
        self.unavailable: list[str] = []
        self.opened: list[str] = []

    def spool_opened(self, where: str, found: str) -> None:
        """Kept."""
        self.opened.append(found)

    def spool_warned(self, what: str) -> None:
        """Kept."""
        self.warnings.append(what)

    def row_quarantined(self, table: str, name: str, why: str) -> None:
        """Kept."""
        self.quarantined.append(name)

    def content_damaged(self, message: str, why: str) -> None:
        """Kept."""
        self.damaged.append(message)

    def became_unavailable(self, why: str) -> None:
        """Kept."""
        self.unavailable.append(why)


@pytest.fixture
def notes() -> Notes:
    """Of one test."""
    return Notes()


class Place:
    """A directory whose spool is opened and closed by the test."""

    def __init__(self, directory: Path, notes: Notes) -> None:
        self.directory = directory
        self.notes = notes
        self.opened: list[SqliteSpool] = []

    async def open(self, **settings: int) -> SqliteSpool:
        """A started spool."""
        spool = SqliteSpool(
            self.directory, observer=self.notes, **{"reserve": 0, "inline_limit": 65_536, **settings}
        )
        self.opened.append(spool)
        await spool.start(NOW)
        return spool

    def edit(self, *statements: str) -> None:
        """What a stranger writes, past all checks."""
        connection = sqlite3.connect(self.directory / DATABASE)
        connection.execute("PRAGMA ignore_check_constraints = 1")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()


@pytest.fixture
async def place(tmp_path: Path, notes: Notes) -> AsyncIterator[Place]:
    """A fresh one."""
    place = Place(tmp_path / "spool", notes)
    yield place
    for spool in place.opened:
        await spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def large(octets: int, **more: str) -> NewMessage:
    """A message with an inline body of that size."""
    return message(content=Content(b"\r\n", InlineBody(os.urandom(octets))), **more)  # type: ignore[arg-type]


async def with_file(spool: SqliteSpool, octets: bytes) -> NewMessage:
    """A message whose body is in a file, stored."""
    new = message()
    writer = spool.body_writer(new.id)
    await put(writer, octets)
    new = replace(new, content=Content(b"Subject: x\r\n\r\n", await writer.finish()))
    await spool.store(new)
    return new


# --- devices ------------------------------------------------------------------------------------------


async def fill(spool: SqliteSpool, stored: list[NewMessage]) -> None:
    """Store until it is refused."""
    while True:
        new = large(100_000)
        await spool.store(new)
        stored.append(new)


async def write_without_end(writer: BodyWriter) -> None:
    """Until it is refused."""
    while True:
        await put(writer, os.urandom(1_000_000))


@pytest.mark.covers("FAULT-F8", "SEC-92")
async def test_a_full_disk_refuses_and_recovers(small_disk: Path, notes: Notes) -> None:
    spool = SqliteSpool(small_disk / "spool", reserve=0, observer=notes)
    await spool.start(NOW)
    stored: list[NewMessage] = []
    with pytest.raises(SpoolFull):
        await fill(spool, stored)
    assert len(stored) > 5
    # Nothing that was accepted suffers, and what is refused again leaves nothing behind.
    with pytest.raises(SpoolFull):
        await spool.store(refused := large(100_000))
    for new in stored:
        assert (await spool.read(new.id)).content == new.content
    assert await spool.find(Filter(ids=(refused.id,))) == ()
    subprocess.run(["mount", "-o", "remount,size=24m", small_disk], check=True)
    await spool.store(large(100_000))
    leased = await spool.lease_due(NOW, NOW + 300, 100)
    assert len(leased) == len(stored) + 1
    await spool.close()


@pytest.mark.covers("FAULT-F8", "SEC-92")
async def test_a_full_disk_refuses_a_streamed_body(small_disk: Path) -> None:
    spool = SqliteSpool(small_disk / "spool", reserve=0)
    await spool.start(NOW)
    writer = spool.body_writer(MessageId("LARGE"))
    with pytest.raises(SpoolFull):
        await asyncio.wait_for(write_without_end(writer), 60)
    with pytest.raises(SpoolUnavailable):
        await writer.finish()
    await writer.abandon()
    await spool.store(message())
    await spool.close()


@pytest.mark.covers("FAULT-F8")
async def test_a_read_only_device_is_named_at_start(small_disk: Path) -> None:
    await (first := SqliteSpool(small_disk / "spool", reserve=0)).start(NOW)
    await first.store(kept := message())
    await first.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(SpoolUnavailable, match=r"[Rr]ead-only"):
        await SqliteSpool(small_disk / "spool", reserve=0).start(NOW)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    await (again := SqliteSpool(small_disk / "spool", reserve=0)).start(NOW)
    assert (await again.read(kept.id)).envelope == kept.envelope
    await again.close()


@pytest.mark.covers("SEC-92", "SMTP-9")
async def test_less_than_the_reserve_is_told_before_anything_is_sent(place: Place) -> None:
    spool = await place.open(reserve=1 << 60)
    with pytest.raises(SpoolFull):
        spool.check_room()
    await spool.store(message())  # what is under way may still be finished


@pytest.mark.covers("SEC-94")
async def test_a_database_locked_by_a_stranger_refuses_and_recovers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.spool.sqlite.writer.BUSY_SECONDS", 0.05)
    spool = await place.open()
    stranger = sqlite3.connect(place.directory / DATABASE, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolUnavailable, match="BUSY"):
        await spool.store(message())
    stranger.execute("ROLLBACK")
    stranger.close()
    await spool.store(message())
    assert (await spool.counts()).ready == 1


async def test_a_failed_settlement_can_be_settled_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.spool.sqlite.writer.BUSY_SECONDS", 0.05)
    spool = await place.open()
    leased = await one_leased(spool, message())
    stranger = sqlite3.connect(place.directory / DATABASE, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolUnavailable):
        await spool.settle(outcome(leased, DELIVERED))
    stranger.execute("ROLLBACK")
    stranger.close()
    await spool.settle(outcome(leased, DELIVERED))
    assert (await spool.counts()).active == 0


# --- who owns it --------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-213")
async def test_a_directory_has_one_owner(place: Place) -> None:
    await place.open()
    with pytest.raises(SpoolUnavailable, match=f"in use by process {os.getpid()}"):
        await place.open()


@pytest.mark.covers("SEC-213")
async def test_who_was_robbed_of_the_lock_writes_no_more(place: Place) -> None:
    first = await place.open()
    leased = await one_leased(first, message())
    (place.directory / LOCK).unlink()
    second = await place.open()
    with pytest.raises(SpoolUnavailable, match="taken this spool over"):
        await first.settle(outcome(leased, DELIVERED))
    with pytest.raises(SpoolUnavailable):
        await first.store(message())
    with pytest.raises(SpoolUnavailable):
        first.check_room()
    assert (await item_of(second, leased.item.key)).state is ItemState.READY


# --- rows and octets that changed ---------------------------------------------------------------------


def flip(path: Path, mark: bytes) -> None:
    """One bit within the mark, on the disk."""
    octets = bytearray(path.read_bytes())
    octets[octets.index(mark) + 5] ^= 1
    path.write_bytes(octets)


@pytest.mark.covers("FAULT-F9")
async def test_a_flipped_bit_in_the_database_holds_the_message(place: Place, notes: Notes) -> None:
    spool = await place.open()
    bad = message(content=Content(b"Subject: x\r\n\r\n", InlineBody(MARK * 50)))
    await spool.store(bad)
    await spool.store(good := message())
    await spool.close()
    flip(place.directory / DATABASE, MARK)
    spool = await place.open()
    assert [one.message.id for one in await spool.lease_due(NOW, NOW + 300, 10)] == [good.id]
    item = await item_of(spool, ItemKey(bad.id, 0))
    assert item.state is ItemState.HELD
    assert "damaged" in item.reason
    assert notes.damaged == [bad.id]
    assert (await spool.read(bad.id)).content is None
    assert (await spool.counts()).held == 1


@pytest.mark.covers("FAULT-F9")
@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
async def test_a_damaged_body_file_is_not_sent(place: Place, notes: Notes, damage: str) -> None:
    spool = await place.open()
    new = await with_file(spool, b"x" * 600_000 + MARK + b"y" * 100_000)
    await spool.close()
    (path,) = [path for path in (place.directory / "bodies").rglob("*") if path.is_file()]
    if damage == "flip":
        flip(path, MARK)
    elif damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 650_000)
    spool = await place.open()
    (leased,) = await spool.lease_due(NOW, NOW + 300, 10)
    assert leased.message.content is not None
    sent = bytearray()
    with pytest.raises(ContentDamaged):
        sent.extend(octet for piece in leased.message.content.body.chunks() for octet in piece)
    assert set(sent) <= {ord("x")}, "what was sent before was good"
    await spool.settle(outcome(leased, DEFERRED))
    item = await item_of(spool, ItemKey(new.id, 0))
    assert item.state is ItemState.HELD
    assert "damaged" in item.reason
    assert notes.damaged == [new.id]


PLANTED = (
    "UPDATE items SET state = 9",
    "UPDATE items SET rank = 77",
    "UPDATE items SET next_attempt_at = 9e99",
    "UPDATE items SET data = x'00'",
    "UPDATE items SET data = zeroblob(50)",
    "UPDATE items SET data = substr(data, 1, 9)",
    "UPDATE items SET destination = CAST(x'fffe' AS TEXT)",
    "UPDATE items SET number = 5, data = x'c1'",
    "UPDATE items SET seq = seq + 1000",
    "UPDATE messages SET data = substr(data, 1, length(data) / 2)",
    "UPDATE messages SET data = zeroblob(0)",
    "UPDATE messages SET id = 'OTHER'",
    "UPDATE messages SET id = CAST(x'ff' AS TEXT)",
)


@pytest.mark.covers("SEC-212")
@pytest.mark.parametrize("statement", PLANTED)
async def test_a_malformed_row_is_set_aside_and_the_rest_goes_on(
    place: Place, notes: Notes, statement: str
) -> None:
    spool = await place.open()
    await spool.store(message())
    await spool.close()
    place.edit(statement)
    spool = await place.open()
    await spool.store(good := message())
    leased = await spool.lease_due(NOW + 1, NOW + 300, 10)
    assert [one.message.id for one in leased] == [good.id]
    assert len(notes.quarantined) == 1
    assert (await spool.counts()).ready == 0
    await spool.find(Filter())
    connection = sqlite3.connect(place.directory / DATABASE)
    assert connection.execute("SELECT count(*) FROM quarantine").fetchone() == (1,)
    connection.close()
    await spool.settle(outcome(leased[0], DELIVERED))


@pytest.mark.covers("SEC-212")
async def test_a_malformed_active_row_does_not_stop_the_start(place: Place, notes: Notes) -> None:
    spool = await place.open()
    await one_leased(spool, message())
    await one_leased(spool, message())
    spool._leases._leases.clear()
    await spool.close()
    place.edit("UPDATE items SET data = x'00' WHERE seq = (SELECT min(seq) FROM items)")
    spool = SqliteSpool(place.directory, reserve=0, observer=notes)
    recovery = await spool.start(NOW)
    assert (recovery.released, recovery.quarantined) == (1, 1)
    await spool.close()


@pytest.mark.covers("FAULT-F9")
async def test_an_older_copy_is_noticed(place: Place, notes: Notes) -> None:
    spool = await place.open()
    await spool.close()
    copy = (place.directory / DATABASE).read_bytes()
    for _ in range(2):
        spool = await place.open()
        await spool.close()
    assert notes.warnings == [] or "tmpfs" in notes.warnings[0]
    (place.directory / DATABASE).write_bytes(copy)
    await place.open()
    assert "older" in notes.warnings[-1]


@pytest.mark.covers("FAULT-F9")
async def test_a_missing_log_is_noticed(place: Place, notes: Notes) -> None:
    spool = await place.open()
    await spool.store(message())
    copy = (place.directory / DATABASE).read_bytes()
    await spool.close()
    (place.directory / DATABASE).write_bytes(copy)  # as after a crash, with the log removed
    await place.open()
    assert "spool.db-wal is gone" in notes.warnings[-1]


@pytest.mark.covers("FAULT-F9")
async def test_a_torn_page_is_noticed_at_start(place: Place) -> None:
    spool = await place.open()
    for _ in range(200):
        await spool.store(message())
    await spool.close()
    path = place.directory / DATABASE
    place.edit("UPDATE spool SET clean = 0")
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(4, size // 4096, 3):
            file.seek(page * 4096)
            file.write(os.urandom(2048))
    with pytest.raises(SpoolError, match="damaged"):
        await place.open()


@pytest.mark.covers("SEC-68")
async def test_a_change_of_a_damaged_row_is_refused_with_the_reason(place: Place) -> None:
    spool = await place.open()
    new = message()
    await spool.store(new)
    await spool.close()
    place.edit("UPDATE items SET data = x'00'")
    spool = await place.open()
    refused = await spool.change([ItemKey(new.id, 0)], Change.HOLD, now=NOW, by="root")
    assert "damaged" in refused[ItemKey(new.id, 0)]


@pytest.mark.covers("FAULT-F7", "SEC-93")
async def test_a_body_that_cannot_be_synced_fails_its_message_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await place.open()
    failed = set[int]()
    really = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 600_001:
            failed.add(descriptor)
            raise OSError(errno.EIO, "Input/output error")
        really(descriptor)

    stored = [message() for _ in range(6)]
    for number, new in enumerate(stored[:4]):
        writer = spool.body_writer(new.id)
        await put(writer, b"x" * (600_000 + number))
        stored[number] = replace(new, content=Content(b"\r\n", await writer.finish()))
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    results = await asyncio.gather(*(spool.store(new) for new in stored), return_exceptions=True)
    assert [isinstance(result, SpoolUnavailable) for result in results] == [False, True, *[False] * 4]
    with pytest.raises(SpoolUnavailable):
        await spool.store(stored[1])
    assert len(failed) == 1, "the sync was asked again"
    assert {entry.message.id for entry in await spool.find(Filter())} == {
        new.id for number, new in enumerate(stored) if number != 1
    }
    for new in stored[:1] + stored[2:]:
        kept = (await spool.read(new.id)).content
        assert kept is not None
        assert b"".join(kept.body.chunks()) == b"".join(new.content.body.chunks())


@pytest.mark.covers("FAULT-F7")
async def test_a_fault_of_ours_while_bodies_are_synced_leaves_nobody_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await place.open()
    large, small = message(), message()
    writer = spool.body_writer(large.id)
    await put(writer, b"x" * 600_000)
    large = replace(large, content=Content(b"\r\n", await writer.finish()))

    def fdatasync(descriptor: int) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fdatasync)
        results = await asyncio.gather(spool.store(large), spool.store(small), return_exceptions=True)
    assert all(isinstance(result, SpoolUnavailable) for result in results), results
    assert not await spool.find(Filter())
    await spool.store(small)
    assert {entry.message.id for entry in await spool.find(Filter())} == {small.id}


async def eventually(place: Place, number: int) -> None:
    """Wait until so many are left."""
    while len(body_files(place.directory)) != number:
        await asyncio.sleep(0.01)


async def deliver(spool: SqliteSpool, new: NewMessage) -> None:
    """Settle it for good."""
    leased = await spool.lease_one(ItemKey(new.id, 0), NOW, NOW + 300)
    await spool.settle(outcome(leased, DELIVERED))


async def test_the_body_of_a_delivered_message_gives_its_file_to_the_next(place: Place) -> None:
    spool = await place.open()
    first = await with_file(spool, b"x" * 700_000)
    (path,) = body_files(place.directory)
    old = (await spool.read(first.id)).content
    assert old is not None
    await deliver(spool, first)
    second = await with_file(spool, b"y" * 600_000)
    assert body_files(place.directory) == [path]
    assert path.stat().st_size == 700_000
    new = (await spool.read(second.id)).content
    assert new is not None
    assert b"".join(new.body.chunks()) == b"y" * 600_000
    with pytest.raises(ContentDamaged, match="finished"):
        list(old.body.chunks())
    await spool.close()
    again = await place.open()
    kept = (await again.read(second.id)).content
    assert kept is not None
    assert b"".join(kept.body.chunks()) == b"y" * 600_000


async def test_a_file_that_is_being_read_is_not_used_again(place: Place) -> None:
    spool = await place.open()
    octets = b"".join(bytes([65 + n]) * 100_000 for n in range(8))
    new = await with_file(spool, octets)
    content = (await spool.read(new.id)).content
    assert content is not None
    reading = content.body.chunks()
    begun = next(reading)
    await deliver(spool, new)
    for _ in range(3):
        await with_file(spool, b"y" * 800_000)
    assert begun + b"".join(reading) == octets


async def test_bodies_of_finished_messages_go(place: Place) -> None:
    spool = await place.open()
    delivered, dropped, huge = [
        await with_file(spool, bytes([65 + n]) * size) for n, size in enumerate((600_000, 600_000, 3_000_000))
    ]
    assert len(body_files(place.directory)) == 3
    await deliver(spool, delivered)
    await deliver(spool, huge)
    await spool.change([ItemKey(dropped.id, 0)], Change.DROP, now=NOW, by="root")
    await eventually(place, 1)
    (kept,) = body_files(place.directory)
    assert kept.read_bytes() == b"A" * 600_000
    await spool.purge(NOW, NOW - 1000)
    await eventually(place, 0)


async def test_files_that_are_kept_go_at_the_end(place: Place) -> None:
    spool = await place.open()
    for _ in range(2):
        await deliver(spool, await with_file(spool, b"x" * 600_000))
    await spool.close()
    assert not [path for path in (place.directory / "bodies").rglob("*") if path.is_file()]


async def test_a_body_shared_with_a_report_is_copied(place: Place) -> None:
    spool = await place.open()
    new = await with_file(spool, b"x" * 600_000)
    leased = await spool.lease_one(ItemKey(new.id, 0), NOW, NOW + 300)
    assert leased.message.content is not None
    report = message(sender=None, content=Content(b"Subject: r\r\n\r\n", leased.message.content.body))
    await spool.settle(outcome(leased, DELIVERED, new_messages=(report,)))
    content = (await spool.read(report.id)).content
    assert content is not None
    assert b"".join(content.body.chunks()) == b"x" * 600_000
