"""From a domain's SRV records to AMTP hops, or to the next protocol, or to neither (AMTP-7, AMTP-8,
ITP-7)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from outrider.config.schema import Net
from outrider.delivery.lookup import LookupTemporary, NoRecords, ServiceRecords, Unusable
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.plan import Plan
from outrider.delivery.service_hops import ServiceSending
from outrider.model.envelope import Arrival
from outrider.model.mpc import Mpc, parse_mpc
from outrider.model.result import Kind
from outrider.routing.channels import Channel
from outrider.routing.mail_exchangers import Ourselves
from outrider.routing.partners import NameSet
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import HostWay, MxWay, parse_way
from tests.delivery.support import FakeLookup, mx, new_message, no_such_name, srv, surroundings

CODE = parse_mpc("com/individual")
ONLY = MxWay(channel=Channel(("amtp",)))
NO_FALLBACK = MxWay(channel=Channel(stays=frozenset({"amtp"})))


class Memory:
    """What is remembered, in memory."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    def saw(self, domain: str) -> None:
        self.known.add(domain)

    async def knows(self, domain: str) -> bool:
        return domain in self.known


async def plan(
    lookup: FakeLookup,
    way: MxWay | HostWay | None = None,
    *,
    mpc: Mpc | None = CODE,
    memory: Memory | None = None,
    certificate: bool = True,
    ourselves: Ourselves | None = None,
    net: Net | None = None,
    arrival: Arrival = Arrival.OTHER,
) -> Plan:
    sending = (ServiceSending("amtp", 10_125, memory or Memory()),) if certificate else ()
    planner = HopPlanner(surroundings(lookup, net, ourselves), sending)
    envelope = replace(new_message("m", "ann@b.example").envelope, mpc=mpc, arrival=arrival)
    return await planner.plan(way or MxWay(), "b.example", envelope)


def described(found: Plan) -> list[tuple[str, str, int]]:
    return [(hop.protocol, hop.host, hop.port) for hop in found.hops]


def outcome(found: Plan) -> tuple[Kind, str]:
    assert found.result is not None
    assert found.hops == ()
    return found.result.kind, found.result.status


def published(answer: Any) -> FakeLookup:
    lookup = FakeLookup()
    lookup.service_answers["b.example"] = answer
    return lookup


@pytest.mark.covers("AMTP-7")
async def test_srv_replaces_mx_and_the_domains_own_address() -> None:
    lookup = published(srv((10, "mx1.b.example"), (20, "mx2.b.example"), port=4321))
    lookup.mx_answers["b.example"] = mx((10, "mx.b.example"))
    memory = Memory()
    found = await plan(lookup, memory=memory)
    assert described(found) == [("amtp", "mx1.b.example", 4321), ("amtp", "mx2.b.example", 4321)]
    assert found.then == ("smtp",)
    assert lookup.asked == ["SRV b.example", "A mx1.b.example", "A mx2.b.example"]
    assert memory.known == {"b.example"}


@pytest.mark.covers("AMTP-7")
@pytest.mark.parametrize("answer", [NoRecords("none"), no_such_name(), ServiceRecords(()), Unusable("bad")])
async def test_a_domain_without_servers_gets_esmtp_and_no_attempt_at_the_amtp_port(answer: Any) -> None:
    found = await plan(published(answer))
    assert described(found) == [("smtp", "b.example", 25)]
    assert found.passed_over == ()


@pytest.mark.covers("AMTP-7", "ITP-7")
async def test_silence_is_not_absence_but_an_unknown_domain_gets_its_mail_and_that_is_told() -> None:
    found = await plan(published(LookupTemporary("SERVFAIL")))
    assert described(found) == [("smtp", "b.example", 25)]
    [passed] = found.passed_over
    assert (passed.protocol, passed.used, passed.why) == ("amtp", "smtp", "dns")
    assert "SERVFAIL" in passed.text


@pytest.mark.covers("AMTP-7", "SEC-163")
@pytest.mark.parametrize("way", [ONLY, MxWay()])
async def test_silence_about_a_domain_that_must_or_did_speak_amtp_makes_its_mail_wait(way: MxWay) -> None:
    lookup = published(LookupTemporary("SERVFAIL"))
    found = await plan(lookup, way, memory=Memory("b.example"))
    assert outcome(found) == (Kind.DEFERRED, "4.4.3")
    assert found.unreachable
    assert found.result is not None
    assert "SERVFAIL" in found.result.text
    assert lookup.asked == ["SRV b.example"]


