"""Whatever stands in the data of an extension: a verdict, or the extension's own complaint (MT2-19)."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.extensions.hashcash_stamp import StampError, parse_stamp
from outrider.extensions.interface import Carried, ExtensionError, RecipientRequest
from outrider.extensions.registry import is_recipient
from outrider.extensions.shipped import shipped
from tests.extensions.support import ANN, BEN, NOW, Site, site

WORDS = st.sampled_from(
    [
        *("request", "grant", "token", "end", "card\n", "challenge", "answer", "delivered", "subscribe"),
        *("1:20:260101:ben@b.example::a:b", "a" * 64, "a" * 26, "1900000000", "99999999999999999999"),
        *(" ", "\n", "BEGIN:VCARD", "\x00", "é"),
    ]
)
PARTS = st.lists(WORDS, max_size=12)
DATA = st.one_of(st.text(max_size=200), PARTS.map(" ".join), PARTS.map("".join))
OIDS = [one.extension.oid for one in shipped()]


@pytest.mark.covers("MT2-19", "MT2-21b")
def test_the_desk_answers_whatever_an_envelope_carries(tmp_path: Path) -> None:
    async def ask(here: Site, data: str, critical: bool, report: bool) -> None:
        for oid in OIDS:
            await here.desk.envelope(here.facts(report=report), [Carried(oid, data, critical)])

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(DATA, st.booleans(), st.booleans())
    def run(data: str, critical: bool, report: bool) -> None:
        runner.run(ask(here, data, critical, report))

    with asyncio.Runner() as runner:
        manager = site(tmp_path, *(one.extension for one in shipped()))
        here = runner.run(manager.__aenter__())
        for name in ("hashcash", "allow-list", "spam-trap"):
            runner.run(here.enable(name))
        runner.run(here.thread.call(lambda store: store.grant("spam-trap", "mx.a.example")))
        here.later()
        run()
        failed = [one for one in here.told.heard if one[0] == "failed"]
        runner.run(manager.__aexit__(None, None, None))
    assert failed == []


@pytest.mark.covers("MT2-21c")
@given(DATA)
def test_recipient_extensions_describe_or_complain(data: str) -> None:
    request = RecipientRequest(BEN, ANN, "m", data, NOW, proven=True)
    for one in shipped():
        if is_recipient(one.extension):
            with contextlib.suppress(ExtensionError):
                assert isinstance(one.extension.describe(request), str)


@pytest.mark.covers("MT2-21b")
@given(DATA)
def test_a_stamp_is_one_or_none(data: str) -> None:
    try:
        stamp = parse_stamp(data)
    except StampError:
        return
    assert stamp.text == data
    assert isinstance(stamp.is_paid, bool)
