"""What a server session is told about its listener: names, limits, extensions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

DEFAULT_LINE_LENGTH: Final = 4096
NO_LIMIT: Final = 2**63 - 1
"""What a count or size of 0 in the settings means."""
STRESS_TIMEOUT_S: Final = 10.0  # as Postfix under stress
STRESS_ERRORS: Final = 1


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one client may do in one session (SMTP-9). Sizes in octets, times in seconds."""

    message_size: int = 52_428_800
    header_size: int = 262_144
    line_length: int = DEFAULT_LINE_LENGTH
    """With CRLF. RFC 5321 4.5.3.1.4 asks for 512 and what the extensions add: 26 SIZE, 17 BODY, 109 ENVID, 8
    RET, 10 SMTPUTF8 and 18 FUTURERELEASE for MAIL, 28 NOTIFY and 506 ORCPT for RCPT, 500 AUTH=."""
    recipients: int = 1000
    errors: int = 20
    """Refusals (5yz) since the last message taken."""
    junk_commands: int = 100
    """NOOP, RSET, VRFY, EXPN, HELP and repeated hellos since the last message taken."""
    messages: int = 10_000
    command_timeout_s: float = 300.0
    """For a command to arrive whole; octets that come do not extend it (SEC-88)."""
    data_timeout_s: float = 300.0
    """For the next octets of the content."""
    min_data_rate: int = 500
    """Octets a second over the content so far; 0 = any."""
    session_time_s: float = 7200.0

    def under_stress(self) -> SessionLimits:
        """The same for a server that is nearly full: short time-outs, and the first error ends a session."""
        return replace(
            self,
            errors=min(self.errors, STRESS_ERRORS),
            junk_commands=min(self.junk_commands, STRESS_ERRORS),
            command_timeout_s=min(self.command_timeout_s, STRESS_TIMEOUT_S),
            data_timeout_s=min(self.data_timeout_s, STRESS_TIMEOUT_S),
        )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One listener's sessions."""

    hostname: str
    limits: SessionLimits = SessionLimits()
    lmtp: bool = False
    tls_offered: bool = False
    """STARTTLS can be had (as long as there is no TLS yet)."""
    auth_after_tls: bool = False
    """There will be AUTH once TLS is there: without TLS the answer is 538 rather than 502."""
    max_hold_s: int = 2_592_000
    """The furthest that FUTURERELEASE may reach: 30 days. 0 = not offered."""
    amdp: bool = False
    """Envelopes of AMDP are taken: EHLO says so, and MAIL may bear the keyword (AMDP-5a)."""
