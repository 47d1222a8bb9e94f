"""The desk: where messages and extensions meet. It knows what is enabled and who may use what, asks the
extensions concerned, and sees to it that whatever one of them does costs nothing else (MT2-19, MT2-20).

Reception asks it when an envelope has come (`envelope`, `passed`), MT2's driver about options and verbs
(`options`, `option`, `final_parts`). What it is asked at a mailbox is in `mailbox_desk.py`, how it asks
extensions in `asking.py`. What it returns as `ExtensionMessage` is made into mail by
`extension_state.outbox`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from outrider.extensions.asking import MAX_CARRIED, MAX_MESSAGES, plain, sender_is_proven
from outrider.extensions.choices import Waiting, user_key
from outrider.extensions.interface import (
    MAX_DATA,
    PASSED,
    Carried,
    Consent,
    DeliveryExtension,
    EnvelopeFacts,
    Extension,
    ExtensionError,
    ExtensionMessage,
    ExtensionUnavailable,
    ExtensionVerdict,
    HopFacts,
    OutgoingMail,
    Part,
    Refusal,
    Report,
    TransferExtension,
)
from outrider.extensions.mailbox_desk import MailboxDesk
from outrider.extensions.oids import code_of
from outrider.extensions.registry import (
    is_delivery,
    is_recipient,
    is_transfer,
)
from outrider.model.address import Address
from outrider.model.facts import Fact
from outrider.protocols.mt2.codes import EXTENSION_REFUSED, NOT_NOW, UNKNOWN_CRITICAL_EXTENSION


@dataclass(frozen=True, slots=True)
class EnvelopeVerdict:
    """What all extensions together say of an envelope."""

    refusal: Refusal | None = None
    """Of the whole message."""
    recipients: Mapping[Address, Refusal] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    parts: tuple[Part, ...] = ()
    """For the envelope's answer, refused or not (MT2-7)."""
    messages: tuple[ExtensionMessage, ...] = ()
    """To send when the message is committed; () where it is refused."""


NOTHING_SAID = EnvelopeVerdict()


@dataclass(slots=True)
class _Gathered:
    """What extensions have said so far."""

    refusal: Refusal | None = None
    recipients: dict[Address, Refusal] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    messages: list[ExtensionMessage] = field(default_factory=list)

    def verdict(self, *, answerable: bool) -> EnvelopeVerdict:
        messages = self.messages[:MAX_MESSAGES] if answerable and self.refusal is None else []
        return EnvelopeVerdict(
            self.refusal, self.recipients, tuple(self.facts), tuple(self.parts), tuple(messages)
        )


