"""An MT2 envelope judged: limits, seals, extensions, then sender and recipients as MAIL and RCPT (MT2-26).

Everything that can be known before headers and body have cost an octet is asked here, in the order of what it
costs us: our own tables first, signatures and other people's programs afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from outrider.extensions.desk import NOTHING_SAID, Desk, EnvelopeVerdict
from outrider.extensions.interface import Carried, EnvelopeFacts, ObjectFacts, Part
from outrider.identity.mt2_identity import Mt2Identity
from outrider.identity.trace import Circumstances, SealedMessage
from outrider.message.objects.envelope import LayeredEnvelope
from outrider.message.objects.envelope import Part as ObjectPart
from outrider.message.objects.headers import HEADERS_TYPE, MAX_HEADERS
from outrider.model.address import Address
from outrider.model.envelope import BodyType
from outrider.model.facts import Fact, Provenance
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.model.verdict import Stage
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, err
from outrider.reception import mt2_results as results
from outrider.reception.assembling import MailTransaction
from outrider.reception.interface import Decision, Session
from outrider.reception.mt2_settings import Mt2ReceptionSettings
from outrider.reception.mt2_trace import JudgedTrace, TraceChecker
from outrider.reception.mt2_transfers import Transfer
from outrider.reception.parts import ReceptionParts
from outrider.reception.reception import MailReception
from outrider.reception.session_facts import SessionFacts

TRACE_FACT: Final = "mt2.trace"


class Refused(Exception):
    """What is being judged is answered with this."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.code)
        self.result = result


@dataclass(slots=True)
class JudgedEnvelope:
    """What is known of an envelope beside what it says."""

    trace: JudgedTrace | None
    identities: frozenset[str]
    """Proven names of the peer and of those who sealed it."""
    facts: EnvelopeFacts | None = None
    """As extensions see it; None where none is concerned."""
    carried: tuple[Carried, ...] = ()
    said: EnvelopeVerdict = NOTHING_SAID
    recipients: tuple[Address, ...] = ()
    """All that the envelope names; `facts` has those of our own domains."""


