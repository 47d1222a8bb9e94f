"""Who is told what about a message (RFC 3461, RFC 3464; SMTP-6, SEC-166 to 171).

One report for each message and settlement, with all recipients that it concerns. No report about a message
with the null sender ever goes to a sender: when such a message fails, the postmaster gets it, once; when that
fails too, it ends with a line in the trail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from outrider.config.schema import Config
from outrider.delivery.results import LOCAL_PROTOCOLS, NO_DSN_PROTOCOLS
from outrider.message.dsn import build_report
from outrider.model.address import Address, AddressError, Domain, parse_address
from outrider.model.content import Content, inline_content
from outrider.model.envelope import BodyType, Envelope, Notify, Recipient, Return
from outrider.model.facts import Fact, Provenance
from outrider.model.message import (
    Event,
    MessageId,
    NewItem,
    NewMessage,
    RecipientState,
    RecipientStatus,
    StoredMessage,
)
from outrider.model.mpc import BOUNCE
from outrider.model.report import DsnRequest, ReportAction, ReportedRecipient
from outrider.model.result import Kind
from outrider.routing.local_users import Deliverable, RecipientTable, ResolvedRecipient
from outrider.routing.routes import RouteTable
from outrider.spool.interface import ContentDamaged

GENERATION = "report.generation"
"""Fact on a report: 1 = about a message, 2 = about a report that failed. There is no 3."""
REPORT_PRIORITY = -1
"""Reports wait behind the mail that they are about: a storm of them must not delay it (SEC-170)."""

NewId = Callable[[float], MessageId]
"""Gives a fresh queue id for the moment."""


@dataclass(frozen=True, slots=True)
class Reporting:
    """What reports depend on; made anew by a reload."""

    hostname: str
    postmaster: Address
    """From of reports, and who gets those that cannot be returned."""
    full_limit: int
    """Octets up to which a failed message is returned whole."""
    tables: RecipientTable
    routes: RouteTable
    new_id: NewId
    utc_offset: Callable[[float], int] = lambda _: 0
    """Minutes east of UTC at a moment."""


def reporting_for(
    config: Config,
    tables: RecipientTable,
    routes: RouteTable,
    new_id: NewId,
    utc_offset: Callable[[float], int] = lambda _: 0,
) -> Reporting:
    """The settings for reports. Raises ValueError naming the key."""
    text = config.delivery.postmaster or f"postmaster@{config.hostname}"
    try:
        postmaster = parse_address(text if "@" in text else f"{text}@{config.hostname}")
    except AddressError as error:
        raise ValueError(f"delivery.postmaster: {text!r}: {error}") from error
    return Reporting(
        config.hostname, postmaster, config.delivery.bounce_full_limit, tables, routes, new_id, utc_offset
    )


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a settlement brings for the recipients of one message."""

    message: StoredMessage
    content: Content
    changed: tuple[RecipientStatus, ...]
    """Recipients whose state became final now, and those whose delay is to be reported now."""
    now: float
    give_up_at: float


@dataclass(frozen=True, slots=True)
class Report:
    """A report to be stored, what the trail says about it, or why there is none."""

    message: NewMessage | None = None
    event: Event | None = None
    withheld: str = ""


NO_REPORT = Report()


def generation_of(message: StoredMessage) -> int:
    """0 for a sender's mail, 1 for a report (ours, or by its null sender another's), 2 = double bounce."""
    for fact in message.facts:
        if fact.name == GENERATION and fact.provenance is Provenance.PROVEN and isinstance(fact.value, int):
            return fact.value
    return 1 if message.envelope.sender is None else 0


def report_on(outcomes: Outcomes, reporting: Reporting) -> Report:
    """The report that the outcomes call for."""
    generation = generation_of(outcomes.message)
    if outcomes.message.envelope.sender is None or generation > 0:
        return _on_failed_report(outcomes, generation, reporting)
    told = _reported(outcomes, _is_wanted)
    if not told:
        return _withheld(outcomes)
    return _made(outcomes, told, outcomes.message.envelope.sender, 1, reporting)


