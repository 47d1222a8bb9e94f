"""Reception: from a session's events to a stored message (SMTP-5), the same for every protocol.

Each method decides at once when it can, and gives an awaitable only when a fact has to be fetched or the disk
to be waited for. The ordinary message - no rule, no look-up - takes no step of the event loop before its
commit. Whatever fails unforeseen is our fault and temporary: 451, logged, nothing stored (SMTP-6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import cast

from outrider.delivery.interface import FreshMail
from outrider.identity.client_certificate import ClientIdentifier
from outrider.identity.credentials import UserTable
from outrider.message.header_fields import field_values, has_more_hops_than
from outrider.message.mailboxes import mailboxes
from outrider.model.address import Address, Domain, literal_address
from outrider.model.content import Content
from outrider.model.envelope import Recipient
from outrider.model.facts import Facts
from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.model.verdict import Stage, Verdict
from outrider.policy.message_facts import body_facts, header_facts
from outrider.policy.policy import CompiledPolicy
from outrider.reception import replies
from outrider.reception.assembling import DestinationOf, MailTransaction, MessageFacts, assemble
from outrider.reception.committing import Committer, KeptBody
from outrider.reception.interface import BodyStream, Decision, IPAddress, Session, Transaction
from outrider.reception.judging import Inquiry, Judge, keep_verdict
from outrider.reception.lookups import FactSource
from outrider.reception.observer import ReceptionObserver
from outrider.reception.relay import RelayControl, tls_table
from outrider.reception.session_facts import SessionFacts, facts_of
from outrider.reception.settings import ReceptionSettings
from outrider.reception.submission import missing_fields
from outrider.routing.local_users import (
    AliasLoop,
    Deliverable,
    NotLocal,
    RecipientTable,
    Resolution,
    ResolvedRecipient,
    UnknownUser,
)
from outrider.spool.interface import Spool, SpoolFull, SpoolUnavailable


@dataclass(frozen=True, slots=True)
class ReceptionParts:
    """What reception works with; `runtime` joins it."""

    spool: Spool
    fresh: FreshMail
    recipients: RecipientTable
    destination_of: DestinationOf
    """The key of the item that a recipient goes into (`RouteTable.find(recipient).lane`)."""
    policy: CompiledPolicy
    observer: ReceptionObserver
    make_id: Callable[[float], MessageId]
    clock: Callable[[], float]
    """Seconds since the epoch."""
    users: UserTable | None = None
    """None = nobody can log in here."""
    clients: ClientIdentifier | None = None
    """None = no client certificate means anything."""
    sources: FactSource | None = None
    """None = no DNS."""
    memory_is_short: Callable[[], bool] = lambda: False
    own_addresses: frozenset[IPAddress] = frozenset()
    """Our public addresses beside the one a client connected to, for the look at DNS of TLS-2."""


@dataclass(frozen=True, slots=True)
class _Now:
    """An answer that is there already, as an awaitable."""

    reply: Reply

    def __await__(self) -> Generator[None, None, Reply]:
        yield from ()
        return self.reply


class MailReception:
    """Implements :class:`outrider.reception.interface.Reception`."""

    def __init__(self, settings: ReceptionSettings, parts: ReceptionParts) -> None:
        self.inline_limit = settings.inline_limit
        self._settings = settings
        self._parts = parts
        self._observer = parts.observer
        self._relay = RelayControl(settings)
        self._judge = Judge(parts.policy, parts.sources)
        self._committer = Committer(parts.spool, parts.fresh, parts.observer, settings.lease_s)
        self._wants = parts.policy.needs_anywhere
        self._judges_content = parts.policy.asks(Stage.HEADERS) or parts.policy.asks(Stage.BODY)
        self._wants_time = bool(self._wants & {"time.hour", "time.weekday"})

    # --- the session ----------------------------------------------------------------------------------------

    def connected(self, session: Session) -> Decision:
        """See the interface."""
        return self._guarded(session, Stage.CONNECT, lambda: self._connected(session))

    def _connected(self, session: Session) -> Decision:
        self._observer.session_opened(session)
        facts = self._begun_facts(session)
        conclude = self._concluder(session, Stage.CONNECT, replies.CONNECTION_TAKEN)
        return self._judge.ask(Inquiry(Stage.CONNECT, session, facts, conclude))

    def greeted(self, session: Session, verb: str, name: str) -> Decision:
        """See the interface."""
        del verb
        return self._guarded(session, Stage.HELLO, lambda: self._greeted(session, name))

    def _greeted(self, session: Session, name: str) -> Decision:
        session.hello_name = name
        facts = self._begun_facts(session)
        conclude = self._concluder(session, Stage.HELLO, replies.HELLO_TAKEN, about=name)
        return self._judge.ask(Inquiry(Stage.HELLO, session, facts, conclude))

    def _begun_facts(self, session: Session) -> SessionFacts:
        """The session's facts; the look-up of a stranger's name is begun and not waited for."""
        facts = facts_of(session, self._parts.clock(), self._wants_time)
        sources = self._parts.sources
        if sources is not None and session.client_address not in self._settings.relay_networks:
            sources.begin(session)
        return facts

    def _concluder(
        self, session: Session, stage: Stage, taken: Reply, about: str = ""
    ) -> Callable[[Verdict], Reply]:
        """From a verdict on a session to its reply."""

        def conclude(verdict: Verdict) -> Reply:
            if verdict.reply is None:
                return taken
            return self._refused(session, stage, verdict.reply, rule=verdict.rule, about=about)

        return conclude

    # --- the envelope ---------------------------------------------------------------------------------------

    def sender(
        self, session: Session, request: MailRequest, now: float
    ) -> tuple[Transaction | None, Decision]:
        """See the interface."""
        try:
            return self._sender(session, request, now)
        except Exception as error:
            return None, self._failed(session, Stage.SENDER, error)

    def _sender(
        self, session: Session, request: MailRequest, now: float
    ) -> tuple[Transaction | None, Decision]:
        facts = facts_of(session, now, self._wants_time)
        facts.identify_client(session, self._parts.clients, now)
        about = str(request.sender or "<>")
        refusal = self._no_room(session) or self._sender_refusal(session, facts, request)
        if refusal is not None:
            return None, self._refused(session, Stage.SENDER, refusal, about=about)
        mail = self._begin(session, facts, request, now)
        if not self._parts.policy.asks(Stage.SENDER):
            return mail, replies.SENDER_TAKEN

        def conclude(verdict: Verdict) -> Reply:
            return self._message_verdict(mail, Stage.SENDER, verdict, replies.SENDER_TAKEN, about)

        inquiry = Inquiry(Stage.SENDER, session, mail.facts, conclude, _domain_of(request))
        return mail, self._guarded(session, Stage.SENDER, lambda: self._judge.ask(inquiry))

    def _no_room(self, session: Session) -> Reply | None:
        if self._parts.memory_is_short():
            return replies.NO_MEMORY
        try:
            self._parts.spool.check_room()
        except SpoolFull:
            return replies.NO_ROOM
        except SpoolUnavailable:
            return replies.STORE_UNAVAILABLE
        return None

    def _sender_refusal(self, session: Session, facts: SessionFacts, request: MailRequest) -> Reply | None:
        if session.protocol == "submission" and not session.login:
            return replies.MUST_LOG_IN
        if request.size > self._settings.message_size:
            return replies.message_too_big(self._settings.message_size)
        if (request.hold_for or request.hold_until) and not self._relay.permission(session, facts):
            return replies.FUTURE_RELEASE_REFUSED
        if request.sender is not None and not self._may_send_as(session, request.sender):
            return replies.sender_not_yours(session.login, str(request.sender))
        return None

    def _may_send_as(self, session: Session, sender: Address) -> bool:
        """Whether a login uses its own address (SEC-110); who has no login is not asked here."""
        users = self._parts.users
        if not session.login or not self._settings.restrict_sender or users is None:
            return True
        user = users.find(session.login)
        return user is not None and user.may_send_as(sender, self._parts.recipients.domains)

    def _begin(
        self, session: Session, facts: SessionFacts, request: MailRequest, now: float
    ) -> MailTransaction:
        own = MessageFacts(parent=facts)
        if self._wants:
            _add_sender_facts(own, request)
        hold_until = request.hold_until or (now + request.hold_for if request.hold_for else 0.0)
        return MailTransaction(
            session,
            self._parts.make_id(now),
            request,
            now,
            own,
            hold_until=hold_until,
            authenticated_as=session.login or self._vouched_login(session, facts, request),
            session_facts=facts,
            message_facts=own,
        )

    def _vouched_login(self, session: Session, facts: SessionFacts, request: MailRequest) -> str:
        """AUTH= is believed only from those who may relay (RFC 4954 section 5, SEC-111)."""
        if not request.auth or request.auth == "<>":
            return ""
        return request.auth if self._relay.permission(session, facts) else ""

    def recipient(self, transaction: Transaction, request: RecipientRequest) -> Decision:
        """See the interface."""
        mail = cast(MailTransaction, transaction)
        return self._guarded(mail.session, Stage.RECIPIENT, lambda: self._recipient(mail, request))

    def _recipient(self, mail: MailTransaction, request: RecipientRequest) -> Decision:
        session, limit = mail.session, self._settings.recipients
        if mail.accepted >= limit:
            return self._recipient_refused(mail, request, replies.TOO_MANY_RECIPIENTS)
        if self._relay.agreed_tls_missing(session):
            return self._recipient_refused(mail, request, replies.MUST_STARTTLS)
        resolution = self._parts.recipients.resolve(_ours_by_name(session, request.address))
        if session.require_tls and session.tls is None:
            return self._by_tls_table(mail, request, resolution)
        return self._by_resolution(mail, request, resolution)

    def _by_tls_table(
        self, mail: MailTransaction, request: RecipientRequest, resolution: Resolution
    ) -> Decision:
        """TLS-2. The look at DNS is the only one that a recipient can cost, and only where TLS is wanted."""
        domain = request.address.domain
        if self._parts.sources is None or not domain or literal_address(domain) is not None:
            return self._after_tls_table(mail, request, resolution, None)
        return self._look_and_decide(mail, request, resolution, self._parts.sources)

    async def _look_and_decide(
        self, mail: MailTransaction, request: RecipientRequest, resolution: Resolution, sources: FactSource
    ) -> Reply:
        own = self._parts.own_addresses
        if mail.session.server_address is not None:
            own |= {mail.session.server_address}
        listed = await sources.listed_as_exchanger(request.address.domain, own)
        decision = self._guarded(
            mail.session,
            Stage.RECIPIENT,
            lambda: self._after_tls_table(mail, request, resolution, listed),
        )
        return decision if isinstance(decision, Reply) else await decision

    def _after_tls_table(
        self, mail: MailTransaction, request: RecipientRequest, resolution: Resolution, listed: bool | None
    ) -> Decision:
        domain = request.address.domain
        configured = not isinstance(resolution, NotLocal) or self._relay.is_relay_domain(domain)
        reply = tls_table(listed=listed, configured=configured, domain=domain)
        if reply is not None:
            return self._recipient_refused(mail, request, reply)
        return self._by_resolution(mail, request, resolution)

    def _by_resolution(
        self, mail: MailTransaction, request: RecipientRequest, resolution: Resolution
    ) -> Decision:
        match resolution:
            case Deliverable(recipients):
                return self._judge_recipient(mail, request, recipients, local=True)
            case UnknownUser():
                return self._recipient_refused(mail, request, replies.unknown_user(str(request.address)))
            case AliasLoop():
                return self._recipient_refused(mail, request, replies.ALIAS_LOOP)
            case NotLocal():
                return self._elsewhere(mail, request)

    def _elsewhere(self, mail: MailTransaction, request: RecipientRequest) -> Decision:
        """A recipient that is not ours: relay control (SEC-72, SEC-73)."""
        address = request.address
        if not address.domain:
            return self._recipient_refused(mail, request, replies.NO_POSTMASTER)
        because = self._relay.permission(mail.session, mail.session_facts)
        if because:
            self._observer.relay_granted(mail.session, str(address), because)
        elif not self._relay.is_relay_domain(address.domain):
            return self._recipient_refused(mail, request, replies.not_our_domain(address.domain))
        elif self._relay.routed_through(address):
            return self._recipient_refused(mail, request, replies.RELAY_REFUSED_ROUTING)
        return self._judge_recipient(mail, request, (ResolvedRecipient(address),), local=False)

    def _judge_recipient(
        self,
        mail: MailTransaction,
        request: RecipientRequest,
        found: tuple[ResolvedRecipient, ...],
        *,
        local: bool,
    ) -> Decision:
        if mail.accepted and len(mail.recipients) + len(found) > self._settings.recipients:
            return self._recipient_refused(mail, request, replies.TOO_MANY_RECIPIENTS)
        if not self._parts.policy.asks(Stage.RECIPIENT):
            return _take(mail, request, found, "")
        about = str(request.address)

        def conclude(verdict: Verdict) -> Reply:
            if verdict.reply is not None:
                return self._recipient_refused(mail, request, verdict.reply, verdict.rule)
            keep_verdict(mail, verdict, self._parts.clock(), about)
            return _take(mail, request, found, verdict.route)

        # Facts of one recipient stand on the message's and vanish with the command.
        facts = _recipient_facts(mail.facts, request.address, local=local)
        return self._judge.ask(
            Inquiry(Stage.RECIPIENT, mail.session, facts, conclude, _domain_of(mail.request), mail.facts)
        )

    def _recipient_refused(
        self, mail: MailTransaction, request: RecipientRequest, reply: Reply, rule: str = ""
    ) -> Reply:
        return self._refused(
            mail.session, Stage.RECIPIENT, reply, rule=rule, about=str(request.address), message_id=mail.id
        )

    # --- the content ----------------------------------------------------------------------------------------

    def content_begins(self, transaction: Transaction) -> Decision:
        """See the interface."""
        return replies.CONTENT_AWAITED if transaction.recipients else replies.NO_RECIPIENTS

    def headers(self, transaction: Transaction, headers: bytes) -> Decision:
        """See the interface."""
        mail = cast(MailTransaction, transaction)
        mail.headers_judged = True
        return self._guarded(mail.session, Stage.HEADERS, lambda: self._headers(mail, headers))

    def _headers(self, mail: MailTransaction, headers: bytes) -> Decision:
        refusal = self._header_refusal(mail, headers)
        if refusal is not None:
            return self._message_refused(mail, Stage.HEADERS, refusal)
        if not self._judges_content:
            return replies.HEADERS_TAKEN
        return self._judge_content(mail, Stage.HEADERS, headers, None)

    def _header_refusal(self, mail: MailTransaction, headers: bytes) -> Reply | None:
        if len(headers) > self._settings.header_size:
            return replies.header_too_big(self._settings.header_size)
        if has_more_hops_than(headers, self._settings.hops):
            return replies.TOO_MANY_HOPS
        if mail.session.login and not self._writes_as_own(mail.session, headers):
            return replies.FROM_NOT_YOURS
        return None

    def _writes_as_own(self, session: Session, headers: bytes) -> bool:
        """Whether From or Sender holds an address of the login's own, or neither holds any (SEC-110)."""
        named = [
            mailbox
            for name in (b"from", b"sender")
            for value in field_values(headers, name, 10)
            for mailbox in mailboxes(value)
        ]
        return not named or any(self._may_send_as(session, mailbox) for mailbox in named)

    def _judge_content(
        self, mail: MailTransaction, stage: Stage, headers: bytes, content: Content | None
    ) -> Decision:
        wanted = self._wants
        if stage is Stage.HEADERS:
            mail.facts.prove("recipient.count", len(mail.recipients), "counted")
            for fact in header_facts(headers, wanted):
                mail.facts.add(fact)
        if content is not None:
            for fact in body_facts(content, wanted):
                mail.facts.add(fact)

        def conclude(verdict: Verdict) -> Reply:
            return self._message_verdict(mail, stage, verdict, replies.HEADERS_TAKEN)

        return self._judge.ask(Inquiry(stage, mail.session, mail.facts, conclude, _domain_of(mail.request)))

    def body_stream(self, transaction: Transaction) -> BodyStream:
        """See the interface."""
        mail = cast(MailTransaction, transaction)
        mail.stream = KeptBody(self._parts.spool.body_writer(mail.id), mail)
        return mail.stream

    def finish(self, transaction: Transaction, content: Content) -> Awaitable[Reply]:
        """See the interface."""
        mail = cast(MailTransaction, transaction)
        try:
            finished = self._finish(mail, content)
        except Exception as error:
            finished = _Now(self._failed(mail.session, Stage.BODY, error))
        return finished if mail.stream is None else self._finish_streamed(mail, mail.stream, finished)

    async def _finish_streamed(
        self, mail: MailTransaction, stream: BodyStream, finished: Awaitable[Reply]
    ) -> Reply:
        """What was written down for a message that is refused is removed at once, not at the next start."""
        try:
            return await finished
        finally:
            if not mail.handed_in:
                await stream.abandon()

    def _finish(self, mail: MailTransaction, content: Content) -> Awaitable[Reply]:
        refusal = mail.failure
        if refusal is None and content.size > self._settings.message_size:
            refusal = replies.message_too_big(self._settings.message_size)
        if refusal is None and not mail.headers_judged:
            refusal = self._header_refusal(mail, content.headers)
        if refusal is not None:
            return _Now(self._message_refused(mail, Stage.BODY, refusal))
        if self._judges_content:
            return self._judge_and_commit(mail, content)
        return self._commit(mail, content)

    async def _judge_and_commit(self, mail: MailTransaction, content: Content) -> Reply:
        stages = (Stage.BODY,) if mail.headers_judged else (Stage.HEADERS, Stage.BODY)
        try:
            for stage in stages:
                body = content if stage is Stage.BODY else None
                decision = self._judge_content(mail, stage, content.headers, body)
                reply = decision if isinstance(decision, Reply) else await decision
                if not reply.is_positive:
                    return reply
            return await self._commit(mail, content)
        except Exception as error:
            return self._failed(mail.session, Stage.BODY, error)

    def _commit(self, mail: MailTransaction, content: Content) -> Awaitable[Reply]:
        now = self._parts.clock()
        session, offset = mail.session, self._settings.utc_offset
        added = b""
        if session.login or session.protocol == "submission":
            added = missing_fields(
                content.headers,
                sender=mail.request.sender,
                message_id=mail.id,
                hostname=session.hostname,
                now=now,
                utc_offset=offset,
            )
        message = assemble(
            mail, content, self._parts.destination_of, now=now, utc_offset=offset, added_fields=added
        )
        mail.handed_in = True
        return self._committer.commit(mail, message)

    def abandoned(self, transaction: Transaction, why: str) -> None:
        """See the interface."""
        self._observer.transaction_abandoned(transaction, why)

    # --- refusing -------------------------------------------------------------------------------------------

    def _message_verdict(
        self, mail: MailTransaction, stage: Stage, verdict: Verdict, taken: Reply, about: str = ""
    ) -> Reply:
        """From a verdict on a message to its reply; what it means for the message is kept."""
        if verdict.reply is not None:
            return self._message_refused(mail, stage, verdict.reply, verdict.rule, about)
        keep_verdict(mail, verdict, self._parts.clock())
        return taken

    def _message_refused(
        self, mail: MailTransaction, stage: Stage, reply: Reply, rule: str = "", about: str = ""
    ) -> Reply:
        return self._refused(mail.session, stage, reply, rule=rule, about=about, message_id=mail.id)

    def _refused(
        self,
        session: Session,
        stage: Stage,
        reply: Reply,
        *,
        rule: str = "",
        about: str = "",
        message_id: str = "",
    ) -> Reply:
        self._observer.refused(session, stage.value, reply, rule=rule, about=about, message_id=message_id)
        return reply

    def _guarded(self, session: Session, stage: Stage, decide: Callable[[], Decision]) -> Decision:
        """Our own faults become 451, whether they come at once or after waiting."""
        try:
            decision = decide()
        except Exception as error:
            return self._failed(session, stage, error)
        return decision if isinstance(decision, Reply) else self._guarded_wait(session, stage, decision)

    async def _guarded_wait(self, session: Session, stage: Stage, decision: Awaitable[Reply]) -> Reply:
        try:
            return await decision
        except Exception as error:
            return self._failed(session, stage, error)

    def _failed(self, session: Session, stage: Stage, error: Exception) -> Reply:
        self._observer.reception_failed(session, stage.value, error)
        return replies.LOCAL_ERROR


