"""Which way leads where: order of look-up, detours, literals, TLS terms that go with the mail."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from outrider.config.schema import Config, Delivery, Domain, Net, Route
from outrider.model.address import parse_address
from outrider.model.envelope import Recipient
from outrider.routing.routes import RouteError, RouteTable
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import ErrorWay, HostWay, LocalWay, MxWay


def config(
    routes: dict[str, str | Route] | None = None,
    domains: dict[str, Domain] | None = None,
    delivery: Delivery | None = None,
) -> Config:
    return Config(
        hostname="mx.alpha.example",
        data_dir="/nonexistent",
        routes=routes or {},
        domains=domains or {},
        delivery=delivery or Delivery(),
        net=Net(smtp_port=2525),
    )


def to(address: str, route: str = "") -> Recipient:
    return Recipient(parse_address(address), route=route)


LOCAL = {"alpha.example": Domain(deliver="maildir:/mail/{user}")}


@pytest.mark.covers("SMTP-7")
@pytest.mark.parametrize(
    ("domain", "way"),
    [
        ("gamma.example", "smtp:exact.example:25"),
        ("x.gamma.example", "smtp:near.example:25"),
        ("y.x.gamma.example", "smtp:near.example:25"),
        ("example", "smtp:smart.example:25"),
        ("deep.example", "smtp:far.example:25"),
        ("other.test", "smtp:smart.example:25"),
        ("[192.0.2.9]", "smtp:smart.example:25"),
        ("alpha.example", "maildir:/mail/{user}"),
    ],
)
def test_exact_then_local_then_longest_parent_then_star(domain: str, way: str) -> None:
    table = RouteTable(
        config(
            {
                "gamma.example": "smtp:exact.example",
                ".gamma.example": "smtp:near.example",
                ".example": "smtp:far.example",
                "*": "smtp:smart.example",
            },
            LOCAL,
        )
    )
    assert str(table.find(to(f"bob@{domain}")).way) == way


def test_an_exact_route_wins_over_a_local_domain_and_nothing_else_does() -> None:
    assert isinstance(RouteTable(config({"*": "discard:"}, LOCAL)).find(to("a@alpha.example")).way, LocalWay)
    exact = RouteTable(config({"alpha.example": "smtp:inner.example"}, LOCAL))
    assert isinstance(exact.find(to("a@alpha.example")).way, HostWay)
    assert exact.is_local("alpha.example")


def test_without_a_route_a_domain_goes_by_mx_and_a_literal_to_its_address() -> None:
    table = RouteTable(config())
    assert table.find(to("a@b.example")).way == MxWay()
    way = table.find(to("a@[192.0.2.9]")).way
    assert way == HostWay("smtp", "192.0.2.9", 2525, IPv4Address("192.0.2.9"), chosen_by_operator=False)


def test_lanes_are_hosts_for_hosts_and_domains_otherwise() -> None:
    table = RouteTable(config({"*": "smtp:smart.example", "m.example": "mx"}, LOCAL))
    assert table.find(to("a@x.example")).lane == "smtp:smart.example:25"
    assert table.find(to("a@y.example")).lane == "smtp:smart.example:25"
    assert table.find(to("a@m.example")).lane == "m.example"
    assert table.find(to("a@alpha.example")).lane == "alpha.example"


def test_limits_come_from_the_route_and_else_from_delivery() -> None:
    routes: dict[str, str | Route] = {
        "slow.example": Route(to="mx", concurrency=2, rate=0.5),
        "*": Route(to="smtp:s.example"),
    }
    table = RouteTable(config(routes, delivery=Delivery(concurrency=7)))
    slow, rest = table.find(to("a@slow.example")), table.find(to("a@b.example"))
    assert (slow.concurrency, slow.rate) == (2, 0.5)
    assert (rest.concurrency, rest.rate) == (7, 0.0)


@pytest.mark.covers("TLS-4a", "ITP-7")
def test_a_detour_never_weakens_what_is_demanded_for_the_destination() -> None:
    table = RouteTable(config({"bank.example": Route(to="mx", tls="verify", tls_name="mx.bank.example")}))
    detour = table.find(to("a@bank.example", route="smtp:[192.0.2.7]:25")).way
    assert isinstance(detour, HostWay)
    assert detour.tls == TlsRequirement("verify", "mx.bank.example")
    assert table.find(to("a@other.example", route="smtp:[192.0.2.7]:25")).way.tls.level == "opportunistic"  # type: ignore[union-attr]


def test_a_detour_to_a_host_with_an_entry_has_its_login_and_limits() -> None:
    entry = Route(to="submission:smart.example", username="us", password_file="/p", concurrency=3)
    table = RouteTable(config({"*": entry}))
    routed = table.find(to("a@b.example", route="submission:smart.example:587"))
    assert isinstance(routed.way, HostWay)
    assert (routed.way.username, routed.concurrency) == ("us", 3)


def test_a_stored_route_that_is_unreadable_makes_mail_wait() -> None:
    way = RouteTable(config()).find(to("a@b.example", route="pigeon:coop")).way
    assert isinstance(way, ErrorWay)
    assert way.status == "4.3.5"


@pytest.mark.covers("TLS-4a")
def test_a_login_raises_opportunistic_to_encrypt() -> None:
    table = RouteTable(config({"*": Route(to="submission:s.example", username="us")}))
    way = table.find(to("a@b.example")).way
    assert isinstance(way, HostWay)
    assert way.tls.level == "encrypt"


@pytest.mark.parametrize(
    ("key", "route", "word"),
    [
        ("b.example", "smtp:1.2.3.4", r'routes\."b\.example": .*brackets'),
        ("b..example", "mx", r'routes\."b\.\.example": .*no domain'),
        ("b.example", Route(to="mx", tls="fingerprint"), "needs fingerprints"),
        ("b.example", Route(to="mx", fingerprints=("x",)), "count only"),
        ("b.example", Route(to="mx", certificate="x"), "go together"),
        ("b.example", Route(to="smtp:h.example", username="u", tls="none"), "only under TLS"),
    ],
)
def test_a_mistake_names_its_key(key: str, route: str | Route, word: str) -> None:
    with pytest.raises(RouteError, match=word):
        RouteTable(config({key: route}))


def test_a_mistake_in_deliver_names_its_key() -> None:
    with pytest.raises(RouteError, match=r'domains\."a\.example"\.deliver'):
        RouteTable(config(domains={"a.example": Domain(deliver="maildir:x")}))


@pytest.mark.covers("AMDP-12")
def test_what_waits_for_holders_has_a_lane_of_its_own() -> None:
    """Mailboxes of the domain are not kept waiting by a holder that does not answer."""
    table = RouteTable(config(domains=LOCAL))
    mailbox = table.find(to("ann@alpha.example"))
    callback = table.find(to("ann@alpha.example", "amdp-callback:"))
    fetch = table.find(to("ann@alpha.example", "amdp-fetch:"))
    assert len({mailbox.lane, callback.lane, fetch.lane}) == 3
    assert callback.concurrency > mailbox.concurrency
