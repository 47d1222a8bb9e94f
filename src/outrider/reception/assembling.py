"""From a finished transaction to what is stored: trace, items, facts, first events (SMTP-4, SMTP-5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from outrider.message.dates import format_date
from outrider.message.received import received_field
from outrider.model.address import Address
from outrider.model.content import Content
from outrider.model.envelope import Envelope, Recipient
from outrider.model.facts import Fact, Facts
from outrider.model.layered import MessageObjects, TakenTransfer
from outrider.model.message import Event, ItemState, NewItem, NewMessage
from outrider.model.reply import Reply
from outrider.policy.rules import is_header_tag
from outrider.reception.interface import BodyStream, Session, Transaction
from outrider.reception.mail_codes import Code
from outrider.reception.session_facts import SessionFacts

DestinationOf = Callable[[Recipient], str]
_UNNAMED_FIELD = b"X-Unnamed-Field:\r\n"


class MessageFacts(Facts):
    """A message's facts, standing on its session's."""

    __slots__ = ()

    def own(self) -> tuple[Fact, ...]:
        """Without the session's."""
        return tuple(fact for facts in self._by_name.values() for fact in facts) if self._by_name else ()


@dataclass(slots=True)
class MailTransaction(Transaction):
    """A transaction with what only reception needs."""

    hold_until: float = 0.0
    authenticated_as: str = ""
    seen: set[tuple[str, str]] = field(default_factory=set)
    """Keys of `recipients`: each is delivered to once (SEC-86)."""
    events: list[Event] = field(default_factory=list)
    """Verdicts so far."""
    session_facts: SessionFacts = field(default_factory=SessionFacts)
    message_facts: MessageFacts = field(default_factory=MessageFacts)
    """The same object as `facts`."""
    headers_judged: bool = False
    """The stage HEADERS has been through, while the body was still arriving."""
    failure: Reply | None = None
    """The body could not be kept: what the end of the data is answered."""
    stream: BodyStream | None = None
    """Where a large body went; given up when the message is refused."""
    code: Code | None = None
    """Its Mail Policy Code, and what that is worth."""
    drops_field: bool = False
    """The code came as an MPC field, which leaves the header section for the envelope (AMTP-14)."""
    objects: MessageObjects | None = None
    """The MT2 form, where it came in one; set before `finish`."""
    transfer: TakenTransfer | None = None
    """What is to be remembered of its MT2 transfer, from the commit on."""
    named: Address | None = None
    """An envelope's one recipient as RCPT named it, before any alias (AMDP-7)."""
    envelope_key: str = ""
    """An envelope by what tells it from others: the same when its holder sends it again, after a 250 that
    never came."""
    handed_in: bool = False
    """The spool has it, or may have it: from here on the body is the spool's."""


def assemble(
    transaction: MailTransaction,
    content: Content,
    destination_of: DestinationOf,
    *,
    now: float,
    utc_offset: int = 0,
    added_fields: bytes = b"",
) -> NewMessage:
    """The message to store."""
    trace = _trace(transaction, content, format_date(now, utc_offset), added_fields)
    envelope = _envelope(transaction)  # settles the routes that items are grouped by
    return NewMessage(
        id=transaction.id,
        received_at=now,
        envelope=envelope,
        trace=trace,
        content=content,
        items=_items(transaction, destination_of, now),
        facts=transaction.session_facts.all_encoded() + transaction.message_facts.own(),
        events=(_received_event(transaction, content, now), *transaction.events),
        objects=transaction.objects,
        transfer=transaction.transfer,
    )


def _envelope(transaction: MailTransaction) -> Envelope:
    request, route = transaction.request, transaction.route
    recipients = transaction.recipients
    if route and request.amdp:
        # Where no rule chose a way for the recipient itself; see `amdp_envelopes`.
        recipients[:] = [
            replace(one, route=one.route + route) if one.route.endswith(":") else one for one in recipients
        ]
    elif route:
        recipients[:] = [one if one.route else replace(one, route=route) for one in recipients]
    return Envelope(
        request.sender,
        tuple(recipients),
        request.body_type,
        request.smtputf8,
        request.ret,
        request.envelope_id,
        transaction.hold_until,
        transaction.authenticated_as,
        mpc=None if transaction.code is None else transaction.code.mpc,
        arrival=transaction.session.connection,
    )


def _trace(transaction: MailTransaction, content: Content, date: str, added_fields: bytes) -> bytes:
    session = transaction.session
    # RFC 5321 section 7.2: to name one of several recipients would tell the others (Bcc).
    alone = transaction.recipients[0] if len(transaction.recipients) == transaction.accepted == 1 else None
    trace = received_field(
        transaction.session_facts.trace_origin(session),
        protocol=_protocol(session, smtputf8=transaction.request.smtputf8),
        message_id=transaction.id,
        recipient=str(alone.address) if alone else "",
        date=date,
    )
    if transaction.tags:
        fields = "".join(f"{tag}\r\n" for tag in transaction.tags if is_header_tag(tag))
        trace += fields.encode("ascii")
    trace += added_fields
    if content.headers[:1] in (b" ", b"\t"):
        # A first line that begins with a blank would continue our last field: give it one of its own.
        trace += _UNNAMED_FIELD
    return trace


def _protocol(session: Session, *, smtputf8: bool) -> str:
    """RFC 3848, RFC 6531 section 4.3: ESMTPSA, UTF8SMTPS, ..."""
    protocol = session.with_protocol
    if not smtputf8 or protocol in ("QMTP", "AMTP", "AMTPA", "MT2", "AMDP"):
        return protocol
    return "UTF8" + protocol.removeprefix("E")


def _items(transaction: MailTransaction, destination_of: DestinationOf, now: float) -> tuple[NewItem, ...]:
    state = ItemState.HELD if transaction.hold_reason else ItemState.READY
    due = max(now, transaction.hold_until)
    if len(transaction.recipients) == 1:
        destination = destination_of(transaction.recipients[0])
        return (NewItem(destination, (0,), state, due, transaction.hold_reason),)
    grouped: dict[str, list[int]] = {}
    for index, recipient in enumerate(transaction.recipients):
        grouped.setdefault(destination_of(recipient), []).append(index)
    return tuple(
        NewItem(destination, tuple(indexes), state, due, transaction.hold_reason)
        for destination, indexes in grouped.items()
    )


def _received_event(transaction: MailTransaction, content: Content, now: float) -> Event:
    session = transaction.session
    sender = transaction.request.sender
    count = len(transaction.recipients)
    client = f"[{session.client_text}]" if session.client_text else "local"
    by = f" as {session.login}" if session.login else ""
    whom = f"<{sender or ''}> for {count} recipient{'' if count == 1 else 's'}"
    text = f"received from {whom}, {content.size} octets, by {session.with_protocol} from {client}{by}"
    return Event(now, "received", text)


def verdict_event(now: float, text: str, recipient: str = "") -> Event:
    """A rule spoke; the text is the reply's or the verdict's sentence (ITP-5)."""
    return Event(now, "verdict", text, (recipient,) if recipient else ())
