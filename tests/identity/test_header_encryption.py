"""Headers encrypted to certificates: opened by their holders, and by nothing else."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey

from outrider.identity.header_encryption import (
    MAX_ENCRYPTED_OCTETS,
    MAX_RECIPIENTS,
    EncryptionError,
    decrypt_headers,
    encrypt_headers,
    look_at,
)
from outrider.identity.jws import decode, encode, thumbprint_of
from tests.identity.mt2_papers import MADE, Party, Site
from tests.identity.openssl import Made, OpenSsl

SITE = Site()
BOB = SITE.user("bob@c.example")
ANN = Party("ann@c.example", SITE.authority.issue_user("ann@c.example", MADE, key="rsa"))
EVE = SITE.user("eve@c.example")
HEADERS = b'<headers><field name="Subject">Secret</field></headers>'
OCTETS = encrypt_headers(HEADERS, [BOB.chain[0], ANN.chain[0]])


def by(party: Party, octets: bytes = OCTETS) -> bytes:
    return decrypt_headers(octets, party.issued.certificate_pem, party.issued.key_pem)


def can_read(party: Party, octets: bytes) -> bool:
    try:
        return by(party, octets) == HEADERS
    except EncryptionError:
        return False


def changed(change: Any) -> bytes:
    parts = json.loads(OCTETS)
    change(parts)
    return json.dumps(parts, separators=(",", ":"), sort_keys=True).encode()


def header(**members: object) -> str:
    return encode(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())


@pytest.mark.covers("MT2-4")
def test_every_recipient_can_read_them_and_nobody_else() -> None:
    assert by(BOB) == by(ANN) == HEADERS
    with pytest.raises(EncryptionError, match="not encrypted for this certificate"):
        by(EVE)
    assert HEADERS not in OCTETS
    assert encrypt_headers(HEADERS, [BOB.chain[0]]) != encrypt_headers(HEADERS, [BOB.chain[0]])


@pytest.mark.covers("MT2-4")
def test_what_can_be_seen_without_a_key() -> None:
    seen = look_at(OCTETS)
    assert seen.recipients == (thumbprint_of(BOB.chain[0]), thumbprint_of(ANN.chain[0]))
    assert seen.octets == len(HEADERS)
    twice = look_at(encrypt_headers(b"", [BOB.chain[0], BOB.chain[0]]))
    assert (len(twice.recipients), twice.octets) == (1, 0)


@pytest.mark.covers("MT2-4")
def test_the_form_is_the_standards() -> None:
    """Another reader of RFC 7516 opens it, with nothing of ours."""
    parts = json.loads(OCTETS)
    assert json.loads(decode(parts["protected"])) == {
        "cty": "message/headers",
        "enc": "A256GCM",
        "typ": "mt2-headers+jwe",
    }
    assert [one["header"]["alg"] for one in parts["recipients"]] == ["ECDH-ES+A256KW", "RSA-OAEP-256"]
    parts["recipients"] = parts["recipients"][:1]
    key = ECKey.import_key(BOB.issued.key_pem)
    assert jwe.decrypt_json(parts, key, ["ECDH-ES+A256KW", "A256GCM"]).plaintext == HEADERS


@pytest.mark.covers("MT2-4")
@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_certificates_of_the_openssl_command(curve: str, tmp_path: Path) -> None:
    words = ("-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}")
    made = _user(tmp_path, "keyAgreement", words)
    octets = encrypt_headers(HEADERS, [made.der])
    assert decrypt_headers(octets, made.certificate.read_bytes(), made.key.read_bytes()) == HEADERS


@pytest.mark.covers("MT2-4")
def test_the_openssl_command_unwraps_the_key(tmp_path: Path) -> None:
    """RSA-OAEP with SHA-256, as RFC 7518 section 4.3 has it."""
    made = _user(tmp_path, "keyEncipherment", ("-newkey", "rsa:2048"))
    parts = json.loads(encrypt_headers(HEADERS, [made.der]))
    (tmp_path / "wrapped").write_bytes(decode(parts["recipients"][0]["encrypted_key"]))
    options = ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256")
    words = ["openssl", "pkeyutl", "-decrypt", "-inkey", str(made.key), "-in", "wrapped"]
    words += [word for option in options for word in ("-pkeyopt", option)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
    assert len(done.stdout) == 32, done.stderr


def _user(folder: Path, usage: str, key_words: tuple[str, ...]) -> Made:
    ssl = OpenSsl(folder / "ca")
    extra = (f"keyUsage=critical,digitalSignature,{usage}",)
    root = ssl.root()
    return ssl.host(root, "email:bob@c.example", usage="emailProtection", extra=extra, key_words=key_words)


@pytest.mark.covers("MT2-4", "MT2-22")
def test_certificates_that_are_not_for_encryption() -> None:
    for chain in ((), (SITE.a.chain[0],), (b"x",), (BOB.chain[0],) * 0):
        with pytest.raises(EncryptionError):
            encrypt_headers(HEADERS, chain)
    with pytest.raises(EncryptionError, match=str(MAX_RECIPIENTS)):
        encrypt_headers(HEADERS, [BOB.chain[0]] * (MAX_RECIPIENTS + 1))
    with pytest.raises(EncryptionError, match="too large"):
        encrypt_headers(bytes(MAX_ENCRYPTED_OCTETS), [BOB.chain[0]])
    usage = BOB.issued.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_agreement
    assert usage.digital_signature


@pytest.mark.covers("MT2-4")
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(protected=header(cty="message/headers", enc="A128GCM", typ="mt2-headers+jwe")),
        lambda p: p.update(
            protected=header(cty="message/headers", enc="A256CBC-HS512", typ="mt2-headers+jwe")
        ),
        lambda p: p.update(
            protected=header(cty="message/headers", enc="A256GCM", typ="mt2-headers+jwe", zip="DEF")
        ),
        lambda p: p.update(protected=header(enc="A256GCM")),
        lambda p: p.update(protected=header(cty="message/headers", crit=["x"], enc="A256GCM", x=1)),
        lambda p: p.update(unprotected={"zip": "DEF"}),
        lambda p: p.update(unprotected={}),
        lambda p: p.update(aad="AAAA"),
        lambda p: p.update(tag=encode(decode(p["tag"])[:4])),
        lambda p: p.update(iv=encode(decode(p["iv"])[:8])),
        lambda p: p.update(recipients=[]),
        lambda p: p.update(recipients=p["recipients"] * 2),
        lambda p: p["recipients"][0].pop("header"),
        lambda p: p["recipients"][0]["header"].update(alg="dir"),
        lambda p: p["recipients"][0]["header"].update(alg="ECDH-ES"),
        lambda p: p["recipients"][0]["header"].update(alg="ECDH-ES+A128KW"),
        lambda p: p["recipients"][0]["header"].update(alg="A256KW"),
        lambda p: p["recipients"][0]["header"].update(alg="RSA-OAEP-256"),
        lambda p: p["recipients"][1]["header"].update(alg="RSA1_5"),
        lambda p: p["recipients"][1]["header"].update(alg="RSA-OAEP"),
        lambda p: p["recipients"][1]["header"].update(alg="PBES2-HS512+A256KW", p2c=10**9, p2s="AAAA"),
        lambda p: p["recipients"][0]["header"].update(zip="DEF"),
        lambda p: p["recipients"][0]["header"].update(enc="A128GCM"),
        lambda p: p["recipients"][0]["header"].update(apu="AAAA"),
        lambda p: p["recipients"][0]["header"].pop("epk"),
        lambda p: p["recipients"][0]["header"]["epk"].update(crv="P-192"),
        lambda p: p["recipients"][0]["header"]["epk"].update(crv="P-384"),
        lambda p: p["recipients"][0]["header"]["epk"].update(kty="OKP"),
        lambda p: p["recipients"][0]["header"]["epk"].update(d="AAAA"),
        lambda p: p["recipients"][0]["header"]["epk"].update(x=encode(bytes(32))),
        lambda p: p["recipients"][0]["header"]["epk"].update(x=encode(bytes(31))),
        lambda p: p["recipients"][0].update(encrypted_key=encode(bytes(40))),
        lambda p: p["recipients"][0].update(encrypted_key=encode(bytes(48))),
        lambda p: p["recipients"][0].update(encrypted_key=""),
        lambda p: p["recipients"][0]["header"].update({"x5t#S256": "AAAA"}),
        lambda p: p.update(ciphertext=p["ciphertext"] + "="),
        lambda p: p.update(ciphertext=""),
        lambda p: p.pop("tag"),
    ],
)
def test_everything_else_is_refused(change: Any) -> None:
    octets = changed(change)
    assert octets != OCTETS
    assert not (can_read(BOB, octets) and can_read(ANN, octets))


@pytest.mark.covers("MT2-4")
def test_only_the_canonical_form() -> None:
    pretty = json.dumps(json.loads(OCTETS), indent=1).encode()
    twice = OCTETS.replace(b'"tag"', b'"tag":"AAAA","tag"')
    for octets in (pretty, twice, OCTETS + b"\n", b"", b"{}", b"[" * 9_000, b"\xff", OCTETS[:-1]):
        with pytest.raises(EncryptionError):
            look_at(octets)
    with pytest.raises(EncryptionError, match="too large"):
        look_at(b" " * (MAX_ENCRYPTED_OCTETS + 1))


@pytest.mark.covers("MT2-4")
@given(st.integers(0, len(OCTETS) - 1), st.integers(1, 255))
@settings(deadline=None)
def test_any_changed_octet_is_noticed(place: int, change: int) -> None:
    """The other recipient's part is none of the reader's; everything else is."""
    octets = bytearray(OCTETS)
    octets[place] ^= change
    for party in (BOB, ANN):
        try:
            assert by(party, bytes(octets)) == HEADERS
        except EncryptionError:
            return
    raise AssertionError(f"octet {place} can be changed unnoticed")


@pytest.mark.covers("MT2-4")
@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_octets_raise_one_error(octets: bytes) -> None:
    with pytest.raises(EncryptionError):
        by(BOB, octets)


@pytest.mark.covers("MT2-4")
def test_keys_that_do_not_fit() -> None:
    pem, key = BOB.issued.certificate_pem, EVE.issued.key_pem
    for certificate, private in ((pem, key), (b"x", key), (pem, b"x")):
        with pytest.raises(EncryptionError):
            decrypt_headers(OCTETS, certificate, private)
    der = BOB.issued.certificate.public_bytes(Encoding.DER)
    assert base64.b64encode(der) not in OCTETS
