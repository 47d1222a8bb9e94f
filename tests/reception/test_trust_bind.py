"""Every kind of list in DNS, served by BIND and asked through our resolver."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from outrider.config.schema import Trust, TrustList
from outrider.dns.resolver import DnsResolver, ResolverSettings
from outrider.model.facts import Facts, Provenance
from outrider.reception.trust_lookups import TrustParts, TrustSource
from outrider.runtime.lookup import DnsLookup
from outrider.trust.lists import compile_lists
from outrider.trust.observer import NullTrustObserver
from outrider.trust.questions import Said
from outrider.trust.subjects import Role, Subject
from tests.peers.bind import BindServer

LISTED_V6 = "1.0.0.0" + ".0" * 20 + ".8.b.d.0.1.0.0.2"
ZONES = {
    "zen.example": f"2.0.0.127 A 127.0.0.2\n7.2.0.192 A 127.0.0.4\n8.2.0.192 A 127.255.255.254\n"
    f"9.2.0.192 A 203.0.113.80\n10.2.0.192 CNAME 7.2.0.192\n11.2.0.192 TXT only\n"
    f"12.2.0.192 CNAME 12.2.0.192\n{LISTED_V6} A 127.0.0.2",
    "much.example": "\n".join(f"1.2.0.192 A 127.0.1.{number}" for number in range(90))
    + "\ngood.example._vouch TXT "
    + '"" ' * 200
    + "\nbad.example._vouch TXT "
    + f'"{"x" * 200}" ' * 20,
    "wl.example": "2.0.0.127 A 127.0.0.2\n7.2.0.192 A 127.0.10.3",
    "dbl.example": "test A 127.0.1.2\nbad.example A 127.0.1.2",
    "swl.example": "test A 127.0.0.2\ngood.example A 127.0.0.2",
    "dead.example": "* A 127.0.0.2",
    "vouch.example": 'good.example._vouch TXT "transaction list"\nsmall.example._vouch TXT "list"\n'
    'two.example._vouch TXT "all"\ntwo.example._vouch TXT "transaction"',
    "issuers.example": "badca.example A 127.0.0.2",
}
LISTS = {
    "zen": TrustList(kind="dnsbl", source="zen.example", weight=3),
    "wl": TrustList(kind="dnswl", source="wl.example", weight=1, codes=("127.0.10.0/24",)),
    "dbl": TrustList(kind="rhsbl", source="dbl.example", weight=2),
    "swl": TrustList(kind="rhswl", source="swl.example", weight=2),
    "vouch": TrustList(kind="vbr", source="vouch.example", weight=5, codes=("transaction",)),
    "cas": TrustList(kind="issuer", source="issuers.example", weight=4),
}


@pytest.fixture(scope="module")
def bind() -> Iterator[BindServer]:
    with BindServer(ZONES) as server:
        yield server


@pytest.fixture
async def resolver(bind: BindServer) -> AsyncIterator[DnsResolver]:
    resolver = DnsResolver(ResolverSettings.from_config([f"{bind.address}:{bind.port}"], timeout_s=5.0))
    yield resolver
    await resolver.aclose()


def source(resolver: DnsResolver, lists: dict[str, TrustList] | None = None) -> TrustSource:
    named = compile_lists(Trust(lists=lists or LISTS))
    parts = TrustParts(named, {}, DnsLookup(resolver), NullTrustObserver(), time.monotonic, 900.0)
    return TrustSource(parts)


@pytest.mark.covers("ITP-3", "SEC-157")
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.7", Said.HIT),
        ("192.0.2.1", Said.MISS),
        ("192.0.2.8", Said.REFUSED),
        ("192.0.2.9", Said.MISS),
        ("192.0.2.10", Said.HIT),
        ("192.0.2.11", Said.MISS),
        ("192.0.2.12", Said.SILENT),
        ("2001:db8::1", Said.HIT),
        ("2001:db8::2", Said.MISS),
        ("::ffff:192.0.2.7", Said.HIT),
    ],
)
async def test_addresses(resolver: DnsResolver, address: str, said: Said) -> None:
    asked = source(resolver, {"zen": LISTS["zen"]})
    assessment = await asked.assess([Subject(Role.CLIENT, address, True)])
    assert [finding.answer.said for finding in assessment.findings] == [said]


def transaction(domain: str, *, certificate: tuple[str, ...] = (), client: str = "192.0.2.1") -> Facts:
    facts = Facts()
    facts.prove("client.address", client, "TCP")
    if certificate:
        facts.prove("tls.client.name", certificate, "path to a CA of the public set")
    facts.claim("sender", f"ann@{domain}")
    facts.claim("sender.domain", domain)
    return facts


async def judged(resolver: DnsResolver, facts: Facts, issuers: tuple[str, ...] = ()) -> Facts:
    await source(resolver).fetch({"trust.score"}, facts, facts, issuers, 0.0)
    return facts


@pytest.mark.covers("ITP-3", "ITP-1")
async def test_lists_of_every_kind_together(resolver: DnsResolver) -> None:
    stranger = await judged(resolver, transaction("nobody.example"))
    assert (stranger.value("trust.score"), stranger.value("trust.listed")) == (0, ())
    both = await judged(resolver, transaction("bad.example", client="192.0.2.7"), ("badca.example",))
    assert both.value("trust.score") == 3 + 2 + 4 - 1
    assert both.value("trust.listed") == ("zen", "cas", "dbl")
    assert both.value("trust.vouched") == ("wl",)
    forger = await judged(resolver, transaction("good.example"))
    assert forger.value("trust.score") == 0
    assert forger.get("sender.domain.vouched", Provenance.VOUCHED) is None
    assert forger.value("sender.domain.vouched") == ("swl",)
    good = await judged(resolver, transaction("good.example", certificate=("good.example",)))
    assert good.value("trust.score") == -7
    assert good.value("sender.domain.vouched", Provenance.VOUCHED) == ("swl", "vouch")


@pytest.mark.covers("ITP-3")
async def test_a_vouching_service_names_the_types_of_mail(resolver: DnsResolver) -> None:
    for domain in ("small.example", "two.example", "nobody.example"):
        facts = await judged(resolver, transaction(domain, certificate=(domain,)))
        assert facts.value("trust.vouched") == (), domain


@pytest.mark.covers("ITP-3")
async def test_a_zone_that_answers_to_everything_lists_nobody(resolver: DnsResolver) -> None:
    for kind in ("dnsbl", "rhsbl"):
        asked = source(resolver, {"dead": TrustList(kind=kind, source="dead.example")})  # type: ignore[arg-type]
        facts = transaction("bad.example", client="192.0.2.7")
        await asked.fetch({"trust.listed"}, facts, facts, (), 0.0)
        assert (facts.value("trust.listed"), facts.value("trust.score")) == ((), 0)


@pytest.mark.covers("ITP-3", "SEC-159")
async def test_answers_of_any_size_are_taken_as_far_as_they_matter(resolver: DnsResolver) -> None:
    asked = source(resolver, {"much": TrustList(kind="dnsbl", source="much.example")})
    assessment = await asked.assess([Subject(Role.CLIENT, "192.0.2.1", True)])
    [finding] = assessment.findings
    assert finding.answer.said is Said.HIT
    assert len(finding.answer.detail) < 80
    vouching = source(resolver, {"much": TrustList(kind="vbr", source="much.example")})
    for domain in ("good.example", "bad.example"):
        assessment = await vouching.assess([Subject(Role.DOMAIN, domain, True)])
        assert [one.answer.said for one in assessment.findings] == [Said.MISS]


async def test_which_lists_are_alive(resolver: DnsResolver) -> None:
    lists = {**LISTS, "dead": TrustList(kind="dnsbl", source="dead.example")}
    lists["gone"] = TrustList(kind="rhsbl", source="gone.zen.example")
    asked = source(resolver, lists)
    states = {one.name: await asked.probe(one) for one in asked._parts.lists}
    # The issuers' zone has no test entry.
    assert {name for name, state in states.items() if state} == {"dead", "gone", "cas"}
    assert states["dead"] == "1.0.0.127.dead.example: 127.0.0.2"
