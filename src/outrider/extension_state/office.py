"""What the control socket lets users and operators do with extensions in a running server: say yes to what
waits, and send something by an extension."""

from __future__ import annotations

from collections.abc import Callable

from outrider.extension_state.choices import StoredChoices
from outrider.extension_state.outbox import Post
from outrider.extensions.desk import Desk
from outrider.extensions.interface import (
    MAX_DATA,
    Carried,
    Consent,
    ExtensionError,
    ExtensionMessage,
    ExtensionUnavailable,
    OutgoingMail,
    RecipientRequest,
)
from outrider.extensions.registry import is_delivery, is_recipient
from outrider.message.objects.errors import ObjectError
from outrider.model.address import Address, parse_address
from outrider.routing.local_users import NotLocal, RecipientTable, UnknownUser


class OfficeRefused(Exception):
    """It cannot be done; the text says why, for whoever asked."""


class ExtensionOffice:
    """One for a server; made anew by a reload."""

    def __init__(
        self,
        desk: Desk,
        choices: StoredChoices,
        post: Post,
        tables: RecipientTable,
        clock: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._choices = choices
        self._post = post
        self._tables = tables
        self._clock = clock

    async def allow(self, number: int) -> str:
        """The user says yes to request `number`: it is done, and waits no more. Raises OfficeRefused."""
        try:
            waiting = await self._choices.waiting_one(number)
            if waiting is None:
                raise OfficeRefused(f"nothing waits under number {number}")
            request = RecipientRequest(
                parse_address(waiting.user),
                parse_address(waiting.sender),
                waiting.message_id,
                waiting.data,
                self._clock(),
                waiting.proven,
                Consent.ASK,
            )
            messages = await self._desk.consented(waiting, request)
            # What is sent is stored before the request is struck off: a crash between the two repeats it.
            sent = await self._post.send(messages, f"{waiting.user} consented to {waiting.extension}")
            await self._choices.answered(number, Consent.ALLOWED)
        except (ExtensionError, ExtensionUnavailable, ObjectError) as error:
            raise OfficeRefused(str(error)) from error
        ids = ", ".join(one.id for one in sent)
        return f"done; {ids} is on its way" if ids else "done"

    async def send(self, name: str, to: str, sender: str, data: str, *, critical: bool = False) -> str:
        """Send something by an extension in the name of a user of ours; the new queue id. Raises
        OfficeRefused."""
        extension = self._desk.registry.by_name(name)
        if extension is None:
            raise OfficeRefused(f"there is no extension {name}")
        if len(data) > MAX_DATA:
            raise OfficeRefused(f"data have at most {MAX_DATA} characters")
        writer, reader = self._own_user(sender), parse_address(to)
        now = self._clock()
        try:
            await self._desk.refresh(now)
            # As if the data stood in the field by which users ask: the extension remembers that they did.
            mail = OutgoingMail(f"{name} {now}", writer, (reader,), now, lambda _: (data,))
            carried = Carried(extension.oid, data, critical)
            subject, text = f"{name}: {data}"[:200].split("\n")[0], f"{data}\n"
            if is_recipient(extension):
                carried = await extension.outgoing(mail) or carried
                one = ExtensionMessage(reader, writer, recipient=(carried,), subject=subject, text=text)
            else:
                if is_delivery(extension):
                    carried = await extension.outgoing(mail) or carried
                one = ExtensionMessage(reader, writer, delivery=(carried,), subject=subject, text=text)
            sent = await self._post.send([one], f"{writer} sent {name}")
        except (ExtensionUnavailable, ExtensionError, ObjectError) as error:
            raise OfficeRefused(str(error)) from error
        return sent[0].id

    def _own_user(self, text: str) -> Address:
        address = parse_address(text)
        if isinstance(self._tables.resolve(address), (NotLocal, UnknownUser)):
            raise OfficeRefused(f"{text} is nobody here")
        return address