class Desk(MailboxDesk):
    """One for a server; made anew by a reload."""

    # --- between two hosts ----------------------------------------------------------------------------------

    def options(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What the option list names beside the core's own: (name, values)."""
        return tuple((word, ("ON", "OFF")) for one in self._transfer() for word in one.options)

    def asks_peers(self) -> frozenset[str]:
        """Options that our own sessions are to ask peers for."""
        return frozenset(word for one in self._transfer() for word in one.asks_peers)

    def delivery(self) -> tuple[str, ...]:
        """Names of the delivery extensions in use, for the option list (ITP-4d)."""
        found = (one.extension for one in self.registry)
        return tuple(one.name for one in found if is_delivery(one) and self._chosen.is_enabled(one))

    def option(self, name: str, values: tuple[str, ...]) -> Part | None:
        """The answer to one option of OPT; None for one that is nobody's here (MT2-11)."""
        extension = self.registry.by_word(name.upper())
        if extension is None or not self._chosen.is_enabled(extension):
            return None
        return extension.option(name.upper(), values)

    async def verb(self, verb: str, parameters: tuple[str, ...], peer: str) -> Part | None:
        """The answer to a request whose verb is not the core's; None for one that is nobody's here."""
        extension = self.registry.by_word(verb.upper())
        if extension is None or not self._chosen.is_enabled(extension):
            return None
        try:
            return await extension.verb(verb.upper(), parameters, peer)
        except Exception as error:
            self._observer.extension_failed(extension.name, f"answering {verb}", error, "")
            return Part(extension.name, "Not now.", "ERR", NOT_NOW)

    def final_parts(self, hop: HopFacts, chosen: Mapping[str, tuple[str, ...]]) -> tuple[Part, ...]:
        """What transfer extensions add to a message's last acknowledgement; `chosen`: the options that the
        peer has set in its session."""
        parts: list[Part] = []
        for extension in self._transfer():
            try:
                part = extension.final_part(hop, chosen)
            except Exception as error:
                self._observer.extension_failed(extension.name, "adding to an answer", error, hop.message)
                continue
            if part is not None:
                parts.append(part)
        return tuple(parts)

    async def passed(
        self, envelope: EnvelopeFacts, carried: Sequence[Carried], hop: HopFacts
    ) -> tuple[ExtensionMessage, ...]:
        """A message was accepted, here or for the next host: what transfer extensions want sent for it."""
        if envelope.report or envelope.sender is None:
            return ()
        made: list[ExtensionMessage] = []
        for one in carried[:MAX_CARRIED]:
            extension = self.registry.by_oid(one.oid)
            if extension is None or not is_transfer(extension) or not self._may_use(extension, envelope):
                continue
            call = extension.passed(envelope, one.data, hop)
            made += await self._guarded(extension, "passing", envelope.message_id, call, ())
        return tuple(made[:MAX_MESSAGES])

    def _transfer(self) -> Iterator[TransferExtension]:
        for one in self.registry:
            if is_transfer(one.extension) and self._chosen.is_enabled(one.extension):
                yield one.extension

    # --- at the last host -----------------------------------------------------------------------------------

    def concerns(self, carried: Sequence[Carried]) -> bool:
        """Whether `envelope` can have anything to say: False for the ordinary message, which then costs no
        turn of the event loop."""
        return bool(carried) or any(True for _ in self._screening())

    async def envelope(self, facts: EnvelopeFacts, carried: Sequence[Carried]) -> EnvelopeVerdict:
        """What the extensions say of a message for users of ours, before its headers and body are asked for.
        Never raises; may be asked again for the same transfer, and then says the same."""
        gathered = _Gathered()
        try:
            await self.refresh(facts.now)
            await self._ask_carried(facts, carried, gathered)
            if gathered.refusal is None:
                await self._ask_screening(facts, carried, gathered)
        except ExtensionUnavailable as error:
            self._observer.extension_failed("desk", "asking extensions", error, facts.message_id)
            gathered.refusal = Refusal(NOT_NOW, "Extensions cannot be asked now; try again later.")
        if gathered.refusal is not None:
            await self.ended(facts, carried)
        return gathered.verdict(answerable=facts.sender is not None and not facts.report)

    async def ended(self, facts: EnvelopeFacts, carried: Sequence[Carried]) -> None:
        """The transfer is over, whether its message was stored or not. Never raises."""
        for one in carried[:MAX_CARRIED]:
            extension = self.registry.by_oid(one.oid)
            if extension is None or not is_delivery(extension) or not self._may_use(extension, facts):
                continue
            try:
                await extension.ended(facts, one.data)
            except Exception as error:  # it finds out by itself what it missed here
                self._observer.extension_failed(extension.name, "ending", error, facts.message_id)

    async def _ask_carried(
        self, facts: EnvelopeFacts, carried: Sequence[Carried], gathered: _Gathered
    ) -> None:
        seen: set[str] = set()
        for number, one in enumerate(carried):
            if one.oid in seen or number >= MAX_CARRIED:
                gathered.refusal = Refusal(EXTENSION_REFUSED, "Too many extensions, or one of them twice.")
            elif not self._is_on(one.oid):
                self._unknown(facts, one, gathered)
            else:
                await self._ask_one(facts, one, gathered)
            seen.add(one.oid)
            if gathered.refusal is not None:
                return

    def _unknown(self, facts: EnvelopeFacts, one: Carried, gathered: _Gathered) -> None:
        if one.critical:
            gathered.refusal = Refusal(UNKNOWN_CRITICAL_EXTENSION, "A critical extension is not known here.")
            gathered.parts.append(Part(one.oid, "Unknown.", "ERR", UNKNOWN_CRITICAL_EXTENSION))
        else:
            self._observer.extension_ignored(one.oid, facts.message_id, "unknown, or not enabled")

    async def _ask_one(self, facts: EnvelopeFacts, one: Carried, gathered: _Gathered) -> None:
        extension = self.registry.by_oid(one.oid)
        assert extension is not None, "only extensions that are on are asked"
        if not self._may_use(extension, facts):
            self._observer.extension_ignored(
                extension.name, facts.message_id, "its sender has no right to it"
            )
            gathered.parts.append(Part(extension.name, "Not for you.", "ERR", EXTENSION_REFUSED))
            if one.critical:
                gathered.refusal = Refusal(
                    EXTENSION_REFUSED, f"You may not use the extension {extension.name}."
                )
            return
        if is_delivery(extension):
            verdict = await self._checked(extension, facts, one)
            self._add(extension, facts, verdict, gathered, is_carried=True)
            if verdict.asks and verdict.refusal is None and facts.sender is not None and not facts.report:
                await self._put_before(extension, facts, facts.sender, verdict.asks, one.data)

    async def _checked(
        self, extension: DeliveryExtension, facts: EnvelopeFacts, one: Carried
    ) -> ExtensionVerdict:
        try:
            return await extension.check(facts, one.data)
        except ExtensionError as error:
            text = plain(str(error))
            if one.critical:
                return ExtensionVerdict(Refusal(EXTENSION_REFUSED, text))
            return ExtensionVerdict(messages=_malformed(facts, extension, text), text=text)
        except ExtensionUnavailable:
            raise
        except Exception as error:  # a stranger's program: it must not cost more than itself
            self._observer.extension_failed(extension.name, "checking", error, facts.message_id)
            return ExtensionVerdict(Refusal(NOT_NOW, "Try again later.")) if one.critical else PASSED

    async def _put_before(
        self,
        extension: Extension,
        facts: EnvelopeFacts,
        sender: Address,
        asks: Mapping[Address, str],
        data: str,
    ) -> None:
        proven = sender_is_proven(sender, facts)
        for user, text in asks.items():
            key, peer = user_key(user), user_key(sender)
            if await self._choices.consent(extension.name, key, peer) is Consent.DENIED:
                continue
            waiting = Waiting(
                extension.name, key, peer, facts.message_id, plain(text), data, facts.now, proven
            )
            if await self._choices.ask(waiting):
                self._observer.consent_asked(extension.name, key, peer, facts.message_id)

    async def _ask_screening(
        self, facts: EnvelopeFacts, carried: Sequence[Carried], gathered: _Gathered
    ) -> None:
        asked = {one.oid for one in carried}
        for extension in self._screening():
            if extension.oid in asked:
                continue
            call = extension.screen(facts)
            verdict = await self._guarded(extension, "screening", facts.message_id, call, PASSED)
            self._add(extension, facts, verdict, gathered, is_carried=False)
            if gathered.refusal is not None:
                return

    def _screening(self) -> Iterator[DeliveryExtension]:
        for one in self.registry:
            extension = one.extension
            if is_delivery(extension) and extension.screens and self._chosen.is_enabled(extension):
                yield extension

    def _add(
        self,
        extension: Extension,
        facts: EnvelopeFacts,
        verdict: ExtensionVerdict,
        gathered: _Gathered,
        *,
        is_carried: bool,
    ) -> None:
        """Put one extension's word to the others'."""
        refusal = verdict.refusal
        gathered.refusal = refusal
        for address, one in verdict.recipients.items():
            gathered.recipients.setdefault(address, one)
        gathered.facts += [fact for fact in verdict.facts if fact.name.startswith("mt2.")]
        gathered.messages += verdict.messages
        if refusal is not None:
            gathered.parts.append(Part(extension.name, plain(refusal.text), "ERR", refusal.code))
        elif is_carried:
            text = plain(verdict.text) or "Processed."
            gathered.parts.append(Part(extension.name, text, "OK", code_of(extension.oid, 2)))
        spoken = refusal or next(iter(verdict.recipients.values()), None)
        if spoken is not None or verdict.text:
            code = spoken.code if spoken else code_of(extension.oid, 2)
            text = plain(spoken.text if spoken else verdict.text)
            self._observer.extension_spoke(extension.name, facts.message_id, code, text)

    # --- what our own mail carries --------------------------------------------------------------------------

    async def outgoing(self, mail: OutgoingMail) -> tuple[tuple[Carried, ...], tuple[Carried, ...]]:
        """What extensions add to a message of ours before it is sealed: to its envelope, and to its headers
        object. Raises ExtensionUnavailable: the mail waits."""
        await self.refresh(mail.now)
        delivery: list[Carried] = []
        recipient: list[Carried] = []
        for one in self.registry:
            extension = one.extension
            if is_transfer(extension) or not self._chosen.is_enabled(extension):
                continue
            if is_delivery(extension):
                kept, call = delivery, extension.outgoing(mail)
            elif is_recipient(extension):
                kept, call = recipient, extension.outgoing(mail)
            else:
                continue
            carried = await self._guarded(extension, "sending", mail.message, call, None)
            if carried is not None and carried.oid == extension.oid and len(carried.data) <= MAX_DATA:
                kept.append(carried)
        return tuple(delivery), tuple(recipient)


def _malformed(facts: EnvelopeFacts, extension: Extension, text: str) -> tuple[ExtensionMessage, ...]:
    if facts.sender is None or facts.report or not facts.recipients:
        return ()
    report = Report(facts.message_id, extension.oid, EXTENSION_REFUSED, text, facts.recipients[0], "ignored")
    return (ExtensionMessage(facts.sender, report=report),)
