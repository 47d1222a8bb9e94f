"""`list:`: what becomes of mail to a list's addresses. A local transport, so that everything a list does is
an attempt of the queue: retried until it is done, and its messages are stored with its settlement, each
exactly once.

What the store is told comes before that settlement. After a crash between the two the message is handled
again under its id, which the store knows (`store.py`), and comes to the same.

Mail that asks for nothing a list does - from programs, with tokens not ours, in a circle - is ignored with a
line in its trail: an answer to it would go to somebody who never wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from outrider.delivery.interface import Expansion, Job
from outrider.delivery.local_content import was_delivered_to
from outrider.lists import words
from outrider.lists.automatic import automatic_mark, is_no_person, reports_failure, why_automatic
from outrider.lists.distribution import APPROVED, Post, again, copies, read_post, rest_of, rest_route
from outrider.lists.gate import class_refusal, size_refusal, waits_for_moderator
from outrider.lists.letters import Letter
from outrider.lists.mailing import Mailing
from outrider.lists.observer import ListsObserver
from outrider.lists.settings import MailList
from outrider.lists.store import ListStore, ListStoreThread, Wish
from outrider.lists.tokens import Tokens
from outrider.message.header_fields import field_values
from outrider.model.address import Address
from outrider.model.envelope import Arrival
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.list_addresses import ListAddress, Purpose, list_address
from outrider.tables.database import StoreUnavailable

T = TypeVar("T")

HELP_INTERVAL_S = 3600.0
"""One address gets one help letter of a list within this time."""


class NotNow(Exception):
    """What was asked cannot be done now; the mail waits. The text is for log and trail."""


Moderate = Callable[[str, bool], Awaitable[bool]]
"""Lets a held message (by queue id) go out, or drops it; False when it waits no more. Raises NotNow."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an MT2 message asks of a list in its headers object (MT2-21c)."""

    word: str
    """subscribe, unsubscribe or help."""
    sender: Address
    proven: bool
    """The sender's address is proven: it need not be asked by a letter."""


class CommandReader(Protocol):
    """Finds commands in messages; the extensions' desk has it."""

    async def command_in(self, message: StoredMessage) -> Command | None:
        """None: there is none, or nobody here has enabled that. Raises NotNow."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the transport works with."""

    lists: Mapping[str, MailList]
    store: ListStoreThread
    mailing: Mailing
    moderate: Moderate
    observer: ListsObserver
    clock: Callable[[], float]
    commands: CommandReader | None = None
    """None: commands stand in a Subject only."""


@dataclass(slots=True)
class _Case:
    """One message at one address of a list, and what is made of it."""

    mail_list: MailList
    message: StoredMessage
    address: ListAddress
    instruction: str
    now: float
    made: list[NewMessage] = field(default_factory=list)

    @property
    def sender(self) -> Address:
        assert self.message.envelope.sender is not None, "mail with the null sender is ignored before"
        return self.message.envelope.sender


