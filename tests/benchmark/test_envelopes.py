"""Envelopes of the load generator are what a gateway takes."""

from __future__ import annotations

import os

from outrider.benchmark.envelopes import envelope_size, envelopes
from outrider.benchmark.plan import Plan
from outrider.model.content import split_content
from outrider.protocols.amdp.envelope import read_envelope

NOW = 1_800_000_000.0
PLAN = Plan("127.0.0.1", 25, holder="mhf-1.client.example:8443")


def test_each_is_an_envelope_of_its_own() -> None:
    give = envelopes(PLAN, NOW, os.urandom)
    first, second = give(), give()
    assert len(first) == len(second) == envelope_size(PLAN, NOW) + 3
    assert first.endswith(b"\r\n.\r\n")
    one, other = (read_envelope(split_content(content)[0]) for content in (first, second))
    assert one.id != other.id
    assert one.id.encode() in first.partition(b"\r\n\r\n")[2], "the link is its own too"
    assert (one.port, str(one.holder), one.timestamp) == (8443, "mhf-1.client.example", NOW)
