"""A mailbox transport that also answers for users who are away: mailbox first, answer with the settlement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outrider.delivery.interface import Expansion, Job, LocalTransport
from outrider.lists.mailing import Mailing
from outrider.lists.observer import ListsObserver
from outrider.lists.store import Away, ListStoreThread
from outrider.lists.vacation import VacationSettings, answer, why_no_answer
from outrider.model.address import Address
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import Deliverable, Mailbox, RecipientTable
from outrider.tables.database import StoreUnavailable

FRESH_S = 5.0
"""How long what is known of who is away is gone by: ordinary mail costs no look at the store."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the responder works with."""

    settings: VacationSettings
    tables: RecipientTable
    store: ListStoreThread
    mailing: Mailing
    observer: ListsObserver
    clock: Callable[[], float]


class Responder:
    """Makes answers; one for all transports of a server."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._away: dict[str, Away] = {}
        self._read_at = float("-inf")

    async def answer(self, message: StoredMessage, recipient: Address) -> NewMessage | None:
        """The answer to a message that was delivered to the recipient, if one is due. Never raises for
        reasons of the store: the mail has been delivered, and an answer is worth no second delivery."""
        mailbox = self._parts.tables.mailbox_of(recipient)
        if mailbox is None or mailbox.domain not in self._parts.settings.by_domain:
            return None
        try:
            return await self._answer(message, mailbox)
        except StoreUnavailable as error:
            self._parts.observer.lists_failed("looking up who is away", error, message.id)
            return None

    async def _answer(self, message: StoredMessage, mailbox: Mailbox) -> NewMessage | None:
        now = self._parts.clock()
        user = Address(mailbox.user, mailbox.domain)
        away = (await self._who_is_away(now)).get(str(user))
        if away is None or not away.is_current(now):
            return None
        why = why_no_answer(message, user, lambda address: self._leads_to(address, mailbox))
        if not why and not await self._is_due(message, user, now):
            why = "this sender has had an answer"
        if why:
            self._parts.observer.vacation_withheld(str(user), message.id, why)
            return None
        letter = answer(away, user, message)
        made = self._parts.mailing.letter(
            letter, self._parts.settings.answers_as(user), now, "vacation answer"
        )
        self._parts.observer.vacation_answered(str(user), message.id, made.id, str(letter.to))
        return made

    async def _is_due(self, message: StoredMessage, user: Address, now: float) -> bool:
        local, domain = message.envelope.sender.key if message.envelope.sender else ("", "")
        interval_s = self._parts.settings.by_domain[user.domain].interval_s
        return await self._parts.store.call(
            lambda store: store.answer(str(user), f"{local}@{domain}", message.id, now, interval_s)
        )

    async def _who_is_away(self, now: float) -> dict[str, Away]:
        if not 0 <= now - self._read_at < FRESH_S:
            self._away = await self._parts.store.call(lambda store: store.away())
            self._read_at = now
        return self._away

    def _leads_to(self, address: Address, mailbox: Mailbox) -> bool:
        """Whether it is one of the user's own addresses: his name, with or without a detail, at any name of
        the domain, or an alias that leads to him alone. A role's address with several people behind it is
        none's."""
        found = self._parts.tables.resolve(address)
        if not isinstance(found, Deliverable) or len(found.recipients) != 1:
            return False
        other = self._parts.tables.mailbox_of(found.recipients[0].address)
        return found.recipients[0].is_local and other is not None and _same(other, mailbox)


def _same(one: Mailbox, other: Mailbox) -> bool:
    return (one.user, one.domain) == (other.user, other.domain)


class RespondingTransport:
    """Another transport, with answers."""

    def __init__(self, inner: LocalTransport, responder: Responder) -> None:
        self._inner = inner
        self._responder = responder

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """Deliver, then answer for those who got it."""
        done = await self._inner.deliver(job, instruction)
        results, made = (done.results, list(done.messages)) if isinstance(done, Expansion) else (done, [])
        for index in job.recipients:
            result = results.get(index)
            if result is not None and _is_delivered(result):
                recipient = job.message.envelope.recipients[index].address
                answered = await self._responder.answer(job.message, recipient)
                if answered is not None:
                    made.append(answered)
        return Expansion(results, tuple(made))

    def close(self) -> None:
        """Close what is inside."""
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


def _is_delivered(result: DeliveryResult) -> bool:
    return result.kind is Kind.DELIVERED
