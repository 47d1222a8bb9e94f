"""When a session is too slow or too silent (MT2-12): a clock of its own, asked by the core."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from outrider.protocols.mt2.events import Limits


class Alarm(Enum):
    """What has come to pass."""

    SILENCE = auto()
    """Ask whether the other side is there."""
    NO_LIFE = auto()
    """It did not say so."""
    SLOW_FRAME = auto()
    SLOW_DATA = auto()
    NO_ANSWER = auto()


@dataclass(slots=True)
class _Mark:
    """Where data stood when we last looked."""

    at: float
    octets: int
    due: int


class Timers:
    """All times are the driver's clock; the core tells what happens, and asks `deadline` and `alarm`."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.heard_at = now
        """When octets came last."""
        self.answered_at = now
        """When a request of ours was answered last, or was made while none was outstanding."""
        self._noop_at: float | None = None
        self._frame_at: float | None = None
        self._mark: _Mark | None = None
        self._paused = False

    def heard(self, now: float, *, inside_line: bool) -> None:
        """Octets have come and were read."""
        self.heard_at = now
        self._noop_at = None
        if not inside_line:
            self._frame_at = None
        elif self._frame_at is None:
            self._frame_at = now

    def asked_for_life(self, now: float) -> None:
        """A NOOP went out."""
        self._noop_at = now

    @property
    def watches_data(self) -> bool:
        """Whether the rate is watched already."""
        return self._mark is not None

    def data_due(self, now: float, octets: int, due: int) -> None:
        """Data is due: the rate is watched from now on, unless it is already."""
        if self._mark is None and due:
            self._mark = _Mark(now, octets, due)

    def pause(self) -> None:
        """We do not read: nothing is asked of the other side."""
        self._paused = True

    def resume(self, now: float) -> None:
        """We read again: all clocks begin anew."""
        self._paused = False
        self.heard_at = self.answered_at = now
        self._noop_at = None
        if self._frame_at is not None:
            self._frame_at = now
        if self._mark is not None:
            self._mark.at = now

    def deadline(self, *, outstanding: bool) -> float | None:
        """When to ask `alarm`."""
        if self._paused:
            return None
        limits = self._limits
        times = [
            self._noop_at + limits.noop_s if self._noop_at is not None else self.heard_at + limits.idle_s
        ]
        if self._frame_at is not None:
            times.append(self._frame_at + limits.frame_s)
        if self._mark is not None:
            times.append(self._mark.at + limits.rate_s)
        if outstanding:
            times.append(self.answered_at + limits.answer_s)
        return min(times)

    def alarm(self, now: float, octets: int, due: int, *, outstanding: bool) -> Alarm | None:
        """What has come to pass at `now`, the worst first; None for nothing."""
        limits = self._limits
        if self._paused:
            return None
        if self._frame_at is not None and now >= self._frame_at + limits.frame_s:
            return Alarm.SLOW_FRAME
        if self._is_slow(now, octets, due):
            return Alarm.SLOW_DATA
        if outstanding and now >= self.answered_at + limits.answer_s:
            return Alarm.NO_ANSWER
        if self._noop_at is not None:
            return Alarm.NO_LIFE if now >= self._noop_at + limits.noop_s else None
        return Alarm.SILENCE if now >= self.heard_at + limits.idle_s else None

    def _is_slow(self, now: float, octets: int, due: int) -> bool:
        """Since the last look, less has come than the floor asks, and less than what was due then."""
        mark = self._mark
        if mark is None or now < mark.at + self._limits.rate_s:
            return False
        floor = self._limits.slowest_rate * self._limits.rate_s
        if octets - mark.octets < min(floor, mark.due):
            return True
        self._mark = _Mark(now, octets, due) if due else None
        return False