def _take(
    mail: MailTransaction, request: RecipientRequest, found: tuple[ResolvedRecipient, ...], route: str
) -> Reply:
    """The recipients become the transaction's, each once (SEC-86)."""
    mail.accepted += 1
    for resolved in found:
        key = resolved.address.key
        if key in mail.seen:
            continue
        mail.seen.add(key)
        original = request.original
        if not original and resolved.address != request.address:
            kind = "rfc822" if request.address.is_ascii else "utf-8"
            original = f"{kind};{request.address}"
        mail.recipients.append(Recipient(resolved.address, request.notify, original, route))
    return replies.RECIPIENT_TAKEN


def _ours_by_name(session: Session, address: Address) -> Address:
    """An address at the literal of the address the client talks to is at our own name (RFC 5321 4.5.1)."""
    if address.domain[:1] == "[" and literal_address(address.domain) == session.server_address:
        return Address(address.local, Domain(""))
    return address


def _domain_of(request: MailRequest) -> str:
    return request.sender.domain if request.sender else ""


def _add_sender_facts(facts: Facts, request: MailRequest) -> None:
    facts.claim("sender", str(request.sender) if request.sender else "<>")
    facts.claim("sender.null", request.sender is None)
    if request.sender is not None:
        facts.claim("sender.domain", request.sender.domain)
    facts.claim("message.declared-size", request.size)
    facts.claim("body.type", request.body_type.value)


def _recipient_facts(parent: Facts, address: Address, *, local: bool) -> Facts:
    facts = Facts(parent=parent)
    facts.claim("recipient", str(address))
    facts.claim("recipient.domain", address.domain)
    facts.prove("recipient.local", local, "our tables")
    return facts
