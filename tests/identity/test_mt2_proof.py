"""The proof of HELO: for this connection, this nonce, these names, and this role; or none."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.identity.jws import CompactJws, Signer
from outrider.identity.mt2_proof import (
    MAX_PROOF_OCTETS,
    PROOF_TYP,
    Proof,
    ProofError,
    ProofTerms,
    check_proof,
    make_proof,
)
from outrider.identity.seals import SEAL_TYP
from outrider.identity.trace import Problem
from tests.identity.mt2_papers import NOW, Site, draft, handover, verified

SITE = Site()
SIGNER = SITE.a.sealer.signer
BINDING = bytes(range(32))
TERMS = ProofTerms("client", "mx.a.example", "mx.b.example", "n0nce-of-b", BINDING)
DATA = make_proof(SIGNER, TERMS)


def checked(octets: bytes = DATA, **changes: object) -> Proof:
    known = {
        "role": "client",
        "nonce": TERMS.nonce,
        "binding": BINDING,
        "servers": ("mx.b.example", "b.example"),
    }
    return check_proof(octets, **(known | changes))  # type: ignore[arg-type]


def signed(payload: bytes, typ: str = PROOF_TYP, signer: Signer = SIGNER) -> bytes:
    """Certificate data over any payload."""
    pem = "".join(ssl.DER_cert_to_PEM_cert(der) for der in signer.chain)
    return f"{pem}{signer.compact(payload, typ)}".encode()


@pytest.mark.covers("MT2-10b")
def test_a_client_proves_its_key() -> None:
    proof = checked()
    assert proof == Proof(SITE.a.chain, "mx.a.example", "mx.b.example")
    assert DATA.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert len(DATA.split(b"\n")[-2].split(b".")) == 3
    assert "binding" not in repr(TERMS)  # nothing for logs


@pytest.mark.covers("MT2-10b")
def test_a_server_proves_itself_likewise() -> None:
    signer = SITE.b.sealer.signer
    for client in ("mx.a.example", ""):
        terms = ProofTerms("server", client, "mx.b.example", "n-of-a", BINDING)
        data = make_proof(signer, terms)
        proof = check_proof(data, "server", "n-of-a", BINDING, ("mx.b.example",), client)
        assert proof.chain == SITE.b.chain
        with pytest.raises(ProofError, match="another client"):
            check_proof(data, "server", "n-of-a", BINDING, ("mx.b.example",), "mx.c.example")


@pytest.mark.covers("MT2-10b")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"role": "server"}, "other role"),
        ({"nonce": "another"}, "another nonce"),
        ({"binding": bytes(32)}, "another connection"),
        ({"binding": b""}, "no channel binding"),
        ({"servers": ("mx.c.example",)}, "another server"),
        ({"servers": ()}, "another server"),
        ({"client": "mx.c.example"}, "another client"),
    ],
)
def test_a_proof_made_for_something_else(changes: dict[str, object], says: str) -> None:
    """Replayed to another server, in another session, over another connection, or turned round."""
    with pytest.raises(ProofError, match=says):
        checked(**changes)


@pytest.mark.covers("MT2-10b", "MT2-23b")
def test_a_seal_is_no_proof_and_a_proof_no_seal() -> None:
    payload = CompactJws.read(DATA.split(b"\n")[-2].decode(), PROOF_TYP).verified(SIGNER.chain[0])
    with pytest.raises(ProofError, match="another purpose"):
        checked(signed(payload, SEAL_TYP))
    sealed = SITE.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.b.example"), NOW)
    core = CompactJws.read(sealed.seals[0], SEAL_TYP).verified(SIGNER.chain[0])
    as_proof = SIGNER.compact(core, PROOF_TYP)
    for seal in (as_proof, SIGNER.compact(payload, PROOF_TYP), SIGNER.compact(payload, SEAL_TYP)):
        report = verified(replace(sealed, seals=(seal,)), SITE, peer=["mx.a.example"])
        assert ("seal 0", Problem.MALFORMED) in {(one.place, one.problem) for one in report.findings}
    with pytest.raises(ProofError):
        checked(signed(core))


@pytest.mark.covers("MT2-10b")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"binding":"AAAA","client":"mx.a.example","nonce":"n","role":"client"}',
        b'{"binding":"AAAA","client":"mx.a.example","more":1,"nonce":"n","role":"client","server":"s"}',
        b'{"binding":"AAAA","client":"mx.a.example","nonce":"n","role":"admin","server":"s"}',
        b'{"binding":"AAAA","client":"a","client":"b","nonce":"n","role":"client","server":"s"}',
    ],
)
def test_other_claims_are_none(payload: bytes) -> None:
    with pytest.raises(ProofError, match="not valid"):
        checked(signed(payload))


@pytest.mark.covers("MT2-10b")
def test_the_chain_is_the_signers() -> None:
    proof = DATA.split(b"\n")[-2]
    others = "".join(ssl.DER_cert_to_PEM_cert(der) for der in SITE.b.chain).encode()
    with pytest.raises(ProofError, match="another certificate"):
        checked(others + proof)
    own = ssl.DER_cert_to_PEM_cert(SITE.a.chain[0]).encode()
    assert checked(own + proof).chain == SITE.a.chain[:1]
    with pytest.raises(ProofError, match="more than"):
        checked(own * 11 + proof)
    with pytest.raises(ProofError):
        checked(own.replace(b"MII", b"AAA", 1) + proof)


@pytest.mark.covers("MT2-10b")
def test_lines_may_end_as_they_like() -> None:
    assert checked(DATA.replace(b"\n", b"\r\n")) == checked()
    assert checked(DATA.rstrip(b"\n")) == checked()


@pytest.mark.covers("MT2-10b")
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"x",
        DATA.split(b"-----END CERTIFICATE-----\n")[-1],
        DATA + b"x",
        DATA + b"\n",
        b" " + DATA,
        DATA.replace(b"CERTIFICATE", b"PRIVATE KEY"),
        DATA.replace(b"-----END CERTIFICATE-----", b"-----END CERTIFICATE----"),
        DATA.rpartition(b"-----\n")[0] + b"-----\n",
        DATA + b" " * MAX_PROOF_OCTETS,
    ],
)
def test_what_is_no_certificate_data(octets: bytes) -> None:
    with pytest.raises(ProofError):
        checked(octets)


@pytest.mark.covers("MT2-10b")
def test_nothing_is_proven_without_terms() -> None:
    for changes in (
        {"binding": b""},
        {"binding": bytes(31)},
        {"nonce": ""},
        {"nonce": "a b"},
        {"nonce": "n" * 129},
        {"client": ""},
        {"server": ""},
        {"client": "a b"},
    ):
        with pytest.raises(ProofError):
            make_proof(SIGNER, replace(TERMS, **changes))  # type: ignore[arg-type]


@pytest.mark.covers("MT2-10b")
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
@settings(deadline=None)
def test_any_changed_octet_is_noticed(place: int, change: int) -> None:
    octets = bytearray(DATA)
    octets[place] ^= change
    try:
        proof = checked(bytes(octets))
    except ProofError:
        return
    # Line ends inside PEM mean nothing; an issuer's certificate is held against its CA by others.
    assert proof.chain[0] == SITE.a.chain[0]
    assert proof.client == "mx.a.example"


@pytest.mark.covers("MT2-10b")
@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_octets_raise_one_error(octets: bytes) -> None:
    with pytest.raises(ProofError):
        checked(octets)
