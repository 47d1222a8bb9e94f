"""Who a host is: certificates by OpenSSL's own command, every check by itself, both directions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.config.schema import Amtp
from outrider.identity.authorities import CaStores, shared_authorities
from outrider.identity.certificate_authority import CertificateAuthority, NameConstraints
from outrider.identity.certificates import fingerprints_of, normal_host
from outrider.identity.checks import Check
from outrider.identity.host_identity import (
    HostCertificate,
    HostIdentifier,
    HostRefusal,
    HostSettings,
    ProvenHost,
    ReverseNames,
    ServerIdentity,
    ServerJudge,
    ServerQuestion,
    certificate_names_login,
    judge_hello,
)
from outrider.identity.revocation import RevocationSet, read_revocation_list
from outrider.model.envelope import Arrival
from tests.identity.openssl import Made, OpenSsl, Registry

NOW = time.time() + 3 * 3600
"""Later than all certificates are made, however long the run takes until it comes to them."""
"""A minute ahead, as OpenSSL dates everything from now."""
DAY = 86_400.0
HOST = "mx.bank.example"
DNS_HOST = f"DNS:{HOST}"
PTR = ReverseNames(confirmed=(HOST,))
SRV_NAME = "otherName:1.3.6.1.5.5.7.8.7;IA5:_amtp.bank.example"


@dataclass(frozen=True, slots=True)
class Pki:
    """A public and a private authority, and somebody whom nobody knows."""

    maker: OpenSsl
    public: Made
    private: Made
    stranger: Made

    @property
    def stores(self) -> CaStores:
        return CaStores.of([self.public.parsed], [self.private.parsed])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    maker = OpenSsl(tmp_path_factory.mktemp("pki"))
    return Pki(maker, maker.root("Public"), maker.root("Private"), maker.root("Stranger"))


@pytest.fixture(scope="module")
def good(pki: Pki) -> Made:
    """A host certificate such as a public CA issues."""
    return pki.maker.host(pki.maker.below(pki.public), DNS_HOST, "DNS:alt.bank.example")


def examine(
    pki: Pki, chain: Sequence[bytes], options: HostSettings | None = None, now: float = NOW
) -> HostCertificate | HostRefusal:
    return HostIdentifier(pki.stores, options or HostSettings()).examine(chain, now)


def refused(outcome: object, check: Check, *words: str) -> HostRefusal:
    """The outcome is a refusal by this check, and says so in these words."""
    assert isinstance(outcome, HostRefusal), outcome
    assert outcome.check is check, outcome
    for word in words:
        assert word in outcome.reason
    return outcome


# -- a server looks at a client: what proves ----------------------------------------------------------


@pytest.mark.covers("AMTP-1", "AMTP-2a", "AMTP-2b")
def test_a_public_host_is_proven_by_certificate_ehlo_and_ptr(pki: Pki, good: Made) -> None:
    """With the server purpose alone, and through an intermediate authority."""
    certificate = examine(pki, good.chain)
    assert isinstance(certificate, HostCertificate)
    assert certificate.connection is Arrival.AMTP_PUBLIC
    assert certificate.hosts == (HOST, "alt.bank.example")
    assert certificate.authority == "CN=Public"
    proven = judge_hello(certificate, "MX.Bank.Example", PTR, HostSettings())
    assert isinstance(proven, ProvenHost)
    assert (proven.name, proven.how) == (HOST, "public CA, EHLO, PTR")


@pytest.mark.covers("AMTP-19")
def test_a_private_host_is_proven_without_a_ptr(pki: Pki) -> None:
    for usage in ("serverAuth", "clientAuth", None):
        made = pki.maker.host(pki.private, DNS_HOST, usage=usage)
        certificate = examine(pki, made.chain)
        assert isinstance(certificate, HostCertificate), usage
        assert certificate.connection is Arrival.AMTP_PRIVATE
        proven = judge_hello(certificate, HOST, None, HostSettings())
        assert isinstance(proven, ProvenHost)
        assert proven.how == "private CA, EHLO"


@pytest.mark.covers("AMTP-2a", "ITP-2a")
def test_an_internationalized_name_is_compared_as_a_labels(pki: Pki) -> None:
    name = "xn--bcher-kva.example"
    certificate = examine(pki, pki.maker.host(pki.public, f"DNS:{name}").chain)
    assert isinstance(certificate, HostCertificate)
    for said in (name, "bücher.example", "XN--BCHER-KVA.Example"):
        proven = judge_hello(certificate, said, ReverseNames((name,)), HostSettings())
        assert isinstance(proven, ProvenHost)
        assert proven.name == name


@pytest.mark.covers("AMTP-19")
def test_a_self_signed_certificate_counts_by_its_fingerprint_only(pki: Pki) -> None:
    made = pki.maker.host(None, DNS_HOST)
    prints = fingerprints_of(made.der)
    refused(examine(pki, made.chain), Check.SELF_SIGNED)
    for pin, how in ((prints.certificate, "certificate"), (prints.public_key, "key")):
        spelled = Amtp(private_fingerprints=(f"SHA256:{pin.upper()}",))
        certificate = examine(pki, made.chain, HostSettings.of(spelled))
        assert isinstance(certificate, HostCertificate)
        assert certificate.connection is Arrival.AMTP_PRIVATE
        assert certificate.how == f"fingerprint of the {how}"
        pinned = HostSettings(private_fingerprints=frozenset({pin}))
        refused(examine(pki, made.chain, pinned, NOW + 91 * DAY), Check.EXPIRED)
        refused(examine(pki, made.chain, pinned, NOW - DAY), Check.NOT_YET_VALID)
    others = HostSettings(private_fingerprints=frozenset({"ab" * 32}))
    refused(examine(pki, made.chain, others), Check.SELF_SIGNED)
    with pytest.raises(ValueError, match=r"amtp\.private_fingerprints\[0\]"):
        HostSettings.of(Amtp(private_fingerprints=("ab",)))


@pytest.mark.covers("AMTP-2a")
def test_a_common_name_counts_only_under_a_private_ca_and_where_allowed(pki: Pki) -> None:
    allowed = HostSettings(common_name=True)
    private = pki.maker.host(pki.private, subject=f"/O=Test/CN={HOST}")
    certificate = examine(pki, private.chain, allowed)
    assert isinstance(certificate, HostCertificate)
    assert (certificate.hosts, certificate.how) == ((HOST,), "private CA, common name")
    refused(examine(pki, private.chain), Check.NAME, "no dNSName")
    public = pki.maker.host(pki.public, subject=f"/O=Test/CN={HOST}")
    refused(examine(pki, public.chain, allowed), Check.NAME, "no dNSName")
    several = pki.maker.host(pki.private, subject=f"/CN={HOST}/CN=mx.other.example")
    refused(examine(pki, several.chain, allowed), Check.NAME)
    beside = pki.maker.host(pki.private, DNS_HOST, subject="/CN=mx.other.example")
    both = examine(pki, beside.chain, allowed)
    assert isinstance(both, HostCertificate)
    assert both.hosts == (HOST,)


@pytest.mark.covers("AMTP-2b")
def test_a_private_ca_may_demand_the_client_purpose(pki: Pki) -> None:
    strict = HostSettings(require_client_purpose=True, common_name=True)
    for names, subject in (((DNS_HOST,), "/O=Test"), ((), f"/CN={HOST}")):
        good = pki.maker.host(pki.private, *names, subject=subject, usage="serverAuth,clientAuth")
        assert isinstance(examine(pki, good.chain, strict), HostCertificate)
        for usage in ("serverAuth", None):
            bad = pki.maker.host(pki.private, *names, subject=subject, usage=usage)
            refused(examine(pki, bad.chain, strict), Check.PURPOSE)
    public = pki.maker.host(pki.public, DNS_HOST)
    assert isinstance(examine(pki, public.chain, strict), HostCertificate)


# -- a server looks at a client: one flaw each --------------------------------------------------------


@pytest.mark.covers("AMTP-3", "SEC-138")
def test_without_a_certificate_nothing_is_proven(pki: Pki) -> None:
    outcome = refused(examine(pki, ()), Check.NO_CERTIFICATE)
    assert not outcome.temporary
    assert outcome.fingerprints is None


@pytest.mark.covers("AMTP-1", "SEC-139")
def test_dates_hold_to_the_second(pki: Pki, good: Made) -> None:
    begin = good.parsed.not_valid_before_utc.timestamp()
    end = good.parsed.not_valid_after_utc.timestamp()
    for moment in (begin, end):
        # the authorities were made a moment earlier, so that the leaf's dates are the narrower ones
        outcome = examine(
            pki, good.chain, now=max(moment, pki.public.parsed.not_valid_before_utc.timestamp())
        )
        assert isinstance(outcome, HostCertificate), outcome
    refused(examine(pki, good.chain, now=end + 1), Check.EXPIRED, "expired on")
    refused(examine(pki, good.chain, now=begin - 1), Check.NOT_YET_VALID, "not valid before")


@pytest.mark.covers("AMTP-1")
def test_an_expired_authority_proves_nothing_either(pki: Pki) -> None:
    made = pki.maker.host(pki.maker.below(pki.public), DNS_HOST, days=3100)
    refused(examine(pki, made.chain, now=NOW + 3050 * DAY), Check.EXPIRED, "CA certificate")


@pytest.mark.covers("AMTP-1", "AMTP-3")
def test_an_unknown_authority_proves_nothing(pki: Pki) -> None:
    outcome = refused(
        examine(pki, pki.maker.host(pki.stranger, DNS_HOST).chain), Check.UNKNOWN_CA, "verifier:"
    )
    assert outcome.fingerprints is not None
    impostor = pki.maker.root("Public")
    refused(examine(pki, pki.maker.host(impostor, DNS_HOST).chain), Check.UNKNOWN_CA)
    alone = pki.maker.host(pki.maker.below(pki.public), DNS_HOST).chain[:1]
    refused(examine(pki, alone), Check.UNKNOWN_CA)


@pytest.mark.covers("SEC-156")
def test_an_empty_set_vouches_for_nobody(good: Made) -> None:
    nobody = HostIdentifier(CaStores.of())
    refused(nobody.examine(good.chain, NOW), Check.UNKNOWN_CA, "no CA is configured")


@pytest.mark.covers("AMTP-1")
def test_a_self_signed_certificate_is_called_that(pki: Pki) -> None:
    refused(examine(pki, pki.maker.host(None, DNS_HOST).chain), Check.SELF_SIGNED)
    as_usually_made = pki.maker.root(HOST, [f"subjectAltName={DNS_HOST}"])
    refused(examine(pki, [as_usually_made.der]), Check.SELF_SIGNED)


@pytest.mark.covers("AMTP-2b", "SEC-144")
@pytest.mark.parametrize("usage", ["clientAuth", "codeSigning", "emailProtection", "anyExtendedKeyUsage"])
def test_a_public_authority_must_have_certified_the_server_purpose(pki: Pki, usage: str) -> None:
    refused(examine(pki, pki.maker.host(pki.public, DNS_HOST, usage=usage).chain), Check.PURPOSE)


@pytest.mark.covers("SEC-144")
@pytest.mark.parametrize("usage", ["codeSigning", "emailProtection"])
def test_a_private_one_the_server_or_the_client_purpose(pki: Pki, usage: str) -> None:
    refused(examine(pki, pki.maker.host(pki.private, DNS_HOST, usage=usage).chain), Check.PURPOSE)


ODD_NAMES = {
    "none": ((), "no dNSName"),
    "wildcard": (("DNS:*.bank.example",), "a wildcard"),
    "wildcard in a label": (("DNS:m*.bank.example",), "a wildcard"),
    "NUL": (("DER:30178215" + b"mx.bank.example\0.evil".hex(),), "NUL"),
    "final dot": (("DNS:mx.bank.example.",), "final dot"),
    "one label": (("DNS:localhost",), "no host name"),
    "underscore": (("DNS:mx_1.bank.example",), "no host name"),
    "address as a name": (("DNS:192.0.2.1",), "no host name"),
    "address": (("IP:192.0.2.1",), "no dNSName"),
    "mailbox": (("email:ann@bank.example",), "no dNSName"),
}


@pytest.mark.covers("AMTP-2a", "SEC-142", "SEC-143")
@pytest.mark.parametrize("flaw", ODD_NAMES)
@pytest.mark.parametrize("by", ["public", "private"])
def test_only_whole_host_names_prove_a_client(pki: Pki, flaw: str, by: str) -> None:
    names, words = ODD_NAMES[flaw]
    issuer = pki.public if by == "public" else pki.private
    made = pki.maker.host(issuer, *names, subject=f"/CN={HOST}")
    refused(examine(pki, made.chain), Check.NAME, words)


@pytest.mark.covers("SEC-142")
def test_a_name_in_another_alphabet_proves_nobody(pki: Pki) -> None:
    refused(examine(pki, pki.maker.host(pki.public, "DNS:bücher.example").chain), Check.NAME)
    for name in ("bücher.example", "ban\N{KELVIN SIGN}.example"):
        utf8 = name.encode()
        octets = f"DER:30{len(utf8) + 2:02x}82{len(utf8):02x}{utf8.hex()}"
        outcome = examine(pki, pki.maker.host(pki.public, octets).chain)
        refused(outcome, Check.NAME, "no host name")


@pytest.mark.covers("SEC-140")
def test_name_constraints_hold(pki: Pki) -> None:
    """Also for the second name, and not to be evaded by a common name."""
    limits = ["nameConstraints=critical,permitted;DNS:shop.example"]
    for root, options in ((pki.public, HostSettings()), (pki.private, HostSettings(common_name=True))):
        below = pki.maker.below(root, f"Limited {root.certificate.stem}", limits)
        inside = pki.maker.host(below, "DNS:mx.shop.example")
        assert isinstance(examine(pki, inside.chain, options), HostCertificate)
        for names in ((DNS_HOST,), ("DNS:mx.shop.example", DNS_HOST)):
            refused(examine(pki, pki.maker.host(below, *names).chain, options), Check.NAME_CONSTRAINTS)
    common = pki.maker.host(below, subject="/CN=mx.shop.example")
    refused(examine(pki, common.chain, options), Check.NAME_CONSTRAINTS, "common name")


@pytest.mark.covers("SEC-145", "SEC-146")
def test_other_objections_of_the_verifier_are_told_in_its_words(pki: Pki) -> None:
    unknown = pki.maker.host(pki.public, DNS_HOST, extra=["1.3.6.1.4.1.99999.1=critical,DER:0500"])
    refused(examine(pki, unknown.chain), Check.PATH, "critical")
    leaf = pki.maker.host(pki.public, DNS_HOST)
    by_leaf = pki.maker.host(leaf, "DNS:victim.example")
    refused(examine(pki, by_leaf.chain), Check.PATH, "verifier:")
    short = pki.maker.below(pki.public, "Short", limit=",pathlen:0")
    too_deep = pki.maker.host(pki.maker.below(short, "Deeper"), DNS_HOST)
    refused(examine(pki, too_deep.chain), Check.PATH)


@pytest.mark.covers("SEC-147")
def test_a_chain_of_fifty_is_not_followed(pki: Pki) -> None:
    issuer = pki.public
    for number in range(12):
        issuer = pki.maker.below(issuer, f"Deep {number}")
    made = pki.maker.host(issuer, DNS_HOST)
    refused(examine(pki, made.chain), Check.CHAIN_TOO_LONG)
    refused(examine(pki, [*made.chain[:2]] * 25), Check.CHAIN_TOO_LONG)
    refused(examine(pki, [made.der, b"x" * 200_000]), Check.CHAIN_TOO_LONG)


def cross_certificate(issuer: CertificateAuthority, subject: CertificateAuthority, began: datetime) -> bytes:
    """The issuer's certificate for the subject's name and key, with another serial number each time."""
    old = subject.certificate
    builder = (
        x509.CertificateBuilder(extensions=list(old.extensions))
        .subject_name(old.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(old.not_valid_after_utc)
    )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.covers("SEC-147")
def test_authorities_that_certify_each_other_lead_nowhere() -> None:
    """A ring, each link in several variants: the search for a path is bounded."""
    began = datetime.fromtimestamp(NOW - DAY, UTC)
    ring = [CertificateAuthority.create(f"Ring {number}", began) for number in range(3)]
    variants: list[bytes] = []
    for number, one in enumerate(ring):
        variants += [cross_certificate(ring[number - 1], one, began) for _ in range(3)]
    leaf = ring[0].issue_host([HOST], began).certificate.public_bytes(Encoding.DER)
    known = CertificateAuthority.create("Known", began)
    hosts = HostIdentifier(CaStores.of([known.certificate]))
    refused(hosts.examine([leaf, *variants], NOW), Check.CHAIN_TOO_LONG, "verifier:")


@pytest.mark.covers("SEC-147")
def test_thousands_of_constraints_on_hundreds_of_names_are_bounded() -> None:
    began = datetime.fromtimestamp(NOW - DAY, UTC)
    root = CertificateAuthority.create("Known", began)
    limits = NameConstraints(excluded=tuple(f"x{number}.example" for number in range(2000)))
    below = root.issue_authority("Limited", began, constraints=limits)
    issued = below.issue_host([f"n{number}.bank.example" for number in range(250)], began)
    chain = [one.public_bytes(Encoding.DER) for one in (issued.certificate, *issued.chain)]
    hosts = HostIdentifier(CaStores.of([root.certificate]))
    assert isinstance(hosts.examine(chain, NOW), HostCertificate)


@pytest.mark.covers("SEC-148")
@pytest.mark.parametrize("bits", [1024, 16_384])
def test_keys_too_weak_and_giant_are_refused_before_any_arithmetic(
    pki: Pki, bits: int, tmp_path: Path
) -> None:
    """The giant key has no private half: it would take minutes to make, and nobody needs it for this."""
    modulus = (1 << (bits - 1)) | 1
    public = RSAPublicNumbers(65_537, modulus).public_key()
    pem = tmp_path / "public.pem"
    pem.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    made = pki.maker.host(pki.public, DNS_HOST, public_key=pem)
    refused(examine(pki, made.chain), Check.WEAK_KEY, f"{bits} bits")
    between = pki.maker.host(pki.public, DNS_HOST)
    refused(examine(pki, [between.der, made.der]), Check.WEAK_KEY)


@pytest.mark.covers("SEC-148")
def test_kinds_of_keys_and_signatures_that_are_not_in_use(pki: Pki) -> None:
    curve = pki.maker.host(
        pki.public, DNS_HOST, key_words=("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1")
    )
    refused(examine(pki, curve.chain), Check.WEAK_KEY)


@pytest.mark.covers("SEC-149")
def test_ten_thousand_names_are_too_many(pki: Pki) -> None:
    names = [f"DNS:n{number}.bank.example" for number in range(2000)]
    made = pki.maker.host(pki.public, *names)
    refused(examine(pki, made.chain), Check.NAME, "more than")


@pytest.mark.covers("SEC-149", "ITP-2a")
@given(st.lists(st.binary(max_size=300), max_size=4))
def test_any_octets_are_refused_and_raise_nothing(octets: list[bytes]) -> None:
    assert isinstance(HostIdentifier(CaStores.of()).examine(octets, NOW), HostRefusal)
    judged = ServerJudge(CaStores.of()).judge(octets, ServerQuestion("a.example", "b.example"), NOW)
    assert isinstance(judged, HostRefusal)


@pytest.mark.covers("SEC-149")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(min_value=0), value=st.integers(min_value=1, max_value=255))
def test_a_certificate_changed_anywhere_proves_nothing(
    pki: Pki, good: Made, position: int, value: int
) -> None:
    der = bytearray(good.der)
    der[position % len(der)] ^= value
    chain = [bytes(der), *good.chain[1:]]
    assert isinstance(examine(pki, chain), HostRefusal)
    judged = ServerJudge(pki.stores).judge(chain, ServerQuestion(HOST, HOST), NOW)
    assert isinstance(judged, HostRefusal)


# -- revocation -----------------------------------------------------------------------------------------


def with_lists(stores: CaStores, *lists: bytes) -> CaStores:
    found = [read_revocation_list(one, f"list {number}") for number, one in enumerate(lists, 1)]
    stores.revocations.current = RevocationSet(found)
    return stores


@pytest.mark.covers("ITP-2a", "SEC-150")
def test_a_revoked_certificate_proves_nothing_in_either_direction(pki: Pki, tmp_path: Path) -> None:
    registry = Registry(pki.public, tmp_path)
    bad, fine = (pki.maker.host(pki.public, DNS_HOST) for _ in range(2))
    registry.revoke(bad)
    stores = with_lists(pki.stores, registry.list())
    hosts, servers = HostIdentifier(stores), ServerJudge(stores)
    question = ServerQuestion(HOST, "")
    refused(hosts.examine(bad.chain, NOW), Check.REVOKED, "revoked", "list 1")
    refused(servers.judge(bad.chain, question, NOW), Check.REVOKED)
    assert isinstance(hosts.examine(fine.chain, NOW), HostCertificate)
    assert isinstance(servers.judge(fine.chain, question, NOW), ServerIdentity)


@pytest.mark.covers("ITP-2a", "SEC-150")
def test_a_revoked_authority_between_proves_nothing(pki: Pki, tmp_path: Path) -> None:
    registry = Registry(pki.public, tmp_path)
    between = pki.maker.below(pki.public, "Taken back")
    registry.revoke(between)
    hosts = HostIdentifier(with_lists(pki.stores, registry.list()))
    refused(hosts.examine(pki.maker.host(between, DNS_HOST).chain, NOW), Check.REVOKED, "CA certificate")


@pytest.mark.covers("AMTP-3", "SEC-150")
def test_a_list_that_has_run_out_is_a_reason_to_come_again(pki: Pki, good: Made, tmp_path: Path) -> None:
    hosts = HostIdentifier(with_lists(pki.stores, Registry(pki.public, tmp_path).list(days=7)))
    assert isinstance(hosts.examine(good.chain, NOW), HostCertificate)
    outcome = refused(hosts.examine(good.chain, NOW + 8 * DAY), Check.CRL_STALE, "list 1")
    assert outcome.temporary


@pytest.mark.covers("SEC-150")
def test_a_list_counts_only_for_the_key_that_signed_it(pki: Pki, tmp_path: Path) -> None:
    impostor = pki.maker.root("Public")
    registry = Registry(impostor, tmp_path)
    made = pki.maker.host(pki.public, DNS_HOST)
    registry.revoke(made)
    forged = registry.list()
    hosts = HostIdentifier(with_lists(pki.stores, forged))
    assert isinstance(hosts.examine(made.chain, NOW), HostCertificate)
    with pytest.raises(ValueError, match="not signed by the CA"):
        read_revocation_list(forged, "forged", [pki.public.parsed])
    with pytest.raises(ValueError, match="no list"):
        read_revocation_list(b"nothing", "empty")


@pytest.mark.covers("SEC-150")
def test_a_new_list_ends_what_was_remembered(pki: Pki, tmp_path: Path) -> None:
    registry = Registry(pki.public, tmp_path)
    made = pki.maker.host(pki.public, DNS_HOST)
    stores = with_lists(pki.stores, registry.list())
    hosts = HostIdentifier(stores)
    assert isinstance(hosts.examine(made.chain, NOW), HostCertificate)
    registry.revoke(made)
    with_lists(stores, registry.list())
    refused(hosts.examine(made.chain, NOW), Check.REVOKED)


# -- EHLO and PTR -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(pki: Pki, good: Made) -> HostCertificate:
    found = examine(pki, good.chain)
    assert isinstance(found, HostCertificate)
    return found


@pytest.mark.covers("AMTP-2a", "SEC-152")
def test_ehlo_must_be_a_name_of_the_certificate(certificate: HostCertificate) -> None:
    for hello in (
        "other.example",
        "bank.example",
        "[192.0.2.1]",
        "mx.bank.example.",
        "",
        "x" * 5000,
        "ä" * 300,
    ):
        refused(judge_hello(certificate, hello, PTR, HostSettings()), Check.EHLO_MISMATCH, "EHLO says")


@pytest.mark.covers("AMTP-19")
def test_ehlo_must_be_a_name_of_a_private_certificate_too(certificate: HostCertificate) -> None:
    private = replace(certificate, connection=Arrival.AMTP_PRIVATE)
    refused(judge_hello(private, "other.example", None, HostSettings()), Check.EHLO_MISMATCH)


@pytest.mark.covers("SEC-152")
def test_three_names_must_agree_and_two_do_not_outvote_the_third(certificate: HostCertificate) -> None:
    names = ("a.example", "b.example", "c.example")
    for held, pointed, said in itertools.product(names, repeat=3):
        one = replace(certificate, hosts=(held,))
        judged = judge_hello(one, said, ReverseNames((pointed,)), HostSettings())
        assert isinstance(judged, ProvenHost) == (held == pointed == said), (held, pointed, said)


@pytest.mark.covers("AMTP-2a")
def test_the_certificate_is_blamed_where_it_stands_alone(certificate: HostCertificate) -> None:
    reverse = ReverseNames(("mx.new.example",))
    refused(judge_hello(certificate, "mx.new.example", reverse, HostSettings()), Check.NAME, "mx.new.example")


NO_NAMES = ReverseNames()
PTR_FAULTS: dict[str, tuple[ReverseNames, Check]] = {
    "none": (NO_NAMES, Check.PTR_NONE),
    "another": (ReverseNames(("alt.bank.example",)), Check.PTR_MISMATCH),
    "others": (ReverseNames(("a.example", "b.example"), ("c.example",)), Check.PTR_MISMATCH),
    "does not lead back": (ReverseNames((), (HOST,)), Check.PTR_NOT_FORWARD),
    "time-out": (ReverseNames(failure="no answer"), Check.PTR_TIMEOUT),
    "time-out on the way back": (ReverseNames((), (), (HOST,)), Check.PTR_TIMEOUT),
    "the eleventh of eleven": (
        ReverseNames((*(f"n{number}.example" for number in range(10)), HOST)),
        Check.PTR_MISMATCH,
    ),
}


@pytest.mark.covers("AMTP-2a", "SEC-153", "SEC-154")
@pytest.mark.parametrize("fault", PTR_FAULTS)
def test_the_ptr_record_must_name_the_host_and_lead_back(certificate: HostCertificate, fault: str) -> None:
    reverse, check = PTR_FAULTS[fault]
    outcome = refused(judge_hello(certificate, HOST, reverse, HostSettings()), check)
    assert outcome.temporary == (check is Check.PTR_TIMEOUT)


@pytest.mark.covers("AMTP-2a")
def test_any_of_ten_ptr_names_will_do(certificate: HostCertificate) -> None:
    names = (*(f"n{number}.example" for number in range(9)), HOST.upper())
    assert isinstance(judge_hello(certificate, HOST, ReverseNames(names), HostSettings()), ProvenHost)


@pytest.mark.covers("AMTP-2a")
def test_leading_back_may_be_waived_and_the_name_may_not(certificate: HostCertificate) -> None:
    lax = HostSettings(forward_confirm=False)
    assert isinstance(judge_hello(certificate, HOST, ReverseNames((), (HOST,)), lax), ProvenHost)
    refused(judge_hello(certificate, HOST, ReverseNames((), ("b.example",)), lax), Check.PTR_MISMATCH)
    refused(judge_hello(certificate, HOST, NO_NAMES, lax), Check.PTR_NONE)


@pytest.mark.covers("AMTP-2a")
def test_a_public_host_is_never_proven_without_its_ptr(certificate: HostCertificate) -> None:
    refused(judge_hello(certificate, HOST, None, HostSettings()), Check.PTR_TIMEOUT)


# -- logins -------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMTP-19")
def test_a_login_must_be_one_that_the_certificate_names(pki: Pki) -> None:
    made = pki.maker.host(
        pki.private, "email:Ann@Bank.example,DNS:laptop.bank.example", subject="/CN=ann", usage="clientAuth"
    )
    certificate = examine(pki, made.chain)
    assert isinstance(certificate, HostCertificate)
    for login in ("ann@bank.example", "ANN@BANK.EXAMPLE", "ann", "laptop.bank.example"):
        assert certificate_names_login(certificate, login), login
    for login in ("", "bob", "ann@other.example", "an", "ann@", "@bank.example", "x" * 10_000, "ännn"):
        assert not certificate_names_login(certificate, login), login


# -- a client looks at a server ------------------------------------------------------------------------------


def judge(
    pki: Pki, made: Made, domain: str = "bank.example", target: str = HOST, now: float = NOW, **known: object
) -> ServerIdentity | HostRefusal:
    question = replace(ServerQuestion(domain, target), **known)  # type: ignore[arg-type]
    return ServerJudge(pki.stores).judge(made.chain, question, now)


@pytest.mark.covers("AMTP-5")
def test_the_recipient_domain_in_the_certificate_proves_the_server(pki: Pki) -> None:
    for names, how in (
        (("DNS:bank.example",), "dNSName of the recipient domain, public CA"),
        ((SRV_NAME,), "SRVName of the recipient domain, public CA"),
        ((DNS_HOST, SRV_NAME), "SRVName of the recipient domain, public CA"),
    ):
        outcome = judge(pki, pki.maker.host(pki.public, *names), target="elsewhere.example")
        assert isinstance(outcome, ServerIdentity), outcome
        assert (outcome.name, outcome.how, outcome.proven) == ("bank.example", how, True)


@pytest.mark.covers("AMTP-5")
def test_who_forges_the_srv_record_gains_nothing(pki: Pki) -> None:
    """The attacker's certificate is good for his own host: recorded as claimed, and proof of nothing."""
    outcome = judge(pki, pki.maker.host(pki.public, "DNS:mx.evil.example"), target="mx.evil.example")
    assert isinstance(outcome, ServerIdentity)
    assert not outcome.proven
    assert outcome.how.startswith("host name, over an unsigned SRV record")
    service = "otherName:1.3.6.1.5.5.7.8.7;IA5:_amtp.evil.example"
    outcome = judge(pki, pki.maker.host(pki.public, "DNS:mx.evil.example", service), target="mx.evil.example")
    assert isinstance(outcome, ServerIdentity)
    assert not outcome.proven


