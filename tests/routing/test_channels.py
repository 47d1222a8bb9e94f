"""Which protocols lead to a destination: the operator's order, a partner's terms, and what never weakens
them."""

from __future__ import annotations

import pytest

from outrider.config.schema import Amtp, Config, Delivery, Domain, Mt2, Partner, Route
from outrider.model.address import parse_address
from outrider.model.envelope import Arrival, Recipient
from outrider.routing.channels import ANY_CHANNEL, Channel, channel_for
from outrider.routing.routes import RouteError, RouteTable
from outrider.routing.ways import ErrorWay, HostWay, LocalWay, MxWay, Way

LOCAL = {"alpha.example": Domain(deliver="maildir:/mail/{user}")}
ALL = frozenset({"mt2", "amtp", "smtp"})
BANK = Partner(sender_domains=("bank.example",), hosts=("gate.bank.example",), ca=("bank.pem",))


def table(
    routes: dict[str, str | Route] | None = None,
    partner: Partner | None = None,
    delivery: Delivery | None = None,
    amtp: Amtp | None = None,
    mt2: Mt2 | None = None,
) -> RouteTable:
    return RouteTable(
        Config(
            hostname="mx.alpha.example",
            data_dir="/nonexistent",
            routes=routes or {},
            domains=LOCAL,
            delivery=delivery or Delivery(),
            amtp=amtp or Amtp(),
            mt2=mt2 or Mt2(),
            partners={"bank": partner} if partner is not None else {},
        )
    )


def way(found: RouteTable, address: str = "ann@bank.example", route: str = "") -> Way:
    return found.find(Recipient(parse_address(address), route=route)).way


def by_dns(found: RouteTable, address: str = "ann@bank.example", route: str = "") -> MxWay:
    it = way(found, address, route)
    assert isinstance(it, MxWay)
    return it


def partner(outbound: str, **settings: object) -> Partner:
    named = {"sender_domains": BANK.sender_domains, "hosts": BANK.hosts, "ca": BANK.ca, **settings}
    return Partner(outbound=outbound, **named)  # type: ignore[arg-type]


# --- the operator's order ---------------------------------------------------------------------------


@pytest.mark.covers("ITP-7", "AMTP-8")
def test_by_default_the_protocols_that_prove_more_come_first_and_smtp_may_follow() -> None:
    assert by_dns(table()).channel == ANY_CHANNEL == Channel(("mt2", "amtp", "smtp"))


@pytest.mark.covers("ITP-7", "AMTP-8")
def test_order_and_fallback_are_set_for_all_and_for_one_domain() -> None:
    found = table(
        {
            "only.example": Route(to="mx", protocols=("amtp",)),
            "never.example": Route(to="mx", protocols=("smtp",)),
            "may.example": Route(to="mx", fallback="smtp"),
        },
        delivery=Delivery(protocols=("smtp", "amtp")),
        amtp=Amtp(fallback="never"),
    )
    assert by_dns(found).channel == Channel(("smtp", "amtp"), frozenset({"amtp"}))
    assert by_dns(found, "ann@only.example").channel.protocols == ("amtp",)
    assert by_dns(found, "ann@never.example").channel.protocols == ("smtp",)
    assert not by_dns(found, "ann@may.example").channel.stays


