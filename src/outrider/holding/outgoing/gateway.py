"""The outgoing gateway (AMDP-1) and the door of the holding facility (AMDP-2): reception asks here about mail
that is submitted, and about mail that is to be held.

Who submits is known: by login, or as a client that may relay. What comes of a login is bound to its account:
From, class, size, number; refusals are told in the session. What is known of it then is stored as facts
(`outgoing_terms`), so that whatever way it goes in the end - by a route, a rule, the operator's reroute - it
can be held. Nobody else's mail is: that is refused at RCPT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from outrider.config.amdp_schema import Amdp
from outrider.holding.incoming.refusals import refusal
from outrider.holding.outgoing.account_store import AccountThread
from outrider.holding.outgoing.outgoing_terms import OutgoingTerms, terms_facts
from outrider.identity.credentials import UserTable
from outrider.message.encoded_words import decode_text, encode_phrase
from outrider.message.header_fields import field_values, find_field
from outrider.message.mailboxes import mailboxes
from outrider.model.address import Address, AddressError, parse_address
from outrider.model.content import Content
from outrider.model.envelope import Recipient
from outrider.model.reply import Reply
from outrider.protocols.amdp import values
from outrider.protocols.amdp.mail_class import ClassError, parse_class
from outrider.protocols.amdp.submission import read_submission, without_amdp
from outrider.protocols.amdp.values import EnvelopeError
from outrider.reception.assembling import MailTransaction, verdict_event
from outrider.reception.interface import Session
from outrider.reception.settings import Networks
from outrider.routing.ways import HOLD, HostWay, LocalWay, MxWay, Way
from outrider.tables.database import StoreUnavailable

DEFAULT_CLASS = "Public::Personal"
"""Of accounts that [amdp.outgoing] classes says nothing of: anybody who has an address here, for himself."""
BULK = frozenset({b"bulk", b"list", b"junk"})
REVIEW = "outgoing mail of this account waits for the operator ([amdp.outgoing] hold_for_review)"
NOT_HELD = Reply(550, "5.7.1", "Mail to be held is taken from our outgoing gateways only")
NO_SUBMISSION = Reply(550, "5.6.0", "A gateway hands in mail to be held, with the fields of AMDP on top")
_OWN_WORDS = (b"amdp-message-type", b"amdp-language", b"amdp-expire-on", b"amdp-receipt", b"amdp-about")


class OutgoingSettingsError(ValueError):
    """A setting means nothing; the text begins with its key."""


class Scanner(Protocol):
    """The command of [amdp.outgoing] scanner."""

    async def refusal(self, headers: bytes, content: Content) -> str | None:
        """What it says against a message, in one line; None: nothing. Raises OSError, TimeoutError."""
        ...


@dataclass(frozen=True, slots=True)
class OutgoingParts:
    """What the gateway works with; made anew by a reload, but for the accounts' table."""

    settings: Amdp
    way_of: Callable[[Recipient], Way]
    """`RouteTable.find(recipient).way`."""
    own_domains: frozenset[str]
    """Domains that are ours: local ones, and those whose mail this site holds."""
    clock: Callable[[], float]
    users: UserTable | None = None
    accounts: AccountThread | None = None
    """None: nothing is counted."""
    scanner: Scanner | None = None


@dataclass(frozen=True, slots=True)
class _Author:
    """Whose message it is."""

    address: Address | None
    """The one of its From, None where there is none or more than one."""
    how: str
    """By what he is known."""


