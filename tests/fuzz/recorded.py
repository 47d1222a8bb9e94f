"""Valid inputs, recorded once in `recorded.json` so that a case is the same wherever its seed is run again.

They are made by our own makers, by OpenSSL's command, and by `cryptography` and `joserfc` alone.
``python -m tests.fuzz.recorded`` makes them anew. The keys in the file belong to nobody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jwe, jws
from joserfc.jwk import ECKey

from outrider.gateway.mapping import split_body
from outrider.gateway.ride_along import ride_along
from outrider.gateway.visible import header_section
from outrider.identity.certificate_authority import (
    CertificateAuthority,
    Issued,
    NameConstraints,
    PrivateKey,
    Revocation,
)
from outrider.identity.header_encryption import ENCRYPTED_TYP, HEADERS_TYPE, encrypt_headers
from outrider.identity.jws import thumbprint_of
from outrider.identity.mt2_proof import ProofTerms, make_proof
from outrider.message.objects.envelope import (
    DeliveryExtension,
    LayeredEnvelope,
    ObjectEntry,
    Part,
    ReportData,
    ReportedRecipient,
    write_envelope,
)
from outrider.message.objects.headers import (
    BodyFields,
    Ending,
    Field,
    HeadersObject,
    Line,
    RecipientExtension,
    compose_field,
    write_headers,
)
from outrider.model.layered import MessageObjects
from tests.identity.mt2_papers import BODY, MADE, NOW, Site, draft, handover, recipient, three_hops
from tests.identity.openssl import Made, OpenSsl, Registry

FILE = Path(__file__).with_suffix(".json")
AT = NOW + 2 * 86_400
"""When the certificates are judged: later than all were made."""
BINDING = bytes(range(32))
CLIENT = ProofTerms("client", "mx.a.example", "mx.b.example", "n0nce-of-b", BINDING)
SERVER = ProofTerms("server", "mx.a.example", "mx.b.example", "n0nce-of-a", BINDING)
SECRET = b'<headers><field name="Subject">Secret</field></headers>'


@dataclass(frozen=True)
class Recorded:
    """What stands in the file, by kind and name."""

    sets: Mapping[str, Mapping[str, bytes]]

    def all(self, kind: str) -> list[bytes]:
        """The inputs of that kind, in their order."""
        return list(self.sets[kind].values())

    def one(self, kind: str, name: str) -> bytes:
        """One of them."""
        return self.sets[kind][name]


@cache
def recorded() -> Recorded:
    """The file's content."""
    sets = json.loads(FILE.read_text("ascii"))
    return Recorded(
        {
            kind: {name: base64.b64decode(text) for name, text in inputs.items()}
            for kind, inputs in sets.items()
        }
    )


# -- making them -----------------------------------------------------------------------------------------


def record() -> dict[str, dict[str, bytes]]:
    """All kinds, by name."""
    site = Site()
    rsa_site = Site("rsa")
    with tempfile.TemporaryDirectory() as folder:
        maker = OpenSsl(Path(folder))
        root = maker.root("OpenSSL root")
        foreign, lists = _by_openssl(maker, root), {}
        revoked = Registry(root, Path(folder) / "registry")
        revoked.revoke(maker.host(root, "DNS:gone.example"))
        lists["openssl"] = revoked.list(days=30)
        lists["openssl-der"] = x509.load_pem_x509_crl(lists["openssl"]).public_bytes(Encoding.DER)
        roots = {"openssl": root.der}
    delegated = replace(CertificateAuthority.create("Delegated", MADE), issuer_domain="c.example")
    own, own_lists = _by_us(site, rsa_site, delegated)
    alone, alone_root = _by_the_library()
    roots |= {
        "ours": _der(site.root.certificate),
        "rsa": _der(rsa_site.root.certificate),
        "library": alone_root,
    }
    roots["delegated"] = _der(delegated.certificate)
    bob, ann = site.user("bob@c.example"), rsa_site.user("ann@c.example")
    return {
        "roots": roots,
        "chains": {**own, **foreign, **alone},
        "lists": {**own_lists, **lists},
        "authority": {"key": _key(site.root.key), "issuing": _key(site.authority.key)},
        "signer": {"certificate": site.a.issued.certificate_pem, "key": site.a.issued.key_pem},
        "readers": {
            "ec": bob.issued.certificate_pem, "ec-key": bob.issued.key_pem,
            "rsa": ann.issued.certificate_pem, "rsa-key": ann.issued.key_pem,
        },
        "encrypted": _encrypted(bob.chain[0], ann.chain[0]),
        "sealed": _sealed(site, rsa_site),
        "signed": _signed(site),
        "proofs": {
            "client": make_proof(site.a.sealer.signer, CLIENT),
            "server": make_proof(site.b.sealer.signer, SERVER),
            "rsa": make_proof(rsa_site.a.sealer.signer, CLIENT),
        },
        "envelopes": _envelopes(),
        "headers": _headers(),
        "riding": _riding(),
    }  # fmt: skip


