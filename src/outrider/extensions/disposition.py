"""Disposition notification: the sender wants to know whether his message was read (MT2-21c; RFC 8098 for the
words).

The data are ``request``. A server does not see anybody read: what it can truthfully say is said. Where the
user answers the single request it is ``displayed``, by manual action; where he has let this sender know once
for all it is ``processed``, by automatic action. Without a word of the user nothing is said at all.
"""

from __future__ import annotations

from typing import ClassVar

from outrider.extensions.base import RecipientBase
from outrider.extensions.interface import (
    Carried,
    Consent,
    ExtensionError,
    ExtensionMessage,
    OutgoingMail,
    RecipientRequest,
    Report,
)
from outrider.extensions.oids import DISPOSITION, code_of

DISPLAYED = code_of(DISPOSITION, 2, 1)
PROCESSED = code_of(DISPOSITION, 2, 2)
WORD = "request"


class Disposition(RecipientBase):
    """See the module."""

    name: ClassVar[str] = "disposition"
    oid: ClassVar[str] = DISPOSITION
    summary: ClassVar[str] = "tells a sender that a message was read, when the user says so"

    def describe(self, request: RecipientRequest) -> str:
        """What the user reads before he says yes."""
        if request.data.strip() != WORD:
            raise ExtensionError(f"the data are: {WORD}")
        return f"{request.sender} asks to be told that you have read message {request.message_id}"

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """Tell him."""
        if request.consent is Consent.ALLOWED:
            code, text = PROCESSED, "automatic-action/MDN-sent-automatically; processed"
        else:
            code, text = DISPLAYED, "manual-action/MDN-sent-manually; displayed"
        report = Report(request.message_id, DISPOSITION, code, text, request.user, text.rpartition(" ")[2])
        return (ExtensionMessage(request.sender, report=report),)

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Asked for as ever, by the field Disposition-Notification-To; the answer goes to the envelope's
        sender, whatever address the field names (RFC 8098 section 2.1 asks for the two to agree)."""
        return Carried(DISPOSITION, WORD) if mail.fields("Disposition-Notification-To") else None
