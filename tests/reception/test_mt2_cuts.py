"""Connections that break at any point: the sender goes on by the book, and the message is there once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.model.message import MessageId
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result
from outrider.protocols.mt2.status import TransferState
from outrider.reception.interface import Session
from outrider.reception.mt2_transfers import TransferBook
from outrider.reception.reception import MailReception
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.writing import put
from tests.identity.mt2_papers import NOW
from tests.peers.rooms import body_files
from tests.reception.mt2_rig import HEADER_SECTION, PEER, SITE, Letter, Mt2Rig, got, letter, mt2_rig

TEXT = b"line of text\r\n" * 400
MAIL = letter(text=TEXT)
SIZE = sum(len(octets) for _, octets in MAIL.parts)


class Cut(Exception):
    """The connection breaks."""


@dataclass
class Sender:
    """One that knows no more than it was told: it asks STAT on every new connection."""

    rig: Mt2Rig
    mail: Letter
    budget: int = 0
    """Octets, and answers, until the connection breaks."""
    was_taken: bool = False

    def spend(self, cost: int) -> None:
        """May break the connection."""
        self.budget -= cost
        if self.budget < 0:
            raise Cut

    async def attempt(self, budget: int) -> None:
        """One connection."""
        self.budget = budget
        session = await self.rig.identified()
        with contextlib.suppress(Cut):
            await self._send(session)
        await self.rig.reception.closed(session, "cut")

    async def _send(self, session: Session) -> None:
        status = await self.rig.reception.status(session, "t1")
        if status.state in (TransferState.QUEUED, TransferState.DELIVERED):
            self.was_taken = True
            return
        for kind, octets in self.mail.parts:
            result = await self._object(session, kind, octets, status.held.get(kind, 0))
            assert result.is_ok, result
            self.was_taken = result.code in (codes.MESSAGE_TAKEN, codes.ALREADY_TAKEN)
            if self.was_taken:
                return

    async def _object(self, session: Session, kind: str, octets: bytes, offset: int) -> Result:
        rest = octets[offset:]
        self.spend(1)
        granted = await self.rig.offered(session, "t1", kind, len(rest), offset)
        if isinstance(granted, Result):
            return granted
        self.spend(1)
        for start in range(0, len(rest), 97):
            piece = rest[start : start + 97]
            arrived = piece[: max(self.budget, 0)]
            waiting = granted.write(arrived)
            if waiting is not None:
                await waiting
            self.spend(len(piece))
        result = (await got(granted.finish())).result
        self.spend(1)  # stored, and the answer is lost
        return result


async def send_over(cuts: list[int], inline_limit: int) -> None:
    """As often as it takes, the last time without a cut."""
    async with mt2_rig(inline_limit=inline_limit) as rig:
        sender = Sender(rig, MAIL)
        for cut in cuts:
            await sender.attempt(cut)
        if not sender.was_taken:
            await sender.attempt(10 * SIZE)
        assert sender.was_taken
        (message,) = rig.rig.spool.given
        assert b"".join(message.content.chunks()) == HEADER_SECTION + TEXT
        assert not rig.rig.observer.failures
        assert await rig.rig.spool.find_transfer(PEER.name, "t1") == message.transfer


@pytest.mark.covers("MT2-18b", "MT2-18a", "MT2-17")
@pytest.mark.parametrize("inline_limit", [100, 100_000])
async def test_a_cut_after_every_step(inline_limit: int) -> None:
    places = {0, SIZE + 6}
    at = 0
    for _, octets in MAIL.parts:
        places |= {
            at + 1,
            at + 2,
            at + 3,
            at + 2 + len(octets) // 2,
            at + 1 + len(octets),
            at + 2 + len(octets),
        }
        at += len(octets) + 3
    for place in sorted(places):
        await send_over([place], inline_limit)


@pytest.mark.covers("MT2-18b", "MT2-18a")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, SIZE + 12), max_size=6), st.sampled_from((100, 100_000)))
async def test_any_series_of_cuts(cuts: list[int], inline_limit: int) -> None:
    await send_over(cuts, inline_limit)


@pytest.mark.covers("MT2-18a")
async def test_two_peers_at_once_with_one_transfer_id() -> None:
    async with mt2_rig() as rig:
        assert (await rig.sent_whole(await rig.identified(), MAIL)).code == codes.MESSAGE_TAKEN
        other = letter(text=TEXT, by=SITE.c)
        assert (await rig.sent_whole(await rig.identified(SITE.c), other)).code == codes.MESSAGE_TAKEN
        assert len(rig.rig.spool.given) == 2


# --- in files ------------------------------------------------------------------------------------------

LARGE = letter(text=b"0123456789abcdef\r\n" * 60_000)


async def on_disk(rig: Mt2Rig, folder: Path) -> SqliteSpool:
    """The rig with a real spool instead of the one in memory."""
    spool = SqliteSpool(folder, reserve=0, inline_limit=1000)
    await spool.start(NOW)
    rig.rig.parts = replace(rig.rig.parts, spool=spool)
    rig.rig.reception = MailReception(rig.rig.reception._settings, rig.rig.parts)
    rig.reception, rig.rig.started = rig.made(), True
    return spool


@pytest.mark.covers("MT2-18b", "MT2-1")
@pytest.mark.parametrize("cut", [10, 200_000, 300_000, 1_079_000])
async def test_a_body_in_a_file_goes_on(tmp_path: Path, cut: int) -> None:
    async with mt2_rig(inline_limit=1000, partial_space=10_000_000) as rig:
        spool = await on_disk(rig, tmp_path / "1")
        sender = Sender(rig, LARGE)
        await sender.attempt(len(LARGE.envelope) + len(LARGE.headers) + 8 + cut)
        assert not sender.was_taken
        await sender.attempt(10_000_000)
        assert sender.was_taken
        found = await spool.find_transfer(PEER.name, "t1")
        assert found is not None
        stored = await spool.read(MessageId(found.message))
        assert stored.content is not None
        assert stored.objects is not None
        assert stored.objects.body_prefix + b"".join(stored.content.body.chunks()) == LARGE.body
        assert len(body_files(tmp_path / "1")) == 1
        await spool.close()


@pytest.mark.covers("MT2-18b", "MT2-12")
@pytest.mark.parametrize("end", ["killed", "too old", "server stops"])
async def test_what_is_given_up_leaves_no_file(tmp_path: Path, end: str) -> None:
    async with mt2_rig(inline_limit=1000, partial_space=10_000_000) as rig:
        spool = await on_disk(rig, tmp_path / "1")
        if end == "too old":
            rig.book = TransferBook(0.0, 10_000_000)
            rig.reception = rig.made()
        await Sender(rig, LARGE).attempt(700_000)
        if end == "killed":
            session = await rig.identified()
            await rig.put(session, "t1", "message/envelope", LARGE.envelope)
            assert rig.reception.aborted(session, "t1")
        await rig.reception.close()
        status = await rig.reception.status(await rig.identified(), "t1")
        assert status.state is TransferState.UNKNOWN
        assert body_files(tmp_path / "1") == []
        await spool.close()


@pytest.mark.covers("MT2-18b")
async def test_a_restart_forgets_what_is_not_whole(tmp_path: Path) -> None:
    async with mt2_rig(inline_limit=1000, partial_space=10_000_000) as rig:
        spool = await on_disk(rig, tmp_path / "1")
        # The first body of a spool waits in memory until files are made.
        first = spool.body_writer(MessageId("FIRST"))
        await put(first, b"x" * 2_000_000)
        await first.abandon()
        await Sender(rig, LARGE).attempt(700_000)
        assert len(body_files(tmp_path / "1")) == 1
        await rig.rig.parts.spool.close()
        again = SqliteSpool(tmp_path / "1", reserve=0, inline_limit=1000)
        assert (await again.start(NOW)).orphans_removed == 1
        await again.close()
