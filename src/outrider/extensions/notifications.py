"""Delivery notifications: the last host tells the sender when his message has come into a mailbox (MT2-21b).

The data are ``delivered``. What the notification says is signed by the recipients' domain, and no more than
that: nobody is said to have read anything.
"""

from __future__ import annotations

from typing import ClassVar

from outrider.extensions.base import DeliveryBase
from outrider.extensions.interface import (
    Carried,
    EnvelopeFacts,
    ExtensionError,
    ExtensionMessage,
    ExtensionVerdict,
    OutgoingMail,
    Report,
    Rights,
)
from outrider.extensions.oids import NOTIFICATION, code_of
from outrider.model.address import Address

DELIVERED = code_of(NOTIFICATION, 2, 1)
WORD = "delivered"


class Notification(DeliveryBase):
    """See the module."""

    name: ClassVar[str] = "notification"
    oid: ClassVar[str] = NOTIFICATION
    summary: ClassVar[str] = "tells senders who ask when their message is in the mailbox"
    rights: ClassVar[Rights] = Rights.PROVEN
    enabled_by_default: ClassVar[bool] = True

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """Nothing is said before it is delivered."""
        del envelope
        if data.strip() != WORD:
            raise ExtensionError(f"the data are: {WORD}")
        return ExtensionVerdict(text="You will hear.")

    async def delivered(
        self, envelope: EnvelopeFacts, data: str, recipient: Address
    ) -> tuple[ExtensionMessage, ...]:
        """Now."""
        if envelope.sender is None or data.strip() != WORD:
            return ()
        report = Report(
            envelope.message_id, NOTIFICATION, DELIVERED, "In the mailbox.", recipient, "delivered"
        )
        return (ExtensionMessage(envelope.sender, report=report),)

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Asked for by the field ``MT2-Notification: delivered``."""
        wanted = any(one.strip().lower() == WORD for one in mail.fields("MT2-Notification"))
        return Carried(NOTIFICATION, WORD) if wanted else None
