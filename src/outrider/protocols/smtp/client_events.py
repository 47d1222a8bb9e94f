"""What the client core tells its driver, and what the driver hands to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.model.address import Address
from outrider.model.envelope import BodyType, Recipient, Return
from outrider.model.mpc import Mpc
from outrider.model.reply import Reply
from outrider.protocols.smtp.client_offers import Offers
from outrider.protocols.smtp.client_states import Ending, Stage


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What holds for one session. Times in seconds."""

    hello_name: str
    lmtp: bool = False
    greeting_timeout_s: float = 300.0
    command_timeout_s: float = 300.0
    """For the reply to a command, and for each piece of content to be taken (RFC 5321 4.5.3.2)."""
    data_timeout_s: float = 600.0
    """For the reply after the data."""
    transaction_timeout_s: float = 3600.0
    """For a whole transaction, to which comes the time for its content at `slowest_rate`: a server that
    answers each command in the last second does not hold a slot for ever (SEC-88)."""
    slowest_rate: int = 500
    """Octets a second."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One message for some of its recipients, in the form in which this server can take it."""

    sender: Address | None
    recipients: Mapping[int, Recipient]
    """By position in the envelope; in the order in which they are named."""
    size: int
    """Octets of the content as it stands, before any dot is doubled (RFC 1870 section 5)."""
    body_type: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""
    mpc: Mpc | None = None
    """Sent by AMTP's client only."""
    amdp: bool = False
    """It is an envelope, for a server that announces AMDP (AMDP-5a)."""
    content: bytes | None = field(default=None, repr=False)
    """The whole of it where it is at hand; None when the core has to ask for it (:class:`ContentWanted`)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one recipient: the reply that decided, or the ending that left it undecided."""

    stage: Stage
    reply: Reply | None = None
    ending: Ending | None = None

    @property
    def taken(self) -> bool:
        """The server has answered for the message to this recipient."""
        return self.reply is not None and self.reply.is_positive


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Greeted and ready; comes again after TLS. Now `start_tls`, `authenticate` or `send_mail` may follow."""

    offers: Offers


@dataclass(frozen=True, slots=True)
class StartTlsAccepted:
    """Do the handshake on the connection, then call `tls_begun`. The core has forgotten the session."""


@dataclass(frozen=True, slots=True)
class StartTlsRefused:
    """The session goes on in the clear, if the driver lets it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class ChallengeReceived:
    """AUTH goes on: answer with `respond`."""

    octets: bytes
    """Decoded from base64."""


@dataclass(frozen=True, slots=True)
class LoginEnded:
    """235 or a refusal. The session is ready for mail either way."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """Answer with one `send_content`."""


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """An outcome for every recipient except those that the server wants in a further transaction."""

    outcomes: Mapping[int, Outcome]
    postponed: tuple[int, ...] = ()
    """Refused only because there were too many (RFC 5321 4.5.3.1.10); at least one other was accepted."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Close the connection; nothing follows."""

    ending: Ending


Event = (
    SessionOpened
    | StartTlsAccepted
    | StartTlsRefused
    | ChallengeReceived
    | LoginEnded
    | ContentWanted
    | TransactionEnded
    | SessionEnded
)
