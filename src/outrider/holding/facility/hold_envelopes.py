"""Envelopes of held messages, and what goes out in the queue (AMDP-4a, AMDP-5a)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from outrider.config.amdp_schema import AmdpHolding
from outrider.holding.facility.held_bodies import Measured
from outrider.holding.facility.held_records import CopyIds
from outrider.holding.facility.hold_case import Case
from outrider.lists.mailing import Mailing
from outrider.model.address import Address, Domain
from outrider.model.content import inline_content, split_content
from outrider.model.envelope import BodyType, Envelope, Notify, Recipient, Return
from outrider.model.facts import Fact, Provenance
from outrider.model.message import Event, MessageId, NewMessage
from outrider.protocols.amdp.envelope import HeldEnvelope, fields_digest, write_envelope
from outrider.routing.routes import RouteTable
from outrider.routing.ways import AMDP_TRANSPORTS, LocalWay

HELD_COPY = "amdp.held"
"""The fact on an envelope that says whose it is: queue id of the held message, and number of the copy."""


@dataclass(frozen=True, slots=True)
class EnvelopeWriter:
    """Writes them as the settings say."""

    settings: AmdpHolding
    port: int
    """AMDP-Auth-Port."""
    mailing: Mailing
    routes: RouteTable

    def written(
        self,
        case: Case,
        number: int,
        ids: CopyIds,
        times: tuple[int, int],
        envelope_id: str,
        measured: Measured,
        postage: str = "",
    ) -> tuple[bytes, str]:
        """The envelope, and the digest of its fields. A pure function of what the store keeps: written
        again, it is the same."""
        terms, settings = case.terms, self.settings
        domain = terms.sender.domain
        held = HeldEnvelope(
            sender=terms.sender,
            recipient=case.address(number),
            id=ids.id,
            digest=measured.digest,
            mail_class=case.mail_class,
            date=case.fields.date,
            timestamp=times[0],
            expires=times[1],
            holder=Domain(settings.names.get(domain, f"mhf-1.{domain}")),
            port=self.port,
            subject=case.fields.subject,
            sender_name=case.fields.sender_name,
            recipient_name=case.fields.names[number],
            attachments=measured.attachments,
            language=terms.language,
            holder_id=settings.id,
            postage=postage,
        )
        if terms.about:
            held = replace(held, about=terms.about)
        utf8 = case.message.envelope.smtputf8 or held.needs_utf8
        content = write_envelope(held, message_id=f"{envelope_id}@{self.mailing.hostname}", utf8=utf8)
        return content, fields_digest(split_content(content)[0])

    def message(self, case: Case, number: int, ids: CopyIds, envelope_id: str, octets: bytes) -> NewMessage:
        """The envelope of one copy as a message."""
        recipient = case.message.envelope.recipients[number]
        content = inline_content(octets)
        notify = recipient.notify if recipient.notify is Notify.NEVER else Notify.FAILURE
        address = recipient.address
        to = (Recipient(address, notify, recipient.original, self._route(case, address)),)
        now, mailing = case.now, self.mailing
        return NewMessage(
            MessageId(envelope_id),
            now,
            Envelope(
                case.message.envelope.sender,
                to,
                BodyType.SEVEN_BIT if content.is_ascii else BodyType.EIGHT_BIT,
                smtputf8=not content.headers.isascii() or not address.is_ascii,
                ret=Return.HEADERS,
                mpc=case.message.envelope.mpc,
                link_token=ids.token,
            ),
            b"",
            content,
            mailing.items(to, now),
            facts=(Fact(HELD_COPY, f"{case.message.id}/{number}", Provenance.PROVEN, "made here", now),),
            events=(Event(now, "received", f"made here: envelope of {case.message.id}, held for {address}"),),
            priority=case.message.priority,
        )

    def pushed(self, case: Case, number: int) -> NewMessage:
        """The whole message, for a receiver without AMDP where the operator wants no links (AMDP-5a)."""
        message, mailing = case.message, self.mailing
        recipient = message.envelope.recipients[number]
        to = (replace(recipient, route=self._route(case, recipient.address)),)
        return NewMessage(
            mailing.new_id(case.now),
            case.now,
            replace(message.envelope, recipients=to),
            message.trace,
            case.content,
            mailing.items(to, case.now),
            events=(
                Event(case.now, "received", f"made here: {message.id} for {recipient.address}, not held"),
            ),
            priority=message.priority,
        )

    def _route(self, case: Case, address: Address) -> str:
        """The way of an envelope: the instruction, or what leads to the domain but for ourselves."""
        if case.instruction:
            return case.instruction
        way = self.routes.find(Recipient(address)).way
        return "mx" if isinstance(way, LocalWay) and way.transport in AMDP_TRANSPORTS else ""
