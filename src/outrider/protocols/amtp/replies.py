"""What an AMTP server says beside SMTP's replies. Texts that the draft has are the draft's, to the letter."""

from __future__ import annotations

from typing import Final

from outrider.model.reply import Reply

AUTHENTICATION_FAILED: Final = Reply(504, "5.7.8", "Authentication failed")
"""To EHLO: certificate, address and name do not prove the client (AMTP-3). The log says which."""
IDENTITY_UNKNOWN: Final = Reply(451, "4.7.0", "Authentication not possible now, try again later")
"""To EHLO: what the proof needs is not at hand, a PTR record or a list of revocations (AMTP-3)."""
POLICY_VIOLATION: Final = Reply(550, "5.7.1", "MPC policy violation")
"""To MAIL or RCPT (AMTP-11)."""
POLICY_FAILURE: Final = Reply(451, "4.7.1", "MPC temporary failure, try again later")
"""To MAIL or RCPT: whether the code is wanted cannot be said now (AMTP-11)."""
EHLO_ONLY: Final = Reply(504, "5.5.1", "AMTP begins with EHLO")
"""To HELO (AMTP-4)."""
MPC_NEEDED: Final = Reply(501, "5.5.4", "MAIL needs an MPC parameter: MPC=role/class")
MPC_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: MPC=role/class")
MPC_FIELD: Final = Reply(550, "5.6.0", "MPC field in the message; over AMTP the code is a parameter of MAIL")
"""At the end of the data (AMTP-14)."""
LOGIN_NEEDED: Final = Reply(530, "5.7.0", "Authentication required")
"""To MAIL on a private connection (AMTP-19)."""
HELP: Final = Reply(
    214,
    "2.0.0",
    "Commands: EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY AUTH QUIT\n"
    "Write to postmaster about trouble with mail",
)
