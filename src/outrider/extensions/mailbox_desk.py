"""The desk at a user's mailbox: what waits before it, what its user has a say in, what follows delivery.

Local delivery asks when a message is about to enter a mailbox or has. What is returned as `ExtensionMessage`
is made into mail by `extension_state.outbox`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from outrider.extensions.asking import MAX_CARRIED, MAX_MESSAGES, Asking, plain, sender_is_proven
from outrider.extensions.choices import Waiting, user_key
from outrider.extensions.interface import (
    Carried,
    Consent,
    EnvelopeFacts,
    ExtensionError,
    ExtensionMessage,
    ExtensionUnavailable,
    GuardVerdict,
    RecipientExtension,
    RecipientRequest,
    Report,
)
from outrider.extensions.list_commands import command_of
from outrider.extensions.oids import LIST_COMMAND
from outrider.extensions.registry import is_delivery, is_guarding, is_recipient
from outrider.model.address import Address
from outrider.protocols.mt2.codes import EXTENSION_REFUSED


@dataclass(frozen=True, slots=True)
class DeliveredMail:
    """A message at one user's mailbox."""

    envelope: EnvelopeFacts
    user: Address
    delivery: tuple[Carried, ...] = ()
    """Extensions of the envelope."""
    recipient: tuple[Carried, ...] = ()
    """Extensions of the headers object that are for this user; () where it is encrypted or there is none."""
    has_body: bool = True


