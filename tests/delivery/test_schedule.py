"""The schedule, by equality."""

from __future__ import annotations

import pytest

from outrider.config.schema import Delivery
from outrider.delivery.schedule import Schedule, schedule_for, wait_after

WAITS = (60.0, 300.0, 900.0)


@pytest.mark.covers("SMTP-6", "SEC-174")
@pytest.mark.parametrize(
    ("attempts", "chance", "wait"),
    [
        (1, 0.5, 60.0),
        (1, 0.0, 48.0),
        (1, 0.75, 66.0),
        (2, 0.5, 300.0),
        (3, 0.5, 900.0),
        (4, 0.5, 900.0),
        (400, 0.0, 720.0),
        (0, 0.5, 60.0),
    ],
)
def test_waits_grow_repeat_the_last_and_are_varied(attempts: int, chance: float, wait: float) -> None:
    assert wait_after(WAITS, attempts, 0.2, chance) == pytest.approx(wait)


@pytest.mark.covers("SMTP-6")
def test_the_last_attempt_falls_on_the_deadline() -> None:
    plan = schedule_for(
        Delivery(retry=WAITS, jitter=0.0, max_age=5000.0), received_at=100.0, hold_until=0.0, is_bounce=False
    )
    assert plan.next_attempt(3, 1000.0, 0.5) == 1900.0
    assert plan.next_attempt(3, 4900.0, 0.5) == 5100.0
    assert not plan.is_expired(5099.0)
    assert plan.is_expired(5100.0)
    assert plan.next_attempt(3, 5100.0, 0.5) == 5101.0, "never in the past"


@pytest.mark.covers("SMTP-6")
def test_bounces_have_an_age_of_their_own_and_held_mail_begins_later() -> None:
    settings = Delivery(max_age=5000.0, bounce_max_age=2000.0, delay_warning=1000.0)
    bounce = schedule_for(settings, received_at=100.0, hold_until=0.0, is_bounce=True)
    assert bounce.deadline == 2100.0
    future = schedule_for(settings, received_at=100.0, hold_until=9000.0, is_bounce=False)
    assert (future.deadline, future.warn_at) == (14_000.0, 10_000.0)
    assert not future.warning_due(9999.0)
    assert future.warning_due(10_000.0)


def test_no_warning_where_none_is_wanted() -> None:
    settings = Delivery(delay_warning=0.0)
    plan = schedule_for(settings, received_at=0.0, hold_until=0.0, is_bounce=False)
    assert not plan.warning_due(1e12)


@pytest.mark.covers("AMDP-23")
def test_a_schedule_that_is_ended_by_its_maker_never_expires() -> None:
    plan = Schedule((60.0, 600.0), 0.0, 1000.0, 0.0, gives_up=False)
    assert plan.next_attempt(5, 700.0, 0.5) == 1000.0, "the last one falls on the deadline"
    assert not plan.is_expired(1e9)
    assert plan.next_attempt(5, 1000.0, 0.5) == 1600.0, "and then it is no loop"