class OutgoingGateway:
    """Implements `reception.parts.SubmissionDesk` for the roles omg and mhf."""

    def __init__(self, parts: OutgoingParts) -> None:
        """Raises OutgoingSettingsError."""
        self._parts = parts
        self._settings = parts.settings.outgoing
        self._is_gateway = "omg" in parts.settings.roles
        self._is_facility = "mhf" in parts.settings.roles
        self._gateways = Networks.of("amdp.holding.gateways", parts.settings.holding.gateways)
        self._classes = _checked_classes(self._settings.classes)
        self._reviewed = frozenset(name.casefold() for name in self._settings.hold_for_review)
        self.corrects_from = self._is_gateway and self._settings.foreign_from == "correct"

    # --- who may --------------------------------------------------------------------------------------------

    def permission(self, session: Session) -> str:
        """See `SubmissionDesk`."""
        return "amdp.holding.gateways" if self._is_from_gateway(session) else ""

    def _is_from_gateway(self, session: Session) -> bool:
        return self._is_facility and session.protocol == "smtp" and session.client_address in self._gateways

    def recipient_refusal(self, session: Session, recipient: Recipient, *, known: bool) -> Reply | None:
        """See `SubmissionDesk`."""
        if not _is_hold(self._parts.way_of(recipient)) or self._is_from_gateway(session):
            return None
        return None if self._is_gateway and known else NOT_HELD

    def concerns(self, mail: MailTransaction, *, known: bool) -> bool:
        """See `SubmissionDesk`."""
        if not known or mail.session.protocol == "amdp":  # that is mail which this server has fetched
            return False
        return self._is_gateway or self._is_from_gateway(mail.session)

    async def review(self, mail: MailTransaction, content: Content) -> Content | Reply:
        """See `SubmissionDesk`."""
        if self._is_from_gateway(mail.session) and not mail.session.login:
            if find_field(content.headers, b"AMDP-To") is not None:
                return self._from_gateway(mail, content)
            if not self._is_gateway:
                return NO_SUBMISSION
        return await self._submitted(mail, content)

    # --- from a gateway to this facility --------------------------------------------------------------------

    def _from_gateway(self, mail: MailTransaction, content: Content) -> Content | Reply:
        """The form for several recipients (AMDP-2): its fields become facts, and are not served."""
        try:
            said, headers = read_submission(content.headers)
        except EnvelopeError as error:
            return Reply(550, "5.6.0", f"Not a message that can be held: {error}"[:400])
        named = {one.address.key for one in said.recipients}
        if not named.issuperset(one.address.key for one in mail.recipients):
            return Reply(550, "5.6.0", "Not a message that can be held: AMDP-To does not name a recipient")
        mail.recipients[:] = [replace(one, route=str(HOLD)) for one in mail.recipients]
        terms = OutgoingTerms(
            said.sender,
            str(said.mail_class),
            said.language,
            said.expires,
            gateway=said.gateway or mail.session.client_text,
            receipt=said.receipt,
        )
        self._keep(mail, terms, f"gateway [{mail.session.client_text}]")
        return replace(content, headers=headers)

    def _keep(self, mail: MailTransaction, terms: OutgoingTerms, how: str) -> None:
        for fact in terms_facts(terms, how, self._parts.clock()):
            mail.facts.add(fact)

    # --- submitted here -------------------------------------------------------------------------------------

    async def _submitted(self, mail: MailTransaction, content: Content) -> Content | Reply:
        account, language = mail.session.login, language_of(content.headers)
        held = self._choose_held(mail, content)
        limit = self._settings.max_size
        if account and limit and content.size > limit:
            return refusal("too-big", language, size=content.size, limit=limit)
        content, author = self._with_own_from(mail, content)
        if author is None or (held and author.address is None):
            return self._not_the_author(mail, content, language)
        terms = self._terms(mail, content, author, language, needed=held)
        if isinstance(terms, Reply):
            return terms
        refused = await self._checked(mail, content, language)
        return refused or self._finished(mail, content, author, terms, held=held)

    def _finished(
        self,
        mail: MailTransaction,
        content: Content,
        author: _Author,
        terms: OutgoingTerms | None,
        *,
        held: bool,
    ) -> Content:
        if terms is not None:
            self._keep(mail, terms, author.how)
        if mail.session.login.casefold() in self._reviewed:
            mail.hold_reason = mail.hold_reason or REVIEW
        headers = content.headers
        if b"amdp-" not in headers.lower() or mail.objects is not None:
            return content
        if not (held or mail.session.login):
            return content  # passed on by a gateway before us, which may have verified it (AMDP-10)
        return replace(content, headers=without_amdp(headers))

    def _choose_held(self, mail: MailTransaction, content: Content) -> bool:
        """Which recipients' mail is held: what their way says, and [amdp.outgoing] hold and hold_above.

        Whether anybody's is. Where the facility is another server, that is the way."""
        wanted = self._holds(mail, content)
        facility = facility_route(self._parts.settings)
        held = False
        for number, one in enumerate(mail.recipients):
            way = self._parts.way_of(one if one.route else replace(one, route=mail.route))
            if wanted and _leads_to_others(way) and not (one.route or mail.route):
                way = HOLD
            if not _is_hold(way):
                continue
            held = True
            mail.recipients[number] = replace(one, route=facility or str(way))
        return held

    def _holds(self, mail: MailTransaction, content: Content) -> bool:
        settings = self._settings
        if settings.hold == "all" or (settings.hold_above and content.size > settings.hold_above):
            return True
        if settings.hold != "bulk":
            return False
        marks = field_values(content.headers, b"precedence", 1)
        return len(mail.recipients) > 1 or (bool(marks) and marks[0].lower() in BULK)

    # --- From -----------------------------------------------------------------------------------------------

    def _with_own_from(self, mail: MailTransaction, content: Content) -> tuple[Content, _Author | None]:
        """The content, its From corrected where that is to be, and whose it is; None for somebody else's."""
        fields = field_values(content.headers, b"from", 3)
        named = [box for value in fields for box in mailboxes(value, 3)]
        login = mail.session.login
        if not login:
            how = mail.session_facts.trace_origin(mail.session)[:200]
            one = named[0] if len(named) == 1 and named[0].domain in self._parts.own_domains else None
            return content, _Author(one, how or "a client that may relay")
        how = f"AUTH {login}"
        own = self._account_address(mail)
        if not named:
            # Reception writes a From where there is none, with the envelope's sender.
            return content, _Author(own if own == mail.request.sender and not fields else None, how)
        if all(self._may_write_as(login, box) for box in named):
            return content, _Author(named[0] if len(named) == 1 else None, how)
        # What MT2 sealed is two forms of one message; neither is changed.
        signed = b"dkim-signature" in content.headers.lower() or mail.objects is not None
        if not self.corrects_from or own is None or signed or len(fields) > 1:
            return content, None
        text = f"From {', '.join(map(str, named))} corrected to {own}, an address of {login}"
        mail.events.append(verdict_event(self._parts.clock(), text))
        return replace(content, headers=_with_from(content.headers, own)), _Author(own, how)

    def _may_write_as(self, login: str, box: Address) -> bool:
        user = self._parts.users.find(login) if self._parts.users is not None else None
        return user is not None and user.may_send_as(box, self._parts.own_domains)

    def _account_address(self, mail: MailTransaction) -> Address | None:
        """An address of the login: the envelope's sender, else the first that the account names."""
        sender, login = mail.request.sender, mail.session.login
        if sender is not None and self._may_write_as(login, sender):
            return sender
        user = self._parts.users.find(login) if self._parts.users is not None else None
        for text in (*user.senders, user.name) if user is not None else ():
            try:
                address = parse_address(text)
            except AddressError:
                continue
            if address.domain and address.local:
                return address
        return None

    def _not_the_author(self, mail: MailTransaction, content: Content, language: str) -> Reply:
        fields = field_values(content.headers, b"from", 3)
        named = [str(box) for value in fields for box in mailboxes(value, 3)]
        if len(named) != 1:
            return refusal("no-from", language)
        name = "foreign-from" if mail.session.login else "not-ours"
        return refusal(name, language, address=f"<{named[0]}>")

    # --- terms ----------------------------------------------------------------------------------------------

    def _terms(
        self, mail: MailTransaction, content: Content, author: _Author, language: str, *, needed: bool
    ) -> OutgoingTerms | Reply | None:
        """What the envelope will say; None where it will have none, as it names no one author."""
        if author.address is None:
            return None
        said = _said(content.headers)
        kind = decode_text(said.get(b"amdp-message-type", self._settings.message_type.encode())).strip()
        mail_class = f"{self._class_of(author.address, mail.session.login)}::{kind}"
        try:
            if "::" in kind:
                raise ClassError("more than one part")
            mail_class = str(parse_class(mail_class))
        except ClassError:
            return refusal("bad-type", language) if needed else None
        expires = _expiry(said, self._parts.clock())
        if expires is None:
            return refusal("bad-expiry", language) if needed else None
        receipt = said.get(b"amdp-receipt", b"no").strip().lower() not in (b"", b"no")
        about = values.clean_text(decode_text(said.get(b"amdp-about", b"")), 200)
        return OutgoingTerms(author.address, mail_class, language, expires, about, receipt=receipt)

    def _class_of(self, address: Address, account: str) -> str:
        names = (str(address).casefold(), account.casefold(), str(address.domain), "*")
        return next((self._classes[name] for name in names if name in self._classes), DEFAULT_CLASS)

    # --- limits and scanner ---------------------------------------------------------------------------------

    async def _checked(self, mail: MailTransaction, content: Content, language: str) -> Reply | None:
        if self._parts.scanner is not None:
            refused = await self._scanned(self._parts.scanner, content, language)
            if refused is not None:
                return refused
        limit, account = self._settings.messages_per_hour, mail.session.login
        if not limit or not account or self._parts.accounts is None:
            return None
        now = self._parts.clock()
        try:
            wait_s = await self._parts.accounts.call(
                lambda store: store.count(account.casefold(), now, limit)
            )
        except StoreUnavailable:
            return refusal("not-counted", language)
        if not wait_s:
            return None
        return refusal("too-many", language, limit=limit, minutes=max(1, round(wait_s / 60)))

    async def _scanned(self, scanner: Scanner, content: Content, language: str) -> Reply | None:
        try:
            words = await scanner.refusal(content.headers, content)
        except (OSError, TimeoutError):
            return refusal("not-scanned", language)
        return None if words is None else refusal("scanned", language, words=words)


