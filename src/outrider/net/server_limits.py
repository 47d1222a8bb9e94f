"""From the settings to what one session may do, and how full the server is."""

from __future__ import annotations

from typing import Final

from outrider.config.schema import Limits
from outrider.net.listener_limits import ConnectionLimits
from outrider.protocols.smtp.server_settings import DEFAULT_LINE_LENGTH, NO_LIMIT, SessionLimits

NO_TIME_LIMIT_S: Final = 10 * 365 * 86_400.0


def session_limits(limits: Limits) -> SessionLimits:
    """The `[limits]` of the configuration as a session counts them; 0 is no limit."""
    return SessionLimits(
        message_size=limits.message_size or NO_LIMIT,
        header_size=limits.header_size or NO_LIMIT,
        line_length=limits.line_length or DEFAULT_LINE_LENGTH,
        recipients=limits.recipients or NO_LIMIT,
        errors=limits.errors or NO_LIMIT,
        junk_commands=limits.junk_commands or NO_LIMIT,
        messages=limits.messages_per_session or NO_LIMIT,
        command_timeout_s=limits.command_timeout or NO_TIME_LIMIT_S,
        data_timeout_s=limits.data_timeout or NO_TIME_LIMIT_S,
        min_data_rate=limits.min_data_rate,
        session_time_s=limits.session_time or NO_TIME_LIMIT_S,
    )


class LoadGauge:
    """How full the server is, all its workers together. Asked often: it only compares numbers."""

    def __init__(self, connections: ConnectionLimits, stress_at: float) -> None:
        """`stress_at`: the share of all places from which stress behaviour applies."""
        self._connections = connections
        self.stress_at = stress_at
        """May be changed while running."""

    def is_stressed(self) -> bool:
        """Whether time-outs are to be short and errors few (SMTP-9)."""
        connections = self._connections
        return bool(connections.total) and connections.open_in_all >= connections.total * self.stress_at
