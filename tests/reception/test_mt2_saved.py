"""A server that ends in order leaves what broke off to the one that comes after it (MT2-18b)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.status import TransferState
from outrider.reception.mt2_saved import SavedPartials
from outrider.reception.mt2_transfers import TransferBook
from tests.identity.mt2_papers import NOW
from tests.reception.mt2_rig import HEADER_SECTION, SITE, Mt2Rig, letter, mt2_rig
from tests.reception.test_mt2_cuts import LARGE, MAIL, SIZE, TEXT, Sender, on_disk

HOUR = 3_600.0


async def restarted(rig: Mt2Rig, folder: Path, now: float = NOW) -> None:
    """The server ends, and another begins on the same data."""
    await rig.reception.close()
    rig.book = TransferBook(HOUR, rig.partial_space, SavedPartials(folder, HOUR, lambda: now))
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
