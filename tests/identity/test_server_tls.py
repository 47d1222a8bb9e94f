"""Who a server has proven to be."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.authorities import CaStores, ca_stores
from outrider.identity.certificate_authority import CertificateAuthority, Issued
from outrider.identity.certificates import fingerprints_of
from outrider.identity.server_tls import (
    ProvenServer,
    TlsRefusal,
    match_fingerprint,
    verify_server,
)

BEGAN = datetime.now(UTC) - timedelta(days=10)
NOW = time.time()
AUTHORITY = CertificateAuthority.create("Ours", BEGAN)
STRANGER = CertificateAuthority.create("Stranger", BEGAN)
STORES = ca_stores([], [AUTHORITY.certificate_pem])
HOST = AUTHORITY.issue_host(["mx.peer.example", "*.w.example"], BEGAN, addresses=["127.0.0.1", "::1"])


def chain(issued: Issued) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in (issued.certificate, *issued.chain)]


@pytest.mark.covers("TLS-4a", "SEC-51")
@pytest.mark.parametrize(
    ("name", "proven"),
    [
        ("mx.peer.example", True),
        ("MX.Peer.Example.", True),
        ("a.w.example", True),
        ("127.0.0.1", True),
        ("[127.0.0.1]", True),
        ("[IPv6:::1]", True),
        ("w.example", False),
        ("a.b.w.example", False),
        ("peer.example", False),
        ("127.0.0.2", False),
        ("*.w.example", False),
        ("", False),
        ("mx.peer.example\0.evil", False),
        ("mx peer", False),
        ("bücher.example", False),
        ("/run/lmtp", False),
        ("x" * 300, False),
    ],
)
def test_names(name: str, proven: bool) -> None:
    assert isinstance(verify_server(chain(HOST), name, STORES, NOW), ProvenServer) is proven


@pytest.mark.covers("TLS-4a", "SEC-51")
def test_the_answer_says_which_set_vouched() -> None:
    name = "mx.peer.example"
    for stores, how in (
        (ca_stores([], [AUTHORITY.certificate_pem]), "private CA"),
        (ca_stores([AUTHORITY.certificate_pem], []), "public CA"),
        (ca_stores([AUTHORITY.certificate_pem], [STRANGER.certificate_pem]), "public CA"),
    ):
        assert verify_server(chain(HOST), name, stores, NOW) == ProvenServer(name, how)


@pytest.mark.covers("SEC-51")
@pytest.mark.parametrize(
    ("issued", "stores", "reason"),
    [
        (STRANGER.issue_host(["mx.peer.example"], BEGAN), STORES, "no path to a configured CA"),
        (HOST, CaStores(), "no CA is configured"),
        (AUTHORITY.issue_host(["mx.peer.example"], BEGAN, days=5), STORES, "expired"),
        (AUTHORITY.issue_host(["mx.peer.example"], BEGAN + timedelta(days=20)), STORES, "not valid before"),
        (AUTHORITY.issue_host(["other.example"], BEGAN), STORES, "another name"),
    ],
)
def test_what_proves_nothing(issued: Issued, stores: CaStores, reason: str) -> None:
    refusal = verify_server(chain(issued), "mx.peer.example", stores, NOW)
    assert isinstance(refusal, TlsRefusal)
    assert reason in refusal.reason
    assert "other.example" not in refusal.reason


def test_intermediate_authorities_are_taken_from_the_chain() -> None:
    below = AUTHORITY.issue_authority("Below", BEGAN)
    issued = below.issue_host(["mx.peer.example"], BEGAN)
    assert isinstance(verify_server(chain(issued), "mx.peer.example", STORES, NOW), ProvenServer)
    assert isinstance(verify_server(chain(issued)[:1], "mx.peer.example", STORES, NOW), TlsRefusal)


@pytest.mark.covers("SEC-51")
def test_a_certificate_for_clients_is_none_for_a_server() -> None:
    user = AUTHORITY.issue_user("ann@peer.example", BEGAN)
    assert isinstance(verify_server(chain(user), "peer.example", STORES, NOW), TlsRefusal)


def test_self_signed_is_said_plainly() -> None:
    der = STRANGER.certificate.public_bytes(Encoding.DER)
    refusal = verify_server([der], "Stranger", STORES, NOW)
    assert isinstance(refusal, TlsRefusal)
    assert "Stranger" not in refusal.reason


@given(st.lists(st.binary(max_size=200), max_size=3), st.text(max_size=20))
def test_any_octets_prove_nothing_and_raise_nothing(octets: list[bytes], name: str) -> None:
    assert isinstance(verify_server(octets, name, STORES, NOW), TlsRefusal)
    assert isinstance(match_fingerprint(octets, [name, "00" * 32]), TlsRefusal)


def test_chains_without_end() -> None:
    for octets in ([chain(HOST)[0]] * 11, [b"x" * 200_000]):
        assert "too long" in getattr(verify_server(octets, "mx.peer.example", STORES, NOW), "reason", "")


@pytest.mark.covers("TLS-4a")
def test_fingerprints() -> None:
    prints = fingerprints_of(chain(HOST)[0])
    spelled = ":".join(prints.certificate[n : n + 2] for n in range(0, 64, 2)).upper()
    for pin, how in (
        (prints.certificate, "fingerprint of the certificate"),
        (spelled, "fingerprint of the certificate"),
        (prints.public_key, "fingerprint of the key"),
    ):
        assert match_fingerprint(chain(HOST), ["ab" * 32, pin]) == ProvenServer("", how)
    for pins in ([], ["ab" * 32], [""], [prints.certificate[:-1]], ["x" * 64]):
        assert isinstance(match_fingerprint(chain(HOST), pins), TlsRefusal)
    assert isinstance(match_fingerprint([], [prints.certificate]), TlsRefusal)


def test_a_pinned_key_survives_another_certificate() -> None:
    spki = HOST.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki
    assert match_fingerprint(chain(HOST), [fingerprints_of(chain(HOST)[0]).public_key])


def test_a_file_without_certificates_is_an_error() -> None:
    with pytest.raises(ValueError):
        ca_stores([b"nothing here"], [])
