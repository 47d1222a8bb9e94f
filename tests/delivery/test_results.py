"""Classing (SMTP-6) and the sentence."""

from __future__ import annotations

import pytest

from outrider.delivery.results import (
    as_deferred,
    cleaned,
    complete,
    deferred,
    duration,
    expired,
    failed,
    from_reply,
    own_failure,
    said_too_many,
    sentence,
    was_interrupted,
)
from outrider.model.result import DeliveryResult, Kind


@pytest.mark.covers("SMTP-6")
@pytest.mark.parametrize(
    ("code", "status", "kind", "shown"),
    [
        (250, "2.1.5", Kind.DELIVERED, "2.1.5"),
        (251, "", Kind.DELIVERED, "2.0.0"),
        (450, "4.2.0", Kind.DEFERRED, "4.2.0"),
        (451, "", Kind.DEFERRED, "4.0.0"),
        (452, "5.9.9", Kind.DEFERRED, "4.0.0"),
        (550, "5.1.1", Kind.FAILED, "5.1.1"),
        (554, "", Kind.FAILED, "5.0.0"),
        (354, "", Kind.DEFERRED, "4.5.0"),
        (199, "", Kind.DEFERRED, "4.5.0"),
        (999, "", Kind.DEFERRED, "4.5.0"),
    ],
)
def test_replies_are_classed_by_their_first_digit(code: int, status: str, kind: Kind, shown: str) -> None:
    result = from_reply(code, status, "text")
    assert (result.kind, result.status) == (kind, shown)


@pytest.mark.covers("SMTP-6")
def test_a_failure_of_our_own_is_temporary() -> None:
    assert own_failure("delivering").kind is Kind.DEFERRED


def test_a_carrier_that_forgets_a_recipient_has_not_delivered_to_it() -> None:
    good = DeliveryResult(Kind.DELIVERED, "2.0.0", "ok")
    assert complete((0, 1), {0: good})[1].kind is Kind.DEFERRED


@pytest.mark.covers("TLS-4a")
def test_an_unmet_requirement_waits_whatever_its_status_said() -> None:
    waits = as_deferred(failed("5.7.5", "no TLS"))
    assert (waits.kind, waits.status) == (Kind.DEFERRED, "4.7.5")


@pytest.mark.covers("SMTP-6")
def test_expiry_keeps_the_last_words() -> None:
    result = expired(deferred("4.4.1", "connection refused"), 5 * 86_400)
    assert (result.kind, result.status) == (Kind.FAILED, "4.4.7")
    assert result.text == "delivery time expired after 5 days; last: connection refused"


@pytest.mark.covers("SEC-171")
def test_a_remote_text_becomes_one_bounded_printable_line() -> None:
    assert cleaned("a\r\nSubject: x\x00\x1b[31m  b") == "a Subject: x??[31m b"
    assert len(cleaned("x" * 1_000_000)) == 1024


def test_what_counts_as_interrupted_and_as_too_many() -> None:
    lost = deferred("4.4.2", "connection lost")
    assert was_interrupted([lost, DeliveryResult(Kind.DEFERRED, "4.3.2", "bye", 421)])
    assert not was_interrupted([lost, DeliveryResult(Kind.DEFERRED, "4.2.0", "later", 450)])
    assert said_too_many(DeliveryResult(Kind.DEFERRED, "4.5.3", "too many", 452))
    assert not said_too_many(DeliveryResult(Kind.DEFERRED, "4.3.1", "disk full", 452))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            DeliveryResult(Kind.DELIVERED, "2.0.0", "ok", 250, "mx [1.2.3.4]:25", "smtp", "TLSv1.3 X"),
            "delivered by smtp to mx [1.2.3.4]:25 (TLSv1.3 X): 250 2.0.0 ok",
        ),
        (failed("5.1.1", "no mailbox", protocol="maildir"), "failed by maildir: 5.1.1 no mailbox"),
        (deferred("4.4.3", "no DNS"), "deferred: 4.4.3 no DNS"),
        (
            DeliveryResult(Kind.FAILED, "5.7.1", "go away", 550, "mx [1.2.3.4]:25", "smtp"),
            "failed by smtp at mx [1.2.3.4]:25: 550 5.7.1 go away",
        ),
    ],
)
def test_the_sentence(result: DeliveryResult, text: str) -> None:
    assert sentence(result) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 seconds"), (60, "1 minute"), (7200, "2 hours"), (86_400, "1 day"), (432_000, "5 days")],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
