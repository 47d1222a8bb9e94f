"""Who is behind an MT2 certificate: each way of validation, each refusal by itself (MT2-22, 24, 25)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from outrider.config.schema import Mt2Validation
from outrider.identity.authorities import CaStores
from outrider.identity.checks import Check
from outrider.identity.delegated_authorities import (
    AuthorityLookupFailed,
    LookupsExhausted,
    PublishedAnchor,
)
from outrider.identity.host_identity import HostSettings, ServerIdentity, ServerJudge, ServerQuestion
from outrider.identity.mt2_peers import (
    MT2_SERVICE,
    Found,
    GatewayWord,
    Mt2Check,
    Mt2Identity,
    Mt2IdentityFailure,
    Mt2IdentitySettings,
    Mt2Peers,
    PartnerCas,
    Way,
)
from outrider.identity.revocation import Revocations, RevocationSet, read_revocation_list
from outrider.model.facts import Provenance
from tests.identity.mt2_source import Source, published
from tests.identity.openssl import Made, OpenSsl, Registry

NOW = time.time() + 3 * 3600
"""Later than all certificates are made."""
DAY = 86_400.0
HOST = "mx.bank.example"
DNS_HOST = f"DNS:{HOST}"
BY_BANK = ("issuerAltName=DNS:bank.example",)
MAIL = "emailProtection"


@dataclass(frozen=True, slots=True)
class Pki:
    """CAs of ours, one that a domain publishes, and one that nobody knows."""

    maker: OpenSsl
    public: Made
    private: Made
    bank: Made
    stranger: Made

    @property
    def stores(self) -> CaStores:
        return CaStores.of([self.public.parsed], [self.private.parsed])

    def source(self, *, secure: bool = True) -> Source:
        return Source({"bank.example": published("bank.example", [self.bank.parsed], secure=secure)})


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    maker = OpenSsl(tmp_path_factory.mktemp("pki"))
    return Pki(
        maker, maker.root("Public"), maker.root("Private"), maker.root("Bank CA"), maker.root("Stranger")
    )


@pytest.fixture(scope="module")
def delegated(pki: Pki) -> Made:
    """A host of the bank, by the bank's own CA."""
    return pki.maker.host(pki.bank, DNS_HOST, usage="serverAuth,clientAuth", extra=BY_BANK)


def peers(pki: Pki, source: Source | None = None, **settings: object) -> Mt2Peers:
    return Mt2Peers(pki.stores, Mt2IdentitySettings(**settings), source)  # type: ignore[arg-type]


def check(found: object) -> object:
    assert isinstance(found, Mt2IdentityFailure), found
    return found.check


def identity(found: Found) -> Mt2Identity:
    assert isinstance(found, Mt2Identity), found
    return found


async def host(who: Mt2Peers, made: Made, name: str | None = HOST, at: float = NOW) -> Found:
    return await who.host(made.chain, name, "192.0.2.1", at)


async def user(who: Mt2Peers, made: Made, mailbox: str | None, at: float = NOW) -> Found:
    return await who.user(made.chain, mailbox, at, "192.0.2.1")


# -- way 1: our own CAs ----------------------------------------------------------------------------------


@pytest.mark.covers("MT2-24a", "MT2-22")
async def test_a_host_of_a_known_ca_is_proven_by_it(pki: Pki) -> None:
    made = pki.maker.host(pki.maker.below(pki.public), DNS_HOST, "DNS:alt.bank.example")
    found = identity(await host(peers(pki), made))
    assert (found.kind, found.name, found.names) == ("host", HOST, (HOST, "alt.bank.example"))
    assert (found.way, found.provenance, found.how) == (Way.PUBLIC, Provenance.PROVEN, "public CA")
    assert not found.is_private
    assert str(found) == f"proven host {HOST} (public CA)"
    other = identity(await host(peers(pki), made, "ALT.bank.example"))
    assert other.names == ("alt.bank.example", HOST)
    assert identity(await host(peers(pki), made, None)).name == HOST


@pytest.mark.covers("MT2-24c")
async def test_a_private_ca_makes_a_private_link(pki: Pki) -> None:
    found = identity(await host(peers(pki), pki.maker.host(pki.private, DNS_HOST, usage="clientAuth")))
    assert (found.way, found.is_private, found.how) == (Way.PRIVATE, True, "private CA")


