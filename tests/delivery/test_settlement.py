"""What an attempt leaves behind: states, next attempt, trail, and who is told (the DSN matrix)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from outrider.config.schema import Config, Delivery, Domain
from outrider.delivery.reports import GENERATION, Reporting, reporting_for
from outrider.delivery.results import deferred, failed
from outrider.delivery.schedule import Schedule
from outrider.delivery.settlement import Attempt, Settled, put_off, settle
from outrider.model.address import parse_address
from outrider.model.envelope import Notify, Return
from outrider.model.facts import Fact, Provenance
from outrider.model.message import MessageId, NewMessage, RecipientState, RecipientStatus
from outrider.model.mpc import parse_mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_tables import load_tables
from outrider.routing.routes import RouteTable
from tests.delivery.support import CONTENT, START, leased, new_message

SETTINGS = Delivery(retry=(60.0, 300.0), jitter=0.0, max_age=86_400.0, delay_warning=3600.0)
DAY, HOUR = 86_400.0, 3600.0


def reporting(**delivery: Any) -> Reporting:
    config = Config(
        hostname="mx.alpha.example",
        data_dir="/nonexistent",
        domains={
            "alpha.example": Domain(
                deliver="discard:", users=("ann", "postmaster"), aliases={"info": ("ann", "x@b.example")}
            )
        },
        delivery=Delivery(**{"postmaster": "postmaster@alpha.example", **delivery}),
    )
    counter = itertools.count(1)
    tables = load_tables(config, lambda path: "")
    return reporting_for(config, tables, RouteTable(config), lambda _: MessageId(f"report{next(counter)}"))


def by(kind: Kind, protocol: str, status: str = "2.0.0") -> DeliveryResult:
    return DeliveryResult(kind, status, "text", 250, "mx.b.example [192.0.2.1]:25", protocol)


DELIVERED_HERE = by(Kind.DELIVERED, "maildir")
DELIVERED_BY_LMTP = by(Kind.DELIVERED, "lmtp")
TAKEN_BY_DSN_HOST = by(Kind.DELIVERED, "smtp")
TAKEN_BY_PLAIN_HOST = by(Kind.RELAYED, "smtp")
TAKEN_BY_QMTP = by(Kind.DELIVERED, "qmtp")
FAILED = failed("5.1.1", "no such user")
WAITS = deferred("4.4.1", "connection refused")


def after(
    message: NewMessage, results: dict[int, DeliveryResult], *, later: float = 1.0, **options: Any
) -> Settled:
    attempt = Attempt(
        leased(message, attempts=options.pop("attempts", 0)), results, message.received_at + later
    )
    return settle(attempt, SETTINGS, options.pop("reporting", None) or reporting(), 0.5, **options)


def actions(settled: Settled) -> list[str]:
    """The Action fields of the report, in order; [] for no report."""
    if settled.report.message is None:
        return []
    content = b"".join(settled.report.message.content.chunks())
    return [line[8:].decode() for line in content.split(b"\r\n") if line.startswith(b"Action: ")]


# --- states -----------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-6", "SEC-174")
def test_every_recipient_has_a_state_of_its_own() -> None:
    message = new_message("m", "a@b.example", "c@b.example", "d@b.example", "e@b.example")
    settled = after(message, {0: TAKEN_BY_DSN_HOST, 1: FAILED, 2: WAITS, 3: TAKEN_BY_PLAIN_HOST})
    states = [status.state for status in settled.settlement.recipients]
    assert states == [
        RecipientState.DELIVERED,
        RecipientState.FAILED,
        RecipientState.PENDING,
        RecipientState.RELAYED,
    ]
    assert settled.settlement.next_attempt_at == START + 61


@pytest.mark.covers("SEC-174")
def test_a_recipient_that_is_final_is_not_touched_again() -> None:
    message = new_message("m", "a@b.example", "c@b.example")
    done = RecipientStatus(0, RecipientState.DELIVERED, 1, TAKEN_BY_DSN_HOST)
    attempt = Attempt(leased(message, done, RecipientStatus(1, attempts=1)), {1: WAITS}, START + 5)
    settled = settle(attempt, SETTINGS, reporting(), 0.5)
    assert settled.settlement.recipients[0] is done
    assert settled.settlement.recipients[1].attempts == 2


@pytest.mark.covers("SMTP-6")
def test_the_trail_has_the_sentence_of_the_log_once_for_all_whom_it_concerns() -> None:
    message = new_message("m", "a@b.example", "c@b.example", "d@b.example")
    settled = after(message, {0: WAITS, 1: WAITS, 2: FAILED})
    told = [(event.kind, event.text, event.recipients) for event in settled.settlement.events]
    assert told[:2] == [
        ("deferred", "deferred: 4.4.1 connection refused", ("a@b.example", "c@b.example")),
        ("failed", "failed: 5.1.1 no such user", ("d@b.example",)),
    ]
    assert [text for _, _, text in settled.told] == [told[0][1], told[0][1], told[1][1]]


@pytest.mark.covers("SMTP-6")
def test_a_message_that_has_waited_its_lifetime_is_returned() -> None:
    settled = after(new_message("m", "a@b.example"), {0: WAITS}, later=DAY)
    status = settled.settlement.recipients[0]
    assert status.state is RecipientState.FAILED
    assert status.last is not None
    assert (status.last.status, status.last.text) == (
        "4.4.7",
        "delivery time expired after 1 day; last: connection refused",
    )
    assert actions(settled) == ["failed"]


@pytest.mark.covers("ITP-7", "SEC-174")
def test_what_was_not_tried_says_why_and_counts_no_attempt() -> None:
    message = new_message("m", "a@b.example")
    attempt = put_off(leased(message), failed("5.4.1", "backed off"), START + 1)
    settled = settle(attempt, SETTINGS, reporting(), 0.5, not_before=START + 500)
    status = settled.settlement.recipients[0]
    assert (status.state, status.attempts) == (RecipientState.PENDING, 0)
    assert status.last is not None
    assert (status.last.kind, status.last.text) == (Kind.DEFERRED, "backed off")
    assert not settled.settlement.count_attempt
    assert settled.settlement.next_attempt_at == START + 500


# --- who is told: NOTIFY by result ------------------------------------------------------------------

N = Notify
MATRIX: list[tuple[Notify, DeliveryResult, list[str]]] = [
    (N.UNSPECIFIED, FAILED, ["failed"]),
    (N.UNSPECIFIED, WAITS, ["delayed"]),
    (N.UNSPECIFIED, DELIVERED_HERE, []),
    (N.UNSPECIFIED, TAKEN_BY_PLAIN_HOST, []),
    (N.NEVER, FAILED, []),
    (N.NEVER, WAITS, []),
    (N.NEVER, DELIVERED_HERE, []),
    (N.FAILURE, FAILED, ["failed"]),
    (N.FAILURE, WAITS, []),
    (N.FAILURE, DELIVERED_HERE, []),
    (N.DELAY, FAILED, []),
    (N.DELAY, WAITS, ["delayed"]),
    (N.SUCCESS, FAILED, []),
    (N.SUCCESS, WAITS, []),
    (N.SUCCESS, DELIVERED_HERE, ["delivered"]),
    (N.SUCCESS, DELIVERED_BY_LMTP, ["delivered"]),
    (N.SUCCESS, TAKEN_BY_PLAIN_HOST, ["relayed"]),
    (N.SUCCESS, TAKEN_BY_QMTP, ["relayed"]),
    (N.SUCCESS, TAKEN_BY_DSN_HOST, []),  # the next host reports
    (N.SUCCESS | N.FAILURE | N.DELAY, FAILED, ["failed"]),
    (N.SUCCESS | N.FAILURE | N.DELAY, WAITS, ["delayed"]),
    (N.SUCCESS | N.FAILURE | N.DELAY, DELIVERED_HERE, ["delivered"]),
]


@pytest.mark.covers("SMTP-6", "SMTP-2a")
@pytest.mark.parametrize(("notify", "result", "told"), MATRIX)
def test_notify_decides_who_is_told(notify: Notify, result: DeliveryResult, told: list[str]) -> None:
    settled = after(new_message("m", "a@b.example", notify=notify), {0: result}, later=2 * HOUR)
    assert actions(settled) == told


@pytest.mark.covers("SMTP-6", "SEC-167")
@pytest.mark.parametrize(("notify", "result", "told"), MATRIX)
def test_a_null_sender_is_never_told_anything(
    notify: Notify, result: DeliveryResult, told: list[str]
) -> None:
    settled = after(new_message("m", "a@b.example", notify=notify, sender=None), {0: result}, later=2 * HOUR)
    report = settled.report.message
    if result is FAILED:
        assert report is not None, "a double bounce"
        assert [str(one.address) for one in report.envelope.recipients] == ["postmaster@alpha.example"]
    else:
        assert report is None


@pytest.mark.covers("SMTP-6")
def test_a_delay_is_told_late_and_once() -> None:
    message = new_message("m", "a@b.example")
    early = after(message, {0: WAITS}, later=HOUR - 1)
    assert actions(early) == []
    late = after(message, {0: WAITS}, later=HOUR)
    assert actions(late) == ["delayed"]
    status = late.settlement.recipients[0]
    assert status.delay_reported
    again = settle(Attempt(leased(message, status), {0: WAITS}, START + 2 * HOUR), SETTINGS, reporting(), 0.5)
    assert actions(again) == []
    assert again.settlement.recipients[0].delay_reported


@pytest.mark.covers("SEC-170")
def test_one_report_for_a_thousand_recipients() -> None:
    addresses = [f"u{n}@b.example" for n in range(1000)]
    message = new_message("m", *addresses, notify=N.SUCCESS | N.FAILURE | N.DELAY)
    results = {n: (FAILED, DELIVERED_HERE)[n % 2] for n in range(1000)}
    settled = after(message, results)
    assert len(settled.settlement.new_messages) == 1
    assert len(actions(settled)) == 1000


@pytest.mark.covers("SMTP-6", "SEC-170")
def test_the_report_is_stored_with_the_settlement_and_has_a_null_sender() -> None:
    settled = after(new_message("m", "a@b.example", envelope_id="QQ314"), {0: FAILED})
    (report,) = settled.settlement.new_messages
    assert report.envelope.sender is None
    assert [(str(one.address), one.notify) for one in report.envelope.recipients] == [
        ("ann@sender.example", Notify.NEVER)
    ]
    assert [(item.destination, item.recipients) for item in report.items] == [("sender.example", (0,))]
    assert report.priority == -1
    text = b"".join(report.content.chunks())
    assert b"Original-Envelope-Id: QQ314\r\n" in text
    assert settled.settlement.events[-1].kind == "report"
    assert report.id in settled.settlement.events[-1].text


@pytest.mark.covers("AMTP-13")
def test_a_report_is_an_autoresponse_whatever_it_reports_on() -> None:
    for code in (None, parse_mpc("com/optin")):
        [report] = after(new_message("m", "a@b.example", mpc=code), {0: FAILED}).settlement.new_messages
        assert report.envelope.mpc == parse_mpc("net/autoresponse")


@pytest.mark.covers("SMTP-6")
def test_a_report_to_a_local_alias_goes_where_the_alias_leads() -> None:
    settled = after(new_message("m", "a@b.example", sender="info@alpha.example"), {0: FAILED})
    report = settled.report.message
    assert report is not None
    assert [str(one.address) for one in report.envelope.recipients] == ["ann@alpha.example", "x@b.example"]
    assert [item.destination for item in report.items] == ["alpha.example", "b.example"]


@pytest.mark.covers("SEC-170", "SMTP-2a")
@pytest.mark.parametrize(
    ("ret", "limit", "result", "whole"),
    [
        (Return.UNSPECIFIED, 10_000, FAILED, True),
        (Return.FULL, 10_000, FAILED, True),
        (Return.HEADERS, 10_000, FAILED, False),
        (Return.FULL, len(CONTENT) - 1, FAILED, False),
        (Return.UNSPECIFIED, len(CONTENT) - 1, FAILED, False),
        (Return.FULL, 10_000, WAITS, False),
    ],
)
def test_how_much_of_the_message_comes_back(
    ret: Return, limit: int, result: DeliveryResult, whole: bool
) -> None:
    message = new_message("m", "a@b.example", ret=ret)
    settled = after(message, {0: result}, later=2 * HOUR, reporting=reporting(bounce_full_limit=limit))
    report = settled.report.message
    assert report is not None
    text = b"".join(report.content.chunks())
    assert (b"line one" in text) is whole
    assert b"Message-ID: <1@alpha.example>" in text


# --- generations (SEC-167) --------------------------------------------------------------------------


def report_message(generation: int, *addresses: str) -> NewMessage:
    message = new_message("r", *addresses, sender=None, notify=Notify.NEVER)
    fact = Fact(GENERATION, generation, Provenance.PROVEN, "made by this server")
    return NewMessage(
        message.id, message.received_at, message.envelope, b"", message.content, message.items, (fact,)
    )


@pytest.mark.covers("SMTP-6", "SEC-167")
def test_a_bounce_that_fails_goes_to_postmaster_once_and_then_ends() -> None:
    first = after(new_message("m", "a@b.example"), {0: FAILED}).report.message
    assert first is not None
    second = after(first, {0: FAILED}).report.message
    assert second is not None
    assert second.envelope.sender is None
    assert [str(one.address) for one in second.envelope.recipients] == ["postmaster@alpha.example"]
    third = after(second, {0: FAILED})
    assert third.report.message is None
    assert third.settlement.events[-1].kind == "dropped"
    assert third.report.withheld


@pytest.mark.covers("SEC-167")
def test_the_generation_does_not_hang_on_the_address() -> None:
    """Postmaster may be an alias: what counts is the fact that we stored."""
    settled = after(report_message(2, "boss@elsewhere.example"), {0: FAILED})
    assert settled.report.message is None


@pytest.mark.covers("SEC-167")
def test_a_foreign_bounce_to_our_postmaster_that_fails_makes_nothing() -> None:
    settled = after(new_message("m", "postmaster@alpha.example", sender=None), {0: FAILED})
    assert settled.report.message is None
    assert settled.report.withheld


@pytest.mark.covers("SEC-167")
def test_a_claimed_generation_is_not_believed() -> None:
    message = new_message("m", "a@b.example")
    forged = NewMessage(
        message.id,
        message.received_at,
        message.envelope,
        b"",
        message.content,
        message.items,
        (Fact(GENERATION, 2, Provenance.CLAIMED),),
    )
    assert actions(after(forged, {0: FAILED})) == ["failed"]


def test_a_postmaster_outside_the_domains_is_found_through_the_bare_one() -> None:
    config = Config(
        hostname="mx.alpha.example",
        data_dir="/x",
        domains={"alpha.example": Domain(deliver="discard:", users=("ann",))},
    )
    tables = load_tables(config, lambda path: "")
    settings = reporting_for(config, tables, RouteTable(config), lambda _: MessageId("r"))
    assert settings.postmaster == parse_address("postmaster@mx.alpha.example")
    settled = after(report_message(1, "x@b.example"), {0: FAILED}, reporting=settings)
    report = settled.report.message
    assert report is not None
    assert [str(one.address) for one in report.envelope.recipients] == ["postmaster@alpha.example"]


# --- AMDP: told to nobody ---------------------------------------------------------------------------


@pytest.mark.covers("AMDP-10")
def test_what_is_dropped_is_final_and_told_to_nobody() -> None:
    message = new_message("m", "a@b.example", notify=Notify.SUCCESS | Notify.FAILURE)
    settled = after(message, {0: DeliveryResult(Kind.DROPPED, "2.7.1", "not genuine", protocol="amdp")})
    [status] = settled.settlement.recipients
    assert status.state is RecipientState.DROPPED
    assert settled.report.message is None
    assert settled.settlement.next_attempt_at == 0.0
    assert settled.settlement.events[-1].text == "dropped by amdp: 2.7.1 not genuine"


@pytest.mark.covers("AMDP-10", "AMDP-23")
def test_a_schedule_of_the_transports_own_holds_beyond_the_age_of_mail() -> None:
    message = new_message("m", "a@b.example")
    schedule = Schedule((30.0, 120.0), 0.0, START + 10 * DAY, 0.0, gives_up=False)
    attempt = Attempt(leased(message, attempts=1), {0: WAITS}, START + 5 * DAY, schedule=schedule)
    settled = settle(attempt, SETTINGS, reporting(), 0.5)
    [status] = settled.settlement.recipients
    assert status.state is RecipientState.PENDING
    assert settled.settlement.next_attempt_at == START + 5 * DAY + 120
    assert settled.report.message is None, "no word of a delay either"
