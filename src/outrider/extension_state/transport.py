"""Local delivery with extensions: what guards a mailbox is asked before a message enters it, recipient
extensions are worked through, and what delivery extensions have to do when it is there is done (MT2-19).

A local transport around another. What comes of it is stored with the settlement of the attempt, so each
message that an extension causes is sent once, whatever crashes. A message without the form of MT2 passes
untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from outrider.delivery.interface import Expansion, Job, LocalTransport
from outrider.delivery.results import deferred
from outrider.extension_state.outbox import Messages, report_letter
from outrider.extensions.asking import sender_is_proven
from outrider.extensions.desk import Desk
from outrider.extensions.interface import (
    Carried,
    EnvelopeFacts,
    ExtensionMessage,
    ExtensionUnavailable,
    ObjectFacts,
)
from outrider.extensions.mailbox_desk import DeliveredMail
from outrider.extensions.observer import ExtensionObserver
from outrider.lists.letters import letter_content
from outrider.lists.transport import Command, NotNow
from outrider.message.objects.envelope import LayeredEnvelope, Part, read_envelope
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import HEADERS_TYPE, read_headers
from outrider.model.address import Address, AddressError, Domain, parse_address
from outrider.model.envelope import Recipient
from outrider.model.facts import Facts, Provenance
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import RecipientTable

WORKED_THROUGH = DeliveryResult(
    Kind.DELIVERED, "2.0.0", "its extensions were worked through; there is nothing to read", protocol="mt2"
)
IDENTITIES = "mt2.identities"
"""The fact that names whoever is proven to have had a hand in a message."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the transport works with."""

    desk: Desk
    outbox: Messages
    tables: RecipientTable
    observer: ExtensionObserver
    clock: Callable[[], float]
    hostname: str


@dataclass(slots=True)
class _Opened:
    """A message's objects, as far as extensions are concerned."""

    envelope: LayeredEnvelope
    facts: EnvelopeFacts
    delivery: tuple[Carried, ...]
    recipient: tuple[Carried, ...]


def opened(message: StoredMessage, now: float, observer: ExtensionObserver) -> _Opened | None:
    """The objects of a message; None for one without, or with some that cannot be read."""
    objects = message.objects
    if objects is None:
        return None
    try:
        envelope = read_envelope(objects.envelope)
        readable = bool(objects.headers) and objects.headers_type.lower() == HEADERS_TYPE
        extensions = read_headers(objects.headers).extensions if readable else ()
    except ObjectError as error:
        observer.extension_ignored("objects", message.id, str(error))
        return None
    return _Opened(
        envelope,
        envelope_facts(envelope, message, now),
        tuple(Carried(one.oid, one.data, one.critical) for one in envelope.extensions),
        tuple(Carried(one.oid, one.data, recipient=one.recipient, errors=one.errors) for one in extensions),
    )


