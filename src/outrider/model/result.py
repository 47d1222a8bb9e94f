"""What became of a message for one recipient (RFC 3463 status; RFC 3464 actions).

Three kinds, as in QMTP's K, Z and D: delivered, deferred, failed; a fourth no sender ever hears of: dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The class of a result; `RELAYED` is Delivered to a host that promises no DSN (RFC 3464 2.3.3)."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"
    DROPPED = "dropped"
    """It ends here, told to nobody but log and trail: an AMDP envelope that may be forged (AMDP-10)."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """One recipient's result.

    `text` is the operator's sentence, and for a remote refusal the remote's own words, cleaned and
    bounded. `remote` names who said it ("mx.example [192.0.2.1]:25"), "" when we did.
    """

    kind: Kind
    status: str
    """Enhanced status code, always present: ``2.0.0``, ``4.4.1``, ``5.1.1``."""
    text: str
    code: int = 0
    """The SMTP reply code, 0 where no SMTP reply was given."""
    remote: str = ""
    protocol: str = ""
    """smtp, lmtp, qmtp, maildir, pipe, discard, ... as in logs and metrics."""
    tls: str = ""
    """One line on the session's TLS ("TLSv1.3 TLS_AES_256_GCM_SHA384 verified mx.example"), "" in clear."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be tried for this recipient."""
        return self.kind is not Kind.DEFERRED