@pytest.mark.covers("MT2-22")
async def test_a_host_is_bound_to_its_name(pki: Pki) -> None:
    made = pki.maker.host(pki.public, DNS_HOST)
    failure = await host(peers(pki), made, "mx.other.example")
    assert check(failure) is Mt2Check.HOST_NAME
    assert isinstance(failure, Mt2IdentityFailure)
    assert not failure.temporary
    assert HOST in failure.reason
    assert HOST not in failure.peer_text
    assert failure.fingerprints is not None
    for name in ("", "*.bank.example", "192.0.2.1", "mx.bank.example.", "mx..bank.example", "x" * 300):
        assert check(await host(peers(pki), made, name)) is Mt2Check.HOST_NAME


@pytest.mark.covers("MT2-24a")
@pytest.mark.parametrize("by", ["leaf", "intermediate"])
async def test_a_known_issuers_refusal_is_final(pki: Pki, by: str) -> None:
    """A CA of the same name, published by the domain itself, is not even asked for."""
    namesake = pki.maker.root("Public")
    issuer = namesake if by == "leaf" else pki.maker.below(namesake, "Below")
    made = pki.maker.host(issuer, DNS_HOST, extra=BY_BANK)
    source = Source({"bank.example": published("bank.example", [namesake.parsed, issuer.parsed])})
    failure = await host(peers(pki, source), made)
    assert check(failure) is Check.UNKNOWN_CA
    assert "final" in str(failure)
    assert source.asked == []


@pytest.mark.covers("MT2-24a")
async def test_nobody_is_asked_about_what_no_ca_could_mend(pki: Pki) -> None:
    source, maker = pki.source(), pki.maker
    later = NOW + 400 * DAY
    expired = maker.host(pki.bank, DNS_HOST, extra=BY_BANK)
    assert check(await host(peers(pki, source), expired, at=later)) is Check.EXPIRED
    nameless = maker.host(pki.bank, extra=BY_BANK)
    assert check(await host(peers(pki, source), nameless)) is Check.NAME
    alone = maker.host(None, DNS_HOST, extra=BY_BANK)
    assert check(await host(peers(pki, source), alone)) is Check.SELF_SIGNED
    who = peers(pki, source)
    assert check(await who.host((), HOST, "", NOW)) is Check.NO_CERTIFICATE
    assert check(await who.host((b"junk",), HOST, "", NOW)) is Check.MALFORMED
    assert check(await who.host((expired.der,) * 11, HOST, "", NOW)) is Check.CHAIN_TOO_LONG
    assert check(await who.user((b"junk",), "a@bank.example", NOW)) is Check.MALFORMED
    assert source.asked == []


@pytest.mark.covers("MT2-24a")
async def test_a_revoked_certificate_is_remembered_only_until_the_list_changes(
    pki: Pki, tmp_path: Path
) -> None:
    made, person = pki.maker.host(pki.private, DNS_HOST), _user(pki, pki.private, "bob@bank.example")
    registry = Registry(pki.private, tmp_path)
    stores = replace(pki.stores, revocations=Revocations())
    who = Mt2Peers(stores)
    assert isinstance(await host(who, made), Mt2Identity)
    assert isinstance(await user(who, person, None), Mt2Identity)
    registry.revoke(made)
    registry.revoke(person)
    stores.revocations.current = RevocationSet([read_revocation_list(registry.list(), "test")])
    assert check(await host(who, made)) is Check.REVOKED
    assert check(await user(who, person, None)) is Check.REVOKED


@pytest.mark.covers("MT2-24c")
async def test_a_partners_ca_vouches_for_the_partner_alone(pki: Pki) -> None:
    entry = PartnerCas(
        lambda name: name == HOST, lambda name: name == "bank.example", CaStores.of([pki.stranger.parsed])
    )
    who = Mt2Peers(pki.stores, None, None, [entry])
    theirs = pki.maker.host(pki.stranger, DNS_HOST, "DNS:mx.other.example")
    assert identity(await host(who, theirs)).way is Way.PUBLIC
    assert check(await host(who, theirs, "mx.other.example")) is Mt2Check.ISSUER_UNNAMED
    assert check(await host(who, theirs, None)) is Mt2Check.ISSUER_UNNAMED
    assert isinstance(
        await user(who, _user(pki, pki.stranger, "a@bank.example"), "a@bank.example"), Mt2Identity
    )
    other = _user(pki, pki.stranger, "a@other.example")
    assert check(await user(who, other, "a@other.example")) is Mt2Check.ISSUER_UNNAMED


# -- way 2: the issuer's domain ---------------------------------------------------------------------------


@pytest.mark.covers("MT2-24b")
async def test_an_unknown_issuer_is_found_under_its_domain(pki: Pki, delegated: Made) -> None:
    source = pki.source()
    found = identity(await host(peers(pki, source), delegated))
    assert (found.name, found.way, found.provenance) == (HOST, Way.DELEGATED, Provenance.PROVEN)
    assert found.how == "delegated CA of bank.example (DNS CERT, DNSSEC-secure)"
    assert found.issuer_domains == ("bank.example",)
    assert not found.is_private
    assert source.asked == [("bank.example", "192.0.2.1")]