@pytest.mark.covers("AMTP-7", "ITP-7")
async def test_where_amtp_is_demanded_and_not_published_the_mail_waits_and_says_for_what() -> None:
    way = MxWay(channel=Channel(("amtp",), partner="bank"))
    found = await plan(published(NoRecords("none")), way)
    assert outcome(found) == (Kind.DEFERRED, "4.4.4")
    assert found.result is not None
    assert "no SRV record" in found.result.text
    assert "partner bank" in found.result.text


@pytest.mark.covers("AMTP-11", "ITP-7")
async def test_mail_without_a_code_goes_by_smtp_without_asking_for_srv() -> None:
    lookup = published(srv((10, "mx1.b.example")))
    assert described(await plan(lookup, mpc=None)) == [("smtp", "b.example", 25)]
    assert "SRV b.example" not in lookup.asked


@pytest.mark.covers("AMTP-11", "ITP-7")
@pytest.mark.parametrize("way", [ONLY, parse_way("amtp:gate.b.example")])
async def test_mail_without_a_code_where_amtp_is_demanded_is_returned_with_the_remedy(way: MxWay) -> None:
    found = await plan(published(srv((10, "mx1.b.example"))), way, mpc=None)
    assert outcome(found) == (Kind.FAILED, "5.7.1")
    assert found.result is not None
    assert "[mpc] accounts" in found.result.text


@pytest.mark.covers("AMTP-1")
async def test_without_a_certificate_of_our_own_there_is_no_amtp() -> None:
    lookup = published(srv((10, "mx1.b.example")))
    assert described(await plan(lookup, certificate=False)) == [("smtp", "b.example", 25)]
    assert outcome(await plan(lookup, ONLY, certificate=False)) == (Kind.DEFERRED, "4.3.5")


@pytest.mark.covers("AMTP-8")
async def test_without_fallback_nothing_follows() -> None:
    assert (await plan(published(srv((10, "mx1.b.example"))), NO_FALLBACK)).then == ()


@pytest.mark.covers("ITP-7")
async def test_the_order_may_be_the_other_way_round() -> None:
    way = MxWay(channel=Channel(("smtp", "amtp")))
    lookup = published(srv((10, "mx1.b.example")))
    found = await plan(lookup, way)
    assert described(found) == [("smtp", "b.example", 25)]
    assert found.then == ("amtp",)
    assert lookup.asked == ["MX b.example", "A b.example"]


# --- what a server will have to prove (AMTP-5), and what its denial is worth (AMTP-21) --------------


@pytest.mark.covers("AMTP-5")
@pytest.mark.parametrize(
    ("way", "must_prove"),
    [
        (MxWay(), False),
        (ONLY, True),
        (MxWay(TlsRequirement("verify")), True),
        (MxWay(TlsRequirement("encrypt")), False),
    ],
)
async def test_proof_is_demanded_where_the_operator_demands_it(way: MxWay, must_prove: bool) -> None:
    [hop] = (await plan(published(srv((10, "mx1.b.example"))), way)).hops
    assert hop.terms is not None
    assert hop.terms.must_prove is must_prove
    assert hop.terms.domain == "b.example"
    assert not hop.terms.srv_secure
    assert not hop.terms.named


@pytest.mark.covers("AMTP-5")
async def test_what_dnssec_and_the_partner_entry_say_goes_with_the_hop() -> None:
    hosts = NameSet(frozenset({"mx1.b.example"}), frozenset())
    way = MxWay(channel=Channel(partner="bank", hosts=hosts))
    records = srv((10, "mx1.b.example"), (10, "evil.example"), secure=True)
    found = {hop.host: hop.terms for hop in (await plan(published(records), way)).hops}
    assert {host: terms.named for host, terms in found.items() if terms} == {
        "mx1.b.example": True,
        "evil.example": False,
    }
    assert all(terms is not None and terms.srv_secure for terms in found.values())


@pytest.mark.covers("AMTP-21")
async def test_a_backup_is_known_as_one_even_when_the_best_has_no_address() -> None:
    lookup = published(srv((10, "best"), (10, "equal"), (20, "backup")))
    lookup.address_answers["best"] = NoRecords("none")
    found = {hop.host: hop.terms for hop in (await plan(lookup)).hops}
    assert {host: terms.backup for host, terms in found.items() if terms} == {"equal": False, "backup": True}


