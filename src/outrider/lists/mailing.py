"""From content to a message that the spool can store: where it goes, in which items, with which first
event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider.lists.letters import Letter, letter_content
from outrider.model.address import Address, Domain
from outrider.model.content import Content
from outrider.model.envelope import BodyType, Envelope, Notify, Recipient, Return
from outrider.model.message import Event, ItemState, MessageId, NewItem, NewMessage
from outrider.model.mpc import Mpc
from outrider.routing.local_users import Deliverable, RecipientTable
from outrider.routing.routes import RouteTable

BULK = -1
"""The priority of copies: ordinary mail goes before a list's."""


@dataclass(frozen=True, slots=True)
class Mailing:
    """How this server makes messages of its own; made anew by a reload."""

    hostname: str
    tables: RecipientTable
    routes: RouteTable
    new_id: Callable[[float], MessageId]
    utc_offset: Callable[[float], int] = lambda _: 0
    """Minutes east of UTC at a moment."""
    subscriptions: Callable[[Domain], str] = lambda _: ""
    """The address (https) of the subscription service of a domain here, below which its pages lie; "" for
    none."""

    def letter(self, letter: Letter, mpc: Mpc, now: float, about: str) -> NewMessage:
        """A letter with the null sender (RFC 3834 section 3.3): nobody ever answers or bounces it to a
        list."""
        identifier = self.new_id(now)
        content = letter_content(letter, f"{identifier}@{self.hostname}", now, self.utc_offset(now))
        recipients = self.final_recipients(letter.to, Notify.NEVER)
        envelope = Envelope(
            None,
            recipients,
            BodyType.SEVEN_BIT if content.is_ascii else BodyType.EIGHT_BIT,
            smtputf8=not (letter.to.is_ascii and letter.writer.is_ascii),
            mpc=mpc,
        )
        event = Event(now, "received", f"made here: {about} to {letter.to}")
        return NewMessage(
            identifier, now, envelope, b"", content, self.items(recipients, now), events=(event,)
        )

    def copy(self, content: Content, envelope: Envelope, now: float, about: str) -> NewMessage:
        """A copy of a post for one member, whose address alone stands in the envelope."""
        recipients = self.final_recipients(envelope.recipients[0].address, Notify.FAILURE)
        sent = Envelope(
            envelope.sender,
            recipients,
            envelope.body_type,
            envelope.smtputf8,
            Return.HEADERS,
            mpc=envelope.mpc,
        )
        event = Event(now, "received", f"made here: {about}")
        return NewMessage(
            self.new_id(now),
            now,
            sent,
            b"",
            content,
            self.items(recipients, now),
            events=(event,),
            priority=BULK,
        )

    def final_recipients(self, to: Address, notify: Notify) -> tuple[Recipient, ...]:
        """Aliases are followed here as at RCPT. An address that leads nowhere stays: its delivery fails, and
        that is told or counted as for any other."""
        resolution = self.tables.resolve(to)
        if isinstance(resolution, Deliverable):
            return tuple(Recipient(one.address, notify) for one in resolution.recipients)
        return (Recipient(to, notify),)

    def items(self, recipients: Sequence[Recipient], now: float, held: str = "") -> tuple[NewItem, ...]:
        """One item for those that go the same way; held with that reason, or due at once."""
        by_lane: dict[str, list[int]] = {}
        for index, recipient in enumerate(recipients):
            by_lane.setdefault(self.routes.find(recipient).lane, []).append(index)
        state = ItemState.HELD if held else ItemState.READY
        return tuple(NewItem(lane, tuple(indexes), state, now, held) for lane, indexes in by_lane.items())
