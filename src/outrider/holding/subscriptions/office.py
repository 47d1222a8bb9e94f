"""What the subscription service does for people (AMDP-19): apply, ask by a letter, confirm, show, leave.

An application is answered in the same words, with the same work done, whether the address exists or not; who
is to be asked is decided meanwhile, and the letter is written afterwards. Letters that a crash left unwritten
are written by whichever worker looks next: one may come twice, none is lost.

A list of this server and a subscription are one thing: to accept a list's mail is to join it, to leave is to
leave it, by the list's own store (`lists/`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network
from typing import TypeVar

from outrider.holding.subscriptions.letter_texts import letter_texts_for
from outrider.holding.subscriptions.letters import asks_to_confirm
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.request_counts import HOUR_S
from outrider.holding.subscriptions.store import (
    Application,
    PendingWish,
    SubscriptionStore,
    SubscriptionStoreThread,
)
from outrider.holding.subscriptions.wishes import (
    ANYBODY,
    Fault,
    Rule,
    RuleError,
    Standing,
    Subject,
    decide,
    parse_subject,
    senders_of,
)
from outrider.holding.web import IPAddress
from outrider.lists.automatic import is_no_person
from outrider.lists.mailing import Mailing
from outrider.lists.settings import MailList
from outrider.lists.store import ListStoreThread
from outrider.lists.tokens import Tokens
from outrider.model.address import Address, AddressError, Domain, parse_address
from outrider.model.message import NewMessage
from outrider.model.mpc import BOUNCE
from outrider.protocols.amdp.identifiers import OCTETS, identifier, is_identifier
from outrider.routing.list_addresses import Purpose
from outrider.routing.local_users import Deliverable, NotLocal
from outrider.spool.interface import SpoolError
from outrider.tables.database import StoreUnavailable

T = TypeVar("T")

KINDS = ("accept", "deny", "leave", "show")
"""What may be asked for from outside; of a list of this server they become `subscribe` and `unsubscribe`."""
GUESSES_PER_HOUR = 60
"""Wrong links and signatures that one address may show."""
LETTERS_AT_ONCE = 50
LETTERS_EVERY_S = 60.0
"""How often letters that somebody else left are looked for."""
BY_LINK = "by the link in a letter"
_RULES = "subscriptions"
"""In seals: a token of a rule is none of a list's."""


class TooMany(Exception):
    """Not now: too much was asked from there."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many requests")
        self.seconds = seconds
        """After which it may be tried again (Retry-After)."""


@dataclass(frozen=True, slots=True)
class OfficeParts:
    """What the office works with; made anew by a reload."""

    store: SubscriptionStoreThread
    lists: Mapping[str, MailList]
    list_store: ListStoreThread
    mailing: Mailing
    post: Callable[[NewMessage], Awaitable[None]]
    """Makes a message durable and has it delivered. Raises SpoolError."""
    base: Callable[[Domain], str]
    """``https://HOST`` or ``https://HOST:PORT``, as others reach this service for a domain of ours."""
    observer: SubscriptionObserver
    clock: Callable[[], float]
    chance: Callable[[int], bytes]
    """So many random octets, of the system's generator."""
    requests_per_hour: int = 60
    """Applications from one address; 0 = no limit."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Something that a person may leave."""

    about: Subject
    standing: Standing
    leave: str
    """The path of the page that ends it."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a link for leaving is about."""

    about: Subject
    address: Address | None
    """None: he has left long ago."""