def _withheld(outcomes: Outcomes) -> Report:
    if any(status.state is RecipientState.FAILED for status in outcomes.changed):
        return Report(withheld="the sender asked for no report of failure (NOTIFY)")
    return NO_REPORT


def _on_failed_report(outcomes: Outcomes, generation: int, reporting: Reporting) -> Report:
    failed = _reported(outcomes, lambda _, action: action is ReportAction.FAILED)
    if not failed:
        return NO_REPORT
    if generation >= 2 or _is_to_postmaster(outcomes, reporting):
        # SEC-167: never a third generation.
        why = "a report to the postmaster could not be delivered; it is dropped"
        return Report(event=Event(outcomes.now, "dropped", why), withheld=why)
    return _made(outcomes, failed, reporting.postmaster, 2, reporting)


def _is_to_postmaster(outcomes: Outcomes, reporting: Reporting) -> bool:
    recipients = outcomes.message.envelope.recipients
    return all(
        recipients[status.index].address.key == reporting.postmaster.key for status in outcomes.changed
    )


# --- which recipients -------------------------------------------------------------------------------


def action_for(status: RecipientStatus) -> ReportAction | None:
    """What a report would say of the recipient; None when there is nothing that we should say.

    A next host that took the message and speaks DSN reports itself (RFC 3461 5.2.1); mailboxes and hosts
    without DSN do not.
    """
    match status.state:
        case RecipientState.FAILED:
            return ReportAction.FAILED
        case RecipientState.PENDING:
            return ReportAction.DELAYED
        case RecipientState.DELIVERED | RecipientState.RELAYED:
            return _success_action(status)
        case RecipientState.DROPPED:
            return None


def _success_action(status: RecipientStatus) -> ReportAction | None:
    result = status.last
    if result is None:
        return None
    if result.protocol in LOCAL_PROTOCOLS:
        return ReportAction.DELIVERED
    if result.kind is Kind.RELAYED or result.protocol in NO_DSN_PROTOCOLS:
        return ReportAction.RELAYED
    return None


def _is_wanted(recipient: Recipient, action: ReportAction) -> bool:
    """RFC 3461 4.1: NOTIFY decides; without it a sender hears of failure and delay."""
    if recipient.notify is Notify.UNSPECIFIED:
        return action in (ReportAction.FAILED, ReportAction.DELAYED)
    wanted = {
        ReportAction.FAILED: Notify.FAILURE,
        ReportAction.DELAYED: Notify.DELAY,
    }.get(action, Notify.SUCCESS)
    return bool(recipient.notify & wanted) and not recipient.notify & Notify.NEVER


def wants_delay_report(message: StoredMessage, status: RecipientStatus) -> bool:
    """Whether a delay of this recipient is to be told, once."""
    if message.envelope.sender is None or status.delay_reported or generation_of(message):
        return False
    return _is_wanted(message.envelope.recipients[status.index], ReportAction.DELAYED)


def _reported(
    outcomes: Outcomes, wanted: Callable[[Recipient, ReportAction], bool]
) -> tuple[ReportedRecipient, ...]:
    found: list[ReportedRecipient] = []
    for status in outcomes.changed:
        recipient = outcomes.message.envelope.recipients[status.index]
        action = action_for(status)
        if action is not None and wanted(recipient, action):
            found.append(_reported_recipient(outcomes, recipient, status, action))
    return tuple(found)


def _reported_recipient(
    outcomes: Outcomes, recipient: Recipient, status: RecipientStatus, action: ReportAction
) -> ReportedRecipient:
    result = status.last
    return ReportedRecipient(
        address=recipient.address,
        action=action,
        status=result.status if result else "4.0.0",
        text=result.text if result else "",
        code=result.code if result else 0,
        remote=result.remote if result else "",
        original=recipient.original,
        last_attempt_at=outcomes.now,
        will_retry_until=outcomes.give_up_at if action is ReportAction.DELAYED else 0.0,
    )


