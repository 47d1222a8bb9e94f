"""Bodies in files."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outrider.model.content import InlineBody
from outrider.spool.bodies import PIECE, BodyReference, FileBody, decode_reference, device_error
from outrider.spool.body_files import AT_ONCE, BodyFiles
from outrider.spool.body_writer import SYNC_WITH_COMMIT, BodyFileWriter
from outrider.spool.codec import Malformed, seal
from outrider.spool.interface import ContentDamaged, SpoolFull, SpoolUnavailable
from outrider.testing.writing import put


class Place:
    """A directory of bodies with the steps that were taken in it."""

    def __init__(self, directory: Path, executor: ThreadPoolExecutor) -> None:
        self.steps: list[str] = []
        self.files = BodyFiles(directory / "bodies", executor, inline_limit=1000, steps=self.steps.append)
        self.files.prepare()

    def writer(self) -> BodyFileWriter:
        """For one body."""
        return BodyFileWriter(self.files)

    def names(self) -> list[str]:
        """All files with octets in them."""
        found = self.files.directory.rglob("*")
        return sorted(path.name for path in found if path.is_file() and path.stat().st_size)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A fresh one."""
    with ThreadPoolExecutor(2) as executor:
        yield Place(tmp_path, executor)


async def written(place: Place, octets: bytes, part: int = 100_000) -> FileBody:
    """A body in a file."""
    writer = place.writer()
    for start in range(0, len(octets), part):
        await put(writer, octets[start : start + part])
    body = await writer.finish()
    assert isinstance(body, FileBody)
    return body


@pytest.mark.covers("SMTP-5")
async def test_the_steps_come_in_the_order_that_survives_a_power_cut(place: Place) -> None:
    body = await written(place, b"x" * 1001)
    assert place.steps == ["body created", "directory synced", "body written"]
    assert not body.is_durable, "that is for the commit to see to"
    body.make_durable()
    assert place.steps[3:] == ["body synced"]
    assert body.is_durable


@pytest.mark.covers("SMTP-5")
async def test_a_large_body_is_durable_before_it_is_given(place: Place) -> None:
    body = await written(place, b"x" * (SYNC_WITH_COMMIT + 1))
    assert place.steps[-1] == "body synced"
    body.make_durable()
    assert place.steps.count("body synced") == 1


async def test_files_are_made_some_at_a_time(place: Place) -> None:
    bodies = await asyncio.gather(*(written(place, b"x" * (1001 + n)) for n in range(3 * AT_ONCE)))
    assert sorted(body.size for body in bodies) == [1001 + n for n in range(3 * AT_ONCE)]
    assert len({body.reference.name for body in bodies}) == 3 * AT_ONCE
    await place.files.made()
    assert place.steps.count("directory synced") in (3, 4)
    place.files.remove_spare()
    assert len([path for path in place.files.directory.rglob("*") if path.is_file()]) == 3 * AT_ONCE


@pytest.mark.covers("FAULT-F8", "SEC-92")
async def test_a_device_that_makes_no_file_is_told_and_tried_again(place: Place) -> None:
    for number in range(256):
        (place.files.directory / f"{number:02x}").rmdir()
    with pytest.raises(SpoolUnavailable):
        await written(place, b"x" * 2000)
    place.files.prepare()
    assert (await written(place, b"x" * 2000)).size == 2000


@pytest.mark.parametrize("size", [1001, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 17])
async def test_sizes_about_whole_pieces(place: Place, size: int) -> None:
    octets = os.urandom(size)
    body = await written(place, octets)
    assert body.size == size
    for wanted in (1000, 65_536, PIECE, 10**9):
        pieces = list(body.chunks(wanted))
        assert b"".join(pieces) == octets
        assert max(map(len, pieces)) <= min(wanted, PIECE)


async def test_the_inline_limit_is_kept_to_the_octet(place: Place) -> None:
    writer = place.writer()
    await put(writer, b"x" * 1000)
    assert await writer.finish() == InlineBody(b"x" * 1000)
    assert place.names() == []


async def test_writers_of_one_message_do_not_meet(place: Place) -> None:
    first, second = await written(place, b"1" * 2000), await written(place, b"2" * 2000)
    assert b"".join(first.chunks()) == b"1" * 2000
    assert b"".join(second.chunks()) == b"2" * 2000


async def test_abandon_waits_for_a_cancelled_write(place: Place) -> None:
    writer = place.writer()
    task = asyncio.create_task(put(writer, b"x" * (8 * PIECE)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await writer.abandon()
    assert place.names() == []


@pytest.mark.covers("FAULT-F7")
async def test_after_a_failed_fsync_the_body_is_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            calls.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

    writer = place.writer()
    await put(writer, b"x" * 2000)
    body = await writer.finish()
    assert isinstance(body, FileBody)
    monkeypatch.setattr(os, "fdatasync", failing)
    for _ in range(2):
        with pytest.raises(SpoolUnavailable):
            body.make_durable()
    assert len(calls) == 1, "the fsync was asked again"
    await writer.abandon()
    assert place.names() == []


@pytest.mark.covers("SEC-209")
async def test_orphans_are_removed_and_links_not_followed(place: Place, tmp_path: Path) -> None:
    kept = await written(place, b"x" * 2000)
    await written(place, b"y" * 2000)
    (place.files.directory / "00" / "left.tmp").write_bytes(b"z")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"!")
    (place.files.directory / "ff").rmdir()
    (place.files.directory / "ff").symlink_to(elsewhere)
    (place.files.directory / "fe" / "link").symlink_to(elsewhere / "precious")
    assert place.files.remove_orphans({kept.reference.name}) == 3
    assert (elsewhere / "precious").exists()
    assert b"".join(kept.chunks()) == b"x" * 2000
    again = await written(place, b"w" * 2000)
    assert again.reference.name != kept.reference.name


@pytest.mark.covers("SEC-209")
async def test_a_link_in_the_place_of_a_body_is_not_read(place: Place, tmp_path: Path) -> None:
    body = await written(place, b"x" * 2000)
    path = place.files.directory / body.reference.name
    (tmp_path / "other").write_bytes(b"x" * 2000)
    path.unlink()
    path.symlink_to(tmp_path / "other")
    with pytest.raises(ContentDamaged):
        list(body.chunks())


@pytest.mark.covers("SEC-212")
@pytest.mark.parametrize(
    "reference",
    [
        BodyReference("../../etc/passwd", 0, b""),
        BodyReference("00/../../body.1", 0, b""),
        BodyReference("/00/body.1", 0, b""),
        BodyReference("00/body.1", 5, b""),
        BodyReference("00/body.1", -1, b""),
        BodyReference("00/body.1", PIECE + 1, b"x" * 16),
    ],
)
def test_impossible_references_are_refused(reference: BodyReference) -> None:
    with pytest.raises(Malformed):
        decode_reference("ID", reference.encode("ID"))


@pytest.mark.covers("SEC-212")
def test_a_reference_of_another_message_is_refused() -> None:
    encoded = BodyReference("00/body.1", 0, b"").encode("ID")
    with pytest.raises(Malformed):
        decode_reference("OTHER", encoded)
    with pytest.raises(Malformed):
        decode_reference("ID", seal(b"\xc1", "ID"))


@pytest.mark.covers("SEC-92")
def test_what_the_device_says_is_told_apart() -> None:
    for code in (errno.ENOSPC, errno.EDQUOT):
        assert isinstance(device_error(OSError(code, os.strerror(code))), SpoolFull)
    for code in (errno.EIO, errno.EROFS, errno.EACCES):
        assert not isinstance(device_error(OSError(code, os.strerror(code))), SpoolFull)
