"""Envelopes of AMDP in the session (AMDP-5a, AMDP-7): what is known to be wrong is refused before the 250.

What MAIL with the keyword AMDP brings is an envelope: small, to one recipient here, its header fields in
order and true to what the session said; its sender not denied, the published policy not broken. One address
has one envelope under way until a call-back has proven it. Whatever is left for the call-back to find out is
stored with the way `amdp-callback:` for all its recipients, and after the 250 nothing is bounced any more.

A route that a policy rule gives stands behind the colon: it holds for what comes out of the call-back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from outrider.holding.incoming.deciding import PAYS_ANY, IncomingRules, Standing, is_listed
from outrider.holding.incoming.holders import Admission, Holders
from outrider.model.address import Address
from outrider.model.content import Content
from outrider.model.reply import Reply
from outrider.protocols.amdp.envelope import (
    MAX_HEADERS,
    VERIFIED,
    EnvelopeError,
    HeldEnvelope,
    read_envelope,
    without_verified,
)
from outrider.protocols.amdp.report import PolicyReport
from outrider.protocols.amdp.terms import Asked, NotNow, Refused, judge
from outrider.reception.amdp_shares import WorkShares
from outrider.reception.assembling import MailTransaction
from outrider.reception.interface import Session
from outrider.tables.database import StoreUnavailable

CALLBACK: Final = "amdp-callback:"
LARGEST: Final = 2 * MAX_HEADERS
"""Octets of an envelope: as many as its header section may have, and as much again for the text."""
MOST_JUDGED: Final = 1000
SKEW_S: Final = 86_400.0
"""How far a holder's clock may be ahead of ours."""

ONE_RECIPIENT: Final = Reply(452, "4.5.3", "An envelope has one recipient; send another for the next")
TOO_BIG: Final = Reply(552, "5.3.4", f"An envelope has at most {LARGEST} octets")
ANOTHER_WAITS: Final = Reply(
    450, "4.7.1", "Another envelope from your address waits for its call-back; come back when it is done"
)
TOO_FAST: Final = Reply(451, "4.7.1", "More envelopes in a minute than our policy takes; ACCEPT-NEXT-IN 1")
BUSY: Final = Reply(451, "4.3.2", "Short of capacity for this kind of mail now; try again later")
ONLY_AMDP: Final = Reply(550, "5.7.1", "Mail is taken here as AMDP envelopes only")
NOT_KEPT: Final = Reply(451, "4.3.0", "The envelope could not be stored; try again later")