@pytest.mark.parametrize("protocols", [(), ("amtp", "amtp")])
def test_an_order_that_means_nothing_is_refused(protocols: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at most once"):
        channel_for(protocols)  # type: ignore[arg-type]
    with pytest.raises(RouteError, match=r"delivery\.protocols"):
        table(delivery=Delivery(protocols=protocols))  # type: ignore[arg-type]


def test_protocols_beside_a_way_that_names_its_own_are_refused() -> None:
    with pytest.raises(RouteError, match="name their protocol"):
        table({"b.example": Route(to="smtp:mx.b.example", protocols=("amtp",))})


@pytest.mark.covers("AMTP-19", "AMTP-6")
def test_a_named_host_is_reached_by_amtp_at_the_port_of_the_protocol_or_its_own() -> None:
    routes: dict[str, str | Route] = {
        "a.example": "amtp:gate.a.example",
        "b.example": "amtp:gate.b.example:2525",
    }
    found = table(routes, amtp=Amtp(port=4321))
    assert str(way(found, "x@a.example")) == "amtp:gate.a.example:4321"
    assert str(way(found, "x@b.example")) == "amtp:gate.b.example:2525"
    with pytest.raises(RouteError, match="TLS from the first octet"):
        table({"a.example": Route(to="amtp:gate.a.example", tls="none")})


# --- partners ---------------------------------------------------------------------------------------


@pytest.mark.covers("ITP-7")
def test_a_partner_that_demands_amtp_gets_nothing_else() -> None:
    found = by_dns(table(partner=partner("amtp")))
    assert found.channel.protocols == ("amtp",)
    assert found.channel.is_strict
    assert found.channel.partner == "bank"
    assert found.channel.hosts.covers("gate.bank.example")
    assert found.tls.authorities == ("bank.pem",)


@pytest.mark.covers("ITP-7", "TLS-4a")
@pytest.mark.parametrize(
    ("outbound", "level"), [("encrypt", "encrypt"), ("mutual", "mutual"), ("any", "verify")]
)
def test_the_stronger_of_two_demands_holds(outbound: str, level: str) -> None:
    default = Delivery(tls="verify" if outbound == "any" else "opportunistic")
    assert by_dns(table(partner=partner(outbound), delivery=default)).tls.level == level


@pytest.mark.covers("ITP-7")
@pytest.mark.parametrize("key", ["*", ".example"])
def test_a_route_for_many_does_not_carry_a_partners_mail_by_less_than_it_demands(key: str) -> None:
    routes: dict[str, str | Route] = {key: "smtp:smart.example"}
    assert isinstance(way(table(routes, partner("any"))), HostWay)
    assert by_dns(table(routes, partner("amtp"))).channel.protocols == ("amtp",)
    tighter = way(table(routes, partner("verify")))
    assert isinstance(tighter, HostWay)
    assert tighter.tls.level == "verify"


@pytest.mark.covers("ITP-7")
@pytest.mark.parametrize(
    ("to", "outbound"), [("smtp:other.example", "amtp"), ("qmtp:other.example", "encrypt")]
)
def test_an_exact_route_that_cannot_meet_a_partners_demand_is_refused(to: str, outbound: str) -> None:
    with pytest.raises(RouteError, match=r'routes\."bank\.example".*partner bank'):
        table({"bank.example": to}, partner(outbound))


@pytest.mark.covers("ITP-7")
def test_an_exact_route_by_amtp_meets_it() -> None:
    found = way(table({"bank.example": "amtp:gate.bank.example"}, partner("amtp")))
    assert isinstance(found, HostWay)
    assert found.protocol == "amtp"
    assert found.tls.authorities == ("bank.pem",)


@pytest.mark.covers("ITP-7")
def test_a_detour_never_leads_below_what_a_partner_or_the_route_demands() -> None:
    demanded_by_partner = way(table(partner=partner("amtp")), route="smtp:other.example")
    demanded_by_route = way(
        table({"bank.example": Route(to="mx", protocols=("amtp",))}), route="smtp:other.example"
    )
    for found in (demanded_by_partner, demanded_by_route):
        assert isinstance(found, ErrorWay)
        assert found.status == "4.7.4"
        assert "amtp" in found.text
    assert isinstance(way(table(partner=partner("amtp")), route="amtp:gate.bank.example"), HostWay)
    assert by_dns(table(partner=partner("amtp")), route="mx").channel.protocols == ("amtp",)


@pytest.mark.covers("ITP-7")
def test_a_partners_word_on_falling_back_goes_before_the_general_one_and_never_loosens_a_route() -> None:
    assert by_dns(table(partner=partner("any", fallback="never"))).channel.stays == ALL
    lenient = partner("any", fallback="smtp")
    assert not by_dns(table(partner=lenient, amtp=Amtp(fallback="never"))).channel.stays
    strict = Route(to="mx", fallback="never")
    assert by_dns(table({"bank.example": strict}, lenient)).channel.stays == ALL
    assert by_dns(table({"*": strict}, lenient)).channel.stays == ALL


# --- what came over a public connection (AMTP-18) ---------------------------------------------------


@pytest.mark.covers("AMTP-18")
@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("ann@alpha.example", True),
        ("ann@private.example", True),
        ("ann@lmtp.example", True),
        ("ann@public.example", False),
        ("ann@by-records.example", False),
        ("ann@[192.0.2.1]", False),
    ],
)
def test_public_mail_leaves_only_by_what_the_operator_has_named(address: str, may: bool) -> None:
    found = table(
        {
            "private.example": "amtp:gate.private.example",
            "lmtp.example": "lmtp:unix:/run/lmtp",
            "by-records.example": "mx",
        }
    )
    recipient = Recipient(parse_address(address))
    assert found.may_leave(recipient, Arrival.AMTP_PUBLIC) is may
    assert found.may_leave(recipient, Arrival.AMTP_PRIVATE)
    assert found.may_leave(recipient, Arrival.OTHER)


