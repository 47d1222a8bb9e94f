"""ISC BIND as the judge: of the resolver, of the small Internet's server, and of DNSSEC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address

import dns.dnssec
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from outrider.dns.answers import DnsError, DnsTemporary, NoSuchDomain, Resolver
from outrider.dns.resolver import DnsResolver
from outrider.playground.dns_server import DnsServer
from outrider.playground.zones import ZoneSet
from tests.dns.bind import Bind
from tests.dns.resolvers import resolver_for
from tests.peers.addresses import loopback_address

ZONES = {
    "alpha.example": {
        "@": {"MX": ["10 mx1", "20 mx2.alpha.example."], "TXT": ['v=spf1 "quoted" -all', "y" * 700]},
        "mx1": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
        "mx2": {"CNAME": ["mx1"]},
        "far": {"CNAME": ["long.name.alpha.example."]},
        "long.name": {"CNAME": ["mx2"]},
        "dead": {"CNAME": ["gone"]},
        "null": {"MX": ["0 ."]},
        "*.wild": {"MX": ["5 mx1"]},
        "real.wild": {"A": ["192.0.2.3"]},
        "_amtp._tcp": {"SRV": ["0 0 2525 mx1", "1 1 2526 mx1"]},
        "many": {
            "A": [f"10.1.{number >> 8}.{number & 255}" for number in range(90)]
        },  # BIND takes at most 100
        "xn--bcher-kva": {"MX": ["10 mx1"]},
        "tls": {"TLSA": ["3 1 1 " + "cd" * 32]},
    },
    "2.0.192.in-addr.arpa": {
        "1": {"PTR": ["mx1.alpha.example."]},
        "2": {"CNAME": ["2.0-127"]},
        "2.0-127": {"PTR": ["mx1.alpha.example."]},
        "3": {"PTR": ["bank.alpha.example."]},
    },
}
ASKED = [
    *(("mx", name) for name in ("alpha.example", "ALPHA.example.", "null.alpha.example")),
    *(("mx", name) for name in ("bücher.alpha.example", "x.wild.alpha.example", "x.y.wild.alpha.example")),
    *(("mx", name) for name in ("real.wild.alpha.example", "x.real.wild.alpha.example", "elsewhere.test")),
    *(("mx", name) for name in ("missing.alpha.example", "name.alpha.example", "dead.alpha.example")),
    ("mx", "mx1.alpha.example"),
    *(("addresses", name) for name in ("mx1.alpha.example", "mx2.alpha.example", "far.alpha.example")),
    *(("addresses", name) for name in ("alpha.example", "dead.alpha.example", "missing.alpha.example")),
    *(("txt", name) for name in ("alpha.example", "mx1.alpha.example")),
    *(("srv", name) for name in ("_amtp._tcp.alpha.example", "_mt2._tcp.alpha.example")),
    *(("ptr", address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "198.51.100.1")),
    *(("forward_confirmed", address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")),
]


@pytest.fixture(scope="module")
def authoritative() -> Iterator[Bind]:
    """BIND with the zones of the small Internet, from the master files that it writes."""
    zones = ZoneSet(ZONES)
    with Bind({origin: zones.master_file(origin) for origin in ZONES}) as bind:
        yield bind


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer(ZoneSet(ZONES), loopback_address()) as running:
        yield running


async def outcome(resolver: Resolver, kind: str, subject: str) -> object:
    """Return the answer, order of records apart, or the kind of error."""
    argument = ip_address(subject) if kind in ("ptr", "forward_confirmed") else subject
    try:
        answer = await getattr(resolver, kind)(argument)
    except DnsError as error:
        return type(error)
    for several in ("addresses", "texts"):
        if hasattr(answer, several):
            return sorted(getattr(answer, several), key=str), answer.ttl_s
    return answer


@pytest.mark.covers("SMTP-7", "SEC-154", "SEC-157")
@pytest.mark.parametrize(("kind", "subject"), ASKED)
async def test_the_resolver_learns_the_same_from_bind_and_from_our_server(
    authoritative: Bind, server: DnsServer, kind: str, subject: str
) -> None:
    async with resolver_for(authoritative.endpoint) as by_bind, resolver_for(server.endpoint) as by_ours:
        expected = await outcome(by_bind, kind, subject)
        assert await outcome(by_ours, kind, subject) == expected


async def test_bind_s_answers_are_what_the_zones_say(authoritative: Bind) -> None:
    """So that the comparison above compares something."""
    async with resolver_for(authoritative.endpoint) as resolver:
        assert [host.host for host in (await resolver.mx("alpha.example")).hosts] == [
            "mx1.alpha.example",
            "mx2.alpha.example",
        ]
        far = await resolver.addresses("far.alpha.example")
        assert (far.canonical_name, len(far.addresses)) == ("mx1.alpha.example", 3)
        assert set((await resolver.txt("alpha.example")).texts) == {b'v=spf1 "quoted" -all', b"y" * 700}
        assert (await resolver.mx("null.alpha.example")).null_mx
        assert (await resolver.forward_confirmed(ip_address("192.0.2.2"))).name == "mx1.alpha.example"
        assert (await resolver.forward_confirmed(ip_address("192.0.2.3"))).name is None
        assert (await resolver.query("tls.alpha.example", "TLSA")).records[0].to_text().startswith("3 1 1")


@pytest.mark.covers("SEC-159")
async def test_bind_truncates_and_tcp_brings_the_rest(authoritative: Bind) -> None:
    async with resolver_for(authoritative.endpoint) as resolver:
        assert len((await resolver.addresses("many.alpha.example")).addresses) == 90


@pytest.mark.parametrize(
    ("name", "rdtype"),
    [
        *(("alpha.example", rdtype) for rdtype in ("MX", "A", "NS", "SOA", "TXT")),
        *(("far.alpha.example", rdtype) for rdtype in ("A", "MX", "CNAME")),
        *(("x.wild.alpha.example", rdtype) for rdtype in ("MX", "A")),
        *((f"{name}.alpha.example", "MX") for name in ("name", "missing", "dead", "x.real.wild", "wild")),
        ("elsewhere.test", "MX"),
        ("2.2.0.192.in-addr.arpa", "PTR"),
    ],
)
async def test_our_server_answers_like_bind(
    authoritative: Bind, server: DnsServer, name: str, rdtype: str
) -> None:
    query = dns.message.make_query(name, rdtype, payload=1232)
    ours = dns.message.from_wire(server.respond(query.to_wire(), 0) or b"")
    theirs = dns.query.udp(query, authoritative.address, 5, authoritative.port)
    assert ours.rcode() == theirs.rcode()
    assert ours.flags == theirs.flags
    assert sorted(ours.answer, key=str) == sorted(theirs.answer, key=str)
    assert [rrset.to_rdataset() for rrset in ours.authority if rrset.rdtype != dns.rdatatype.NS] == [
        rrset.to_rdataset() for rrset in theirs.authority if rrset.rdtype != dns.rdatatype.NS
    ]


# -- DNSSEC -----------------------------------------------------------------------------------------------


def signed(zones: ZoneSet, origin: str) -> tuple[str, DNSKEY]:
    """Return the zone's master file, signed, and the key to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    dnskey = dns.dnssec.make_dnskey(key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
    zone = dns.zone.from_text(zones.master_file(origin), origin, relativize=False)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, keys=[(key, dnskey)], add_dnskey=True, lifetime=86_400)
    return zone.to_text(relativize=False), dnskey


