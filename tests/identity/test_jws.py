"""Compact signatures: good ones are read, and none of the known tricks works."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.identity.jws import (
    MAX_COMPACT_OCTETS,
    CompactJws,
    JwsError,
    SignatureError,
    Signer,
    algorithm_of,
    decode,
    encode,
    thumbprint_of,
)
from tests.identity.mt2_papers import MADE, Party, Site
from tests.identity.openssl import OpenSsl

TYP = "mt2-seal+jws"
PAYLOAD = b'{"a":1}'
SITE = Site()
SIGNER = SITE.a.sealer.signer
LEAF = SIGNER.chain[0]
GOOD = SIGNER.compact(PAYLOAD, TYP)
HEADER, BODY, SIGNATURE = GOOD.split(".")


def opened(text: str, certificate: bytes = LEAF, typ: str = TYP) -> bytes:
    return CompactJws.read(text, typ).verified(certificate)


def with_header(header: object, *, raw: bytes | None = None) -> str:
    """Signed rightly over a header that is not ours."""
    octets = raw if raw is not None else json.dumps(header, separators=(",", ":")).encode()
    signed = f"{encode(octets)}.{BODY}"
    return f"{signed}.{encode(SIGNER.sign(signed.encode()))}"


def ours(**changes: object) -> dict[str, object]:
    return {"alg": "ES256", "typ": TYP, "x5t#S256": SIGNER.thumbprint} | changes


@pytest.mark.covers("MT2-23b")
def test_what_is_signed_can_be_read() -> None:
    assert opened(GOOD) == PAYLOAD
    assert json.loads(decode(HEADER)) == ours()
    assert opened(with_header(ours())) == PAYLOAD


@pytest.mark.covers("MT2-23b")
@pytest.mark.parametrize(("kind", "name"), [("ec", "ES256"), ("rsa", "PS256"), ("ed25519", "EdDSA")])
def test_the_algorithm_is_the_keys(kind: str, name: str, tmp_path: Path) -> None:
    """With certificates by the openssl command, which knows Ed25519 too."""
    words = {
        "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "rsa": ("-newkey", "rsa:2048"),
        "ed25519": ("-newkey", "ed25519"),
    }[kind]
    ssl = OpenSsl(tmp_path / "ca")
    made = ssl.host(ssl.root(), "DNS:mx.a.example", key_words=words)
    signer = Signer.from_pem(made.certificate.read_bytes(), made.key.read_bytes())
    text = signer.compact(PAYLOAD, TYP)
    assert CompactJws.read(text, TYP).algorithm == name
    assert opened(text, signer.chain[0]) == PAYLOAD


@pytest.mark.covers("MT2-23b", "SEC-134")
@pytest.mark.parametrize(
    "header",
    [
        ours(alg="none"),
        ours(alg="HS256"),
        ours(alg="ES384"),
        ours(alg="RS256"),
        ours(alg="PS256"),
        ours(alg="EdDSA"),
        ours(alg="es256"),
        ours(typ="mt2-proof+jws"),
        ours(typ="JWT"),
        ours(typ=None),
        ours(crit=["b64"], b64=False),
        ours(crit=[]),
        ours(jwk={"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        ours(jku="https://a.example/keys"),
        ours(x5u="https://a.example/chain"),
        ours(x5c=["AAAA"]),
        ours(kid="1"),
        {"alg": "ES256", "typ": TYP},
        {"typ": TYP, "alg": "ES256", "x5t#S256": SIGNER.thumbprint},
        ours() | {"x5t#S256": "A" * 42},
        ours() | {"x5t#S256": SIGNER.thumbprint + "="},
        {},
        [],
        None,
    ],
)
def test_any_other_header_is_refused(header: object) -> None:
    with pytest.raises(JwsError):
        opened(with_header(header))


@pytest.mark.covers("MT2-23b")
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"alg"', '"alg":"none","alg"'),
        lambda text: text.replace("}", ',"alg":"ES256"}'),
        lambda text: text.replace('"alg"', '"\\u0061lg"'),
        lambda text: text.replace(":", ": "),
        lambda text: text + " ",
        lambda text: text + "\n",
        lambda text: "\ufeff" + text,
        lambda text: text.replace("ES256", "ES256\x00"),
    ],
)
def test_any_other_form_of_the_header_is_refused(change: object) -> None:
    raw = change(decode(HEADER).decode()).encode()  # type: ignore[operator]
    with pytest.raises(JwsError):
        opened(with_header(None, raw=raw))


@pytest.mark.covers("MT2-23b", "SEC-134")
def test_a_public_key_is_no_secret() -> None:
    """The old trick: HMAC with the public key's octets, and no signature at all."""
    public = SITE.a.issued.certificate.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name in ("HS256", "ES256"):
        signed = f"{encode(json.dumps(ours(alg=name), separators=(',', ':')).encode())}.{BODY}"
        mac = hmac.digest(pem, signed.encode(), "sha256")
        for forged in (mac, mac * 2, b"\0" * 64):
            with pytest.raises(JwsError):
                opened(f"{signed}.{encode(forged)}")
    for text in (f"{HEADER}.{BODY}.", f"{HEADER}.{BODY}", f"{HEADER}..{SIGNATURE}"):
        with pytest.raises(JwsError):
            opened(text)