@pytest.mark.covers("MT2-24b")
async def test_a_delegated_ca_proves_names_below_its_domain_alone(pki: Pki) -> None:
    names = (DNS_HOST, "DNS:bank.example", "DNS:mx.victim.example", "DNS:notbank.example")
    made = pki.maker.host(pki.bank, *names, extra=BY_BANK)
    who = peers(pki, pki.source())
    assert identity(await host(who, made)).names == (HOST, "bank.example")
    assert identity(await host(who, made, None)).names == (HOST, "bank.example")
    for name in ("mx.victim.example", "notbank.example"):
        assert check(await host(who, made, name)) is Mt2Check.ISSUER_NOT_PARENT
    foreign, source = pki.maker.host(pki.bank, "DNS:mx.victim.example", extra=BY_BANK), pki.source()
    assert check(await host(who, foreign, None)) is Mt2Check.ISSUER_NOT_PARENT
    assert check(await host(peers(pki, source), foreign, HOST)) is Mt2Check.HOST_NAME
    assert source.asked == []


@pytest.mark.covers("MT2-24b")
async def test_names_outside_are_discarded_though_one_inside_led_there(pki: Pki) -> None:
    """What is confined is the outcome, not only the question."""
    made = pki.maker.host(pki.bank, "DNS:mx.victim.example", DNS_HOST, extra=BY_BANK)
    found = identity(await host(peers(pki, pki.source()), made, None))
    assert (found.name, found.names) == (HOST, (HOST,))
    mixed = _user(pki, pki.bank, "a@victim.example,email:b@bank.example", extra=BY_BANK)
    person = identity(await user(peers(pki, pki.source()), mixed, None))
    assert person.names == ("b@bank.example",)


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    ("issuer", "name", "expected"),
    [
        ("ank.example", HOST, Mt2Check.ISSUER_NOT_PARENT),
        ("other.example", HOST, Mt2Check.ISSUER_NOT_PARENT),
        ("deeper.mx.bank.example", HOST, Mt2Check.ISSUER_NOT_PARENT),
        ("example", HOST, Mt2Check.ISSUER_UNNAMED),  # one label is no host name
        ("co.uk", "mx.bank.co.uk", Mt2Check.ISSUER_PUBLIC_SUFFIX),
        ("github.io", "mx.github.io", Mt2Check.ISSUER_PUBLIC_SUFFIX),
        ("a.kawasaki.jp", "mx.a.kawasaki.jp", Mt2Check.ISSUER_PUBLIC_SUFFIX),
        ("*.bank.example", HOST, Mt2Check.ISSUER_UNNAMED),
        ("192.0.2.1", HOST, Mt2Check.ISSUER_UNNAMED),
    ],
)
async def test_only_a_parent_domain_may_have_issued(
    pki: Pki, issuer: str, name: str, expected: Mt2Check
) -> None:
    made = pki.maker.host(pki.bank, f"DNS:{name}", extra=(f"issuerAltName=DNS:{issuer}",))
    source = Source({issuer: published(issuer, [pki.bank.parsed])})
    assert check(await host(peers(pki, source), made, name)) is expected
    assert check(await host(peers(pki, source), made, None)) is expected
    assert source.asked == []


@pytest.mark.covers("MT2-24b")
async def test_the_nearest_domain_is_asked(pki: Pki) -> None:
    extra = ("issuerAltName=DNS:example.com,DNS:bank.example,DNS:deep.bank.example,DNS:a.mx.bank.example",)
    made = pki.maker.host(pki.bank, "DNS:mx.deep.bank.example", extra=extra)
    source = Source({"deep.bank.example": published("deep.bank.example", [pki.bank.parsed])})
    assert isinstance(await host(peers(pki, source), made, None), Mt2Identity)
    assert [domain for domain, _ in source.asked] == ["deep.bank.example"]


@pytest.mark.covers("MT2-24b")
async def test_without_look_ups_nothing_is_proven(pki: Pki, delegated: Made) -> None:
    assert check(await host(peers(pki), delegated)) is Mt2Check.LOOKUPS_OFF
    assert check(peers(pki, pki.source()).host_here(delegated.chain, HOST, NOW)) is Check.UNKNOWN_CA
    plain = pki.maker.host(pki.bank, DNS_HOST)
    source = pki.source()
    assert check(await host(peers(pki, source), plain)) is Mt2Check.ISSUER_UNNAMED
    assert source.asked == []


