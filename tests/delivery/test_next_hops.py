"""From a way to hops, with a resolver that answers, is silent, or lies."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from outrider.config.schema import Net
from outrider.delivery.lookup import LookupTemporary, MxRecords, NoRecords, Unusable
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.plan import Plan
from outrider.model.result import Kind
from outrider.routing.mail_exchangers import Exchanger, Ourselves
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import HostWay, MxWay, parse_way
from tests.delivery.support import FakeLookup, mx, new_message, no_such_name, surroundings

PUBLIC = ("8.8.8.8",)


async def plan(
    lookup: FakeLookup,
    domain: str = "b.example",
    way: MxWay | HostWay | None = None,
    *,
    net: Net | None = None,
    ourselves: Ourselves | None = None,
) -> Plan:
    planner = HopPlanner(surroundings(lookup, net, ourselves))
    return await planner.plan(way or MxWay(), domain, new_message("m", f"ann@{domain}").envelope)


def described(found: Plan) -> list[tuple[str, str, int]]:
    return [(hop.protocol, hop.host, hop.port) for hop in found.hops]


def outcome(found: Plan) -> tuple[Kind, str]:
    assert found.result is not None
    assert found.hops == ()
    return found.result.kind, found.result.status


@pytest.mark.covers("SMTP-7")
async def test_exchangers_in_order_with_their_addresses() -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = mx((10, "mx1.b.example"), (20, "mx2.b.example"))
    lookup.address_answers["mx1.b.example"] = ("8.8.8.8", "2606::1")
    found = await plan(lookup)
    assert described(found) == [("smtp", "mx1.b.example", 25), ("smtp", "mx2.b.example", 25)]
    assert found.hops[0].addresses == (ip_address("2606::1"), ip_address("8.8.8.8"))


@pytest.mark.covers("SMTP-7")
async def test_without_mx_the_domain_itself_is_the_exchanger() -> None:
    assert described(await plan(FakeLookup())) == [("smtp", "b.example", 25)]


@pytest.mark.covers("SMTP-7", "SEC-158")
async def test_null_mx_fails_at_once() -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = MxRecords((), null_mx=True)
    assert outcome(await plan(lookup)) == (Kind.FAILED, "5.1.10")
    assert lookup.asked == ["MX b.example"]


@pytest.mark.covers("SEC-163", "SMTP-7")
async def test_silence_about_mx_waits_and_never_falls_back_to_the_address() -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = LookupTemporary("SERVFAIL")
    found = await plan(lookup)
    assert outcome(found) == (Kind.DEFERRED, "4.4.3")
    assert found.unreachable
    assert lookup.asked == ["MX b.example"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (no_such_name(), (Kind.FAILED, "5.1.2")),
        (Unusable("MX without a host name"), (Kind.FAILED, "5.4.4")),
    ],
)
async def test_what_dns_knows_for_certain_fails(answer: Unusable, expected: tuple[Kind, str]) -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = answer
    assert outcome(await plan(lookup)) == expected


async def test_no_mx_and_no_address_fails() -> None:
    lookup = FakeLookup()
    lookup.address_answers["b.example"] = NoRecords("none")
    assert outcome(await plan(lookup)) == (Kind.FAILED, "5.4.4")


@pytest.mark.covers("SEC-163")
async def test_a_silent_host_is_passed_over_and_if_all_are_silent_mail_waits() -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = mx((10, "dark"), (20, "light"))
    lookup.address_answers["dark"] = LookupTemporary("time-out")
    assert described(await plan(lookup)) == [("smtp", "light", 25)]
    lookup.address_answers["light"] = NoRecords("none")
    assert outcome(await plan(lookup)) == (Kind.DEFERRED, "4.4.3")


@pytest.mark.covers("SMTP-7", "SEC-158")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "10.0.0.1"])
async def test_an_exchanger_at_a_private_address_is_refused(address: str) -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = mx((10, "localhost"))
    lookup.address_answers["localhost"] = (address,)
    found = await plan(lookup)
    assert outcome(found) == (Kind.FAILED, "5.4.4")


@pytest.mark.covers("SMTP-7")
async def test_private_destinations_open_the_way() -> None:
    lookup = FakeLookup()
    lookup.address_answers["b.example"] = ("127.0.3.1",)
    found = await plan(lookup, net=Net(private_destinations=("127.0.0.0/8",), smtp_port=2525))
    assert described(found) == [("smtp", "b.example", 2525)]


@pytest.mark.covers("SMTP-7", "SEC-168")
async def test_no_loop_to_ourselves_by_name_address_or_literal() -> None:
    lookup = FakeLookup()
    us = Ourselves(frozenset({"mx.us.example"}), frozenset({ip_address("8.8.4.4")}))
    lookup.mx_answers["b.example"] = mx((10, "mx.us.example"), (20, "other"))
    assert outcome(await plan(lookup, ourselves=us)) == (Kind.FAILED, "5.4.6")
    lookup.mx_answers["b.example"] = mx((10, "alias"), (20, "other"))
    lookup.address_answers["alias"] = ("8.8.4.4",)
    assert outcome(await plan(lookup, ourselves=us)) == (Kind.FAILED, "5.4.6")
    literal = HostWay("smtp", "8.8.4.4", 25, ip_address("8.8.4.4"), chosen_by_operator=False)
    assert outcome(await plan(lookup, way=literal, ourselves=us)) == (Kind.FAILED, "5.4.6")


@pytest.mark.covers("SMTP-7")
async def test_a_literal_of_a_stranger_is_guarded_and_one_of_the_operator_is_not() -> None:
    stranger = HostWay("smtp", "127.0.0.1", 25, ip_address("127.0.0.1"), chosen_by_operator=False)
    assert outcome(await plan(FakeLookup(), way=stranger)) == (Kind.FAILED, "5.4.4")
    operator = parse_way("smtp:[127.0.0.1]:2526")
    assert isinstance(operator, HostWay)
    lookup = FakeLookup()
    assert described(await plan(lookup, way=operator)) == [("smtp", "127.0.0.1", 2526)]
    assert lookup.asked == []


@pytest.mark.covers("QMTP-2", "TLS-4a")
async def test_mxps_names_qmtp_first_but_not_where_tls_is_demanded() -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = mx((12801, "q"))
    found = await plan(lookup, net=Net(qmtp_port=2090))
    assert described(found) == [("qmtp", "q", 2090), ("smtp", "q", 25)]
    strict = await plan(lookup, way=MxWay(TlsRequirement("encrypt")))
    assert described(strict) == [("smtp", "q", 25)]


async def test_a_unix_socket_needs_no_dns() -> None:
    way = parse_way("lmtp:unix:/run/lmtp")
    assert isinstance(way, HostWay)
    lookup = FakeLookup()
    found = await plan(lookup, way=way)
    assert found.hops[0].addresses == ("/run/lmtp",)
    assert lookup.asked == []


async def test_a_smart_host_is_looked_up_and_keeps_its_terms() -> None:
    way = HostWay("submission", "smart.example", 587, tls=TlsRequirement("verify"), username="us")
    lookup = FakeLookup()
    lookup.address_answers["smart.example"] = ("10.0.0.9",)
    (hop,) = (await plan(lookup, way=way)).hops
    assert (hop.tls.level, hop.username, hop.addresses) == ("verify", "us", (ip_address("10.0.0.9"),))


@pytest.mark.covers("SMTP-6")
@pytest.mark.parametrize("answer", [no_such_name(), NoRecords("none"), ("0.0.0.0",)])
async def test_a_configured_host_that_does_not_exist_costs_no_mail(
    answer: NoRecords | tuple[str, ...],
) -> None:
    lookup = FakeLookup()
    lookup.address_answers["smart.example"] = answer
    found = await plan(lookup, way=HostWay("smtp", "smart.example", 25))
    assert outcome(found) == (Kind.DEFERRED, "4.3.5")


@pytest.mark.covers("TLS-4a")
async def test_qmtp_is_never_used_where_a_detour_carries_a_demand_for_tls() -> None:
    way = HostWay("qmtp", "8.8.8.8", 209, ip_address("8.8.8.8"), tls=TlsRequirement("encrypt"))
    assert outcome(await plan(FakeLookup(), way=way)) == (Kind.DEFERRED, "4.7.4")


async def test_only_what_dnssec_vouches_for_as_a_whole_is_secure() -> None:
    lookup = FakeLookup()
    lookup.mx_answers["b.example"] = MxRecords((Exchanger(1, "a"),), secure=True)
    assert not (await plan(lookup)).hops[0].secure, "the addresses were not"