@pytest.mark.covers("AMTP-19")
async def test_a_named_host_needs_no_srv_and_must_prove_its_name() -> None:
    way = parse_way("amtp:gate.b.example:2525")
    assert isinstance(way, HostWay)
    lookup = FakeLookup()
    [hop] = (await plan(lookup, way)).hops
    assert (hop.protocol, hop.host, hop.port) == ("amtp", "gate.b.example", 2525)
    assert hop.terms is not None
    assert hop.terms.named
    assert hop.terms.must_prove
    assert lookup.asked == ["A gate.b.example"]


# --- what a stranger's SRV may not do (SEC-158, SEC-162, SEC-168) -----------------------------------


@pytest.mark.covers("SEC-158", "SEC-162", "AMTP-7")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_a_server_at_a_private_address_is_not_connected_to(address: str) -> None:
    lookup = published(srv((10, "inside")))
    lookup.address_answers["inside"] = (address,)
    found = await plan(lookup, NO_FALLBACK)
    assert outcome(found) == (Kind.DEFERRED, "4.4.4")
    assert found.result is not None
    assert "private" in found.result.text


@pytest.mark.covers("SEC-162")
async def test_a_server_at_another_services_port_is_not_connected_to() -> None:
    found = await plan(published(srv((10, "mx1.b.example"), port=25)), NO_FALLBACK)
    assert outcome(found) == (Kind.DEFERRED, "4.4.4")


@pytest.mark.covers("SEC-168", "AMTP-7")
async def test_no_loop_to_ourselves_by_name_or_address() -> None:
    us = Ourselves(frozenset({"mx.us.example"}), frozenset({ip_address("8.8.4.4")}))
    lookup = published(srv((10, "mx.us.example"), (20, "other")))
    assert outcome(await plan(lookup, ourselves=us)) == (Kind.FAILED, "5.4.6")
    lookup.service_answers["b.example"] = srv((10, "alias"), (20, "other"))
    lookup.address_answers["alias"] = ("8.8.4.4",)
    assert outcome(await plan(lookup, ourselves=us)) == (Kind.FAILED, "5.4.6")


@pytest.mark.covers("AMTP-8", "SEC-163")
@pytest.mark.parametrize("answer", [NoRecords("none"), LookupTemporary("time-out")])
async def test_servers_without_an_address_are_unreachable_ones(answer: Any) -> None:
    lookup = published(srv((10, "dark")))
    lookup.address_answers["dark"] = answer
    found = await plan(lookup)
    assert outcome(found)[0] is Kind.DEFERRED
    assert found.unreachable
    assert found.then == ("smtp",)


# --- AMTP-18 as a second line -----------------------------------------------------------------------


@pytest.mark.covers("AMTP-18")
async def test_what_came_over_a_public_connection_does_not_leave_over_another() -> None:
    lookup = published(srv((10, "mx1.b.example")))
    found = await plan(lookup, arrival=Arrival.AMTP_PUBLIC)
    assert outcome(found) == (Kind.DEFERRED, "4.7.1")
    assert lookup.asked == []
    private = parse_way("amtp:gate.b.example")
    assert isinstance(private, HostWay)
    assert described(await plan(lookup, private, arrival=Arrival.AMTP_PUBLIC)) == [
        ("amtp", "gate.b.example", 10_125)
    ]
    assert described(await plan(lookup, arrival=Arrival.AMTP_PRIVATE)) == [("amtp", "mx1.b.example", 10_125)]


# --- a partner's proof over SMTP --------------------------------------------------------------------


@pytest.mark.covers("ITP-7", "TLS-4a")
async def test_where_a_partner_must_prove_itself_only_its_own_hosts_are_tried() -> None:
    hosts = NameSet(frozenset({"mx.b.example"}), frozenset())
    way = MxWay(TlsRequirement("verify"), Channel(("smtp",), partner="bank", hosts=hosts))
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = mx((5, "evil.example"), (10, "mx.b.example"))
    assert described(await plan(lookup, way)) == [("smtp", "mx.b.example", 25)]
    lookup.mx_answers["b.example"] = mx((5, "evil.example"))
    found = await plan(lookup, way)
    assert outcome(found) == (Kind.DEFERRED, "4.7.5")
    assert found.result is not None
    assert "partner bank" in found.result.text


# --- MT2 by the same planner (MT2-27) -----------------------------------------------------------------


async def plan_all(
    lookup: FakeLookup,
    way: MxWay | HostWay | None = None,
    *,
    mpc: Mpc | None = CODE,
    speaks: tuple[str, ...] = ("mt2", "amtp"),
    known: tuple[str, ...] = (),
    only_mt2: str = "",
) -> Plan:
    ports = {"mt2": 10_126, "amtp": 10_125}
    sending = [ServiceSending(one, ports[one], Memory(*known)) for one in speaks]  # type: ignore[arg-type]
    envelope = replace(new_message("m", "ann@b.example").envelope, mpc=mpc)
    planner = HopPlanner(surroundings(lookup), sending)
    return await planner.plan(way or MxWay(), "b.example", envelope, only_mt2)


