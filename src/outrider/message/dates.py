"""Dates as messages bear them (RFC 5322 section 3.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LATEST = 253_402_300_799  # the end of the year 9999, the last that the syntax knows


def format_date(moment: float, utc_offset: int = 0) -> str:
    """``Sat, 22 Nov 2025 01:02:03 +0100``: `moment` in seconds since the epoch, offset in minutes east."""
    return _format_second(int(min(max(moment, 0), _LATEST)), utc_offset)


@lru_cache(maxsize=64)
def _format_second(second: int, utc_offset: int) -> str:
    zone = timezone(timedelta(minutes=utc_offset)) if utc_offset else UTC
    try:
        when = datetime.fromtimestamp(second, zone)
    except (OverflowError, ValueError):  # an offset pushed it out of the calendar
        when, utc_offset = datetime.fromtimestamp(second, UTC), 0
    sign = "-" if utc_offset < 0 else "+"
    hours, minutes = divmod(abs(utc_offset), 60)
    return (
        f"{_DAYS[when.weekday()]}, {when.day} {_MONTHS[when.month - 1]} {when.year:04d} "
        f"{when.hour:02d}:{when.minute:02d}:{when.second:02d} {sign}{hours:02d}{minutes:02d}"
    )