@pytest.mark.covers("AMTP-5", "ITP-2c")
def test_the_hosts_name_proves_where_dnssec_or_the_partner_entry_leads_to_it(pki: Pki) -> None:
    made = pki.maker.host(pki.public, DNS_HOST)
    for known in ({"srv_secure": True}, {"partner_hosts": frozenset({HOST})}):
        outcome = judge(pki, made, **known)
        assert isinstance(outcome, ServerIdentity)
        assert outcome.proven
        assert outcome.name == HOST
    others = judge(pki, made, partner_hosts=frozenset({"mx2.bank.example"}))
    assert isinstance(others, ServerIdentity)
    assert not others.proven


@pytest.mark.covers("AMTP-5", "AMTP-19")
def test_a_server_of_a_private_ca_is_as_good(pki: Pki) -> None:
    outcome = judge(pki, pki.maker.host(pki.private, DNS_HOST), "", partner_hosts=frozenset({HOST}))
    assert isinstance(outcome, ServerIdentity)
    assert (outcome.proven, outcome.ca_set) == (True, "private")


@pytest.mark.covers("ITP-2a", "SEC-141")
def test_the_left_most_label_of_a_server_may_be_a_wildcard(pki: Pki) -> None:
    made = pki.maker.host(pki.public, "DNS:*.bank.example")
    assert isinstance(judge(pki, made, srv_secure=True), ServerIdentity)
    for target in ("bank.example", "a.b.bank.example", "bank.example.evil.example"):
        refused(judge(pki, made, "other.example", target, srv_secure=True), Check.NAME)
    for odd in ("DNS:m*.bank.example", "DNS:mx.*.example", "DNS:*"):
        bad = pki.maker.host(pki.public, odd)
        assert isinstance(judge(pki, bad, "other.example", srv_secure=True), HostRefusal), odd