@pytest.mark.covers("MT2-23b")
def test_numbers_of_a_signature_out_of_range() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for r, s in ((0, 0), (0, 1), (1, 0), (order, order), (order + 1, 1), (1, order - 1)):
        signature = encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        with pytest.raises(SignatureError):
            opened(f"{HEADER}.{BODY}.{signature}")


@pytest.mark.covers("MT2-23b")
def test_only_canonical_base64url() -> None:
    stray = base64.b64encode(b"\xfb\xff\xfe").decode()
    for text in ("", "A", "AB", "AA=", "AA==", "A A", "AAA\n", stray, "AAé", "AAAAA"):
        with pytest.raises(JwsError):
            decode(text)
    last = SIGNATURE[-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = letters[letters.index(last) ^ 1]  # the same octets, another text
    with pytest.raises(JwsError, match="canonical"):
        opened(GOOD[:-1] + spare)
    for text in (GOOD + "=", GOOD + "\n", " " + GOOD, GOOD + ".", "." + GOOD, GOOD + ".AAAA"):
        with pytest.raises(JwsError):
            opened(text)


@pytest.mark.covers("MT2-23b")
def test_it_counts_for_its_own_certificate_only() -> None:
    with pytest.raises(JwsError, match="another certificate"):
        opened(GOOD, SITE.b.chain[0])
    as_other = with_header(ours() | {"x5t#S256": thumbprint_of(SITE.b.chain[0])})
    with pytest.raises(SignatureError):
        opened(as_other, SITE.b.chain[0])


@pytest.mark.covers("MT2-23b", "SEC-134")
def test_a_key_on_another_curve() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())):
        signer = Signer(SIGNER.chain, key, algorithm_of(key.public_key()), SIGNER.thumbprint)
        with pytest.raises(JwsError, match="curve"):
            signer.compact(PAYLOAD, TYP)
    for weak in (
        rsa.generate_private_key(65537, 1024).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ec.generate_private_key(ec.SECP192R1()).public_key(),
    ):
        with pytest.raises(JwsError, match="too weak"):
            algorithm_of(weak)


@pytest.mark.covers("MT2-23b", "SEC-148")
def test_a_certificate_with_a_weak_key_verifies_nothing() -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(MADE).not_valid_after(MADE)
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    text = with_header(ours(alg="PS256") | {"x5t#S256": thumbprint_of(der)})
    with pytest.raises(JwsError, match="too weak"):
        opened(text, der)
    with pytest.raises(JwsError, match="malformed"):
        opened(with_header(ours() | {"x5t#S256": thumbprint_of(b"x")}), b"x")


@pytest.mark.covers("MT2-23b")
def test_sizes_are_bounded() -> None:
    with pytest.raises(JwsError, match="large"):
        CompactJws.read("A" * (MAX_COMPACT_OCTETS + 1), TYP)
    for text in (f"{'A' * 1000}.{BODY}.{SIGNATURE}", f"{HEADER}.{BODY}.{'A' * 4000}"):
        with pytest.raises(JwsError, match="too long"):
            CompactJws.read(text, TYP)


@pytest.mark.covers("MT2-23b")
def test_the_payload_cannot_be_had_without_the_signature() -> None:
    names = {name for name in dir(CompactJws.read(GOOD, TYP)) if not name.startswith("_")}
    assert names == {"algorithm", "thumbprint", "read", "verified"}
    assert "eyJ" not in repr(CompactJws.read(GOOD, TYP))


@pytest.mark.covers("MT2-23b")
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 127))
@settings(deadline=None)
def test_any_changed_character_is_noticed(place: int, change: int) -> None:
    text = GOOD[:place] + chr(ord(GOOD[place]) ^ change) + GOOD[place + 1 :]
    with pytest.raises(JwsError):
        opened(text)


@pytest.mark.covers("MT2-23b")
@given(st.text(max_size=200) | st.text("ABCDeyJ.-_=", max_size=200))
@settings(deadline=None)
def test_any_text_raises_one_error(text: str) -> None:
    with pytest.raises(JwsError):
        opened(text)


@pytest.mark.covers("MT2-23b")
def test_the_openssl_command_agrees(tmp_path: Path) -> None:
    octets = decode(SIGNATURE)
    r, s = (int.from_bytes(half, "big") for half in (octets[:32], octets[32:]))
    (tmp_path / "signature").write_bytes(utils.encode_dss_signature(r, s))
    (tmp_path / "signed").write_bytes(f"{HEADER}.{BODY}".encode())
    public = SITE.a.issued.certificate.public_key()
    (tmp_path / "key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    words = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "signed"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Verified OK", done.stderr
    assert thumbprint_of(LEAF) == encode(hashlib.sha256(LEAF).digest())


@pytest.mark.covers("MT2-23b", "MT2-18a")
def test_the_same_words_have_the_same_signature() -> None:
    """An envelope that is sealed again for the same host is the same one, octet for octet."""
    assert SIGNER.compact(PAYLOAD, TYP) == GOOD


@pytest.mark.covers("MT2-23b")
def test_files_that_do_not_fit_together() -> None:
    a, b = SITE.a.issued, SITE.b.issued
    for certificate, key in ((a.certificate_pem, b.key_pem), (b"x", a.key_pem), (a.certificate_pem, b"x")):
        with pytest.raises(JwsError):
            Signer.from_pem(certificate, key)
    assert "key" not in repr(SIGNER)
    assert Party("x", a).chain == SIGNER.chain
