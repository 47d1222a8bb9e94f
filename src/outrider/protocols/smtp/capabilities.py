"""What a server session answers to EHLO and LHLO: its name, and the extensions it offers (SMTP-2a)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from outrider.model.reply import Reply
from outrider.protocols.smtp.server_settings import NO_LIMIT, ServerSettings

_MOST_TO_TELL: Final = 999_999


def _size(limit: int) -> str:
    """RFC 1870 section 3: 0 says that there is no fixed limit."""
    return f"SIZE {limit if limit < NO_LIMIT else 0}"


def ehlo_reply(
    settings: ServerSettings,
    client_name: str,
    *,
    starttls: bool,
    auth: tuple[str, ...],
    wall_time: float,
    more: tuple[str, ...] = (),
) -> Reply:
    """The 250 to EHLO or LHLO. It carries no enhanced status codes (RFC 2034 section 3).

    `starttls`: it may be said now. `wall_time` in seconds since the epoch, for FUTURERELEASE. `more` are
    further lines, as they go out.
    """
    lines = [
        f"{settings.hostname} greets {client_name}",
        "PIPELINING",
        _size(settings.limits.message_size),
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "DSN",
        "ENHANCEDSTATUSCODES",
        *_limits(settings),
    ]
    if settings.max_hold_s:  # RFC 4865
        latest = _date_time(wall_time + settings.max_hold_s)
        lines.append(f"FUTURERELEASE {settings.max_hold_s} {latest}")
    if settings.amdp:
        lines.append("AMDP")
    if starttls:
        lines.append("STARTTLS")
    if auth:
        lines.append(f"AUTH {' '.join(auth)}")
    lines += more
    lines.append("HELP")
    return Reply(250, "", "\n".join(lines))


def _limits(settings: ServerSettings) -> tuple[str, ...]:
    """The LIMITS line (RFC 9422), unless there are none that its six digits can say."""
    named = (("MAILMAX", settings.limits.messages), ("RCPTMAX", settings.limits.recipients))
    told = [f"{name}={most}" for name, most in named if most <= _MOST_TO_TELL]
    return (f"LIMITS {' '.join(told)}",) if told else ()


def _date_time(wall_time: float) -> str:
    return datetime.fromtimestamp(int(wall_time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