def both() -> FakeLookup:
    lookup = published(srv((10, "amtp.b.example")))
    lookup.service_answers["mt2 b.example"] = srv((10, "mt2.b.example"), (20, "spare"), port=10_126)
    return lookup


@pytest.mark.covers("MT2-27", "ITP-7")
async def test_mt2_comes_first_where_the_domain_publishes_it_and_others_may_follow() -> None:
    found = await plan_all(both())
    assert described(found) == [("mt2", "mt2.b.example", 10_126), ("mt2", "spare", 10_126)]
    assert found.then == ("amtp", "smtp")
    assert all(hop.terms is not None and not hop.terms.backup for hop in found.hops)
    assert described(await plan_all(published(srv((10, "amtp.b.example")))))[0][0] == "amtp"
    assert described(await plan_all(FakeLookup())) == [("smtp", "b.example", 25)]


@pytest.mark.covers("MT2-27")
async def test_mt2_needs_no_mail_policy_code_and_a_certificate_of_ours() -> None:
    lookup = both()
    assert described(await plan_all(lookup, mpc=None))[0][0] == "mt2"
    assert (await plan_all(lookup, mpc=None)).then == ("amtp", "smtp")[1:]
    assert described(await plan_all(lookup, speaks=("amtp",)))[0][0] == "amtp"
    assert "SRV mt2 b.example" not in lookup.asked[-4:]


@pytest.mark.covers("MT2-27", "SEC-163")
async def test_silence_about_mt2_waits_only_where_it_was_spoken() -> None:
    lookup = both()
    lookup.service_answers["mt2 b.example"] = LookupTemporary("SERVFAIL")
    assert outcome(await plan_all(lookup, known=("b.example",))) == (Kind.DEFERRED, "4.4.3")
    found = await plan_all(lookup)
    assert described(found)[0][0] == "amtp"
    [passed] = found.passed_over
    assert (passed.protocol, passed.used, passed.why) == ("mt2", "amtp", "dns")


@pytest.mark.covers("ITP-7")
async def test_where_mt2_alone_is_demanded_the_mail_waits_for_it() -> None:
    way = MxWay(channel=Channel(("mt2",), partner="bank"))
    absent = await plan_all(FakeLookup(), way)
    assert outcome(absent) == (Kind.DEFERRED, "4.4.4")
    assert absent.result is not None
    assert "partner bank demands it" in absent.result.text
    mute = await plan_all(both(), way, speaks=("amtp",))
    assert outcome(mute) == (Kind.DEFERRED, "4.3.5")
    [hop, _] = (await plan_all(both(), way)).hops
    assert hop.terms is not None
    assert hop.terms.must_prove


@pytest.mark.covers("MT2-27")
async def test_a_private_table_names_the_mt2_host() -> None:
    way = parse_way("mt2:gate.b.example")
    assert isinstance(way, HostWay)
    [hop] = (await plan_all(FakeLookup(), way)).hops
    assert (hop.protocol, hop.host, hop.port) == ("mt2", "gate.b.example", 10_126)
    assert hop.terms is not None
    assert hop.terms.named
    assert outcome(await plan_all(FakeLookup(), way, speaks=())) == (Kind.DEFERRED, "4.3.5")


@pytest.mark.covers("ITP-7", "MT2-19")
async def test_a_message_that_only_mt2_carries_goes_by_it_or_back() -> None:
    why = "it has a critical extension"
    assert {hop.protocol for hop in (await plan_all(both(), only_mt2=why)).hops} == {"mt2"}
    assert (await plan_all(both(), only_mt2=why)).then == ()
    for lookup, way in (
        (FakeLookup(), MxWay()),
        (both(), MxWay(channel=Channel(("smtp",)))),
        (both(), parse_way("smtp:mx.b.example")),
    ):
        assert isinstance(way, MxWay | HostWay)
        assert outcome(await plan_all(lookup, way, only_mt2=why)) == (Kind.FAILED, "5.6.3")
    silent = both()
    silent.service_answers["mt2 b.example"] = LookupTemporary("SERVFAIL")
    assert outcome(await plan_all(silent, only_mt2=why)) == (Kind.DEFERRED, "4.4.3")
