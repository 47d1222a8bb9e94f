"""An assembler with certificates, and what checks what it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from outrider.delivery.interface import Job
from outrider.delivery.mt2_assembler import Mt2Assembler
from outrider.delivery.mt2_assembly import OutgoingObjects
from outrider.delivery.mt2_sealing import MessageSealer, SealingKey, SealingKeys
from outrider.identity.trace import Circumstances, ObjectDigest, SealedMessage, TraceReport, verify_trace
from outrider.message.objects.envelope import LayeredEnvelope, read_envelope
from outrider.model.address import parse_address
from outrider.model.facts import Fact, Provenance
from outrider.model.message import NewMessage, StoredMessage
from tests.delivery.support import leased, new_message
from tests.identity.mt2_papers import NOW, Party, Site

SITE = Site()
CAME = tuple(
    Fact(name, value, Provenance.PROVEN)
    for name, value in {
        "protocol": "smtp",
        "client.address": "192.0.2.7",
        "client.name": "mail.stranger.example",
        "tls.version": "TLSv1.3",
        "tls.cipher": "TLS_AES_256_GCM_SHA384",
    }.items()
)
"""How a stranger's mail came."""


def key(party: Party) -> SealingKey:
    return SealingKey.of(party.sealer, party.name)


def keys(*users: Party, process: Party | None = None) -> SealingKeys:
    """Of the host mx.a.example."""
    by_address = {parse_address(one.name).key: key(one) for one in users}
    return SealingKeys(key(SITE.a), by_address, None if process is None else key(process))


def assembler(sealing: SealingKeys | None = None, now: float = NOW, **options: object) -> Mt2Assembler:
    return Mt2Assembler(MessageSealer(sealing or keys(), lambda: now), lambda: now, **options)  # type: ignore[arg-type]


def stored(message: NewMessage, **changes: object) -> StoredMessage:
    made = replace(leased(message).message, facts=CAME, objects=message.objects)
    return replace(made, **changes)  # type: ignore[arg-type]


def mail(*addresses: str, octets: bytes | None = None, **options: object) -> StoredMessage:
    """A stranger's message for these recipients."""
    made = new_message("m1", *addresses, now=NOW, **({"octets": octets} if octets else {}), **options)  # type: ignore[arg-type]
    return stored(made)


async def transfers(
    message: StoredMessage, made_by: Mt2Assembler | None = None, peer: str = "mx.b.example"
) -> tuple[OutgoingObjects, ...]:
    """All transfers of a message; there is no recipient for whom none could be made."""
    everyone = tuple(range(len(message.envelope.recipients)))
    found = await (made_by or assembler()).assemble(Job(message, everyone), peer)
    assert not found.results
    return found.transfers


def body_of(one: OutgoingObjects) -> bytes:
    return one.body_prefix + (b"".join(one.body.chunks()) if one.body is not None else b"")


def envelope_of(one: OutgoingObjects) -> LayeredEnvelope:
    return read_envelope(one.envelope)


def checked(
    one: OutgoingObjects, peer: Sequence[str] = ("mx.a.example",), receiver: str = "mx.b.example"
) -> TraceReport:
    """The trace, by the eyes of the host that gets the transfer."""
    body = body_of(one)
    message = SealedMessage(
        one.envelope,
        headers=ObjectDigest(hashlib.sha256(one.headers).digest(), len(one.headers)),
        body=ObjectDigest(hashlib.sha256(body).digest(), len(body)),
    )
    known = Circumstances(NOW + 1, peer=tuple(peer), receiver=(receiver,))
    return verify_trace(message, SITE.paths, known)
