"""Conformance vectors of seals, proof and encrypted headers, and the page's examples.

`python -m tests.identity.mt2_vectors` writes both.

Keys, serial numbers and signatures (RFC 6979) are always the same, and so is the file; only the encrypted
headers are made anew, as encryption cannot be without chance: they are kept while they can be decrypted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.identity.header_encryption import EncryptionError, decrypt_headers, encrypt_headers
from outrider.identity.jws import Signer, decode
from outrider.identity.mt2_proof import ProofTerms, make_proof
from outrider.identity.seals import Handover, Sealer
from outrider.message.objects.envelope import LayeredEnvelope, write_envelope
from tests.docs.pages import PROJECT
from tests.identity.mt2_papers import BODY, HEADERS, MADE, NOW, draft

PAGE = PROJECT / "docs" / "protocols" / "mt2-seals.md"
FILE = PROJECT / "tests" / "vectors" / "mt2_seals.json"
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
_DER, _PEM = serialization.Encoding.DER, serialization.Encoding.PEM
_MAIL, _HOST = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.SERVER_AUTH
TERMS = ProofTerms("client", "mx.a.example", "mx.b.example", "Zm9vLWJhcg", bytes(range(32)))


def _key(number: int) -> ec.EllipticCurvePrivateKey:
    """Known to everybody: for tests alone."""
    return ec.derive_private_key(number, ec.SECP256R1())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    octets = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return octets.decode()


def _usage(authority: bool, agreement: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=agreement,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


_ROOT_KEY = _key(1001)
_ROOT_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Vector CA")])


def _begun(key: ec.EllipticCurvePrivateKey, subject: x509.Name, serial: int) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_ROOT_NAME)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(MADE)
        .not_valid_after(MADE + timedelta(days=3650))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_ROOT_KEY.public_key()), False)
    )


def _root() -> x509.Certificate:
    builder = _begun(_ROOT_KEY, _ROOT_NAME, 1)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=True, agreement=False), critical=True)
    return builder.sign(_ROOT_KEY, hashes.SHA256(), ecdsa_deterministic=True)


def _leaf(number: int, name: x509.GeneralName, usage: x509.ObjectIdentifier) -> x509.Certificate:
    builder = _begun(_key(number), x509.Name([]), number)
    builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False, agreement=usage == _MAIL), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(_ROOT_KEY, hashes.SHA256(), ecdsa_deterministic=True)


class Holder:
    """A name with its certificate and key."""

    def __init__(self, number: int, name: x509.GeneralName, usage: x509.ObjectIdentifier = _HOST) -> None:
        self.certificate = _leaf(number, name, usage)
        self.certificate_pem = self.certificate.public_bytes(_PEM).decode()
        self.key_pem = _key_pem(_key(number))
        self.signer = Signer.from_pem(self.certificate_pem.encode(), self.key_pem.encode())
        self.sealer = Sealer.of(self.signer)


A, B, C = (Holder(n, x509.DNSName(f"mx.{one}.example")) for n, one in ((11, "a"), (12, "b"), (13, "c")))
BOB = Holder(21, x509.RFC822Name("bob@c.example"), _MAIL)


def _sealed(envelope: LayeredEnvelope | None = None) -> LayeredEnvelope:
    at_a = Handover(
        "mx.a.example",
        "mx.b.example",
        "alice@a.example",
        peer_proven=True,
        protocol="esmtpsa",
        received=NOW - 2,
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        verified={"spf": "pass"},
    )
    first = A.sealer.seal_core(envelope or draft(), at_a, NOW)
    at_b = Handover("mx.b.example", "mx.c.example", "mx.a.example", True, "mt2", NOW + 1)
    return B.sealer.seal_hop(first, first.recipients[:1], at_b, NOW + 2)


def _cases() -> list[dict[str, Any]]:
    good = _sealed()
    other = _sealed(draft(id="m99@mx.a.example"))
    core, hop = good.seals
    anew = A.sealer.seal_core(draft(), Handover("mx.a.example", "mx.b.example"), NOW)
    over = Handover("mx.c.example", "mx.d.example", "mx.a.example", True, "mt2", NOW + 1)
    as_proof = A.signer.compact(decode(core.split(".")[1]), "mt2-proof+jws")

    def case(name: str, *findings: tuple[str, str], envelope: object = good, **more: Any) -> dict[str, Any]:
        octets = write_envelope(envelope) if isinstance(envelope, LayeredEnvelope) else envelope
        assert isinstance(octets, bytes)
        common = {"headers": HEADERS.decode(), "body": BODY.decode(), "peer": ["mx.b.example"]}
        around = {"receiver": ["mx.c.example"], "now": int(NOW) + 10}
        return {
            "name": name,
            "envelope": octets.decode(),
            **(common | around | more),
            "findings": sorted(map(list, findings)),
        }

    cut: Callable[..., LayeredEnvelope] = lambda **changes: replace(good, **changes)  # noqa: E731
    octets = write_envelope(good)
    return [
        case("as it was sealed"),
        case("headers changed", ("headers", "changed"), headers=HEADERS.decode().replace("/", " /")),
        case("body changed", ("body", "changed"), body=BODY.decode().replace("Bob", "Eve")),
        case("body longer", ("body", "changed"), body=BODY.decode() + "\r\n"),
        case("another sender", ("envelope sender", "changed"), envelope=cut(sender=None)),
        case(
            "a recipient brought back",
            ("envelope recipients", "changed"),
            envelope=cut(recipients=draft().recipients),
        ),
        case("an extension removed", ("envelope extensions", "changed"), envelope=cut(extensions=())),
        case("blank added", ("envelope", "unsealed"), envelope=octets.replace(b"<to ", b"<to  ")),
        case(
            "core removed", ("seal 0", "missing"), ("certificate 0", "unsealed"), envelope=cut(seals=(hop,))
        ),
        case(
            "tail cut",
            ("trace", "cut"),
            ("trace", "gap"),
            ("certificate 1", "unsealed"),
            ("envelope recipients", "changed"),
            envelope=cut(seals=(core,)),
        ),
        case("entries exchanged", *_EXCHANGED, envelope=cut(seals=(hop, core))),
        case("entry twice", ("seal 2", "duplicated"), envelope=cut(seals=(core, hop, hop))),
        case("entry of another message", ("seal 1", "foreign"), envelope=cut(seals=(core, other.seals[1]))),
        case("a proof as a seal", ("seal 0", "malformed"), envelope=cut(seals=(as_proof, hop))),
        case(
            "passed on by another than it was handed to",
            ("seal 1", "gap"),
            envelope=C.sealer.seal_hop(anew, anew.recipients, over, NOW + 2),
            peer=["mx.c.example"],
            receiver=["mx.d.example"],
        ),
        case("brought by another", ("trace", "cut"), peer=["mx.x.example"]),
        case("for another", ("trace", "gap"), receiver=["mx.x.example"]),
        case("from the future", ("seal 0", "time"), ("seal 1", "time"), now=int(NOW) - 3600),
        case("no seals", ("trace", "unsealed"), envelope=cut(seals=(), certificates=())),
    ]


_EXCHANGED = (("seal 0", "missing"), ("seal 1", "foreign"), ("certificate 0", "moved"))


def vectors(kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """All of them; `kept` are those of the file, for the encrypted headers."""
    good = _sealed()
    payloads = [decode(seal.split(".")[1]).decode() for seal in good.seals]
    data = make_proof(A.signer, TERMS).decode()
    proof = data.split("\n")[-2]
    return {
        "about": "docs/protocols/mt2-seals.md; the keys are for tests alone",
        "authority": _root().public_bytes(_PEM).decode(),
        "hosts": {
            name: {"certificate": one.certificate_pem, "key": one.key_pem}
            for name, one in (("mx.a.example", A), ("mx.b.example", B), ("mx.c.example", C))
        },
        "proof": {
            "role": TERMS.role,
            "client": TERMS.client,
            "server": TERMS.server,
            "nonce": TERMS.nonce,
            "binding": TERMS.binding.hex(),
            "payload": decode(proof.split(".")[1]).decode(),
            "jws": proof,
            "data": data,
        },
        "core": {"payload": payloads[0], "seal": good.seals[0]},
        "hop": {"payload": payloads[1], "seal": good.seals[1]},
        "encrypted": _encrypted(kept),
        "verify": _cases(),
    }


def _encrypted(kept: dict[str, Any] | None) -> dict[str, str]:
    octets = kept["encrypted"]["octets"].encode() if kept else b""
    try:
        plain = decrypt_headers(octets, BOB.certificate_pem.encode(), BOB.key_pem.encode())
    except EncryptionError:
        plain = b""
    if plain != HEADERS:
        octets = encrypt_headers(HEADERS, [BOB.signer.chain[0]])
    return {
        "certificate": BOB.certificate_pem,
        "key": BOB.key_pem,
        "octets": octets.decode(),
        "plain": HEADERS.decode(),
    }


def kept() -> dict[str, Any] | None:
    """Those of the file."""
    if not FILE.exists():
        return None
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def examples(found: dict[str, Any]) -> dict[str, str]:
    """What the page quotes, by name."""
    proof, octets = found["proof"], found["encrypted"]["octets"]
    return {
        "proof.header": decode(proof["jws"].split(".")[0]).decode(),
        "proof.payload": proof["payload"],
        "proof.jws": proof["jws"],
        "core.payload": found["core"]["payload"],
        "core.seal": found["core"]["seal"],
        "hop.payload": found["hop"]["payload"],
        "hop.seal": found["hop"]["seal"],
        "encrypted.protected": decode(json.loads(octets)["protected"]).decode(),
        "encrypted": octets,
    }


EXAMPLE = re.compile(r"(<!-- example ([a-z.]+) -->\n```[a-z]+\n)(.*?)^(?=```$)", re.MULTILINE | re.DOTALL)
"""In the page: a comment names each; lines are broken for reading only."""


def quoted() -> dict[str, str]:
    """The examples of the page, lines put together again."""
    found = EXAMPLE.findall(PAGE.read_text("utf-8"))
    return {name: "".join(line.strip() for line in block.split("\n")) for _, name, block in found}


def _lines(text: str) -> str:
    """Broken after 110 characters, never beside a blank."""
    lines = []
    while text:
        end = 110
        while " " in text[end - 1 : end + 1]:
            end -= 1
        lines.append(text[:end])
        text = text[end:]
    return "".join(f"{line}\n" for line in lines)


def _write() -> None:
    found = vectors(kept())
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    known = examples(found)
    page = EXAMPLE.sub(lambda match: match[1] + _lines(known[match[2]]), PAGE.read_text("utf-8"))
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    _write()