def anchor(origin: str, key: DNSKEY) -> str:
    flags, protocol, algorithm, *octets = key.to_text().split()
    return f'{origin} static-key {flags} {protocol} {algorithm} "{"".join(octets)}";'


SIGNED_ZONES = {
    "signed.test": {"@": {"MX": ["10 mx"]}, "mx": {"A": ["192.0.2.1"]}, "out": {"CNAME": ["mx.plain.test."]}},
    "bogus.test": {"@": {"MX": ["10 mx"]}, "mx": {"A": ["192.0.2.1"]}},
    "plain.test": {"@": {"MX": ["10 mx"]}, "mx": {"A": ["192.0.2.1"]}},
}


@pytest.fixture(scope="module")
def validator() -> Iterator[Bind]:
    """A validating BIND: `bogus.test` has another key than the trusted one, `plain.test` has none."""
    zones = ZoneSet(SIGNED_ZONES)
    good, good_key = signed(zones, "signed.test")
    bogus, _ = signed(zones, "bogus.test")
    _, other_key = signed(zones, "bogus.test")
    files = {"signed.test": good, "bogus.test": bogus, "plain.test": zones.master_file("plain.test")}
    anchors = "".join(anchor(*pair) for pair in (("signed.test", good_key), ("bogus.test", other_key)))
    with (
        Bind(files) as authority,
        Bind(
            {},
            options="recursion yes; dnssec-validation yes;",
            statements=f"trust-anchors {{ {anchors} }};",
            forwarder=f"{authority.address} port {authority.port};",
        ) as resolver,
    ):
        yield resolver