@pytest.mark.covers("AMTP-18")
def test_mail_for_this_machine_stays_on_it() -> None:
    assert isinstance(way(table(), "ann@alpha.example"), LocalWay)


# --- MT2: fallback of its own, recipients' and extensions' routes (MT2-27) ----------------------------


@pytest.mark.covers("ITP-7")
def test_each_protocol_has_its_own_word_on_falling_back() -> None:
    found = by_dns(table(mt2=Mt2(fallback="never")))
    assert found.channel.stays == frozenset({"mt2"})
    strict = by_dns(table(partner=partner("mt2")))
    assert strict.channel.protocols == ("mt2",)
    with pytest.raises(RouteError, match="demands"):
        table({"bank.example": "amtp:gate.bank.example"}, partner("mt2"))


@pytest.mark.covers("MT2-27")
def test_a_recipient_may_have_a_route_of_his_own() -> None:
    routes: dict[str, str | Route] = {
        "Ann@alpha.example": "mt2:ann.alpha.example",
        "bank.example": "smtp:mx.bank.example",
        "vip@bank.example": Route(to="mt2:vault.bank.example:4000", tls="verify"),
    }
    found = table(routes, mt2=Mt2(port=4321))
    assert str(way(found, "ann@alpha.example")) == "mt2:ann.alpha.example:4321"
    assert isinstance(way(found, "bob@alpha.example"), LocalWay)
    vip = way(found, "VIP@bank.example")
    assert isinstance(vip, HostWay)
    assert (str(vip), vip.tls.level) == ("mt2:vault.bank.example:4000", "verify")
    assert str(way(found, "joe@bank.example")) == "smtp:mx.bank.example:25"
    assert found.find(Recipient(parse_address("vip@bank.example"))).lane == "mt2:vault.bank.example:4000"
    with pytest.raises(RouteError, match="is no address"):
        table({"a b@x.example": "mx"})
    with pytest.raises(RouteError, match="vip@bank"):
        table({"vip@bank.example": "smtp:x.example"}, partner("mt2"))


@pytest.mark.covers("MT2-27")
def test_a_message_with_an_extension_may_have_a_route_of_its_own() -> None:
    settings = Mt2(extension_routes={"2.25.7": "mt2:stamps.alpha.example", "2.25.8": "mx"})
    found = table(mt2=settings)
    assert found.extension_route(["2.25.1"]) == ""
    route = found.extension_route(["2.25.1", "2.25.7", "2.25.8"])
    assert str(way(found, "ann@alpha.example", route)) == "mt2:stamps.alpha.example:10126"
    for oid, to in (("stamps", "mx"), ("2.25.7", "nowhere")):
        with pytest.raises(RouteError, match=r"mt2\.extension_routes"):
            table(mt2=Mt2(extension_routes={oid: to}))
