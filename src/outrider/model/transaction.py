"""What a client asks for with MAIL and RCPT, the same for every protocol that has an envelope."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.model.address import Address
from outrider.model.envelope import BodyType, Notify, Return
from outrider.model.mpc import Mpc


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A sender and the conditions named with it (RFC 5321 4.1.1.2, 1870, 6152, 6531, 3461, 4865, 4954)."""

    sender: Address | None
    size: int = 0
    """Declared octets, 0 when not declared."""
    body_type: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""
    hold_for: int = 0
    """FUTURERELEASE: seconds, 0 for none."""
    hold_until: float = 0.0
    """FUTURERELEASE: a moment (seconds since the epoch), 0 for none."""
    auth: str = ""
    """AUTH= of MAIL, decoded; believed only from peers we trust (RFC 4954 section 5)."""
    mpc: Mpc | None = None
    """MPC= of MAIL over AMTP (AMTP-11)."""
    amdp: bool = False
    """AMDP of MAIL: this is an envelope, to be handled by the rules of the call-back (AMDP-5a)."""


@dataclass(frozen=True, slots=True)
class RecipientRequest:
    """A recipient and what the sender wants to hear about it (RFC 3461)."""

    address: Address
    notify: Notify = Notify.UNSPECIFIED
    original: str = ""
    """ORCPT as ``type;address``, decoded from xtext; "" when absent."""