class MailboxDesk(Asking):
    """Asks about one message at one mailbox."""

    async def guard(self, mail: DeliveredMail) -> GuardVerdict:
        """Whether a message waits before it enters the mailbox. Raises ExtensionUnavailable."""
        sender = mail.envelope.sender
        messages: list[ExtensionMessage] = []
        if sender is None or mail.envelope.report:
            return GuardVerdict()
        await self.refresh(mail.envelope.now)
        for one in self.registry:
            extension = one.extension
            if not is_guarding(extension) or not self._chosen.is_enabled_for(extension, mail.user):
                continue
            data = next((each.data for each in mail.recipient if each.oid == extension.oid), "")
            call = extension.guard(self._request(mail, sender, data), has_body=mail.has_body)
            verdict = await self._guarded(extension, "guarding", mail.envelope.message_id, call, None)
            messages += verdict.messages if verdict is not None else ()
            if verdict is not None and verdict.waits:
                return GuardVerdict(plain(verdict.waits), tuple(messages[:MAX_MESSAGES]))
        return GuardVerdict(messages=tuple(messages[:MAX_MESSAGES]))

    async def received(self, mail: DeliveredMail) -> tuple[ExtensionMessage, ...]:
        """Process recipient extensions: as the user has chosen they are acted upon, put before him, or
        ignored. Raises ExtensionUnavailable; to be called again then, and before the message enters the
        mailbox."""
        sender = mail.envelope.sender
        if sender is None or mail.envelope.report or not mail.recipient:
            return ()
        await self.refresh(mail.envelope.now)
        made: list[ExtensionMessage] = []
        for one in mail.recipient[:MAX_CARRIED]:
            extension = self.registry.by_oid(one.oid)
            if extension is None or not is_recipient(extension):
                self._observer.extension_ignored(one.oid, mail.envelope.message_id, "unknown")
            elif not self._chosen.is_enabled_for(extension, mail.user):
                why = f"{mail.user} has not enabled it"
                self._observer.extension_ignored(extension.name, mail.envelope.message_id, why)
            elif not self._may_use(extension, mail.envelope):
                why = "its sender has no right to it"
                self._observer.extension_ignored(extension.name, mail.envelope.message_id, why)
            else:
                made += await self._for_user(extension, self._request(mail, sender, one.data), one.errors)
        return tuple(made[:MAX_MESSAGES])

    async def _for_user(
        self, extension: RecipientExtension, request: RecipientRequest, errors: bool
    ) -> tuple[ExtensionMessage, ...]:
        user, sender = user_key(request.user), user_key(request.sender)
        consent = await self._choices.consent(extension.name, user, sender)
        if consent is Consent.DENIED:
            self._observer.extension_ignored(extension.name, request.message_id, f"{user} has denied it")
            return ()
        # A standing consent is given to an address; who only claims it has not got it.
        stands = consent is Consent.ALLOWED and request.proven
        try:
            text = plain(extension.describe(request))
            if stands or not await extension.needs_consent(request):
                return await self._act(extension, replace(request, consent=Consent.ALLOWED))
        except ExtensionError as error:
            return await self._told(extension, request, plain(str(error)), tell_sender=errors and stands)
        waiting = Waiting(
            extension.name, user, sender, request.message_id, text, request.data, request.at, request.proven
        )
        if await self._choices.ask(waiting):
            self._observer.consent_asked(extension.name, user, sender, request.message_id)
        return ()

    async def _act(
        self, extension: RecipientExtension, request: RecipientRequest
    ) -> tuple[ExtensionMessage, ...]:
        call = extension.act(request)
        made = await self._guarded(extension, "acting", request.message_id, call, (), passes=ExtensionError)
        user, sender = user_key(request.user), user_key(request.sender)
        self._observer.extension_acted(extension.name, user, sender, request.message_id)
        return made

    async def _told(
        self, extension: RecipientExtension, request: RecipientRequest, error: str, *, tell_sender: bool
    ) -> tuple[ExtensionMessage, ...]:
        """Errors are silent. The user hears of them who wants to; the sender who asks, from a user who
        trusts him with this extension: to others it would tell that somebody is there."""
        self._observer.extension_ignored(extension.name, request.message_id, error)
        told: list[ExtensionMessage] = []
        if tell_sender:
            code = EXTENSION_REFUSED
            report = Report(request.message_id, extension.oid, code, error, request.user, "ignored")
            told.append(ExtensionMessage(request.sender, report=report))
        if await self._choices.wants_errors(extension.name, user_key(request.user)):
            text = f"A message from {request.sender} carried {extension.name}, which failed:\n{error}\n"
            subject = f"Extension {extension.name} failed"
            told.append(ExtensionMessage(request.user, subject=subject, text=text, with_body=True))
        return tuple(told)

    async def consented(self, waiting: Waiting, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """The user has said yes to what waited. Raises ExtensionError when it cannot be done any more,
        ExtensionUnavailable when not now."""
        extension = self.registry.by_name(waiting.extension)
        if extension is not None and is_delivery(extension):
            call = extension.consented(request)
            return await self._guarded(
                extension, "acting", request.message_id, call, (), passes=ExtensionError
            )
        if extension is None or not is_recipient(extension):
            raise ExtensionError(f"there is no extension {waiting.extension} any more")
        return await self._act(extension, request)

    async def delivered(self, mail: DeliveredMail) -> tuple[ExtensionMessage, ...]:
        """The message is in the mailbox: what delivery extensions want sent for it. Never raises."""
        if mail.envelope.sender is None or mail.envelope.report:
            return ()
        made: list[ExtensionMessage] = []
        for one in mail.delivery[:MAX_CARRIED]:
            extension = self.registry.by_oid(one.oid)
            if extension is None or not is_delivery(extension) or not self._may_use(extension, mail.envelope):
                continue
            call = extension.delivered(mail.envelope, one.data, mail.user)
            try:
                made += await self._guarded(
                    extension, "after delivery", mail.envelope.message_id, call, (), passes=ExtensionError
                )
            except (ExtensionError, ExtensionUnavailable) as error:
                self._observer.extension_ignored(extension.name, mail.envelope.message_id, plain(str(error)))
        return tuple(made[:MAX_MESSAGES])

    async def list_command(self, mail: DeliveredMail) -> str:
        """What is asked of a mailing list here; "" for nothing. The list's operator has consented by
        enabling the extension. Raises ExtensionUnavailable."""
        if mail.envelope.sender is None or mail.envelope.report:
            return ""
        await self.refresh(mail.envelope.now)
        extension = self.registry.by_oid(LIST_COMMAND)
        if extension is None or not self._may_use(extension, mail.envelope):
            return ""
        for one in mail.recipient:
            if one.oid == LIST_COMMAND:
                try:
                    return command_of(one.data)
                except ExtensionError as error:
                    self._observer.extension_ignored(extension.name, mail.envelope.message_id, str(error))
        return ""

    def _request(self, mail: DeliveredMail, sender: Address, data: str) -> RecipientRequest:
        facts = mail.envelope
        proven = sender_is_proven(sender, facts)
        return RecipientRequest(mail.user, sender, facts.message_id, data, facts.now, proven)