class EnvelopeJudge:
    """Judges envelopes; one for each configuration."""

    def __init__(
        self,
        settings: Mt2ReceptionSettings,
        mail: MailReception,
        parts: ReceptionParts,
        checker: TraceChecker | None,
        desk: Desk | None,
    ) -> None:
        self._settings = settings
        self._mail = mail
        self._parts = parts
        self._observer = parts.observer
        self._checker = checker
        self._desk = desk

    async def judge(
        self, transfer: Transfer, envelope: LayeredEnvelope
    ) -> tuple[MailTransaction, JudgedEnvelope]:
        """The transaction that the message goes on in, with its recipients; those who are not taken have a
        result in the transfer. Raises Refused."""
        self._check_limits(transfer, envelope)
        judged = await self._looked_at(transfer, envelope)
        try:
            mail = await self._begun(transfer, envelope, judged)
            await self._ask_recipients(transfer, envelope, mail, judged)
        except Exception:
            await self.ended(judged)
            raise
        return mail, judged

    async def ended(self, judged: JudgedEnvelope) -> None:
        """The transfer is over, its message stored or not: extensions may have kept something for it
        (MT2-21d). Never raises."""
        facts = judged.facts
        if self._desk is not None and judged.carried and facts is not None and facts.recipients:
            await self._desk.ended(facts, judged.carried)

    def _check_limits(self, transfer: Transfer, envelope: LayeredEnvelope) -> None:
        now = self._parts.clock()
        if envelope.expiry and envelope.expiry < now:
            raise self._refusal(transfer, err(codes.EXPIRED), "5.4.7")
        if len(envelope.seals) > self._settings.hops:
            raise self._refusal(transfer, err(codes.LOOP), "5.4.6")
        headers = envelope.object(ObjectPart.HEADERS)
        if headers is not None and headers.length > MAX_HEADERS:
            text = f"The headers object may have {MAX_HEADERS} octets."
            raise self._refusal(transfer, err(codes.MESSAGE_TOO_LARGE, text=text), "5.3.4")
        if size_of(envelope) + len(transfer.octets) > self._settings.message_size:
            limit = self._settings.message_size
            raise self._refusal(
                transfer, err(codes.MESSAGE_TOO_LARGE, text=f"The limit is {limit} octets."), "5.3.4"
            )

    def _refusal(self, transfer: Transfer, result: Result, status: str, about: str = "") -> Refused:
        """A refusal that is MT2's own, told to the log as all are."""
        text = result.text or codes.text_of(result.code)
        self._observer.refused(transfer.session, "envelope", Reply(550, status, text), about=about)
        return Refused(result)

    async def _looked_at(self, transfer: Transfer, envelope: LayeredEnvelope) -> JudgedEnvelope:
        """Seals, then extensions: what the policy is to know before it is asked (MT2-26)."""
        trace = self._check_trace(transfer, envelope)
        if isinstance(trace, Awaitable):
            trace = await trace
        identities = _identities(identity_of(transfer.session), trace)
        carried = tuple(Carried(one.oid, one.data, one.critical) for one in envelope.extensions)
        if not carried and (self._desk is None or not self._desk.concerns(carried)):
            return JudgedEnvelope(trace, identities)
        facts = self._envelope_facts(transfer, envelope, trace, identities)
        said = NOTHING_SAID
        if facts.recipients:  # extensions are the last host's (MT2-19)
            said = await self._ask_extensions(facts, carried)
        if said.refusal is not None:
            result = results.from_extension(said.refusal)
            parts = results.extension_parts(said.parts)
            refused = replace(result, extensions=(*result.extensions, *parts))
            raise self._refusal(transfer, refused, codes.status_of(result), str(envelope.sender or "<>"))
        everybody = tuple(one.address for one in envelope.recipients)
        return JudgedEnvelope(trace, identities, facts, carried, said, everybody)

    async def _ask_extensions(self, facts: EnvelopeFacts, carried: tuple[Carried, ...]) -> EnvelopeVerdict:
        if self._desk is not None:
            return await self._desk.envelope(facts, carried) if self._desk.concerns(carried) else NOTHING_SAID
        for one in carried:
            if one.critical:
                part = results.extension_parts(
                    (Part(one.oid, "Unknown.", "ERR", codes.UNKNOWN_CRITICAL_EXTENSION),)
                )
                raise Refused(err(codes.UNKNOWN_CRITICAL_EXTENSION, *part))
        return NOTHING_SAID

    def _check_trace(
        self, transfer: Transfer, envelope: LayeredEnvelope
    ) -> JudgedTrace | Awaitable[JudgedTrace] | None:
        if self._checker is None:
            return None
        session, now = transfer.session, self._parts.clock()
        identity = identity_of(session)
        peer = identity.names if identity is not None else (() if session.tls is not None else None)
        receiver = _receiver(self._settings.hostname, session.hostname)
        message = SealedMessage(transfer.octets, envelope)
        circumstances = Circumstances(now, now, peer, receiver)
        return self._checker.check(message, circumstances, session.client_text)

    def _envelope_facts(
        self,
        transfer: Transfer,
        envelope: LayeredEnvelope,
        trace: JudgedTrace | None,
        identities: frozenset[str],
    ) -> EnvelopeFacts:
        domains = self._parts.recipients.domains
        ours = [
            (position, one.address)
            for position, one in enumerate(envelope.recipients, 1)
            if one.address.domain in domains
        ]
        return EnvelopeFacts(
            message_id=envelope.id,
            transfer=f"{transfer.peer}/{transfer.id}",
            sender=envelope.sender,
            recipients=tuple(address for _, address in ours),
            positions=tuple(position for position, _ in ours),
            now=self._parts.clock(),
            date=float(envelope.date),
            expires=float(envelope.expiry),
            peer=transfer.peer,
            identities=identities,
            sender_is_claimed=trace is not None and trace.sender_is_claimed,
            objects=tuple(
                ObjectFacts(one.media_type, one.sha256.hex(), one.length) for one in envelope.objects
            ),
            report=envelope.report is not None,
        )

    async def _begun(
        self, transfer: Transfer, envelope: LayeredEnvelope, judged: JudgedEnvelope
    ) -> MailTransaction:
        """MAIL, with what MT2 knows (MT2-26); then the seals, unless a rule has taken them upon itself."""
        session = transfer.session
        request = MailRequest(
            envelope.sender,
            size_of(envelope),
            BodyType.EIGHT_BIT,
            smtputf8=_needs_utf8(envelope),
            ret=envelope.ret,
            envelope_id=envelope.envelope_id,
            hold_until=float(envelope.hold_until),
            mpc=envelope.mpc,
        )
        known = self._message_facts(session, envelope, judged)
        mail, decision = self._mail.sender(session, request, self._parts.clock(), known)
        reply = decision if isinstance(decision, Reply) else await decision
        if mail is None or not reply.is_positive:
            raise Refused(results.refusal(reply, Stage.SENDER))
        trace = judged.trace
        if trace is not None and not trace.is_good:
            refused = not self._policy_judged_trace(mail)
            self._observer.trace_broken(session, transfer.id, trace.problem, refused=refused)
            if refused:
                text = results.plain(f"Invalid trace: {trace.problem}")
                raise self._refusal(
                    transfer, err(codes.INVALID_TRACE, text=text), "5.7.7", str(envelope.sender or "<>")
                )
        return mail

    def _policy_judged_trace(self, mail: MailTransaction) -> bool:
        """Whether a rule that names the trace has applied: then its word counts, and it has let it pass."""
        if TRACE_FACT not in self._parts.policy.needs(Stage.SENDER):
            return False
        outcomes = self._parts.policy.outcomes(Stage.SENDER, mail.facts)
        return any(one.applied and one.rule.names(TRACE_FACT) for one in outcomes)

    def _message_facts(
        self, session: Session, envelope: LayeredEnvelope, judged: JudgedEnvelope
    ) -> list[Fact]:
        known: list[Fact] = list(judged.trace.facts) if judged.trace is not None else []
        if session.options:
            known.append(_options_fact(session.options))
        hidden = any(
            one.part is ObjectPart.HEADERS and one.media_type.lower() != HEADERS_TYPE
            for one in envelope.objects
        )
        known.append(_HIDDEN if hidden else _OPEN)
        if envelope.extensions:
            known.append(Fact("mt2.extensions", self._extension_names(envelope), Provenance.CLAIMED))
        known.append(_NO_REPORT if envelope.report is None else _REPORT)
        if judged.identities:
            known.append(_identities_fact(judged.identities))
        if judged.said.facts:
            known += (fact for fact in judged.said.facts if fact.name != "mt2.extensions")
        return known

    def _extension_names(self, envelope: LayeredEnvelope) -> tuple[str, ...]:
        registry = None if self._desk is None else self._desk.registry
        names: list[str] = []
        for one in envelope.extensions:
            extension = None if registry is None else registry.by_oid(one.oid)
            names.append(one.oid if extension is None else extension.name)
        return tuple(names)

    async def _ask_recipients(
        self, transfer: Transfer, envelope: LayeredEnvelope, mail: MailTransaction, judged: JudgedEnvelope
    ) -> None:
        """RCPT for each; those who are not taken have a result of their own (MT2-16)."""
        refused = judged.said.recipients
        for position, request in enumerate(envelope.recipients, 1):
            if request.address in refused:
                transfer.results[position] = results.from_extension(refused[request.address])
                continue
            decision = self._mail.recipient(mail, request)
            reply = decision if isinstance(decision, Reply) else await decision
            if not reply.is_positive:
                transfer.results[position] = results.refusal(reply, Stage.RECIPIENT)
        if not mail.recipients:
            may_pass = any(one.is_transient for one in transfer.results.values())
            code = codes.RECIPIENT_NOT_NOW if may_pass else codes.NO_RECIPIENTS
            self._mail.abandoned(mail, "no recipient is left")
            raise Refused(err(code, *results.said_of_recipients(transfer.results)))