class ListCommandReader:
    """Implements `lists.transport.CommandReader`."""

    def __init__(self, desk: Desk, observer: ExtensionObserver, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._observer = observer
        self._clock = clock

    async def command_in(self, message: StoredMessage) -> Command | None:
        """See `CommandReader`."""
        found = opened(message, self._clock(), self._observer)
        if found is None or found.facts.sender is None or not found.recipient:
            return None
        sender = found.facts.sender
        mail = DeliveredMail(found.facts, sender, found.delivery, found.recipient)
        try:
            word = await self._desk.list_command(mail)
        except ExtensionUnavailable as error:
            raise NotNow(str(error)) from error
        return Command(word, sender, sender_is_proven(sender, found.facts)) if word else None


class ExtendingTransport:
    """Another transport, with extensions."""

    def __init__(self, inner: LocalTransport, parts: Parts) -> None:
        self._inner = inner
        self._parts = parts

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """See the module."""
        found = opened(job.message, self._parts.clock(), self._parts.observer)
        if found is None:
            return await self._passed_on(job, instruction)
        results: dict[int, DeliveryResult] = {}
        caused: dict[int, list[ExtensionMessage]] = {}
        entering: list[int] = []
        for index in job.recipients:
            mail = self._mail(found, job.message.envelope.recipients[index])
            result, caused[index] = await self._before(job.message, found, mail)
            if result is None:
                entering.append(index)
            else:
                results[index] = result
        made: list[NewMessage] = []
        if entering:
            message = self._readable(job.message, found)
            left = replace(job, message=message, recipients=tuple(entering))
            done = await self._passed_on(left, instruction)
            made += done.messages
            for index, result in done.results.items():
                results[index] = result
                if result.kind is Kind.DELIVERED:
                    mail = self._mail(found, job.message.envelope.recipients[index])
                    caused[index] += await self._parts.desk.delivered(mail)
                else:
                    caused[index] = []
        for index in job.recipients:
            made += self._made(caused[index], job.message)
        return Expansion(results, tuple(made))

    def close(self) -> None:
        """Close what is inside."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()

    async def _passed_on(self, job: Job, instruction: str) -> Expansion:
        done = await self._inner.deliver(job, instruction)
        return done if isinstance(done, Expansion) else Expansion(done)

    def _mail(self, opened: _Opened, recipient: Recipient) -> DeliveredMail:
        user = self._user(recipient.address)
        names = {recipient.address.key, user.key, _original_key(recipient.original)}
        mine = tuple(one for one in opened.recipient if one.recipient is None or one.recipient.key in names)
        has_body = opened.envelope.object(Part.BODY) is not None
        return DeliveredMail(opened.facts, user, opened.delivery, mine, has_body)

    def _user(self, address: Address) -> Address:
        """Whose mailbox it is: choices are a user's, under whichever of his addresses somebody writes."""
        mailbox = self._parts.tables.mailbox_of(address)
        return address if mailbox is None else Address(mailbox.user, mailbox.domain)

    async def _before(
        self, message: StoredMessage, opened: _Opened, mail: DeliveredMail
    ) -> tuple[DeliveryResult | None, list[ExtensionMessage]]:
        """What is done before a message enters the mailbox; a result where it does not."""
        desk = self._parts.desk
        try:
            guarded = await desk.guard(mail)
            if guarded.waits:
                return deferred("4.7.1", guarded.waits, protocol="mt2"), list(guarded.messages)
            caused = [*guarded.messages, *await desk.received(mail)]
        except ExtensionUnavailable as error:
            self._parts.observer.extension_failed("desk", "delivering", error, message.id)
            return deferred("4.3.0", "extensions cannot be asked now; the mail waits", protocol="mt2"), []
        if _is_for_programs(opened):
            return WORKED_THROUGH, caused
        return None, caused

    def _readable(self, message: StoredMessage, opened: _Opened) -> StoredMessage:
        """A control message has no content of its own: its reader gets a letter."""
        report = opened.envelope.report
        if report is None or opened.envelope.objects:
            return message
        writer = Address("mailer-daemon", Domain(self._parts.hostname))
        letter = report_letter(report, writer, message.envelope.recipients[0].address)
        content = letter_content(letter, opened.envelope.id, message.received_at, 0)
        return replace(message, content=content)

    def _made(self, caused: list[ExtensionMessage], message: StoredMessage) -> list[NewMessage]:
        made: list[NewMessage] = []
        for one in caused:
            try:
                made.append(self._parts.outbox.make(one, self._parts.clock(), f"for {message.id}"))
            except ObjectError as error:
                self._parts.observer.extension_failed("outbox", "making a message", error, message.id)
        return made


def _is_for_programs(opened: _Opened) -> bool:
    """An envelope, or envelope and headers, that exists for its extensions: nobody wants it in his
    mailbox."""
    has_body = opened.envelope.object(Part.BODY) is not None
    if has_body or opened.envelope.report is not None:
        return False
    return bool(opened.delivery or opened.recipient)


def _original_key(original: str) -> tuple[str, str]:
    try:
        return parse_address(original.partition(";")[2] or original).key
    except AddressError:
        return "", ""


def envelope_facts(envelope: LayeredEnvelope, message: StoredMessage, now: float) -> EnvelopeFacts:
    """What is known of a message that has been stored."""
    facts = Facts(message.facts)
    named = facts.value(IDENTITIES, Provenance.PROVEN)
    identities = frozenset(named) if isinstance(named, tuple) else frozenset()
    login = message.envelope.authenticated_as
    if not message.facts and login:
        identities |= {login.casefold()}  # made here, in the name of a user who consented
    peer = facts.value("host", Provenance.PROVEN)
    return EnvelopeFacts(
        envelope.id,
        message.id,
        envelope.sender,
        tuple(one.address for one in envelope.recipients),
        now,
        float(envelope.date),
        float(envelope.expiry),
        peer if isinstance(peer, str) else "",
        identities,
        tuple(ObjectFacts(one.media_type, one.sha256.hex(), one.length) for one in envelope.objects),
        envelope.report is not None,
        facts.value("mt2.sender.claimed", Provenance.PROVEN) is True,
    )
