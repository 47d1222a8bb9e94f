"""Extensions as MT2's reception asks them: answers, results for recipients, control messages (MT2-19)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outrider.extensions.hashcash import SPENT, Hashcash
from outrider.extensions.hashcash_stamp import mint
from outrider.extensions.interface import ExtensionMessage
from outrider.extensions.oids import HASHCASH, TRACE
from outrider.extensions.trace import Trace
from outrider.message.objects.envelope import DeliveryExtension
from outrider.protocols.mt2 import codes
from tests.extensions.support import Site, site
from tests.reception.mt2_rig import NOW, Mt2Rig, changed, letter, mt2_rig


@asynccontextmanager
async def with_desk(tmp_path: Path) -> AsyncIterator[tuple[Mt2Rig, Site]]:
    """A reception with a desk that has TRACE and hashcash."""
    async with site(tmp_path, Trace(), Hashcash()) as here:
        here.now = NOW
        here.set_up(hashcash={"bits": 8})
        await here.thread.call(lambda store: store.set_enabled("hashcash", "", enabled=True))
        async with mt2_rig(desk=here.desk) as rig:
            yield rig, here


@pytest.mark.covers("MT2-21a")
async def test_the_final_answer_tells_the_hop(tmp_path: Path) -> None:
    async with with_desk(tmp_path) as (rig, _):
        session = await rig.identified()
        assert rig.reception.offer(session).trace
        session.options = session.options | {"TRACE"}
        result = await rig.sent_whole(session, letter())
        assert result.code == codes.MESSAGE_TAKEN
        [hop] = [one for one in result.extensions if one.name == "TRACE"]
        assert "mx.a.example from mx.b.example by mt2 over TLS" in str(hop.params[0])
        quiet = await rig.identified()
        result = await rig.sent_whole(quiet, letter(), "t2")
        assert "TRACE" not in [one.name for one in result.extensions]


@pytest.mark.covers("MT2-21a", "MT2-2")
async def test_a_probe_causes_one_control_message(tmp_path: Path) -> None:
    async with with_desk(tmp_path) as (rig, _):
        session = await rig.identified()
        probe = letter(alone=True, change=changed(extensions=(DeliveryExtension(TRACE, "probe"),)))
        assert (await rig.sent_whole(session, probe)).code == codes.MESSAGE_TAKEN
        while not rig.sent:
            await asyncio.sleep(0.01)
        [message] = rig.sent
        assert isinstance(message, ExtensionMessage)
        assert str(message.to) == "ann@b.example"
        assert message.report is not None
        assert message.report.oid == TRACE


@pytest.mark.covers("MT2-21b", "MT2-16")
async def test_a_spent_stamp_is_a_result_of_the_recipient(tmp_path: Path) -> None:
    async with with_desk(tmp_path) as (rig, _):
        session = await rig.identified()
        stamp = DeliveryExtension(HASHCASH, mint("bob@a.example", 8, NOW, "once"), critical=True)
        first = letter(change=changed(extensions=(stamp,)))
        assert (await rig.sent_whole(session, first)).code == codes.MESSAGE_TAKEN
        second = letter(change=changed(extensions=(stamp,), id="m2@b.example"))
        refused = await rig.sent_whole(session, second, "t2")
        assert not refused.is_ok
        assert SPENT in str(refused)


@pytest.mark.covers("MT2-19", "MT2-15")
async def test_an_unknown_critical_extension_ends_it_at_the_envelope(tmp_path: Path) -> None:
    async with with_desk(tmp_path) as (rig, _):
        session = await rig.identified()
        unknown = DeliveryExtension("2.25.1", "x", critical=True)
        refused = await rig.sent_whole(session, letter(change=changed(extensions=(unknown,))))
        assert refused.code == codes.UNKNOWN_CRITICAL_EXTENSION
        assert [one.name for one in refused.extensions if one.result is not None][-1:] == ["2.25.1"]
