"""The envelope (RFC 5598 section 4.1; RFC 5321 section 3.3; RFC 3461 for what the sender asks back)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag

from outrider.model.address import Address
from outrider.model.mpc import Mpc


class BodyType(Enum):
    """What BODY= declared (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Notify(Flag):
    """RFC 3461 section 4.1. `UNSPECIFIED` is what a sender without DSN gets: failure and perhaps delay."""

    UNSPECIFIED = 0
    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


class Arrival(Enum):
    """Over what kind of connection a message came, as far as it restricts where it may go."""

    OTHER = ""
    AMTP_PUBLIC = "amtp"
    """Never handed to another public AMTP connection (AMTP-18)."""
    AMTP_PRIVATE = "amtp-private"


class Return(Enum):
    """RFC 3461 section 4.3: how much of the message a failure report carries."""

    UNSPECIFIED = ""
    FULL = "FULL"
    HEADERS = "HDRS"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One final recipient, after aliases.

    `original` is the ORCPT value ("rfc822;ann@example", decoded) or, when the sender gave none and an
    alias led here, the address named at RCPT; "" otherwise. `route` is a policy's or operator's
    override of the way ("" = by routing).
    """

    address: Address
    notify: Notify = Notify.UNSPECIFIED
    original: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sent it, to whom, and under which conditions of carriage."""

    sender: Address | None
    """None is the null reverse-path of bounces."""
    recipients: tuple[Recipient, ...]
    body_type: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""
    """ENVID, decoded from xtext (RFC 3461 section 4.4)."""
    hold_until: float = 0.0
    """FUTURERELEASE (RFC 4865): not before this moment, seconds since the epoch; 0 = at once."""
    authenticated_as: str = ""
    """The login that submitted it, "" for none."""
    mpc: Mpc | None = None
    """Its Mail Policy Code, never rewritten on the way (AMTP-14); None = it has none."""
    arrival: Arrival = Arrival.OTHER
    link_token: str = ""
    """AMDP: not "" where the message is an envelope of ours. It goes with the keyword AMDP to servers that
    announce it; to all others with this token in its link (AMDP-5a)."""