def _by_openssl(maker: OpenSsl, root: Made) -> dict[str, bytes]:
    limited = maker.below(
        root, "Limited", ["nameConstraints=critical,permitted;DNS:example,permitted;email:.example"]
    )
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384")
    srv = "otherName:1.3.6.1.5.5.7.8.7;IA5:_mt2.bank.example"
    made = {
        "openssl-host": maker.host(root, "DNS:mx.bank.example", srv, usage="serverAuth,clientAuth"),
        "openssl-limited": maker.host(limited, "DNS:mx.bank.example", usage="serverAuth,clientAuth"),
        "openssl-user": maker.host(limited, "email:eve@c.example", usage="emailProtection"),
        "openssl-p384": maker.host(
            root, "DNS:mx.bank.example", "IP:192.0.2.1", "URI:https://x.example", key_words=curve,
            extra=["issuerAltName=DNS:bank.example", "crlDistributionPoints=URI:http://x.example/l"],
        ),
        "openssl-ed25519": maker.host(root, "DNS:mx.ed.example", key_words=("-newkey", "ed25519")),
        "openssl-self": maker.host(None, "DNS:mx.self.example", subject="/CN=mx.self.example/O=Test"),
    }  # fmt: skip
    return {name: b"".join(one.chain) for name, one in made.items()}