class ListTransport:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tokens: Tokens | None = None

    async def deliver(self, job: Job, instruction: str) -> Expansion:
        """Handle the message for each of the addresses."""
        results: dict[int, DeliveryResult] = {}
        made: list[NewMessage] = []
        for index in job.recipients:
            address = job.message.envelope.recipients[index].address
            case = self._case(job.message, address, instruction)
            if case is None:
                results[index] = _result(Kind.FAILED, "5.1.1", f"{address} is no list here")
                continue
            results[index] = await self._handled(case)
            if results[index].kind is not Kind.DEFERRED:
                made += case.made
        return Expansion(results, tuple(made))

    def _case(self, message: StoredMessage, address: Address, instruction: str) -> _Case | None:
        names = [
            one.address.local for one in self._parts.lists.values() if one.address.domain == address.domain
        ]
        found = list_address(address.local, names)
        if found is None or found.purpose is Purpose.OWNER:
            return None  # owners are an alias, followed long before
        mail_list = self._parts.lists[f"{found.name}@{address.domain}"]
        return _Case(mail_list, message, found, instruction, self._parts.clock())

    async def _handled(self, case: _Case) -> DeliveryResult:
        handlers = {
            Purpose.POST: self._post,
            Purpose.SUBSCRIBE: self._subscribe,
            Purpose.UNSUBSCRIBE: self._unsubscribe,
            Purpose.REQUEST: self._request,
            Purpose.CONFIRM: self._confirm,
            Purpose.APPROVE: self._moderate,
            Purpose.REJECT: self._moderate,
            Purpose.BOUNCES: self._bounced,
        }
        try:
            return await handlers[case.address.purpose](case)
        except (StoreUnavailable, NotNow) as error:
            self._parts.observer.lists_failed("handling mail for a list", error, case.message.id)
            return _result(Kind.DEFERRED, "4.3.0", "the list cannot work now; the mail waits")

    async def _sealing(self) -> Tokens:
        if self._tokens is None:
            self._tokens = Tokens(await self._call(lambda store: store.key))
        return self._tokens

    async def _call(self, work: Callable[[ListStore], T]) -> T:
        return await self._parts.store.call(work)

    def _ignored(self, case: _Case, why: str) -> DeliveryResult:
        sender = str(case.message.envelope.sender or "<>")
        self._parts.observer.mail_ignored(case.mail_list.name, case.message.id, sender, why)
        return _done(f"ignored: {why}")

    def _write(self, case: _Case, letter: Letter, about: str) -> None:
        case.made.append(self._parts.mailing.letter(letter, case.mail_list.answers_as, case.now, about))

    # --- posts ----------------------------------------------------------------------------------------------

    async def _post(self, case: _Case) -> DeliveryResult:
        rest = rest_of(case.instruction)
        if rest is not None:
            return await self._expand(case, *rest)
        if case.instruction != APPROVED:
            refusal = self._post_refusal(case)
            if refusal is not None:
                return refusal
            if waits_for_moderator(case.mail_list, case.sender, is_proven=_is_proven(case.message)):
                return await self._hold(case)
        last = await self._call(lambda store: store.last_member(case.mail_list.name))
        return await self._expand(case, 0, last)

    def _post_refusal(self, case: _Case) -> DeliveryResult | None:
        mail_list, message = case.mail_list, case.message
        if message.envelope.sender is None:
            return self._ignored(case, "it has the null sender")
        if automatic_mark(message) == "auto-replied":
            # What a program generates by itself may be meant for a list; what it answers never is.
            return self._ignored(case, "it is a program's answer")
        if was_delivered_to(message, mail_list.address) or _has_list_id(message, mail_list):
            return self._ignored(case, "it has been through this list before")
        refusal = class_refusal(message.envelope.mpc, message.envelope.arrival)
        refusal = refusal or size_refusal(mail_list, message.size)
        return None if refusal is None else _result(Kind.FAILED, refusal.status, refusal.text)

    async def _expand(self, case: _Case, after: int, up_to: int) -> DeliveryResult:
        post = read_post(case.mail_list, case.message)
        name, limit = case.mail_list.name, post.copies_at_once
        # One more than is served now tells whether any is left.
        members = await self._call(lambda store: store.active_members(name, after, up_to, limit + 1))
        served, left = members[:limit], members[limit:]
        case.made += copies(post, served, await self._sealing(), self._parts.mailing, case.now)
        if left:
            case.made.append(self._rest(case, post, served[-1].id, up_to))
        self._parts.observer.post_expanded(name, case.message.id, len(served), complete=not left)
        more = f"; the rest follows as {case.made[-1].id}" if left else ""
        return _done(f"copies for {len(served)} member{'' if len(served) == 1 else 's'} are queued{more}")

    def _rest(self, case: _Case, post: Post, after: int, up_to: int) -> NewMessage:
        about = f"the members of {case.mail_list.name} behind number {after}, of"
        return again(post, rest_route(after, up_to), self._parts.mailing, case.now, about)

    async def _hold(self, case: _Case) -> DeliveryResult:
        """The queue keeps it: a moderator's mail, `outrider list approve` or `queue release` lets it go."""
        mail_list, name = case.mail_list, case.mail_list.name
        reason = f"list {name}: waits for a moderator"
        post = read_post(mail_list, case.message)
        about = f"for a moderator of {name},"
        held = again(post, f"list:{APPROVED}", self._parts.mailing, case.now, about, reason)
        case.made.append(held)
        tokens = await self._sealing()
        approve = mail_list.at(Purpose.APPROVE, tokens.for_post(name, Purpose.APPROVE, held.id))
        reject = mail_list.at(Purpose.REJECT, tokens.for_post(name, Purpose.REJECT, held.id))
        for moderator in mail_list.moderator_addresses:
            letter = words.asks_moderator(mail_list, moderator, case.message, held.id, approve, reject)
            self._write(case, letter, f"question about {held.id}")
        self._parts.observer.post_held(name, case.message.id, held.id, str(case.sender))
        return _done(f"held for a moderator as {held.id}")

    async def _moderate(self, case: _Case) -> DeliveryResult:
        why = why_automatic(case.message)
        if why:
            return self._ignored(case, why)
        tokens = await self._sealing()
        held = tokens.post_of(case.mail_list.name, case.address.purpose, case.address.token)
        if not held:
            return self._ignored(case, "its token is not of our making")
        approve = case.address.purpose is Purpose.APPROVE
        if not await self._parts.moderate(held, approve):
            return self._ignored(case, f"{held} does not wait any more")
        return _done(f"{held} {'goes out' if approve else 'is dropped'}")

    # --- members --------------------------------------------------------------------------------------------

    async def _subscribe(self, case: _Case) -> DeliveryResult:
        why = _why_nobody(case.message)
        if why:
            return self._ignored(case, why)
        if case.mail_list.settings.subscription == "closed":
            return await self._help(case, "Only its owners subscribe addresses to this list.")
        member = await self._call(lambda store: store.member(case.mail_list.name, case.sender))
        if member is not None and member.active:
            return await self._help(case, "This address is subscribed already.")
        return await self._ask(case, "subscribe")

    async def _unsubscribe(self, case: _Case) -> DeliveryResult:
        if case.address.token:
            return await self._leave_by_token(case)
        why = _why_nobody(case.message)
        if why:
            return self._ignored(case, why)
        member = await self._call(lambda store: store.member(case.mail_list.name, case.sender))
        if member is None:
            return await self._help(
                case,
                "This address is not subscribed. The field List-Unsubscribe of a message of the list names\n"
                "the address to write to for the subscription that brought it.",
            )
        return await self._ask(case, "unsubscribe")

    async def _leave_by_token(self, case: _Case) -> DeliveryResult:
        """Only the member's own copies bear this token: nothing more has to be confirmed (RFC 8058)."""
        name = case.mail_list.name
        number = (await self._sealing()).member_of(name, Purpose.UNSUBSCRIBE, case.address.token)
        if number is None:
            return self._ignored(case, "its token is not of our making")
        member = await self._call(lambda store: store.member_by_id(name, number))
        if member is None:
            return self._ignored(case, "that member has left already")
        await self._call(lambda store: store.leave(name, member.address))
        self._parts.observer.member_left(name, str(member.address), "by the address in List-Unsubscribe")
        self._write(case, words.says_goodbye(case.mail_list, member.address), "farewell")
        return _done(f"{member.address} has left")

    async def _ask(self, case: _Case, wish: str) -> DeliveryResult:
        mail_list, name, sender = case.mail_list, case.mail_list.name, case.sender
        token = (await self._sealing()).for_confirmation(name, wish, str(sender), case.message.id)
        why = await self._call(lambda store: store.wish(name, Wish(wish, sender), token, case.now))
        if why:
            return self._ignored(case, why)
        letter = words.asks_to_confirm(mail_list, sender, wish, token, _message_id(case.message))
        self._write(case, letter, f"question whether to {wish}")
        self._parts.observer.confirmation_asked(name, case.message.id, str(sender), wish)
        return _done(f"{sender} is asked to confirm")

    async def _confirm(self, case: _Case) -> DeliveryResult:
        why = why_automatic(case.message)
        if why:
            # A responder that answers the question must not subscribe its user.
            return self._ignored(case, why)
        mail_list, name = case.mail_list, case.mail_list.name
        token, cause = case.address.token, case.message.id
        wish = await self._call(lambda store: store.confirm(name, token, cause, case.now))
        if wish is None:
            return self._ignored(case, "its token is unknown, expired or used")
        if wish.wish == "subscribe":
            self._parts.observer.member_joined(name, str(wish.address), "confirmed by mail")
            self._write(case, words.welcomes(mail_list, wish.address), "welcome")
            return _done(f"{wish.address} is subscribed")
        self._parts.observer.member_left(name, str(wish.address), "confirmed by mail")
        self._write(case, words.says_goodbye(mail_list, wish.address), "farewell")
        return _done(f"{wish.address} has left")

    async def _request(self, case: _Case) -> DeliveryResult:
        """RFC 2142: a command in the Subject; whatever is none gets help."""
        commands = self._parts.commands
        command = None if commands is None else await commands.command_in(case.message)
        if command is not None:
            return await self._commanded(case, command)
        why = _why_nobody(case.message)
        if why:
            return self._ignored(case, why)
        headers = case.message.content.headers if case.message.content else b""
        subjects = field_values(headers, b"subject", 1)
        word = (subjects[0].split()[:1] or [b""])[0].lower() if subjects else b""
        if word == b"subscribe":
            return await self._subscribe(case)
        if word == b"unsubscribe":
            return await self._unsubscribe(case)
        return await self._help(case)

    async def _commanded(self, case: _Case, command: Command) -> DeliveryResult:
        """MT2-21c. A proven address needs no confirmation; any other is asked as ever."""
        name, sender = case.mail_list.name, command.sender
        how = "by a command of MT2"
        if command.word == "help" or (
            command.word == "subscribe" and case.mail_list.settings.subscription == "closed"
        ):
            return await self._help(case)
        if not command.proven:
            return await self._ask(case, command.word)
        if command.word == "unsubscribe":
            if not await self._call(lambda store: store.leave(name, sender)):
                return await self._help(case, "This address is not subscribed.")
            self._parts.observer.member_left(name, str(sender), how)
            self._write(case, words.says_goodbye(case.mail_list, sender), "farewell")
            return _done(f"{sender} has left")
        if not await self._call(lambda store: store.join(name, sender, how, case.now)):
            return await self._help(case, "This address is subscribed already.")
        self._parts.observer.member_joined(name, str(sender), how)
        self._write(case, words.welcomes(case.mail_list, sender), "welcome")
        return _done(f"{sender} is subscribed")

    async def _help(self, case: _Case, first: str = "") -> DeliveryResult:
        who, sender, cause = f"list {case.mail_list.name}", str(case.sender), case.message.id
        may = await self._call(lambda store: store.answer(who, sender, cause, case.now, HELP_INTERVAL_S))
        if not may:
            return self._ignored(case, "this address has been helped within the hour")
        self._write(case, words.helps(case.mail_list, case.sender, first), "help")
        return _done(f"{case.sender} is helped")

    # --- reports --------------------------------------------------------------------------------------------

    async def _bounced(self, case: _Case) -> DeliveryResult:
        mail_list, name = case.mail_list, case.mail_list.name
        number = (await self._sealing()).member_of(name, Purpose.BOUNCES, case.address.token)
        if number is None:
            return self._ignored(case, "it reports on no copy of ours")
        if not reports_failure(case.message):
            return self._ignored(case, "it does not report a failure")
        limit, memory_s = mail_list.settings.suspend_after, mail_list.settings.bounce_memory
        found = await self._call(
            lambda store: store.bounced(name, number, case.now, limit=limit, memory_s=memory_s)
        )
        if found is None:
            return self._ignored(case, "that member gets no mail already")
        self._parts.observer.member_bounced(name, str(found.address), found.days, suspended=found.suspended)
        if found.suspended:
            for owner in mail_list.owners:
                self._write(
                    case, words.tells_suspended(mail_list, owner, found.address, found.days), "notice"
                )
        return _done(f"counted for {found.address}: {found.days} day{'' if found.days == 1 else 's'}")


