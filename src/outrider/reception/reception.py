"""Reception: from a session's events to a stored message (SMTP-5), the same for every protocol.

Each method decides at once when it can, and gives an awaitable only when a fact has to be fetched or the disk
to be waited for. The ordinary message - no rule, no look-up - takes no step of the event loop before its
commit. Whatever fails unforeseen is our fault and temporary: 451, logged, nothing stored (SMTP-6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import cast

from outrider.message.header_fields import field_values, has_more_hops_than
from outrider.message.mailboxes import mailboxes
from outrider.message.mpc_field import without_mpc
from outrider.model.address import Address, Domain, literal_address
from outrider.model.content import Content
from outrider.model.envelope import Arrival, Notify, Recipient
from outrider.model.facts import Fact, Facts
from outrider.model.mpc import MailClass
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.model.verdict import Stage, Verdict
from outrider.policy.message_facts import body_facts, header_facts
from outrider.protocols.amtp import replies as amtp_replies
from outrider.reception import replies
from outrider.reception.amdp_part import AmdpReception, Now, Resolved
from outrider.reception.assembling import MailTransaction, MessageFacts, assemble
from outrider.reception.committing import Committer, KeptBody
from outrider.reception.interface import BodyStream, Decision, Session, Transaction
from outrider.reception.judging import Inquiry, keep_breach, keep_verdict
from outrider.reception.lookups import FactSource
from outrider.reception.partner_terms import from_domains
from outrider.reception.parts import ListRefusals, ReceptionParts
from outrider.reception.relay import tls_table
from outrider.reception.session_facts import SessionFacts, facts_of
from outrider.reception.settings import ReceptionSettings
from outrider.reception.submission import missing_fields
from outrider.routing.list_addresses import Purpose
from outrider.routing.local_users import (
    AliasLoop,
    Deliverable,
    NotLocal,
    Resolution,
    ResolvedRecipient,
    UnknownUser,
)
from outrider.spool.interface import SpoolFull, SpoolUnavailable


class MailReception(AmdpReception):
    """Implements :class:`outrider.reception.interface.Reception`."""

    def __init__(self, settings: ReceptionSettings, parts: ReceptionParts) -> None:
        super().__init__(settings, parts)
        self.inline_limit = settings.inline_limit
        self._committer = Committer(parts.spool, parts.fresh, parts.observer, settings.lease_s)
        self._wants = parts.policy.needs_anywhere
        self._judges_content = parts.policy.asks(Stage.HEADERS) or parts.policy.asks(Stage.BODY)

    # --- the envelope ---------------------------------------------------------------------------------------

    def sender(
        self, session: Session, request: MailRequest, now: float, known: Iterable[Fact] = ()
    ) -> tuple[MailTransaction | None, Decision]:
        """See the interface. `known`: facts of the message beside what the request says."""
        try:
            return self._sender(session, request, now, known)
        except Exception as error:
            return None, self._failed(session, Stage.SENDER, error)

    def _sender(
        self, session: Session, request: MailRequest, now: float, known: Iterable[Fact]
    ) -> tuple[MailTransaction | None, Decision]:
        facts = facts_of(session, now, self._wants_time)
        facts.identify_client(session, self._parts.clients, now)
        about = str(request.sender or "<>")
        refusal = self.no_room() or self._sender_refusal(session, facts, request)
        if refusal is not None:
            return None, self._refused(session, Stage.SENDER, refusal, about=about)
        mail = self._begin(session, facts, request, now)
        for fact in known:
            mail.facts.add(fact)
        refusal = self._code_refusal(mail) or self._terms_refusal(mail, (_domain_of(request),))
        if refusal is not None:
            return None, self._message_refused(mail, Stage.SENDER, refusal, about=about)
        if not self._parts.policy.asks(Stage.SENDER):
            return mail, replies.SENDER_TAKEN

        def conclude(verdict: Verdict) -> Reply:
            return self._message_verdict(mail, Stage.SENDER, verdict, replies.SENDER_TAKEN, about)

        inquiry = Inquiry(Stage.SENDER, session, mail.facts, conclude, _domain_of(request))
        return mail, self._guarded(session, Stage.SENDER, lambda: self._judge.ask(inquiry))

    def no_room(self) -> Reply | None:
        """Why no message is begun now."""
        if self._parts.memory_is_short():
            return replies.NO_MEMORY
        try:
            self._parts.spool.check_room()
        except SpoolFull:
            return replies.NO_ROOM
        except SpoolUnavailable:
            return replies.STORE_UNAVAILABLE
        return None

    def _code_refusal(self, mail: MailTransaction) -> Reply | None:
        """Settle the message's code as far as MAIL tells it (AMTP-15)."""
        codes, session = self._parts.codes, mail.session
        if session.protocol not in ("amtp", "mt2") and codes.is_idle:
            return None
        code = codes.code_of(session, mail.request)
        if isinstance(code, Reply):
            return code
        mail.code = code
        if code is not None:
            mail.facts.add(code.fact(mail.started_at))
        return None

    def _terms_refusal(self, mail: MailTransaction, domains: Iterable[str]) -> Reply | None:
        """What is agreed with partners about mail from these domains (ITP-8)."""
        partners = self._parts.partners
        if partners is None:
            return None
        now = self._parts.clock()
        breach = partners.breach(mail.session, mail.session_facts, mail.facts, domains, now)
        if breach is None:
            return None
        if keep_breach(mail, breach, now):
            self._observer.partner_terms_broken(
                mail.session, breach.partner, breach.reason, breach.mode, mail.id
            )
        return replies.partner_terms_broken(breach.reason) if breach.mode == "refuse" else None

    def _sender_refusal(self, session: Session, facts: SessionFacts, request: MailRequest) -> Reply | None:
        if (session.protocol == "submission" and not session.login) or self.login_is_owed(session):
            return replies.MUST_LOG_IN
        if session.protocol == "amtp" and session.connection is Arrival.OTHER:
            return amtp_replies.AUTHENTICATION_FAILED  # the core lets nobody so far
        if request.size > self._settings.message_size:
            return replies.message_too_big(self._settings.message_size)
        if (request.hold_for or request.hold_until) and not self._permission(session, facts):
            return replies.FUTURE_RELEASE_REFUSED
        if self._parts.envelopes is not None:
            refusal = self._envelope_sender_refusal(session, facts, request, self._parts.envelopes)
            if refusal is not None:
                return refusal
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
        return request.auth if self._permission(session, facts) else ""

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
        if self._parts.envelopes is not None:
            known = self._may_relay(mail)
            refusal = self._parts.envelopes.recipient_refusal(mail, request.address, known=known)
            if refusal is not None:
                return self._recipient_refused(mail, request, refusal)
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
                if self._parts.lists is not None and any(one.list_address for one in recipients):
                    return self._ask_lists(mail, request, recipients, self._parts.lists)
                return self._judge_recipient(mail, request, recipients, local=True)
            case UnknownUser():
                return self._recipient_refused(mail, request, replies.unknown_user(str(request.address)))
            case AliasLoop():
                return self._recipient_refused(mail, request, replies.ALIAS_LOOP)
            case NotLocal():
                return self._elsewhere(mail, request)

    async def _ask_lists(
        self, mail: MailTransaction, request: RecipientRequest, found: Resolved, lists: ListRefusals
    ) -> Reply:
        """Who may write to a list depends on its members, and a look at them is waited for."""
        for one in found:
            if one.list_address is None:
                continue
            refusal = await lists.refusal(one.address, one.list_address, mail.request)
            if refusal is not None:
                return self._recipient_refused(mail, request, refusal)
        decision = self._judge_recipient(mail, request, found, local=True)
        return decision if isinstance(decision, Reply) else await decision

    def _elsewhere(self, mail: MailTransaction, request: RecipientRequest) -> Decision:
        """A recipient that is not ours: relay control (SEC-72, SEC-73)."""
        address = request.address
        if not address.domain:
            return self._recipient_refused(mail, request, replies.NO_POSTMASTER)
        because = self._permission(mail.session, mail.session_facts)
        if because and mail.request.amdp:
            # Who calls back must be the one whom the mail is for: the holder's address goes no further.
            because = ""
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
        found: Resolved,
        *,
        local: bool,
    ) -> Decision:
        if mail.accepted and len(mail.recipients) + len(found) > self._settings.recipients:
            return self._recipient_refused(mail, request, replies.TOO_MANY_RECIPIENTS)
        if not self._parts.policy.asks(Stage.RECIPIENT):
            return self._taken(mail, request, found, "")
        about = str(request.address)

        def conclude(verdict: Verdict) -> Reply:
            if verdict.reply is not None:
                return self._recipient_refused(mail, request, verdict.reply, verdict.rule)
            keep_verdict(mail, verdict, self._parts.clock(), about)
            return self._taken(mail, request, found, verdict.route)

        # Facts of one recipient stand on the message's and vanish with the command.
        facts = _recipient_facts(mail.facts, request.address, local=local)
        return self._judge.ask(
            Inquiry(Stage.RECIPIENT, mail.session, facts, conclude, _domain_of(mail.request), mail.facts)
        )

    def _taken(
        self,
        mail: MailTransaction,
        request: RecipientRequest,
        found: Resolved,
        route: str,
    ) -> Reply:
        """The recipients become the transaction's, unless AMTP's rules are against it."""
        if mail.session.connection is Arrival.AMTP_PUBLIC:
            refusal = self._public_refusal(mail, found, route)
            if refusal is not None:
                return self._recipient_refused(mail, request, refusal)
        if mail.request.amdp and self._parts.envelopes is not None:
            route = self._parts.envelopes.taken(mail, request.address, route)
            # After the 250 no sender is told anything, whatever he asked for (AMDP-10).
            request = replace(request, notify=Notify.NEVER)
        elif self._parts.submissions is not None:
            refusal = self._hold_refusal(mail, found, route, self._parts.submissions)
            if refusal is not None:
                return self._recipient_refused(mail, request, refusal)
        return _take(mail, request, found, route)

    def _public_refusal(self, mail: MailTransaction, found: Resolved, route: str) -> Reply | None:
        """What came over a public connection: no list takes it unless one person wrote it (AMTP-16), and it
        goes over no other public connection (AMTP-18)."""
        written = mail.code is not None and mail.code.mpc.mail_class is MailClass.INDIVIDUAL
        for one in found:
            if one.list_address is not None and one.list_address.purpose is Purpose.POST and not written:
                return amtp_replies.POLICY_VIOLATION
            way = Recipient(one.address, route=route or mail.route)
            if not self._parts.may_leave(way, Arrival.AMTP_PUBLIC):
                return replies.NOT_OVER_PUBLIC_AMTP
        return None

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
        if mail.request.amdp and self._parts.envelopes is not None:
            refusal = self._parts.envelopes.header_refusal(mail, headers)
            if refusal is not None:
                return refusal
        if self._parts.codes.reads_field(mail.session, mail.code):
            refusal = self._field_refusal(mail, headers)
            if refusal is not None:
                return refusal
        return None if self._parts.partners is None else self._terms_refusal(mail, from_domains(headers))

    def _field_refusal(self, mail: MailTransaction, headers: bytes) -> Reply | None:
        """What an MPC field in the header section means here (AMTP-14, AMTP-15)."""
        code = self._parts.codes.code_in(mail.session, headers, mail.code)
        if isinstance(code, Reply):
            return code
        if code is not None and code is not mail.code:
            mail.code = code
            mail.drops_field = True
            mail.facts.add(code.fact(self._parts.clock()))
        return None

    def _writes_as_own(self, session: Session, headers: bytes) -> bool:
        """Whether From or Sender holds an address of the login's own, or neither holds any (SEC-110)."""
        if self._parts.submissions is not None and self._parts.submissions.corrects_from:
            return True
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

    def _judge_code(self, mail: MailTransaction) -> Decision:
        def conclude(verdict: Verdict) -> Reply:
            return self._message_verdict(mail, Stage.SENDER, verdict, replies.HEADERS_TAKEN)

        domain = _domain_of(mail.request)
        return self._judge.ask(Inquiry(Stage.SENDER, mail.session, mail.facts, conclude, domain))

    def body_stream(self, transaction: Transaction) -> KeptBody:
        """See the interface."""
        mail = cast(MailTransaction, transaction)
        stream = KeptBody(self._parts.spool.body_writer(mail.id), mail)
        mail.stream = stream
        return stream

    def finish(self, transaction: Transaction, content: Content) -> Awaitable[Reply]:
        """See the interface."""
        mail = cast(MailTransaction, transaction)
        try:
            finished = self._finish(mail, content)
        except Exception as error:
            finished = Now(self._failed(mail.session, Stage.BODY, error))
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
            return Now(self._message_refused(mail, Stage.BODY, refusal))
        if mail.drops_field:
            content = replace(content, headers=without_mpc(content.headers))
        if self._parts.envelopes is not None or self._parts.submissions is not None:
            return self._finish_amdp(mail, content)
        return self._judged_or_not(mail, content)

    def _judged_or_not(self, mail: MailTransaction, content: Content) -> Awaitable[Reply]:
        if self._judges_content or mail.drops_field:
            return self._judge_and_commit(mail, content)
        return self._commit(mail, content)

    async def _judge_and_commit(self, mail: MailTransaction, content: Content) -> Reply:
        stages = (Stage.BODY,) if mail.headers_judged else (Stage.HEADERS, Stage.BODY)
        try:
            if mail.drops_field and "mpc" in self._wants:
                # Rules on the sender were asked before anybody knew the code.
                decision = self._judge_code(mail)
                reply = decision if isinstance(decision, Reply) else await decision
                if not reply.is_positive:
                    return reply
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


def _take(mail: MailTransaction, request: RecipientRequest, found: Resolved, route: str) -> Reply:
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
    if request.amdp:
        facts.prove("amdp.envelope", True, "MAIL")
    facts.claim("message.declared-size", request.size)
    facts.claim("body.type", request.body_type.value)


def _recipient_facts(parent: Facts, address: Address, *, local: bool) -> Facts:
    facts = Facts(parent=parent)
    facts.claim("recipient", str(address))
    facts.claim("recipient.domain", address.domain)
    facts.prove("recipient.local", local, "our tables")
    return facts
