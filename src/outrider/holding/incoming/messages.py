"""Messages that the incoming gateway makes of an envelope (AMDP-10, AMDP-11): the envelope for its reader,
the errand to fetch the message, the errand to confirm its receipt, and the letter that says why there is
none.

Each is stored with the settlement of the attempt that makes it: once, or not at all. None of them ever
causes a report to a sender, who heard the last of it with the 250 (AMDP-10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from outrider.delivery.schedule import Schedule
from outrider.holding.incoming.arrival_store import Arrival
from outrider.holding.incoming.deciding import Decision
from outrider.holding.web import IPAddress
from outrider.lists.letters import Letter
from outrider.lists.mailing import Mailing
from outrider.message.summary import displayable
from outrider.model.address import Address, Domain
from outrider.model.content import Content
from outrider.model.envelope import Envelope, Notify, Recipient
from outrider.model.facts import Fact, Provenance
from outrider.model.message import Event, NewMessage, StoredMessage
from outrider.model.mpc import MailClass, Mpc, Role
from outrider.protocols.amdp.envelope import HeldEnvelope, retrieval_link, verified

FETCH: Final = "amdp-fetch:"
RECEIPT: Final = "amdp-receipt:"
BULK: Final = -1
JITTER: Final = 0.2
WRITTEN_AS: Final = Mpc(Role.NET, MailClass.AUTORESPONSE)
FACT_PREFIX: Final = "amdp."


@dataclass(frozen=True, slots=True)
class Making:
    """How messages are made; anew by a reload."""

    mailing: Mailing
    retry: tuple[float, ...]
    """[amdp.incoming] retry."""

    def schedule(self, expires: float) -> Schedule:
        """When what waits is tried again: until the envelope expires, which the transport itself notices."""
        return Schedule(self.retry or (3600.0,), JITTER, expires, 0.0, gives_up=False)

    # --- what goes on ---------------------------------------------------------------------------------------

    def handed_over(
        self,
        message: StoredMessage,
        recipients: Sequence[Recipient],
        envelope: HeldEnvelope,
        arrival: Arrival,
        now: float,
        facts: tuple[Fact, ...],
    ) -> NewMessage:
        """The envelope for its reader, with confirmation number and link (AMDP-14); `facts`: what the
        call-back has proven."""
        assert message.content is not None, "the envelope has been read"
        link = retrieval_link(envelope, arrival.confirmation)
        content = verified(message.content, arrival.confirmation, link, arrival.thread)
        about = f"the envelope {message.id}, its holder called back"
        return self._made(message, content, recipients, now, about, facts)

    def fetching(
        self,
        message: StoredMessage,
        recipients: Sequence[Recipient],
        now: float,
        due: float,
        facts: tuple[Fact, ...],
        *,
        mass: bool,
    ) -> NewMessage:
        """The errand to fetch: the envelope once more, by the way `amdp-fetch:`."""
        assert message.content is not None, "the envelope has been read"
        about = f"the errand to fetch what the envelope {message.id} tells of"
        made = self._made(message, message.content, recipients, now, about, facts)
        items = tuple(replace(item, next_attempt_at=due) for item in made.items)
        return replace(made, items=items, priority=BULK if mass else 0)

    def receipt(self, message: StoredMessage, now: float) -> NewMessage:
        """The errand to tell the holder that we have the message."""
        assert message.content is not None, "the envelope has been read"
        recipients = (replace(message.envelope.recipients[0], route=RECEIPT),)
        about = f"the receipt for what was fetched by {message.id}"
        return replace(self._made(message, message.content, recipients, now, about), priority=BULK)

    def _made(
        self,
        message: StoredMessage,
        content: Content,
        recipients: Sequence[Recipient],
        now: float,
        about: str,
        facts: tuple[Fact, ...] = (),
    ) -> NewMessage:
        silent = tuple(
            [one if one.notify is Notify.NEVER else replace(one, notify=Notify.NEVER) for one in recipients]
        )
        old = message.envelope
        envelope = Envelope(
            old.sender, silent, old.body_type, old.smtputf8, old.ret, old.envelope_id, mpc=old.mpc,
            arrival=old.arrival,
        )  # fmt: skip
        return NewMessage(
            self.mailing.new_id(now),
            now,
            envelope,
            message.trace,
            content,
            self.mailing.items(silent, now),
            (*message.facts, *facts),
            (Event(now, "received", f"made here: {about}"),),
        )

    # --- the letter -----------------------------------------------------------------------------------------

    def lost(self, envelope: HeldEnvelope, words: str, now: float) -> NewMessage:
        """Tell the reader that a message was announced and cannot be had (AMDP-23)."""
        when = datetime.fromtimestamp(envelope.expires, UTC).strftime("%d %B %Y, %H:%M UTC")
        subject = displayable(envelope.subject, 200) or "(no subject)"
        text = (
            "A message for you was announced by its sender's server, which is known to be genuine, "
            "but it could not be had.\n\n"
            f"From:    {envelope.sender}\n"
            f"Subject: {subject}\n"
            f"Size:    {envelope.size} octets\n"
            f"Kept until: {when}\n\n"
            f"Why: {words}.\n\n"
            "If you need it, ask its sender to send it again.\n"
        )
        letter = Letter(
            writer=Address("mailer-daemon", Domain(self.mailing.hostname)),
            to=envelope.recipient,
            subject=f"Not received: {subject}",
            text=text,
            writer_name="Mail server",
        )
        return self.mailing.letter(letter, WRITTEN_AS, now, f"word of a message that {envelope.holder} held")


def call_back_facts(
    envelope: HeldEnvelope, arrival: Arrival, decision: Decision, now: float
) -> tuple[Fact, ...]:
    """What the call-back has proven; policy, explain and the fetched message go by it (ITP-2b)."""
    proven, how = Provenance.PROVEN, arrival.how
    told = f"{arrival.holder} called back"
    by = (
        f"classification service {decision.class_service}"
        if decision.class_service
        else "the envelope says so"
    )
    return (
        Fact("amdp.domain", str(envelope.domain), proven, how, now),
        Fact("amdp.holder", arrival.holder, proven, how, now),
        Fact("amdp.sender", str(envelope.sender), proven, told, now),
        Fact("amdp.class", str(envelope.mail_class), decision.class_warrant, by, now),
        Fact("amdp.standing", decision.standing.value, proven, "[amdp.incoming]", now),
    )


def amdp_facts(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Those that a call-back has left, claims of the session left out."""
    return tuple(
        fact
        for fact in facts
        if fact.name.startswith(FACT_PREFIX) and (fact.provenance is not Provenance.CLAIMED or fact.how)
    )


def connecting_address(message: StoredMessage) -> IPAddress | None:
    """Where a message came from; None for one that came by no network."""
    for fact in reversed(message.facts):
        if fact.name == "client.address" and fact.provenance is Provenance.PROVEN:
            return _address(fact.value) if isinstance(fact.value, str) else None
    return None


@lru_cache(maxsize=4096)
def _address(text: str) -> IPAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