_BY_LIST: Final = "the envelope's list"
_HIDDEN: Final = Fact("mt2.encryption", "headers", Provenance.PROVEN, _BY_LIST)
_OPEN: Final = Fact("mt2.encryption", "none", Provenance.PROVEN, _BY_LIST)
_REPORT: Final = Fact("mt2.report", True, Provenance.CLAIMED)
_NO_REPORT: Final = Fact("mt2.report", False, Provenance.CLAIMED)


# What is so for all messages of a peer is said by the same objects: thousands of messages are held at once.


@lru_cache(maxsize=256)
def _options_fact(options: frozenset[str]) -> Fact:
    names = tuple(sorted(one.lower() for one in options))
    return Fact("mt2.options", names, Provenance.PROVEN, "this session")


@lru_cache(maxsize=256)
def _identities_fact(names: frozenset[str]) -> Fact:
    return Fact("mt2.identities", tuple(sorted(names)), Provenance.PROVEN, "the session and the seals")


@lru_cache(maxsize=64)
def _receiver(hostname: str, greeted_as: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((hostname.lower(), greeted_as.lower())))


def _identities(identity: Mt2Identity | None, trace: JudgedTrace | None) -> frozenset[str]:
    names = frozenset(identity.names if identity is not None else ())
    return names | trace.signers if trace is not None else names


def identity_of(session: Session) -> Mt2Identity | None:
    """Who the peer has proven to be; None for nobody."""
    return session.facts.mt2 if isinstance(session.facts, SessionFacts) else None


async def settled(decision: Decision) -> Reply:
    """The reply, waited for if need be."""
    return decision if isinstance(decision, Reply) else await decision


def size_of(envelope: LayeredEnvelope) -> int:
    """Octets of the objects that it lists."""
    return sum(one.length for one in envelope.objects)


def _needs_utf8(envelope: LayeredEnvelope) -> bool:
    addresses = [one.address for one in envelope.recipients]
    if envelope.sender is not None:
        addresses.append(envelope.sender)
    return not all(address.is_ascii for address in addresses)