def _is_proven(message: StoredMessage) -> bool:
    # A public AMTP connection proves the host, which may be anybody's; a private one is of our own circle.
    return bool(message.envelope.authenticated_as) or message.envelope.arrival is Arrival.AMTP_PRIVATE


def _why_nobody(message: StoredMessage) -> str:
    """Why no letter is written to the sender; "" when one may be."""
    why = why_automatic(message)
    sender = message.envelope.sender
    if not why and sender is not None and is_no_person(sender.local):
        return f"{sender} is no person's address"
    return why


def _has_list_id(message: StoredMessage, mail_list: MailList) -> bool:
    headers = message.content.headers if message.content else b""
    wanted = f"<{mail_list.list_id}>".encode()
    return any(wanted in value.lower() for value in field_values(headers, b"list-id", 10))


def _message_id(message: StoredMessage) -> str:
    """The Message-ID, when it can stand in a field of ours."""
    headers = message.content.headers if message.content else b""
    values = field_values(headers, b"message-id", 1)
    text = values[0].decode("ascii", "replace") if values else ""
    fits = text.isascii() and text.isprintable() and " " not in text and len(text) <= 250
    return text if fits and text.startswith("<") and text.endswith(">") else ""


def _done(text: str) -> DeliveryResult:
    return _result(Kind.DELIVERED, "2.0.0", text)


def _result(kind: Kind, status: str, text: str) -> DeliveryResult:
    return DeliveryResult(kind, status, text, protocol="list")
