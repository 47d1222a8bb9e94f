"""What reception works with, handed to it by `runtime`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from outrider.config.schema import MpcCodes
from outrider.delivery.interface import FreshMail
from outrider.identity.client_certificate import ClientIdentifier
from outrider.identity.credentials import UserTable
from outrider.model.address import Address
from outrider.model.content import Content
from outrider.model.envelope import Arrival, Recipient
from outrider.model.message import MessageId
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.policy.policy import CompiledPolicy
from outrider.reception.amdp_envelopes import EnvelopeDesk
from outrider.reception.assembling import DestinationOf, MailTransaction
from outrider.reception.hosts import HostProver
from outrider.reception.interface import IPAddress, Session
from outrider.reception.lookups import FactSource
from outrider.reception.mail_codes import MailCodes
from outrider.reception.observer import ReceptionObserver
from outrider.reception.partner_terms import PartnerTerms
from outrider.routing.list_addresses import ListAddress
from outrider.routing.local_users import RecipientTable
from outrider.spool.interface import Spool


class ListRefusals(Protocol):
    """Who may write to which mailing list (`lists.rcpt` implements it)."""

    async def refusal(self, address: Address, of_list: ListAddress, request: MailRequest) -> Reply | None:
        """Why mail is not taken for an address of a list; None when it is."""
        ...


class SubmissionDesk(Protocol):
    """What AMDP's outgoing gateway and holding facility say to mail that is submitted or to be held
    (AMDP-1, AMDP-2; `holding.outgoing.gateway` implements it)."""

    corrects_from: bool
    """A From that is not the account's is corrected, so that it need not be refused before."""

    def permission(self, session: Session) -> str:
        """Why a gateway of ours may send anywhere: a phrase for the log; "" = it is none."""
        ...

    def recipient_refusal(self, session: Session, recipient: Recipient, *, known: bool) -> Reply | None:
        """Why mail is not taken to be held for somebody; None for all other mail too."""
        ...

    def concerns(self, mail: MailTransaction, *, known: bool) -> bool:
        """Whether the content is to go through `review`."""
        ...

    async def review(self, mail: MailTransaction, content: Content) -> Content | Reply:
        """The content as it is to be stored, the routes of recipients settled; or why it is refused."""
        ...


@dataclass(frozen=True, slots=True)
class ReceptionParts:
    """What reception works with; `runtime` joins it."""

    spool: Spool
    fresh: FreshMail
    recipients: RecipientTable
    destination_of: DestinationOf
    """The key of the item that a recipient goes into (`RouteTable.find(recipient).lane`)."""
    policy: CompiledPolicy
    observer: ReceptionObserver
    make_id: Callable[[float], MessageId]
    clock: Callable[[], float]
    """Seconds since the epoch."""
    users: UserTable | None = None
    """None = nobody can log in here."""
    clients: ClientIdentifier | None = None
    """None = no client certificate means anything."""
    sources: FactSource | None = None
    """None = no DNS."""
    hosts: HostProver | None = None
    """None = no AMTP is spoken here."""
    codes: MailCodes = field(default_factory=lambda: MailCodes(MpcCodes()))
    partners: PartnerTerms | None = None
    """None = no terms are agreed with anybody."""
    may_leave: Callable[[Recipient, Arrival], bool] = lambda _recipient, _arrival: True
    """Whether mail that came so may go this recipient's way (AMTP-18): `RouteTable.may_leave`."""
    lists: ListRefusals | None = None
    """None = there are no mailing lists."""
    envelopes: EnvelopeDesk | None = None
    """None = this server is no incoming gateway of AMDP."""
    submissions: SubmissionDesk | None = None
    """None = it is no outgoing gateway of AMDP, and holds no mail."""
    memory_is_short: Callable[[], bool] = lambda: False
    own_addresses: frozenset[IPAddress] = frozenset()
    """Our public addresses beside the one a client connected to, for the look at DNS of TLS-2."""
