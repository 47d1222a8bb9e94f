"""What a delivery status notification is asked to say (RFC 3464); `message.dsn` writes it down."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from outrider.model.address import Address
from outrider.model.content import Content
from outrider.model.message import MessageId


class ReportAction(Enum):
    """What became of a recipient, in the words of RFC 3464 section 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One recipient of a report."""

    address: Address
    action: ReportAction
    status: str
    """Enhanced status code: ``5.1.1``."""
    text: str
    """The remote's own words when `remote` is set, else ours; bounded and cleaned when written (SEC-171)."""
    code: int = 0
    """SMTP reply code, 0 where no SMTP reply was given."""
    remote: str = ""
    """``mx.example [192.0.2.1]:25``, who said it; "" when we did."""
    original: str = ""
    """ORCPT, decoded: ``rfc822;ann@example``; "" when none was given."""
    last_attempt_at: float = 0.0
    """Seconds since the epoch; 0 = not said."""
    will_retry_until: float = 0.0
    """For DELAYED: when we shall give up; seconds since the epoch, 0 = not said."""


@dataclass(frozen=True, slots=True)
class DsnRequest:
    """One report to one sender about one message, all its recipients in one go (SEC-170).

    `message.dsn.build_report` makes the content. The report's envelope is the caller's: null sender,
    recipient `sender` with NOTIFY=NEVER, SMTPUTF8 exactly when `sender` is not ASCII.
    """

    reporting_mta: str
    """Our host name."""
    report_id: MessageId
    """The report's own queue id; its Message-ID is made from it."""
    message_id: MessageId
    """The queue id of the message reported on: what to quote to the postmaster."""
    now: float
    """Seconds since the epoch."""
    arrived_at: float
    """When the message reported on came."""
    sender: Address
    """Whom the report goes to: the message's reverse-path."""
    postmaster: Address
    """Stands in From."""
    recipients: tuple[ReportedRecipient, ...]
    original: Content
    """The message reported on, as received."""
    trace: bytes = b""
    """Our fields on top of it (`StoredMessage.trace`)."""
    return_full: bool = False
    """Enclose the whole message, not only its header section; ignored where the body could not travel
    unharmed (binary, stray CR or LF, lines over 998 octets)."""
    envelope_id: str = ""
    """ENVID, decoded."""
    utc_offset: int = 0
    """Minutes east of UTC, for dates."""
