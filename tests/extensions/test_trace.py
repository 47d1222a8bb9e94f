"""TRACE in answers and by probes (MT2-21a)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.extensions.interface import Carried, HopFacts, ObjectFacts, Part
from outrider.extensions.oids import TRACE
from outrider.extensions.trace import HOP, SWITCHED, Trace
from outrider.protocols.mt2.codes import WRONG_OPTION_VALUE
from tests.extensions.support import ANN, NOW, site

TEXT = (
    "mx.b.example from mx.a.example by mt2 over TLSv1.3 TLS_AES_256_GCM_SHA384 at 2027-01-15T08:00:00Z as QID"
)


def _hop() -> HopFacts:
    return HopFacts("mx.b.example", "mx.a.example", "mt2", "TLSv1.3 TLS_AES_256_GCM_SHA384", NOW, "QID")


@pytest.mark.covers("MT2-21a", "MT2-11")
async def test_the_option_puts_the_hop_into_the_last_answer(tmp_path: Path) -> None:
    async with site(tmp_path, Trace()) as here:
        assert here.desk.options() == (("TRACE", ("ON", "OFF")),)
        assert here.desk.option("trace", ("on",)) == Part("TRACE", "On.", "OK", SWITCHED)
        assert here.desk.option("TRACE", ("MAYBE",)) == Part("TRACE", "ON or OFF.", "ERR", WRONG_OPTION_VALUE)
        assert here.desk.option("BAZ", ("ON",)) is None
        assert here.desk.final_parts(_hop(), {}) == ()
        assert here.desk.final_parts(_hop(), {"TRACE": ("ON",)}) == (Part("TRACE", TEXT),)


@pytest.mark.covers("MT2-21a")
async def test_a_probe_makes_one_report_at_each_host(tmp_path: Path) -> None:
    async with site(tmp_path, Trace()) as here:
        probe = [Carried(TRACE, "probe")]
        (message,) = await here.desk.passed(here.facts(), probe, _hop())
        assert message.to == ANN
        assert message.report is not None
        assert (message.report.code, message.report.text) == (HOP, TEXT)
        body = (ObjectFacts("message/body", "00" * 32, 5),)
        assert await here.desk.passed(here.facts(objects=body), probe, _hop()) == ()
        assert await here.desk.passed(here.facts(report=True), probe, _hop()) == ()
        assert await here.desk.passed(here.facts(identities=frozenset()), probe, _hop()) == ()