class SubscriptionOffice:
    """See the module. Implements `subscriptions.Wishes`."""

    def __init__(self, parts: OfficeParts) -> None:
        self._parts = parts
        self._tokens: Tokens | None = None
        self._list_tokens: Tokens | None = None
        self._due = asyncio.Event()

    # --- applications ---------------------------------------------------------------------------------------

    async def apply(
        self, kind: str, address: str, sender: str, pattern: str, client: IPAddress, languages: str = ""
    ) -> None:
        """Ask the address whether it means this, if it is one that is asked; nobody learns whether it is.
        The letter is in the language that `languages` (Accept-Language) wants most of those that we have.

        Raises RuleError for what cannot be asked for, TooMany, StoreUnavailable.
        """
        wished = self._application(kind, address, sender, pattern)
        application = replace(wished, language=letter_texts_for(languages).language)
        await self._count(client)
        letter = self._is_asked(application)
        token = identifier(self._parts.chance(OCTETS))
        now = self._parts.clock()
        asked = await self._call(lambda store: store.apply(token, application, now, letter=letter))
        one = application
        self._parts.observer.subscription_asked(str(one.address), str(one.subject), one.kind, letter=asked)
        self._due.set()

    def _application(self, kind: str, address: str, sender: str, pattern: str) -> Application:
        if kind not in KINDS:
            raise RuleError(Fault.KIND, f"ask for one of {', '.join(KINDS)}")
        try:
            person = parse_address(address.strip())
        except AddressError as error:
            raise RuleError(Fault.ADDRESS, f"the address is malformed: {error}") from error
        if not person.domain:
            raise RuleError(Fault.ADDRESS, "the address has no domain")
        if kind == "show":
            return Application(kind, person, Subject(ANYBODY, ANYBODY))
        subject = parse_subject(sender, pattern)
        if subject.sender in self._parts.lists:
            kind = "subscribe" if kind == "accept" else "unsubscribe"
            subject = Subject(subject.sender, ANYBODY)
        return Application(kind, person, subject)

    def _is_asked(self, one: Application) -> bool:
        """People of this server are; others only about its lists: nobody else's mail is our business."""
        if is_no_person(one.address.local):
            return False
        if one.kind == "subscribe" and self._is_closed(one.subject.sender):
            return False
        if self.is_person_here(one.address):
            return True
        found = self._parts.mailing.tables.resolve(one.address)
        return isinstance(found, NotLocal) and one.kind in ("subscribe", "unsubscribe")

    def _is_closed(self, name: str) -> bool:
        return self._parts.lists[name].settings.subscription == "closed"

    async def _count(self, client: IPAddress) -> None:
        limit, now = self._parts.requests_per_hour, self._parts.clock()
        who = f"apply {network_of(client)}"
        if limit and await self._call(lambda store: store.counts.add(who, now, HOUR_S)) > limit:
            self._parts.observer.subscription_refused(str(client), "apply", "too many applications")
            raise TooMany(until_next(now))

    # --- letters --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write letters as they fall due, until cancelled."""
        while True:
            self._due.clear()
            try:
                while await self.write_letters():
                    pass
            except (StoreUnavailable, SpoolError) as error:
                self._parts.observer.subscriptions_failed("writing letters", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LETTERS_EVERY_S):
                    await self._due.wait()

    async def write_letters(self) -> int:
        """Write those that are due; how many. Raises StoreUnavailable and SpoolError."""
        now = self._parts.clock()
        due = await self._call(lambda store: store.letters_due(now, LETTERS_AT_ONCE))
        for one in due:
            await self._parts.post(self._letter(one, now))
            await self._mark(one.token, now)
        return len(due)

    async def _mark(self, token: str, now: float) -> None:
        await self._call(lambda store: store.letter_written(token, now))

    def _letter(self, wish: PendingWish, now: float) -> NewMessage:
        one = wish.application
        mail_list = self._parts.lists.get(one.subject.sender)
        writer, mpc = Address("postmaster", one.address.domain), BOUNCE
        if mail_list is not None and one.kind in ("subscribe", "unsubscribe"):
            writer, mpc = mail_list.at(Purpose.REQUEST), mail_list.answers_as
        page = "mine" if one.kind == "show" else "confirm"
        link = f"{self._parts.base(writer.domain)}/subscriptions/{page}/{wish.token}"
        letter = asks_to_confirm(one, writer, link)
        return self._parts.mailing.letter(letter, mpc, now, f"question about {one.kind}")

    # --- confirmations --------------------------------------------------------------------------------------

    async def pending(self, token: str, client: IPAddress) -> PendingWish | None:
        """What a link of a letter is for; changes nothing. Raises TooMany and StoreUnavailable."""
        await self.guard(client)
        now = self._parts.clock()
        found = None
        if is_identifier(token):
            found = await self._call(lambda store: store.pending(token, now))
        if found is None:
            await self.wrong(client, "a link that is not good")
        return found

    async def confirm(self, token: str, client: IPAddress) -> PendingWish | None:
        """Do what the letter asked; the same answer when it is said again, and nothing more is done then."""
        found = await self.pending(token, client)
        if found is None or found.used or found.application.kind == "show":
            return found
        one, now = found.application, self._parts.clock()
        if one.kind in ("subscribe", "unsubscribe"):
            # First the list, which may be told twice: after a crash between the two the link still works.
            await self.list_changed(
                one.subject.sender, one.address, joins=one.kind == "subscribe", how=BY_LINK
            )
        await self._call(lambda store: store.confirm(token, now))
        self._parts.observer.subscription_changed(str(one.address), str(one.subject), one.kind, BY_LINK)
        return found

    @property
    def lists(self) -> Mapping[str, MailList]:
        """The lists of this server."""
        return self._parts.lists

    def is_person_here(self, address: Address) -> bool:
        """Whether mail to this address is for people of this server."""
        found = self._parts.mailing.tables.resolve(address)
        return isinstance(found, Deliverable) and all(one.list_address is None for one in found.recipients)

    async def list_changed(self, name: str, address: Address, *, joins: bool, how: str) -> bool:
        """Join a list of this server, or leave it; False when nothing changed by it."""
        store, now = self._parts.list_store, self._parts.clock()
        if not joins:
            return await store.call(lambda lists: lists.leave(name, address))
        if self._is_closed(name):
            return False
        return await store.call(lambda lists: lists.join(name, address, how, now))

    # --- what one has, and leaving it -----------------------------------------------------------------------

    async def mine(self, wish: PendingWish) -> list[Membership]:
        """What the person to whom this letter went has subscribed to, with the links that end each. Raises
        StoreUnavailable."""
        assert wish.application.kind == "show"
        address = wish.application.address
        rules = await self._call(lambda store: store.rules_of(address))
        mine = [Membership(one.subject, one.standing, await self.leave_path(one)) for one in rules]
        for name in sorted(self._parts.lists):
            path = await self._list_leave_path(name, address)
            if path:
                mine.append(Membership(Subject(name, ANYBODY), Standing.ACCEPT, path))
        return mine

    async def leave_path(self, rule: Rule) -> str:
        """The path of the page that ends this rule."""
        seals = await self._sealing()
        return f"/subscriptions/leave/{seals.for_member(_RULES, Purpose.UNSUBSCRIBE, rule.id)}"

    async def _list_leave_path(self, name: str, address: Address) -> str:
        member = await self._parts.list_store.call(lambda lists: lists.member(name, address))
        if member is None:
            return ""
        seals = await self._list_sealing()
        return f"/subscriptions/leave/{name}/{seals.for_member(name, Purpose.UNSUBSCRIBE, member.id)}"

    async def leaving(self, name: str, token: str, client: IPAddress) -> Left | None:
        """What a link for leaving is about (`name`: a list of this server, or ""); changes nothing."""
        await self.guard(client)
        found = await (self._list_member(name, token) if name else self._rule(token))
        if found is None:
            await self.wrong(client, "a link that is not good")
        return found

    async def leave(self, name: str, token: str, client: IPAddress) -> Left | None:
        """Leave at one click (RFC 8058): who has the link need not confirm; said again it is the same."""
        found = await self.leaving(name, token, client)
        if found is None or found.address is None:
            return found
        if name:
            changed = await self.list_changed(name, found.address, joins=False, how=BY_LINK)
        else:
            seals, now = await self._sealing(), self._parts.clock()
            rule = seals.member_of(_RULES, Purpose.UNSUBSCRIBE, token) or 0
            changed = await self._call(lambda store: store.leave(rule, now, BY_LINK)) is not None
        if changed:
            address, about = str(found.address), str(found.about)
            self._parts.observer.subscription_changed(address, about, "left", BY_LINK)
        return found

    async def _rule(self, token: str) -> Left | None:
        number = (await self._sealing()).member_of(_RULES, Purpose.UNSUBSCRIBE, token)
        if number is None:
            return None
        rule = await self._call(lambda store: store.rule(number))
        if rule is None:
            return None
        return Left(rule.subject, None if rule.standing is Standing.LEFT else rule.address)

    async def _list_member(self, name: str, token: str) -> Left | None:
        if name not in self._parts.lists:
            return None
        number = (await self._list_sealing()).member_of(name, Purpose.UNSUBSCRIBE, token)
        if number is None:
            return None
        member = await self._parts.list_store.call(lambda lists: lists.member_by_id(name, number))
        return Left(Subject(name, ANYBODY), None if member is None else member.address)

    # --- for those who judge envelopes ----------------------------------------------------------------------

    async def standing(
        self, recipient: Address, sender: Address, mail_class: str, *, vouched: bool
    ) -> Standing | None:
        """See `Wishes`."""
        people = self._names_of(recipient)
        found = await self._call(lambda store: store.rules_towards(people, senders_of(sender)))
        rules = [one for several in found.values() for one in several]
        rule = decide(rules, sender, mail_class, vouched=vouched)
        return None if rule is None else rule.standing

    def _names_of(self, recipient: Address) -> tuple[Address, ...]:
        """The address, and the mailbox that it means: with a detail, or by an alias, it is the same
        person's."""
        tables = self._parts.mailing.tables
        found = tables.resolve(recipient)
        if not isinstance(found, Deliverable) or len(found.recipients) != 1:
            return (recipient,)
        [person] = found.recipients
        mailbox = tables.mailbox_of(person.address) if person.is_local else None
        return (recipient,) if mailbox is None else (recipient, Address(mailbox.user, mailbox.domain))

    # --- limits and seals -----------------------------------------------------------------------------------

    async def guard(self, client: IPAddress) -> None:
        """Raises TooMany for an address that has shown too many wrong links or signatures."""
        who, now = f"wrong {network_of(client)}", self._parts.clock()
        if await self._call(lambda store: store.counts.of(who, now, HOUR_S)) >= GUESSES_PER_HOUR:
            raise TooMany(until_next(now))

    async def wrong(self, client: IPAddress, why: str) -> None:
        """Count what was wrong."""
        who, now = f"wrong {network_of(client)}", self._parts.clock()
        await self._call(lambda store: store.counts.add(who, now, HOUR_S))
        self._parts.observer.subscription_refused(str(client), "subscriptions", why)

    async def _sealing(self) -> Tokens:
        if self._tokens is None:
            self._tokens = Tokens(await self._call(lambda store: store.key))
        return self._tokens

    async def _list_sealing(self) -> Tokens:
        if self._list_tokens is None:
            self._list_tokens = Tokens(await self._parts.list_store.call(lambda lists: lists.key))
        return self._list_tokens

    async def _call(self, work: Callable[[SubscriptionStore], T]) -> T:
        return await self._parts.store.call(work)


def network_of(client: IPAddress) -> str:
    """Who counts as one: an IPv4 address, an IPv6 network of 64 bits."""
    if isinstance(client, IPv6Address):
        if client.ipv4_mapped is not None:
            return str(client.ipv4_mapped)
        return str(IPv6Network((client, 64), strict=False))
    return str(client)


def until_next(now: float, period_s: float = HOUR_S) -> int:
    """Seconds until another hour (or day) is counted."""
    return int(period_s - now % period_s) + 1
