"""Hosts, users and sealed messages for the tests of seals and proofs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority, Issued, KeyType
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seal_paths import PeerPaths
from outrider.identity.seals import Handover, Sealer
from outrider.identity.trace import (
    Circumstances,
    ObjectCounter,
    SealedMessage,
    TraceReport,
    verify_trace,
)
from outrider.message.objects.envelope import (
    DeliveryExtension,
    LayeredEnvelope,
    ObjectEntry,
    Part,
    write_envelope,
)
from outrider.model.address import parse_address
from outrider.model.envelope import Notify
from outrider.model.transaction import RecipientRequest

MADE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = 1_795_350_000.0
"""22 November 2026."""
HEADERS = b"<headers/>"
BODY = b"Content-Type: text/plain\r\n\r\nHello, Bob.\r\n"


@dataclass(frozen=True)
class Party:
    """Somebody with a certificate."""

    name: str
    issued: Issued

    @property
    def sealer(self) -> Sealer:
        """With this party's key."""
        return Sealer.from_pem(self.issued.certificate_pem, self.issued.key_pem)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """In DER."""
        return tuple(one.public_bytes(Encoding.DER) for one in (self.issued.certificate, *self.issued.chain))


class Site:
    """An authority, three hosts of it below an intermediate one, and a user."""

    def __init__(self, kind: KeyType = "ec", days: int = 90) -> None:
        self.root = CertificateAuthority.create("Test root", MADE)
        self.authority = self.root.issue_authority("Test issuing", MADE)
        self.kind = kind
        self.days = days
        self.a, self.b, self.c = (self.host(f"mx.{letter}.example") for letter in "abc")
        self.alice = self.user("alice@a.example")
        self.paths = PeerPaths(Mt2Peers(CaStores.of(private=[self.root.certificate])))

    def host(self, name: str, *more: str) -> Party:
        """A host's certificate; `more` names in it."""
        issued = self.authority.issue_host([name, *more], MADE, self.days, key=self.kind)
        return Party(name, issued)

    def user(self, address: str) -> Party:
        """A user's."""
        return Party(address, self.authority.issue_user(address, MADE, self.days, key=self.kind))


def recipient(address: str, notify: Notify = Notify.UNSPECIFIED) -> RecipientRequest:
    """One, with its wishes."""
    return RecipientRequest(parse_address(address), notify, f"rfc822;{address}" if notify else "")


def draft(headers: bytes = HEADERS, body: bytes = BODY, **changes: object) -> LayeredEnvelope:
    """An envelope before it is sealed."""
    objects = (
        ObjectEntry(Part.HEADERS, "message/headers", hashlib.sha256(headers).digest(), len(headers)),
        ObjectEntry(Part.BODY, "message/body", hashlib.sha256(body).digest(), len(body)),
    )
    envelope = LayeredEnvelope(
        id="m23@mx.a.example",
        sender=parse_address("alice@a.example"),
        recipients=(recipient("bob@c.example", Notify.FAILURE), recipient("ann@c.example")),
        date=int(NOW) - 60,
        expiry=int(NOW) + 86_400,
        envelope_id="env-1",
        objects=objects,
        extensions=(DeliveryExtension("2.25.77", "stamp=1", critical=True),),
    )
    return replace(envelope, **changes)  # type: ignore[arg-type]


def handover(by: str, to: str, peer: str = "", received: float = NOW, **more: object) -> Handover:
    """From one host to the next."""
    return Handover(by, to, peer, bool(peer), "mt2" if peer else "", received, **more)  # type: ignore[arg-type]


def three_hops(site: Site, envelope: LayeredEnvelope | None = None) -> LayeredEnvelope:
    """Sealed by a, b and c; handed to mx.d.example."""
    first = site.a.sealer.seal_core(envelope or draft(), handover("mx.a.example", "mx.b.example"), NOW)
    at_b = handover("mx.b.example", "mx.c.example", "mx.a.example", NOW + 1, verified={"seals": "good"})
    second = site.b.sealer.seal_hop(first, first.recipients, at_b, NOW + 2)
    at_c = handover("mx.c.example", "mx.d.example", "mx.b.example", NOW + 3, tls="TLSv1.3")
    kept = [*second.recipients[:1], recipient("carol@d.example")]
    return site.c.sealer.seal_hop(second, kept, at_c, NOW + 4)


def verified(
    envelope: LayeredEnvelope | bytes,
    site: Site,
    headers: bytes | None = HEADERS,
    body: bytes | None = BODY,
    peer: Sequence[str] | None = ("mx.c.example",),
    receiver: Sequence[str] | None = ("mx.d.example",),
    later: float = 10,
) -> TraceReport:
    """As mx.d.example sees it."""
    octets = envelope if isinstance(envelope, bytes) else write_envelope(envelope)
    message = SealedMessage(
        octets,
        headers=ObjectCounter(headers).digest() if headers is not None else None,
        body=ObjectCounter(body).digest() if body is not None else None,
    )
    around = Circumstances(
        NOW + later,
        NOW + later,
        tuple(peer) if peer is not None else None,
        tuple(receiver) if receiver is not None else None,
    )
    return verify_trace(message, site.paths, around)


def places(report: TraceReport) -> set[str]:
    """Where something is wrong."""
    return {one.place for one in report.findings}


def days_later(days: int) -> float:
    """After the certificates were made."""
    return (MADE + timedelta(days=days)).timestamp()
