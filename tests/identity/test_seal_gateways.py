"""An interior gateway's word on the hops before it: when it counts, and when it does not (MT2-24c)."""

from __future__ import annotations

import pytest

from outrider.identity.authorities import CaStores
from outrider.identity.mt2_peers import Mt2IdentitySettings, Mt2Peers
from outrider.identity.seal_paths import trace_answers
from outrider.identity.trace import (
    Circumstances,
    Problem,
    SealedMessage,
    TraceReport,
    judge_trace,
    open_trace,
)
from outrider.message.objects.envelope import LayeredEnvelope, write_envelope
from tests.identity.mt2_papers import NOW, Site, draft, handover

FAR, OURS = Site(), Site()
"""Two closed groups; only the second one's CA is ours."""
GATEWAY = "mx.b.example"


def message(said: str = "good", *, gateway: Site = OURS, to: str = "mx.d.example") -> LayeredEnvelope:
    """From a far host through our gateway b, to us."""
    first = FAR.a.sealer.seal_core(draft(), handover("mx.a.example", GATEWAY), NOW)
    checks = {"trace": said} if said else {}
    at_b = handover(GATEWAY, to, "mx.a.example", NOW + 1, verified=checks)
    return gateway.b.sealer.seal_hop(first, first.recipients, at_b, NOW + 2)


async def report(envelope: LayeredEnvelope, *gateways: str, last: str = GATEWAY) -> TraceReport:
    stores = CaStores.of(private=[OURS.root.certificate])
    peers = Mt2Peers(stores, Mt2IdentitySettings(gateways=frozenset(gateways)))
    around = Circumstances(NOW + 10, NOW + 10, (last,), ("mx.d.example",))
    opened = open_trace(SealedMessage(write_envelope(envelope)), around)
    return judge_trace(opened, await trace_answers(peers, opened), around)


@pytest.mark.covers("MT2-24c")
async def test_a_gateways_word_on_the_trace_is_taken() -> None:
    found = await report(message(), GATEWAY)
    assert found.is_good, found.findings
    assert found.hops[0].how == f"word of gateway {GATEWAY}: the trace was good"
    assert found.hops[1].how == "private CA"


@pytest.mark.covers("MT2-24c")
@pytest.mark.parametrize(
    ("envelope", "gateways"),
    [
        (message(), ()),
        (message(), ("mx.c.example",)),
        (message("broken"), (GATEWAY,)),
        (message(""), (GATEWAY,)),
    ],
    ids=["none is named", "another is named", "it found it broken", "it has not looked"],
)
async def test_no_other_word_is(envelope: LayeredEnvelope, gateways: tuple[str, ...]) -> None:
    found = await report(envelope, *gateways)
    assert {(one.place, one.problem) for one in found.findings} == {("seal 0", Problem.CERTIFICATE)}


@pytest.mark.covers("MT2-24c")
async def test_whoever_merely_says_that_it_is_the_gateway_is_not() -> None:
    found = await report(message(gateway=FAR), GATEWAY)
    assert unproven(found) == {"seal 0", "seal 1"}


@pytest.mark.covers("MT2-24c")
async def test_a_sender_is_nobodys_gateway() -> None:
    """Its core is not about anybody before it, nor about those after it."""
    said = handover(GATEWAY, "mx.c.example", verified={"trace": "good"})
    core = OURS.b.sealer.seal_core(draft(), said, NOW)
    at_c = handover("mx.c.example", "mx.d.example", GATEWAY, NOW + 1)
    sealed = FAR.c.sealer.seal_hop(core, core.recipients, at_c, NOW + 2)
    found = await report(sealed, GATEWAY, last="mx.c.example")
    assert "seal 1" in unproven(found)


@pytest.mark.covers("MT2-24c")
async def test_a_gateway_does_not_vouch_for_those_behind_it() -> None:
    through_b = message(to="mx.c.example")
    at_c = handover("mx.c.example", "mx.d.example", GATEWAY, NOW + 3)
    sealed = FAR.c.sealer.seal_hop(through_b, through_b.recipients, at_c, NOW + 4)
    assert unproven(await report(sealed, GATEWAY, last="mx.c.example")) == {"seal 2"}


def unproven(report: TraceReport) -> set[str]:
    return {one.place for one in report.findings if one.problem is Problem.CERTIFICATE}
