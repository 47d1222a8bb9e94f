"""From what an extension wants sent to a message that the spool can store: objects without seals yet, and a
plain letter that says the same to people (MT2-2, MT2-22).

The objects are sealed when the message leaves: control messages by the process certificate, a user's
messages by his own where there is one. Control messages have the null sender and are an envelope and nothing
else; so is everything else that no user has consented to. What has the null sender is never answered: there
are no loops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from outrider.delivery.interface import FreshMail
from outrider.extensions.asking import plain
from outrider.extensions.interface import ExtensionMessage, Report
from outrider.gateway.mapping import smtp_to_mt2
from outrider.lists.letters import Letter, letter_content
from outrider.lists.mailing import Mailing
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
    HEADERS_TYPE,
    BodyFields,
    HeadersObject,
    RecipientExtension,
    write_headers,
)
from outrider.model.address import Address, Domain
from outrider.model.content import Content, InlineBody
from outrider.model.envelope import BodyType, Envelope, Notify
from outrider.model.layered import MessageObjects
from outrider.model.message import Event, NewMessage
from outrider.model.mpc import MailClass, Mpc, Role
from outrider.model.transaction import RecipientRequest
from outrider.spool.interface import Spool

BODY_TYPE = "message/body"
REPORT_KIND = "extension"
SENT_AS = Mpc(Role.NET, MailClass.AUTORESPONSE)
"""The Mail Policy Code of what a program writes."""


class Messages(Protocol):
    """Makes messages of what extensions want sent."""

    def make(self, one: ExtensionMessage, now: float, about: str) -> NewMessage:
        """`about` says in the trail what caused it. Raises ObjectError for data that no object can hold."""
        ...


class Outbox:
    """Implements `Messages`; made anew by a reload."""

    def __init__(self, mailing: Mailing) -> None:
        self._mailing = mailing

    def make(self, one: ExtensionMessage, now: float, about: str) -> NewMessage:
        """See `Messages`."""
        mailing = self._mailing
        identifier = mailing.new_id(now)
        message_id = f"{identifier}@{mailing.hostname}"
        letter = letter_for(one, mailing.hostname)
        content = letter_content(letter, message_id, now, mailing.utc_offset(now))
        sender = None if one.report is not None else one.sender
        notify = Notify.NEVER if sender is None else Notify.FAILURE
        recipients = mailing.final_recipients(one.to, notify)
        envelope = Envelope(
            sender,
            recipients,
            BodyType.SEVEN_BIT if content.is_ascii else BodyType.EIGHT_BIT,
            smtputf8=not (one.to.is_ascii and (sender is None or sender.is_ascii)),
            authenticated_as="" if sender is None else str(sender),
            mpc=SENT_AS,
        )
        requests = tuple(RecipientRequest(each.address, each.notify) for each in recipients)
        layered = LayeredEnvelope(
            message_id,
            sender,
            requests,
            int(now),
            mpc=SENT_AS,
            extensions=tuple(DeliveryExtension(each.oid, each.data, each.critical) for each in one.delivery),
            report=None if one.report is None else _report_data(one.report, mailing.hostname),
        )
        event = Event(now, "received", f"made here: {about}")
        return NewMessage(
            identifier,
            now,
            envelope,
            b"",
            content,
            mailing.items(recipients, now),
            events=(event,),
            objects=_objects(one, layered, content),
        )


class Post:
    """Stores what extensions want sent, and hands it to delivery, where there is one running."""

    def __init__(
        self, outbox: Messages, spool: Spool, fresh: FreshMail | None, clock: Callable[[], float]
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._fresh = fresh
        self._clock = clock
        self.lease_s = 300.0

    async def send(self, messages: Iterable[ExtensionMessage], about: str) -> list[NewMessage]:
        """Durable when it returns. Raises SpoolError and ObjectError."""
        sent: list[NewMessage] = []
        for one in messages:
            now = self._clock()
            made = self._outbox.make(one, now, about)
            lease_until = 0.0 if self._fresh is None else now + self.lease_s
            leased = await self._spool.store(made, lease_until=lease_until)
            if leased and self._fresh is not None:
                self._fresh.take(leased)
            sent.append(made)
        return sent


def _objects(one: ExtensionMessage, envelope: LayeredEnvelope, content: Content) -> MessageObjects:
    if one.report is not None or not (one.recipient or one.with_body):
        return MessageObjects(write_envelope(envelope), b"", b"", has_body=False)
    form = smtp_to_mt2(content.headers)
    entities = form.headers.entities
    if not one.with_body:
        entities = tuple(each for each in entities if not isinstance(each, BodyFields))
    extensions = tuple(
        RecipientExtension(each.oid, each.data, each.recipient, each.errors) for each in one.recipient
    )
    headers = write_headers(HeadersObject(entities, extensions))
    entries = [ObjectEntry(Part.HEADERS, HEADERS_TYPE, hashlib.sha256(headers).digest(), len(headers))]
    if one.with_body:
        assert isinstance(content.body, InlineBody), "a letter is small"
        body = form.body_prefix + content.body.octets
        entries.append(ObjectEntry(Part.BODY, BODY_TYPE, hashlib.sha256(body).digest(), len(body)))
    return MessageObjects(
        write_envelope(replace(envelope, objects=tuple(entries))),
        headers,
        form.body_prefix if one.with_body else b"",
        has_body=one.with_body,
    )


def _report_data(report: Report, hostname: str) -> ReportData:
    reported = ReportedRecipient(report.recipient, report.action, code=report.code, text=plain(report.text))
    return ReportData(REPORT_KIND, report.about, hostname, extension=report.oid, recipients=(reported,))


def letter_for(one: ExtensionMessage, hostname: str) -> Letter:
    """What people read, where there is no MT2 or no program that knows the extension."""
    writer = one.sender if one.sender is not None else Address("mailer-daemon", Domain(hostname))
    if one.report is not None:
        data = _report_data(one.report, hostname)
        return report_letter(data, writer, one.to)
    return Letter(writer, one.to, one.subject or "For your mail server", one.text or _NOTHING_TO_READ)


def report_letter(data: ReportData, writer: Address, to: Address) -> Letter:
    """A control message as a letter."""
    lines = [f"Report on your message {data.about}", f"by {data.reporter}", ""]
    lines += [f"    {one.address}: {one.action}: {one.text} ({one.code})" for one in data.recipients]
    return Letter(writer, to, f"Report on {data.about}", "\n".join(lines) + "\n")


_NOTHING_TO_READ = "This message is for mail servers that know its extensions; there is nothing to read.\n"
