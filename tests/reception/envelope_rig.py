"""A reception that is an incoming gateway of AMDP, and envelopes for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from outrider.config.amdp_schema import AmdpIncoming
from outrider.holding.incoming.deciding import IncomingRules
from outrider.holding.incoming.holders import Holders, HolderStore, HolderThread
from outrider.model.address import parse_address, parse_domain
from outrider.model.content import inline_content
from outrider.model.reply import Reply
from outrider.protocols.amdp.digest import Digest
from outrider.protocols.amdp.envelope import HeldEnvelope, write_envelope
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.report import PolicyReport
from outrider.reception.amdp_envelopes import EnvelopeDesk
from outrider.reception.amdp_shares import WorkShares
from outrider.reception.interface import Session
from outrider.reception.reception import MailReception
from outrider.reception.settings import ReceptionSettings
from outrider.tables.database import SqliteDatabase
from tests.reception.rig import NOW, Rig, answer

SENDER = "news@b.example"


def held(**more: object) -> HeldEnvelope:
    """An envelope in order, for ann@a.example."""
    usual = HeldEnvelope(
        sender=parse_address(SENDER),
        recipient=parse_address("ann@a.example"),
        id="a" * 26,
        digest=Digest(b"\1" * 32, 5000),
        mail_class=parse_class("Public::Business::letter"),
        date=int(NOW) - 100,
        timestamp=int(NOW) - 50,
        expires=int(NOW) + 86_400,
        holder=parse_domain("mhf-1.b.example"),
        subject="Hello",
    )
    return replace(usual, **more)  # type: ignore[arg-type]


def octets(envelope: HeldEnvelope) -> bytes:
    return write_envelope(envelope, message_id="e1@b.example")


class EnvelopeRig(Rig):
    """The rig with the role img."""

    holders: Holders
    stressed = False

    def take_envelopes(self, folder: Path, incoming: AmdpIncoming, report: PolicyReport, share: int) -> None:
        """Set up the desk."""
        thread = HolderThread(lambda: HolderStore(SqliteDatabase(folder / "holders.sqlite")), "holders")
        self.holders = Holders(thread, lambda: self.now)
        rules = IncomingRules(incoming, (), "claimed", False, ("exempt.example",), 0)
        shares = WorkShares(share, lambda: self.stressed, lambda: self.now)
        desk = EnvelopeDesk(rules, report, self.holders, shares, lambda: self.now)
        self.parts = replace(self.parts, envelopes=desk)
        self.reception = MailReception(self.settings, self.parts)

    @property
    def settings(self) -> ReceptionSettings:
        return self.reception._settings

    async def mail(
        self,
        session: Session,
        content: bytes,
        recipient: str = "ann@a.example",
        sender: str = SENDER,
        **more: object,
    ) -> Reply:
        """A whole message; the first refusal, or the last reply."""
        transaction, reply = await self.sender(session, sender, **more)
        if transaction is None or not reply.is_positive:
            return reply
        reply = await self.recipient(transaction, recipient)
        if not reply.is_positive:
            return reply
        return await self.reception.finish(transaction, inline_content(content))

    async def envelope(self, envelope: HeldEnvelope | bytes, recipient: str = "ann@a.example") -> Reply:
        """An envelope in a session of its own."""
        content = envelope if isinstance(envelope, bytes) else octets(envelope)
        return await self.mail(await self.session(), content, recipient, amdp=True)


@contextmanager
def envelope_rig(
    folder: Path,
    *,
    incoming: AmdpIncoming | None = None,
    report: PolicyReport | None = None,
    share: int = 50,
    **more: object,
) -> Iterator[EnvelopeRig]:
    """The rig, closed at the end."""
    rig = EnvelopeRig(**more)  # type: ignore[arg-type]
    rig.take_envelopes(folder, incoming or AmdpIncoming(), report or PolicyReport("a.example"), share)
    try:
        yield rig
    finally:
        rig.holders.close()


__all__ = ["EnvelopeRig", "answer", "envelope_rig", "held", "octets"]
