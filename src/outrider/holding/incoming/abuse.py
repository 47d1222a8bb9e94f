"""Who is told of abuse, how often (AMDP-10, AMDP-18): the service that the operator has named, once a day
for each domain and fault; and the classification service that vouches for the domain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.observer import IncomingObserver
from outrider.holding.incoming.reports import Evidence, abuse_report, is_controlled_by
from outrider.lists.mailing import Mailing
from outrider.model.address import Address, Domain
from outrider.model.envelope import BodyType, Envelope, Notify
from outrider.model.message import Event, NewMessage


class ClassReports(Protocol):
    """Takes reports on classes; see `classification.Classes`."""

    async def report(self, domain: Domain, mail_class: str, report: bytes) -> bool:
        """False: nobody took it. Never raises for a service's reasons."""
        ...


@dataclass(frozen=True, slots=True)
class AbuseDesk:
    """Makes reports of what was found out."""

    to: Address | None
    """[amdp.incoming] report_to; None: nobody is told."""
    mailing: Mailing
    arrivals: Arrivals
    observer: IncomingObserver
    clock: Callable[[], float]
    classes: ClassReports | None = None

    async def report(self, evidence: Evidence, why: str, lied_about: str = "") -> list[NewMessage]:
        """The report, to be stored with the attempt that found it; none where it is not due, or would go to
        the reported party itself. `lied_about`: the class that was vouched for. Raises StoreUnavailable."""
        to = self.to
        if to is None or is_controlled_by(to, evidence.domain):
            return []
        now, mailing = self.clock(), self.mailing
        if not await self.arrivals.may_report(evidence.domain, why, evidence.message, now):
            return []
        identifier = mailing.new_id(now)
        content = abuse_report(
            evidence, to, hostname=mailing.hostname, message_id=f"{identifier}@{mailing.hostname}", now=now,
            utc_offset=mailing.utc_offset(now),
        )  # fmt: skip
        if lied_about and self.classes is not None:
            octets = b"".join(content.chunks())
            await self.classes.report(Domain(evidence.domain), lied_about, octets)
        recipients = mailing.final_recipients(to, Notify.NEVER)
        body = BodyType.SEVEN_BIT if content.is_ascii else BodyType.EIGHT_BIT
        event = Event(
            now, "received", f"made here: report of abuse by {evidence.domain}, of {evidence.message}"
        )
        self.observer.abuse_reported(evidence.message, evidence.domain, str(to), why)
        envelope = Envelope(None, recipients, body, smtputf8=not to.is_ascii)
        items = mailing.items(recipients, now)
        return [NewMessage(identifier, now, envelope, b"", content, items, events=(event,))]
