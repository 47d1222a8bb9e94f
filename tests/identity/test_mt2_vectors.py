"""The conformance vectors, and the examples of the page that quotes them, hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.authorities import CaStores
from outrider.identity.header_encryption import decrypt_headers, look_at
from outrider.identity.jws import CompactJws, thumbprint_of
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.mt2_proof import PROOF_TYP, check_proof
from outrider.identity.seal_paths import PeerPaths
from outrider.identity.seals import SEAL_TYP, Core, Entry
from outrider.identity.trace import Circumstances, ObjectCounter, Problem, SealedMessage, verify_trace
from tests.identity import mt2_stranger
from tests.identity.mt2_vectors import PAGE, A, examples, kept, quoted, vectors

VECTORS = kept() or {}
CASES: list[dict[str, Any]] = VECTORS["verify"]
PATHS = PeerPaths(
    Mt2Peers(CaStores.of(private=[x509.load_pem_x509_certificate(VECTORS["authority"].encode())]))
)


@pytest.mark.covers("MT2-10b", "MT2-23b")
def test_the_file_is_what_the_code_writes() -> None:
    assert json.loads(json.dumps(vectors(VECTORS))) == VECTORS


@pytest.mark.covers("MT2-23a")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_is_found(case: dict[str, Any]) -> None:
    message = SealedMessage(
        case["envelope"].encode(),
        headers=ObjectCounter(case["headers"].encode()).digest(),
        body=ObjectCounter(case["body"].encode()).digest(),
    )
    around = Circumstances(case["now"], case["now"], tuple(case["peer"]), tuple(case["receiver"]))
    report = verify_trace(message, PATHS, around)
    assert sorted([one.place, one.problem.value] for one in report.findings) == case["findings"]


@pytest.mark.covers("MT2-23a", "MT2-23b")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_stranger_who_has_read_the_page_agrees(case: dict[str, Any]) -> None:
    """All but one form of XML for one meaning, which his parser does not show him."""
    authority = x509.load_pem_x509_certificate(VECTORS["authority"].encode())
    if not case["findings"] or case["name"] == "blank added":
        mt2_stranger.check(case, authority)
        return
    with pytest.raises((AssertionError, ValueError, KeyError, IndexError, InvalidSignature)):
        mt2_stranger.check(case, authority)


@pytest.mark.covers("MT2-10b")
def test_the_proof() -> None:
    known = VECTORS["proof"]
    proof = check_proof(
        known["data"].encode(),
        known["role"],
        known["nonce"],
        bytes.fromhex(known["binding"]),
        (known["server"],),
    )
    assert (proof.client, proof.chain) == (known["client"], A.signer.chain)
    assert CompactJws.read(known["jws"], PROOF_TYP).verified(A.signer.chain[0]) == known["payload"].encode()


@pytest.mark.covers("MT2-4")
def test_the_encrypted_headers() -> None:
    known = VECTORS["encrypted"]
    certificate, key = known["certificate"].encode(), known["key"].encode()
    assert decrypt_headers(known["octets"].encode(), certificate, key) == known["plain"].encode()
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    assert look_at(known["octets"].encode()).recipients == (thumbprint_of(der),)


@pytest.mark.covers("MT2-23b", "MT2-4", "MT2-10b")
def test_the_page_quotes_them() -> None:
    assert quoted() == examples(VECTORS)


@pytest.mark.covers("MT2-23b")
def test_the_page_names_every_member_problem_and_place() -> None:
    text = PAGE.read_text("utf-8")
    for name in {*Core.__struct_fields__, *Entry.__struct_fields__, SEAL_TYP, PROOF_TYP}:
        assert f"`{name}`" in text, name
    for problem in Problem:
        assert f"`{problem.value}`" in text, problem