@dataclass(frozen=True, slots=True)
class EnvelopeDesk:
    """What reception asks about envelopes, and about ordinary mail beside them; made anew by a reload."""

    rules: IncomingRules
    report: PolicyReport
    """What we publish."""
    holders: Holders
    shares: WorkShares
    clock: Callable[[], float]
    judged: dict[tuple[str, tuple[str, ...], int, bool], Reply | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What rules and policy say to envelopes like those that have just come."""

    # --- MAIL and RCPT --------------------------------------------------------------------------------------

    def sender_refusal(self, session: Session, *, amdp: bool, size: int, known: bool) -> Reply | None:
        """Why no message of this kind is begun. `known`: the client may relay, so that nothing but the size
        binds it."""
        if amdp and size > LARGEST:
            return TOO_BIG
        if known or session.protocol != "smtp" or self.shares.only_amdp:
            return (
                None  # where SMTP has no share nothing competes, and RCPT refuses what is not for postmaster
            )
        return None if self.shares.admits(amdp=amdp) else BUSY

    def recipient_refusal(self, mail: MailTransaction, address: Address, *, known: bool) -> Reply | None:
        """Why this recipient is not taken, as far as AMDP goes."""
        if mail.request.amdp:
            return ONE_RECIPIENT if mail.accepted else None
        if known or not self.shares.only_amdp or mail.session.protocol != "smtp":
            return None
        # RFC 5321 section 4.5.1: mail to postmaster gets through.
        return None if address.local.casefold() == "postmaster" else ONLY_AMDP

    def taken(self, mail: MailTransaction, address: Address, route: str) -> str:
        """The way of a recipient of an envelope. `address`: as it stood in RCPT."""
        mail.named = address
        return CALLBACK + route

    # --- content --------------------------------------------------------------------------------------------

    def header_refusal(self, mail: MailTransaction, headers: bytes) -> Reply | None:
        """What the header section of an envelope says that is wrong or not wanted."""
        if without_verified(headers) != headers:
            return _refused("it says AMDP-Verified, which is ours to say")
        try:
            envelope = read_envelope(headers)
        except EnvelopeError as error:
            return _refused(str(error))
        mail.envelope_key = hashlib.sha256(envelope.id.encode()).hexdigest()[:32]
        wrong = self._contradiction(mail, envelope)
        return self._unwanted(envelope) if wrong is None else _refused(wrong)

    def _contradiction(self, mail: MailTransaction, envelope: HeldEnvelope) -> str | None:
        """What of it cannot be true, or is not so in the session."""
        now = self.clock()
        if mail.named is None or envelope.recipient.key != mail.named.key:
            return "AMDP-To is not the recipient"
        if envelope.expires <= now:
            return "it has expired"
        if envelope.timestamp > now + SKEW_S:
            return "it was made in the future"
        if not envelope.holder_id and not _is_listed_form(envelope.holder, envelope.domain):
            return f"AMDP-MHF-Name is not mhf-N.{envelope.domain}, and there is no AMDP-MHF-Id"
        return None

    def _unwanted(self, envelope: HeldEnvelope) -> Reply | None:
        """What `_judged` says; remembered, where it does not depend on the hour."""
        if self.report.unsolicited_hours:
            return self._judged(envelope)
        key = (envelope.domain, envelope.mail_class.parts, envelope.size, bool(envelope.postage))
        if key not in self.judged:
            if len(self.judged) >= MOST_JUDGED:
                self.judged.clear()
            self.judged[key] = self._judged(envelope)
        return self.judged[key]

    def _judged(self, envelope: HeldEnvelope) -> Reply | None:
        """AMDP-7: denied senders, and what the published policy does not take; an allowed sender is not bound
        by it."""
        standing = self.rules.standing(envelope.domain)
        if standing is Standing.DENIED:
            return Reply(550, "5.7.1", f"Mail from {envelope.domain} is not taken here")
        pays = bool(envelope.postage) or is_listed(envelope.domain, self.rules.exempt)
        asked = Asked(
            envelope.mail_class,
            envelope.size,
            self.clock(),
            paid=PAYS_ANY if pays else 0,
            recent=0,  # counted with all workers' by `admit`
            vouched=self.rules.asks_services,  # it may be: who vouches is asked after the call-back
            known=standing is Standing.ALLOWED,
        )
        match judge(self.report, asked):
            case Refused(rule, words):
                return Reply(550, "5.7.1", _published(words, rule))
            case NotNow(rule, words, seconds):
                minutes = max(1, round(seconds / 60))
                return Reply(451, "4.7.1", f"{_published(words, rule)}; ACCEPT-NEXT-IN {minutes}")
            case _:
                return None

    @staticmethod
    def size_refusal(size: int) -> Reply | None:
        """SIZE need not be declared, nor true."""
        return TOO_BIG if size > LARGEST else None

    @property
    def counts(self) -> bool:
        """Whether every envelope is counted in the table."""
        return bool(self.report.messages_per_minute)

    def admitted_already(self, session: Session) -> bool:
        """Whether an envelope of this client's may be stored without a look at the table."""
        return not self.counts and self.holders.has_passed(session.client_address)

    async def admission_refusal(self, mail: MailTransaction) -> Reply | None:
        """AMDP-7: why the envelope may not be stored now; None: others wait for this one."""
        try:
            admission = await self.holders.admit(
                mail.session.client_address, mail.envelope_key, self.report.messages_per_minute
            )
        except StoreUnavailable:
            return NOT_KEPT
        if admission is Admission.ANOTHER_WAITS:
            return ANOTHER_WAITS
        return TOO_FAST if admission is Admission.TOO_FAST else None

    async def not_stored(self, mail: MailTransaction) -> None:
        """What was admitted was not stored in the end: nothing waits for its call-back."""
        try:
            await self.holders.withdraw(mail.session.client_address, mail.envelope_key)
        except StoreUnavailable:
            return  # it lapses by itself


def with_believed_fields(content: Content) -> Content:
    """Ordinary mail of a stranger, without what only a gateway of ours may say (AMDP-10)."""
    if VERIFIED not in content.headers.lower():
        return content
    return replace(content, headers=without_verified(content.headers))


def _is_listed_form(holder: str, domain: str) -> bool:
    number, _, parent = holder.removeprefix("mhf-").partition(".")
    return holder.startswith("mhf-") and number.isascii() and number.isdigit() and parent == domain


def _published(words: str, rule: str) -> str:
    return f"{words} ({rule})" if rule and rule not in words else words


def _refused(words: str) -> Reply:
    return Reply(550, "5.6.0", f"Not an envelope that can be taken: {words}"[:400])