def language_of(headers: bytes) -> str:
    """The language that a message says it is in; "" for none, or none that is one."""
    for name in (b"amdp-language", b"content-language"):
        for value in field_values(headers, name, 1):
            word = value.split(b",")[0].strip().decode("latin-1")
            main = word.partition("-")[0].lower()
            if main.isascii() and main.isalpha() and len(main) in (2, 3):
                return main
    return ""


def _is_hold(way: Way) -> bool:
    return isinstance(way, LocalWay) and way.transport == HOLD.transport


def _leads_to_others(way: Way) -> bool:
    """Whether mail by that way leaves for the recipient's site. A host that wants a login is a relay, and
    envelopes by way of one would come from an address that is no holder's."""
    if isinstance(way, HostWay):
        return way.protocol in ("smtp", "smtps") and not way.username
    return isinstance(way, MxWay)


def facility_route(settings: Amdp) -> str:
    """The way to a facility that is another server; "" where it is this one."""
    facility = settings.outgoing.facility
    return f"smtp:{facility}" if facility else ""


def _said(headers: bytes) -> Mapping[bytes, bytes]:
    """What of AMDP's fields a user may write himself, the first of each."""
    if b"amdp-" not in headers.lower():
        return {}
    found = ((name, field_values(headers, name, 1)) for name in _OWN_WORDS)
    return {name: given[0][:1000] for name, given in found if given}


