"""When to try again, when to give up, when to tell the sender that it takes long (SMTP-6, SEC-174)."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.config.schema import Delivery


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times for one message: all moments in seconds since the epoch."""

    waits: tuple[float, ...]
    """Before the second attempt, the third, ...; the last repeats. At least one."""
    jitter: float
    """Share of each wait that chance may add or take: retries of one moment do not stay together."""
    deadline: float
    """When what is still pending is returned."""
    warn_at: float
    """From when on the sender is told of the delay; 0 = never."""
    gives_up: bool = True
    """False: who made this schedule ends it himself, at the deadline or soon after."""

    def next_attempt(self, attempts: int, now: float, chance: float) -> float:
        """The moment of the next attempt after `attempts` of them; `chance` is in [0, 1).

        The last one falls on the deadline itself, so that no message is given up long after its last try.
        """
        wait = wait_after(self.waits, attempts, self.jitter, chance)
        if now >= self.deadline and not self.gives_up:
            return now + max(1.0, wait)
        return max(now + 1.0, min(now + wait, self.deadline))

    def is_expired(self, now: float) -> bool:
        """Whether an attempt that ends now was the last."""
        return self.gives_up and now >= self.deadline

    def warning_due(self, now: float) -> bool:
        """Whether a delay is to be reported (once for each recipient)."""
        return 0 < self.warn_at <= now


def wait_after(waits: tuple[float, ...], attempts: int, jitter: float, chance: float) -> float:
    """Seconds to wait after the given number of failed attempts."""
    base = waits[min(max(attempts, 1), len(waits)) - 1]
    return base * (1 + jitter * (2 * chance - 1))


def schedule_for(settings: Delivery, *, received_at: float, hold_until: float, is_bounce: bool) -> Schedule:
    """The schedule of one message. FUTURERELEASE moves the start: waiting as asked is no delay."""
    start = max(received_at, hold_until)
    age = settings.bounce_max_age if is_bounce else settings.max_age
    return Schedule(
        waits=settings.retry or (3600.0,),
        jitter=settings.jitter,
        deadline=start + age,
        warn_at=start + settings.delay_warning if settings.delay_warning else 0.0,
    )