@pytest.mark.covers("MT2-24b")
async def test_the_ca_that_is_published_must_have_issued(pki: Pki, delegated: Made) -> None:
    """A domain that names somebody else's CA, or one of the right name with another key, proves nothing."""
    for lie in (pki.stranger, pki.maker.root("Bank CA")):
        source = Source({"bank.example": published("bank.example", [lie.parsed])})
        failure = await host(peers(pki, source), delegated)
        assert check(failure) is Check.UNKNOWN_CA
        assert "bank.example" in str(failure)


@pytest.mark.covers("MT2-24b", "MT2-24a")
async def test_a_domain_cannot_publish_a_ca_of_ours(pki: Pki) -> None:
    """It may be the very CA, or one below it: then our own set has its say, which was no."""
    below = pki.maker.below(pki.private, "Below the private one")
    made = pki.maker.host(below, DNS_HOST, extra=BY_BANK)
    source = Source({"bank.example": published("bank.example", [below.parsed])})
    shorter = (made.der,)  # without the intermediate, nothing tells that the issuer is known
    assert check(await peers(pki, source).host(shorter, HOST, "", NOW)) is Mt2Check.ISSUER_KNOWN
    whole = identity(await host(peers(pki, source), made))
    assert whole.way is Way.PRIVATE


@pytest.mark.covers("MT2-24b")
async def test_the_purpose_counts_for_delegated_hosts_too(pki: Pki) -> None:
    made = pki.maker.host(pki.bank, DNS_HOST, usage="codeSigning", extra=BY_BANK)
    assert check(await host(peers(pki, pki.source()), made)) is Check.PURPOSE


@pytest.mark.covers("MT2-24b")
async def test_a_delegated_ca_keeps_its_own_limits(pki: Pki) -> None:
    limited = pki.maker.root("Limited", ("nameConstraints=critical,permitted;DNS:inner.bank.example",))
    source = Source({"bank.example": published("bank.example", [limited.parsed])})
    made = pki.maker.host(limited, DNS_HOST, extra=BY_BANK)
    assert check(await host(peers(pki, source), made)) is Check.NAME_CONSTRAINTS