def _expiry(said: Mapping[bytes, bytes], now: float) -> float | None:
    """When the user wants it to expire, 0 where he did not say; None for what is no moment to come."""
    value = said.get(b"amdp-expire-on")
    if value is None:
        return 0.0
    try:
        moment = values.read_moment("AMDP-Expire-On", value.decode("latin-1").strip())
    except EnvelopeError:
        return None
    return float(moment) if moment > now else None


def _with_from(headers: bytes, own: Address) -> bytes:
    """The header section with this address in its one From; a display name that does not look like an address
    stays."""
    first = find_field(headers, b"from")
    if first is None:
        return headers
    name = decode_text(first.unfolded.partition(b"<")[0]).strip(' \t"')
    shown = values.clean_text(name, 100)
    phrase = f"{encode_phrase(shown, always=True)} " if shown and not set('<>@\\"') & set(shown) else ""
    return headers[: first.start] + f"From: {phrase}<{own}>\r\n".encode() + headers[first.end :]


def _checked_classes(classes: Mapping[str, str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, text in classes.items():
        try:
            parsed = parse_class(f"{text}::message")
        except ClassError as error:
            raise OutgoingSettingsError(f'amdp.outgoing.classes."{name}": {error}') from error
        checked[name.casefold()] = "::".join(parsed.parts[:-1])
    return checked


def own_domains(local: Sequence[str], settings: Amdp) -> frozenset[str]:
    """Whose mail this site submits and holds."""
    return frozenset((*local, *settings.holding.names))
