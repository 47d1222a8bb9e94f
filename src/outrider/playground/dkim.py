"""Just enough of DKIM (RFC 6376) to see that a signature still verifies: rsa-sha256, simple/simple."""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

_SIGNED = (b"from", b"to", b"subject", b"date")
_FIELD = re.compile(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*")
_TAG = re.compile(rb"(?:^|;)\s*([a-z]+)\s*=\s*([^;]*)")
_SIGNATURE = re.compile(rb"(b=)[A-Za-z0-9+/=\s]*\Z")


def record_of(key: rsa.RSAPrivateKey) -> str:
    """What `SELECTOR._domainkey.DOMAIN` says (TXT)."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


def signed(message: bytes, domain: str, selector: str, key: rsa.RSAPrivateKey) -> bytes:
    """The message with its signature on top."""
    headers, body = _parted(message)
    unsigned = (
        f"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d={domain}; s={selector};\r\n"
        f" h={':'.join(name.decode() for name in _SIGNED)};\r\n bh={_body_digest(body)};\r\n b="
    ).encode()
    octets = _covered(headers, _SIGNED) + unsigned
    signature = base64.b64encode(key.sign(octets, padding.PKCS1v15(), SHA256()))
    return unsigned + signature + b"\r\n" + message


def verifies(message: bytes, record: str) -> bool:
    """Whether the first signature of a message is good by the record of its signer."""
    headers, body = _parted(message)
    field = next(one for one in headers if one.lower().startswith(b"dkim-signature:"))
    tags = dict(_TAG.findall(field.partition(b":")[2]))
    unsigned = _SIGNATURE.sub(rb"\1", field.removesuffix(b"\r\n"))
    names = tuple(name.strip().lower() for name in tags[b"h"].split(b":"))
    public = load_der_public_key(base64.b64decode(record.partition("p=")[2]))
    assert isinstance(public, rsa.RSAPublicKey)
    signature = base64.b64decode(b"".join(tags[b"b"].split()))
    try:
        public.verify(signature, _covered(headers, names) + unsigned, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return bool(tags[b"bh"].strip() == _body_digest(body).encode())


def _parted(message: bytes) -> tuple[list[bytes], bytes]:
    section, _, body = message.partition(b"\r\n\r\n")
    return _FIELD.findall(section + b"\r\n"), body


def _covered(headers: list[bytes], names: tuple[bytes, ...]) -> bytes:
    """The last field of each name, as it stands."""
    found = {one.partition(b":")[0].strip().lower(): one for one in headers}
    return b"".join(found[name] for name in names)


def _body_digest(body: bytes) -> str:
    """Of the body with one line end at its end (RFC 6376 section 3.4.3)."""
    return base64.b64encode(hashlib.sha256(body.rstrip(b"\r\n") + b"\r\n").digest()).decode()