@pytest.fixture
async def trusting(validator: Bind) -> AsyncIterator[DnsResolver]:
    async with resolver_for(validator.endpoint, validating=True) as resolver:
        yield resolver


@pytest.mark.covers("ITP-2c")
async def test_what_a_validating_resolver_on_loopback_proved_is_secure(trusting: DnsResolver) -> None:
    assert (await trusting.mx("signed.test")).secure
    assert (await trusting.addresses("mx.signed.test")).secure
    assert (await trusting.query("signed.test", "DNSKEY")).secure


@pytest.mark.covers("ITP-2c")
async def test_unsigned_answers_are_not_secure(trusting: DnsResolver) -> None:
    plain = await trusting.mx("plain.test")
    assert (len(plain.hosts), plain.secure) == (1, False)
    assert not (await trusting.addresses("out.signed.test")).secure  # signed alias, unsigned end


@pytest.mark.covers("ITP-2c", "SEC-163")
async def test_a_bogus_answer_is_no_answer(trusting: DnsResolver) -> None:
    with pytest.raises(DnsTemporary, match="SERVFAIL"):
        await trusting.mx("bogus.test")


@pytest.mark.covers("ITP-2c")
async def test_a_resolver_that_is_not_marked_as_validating_proves_nothing(validator: Bind) -> None:
    async with resolver_for(validator.endpoint) as resolver:
        answer = await resolver.mx("signed.test")
        assert (len(answer.hosts), answer.secure) == (1, False)


@pytest.mark.covers("SEC-157")
async def test_a_recursing_server_is_answered_as_it_should_be(validator: Bind, trusting: DnsResolver) -> None:
    with pytest.raises(NoSuchDomain):
        await trusting.mx("missing.signed.test")
    answer = await trusting.addresses("out.signed.test")
    assert answer.canonical_name == "mx.plain.test"


# -- BIND as our server's client --------------------------------------------------------------------------


async def test_bind_resolves_from_our_server(server: DnsServer) -> None:
    forwarder = f"{server.address} port {server.port};"
    with Bind({}, options="recursion yes; dnssec-validation no;", forwarder=forwarder) as bind:
        async with resolver_for(bind.endpoint) as resolver:
            assert len((await resolver.mx("alpha.example")).hosts) == 2
            assert len((await resolver.addresses("many.alpha.example")).addresses) == 90
            assert (await resolver.forward_confirmed(ip_address("192.0.2.2"))).name == "mx1.alpha.example"
            with pytest.raises(NoSuchDomain):
                await resolver.mx("missing.alpha.example")
