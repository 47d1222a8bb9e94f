"""Seals verified by somebody who has only read docs/protocols/mt2-seals.md: nothing of Outrider is used here.

It knows less than the page has (one CA, P-256 only, no chains between), and says good or bad, not where.
"""

from __future__ import annotations

import base64
import hashlib
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

_SPACE = "{urn:oid:2.25.142621449478723633738367890471353828951.1}"


def url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def octets_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest(octets: bytes) -> str:
    return url(hashlib.sha256(octets).digest())


def written(value: Any) -> bytes:
    """RFC 8785, as far as seals need it."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def payload(seal: str, certificates: dict[str, x509.Certificate]) -> dict[str, Any]:
    header, body, signature = seal.split(".")
    thumbprint = json.loads(octets_of(header))["x5t#S256"]
    assert octets_of(header) == written({"alg": "ES256", "typ": "mt2-seal+jws", "x5t#S256": thumbprint})
    key = certificates[thumbprint].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = octets_of(signature)
    assert len(numbers) == 64
    der = utils.encode_dss_signature(int.from_bytes(numbers[:32], "big"), int.from_bytes(numbers[32:], "big"))
    key.verify(der, f"{header}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    found: dict[str, Any] = json.loads(octets_of(body))
    assert written(found) == octets_of(body)
    assert found["certificates"][0] == thumbprint
    return found


def check_certificate(leaf: x509.Certificate, name: str, root: x509.Certificate, at: int, until: int) -> None:
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name in names.get_values_for_type(x509.DNSName)
    assert leaf.not_valid_before_utc.timestamp() <= at <= until <= leaf.not_valid_after_utc.timestamp()


def moment(text: str | None) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) if text else 0


def meant(root: ElementTree.Element) -> dict[str, Any]:
    """What a core must say of this envelope; members with their default are left out."""
    sender = root.find(f"{_SPACE}from")
    assert sender is not None
    said = {
        "date": moment(root.get("date")),
        "expiry": moment(root.get("expires")),
        "hold_until": moment(root.get("hold")),
        "envelope_id": root.get("envid", ""),
        "ret": root.get("return", ""),
        "mpc": root.get("mpc", ""),
        "sender": sender.get("address", ""),
        "objects": [
            {
                "length": int(one.get("length", "")),
                "part": one.get("part"),
                "sha256": url(bytes.fromhex(one.get("sha256", ""))),
                "type": one.get("type"),
            }
            for one in root.iter(f"{_SPACE}object")
        ],
        "extensions": [
            {"oid": one.get("oid"), "sha256": digest((one.text or "").encode())}
            | ({"critical": True} if one.get("critical") else {})
            for one in root.iter(f"{_SPACE}extension")
        ],
    }
    assert root.find(f"{_SPACE}report") is None
    return {name: value for name, value in said.items() if value not in ("", 0, [])}


def recipients(root: ElementTree.Element) -> list[dict[str, str]]:
    return [{str(key): str(value) for key, value in one.items()} for one in root.iter(f"{_SPACE}to")]


_COMMON = [
    "kind",
    "by",
    "to",
    "time",
    "certificates",
    "id",
    "received",
    "peer",
    "peer_proven",
    "protocol",
    "tls",
    "verified",
    "recipients",
]


def check(case: dict[str, Any], authority: x509.Certificate) -> None:
    """Raise an exception unless the message is as it was sealed."""
    root = ElementTree.fromstring(case["envelope"])
    ders = [base64.b64decode(one.text or "") for one in root.iter(f"{_SPACE}certificate")]
    certificates = {digest(der): x509.load_der_x509_certificate(der) for der in ders}
    texts = [one.text or "" for one in root.iter(f"{_SPACE}seal")]
    seals = [payload(text, certificates) for text in texts]
    core = seals[0]
    assert core["kind"] == "core"
    assert {name: value for name, value in core.items() if name not in _COMMON} == meant(root)
    named = [thumbprint for seal in seals for thumbprint in seal["certificates"]]
    assert list(certificates) == list(dict.fromkeys(named))
    to = list(core.get("recipients", []))
    for number, seal in enumerate(seals):
        after = seals[number + 1] if number + 1 < len(seals) else {"received": case["now"]}
        leaf = certificates[seal["certificates"][0]]
        check_certificate(leaf, seal["by"], authority, seal["time"], max(seal["time"], after["received"]))
        assert seal["id"] == root.get("id")
        assert seal["received"] - 300 <= seal["time"] <= case["now"] + 300
        if number:
            before = seals[number - 1]
            assert (seal["kind"], seal["hop"], seal["by"]) == ("hop", number, before["to"])
            assert seal["previous"] == digest(texts[number - 1].encode())
            assert seal["received"] + 300 >= before["time"]
            to = [one for one in to if one["address"] not in seal.get("removed", ())] + seal.get("added", [])
    assert to == recipients(root)
    assert seals[-1]["by"] in case["peer"]
    assert seals[-1]["to"] in case["receiver"]
    for one in core["objects"]:
        octets = case[one["part"]].encode()
        assert (len(octets), digest(octets)) == (one["length"], one["sha256"])