SERVER_FAULTS: dict[str, tuple[Callable[[Pki], Made], float, Check]] = {
    "another name": (lambda pki: pki.maker.host(pki.public, "DNS:mx.other.example"), NOW, Check.NAME),
    "common name only": (lambda pki: pki.maker.host(pki.public, subject=f"/CN={HOST}"), NOW, Check.NAME),
    "expired": (lambda pki: pki.maker.host(pki.public, DNS_HOST), NOW + 91 * DAY, Check.EXPIRED),
    "not yet valid": (lambda pki: pki.maker.host(pki.public, DNS_HOST), NOW - DAY, Check.NOT_YET_VALID),
    "unknown CA": (lambda pki: pki.maker.host(pki.stranger, DNS_HOST), NOW, Check.UNKNOWN_CA),
    "self-signed": (lambda pki: pki.maker.host(None, DNS_HOST), NOW, Check.SELF_SIGNED),
    "for clients": (lambda pki: pki.maker.host(pki.public, DNS_HOST, usage="clientAuth"), NOW, Check.PURPOSE),
    "SRVName of another service": (
        lambda pki: pki.maker.host(pki.public, "otherName:1.3.6.1.5.5.7.8.7;IA5:_imap.bank.example"),
        NOW,
        Check.NAME,
    ),
    "SRVName of an unknown CA": (lambda pki: pki.maker.host(pki.stranger, SRV_NAME), NOW, Check.UNKNOWN_CA),
    "SRVName for clients": (
        lambda pki: pki.maker.host(pki.public, SRV_NAME, usage="clientAuth"),
        NOW,
        Check.PURPOSE,
    ),
}


