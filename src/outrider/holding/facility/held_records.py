"""What a holding facility remembers, as values: messages, the copies of their recipients, and what became of
them.

Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CopyState(Enum):
    """Where one recipient's copy stands (AMDP-6)."""

    PREPARED = "prepared"
    """Its ids are drawn; postage is being paid. Nobody knows them yet."""
    HELD = "held"
    """Its envelope waits in the queue."""
    NOTIFIED = "notified"
    """The receiver's exchanger took the envelope."""
    AUTHENTICATED = "authenticated"
    """The receiver's server has called back and acknowledged, or the recipient opened the link: the id is
    burnt, the message unlocked."""
    RETRIEVED = "retrieved"
    EXPIRED = "expired"
    REFUSED = "refused"
    """The envelope was refused, or never arrived."""
    WITHDRAWN = "withdrawn"

    @property
    def is_final(self) -> bool:
        """Whether nothing is to be had any more."""
        return self in FINAL


FINAL = frozenset({CopyState.RETRIEVED, CopyState.EXPIRED, CopyState.REFUSED, CopyState.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """What is common to all copies of a message."""

    id: str
    """The queue id under which it was submitted."""
    sender: str
    """AMDP-From."""
    reports_to: str
    """The reverse-path, whom receipts go to; "" for the null one."""
    subject: str
    """Decoded."""
    mail_class: str
    language: str
    attachments: str
    """AMDP-Attachments as it stands in the envelope."""
    date: float
    """When it was written."""
    size: int
    """Octets that are served."""
    digest: str
    """AMDP-Digest of these, the whole value."""
    held_at: float
    message_id: str = ""
    references: tuple[str, ...] = ()
    """Message-IDs named by References and In-Reply-To, oldest first (AMDP-21)."""
    envelope_id: str = ""
    """ENVID, for a receipt (RFC 3461)."""


@dataclass(frozen=True, slots=True)
class CopyIds:
    """What is drawn for one recipient, each for itself (AMDP-2)."""

    id: str
    confirmation: str
    token: str
    """For the link in an envelope to a server without AMDP."""

    def __repr__(self) -> str:
        return "CopyIds(...)"  # these open a message: they stay out of logs


@dataclass(frozen=True, slots=True)
class NewCopy:
    """One recipient's copy that is to be held."""

    number: int
    """Position of the recipient in the submitted message's envelope."""
    ids: CopyIds
    recipient: str
    timestamp: int
    stated: int
    """AMDP-Timestamp and AMDP-Expire-On of its envelope."""
    fields: str
    """SHA-256 of the envelope's fields in canonical form, in hexadecimal."""
    envelope: str
    """Queue id of its envelope."""
    wants_receipt: bool = False
    original: str = ""
    """ORCPT, for a receipt."""
    keys: str = ""
    """AMDP-Auth-Keys."""


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """One recipient's copy as it is remembered."""

    message: str
    number: int
    ids: CopyIds
    recipient: str
    state: CopyState
    timestamp: int
    stated: int
    expires: float
    """Until when it can be had; later than stated where it was extended."""
    fields: str
    keys: str
    envelope: str
    wants_receipt: bool = False
    original: str = ""
    postage: str = ""
    """The receipt that its envelope has, for a refund."""
    by_link: bool = False
    """It was unlocked by its link: nobody has called back (AMDP-5a)."""
    notified_at: float = 0.0
    proven_at: float = 0.0
    proven_by: str = ""
    """From where the receiver's server acknowledged."""
    opened_at: float = 0.0
    received_at: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """One query of a receiver's server (AMDP-9)."""

    id: str
    timestamp: int
    expires: int
    fields: str
    keys: str


@dataclass(frozen=True, slots=True)
class Known:
    """The answer to it where it is one of ours, right in everything and not used yet."""

    recipient: str
    confirmation: str
    thread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to be done once about a copy, repeated until it is: a receipt to the sender, the operator's
    hook."""

    message: str
    number: int
    kind: str
    """receipt or hook."""
    mail: str
    """The queue id that a receipt is to have, drawn when it was decided: stored again it is refused."""
    tries: int = 1
    """This one counted."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A message for `outrider held list`."""

    message: HeldMessage
    states: tuple[tuple[str, int], ...]
    """How many copies are in each state."""
    expires: float
    """When the last copy that can be had expires; 0 = there is none."""
    has_content: bool
