"""Reception's part in AMDP: envelopes that come, and mail that is to be held (AMDP-1, AMDP-2, AMDP-7).

Nothing of it is on the way of a message where the server has no such role.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from dataclasses import dataclass

from outrider.model.content import Content
from outrider.model.envelope import Recipient
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.model.verdict import Stage
from outrider.reception.amdp_envelopes import EnvelopeDesk, with_believed_fields
from outrider.reception.assembling import MailTransaction
from outrider.reception.interface import Session
from outrider.reception.parts import ReceptionParts, SubmissionDesk
from outrider.reception.relay import RelayControl
from outrider.reception.session_facts import SessionFacts
from outrider.reception.session_part import SessionReception
from outrider.reception.settings import ReceptionSettings
from outrider.routing.local_users import ResolvedRecipient

Resolved = tuple[ResolvedRecipient, ...]


@dataclass(frozen=True, slots=True)
class Now:
    """An answer that is there already, as an awaitable."""

    reply: Reply

    def __await__(self) -> Generator[None, None, Reply]:
        yield from ()
        return self.reply


class AmdpReception(SessionReception):
    """What a reception for mail has on top of its sessions' where AMDP is concerned."""

    def __init__(self, settings: ReceptionSettings, parts: ReceptionParts) -> None:
        super().__init__(settings, parts)
        self._relay = RelayControl(settings)

    def _judged_or_not(self, mail: MailTransaction, content: Content) -> Awaitable[Reply]:
        """What happens to a content that is in order so far."""
        raise NotImplementedError

    def _message_refused(
        self, mail: MailTransaction, stage: Stage, reply: Reply, rule: str = "", about: str = ""
    ) -> Reply:
        return self._refused(mail.session, stage, reply, rule=rule, about=about, message_id=mail.id)

    def _permission(self, session: Session, facts: SessionFacts) -> str:
        """Why the client may send anywhere: a phrase for the log; "" = it may not."""
        because = self._relay.permission(session, facts)
        if not because and self._parts.submissions is not None:
            return self._parts.submissions.permission(session)
        return because

    def _may_relay(self, mail: MailTransaction) -> bool:
        return bool(self._permission(mail.session, mail.session_facts))

    # --- the envelope ---------------------------------------------------------------------------------------

    def _envelope_sender_refusal(
        self, session: Session, facts: SessionFacts, request: MailRequest, desk: EnvelopeDesk
    ) -> Reply | None:
        known = bool(self._permission(session, facts))
        return desk.sender_refusal(session, amdp=request.amdp, size=request.size, known=known)

    def _hold_refusal(
        self, mail: MailTransaction, found: Resolved, route: str, desk: SubmissionDesk
    ) -> Reply | None:
        """AMDP-2: nobody has mail held here but those who may."""
        known = self._may_relay(mail)
        for one in found:
            way = Recipient(one.address, route=route or mail.route)
            refusal = desk.recipient_refusal(mail.session, way, known=known)
            if refusal is not None:
                return refusal
        return None

    # --- the end of the data --------------------------------------------------------------------------------

    def _finish_amdp(self, mail: MailTransaction, content: Content) -> Awaitable[Reply]:
        """What AMDP adds at the end of the data, where the server has a part in it."""
        envelopes, submissions = self._parts.envelopes, self._parts.submissions
        known = self._may_relay(mail)
        if envelopes is not None and mail.request.amdp:
            refusal = envelopes.size_refusal(content.size)
            if refusal is not None:
                return Now(self._message_refused(mail, Stage.BODY, refusal))
            if not envelopes.admitted_already(mail.session):
                return self._finish_stranger(mail, content, envelopes)
            return self._judged_or_not(mail, content)
        if envelopes is not None and not known:
            content = with_believed_fields(content)
        if submissions is not None and submissions.concerns(mail, known=known):
            return self._finish_submission(mail, content, submissions)
        return self._judged_or_not(mail, content)

    async def _finish_stranger(
        self, mail: MailTransaction, content: Content, envelopes: EnvelopeDesk
    ) -> Reply:
        """AMDP-7: one envelope of a holder that has not passed, or those that a minute may have."""
        try:
            refusal = await envelopes.admission_refusal(mail)
        except Exception as error:
            return self._failed(mail.session, Stage.BODY, error)
        if refusal is not None:
            return self._message_refused(mail, Stage.BODY, refusal)
        reply = await self._judged_or_not(mail, content)
        if not reply.is_positive:
            await envelopes.not_stored(mail)
        return reply

    async def _finish_submission(
        self, mail: MailTransaction, content: Content, submissions: SubmissionDesk
    ) -> Reply:
        """AMDP-1: what the outgoing gateway says to a submission."""
        try:
            reviewed = await submissions.review(mail, content)
        except Exception as error:
            return self._failed(mail.session, Stage.BODY, error)
        if isinstance(reviewed, Reply):
            return self._message_refused(mail, Stage.BODY, reviewed)
        return await self._judged_or_not(mail, reviewed)