@pytest.mark.covers("AMTP-5", "AMTP-1")
@pytest.mark.parametrize("fault", SERVER_FAULTS)
def test_a_server_that_proves_nothing_is_refused_by_a_named_check(pki: Pki, fault: str) -> None:
    make, now, check = SERVER_FAULTS[fault]
    refused(judge(pki, make(pki), now=now, srv_secure=True), check)


@pytest.mark.covers("AMTP-5", "SEC-140")
def test_an_srvname_does_not_evade_name_constraints(pki: Pki) -> None:
    limits = ["nameConstraints=critical,permitted;DNS:shop.example"]
    below = pki.maker.below(pki.public, "Limited for services", limits)
    refused(judge(pki, pki.maker.host(below, SRV_NAME)), Check.NAME_CONSTRAINTS)
    inside = pki.maker.host(below, "DNS:mx.shop.example", SRV_NAME)
    outcome = judge(pki, inside, target="mx.shop.example")
    assert isinstance(outcome, ServerIdentity)
    assert not outcome.proven


# -- memory, and sets -------------------------------------------------------------------------------------


@pytest.mark.covers("ITP-2a")
def test_a_known_chain_costs_no_validation(pki: Pki, good: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from outrider.identity import host_identity

    hosts, servers = HostIdentifier(pki.stores), ServerJudge(pki.stores)
    question = ServerQuestion("bank.example", HOST)
    first = hosts.examine(good.chain, NOW)
    judged = servers.judge(good.chain, question, NOW)

    def unexpected(*_: object) -> None:
        raise AssertionError("validated again")

    monkeypatch.setattr(host_identity, "read_chain", unexpected)
    assert hosts.examine(tuple(bytes(der) for der in good.chain), NOW + DAY) is first
    assert servers.judge(good.chain, question, NOW + DAY) is judged
    for moment in (NOW + 91 * DAY, NOW - 1):
        with pytest.raises(AssertionError):
            hosts.examine(good.chain, moment)
    with pytest.raises(AssertionError):
        servers.judge(good.chain, replace(question, srv_secure=True), NOW)


@pytest.mark.covers("ITP-2a")
def test_a_refusal_is_remembered_for_a_minute(pki: Pki) -> None:
    hosts = HostIdentifier(pki.stores)
    chain = pki.maker.host(pki.stranger, DNS_HOST).chain
    first = hosts.examine(chain, NOW)
    assert hosts.examine(chain, NOW + 59) is first
    assert hosts.examine(chain, NOW + 61) is not first


@pytest.mark.covers("AMTP-19", "SEC-156")
def test_an_authority_in_both_sets_is_found(pki: Pki) -> None:
    between = pki.maker.below(pki.public, "Ours")
    public, private = [pki.public.parsed], [pki.private.parsed]
    assert shared_authorities(public, private) == ()
    assert shared_authorities(public, [*private, *public]) == ("Public is in the public set too",)
    assert shared_authorities(public, [between.parsed]) == ("Ours was certified by a CA of the public set",)
    assert shared_authorities(public, [pki.maker.root("Public").parsed]) == ()


@pytest.mark.covers("ITP-2a")
@given(st.text(max_size=300))
def test_normal_host_never_raises_and_is_idempotent(text: str) -> None:
    name = normal_host(text)
    assert normal_host(name) == name
    assert name == name.lower()
    assert name.isascii()
