"""A server that ends in order leaves what broke off to the one that comes after it (MT2-18b)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outrider.model.content import InlineBody
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.status import TransferState
from outrider.reception.mt2_saved import MOST_IN_ALL, MOST_PARTIALS, Parts, SavedPartials
from outrider.reception.mt2_transfers import TransferBook
from tests.identity.mt2_papers import NOW
from tests.reception.mt2_rig import HEADER_SECTION, SITE, Mt2Rig, letter, mt2_rig
from tests.reception.test_mt2_cuts import LARGE, MAIL, SIZE, TEXT, Sender, on_disk

HOUR = 3_600.0


async def restarted(rig: Mt2Rig, folder: Path, now: float = NOW) -> None:
    """The server ends, and another begins on the same data."""
    await rig.reception.close()
    saved = SavedPartials(folder, HOUR, lambda: now, space=rig.partial_space)
    rig.book = TransferBook(HOUR, rig.partial_space, saved)
    rig.reception = rig.made()


async def held(rig: Mt2Rig) -> dict[str, int]:
    """What it says to STAT."""
    status = await rig.reception.status(await rig.identified(), "t1")
    return dict(status.held) if status.state is TransferState.RECEIVING else {}


@pytest.mark.covers("MT2-18b", "MT2-13", "MT2-17")
@pytest.mark.parametrize("inline_limit", [100, 100_000])
async def test_a_restart_after_every_cut_costs_no_octet(tmp_path: Path, inline_limit: int) -> None:
    async with mt2_rig(inline_limit=inline_limit) as rig:
        await restarted(rig, tmp_path)
        sender = Sender(rig, MAIL)
        envelope, headers, _ = (len(octets) for _, octets in MAIL.parts)
        before = 0
        for cut in (envelope + 3 + 40, headers, 700, 1, 900, 2_000):
            await sender.attempt(cut)
            await restarted(rig, tmp_path)
            now_held = sum((await held(rig)).values())
            assert now_held > before or cut == 1
            before = now_held
        await sender.attempt(10 * SIZE)
        assert sender.was_taken
        (message,) = rig.rig.spool.given
        assert b"".join(message.content.chunks()) == HEADER_SECTION + TEXT
        assert not list(tmp_path.iterdir())
        await rig.reception.close()


@pytest.mark.covers("MT2-18b", "MT2-1")
async def test_a_large_body_goes_from_the_spool_into_a_file_and_back(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    async with mt2_rig(inline_limit=1000, partial_space=10_000_000) as rig:
        spool = await on_disk(rig, tmp_path / "spool")
        await restarted(rig, saved)
        sender = Sender(rig, LARGE)
        await sender.attempt(len(LARGE.envelope) + len(LARGE.headers) + 700_000)
        await restarted(rig, saved)
        [file] = saved.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.stat().st_size > 700_000
        assert (await held(rig))["message/body"] > 600_000
        await sender.attempt(10_000_000)
        assert sender.was_taken
        assert not list(saved.iterdir())
        await rig.reception.close()
        await spool.close()


@pytest.mark.covers("MT2-18b")
@pytest.mark.parametrize("change", ["cut", "head", "longer", "gone", "old", "of another"])
async def test_a_file_that_is_not_whole_is_dropped(tmp_path: Path, change: str) -> None:
    async with mt2_rig() as rig:
        await restarted(rig, tmp_path)
        await Sender(rig, MAIL).attempt(SIZE // 2)
        await restarted(rig, tmp_path)
        [file] = tmp_path.iterdir()
        octets = file.read_bytes()
        match change:
            case "cut":
                file.write_bytes(octets[:-1])
            case "head":
                file.write_bytes(octets.replace(b'"peer"', b'"pear"', 1))
            case "longer":
                file.write_bytes(octets + b"x")
            case "gone":
                file.unlink()
            case "of another":
                file.write_bytes(octets.replace(b'"id":"t1"', b'"id":"t2"', 1))
        await restarted(rig, tmp_path, NOW + (2 * HOUR if change == "old" else 0))
        assert await held(rig) == {}
        assert not list(tmp_path.iterdir())
        sender = Sender(rig, MAIL)
        await sender.attempt(10 * SIZE)
        assert sender.was_taken
        await rig.reception.close()


@pytest.mark.covers("MT2-18b")
async def test_octets_that_were_changed_in_the_file_are_found_by_the_digest(tmp_path: Path) -> None:
    async with mt2_rig() as rig:
        await restarted(rig, tmp_path)
        sender = Sender(rig, MAIL)
        await sender.attempt(SIZE - 500)
        await restarted(rig, tmp_path)
        [file] = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:-3] + b"???")
        await restarted(rig, tmp_path)
        known, session = await held(rig), await rig.identified()
        answers = [
            (await rig.put(session, "t1", kind, octets, known[kind])).result.code
            for kind, octets in MAIL.parts
        ]
        assert answers == [codes.ENVELOPE_ACCEPTED, codes.OBJECT_ACCEPTED, codes.WRONG_DIGEST]
        assert not rig.rig.spool.given
        await rig.reception.close()


@pytest.mark.covers("MT2-18b", "MT2-13")
async def test_only_the_identity_that_sent_it_is_told_of_it(tmp_path: Path) -> None:
    async with mt2_rig() as rig:
        await restarted(rig, tmp_path)
        await Sender(rig, MAIL).attempt(SIZE // 2)
        await restarted(rig, tmp_path)
        stranger = await rig.identified(SITE.c)
        assert (await rig.reception.status(stranger, "t1")).state is TransferState.UNKNOWN
        other = letter(text=TEXT, by=SITE.c)
        assert (await rig.sent_whole(stranger, other)).code == codes.MESSAGE_TAKEN
        assert await held(rig)
        await rig.reception.close()


# --- the room that all files together have -------------------------------------------------------------


def put(saved: SavedPartials, folder: Path, peer: str, number: int, size: int = 10) -> None:
    """A part of a body, so many seconds old as it has been put before others."""
    before = set(folder.iterdir()) if folder.exists() else set()
    body = InlineBody(b"x" * size)
    saved.save(Parts(peer, f"t{number}", saved.now() + HOUR, b"<envelope/>", b"", size), b"", body)
    for path in set(folder.iterdir()) - before:
        os.utime(path, (NOW + number, NOW + number))


def known(saved: SavedPartials, peer: str, numbers: range) -> list[int]:
    """Those that are still there."""
    return [number for number in numbers if saved.find((peer, f"t{number}")) is not None]


@pytest.mark.covers("MT2-18b")
def test_other_processes_find_what_one_has_saved_and_it_finds_what_they_have(tmp_path: Path) -> None:
    one, other = (SavedPartials(tmp_path, HOUR, lambda: NOW, space=10_000, shared=True) for _ in range(2))
    put(one, tmp_path, "mx.b.example", 1)
    found = other.find(("mx.b.example", "t1"))
    assert found is not None
    assert b"".join(other.body(found)) == b"x" * 10
    other.forget(("mx.b.example", "t1"))
    assert one.find(("mx.b.example", "t1")) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.covers("MT2-18b")
def test_one_peer_pushes_out_its_own_first(tmp_path: Path) -> None:
    saved = SavedPartials(tmp_path, HOUR, lambda: NOW, space=5_000, shared=True)
    put(saved, tmp_path, "other.example", 0, 1_000)
    for number in range(1, 20):
        put(saved, tmp_path, "mx.b.example", number, 1_000)
    assert known(saved, "other.example", range(1)) == [0]
    left = known(saved, "mx.b.example", range(20))
    assert left == list(range(20 - len(left), 20))
    assert 2 <= len(left) <= 3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 6_000


@pytest.mark.covers("MT2-18b")
def test_a_thousand_parts_of_one_peer_and_of_many(tmp_path: Path) -> None:
    saved = SavedPartials(tmp_path, HOUR, lambda: NOW, space=10_000_000, shared=True)
    for number in range(MOST_PARTIALS + 10):
        put(saved, tmp_path, "mx.b.example", number)
    assert len(list(tmp_path.iterdir())) == MOST_PARTIALS
    for number in range(MOST_IN_ALL + 10):
        put(saved, tmp_path, f"mx{number}.example", 1_000 + number)
    assert len(list(tmp_path.iterdir())) == MOST_IN_ALL
    assert saved.find((f"mx{MOST_IN_ALL + 9}.example", f"t{1_000 + MOST_IN_ALL + 9}"))


@pytest.mark.covers("MT2-18b")
def test_what_has_expired_or_was_never_finished_goes(tmp_path: Path) -> None:
    saved = SavedPartials(tmp_path, HOUR, lambda: NOW + HOUR + 10, space=10_000, shared=True)
    put(saved, tmp_path, "mx.b.example", 5)
    put(saved, tmp_path, "mx.b.example", 15)
    for name, age in (("a.1.tmp", 61), ("b.2.tmp", 0)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (saved.now() - age, saved.now() - age))
    saved.tidy()
    assert known(saved, "mx.b.example", range(20)) == [15]
    assert sorted(path.name for path in tmp_path.glob("*.tmp")) == ["b.2.tmp"]
