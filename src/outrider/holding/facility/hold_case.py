"""One attempt to hold a message for some of its recipients, and what came of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from outrider.holding.outgoing.outgoing_terms import OutgoingTerms
from outrider.holding.outgoing.sender_fields import SenderFields
from outrider.model.address import Address
from outrider.model.content import Content
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.amdp.mail_class import MailClass
from outrider.protocols.amdp.report import PolicyReport
from outrider.protocols.amdp.submission import without_amdp

PROTOCOL = "amdp-hold"


@dataclass(slots=True)
class Case:
    """One attempt to hold a message for some recipients."""

    message: StoredMessage
    content: Content
    terms: OutgoingTerms
    mail_class: MailClass
    fields: SenderFields
    """Names in the order of the envelope's recipients."""
    now: float
    expires: int
    instruction: str
    results: dict[int, DeliveryResult] = field(default_factory=dict)
    prices: dict[int, tuple[int, PolicyReport]] = field(default_factory=dict)
    """Of the copies that cost something."""
    pushed: list[int] = field(default_factory=list)
    """Recipients who get the whole message."""
    made: list[NewMessage] = field(default_factory=list)
    wait_s: float = 0.0

    def address(self, number: int) -> Address:
        """Whom a copy is for."""
        return self.message.envelope.recipients[number].address


def submitted_content(content: Content) -> Content:
    """What a gateway said of the message in its header section is for us alone."""
    headers = content.headers
    if b"amdp-" not in headers.lower():
        return content
    return replace(content, headers=without_amdp(headers))


def held_result(text: str) -> DeliveryResult:
    """This recipient is seen to."""
    return DeliveryResult(Kind.DELIVERED, "2.0.0", text, protocol=PROTOCOL)
