"""What may be announced under a policy: the conformance vectors; sender and receiver agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.amdp.examples import classes
from tests.protocols.amdp.test_report import reports
from tests.protocols.amdp.vectors import vectors

from outrider.protocols.amdp.mail_class import MailClass, parse_class
from outrider.protocols.amdp.report import HourRange, PolicyReport, write_report
from outrider.protocols.amdp.report_reader import parse_report
from outrider.protocols.amdp.terms import Asked, NotNow, Refused, Taken, judge

CASES = vectors("terms")
MIDNIGHT = 1_700_006_400
"""Wednesday 2023-11-15, UTC."""
LETTER = parse_class("Direct::Personal::letter")


def at(clock: str) -> float:
    hours, minutes, seconds = (int(one) for one in clock.split(":"))
    return float(MIDNIGHT + hours * 3600 + minutes * 60 + seconds)


@pytest.mark.covers("AMDP-3", "AMDP-11", "AMDP-17")
@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_judgements(case: Any) -> None:
    judged_as_written(CASES["policy"], case)


@pytest.mark.covers("AMDP-18", "AMDP-20", "ITP-4c")
@pytest.mark.parametrize("case", CASES["unvouched"]["cases"], ids=lambda case: case["name"])
def test_a_class_that_is_merely_claimed_saves_no_postage(case: Any) -> None:
    judged_as_written(CASES["unvouched"]["policy"], case)


def judged_as_written(policy: str, case: Any) -> None:
    """A vector, and what is to come of it."""
    report = parse_report(policy.encode(), "beta.example")
    asked = Asked(
        parse_class(case["class"]), case.get("size", 1), at(case.get("clock", "12:00:00")),
        paid=case.get("paid", 0), recent=case.get("recent", 0), known=case.get("known", False),
        vouched=case.get("vouched", False),
    )  # fmt: skip
    judgement = judge(report, asked)
    if "taken" in case:
        assert judgement == Taken(**case["taken"])
    elif "refused" in case:
        assert judgement == Refused(**case["refused"])
    else:
        assert isinstance(judgement, NotNow)
        assert {"rule": judgement.rule, "seconds": judgement.seconds} == case["not_now"]
        assert judgement.words


@pytest.mark.covers("ITP-4c", "AMDP-3")
@settings(max_examples=300, deadline=None)
@given(
    reports(), classes, st.integers(0, 10**12), st.integers(0, 4_000_000_000), st.integers(0, 10**12),
    st.integers(0, 3), st.booleans(), st.booleans(),
)  # fmt: skip
def test_who_reads_the_announcement_comes_to_the_verdict_of_who_wrote_it(
    report: PolicyReport,
    mail_class: MailClass,
    size: int,
    now: int,
    paid: int,
    recent: int,
    vouched: bool,
    known: bool,
) -> None:
    asked = Asked(mail_class, size, float(now), paid, recent, vouched, known)
    read = parse_report(write_report(report).encode(), "beta.example")
    judgement = judge(read, asked)
    assert judgement == judge(report, asked)
    assert judge(report, replace(asked, size=10**15)).__class__ is judgement.__class__
    if isinstance(judgement, NotNow):
        later = replace(asked, now=now + judgement.seconds, recent=0)
        assert isinstance(judge(report, later), Taken)


@pytest.mark.covers("AMDP-3")
@pytest.mark.parametrize(
    ("first", "last", "clock", "wait"),
    [
        (22 * 60, 6 * 60, "23:00:00", 0),
        (22 * 60, 6 * 60, "05:59:59", 0),
        (22 * 60, 6 * 60, "06:00:00", 16 * 3600),
        (0, 1440, "23:59:59", 0),
        (600, 600, "00:00:00", 0),
        (1439, 1440, "23:58:59", 1),
    ],
)
def test_hours(first: int, last: int, clock: str, wait: int) -> None:
    report = replace(parse_report(b""), unsolicited_hours=(HourRange(first, last),))
    judgement = judge(report, Asked(parse_class("Agent::Commerce::offer"), 1, at(clock)))
    assert isinstance(judgement, NotNow) is bool(wait)
    if isinstance(judgement, NotNow):
        assert judgement.seconds == wait


@pytest.mark.covers("AMDP-3")
def test_the_soonest_of_several_ranges() -> None:
    report = parse_report(b"UNSOLICITED_MAIL_HOURS 0100-0200, 2000-2100\n")
    judgement = judge(report, Asked(parse_class("Agent::Bulk::news"), 1, at("19:00:00")))
    assert isinstance(judgement, NotNow)
    assert judgement.seconds == 3600


@pytest.mark.covers("AMDP-16")
def test_whoever_is_too_fast_is_told_when_to_come() -> None:
    report = parse_report(b"MSG-PER-MIN 1\nACCEPT-NEXT-IN 15\n")
    judgement = judge(report, Asked(LETTER, 1, 0.0, recent=1))
    assert judgement == NotNow("MSG-PER-MIN 1", "more than 1 envelopes a minute; next in 900 seconds", 900.0)


@pytest.mark.covers("AMDP-11")
def test_no_policy_takes_everything_and_promises_nothing() -> None:
    assert judge(parse_report(b""), Asked(LETTER, 1, 0.0)) == Taken(0, False, "")


@pytest.mark.covers("AMDP-16")
def test_a_line_that_is_not_understood_does_not_open_the_door() -> None:
    report = parse_report(b"ACCEPT-CLASS * 0.00001\n")
    assert isinstance(judge(report, Asked(LETTER, 1, 0.0, paid=10**12)), Refused)


@pytest.mark.covers("AMDP-20")
def test_a_price_that_is_not_asked_for() -> None:
    report = parse_report(b"ACCEPT-CLASS * 1\nPAY NO\n")
    assert judge(report, Asked(LETTER, 1, 0.0)) == Taken(0, False, "ACCEPT-CLASS * 1.000")