@pytest.mark.covers("MT2-24b")
async def test_intermediates_stand_between(pki: Pki) -> None:
    made = pki.maker.host(pki.maker.below(pki.bank, "Bank below"), DNS_HOST, extra=BY_BANK)
    assert identity(await host(peers(pki, pki.source()), made)).way is Way.DELEGATED


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(("selector", "matching"), [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
async def test_a_tlsa_record_names_a_ca_that_came_along(
    pki: Pki, delegated: Made, selector: int, matching: int
) -> None:
    octets = pki.bank.der if selector == 0 else _spki(pki.bank.parsed)
    data = octets if matching == 0 else hashlib.new({1: "sha256", 2: "sha512"}[matching], octets).digest()
    anchor = PublishedAnchor(selector, matching, data)
    chain = (delegated.der, pki.bank.der)
    good = Source({"bank.example": published("bank.example", anchors=[anchor])})
    assert isinstance(await peers(pki, good).host(chain, HOST, "", NOW), Mt2Identity)
    assert check(await host(peers(pki, good), delegated)) is Mt2Check.NO_AUTHORITY  # it did not come along
    bad = PublishedAnchor(selector, matching, data[:-1] + bytes([data[-1] ^ 1]))
    source = Source({"bank.example": published("bank.example", anchors=[bad])})
    assert check(await peers(pki, source).host(chain, HOST, "", NOW)) is Mt2Check.NO_AUTHORITY


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.covers("MT2-24b")
async def test_an_anchor_must_be_an_authority(pki: Pki) -> None:
    """A TLSA record that means a host's certificate makes no CA of it."""
    leaf = pki.maker.host(pki.bank, "DNS:inner.bank.example", extra=BY_BANK)
    made = pki.maker.host(leaf, DNS_HOST, extra=BY_BANK)
    anchor = PublishedAnchor(0, 1, hashlib.sha256(leaf.der).digest())
    source = Source({"bank.example": published("bank.example", anchors=[anchor])})
    assert check(await peers(pki, source).host((made.der, leaf.der), HOST, "", NOW)) is Mt2Check.NO_AUTHORITY


@pytest.mark.covers("MT2-24b")
async def test_what_came_unsigned_is_said_and_weighed(pki: Pki, delegated: Made) -> None:
    source = pki.source(secure=False)
    found = identity(await host(peers(pki, source), delegated))
    assert found.provenance is Provenance.PROVEN
    assert "unsigned LDAP over unsigned DNS" in found.how
    claimed = identity(await host(peers(pki, source, unsigned="claimed"), delegated))
    assert claimed.provenance is Provenance.CLAIMED
    assert check(await host(peers(pki, source, unsigned="refuse"), delegated)) is Mt2Check.UNSIGNED
    signed = identity(await host(peers(pki, pki.source(), unsigned="refuse"), delegated))
    assert signed.provenance is Provenance.PROVEN


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    ("error", "expected", "temporary"),
    [
        (AuthorityLookupFailed("a time-out", temporary=True), Mt2Check.LOOKUP_FAILED, True),
        (AuthorityLookupFailed("none", temporary=False), Mt2Check.NO_AUTHORITY, False),
        (LookupsExhausted("too many"), Mt2Check.LOOKUPS_EXHAUSTED, True),
    ],
)
async def test_a_look_up_that_brings_nothing_is_named(
    pki: Pki, delegated: Made, error: AuthorityLookupFailed, expected: Mt2Check, temporary: bool
) -> None:
    failure = await host(peers(pki, Source({"bank.example": error})), delegated)
    assert check(failure) is expected
    assert isinstance(failure, Mt2IdentityFailure)
    assert (failure.temporary, failure.reason) == (temporary, error.reason)
    assert failure.issuer_domains == ("bank.example",)
    assert "bank.example" not in failure.peer_text


# -- MT2-25: validity is not trust, and CAs come and go ----------------------------------------------------


@pytest.mark.covers("MT2-25")
async def test_a_changed_ca_voids_what_stood_under_it(pki: Pki, delegated: Made) -> None:
    source = pki.source()
    who = peers(pki, source)
    assert isinstance(await host(who, delegated), Mt2Identity)
    fresh = pki.maker.root("Bank CA two")
    source.now["bank.example"] = published("bank.example", [fresh.parsed], at=1.0)
    failure = await host(who, delegated)
    assert check(failure) is Check.UNKNOWN_CA
    assert isinstance(failure, Mt2IdentityFailure)
    assert failure.issuer_domains == ("bank.example",)  # block lists go on working
    assert isinstance(await host(who, pki.maker.host(fresh, DNS_HOST, extra=BY_BANK)), Mt2Identity)


@pytest.mark.covers("MT2-25")
async def test_what_is_remembered_is_asked_for_anew_when_it_does_not_fit(pki: Pki, delegated: Made) -> None:
    old = pki.maker.root("Bank CA zero")
    source = Source(
        {"bank.example": published("bank.example", [old.parsed])},
        {"bank.example": published("bank.example", [pki.bank.parsed], at=1.0)},
    )
    assert isinstance(await host(peers(pki, source), delegated), Mt2Identity)
    assert len(source.asked) == 2


@pytest.mark.covers("MT2-25")
async def test_the_issuers_domain_comes_with_every_identity(pki: Pki) -> None:
    """Of a local CA it is what the certificate says, by issuerAltName or by the issuer's name."""
    named = pki.maker.host(pki.public, DNS_HOST, extra=("issuerAltName=DNS:ca.example",))
    assert identity(await host(peers(pki), named)).issuer_domains == ("ca.example",)
    assert identity(await host(peers(pki), pki.maker.host(pki.public, DNS_HOST))).issuer_domains == ()
    wanting = await host(peers(pki), named, "mx.other.example")
    assert isinstance(wanting, Mt2IdentityFailure)
    assert wanting.issuer_domains == ("ca.example",)


async def test_a_known_chain_is_judged_once_and_only_while_it_holds(pki: Pki, delegated: Made) -> None:
    source = pki.source()
    who = peers(pki, source)
    first = await host(who, delegated)
    assert await host(who, delegated) is first
    assert isinstance(await host(who, delegated, at=NOW + 400 * DAY), Mt2IdentityFailure)
    assert await host(who, delegated, at=NOW + DAY) == first
    assert isinstance(await host(who, delegated, at=NOW - 30 * DAY), Mt2IdentityFailure)


async def test_a_revocation_by_a_delegated_ca_counts_where_there_is_a_list(
    pki: Pki, delegated: Made, tmp_path: Path
) -> None:
    registry = Registry(pki.bank, tmp_path)
    stores = replace(pki.stores, revocations=Revocations())
    who = Mt2Peers(stores, None, pki.source())
    assert isinstance(await host(who, delegated), Mt2Identity)
    registry.revoke(delegated)
    stores.revocations.current = RevocationSet([read_revocation_list(registry.list(), "test")])
    assert check(await host(who, delegated)) is Check.REVOKED


# -- users -------------------------------------------------------------------------------------------------


def _user(
    pki: Pki,
    issuer: Made,
    address: str,
    *,
    usage: str | None = MAIL,
    extra: Sequence[str] = (),
    subject: str = "",
) -> Made:
    return pki.maker.host(
        issuer, f"email:{address}", usage=usage, extra=extra, subject=subject or "/CN=Bob/O=The Bank"
    )


@pytest.mark.covers("MT2-22")
async def test_a_user_is_bound_to_the_address(pki: Pki) -> None:
    made = _user(pki, pki.private, "Bob.Smith@Bank.example")
    found = identity(await user(peers(pki), made, "Bob.Smith@bank.EXAMPLE"))
    assert (found.kind, found.name, found.domain) == ("user", "Bob.Smith@bank.example", "bank.example")
    assert (found.way, found.provenance) == (Way.PRIVATE, Provenance.PROVEN)
    assert not found.is_process
    # RFC 5280 section 7.5: local parts are compared as they are.
    for other in ("bob.smith@bank.example", "Bob.Smith@mx.bank.example", "Bob.Smith@", "@bank.example", ""):
        assert check(await user(peers(pki), made, other)) is Mt2Check.ADDRESS


@pytest.mark.covers("MT2-22")
@pytest.mark.parametrize("usage", ["serverAuth,clientAuth", "codeSigning", "anyExtendedKeyUsage", None])
async def test_a_user_needs_the_mail_purpose_stated(pki: Pki, usage: str | None) -> None:
    for issuer, source in ((pki.private, None), (pki.bank, pki.source())):
        made = _user(pki, issuer, "bob@bank.example", usage=usage, extra=BY_BANK)
        assert check(await user(peers(pki, source), made, "bob@bank.example")) is Check.PURPOSE


@pytest.mark.covers("MT2-22")
async def test_hosts_and_users_are_not_taken_for_each_other(pki: Pki) -> None:
    person = _user(pki, pki.private, "bob@bank.example")
    assert check(await host(peers(pki), person, "bank.example")) is Check.NAME
    machine = pki.maker.host(pki.private, DNS_HOST, usage="serverAuth,emailProtection")
    assert check(await user(peers(pki), machine, f"bob@{HOST}")) is Check.NAME
    both = pki.maker.host(pki.private, DNS_HOST, "email:bob@bank.example", usage="serverAuth")
    assert check(await user(peers(pki), both, "bob@bank.example")) is Check.PURPOSE


@pytest.mark.covers("MT2-22")
async def test_hosts_hold_a_users_certificate_for_control_messages(pki: Pki) -> None:
    made = _user(pki, pki.private, "process@bank.example")
    found = identity(await user(peers(pki), made, "process@bank.example"))
    assert found.is_process
    assert not identity(await host(peers(pki), pki.maker.host(pki.private, DNS_HOST))).is_process


@pytest.mark.covers("MT2-22")
async def test_what_else_a_certificate_says_is_claimed_unless_its_ca_is_trusted(pki: Pki) -> None:
    made = _user(pki, pki.maker.below(pki.private), "bob@bank.example")
    found = identity(await user(peers(pki), made, None))
    said = {one.kind: (one.value, one.provenance) for one in found.descriptions}
    claimed = Provenance.CLAIMED
    assert said == {"common name": ("Bob", claimed), "organization": ("The Bank", claimed)}
    validation = Mt2Validation()
    for trusted, expected in ((pki.private, Provenance.VOUCHED), (pki.public, claimed)):
        settings = Mt2IdentitySettings.of(HostSettings(), validation, [trusted.parsed])
        found = identity(await user(Mt2Peers(pki.stores, settings), made, None))
        assert {one.provenance for one in found.descriptions} == {expected}
        assert found.provenance is Provenance.PROVEN


@pytest.mark.covers("MT2-22")
async def test_a_certificate_cannot_put_itself_into_the_trusted_set(pki: Pki) -> None:
    made = _user(pki, pki.private, "bob@bank.example")
    settings = Mt2IdentitySettings.of(HostSettings(), Mt2Validation(), [made.parsed])
    found = identity(await user(Mt2Peers(pki.stores, settings), made, None))
    assert {one.provenance for one in found.descriptions} == {Provenance.CLAIMED}


@pytest.mark.covers("MT2-22")
@pytest.mark.parametrize(
    ("constraint", "address", "good"),
    [
        ("permitted;email:bank.example", "bob@bank.example", True),
        ("permitted;email:bank.example", "bob@victim.example", False),
        ("excluded;email:victim.example", "bob@victim.example", False),
        ("permitted;DNS:bank.example", "bob@bank.example", True),
        ("permitted;DNS:bank.example", "bob@inner.bank.example", True),
        ("permitted;DNS:bank.example", "bob@notbank.example", False),
        ("permitted;DNS:bank.example", "bob@victim.example", False),
        ("permitted;DNS:x.example,permitted;email:bank.example", "bob@bank.example", True),
    ],
)
async def test_a_limited_ca_certifies_no_addresses_outside(
    pki: Pki, constraint: str, address: str, good: bool
) -> None:
    limited = pki.maker.root("Limited", (f"nameConstraints=critical,{constraint}",))
    who = Mt2Peers(CaStores.of((), [limited.parsed]))
    found = await user(who, _user(pki, limited, address), None)
    assert isinstance(found, Mt2Identity) if good else check(found) is Check.NAME_CONSTRAINTS


@pytest.mark.covers("MT2-24b", "MT2-22")
async def test_a_delegated_ca_certifies_users_below_its_domain(pki: Pki) -> None:
    made = _user(pki, pki.bank, "bob@bank.example", extra=BY_BANK)
    who = peers(pki, pki.source())
    found = identity(await user(who, made, "bob@bank.example"))
    assert (found.way, found.issuer_domains) == (Way.DELEGATED, ("bank.example",))
    foreign = _user(pki, pki.bank, "bob@victim.example", extra=BY_BANK)
    assert check(await user(who, foreign, None)) is Mt2Check.ISSUER_NOT_PARENT
    assert check(await user(who, foreign, "bob@victim.example")) is Mt2Check.ISSUER_NOT_PARENT
    assert check(await user(who, foreign, "bob@bank.example")) is Mt2Check.ADDRESS


# -- the server, before the first transfer -----------------------------------------------------------------


def question(domain: str = "bank.example", target: str = HOST, **more: object) -> ServerQuestion:
    return ServerQuestion(domain, target, service=MT2_SERVICE, **more)  # type: ignore[arg-type]


@pytest.mark.covers("MT2-10b")
async def test_a_client_verifies_the_server_as_amtp_does(pki: Pki) -> None:
    who, maker = peers(pki), pki.maker
    domain = maker.host(pki.public, "DNS:bank.example")
    host_only = maker.host(pki.public, DNS_HOST)
    service = "otherName:1.3.6.1.5.5.7.8.7;IA5:_mt2._bad"

    async def ask(made: Made, asked: ServerQuestion) -> ServerIdentity:
        found = await who.server(made.chain, asked, NOW)
        assert isinstance(found, ServerIdentity), found
        return found

    assert (await ask(domain, question())).proven
    assert not (await ask(host_only, question())).proven
    assert (await ask(host_only, question(srv_secure=True))).proven
    assert (await ask(host_only, question(partner_hosts=frozenset({HOST})))).proven
    srv_name = service.replace("_mt2._bad", "_mt2.bank.example")
    assert (await ask(maker.host(pki.public, DNS_HOST, srv_name), question())).proven
    amtp_name = service.replace("_mt2._bad", "_amtp.bank.example")
    assert not (await ask(maker.host(pki.public, DNS_HOST, amtp_name), question())).proven
    other = maker.host(pki.public, "DNS:mx.other.example")
    assert check(await who.server(other.chain, question(), NOW)) is Check.NAME


@pytest.mark.covers("MT2-10b", "MT2-24b")
async def test_a_servers_ca_may_be_delegated(pki: Pki) -> None:
    maker, who = pki.maker, peers(pki, pki.source())
    made = maker.host(pki.bank, "DNS:bank.example", DNS_HOST, extra=BY_BANK)
    found = await who.server(made.chain, question(), NOW)
    assert isinstance(found, ServerIdentity)
    assert found.proven
    assert found.how == (
        "dNSName of the recipient domain, delegated CA of bank.example (DNS CERT, DNSSEC-secure)"
    )
    weak = await peers(pki, pki.source(secure=False), unsigned="claimed").server(made.chain, question(), NOW)
    assert isinstance(weak, ServerIdentity)
    assert not weak.proven
    host_only = maker.host(pki.bank, DNS_HOST, extra=BY_BANK)
    merely = await who.server(host_only.chain, question(), NOW)
    assert isinstance(merely, ServerIdentity)
    assert not merely.proven


@pytest.mark.covers("MT2-10b", "MT2-24b")
async def test_a_delegated_ca_cannot_prove_another_domains_server(pki: Pki) -> None:
    """The target is inside the CA's domain, the recipient domain is not, though the certificate has both."""
    made = pki.maker.host(pki.bank, "DNS:victim.example", DNS_HOST, extra=BY_BANK)
    found = await peers(pki, pki.source()).server(made.chain, question("victim.example"), NOW)
    assert isinstance(found, ServerIdentity)
    assert (found.name, found.proven) == (HOST, False)
    outside = question("victim.example", "mx.victim.example")
    assert (
        check(await peers(pki, pki.source()).server(made.chain, outside, NOW)) is Mt2Check.ISSUER_NOT_PARENT
    )


@pytest.mark.covers("MT2-10b", "MT2-24b")
async def test_a_delegated_ca_cannot_prove_a_server_outside(pki: Pki) -> None:
    """Not even one to which DNSSEC led, for a domain that is the CA's own."""
    made = pki.maker.host(pki.bank, "DNS:mx.victim.example", extra=BY_BANK)
    asked = question("bank.example", "mx.victim.example", srv_secure=True)
    assert check(await peers(pki, pki.source()).server(made.chain, asked, NOW)) is Check.NAME


@pytest.mark.covers("MT2-10b")
async def test_the_cas_of_a_route_decide_alone(pki: Pki) -> None:
    made = pki.maker.host(pki.bank, "DNS:bank.example", extra=BY_BANK)
    source = pki.source()
    judge = ServerJudge(CaStores.of([pki.stranger.parsed]))
    found = await peers(pki, source).server(made.chain, question(), NOW, judge=judge)
    assert check(found) is Check.UNKNOWN_CA
    assert source.asked == []


# -- way 3: a gateway's word ---------------------------------------------------------------------------------


@pytest.mark.covers("MT2-24c")
async def test_a_named_gateways_word_is_vouched_for(pki: Pki) -> None:
    who = peers(pki, gateways=frozenset({HOST}))
    gateway = identity(await host(who, pki.maker.host(pki.private, DNS_HOST)))
    found = identity(who.by_gateway(gateway, GatewayWord("host", "MX.Far.example", "public\r\nCA")))
    assert (found.name, found.way, found.provenance) == ("mx.far.example", Way.GATEWAY, Provenance.VOUCHED)
    assert found.how == f"word of gateway {HOST}: publicCA"
    person = identity(who.by_gateway(gateway, GatewayWord("user", "bob@far.example", "")))
    assert (person.kind, person.how) == ("user", f"word of gateway {HOST}")
    assert check(who.by_gateway(gateway, GatewayWord("user", "far.example", ""))) is Mt2Check.GATEWAY_WORD
    assert check(who.by_gateway(gateway, GatewayWord("host", "a b", ""))) is Mt2Check.GATEWAY_WORD


@pytest.mark.covers("MT2-24c")
async def test_no_other_hosts_word_is_taken(pki: Pki, delegated: Made) -> None:
    word = GatewayWord("host", "mx.far.example", "public CA")
    other = peers(pki, gateways=frozenset({"gw.bank.example"}))
    gateway = identity(await host(other, pki.maker.host(pki.private, DNS_HOST)))
    assert check(other.by_gateway(gateway, word)) is Mt2Check.GATEWAY_UNKNOWN
    who = peers(pki, pki.source(), gateways=frozenset({HOST}))
    by_delegation = identity(await host(who, delegated))
    assert check(who.by_gateway(by_delegation, word)) is Mt2Check.GATEWAY_UNPROVEN
    gateway = identity(await host(who, pki.maker.host(pki.private, DNS_HOST)))
    itself = identity(who.by_gateway(gateway, GatewayWord("host", HOST, "")))
    assert check(who.by_gateway(itself, word)) is Mt2Check.GATEWAY_UNPROVEN
    person = replace(gateway, kind="user")
    assert check(who.by_gateway(person, word)) is Mt2Check.GATEWAY_UNKNOWN


@pytest.mark.covers("MT2-24c")
def test_gateways_are_host_names() -> None:
    with pytest.raises(ValueError, match=r"interior_gateways\[1\]: 'gw_x' is not a host name"):
        Mt2IdentitySettings.of(HostSettings(), Mt2Validation(interior_gateways=("gw.example", "gw_x")))
    settings = Mt2IdentitySettings.of(HostSettings(), Mt2Validation(interior_gateways=("GW.example",)))
    assert settings.gateways == frozenset({"gw.example"})


# -- what may be said to the peer --------------------------------------------------------------------------


def test_every_refusal_has_words_for_the_peer_that_give_nothing_away() -> None:
    for one in (*Check, *Mt2Check):
        failure = Mt2IdentityFailure(one, "mx.secret.example was refused by rule 7")
        assert failure.peer_text.isascii()
        assert "secret" not in failure.peer_text
        assert len(failure.peer_text) < 60
        assert str(failure).startswith(f"{one.value}: ")
