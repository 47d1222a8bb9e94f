"""From an attempt's results to what the spool remembers: states, next attempt, trail and report (SMTP-6).

Pure: the moment, chance and ids come from the caller. The spool stores a settlement and the report that it
causes together or not at all; after a crash between the remote's 250 and that moment the attempt is made
again, with the same message, which is the one duplicate that may be (FAULT-F10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outrider.config.schema import Delivery
from outrider.delivery.reports import NO_REPORT, Outcomes, Report, Reporting, report_on, wants_delay_report
from outrider.delivery.results import as_deferred, expired, sentence
from outrider.delivery.schedule import Schedule, schedule_for
from outrider.model.content import Content, inline_content
from outrider.model.message import Event, Leased, NewMessage, RecipientState, RecipientStatus, Settlement
from outrider.model.result import DeliveryResult, Kind

STATES = {
    Kind.DELIVERED: RecipientState.DELIVERED,
    Kind.RELAYED: RecipientState.RELAYED,
    Kind.DEFERRED: RecipientState.PENDING,
    Kind.FAILED: RecipientState.FAILED,
    Kind.DROPPED: RecipientState.DROPPED,
}
NO_CONTENT = inline_content(b"")


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has ended."""

    leased: Leased
    results: Mapping[int, DeliveryResult]
    """By position in the envelope; a recipient without one stays as it was."""
    now: float
    notes: Sequence[str] = ()
    """What was met on the way."""
    counts: bool = True
    """False when nothing was tried (back-off of the way, a word of the operator)."""
    made: Sequence[NewMessage] = ()
    """Messages that the attempt made of this one (`interface.Expansion`)."""
    schedule: Schedule | None = None
    """By which what is deferred is tried again; None = by [delivery]'s."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The settlement, and what is worth telling an observer."""

    settlement: Settlement
    told: tuple[tuple[str, DeliveryResult, str], ...]
    """(recipient, result, sentence) for each that has a new result."""
    report: Report


def schedule_of(leased: Leased, settings: Delivery) -> Schedule:
    """The schedule of a leased message."""
    message = leased.message
    return schedule_for(
        settings,
        received_at=message.received_at,
        hold_until=message.envelope.hold_until,
        is_bounce=message.envelope.sender is None,
    )


def settle(
    attempt: Attempt, settings: Delivery, reporting: Reporting, chance: float, *, not_before: float = 0.0
) -> Settled:
    """What becomes of the item. `not_before` is when its way is open again, if it is backed off."""
    schedule = attempt.schedule or schedule_of(attempt.leased, settings)
    before = attempt.leased.item
    after = tuple(_after(status, attempt, schedule) for status in before.recipients)
    changed = tuple(new for old, new in zip(before.recipients, after, strict=True) if _is_news(old, new))
    report = _report(attempt, schedule, changed, reporting)
    told = _told(attempt, after)
    attempts = before.attempts + (1 if attempt.counts else 0)
    pending = any(not status.state.is_final for status in after)
    events = (*_events(attempt, told), *((report.event,) if report.event else ()))
    settlement = Settlement(
        key=before.key,
        lease=before.lease,
        recipients=after,
        next_attempt_at=max(not_before, schedule.next_attempt(attempts, attempt.now, chance))
        if pending
        else 0.0,
        events=events,
        new_messages=(*attempt.made, *((report.message,) if report.message else ())),
        count_attempt=attempt.counts,
        at=attempt.now,
    )
    return Settled(settlement, told, report)


def _after(status: RecipientStatus, attempt: Attempt, schedule: Schedule) -> RecipientStatus:
    """One recipient after the attempt."""
    result = attempt.results.get(status.index)
    if status.state.is_final or result is None:
        return status
    if result.kind is Kind.DEFERRED and schedule.is_expired(attempt.now):
        result = expired(result, attempt.now - attempt.leased.message.received_at)
    delayed = (
        result.kind is Kind.DEFERRED
        and schedule.warning_due(attempt.now)
        and wants_delay_report(attempt.leased.message, status)
    )
    return RecipientStatus(
        status.index,
        STATES[result.kind],
        status.attempts + (1 if attempt.counts else 0),
        result,
        status.delay_reported or delayed,
    )


def _is_news(old: RecipientStatus, new: RecipientStatus) -> bool:
    """Whether a report may have to speak of it: it ended, or its delay is to be told now."""
    return old.state is not new.state or old.delay_reported is not new.delay_reported


def _report(
    attempt: Attempt, schedule: Schedule, changed: tuple[RecipientStatus, ...], reporting: Reporting
) -> Report:
    if not changed:
        return NO_REPORT
    message = attempt.leased.message
    content: Content = message.content or NO_CONTENT
    return report_on(Outcomes(message, content, changed, attempt.now, schedule.deadline), reporting)


def _told(attempt: Attempt, after: Sequence[RecipientStatus]) -> tuple[tuple[str, DeliveryResult, str], ...]:
    recipients = attempt.leased.message.envelope.recipients
    return tuple(
        (str(recipients[status.index].address), status.last, sentence(status.last))
        for status in after
        if status.index in attempt.results and status.last is not None
    )


def _events(attempt: Attempt, told: Sequence[tuple[str, DeliveryResult, str]]) -> tuple[Event, ...]:
    """One event for all recipients of whom the same is to be said, in the words of the log."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for address, result, text in told:
        grouped.setdefault((result.kind.value, text), []).append(address)
    results = (
        Event(attempt.now, kind, text, tuple(addresses)) for (kind, text), addresses in grouped.items()
    )
    return (*(Event(attempt.now, "attempt", note) for note in attempt.notes), *results)


def put_off(leased: Leased, reason: DeliveryResult, now: float) -> Attempt:
    """An attempt that was not made: every pending recipient is told why it waits (the way is backed off)."""
    waiting = [status.index for status in leased.item.recipients if not status.state.is_final]
    return Attempt(leased, dict.fromkeys(waiting, as_deferred(reason)), now, counts=False)