def _by_us(
    site: Site, rsa_site: Site, delegated: CertificateAuthority
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    limited = site.root.issue_authority(
        "Limited", MADE, constraints=NameConstraints(("a.example",), ("x.a.example",))
    )
    mine: dict[str, Issued] = {
        "host": site.a.issued,
        "user": site.alice.issued,
        "several": site.authority.issue_host(["mx.a.example", "b.example", "*.c.example"], MADE),
        "limited": limited.issue_host(["mx.a.example"], MADE),
        "delegated": delegated.issue_host(["mx.c.example"], MADE),
        "rsa": rsa_site.a.issued,
    }
    chains = {name: b"".join([_der(one.certificate), *map(_der, one.chain)]) for name, one in mine.items()}
    gone = [Revocation(number, MADE, x509.ReasonFlags.key_compromise) for number in (1, 2**150, 77)]
    made_lists = {
        "root": site.root.revocation_list(gone, MADE, 60),
        "issuing": site.authority.revocation_list([], MADE, 60),
    }
    return chains, {name: one.public_bytes(Encoding.DER) for name, one in made_lists.items()}


def _by_the_library() -> tuple[dict[str, bytes], bytes]:
    """A version-3 certificate with all that ours do not have, and its root."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    issuer = x509.Name(
        [
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "example"),
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "lib"),
        ]
    )
    made = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(MADE)
    made = made.not_valid_after(MADE + timedelta(days=400))
    root = (
        made.subject_name(issuer).public_key(root_key.public_key()).serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
        .add_extension(_ca_usage(), critical=True)
        .sign(root_key, hashes.SHA256())
    )  # fmt: skip
    leaf = (
        made.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.lib.example")]))
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("mx.lib.example"), x509.RFC822Name("ann@lib.example"),
                    x509.DirectoryName(issuer), x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.IssuerAlternativeName([x509.DNSName("lib.example")]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        .add_extension(
            x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), ["x"])]),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )  # fmt: skip
    return {"library": b"".join([_der(leaf)])}, _der(root)


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _encrypted(bob: bytes, ann: bytes) -> dict[str, bytes]:
    alone = jwe.GeneralJSONEncryption({"cty": HEADERS_TYPE, "enc": "A256GCM", "typ": ENCRYPTED_TYP}, SECRET)
    key = x509.load_der_x509_certificate(bob).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    point = {
        name: base64.urlsafe_b64encode(one.to_bytes(32, "big")).rstrip(b"=").decode()
        for name, one in (("x", numbers.x), ("y", numbers.y))
    }
    alone.add_recipient(
        {"alg": "ECDH-ES+A256KW", "x5t#S256": thumbprint_of(bob)},
        ECKey.import_key({"kty": "EC", "crv": "P-256", **point}),
    )
    members: Any = jwe.encrypt_json(alone, None, ["ECDH-ES+A256KW", "A256GCM"])
    return {
        "both": encrypt_headers(SECRET, [bob, ann]),
        "ec": encrypt_headers(SECRET, [bob]),
        "rsa": encrypt_headers(SECRET, [ann]),
        "joserfc": json.dumps(members, separators=(",", ":"), sort_keys=True).encode(),
    }


def _sealed(site: Site, rsa_site: Site) -> dict[str, bytes]:
    first = rsa_site.a.sealer.seal_core(draft(), handover("mx.a.example", "mx.d.example"), NOW)
    return {"three": write_envelope(three_hops(site)), "rsa": write_envelope(first)}


def _signed(site: Site) -> dict[str, bytes]:
    """Good seals, and things signed with the same key for other purposes, some by another library."""
    three = three_hops(site)
    payload = base64.urlsafe_b64decode(three.seals[0].split(".")[1] + "==")
    signer = site.a.sealer.signer
    key = ECKey.import_key(site.a.issued.key_pem)
    header = {"alg": "ES256", "typ": "mt2-seal+jws", "x5t#S256": signer.thumbprint}
    return {
        **{f"seal-{number}": text.encode() for number, text in enumerate(three.seals)},
        "as-proof": signer.compact(payload, "mt2-proof+jws").encode(),
        "joserfc": jws.serialize_compact(header, payload, key).encode(),
        "joserfc-embeds": jws.serialize_compact(
            {**header, "jwk": key.as_dict(private=False)}, payload, key
        ).encode(),
        "certificate": site.a.chain[0],
    }


def _envelopes() -> dict[str, bytes]:
    report = ReportData(
        "delivery", "m23@test.example", "mx.b.example", int(NOW), "env-2", "2.25.77",
        (
            ReportedRecipient(
                recipient("bob@c.example").address, "failed", "99.0.5.23", "5.1.1", "mx.c.example",
                "rfc822;x", "no"
            ),
        ),
    )  # fmt: skip
    data = DeliveryExtension("1.3.6.1.4.1.99999", 'grant <&" \u00fc\n')
    return {
        "draft": write_envelope(draft()),
        "report": write_envelope(draft(objects=(), sender=None, report=report, extensions=(data,))),
        "least": write_envelope(LayeredEnvelope("x", None, (), 1)),
    }


def _headers() -> dict[str, bytes]:
    mail = HeadersObject(
        (
            Field("From", "Ann <ann@a.example>"),
            Field("to", "bob@c.example"),
            compose_field("Subject", "Grüße & <Küsse>"),
            Field("X-Mailer", "one"),
            BodyFields(2),
            Line("no field", b"no field\r\n"),
            Field("Cc", '"Ann, Bob" <x@a.example>', b"Cc: =?utf-8?q?Ann=2C_Bob?= <x@a.example>\r\n"),
            Field("Received", "from a\tby b", b"Received: from a\r\n\tby b\r\n"),
        ),
        (RecipientExtension("1.2.3", "request", recipient("bob@c.example").address, errors=True),),
    )
    return {
        "mail": write_headers(mail),
        "open": write_headers(HeadersObject((Line("x"),), ending=Ending.OPEN)),
        "empty": write_headers(HeadersObject()),
    }


def _riding() -> dict[str, bytes]:
    """Header sections with the body behind an empty line."""
    made: dict[str, bytes] = {}
    for name, headers in {"mail": _headers()["mail"], "empty": b""}.items():
        listed = tuple(
            ObjectEntry(part, kind, hashlib.sha256(octets).digest(), len(octets))
            for part, kind, octets in (
                (Part.HEADERS, "message/headers", headers),
                (Part.BODY, "message/body", BODY),
            )
            if octets
        )
        envelope = draft(objects=listed)
        objects = MessageObjects(
            write_envelope(envelope), headers, split_body(BODY)[0], "message/headers", has_body=True
        )
        section = ride_along(objects) + header_section(objects, envelope, body_follows=True)
        made[name] = b"Received: from b by c; date\r\n" + section + BODY[len(objects.body_prefix) :]
    return made


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _key(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def main() -> None:
    """Write the file."""
    made = {
        kind: {name: base64.b64encode(octets).decode("ascii") for name, octets in inputs.items()}
        for kind, inputs in record().items()
    }
    FILE.write_text(json.dumps(made, indent=1) + "\n", "ascii")


if __name__ == "__main__":
    main()