# --- the report as a message ------------------------------------------------------------------------


def _made(
    outcomes: Outcomes,
    told: Sequence[ReportedRecipient],
    to: Address,
    generation: int,
    reporting: Reporting,
) -> Report:
    identifier = reporting.new_id(outcomes.now)
    content = inline_content(_written(_request(outcomes, told, to, identifier, reporting)))
    recipients = _final_recipients(to, reporting)
    actions = ", ".join(sorted({one.action.value for one in told}))
    what = f"report ({actions}) on {outcomes.message.id} to {to}"
    message = NewMessage(
        id=identifier,
        received_at=outcomes.now,
        envelope=Envelope(
            None,
            recipients,
            body_type=BodyType.SEVEN_BIT if content.is_ascii else BodyType.EIGHT_BIT,
            smtputf8=not all(one.address.is_ascii for one in recipients) or not to.is_ascii,
            mpc=BOUNCE,  # AMTP-13
        ),
        trace=b"",
        content=content,
        items=_items(recipients, reporting),
        facts=(Fact(GENERATION, generation, Provenance.PROVEN, "made by this server", outcomes.now),),
        events=(Event(outcomes.now, "received", f"made here: {what}"),),
        priority=REPORT_PRIORITY,
    )
    return Report(message, Event(outcomes.now, "report", f"{what} is queued as {identifier}"))


def _written(request: DsnRequest) -> bytes:
    """The report; of a message whose body turns out damaged it returns the header section only."""
    try:
        return build_report(request)
    except ContentDamaged:
        return build_report(replace(request, return_full=False))


def _request(
    outcomes: Outcomes,
    told: Sequence[ReportedRecipient],
    to: Address,
    identifier: MessageId,
    reporting: Reporting,
) -> DsnRequest:
    message = outcomes.message
    return DsnRequest(
        reporting_mta=reporting.hostname,
        report_id=identifier,
        message_id=message.id,
        now=outcomes.now,
        arrived_at=message.received_at,
        sender=to,
        postmaster=reporting.postmaster,
        recipients=tuple(told),
        original=outcomes.content,
        trace=message.trace,
        return_full=_returns_full(outcomes, told, reporting),
        envelope_id=message.envelope.envelope_id,
        utc_offset=reporting.utc_offset(outcomes.now),
    )


def _returns_full(outcomes: Outcomes, told: Sequence[ReportedRecipient], reporting: Reporting) -> bool:
    """RFC 3461 4.3: RET counts for failures only; whole messages only up to a size (SEC-170)."""
    failure = any(one.action is ReportAction.FAILED for one in told)
    headers_only = outcomes.message.envelope.ret is Return.HEADERS
    return failure and not headers_only and outcomes.content.size <= reporting.full_limit


def _final_recipients(to: Address, reporting: Reporting) -> tuple[Recipient, ...]:
    """Aliases are followed here as at RCPT. An address that leads nowhere stays: its delivery fails, and the
    postmaster learns of it."""
    resolution = reporting.tables.resolve(to)
    if isinstance(resolution, Deliverable):
        found: tuple[ResolvedRecipient, ...] = resolution.recipients
        return tuple(Recipient(one.address, Notify.NEVER) for one in found)
    if to == reporting.postmaster and to.local.casefold() == "postmaster":
        own = reporting.tables.resolve(Address("postmaster", Domain("")))
        if isinstance(own, Deliverable):
            return tuple(Recipient(one.address, Notify.NEVER) for one in own.recipients)
    return (Recipient(to, Notify.NEVER),)


def _items(recipients: Sequence[Recipient], reporting: Reporting) -> tuple[NewItem, ...]:
    by_lane: dict[str, list[int]] = {}
    for index, recipient in enumerate(recipients):
        by_lane.setdefault(reporting.routes.find(recipient).lane, []).append(index)
    return tuple(NewItem(lane, tuple(indexes)) for lane, indexes in by_lane.items())
