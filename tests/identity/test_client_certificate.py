"""What a client's certificate proves, and that it never does harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority, Issued, Revocation
from outrider.identity.certificates import fingerprints_of
from outrider.identity.client_certificate import (
    CertificateRefusal,
    ClientIdentifier,
    ProvenClient,
    identify_client,
)
from outrider.identity.revocation import RevocationSet, read_revocation_list
from outrider.testing import ca

NOW = datetime(2025, 11, 22, tzinfo=UTC)
MOMENT = NOW.timestamp()


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("Private", NOW - timedelta(days=1))


@pytest.fixture(scope="module")
def public() -> CertificateAuthority:
    return CertificateAuthority.create("Public", NOW - timedelta(days=1))


def chain(issued: Issued) -> tuple[bytes, ...]:
    return tuple(one.public_bytes(Encoding.DER) for one in (issued.certificate, *issued.chain))


@pytest.mark.covers("TLS-2b")
def test_a_name_is_proven_by_the_set_that_vouches(
    authority: CertificateAuthority, public: CertificateAuthority
) -> None:
    stores = CaStores.of([public.certificate], [authority.certificate])
    mine = identify_client(
        chain(authority.issue_host(["hub.b.example", "alt.b.example"], NOW)), stores, MOMENT
    )
    assert isinstance(mine, ProvenClient)
    assert (mine.names, mine.ca_set) == (("hub.b.example", "alt.b.example"), "private")
    theirs = identify_client(chain(public.issue_host(["hub.b.example"], NOW)), stores, MOMENT)
    assert isinstance(theirs, ProvenClient)
    assert theirs.ca_set == "public"


@pytest.mark.covers("TLS-2b", "TLS-3")
def test_the_sets_are_not_mixed_and_an_empty_one_vouches_for_nobody(
    authority: CertificateAuthority, public: CertificateAuthority
) -> None:
    mine = chain(authority.issue_host(["hub.b.example"], NOW))
    for stores in (CaStores(), CaStores.of(), CaStores.of([public.certificate])):
        refused = identify_client(mine, stores, MOMENT)
        assert isinstance(refused, CertificateRefusal)
        assert refused.fingerprints == fingerprints_of(mine[0])


@pytest.mark.covers("TLS-2b")
def test_the_server_purpose_and_the_client_purpose_both_prove_a_client(
    authority: CertificateAuthority,
) -> None:
    stores = CaStores.of(private=[authority.certificate])
    from outrider.identity.certificate_authority import Purpose

    for purpose in (Purpose.SERVER, Purpose.CLIENT):
        issued = ca._issue(
            authority,
            "hub.b.example",
            NOW,
            NOW + timedelta(days=9),
            usage=x509.ExtendedKeyUsage([purpose.value]),
        )
        assert isinstance(identify_client(chain(issued), stores, MOMENT), ProvenClient)


FLAWS = {
    "expired": ca.issue_expired,
    "not yet valid": ca.issue_not_yet_valid,
    "wrong purpose": ca.issue_wrong_purpose,
    "common name only": ca.issue_common_name_only,
    "unknown critical extension": ca.issue_unknown_critical,
    "weak key": ca.issue_weak_key,
}


@pytest.mark.covers("TLS-2b", "TLS-3")
@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_certificate_proves_no_name(authority: CertificateAuthority, flaw: str) -> None:
    stores = CaStores.of(private=[authority.certificate])
    refused = identify_client(chain(FLAWS[flaw](authority, "hub.b.example", NOW)), stores, MOMENT)
    assert isinstance(refused, CertificateRefusal)
    assert refused.reason


@pytest.mark.covers("TLS-2b")
def test_neither_wildcard_nor_leaf_nor_self_signature_proves(authority: CertificateAuthority) -> None:
    stores = CaStores.of(private=[authority.certificate])
    leaf = authority.issue_host(["leaf.b.example"], NOW)
    below = ca.issue_by_leaf(leaf, "hub.b.example", NOW)
    for der in (
        chain(ca.issue_wildcard(authority, "b.example", NOW)),
        (*chain(below), *chain(leaf)),
        chain(ca.issue_self_signed("hub.b.example", NOW)),
        chain(ca.issue_nameless(authority, NOW)),
    ):
        assert isinstance(identify_client(der, stores, MOMENT), CertificateRefusal)


@pytest.mark.covers("TLS-3")
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_octets_are_refused_and_never_raise(octets: list[bytes]) -> None:
    assert isinstance(identify_client(octets, CaStores(), MOMENT), CertificateRefusal)


@pytest.mark.covers("TLS-3")
def test_chains_without_end_are_not_followed(authority: CertificateAuthority) -> None:
    stores = CaStores.of(private=[authority.certificate])
    der = chain(authority.issue_host(["hub.b.example"], NOW))
    for hostile in (der * 11, (*der, b"x" * 200_000)):
        refused = identify_client(hostile, stores, MOMENT)
        assert isinstance(refused, CertificateRefusal)
        assert "too long" in refused.reason


@pytest.mark.covers("TLS-2b")
def test_fingerprints_of_certificate_and_key(authority: CertificateAuthority) -> None:
    issued = authority.issue_host(["hub.b.example"], NOW)
    prints = fingerprints_of(chain(issued)[0])
    assert prints.certificate == issued.certificate.fingerprint(hashes.SHA256()).hex()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(issued.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert prints.public_key == digest.finalize().hex()
    assert prints.match(prints.public_key)
    assert not prints.match("00" * 32)
    broken = fingerprints_of(b"not DER")
    assert not broken.public_key
    assert not broken.match("")


def test_an_answer_is_remembered_while_it_holds(authority: CertificateAuthority) -> None:
    clients = ClientIdentifier(CaStores.of(private=[authority.certificate]))
    der = chain(authority.issue_host(["hub.b.example"], NOW))
    first = clients.identify(der, MOMENT)
    assert clients.identify(der, MOMENT + 86_400 * 80) is first
    assert isinstance(first, ProvenClient)
    refusal = clients.identify(der, MOMENT + 86_400 * 91)
    assert isinstance(refusal, CertificateRefusal)
    assert clients.identify(der, MOMENT + 86_400 * 91 + 59) is refusal


@pytest.mark.covers("ITP-2a")
def test_a_users_certificate_proves_a_mailbox_under_a_private_ca_only(
    authority: CertificateAuthority, public: CertificateAuthority
) -> None:
    stores = CaStores.of([public.certificate], [authority.certificate])
    mine = identify_client(chain(authority.issue_user("Ann@B.example", NOW)), stores, MOMENT)
    assert isinstance(mine, ProvenClient)
    assert (mine.names, mine.mailboxes, mine.label) == ((), ("ann@b.example",), "ann@b.example")
    theirs = identify_client(chain(public.issue_user("ann@b.example", NOW)), stores, MOMENT)
    assert isinstance(theirs, CertificateRefusal)
    both = identify_client(
        chain(public.issue_user("ann@b.example", NOW, hosts=["a.b.example"])), stores, MOMENT
    )
    assert isinstance(both, ProvenClient)
    assert (both.names, both.mailboxes) == (("a.b.example",), ())


@pytest.mark.covers("ITP-2a", "SEC-150")
def test_a_revoked_certificate_proves_nothing(authority: CertificateAuthority) -> None:
    stores = CaStores.of(private=[authority.certificate])
    clients = ClientIdentifier(stores)
    issued = authority.issue_host(["hub.b.example"], NOW)
    assert isinstance(clients.identify(chain(issued), MOMENT), ProvenClient)
    revoked = [Revocation(issued.certificate.serial_number, NOW)]
    content = authority.revocation_list(revoked, NOW).public_bytes(Encoding.DER)
    found = read_revocation_list(content, "list", [authority.certificate])
    stores.revocations.current = RevocationSet([found])
    refused = clients.identify(chain(issued), MOMENT)
    assert isinstance(refused, CertificateRefusal)
    assert "revoked" in refused.reason
