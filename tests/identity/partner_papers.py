"""A site with a certificate, and the papers that it signs: for tests of invitations and bundles."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority, Issued
from outrider.identity.invitation import DAY_S, Invitation, OurSide, write_invitation
from outrider.model.mpc import parse_mpc

NOW = 1_790_000_000
BEGAN = datetime.fromtimestamp(NOW, UTC) - timedelta(days=10)


@dataclass(frozen=True)
class Site:
    """A bank, unless told otherwise."""

    authority: CertificateAuthority
    host: Issued

    def invitation(self, **changed: Any) -> Invitation:
        usual = Invitation(
            name="bank.example",
            hosts=("mx.bank.example",),
            sender_domains=("bank.example",),
            authorities=(self.authority.certificate,),
            codes=(parse_mpc("com/customer"),),
            amtp_port=10125,
            contact="postmaster@bank.example",
            issued=NOW - DAY_S,
            expires=NOW + DAY_S,
        )
        return replace(usual, **changed)

    def signed(self, **changed: Any) -> bytes:
        return write_invitation(self.invitation(**changed), self.host.certificate_pem, self.host.key_pem)


def new_site(*names: str, key: Any = "ec") -> Site:
    authority = CertificateAuthority.create("Bank CA", BEGAN)
    return Site(authority, authority.issue_host(names or ("mx.bank.example",), BEGAN, key=key))


OURS = OurSide(
    frozenset({"mx.us.example"}), frozenset({"us.example"}), {".other.example": "other"}, CaStores()
)


def altered(document: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The document with its parts decoded, changed and encoded again; the signature stays as it was."""
    outer = json.loads(document)
    parts = {
        "payload": json.loads(_decode(outer["payload"])),
        "protected": json.loads(_decode(outer["protected"])),
        "signature": outer["signature"],
    }
    change(parts)
    return json.dumps(
        {
            "payload": _encode(json.dumps(parts["payload"]).encode()),
            "protected": _encode(json.dumps(parts["protected"]).encode()),
            "signature": parts["signature"],
        }
    ).encode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
