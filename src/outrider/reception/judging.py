"""Policy at each stage: facts fetched if a rule needs them, the verdict taken and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outrider.model.facts import Facts
from outrider.model.reply import Reply
from outrider.model.verdict import ACCEPTED, Action, Stage, Verdict
from outrider.policy.fact_names import LOOKUP_FAILED
from outrider.policy.policy import CompiledPolicy
from outrider.reception.assembling import MailTransaction, verdict_event
from outrider.reception.interface import Decision, Session
from outrider.reception.lookups import FactSource
from outrider.reception.partner_terms import MISMATCH_TAG
from outrider.routing.partners import Breach

Conclude = Callable[[Verdict], Reply]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question to the policy."""

    stage: Stage
    session: Session
    facts: Facts
    conclude: Conclude
    """Makes the reply of the verdict."""
    sender_domain: str = ""
    home: Facts | None = None
    """Where facts that are fetched on the way are kept; default `facts`."""


class Judge:
    """Asks the policy, at once or after a look-up."""

    def __init__(self, policy: CompiledPolicy, sources: FactSource | None) -> None:
        self._policy = policy
        self._sources = sources

    def ask(self, inquiry: Inquiry) -> Decision:
        """The reply to the verdict; awaitable only when something must be looked up first."""
        if not self._policy.asks(inquiry.stage):
            return inquiry.conclude(ACCEPTED)
        wanted = self._to_fetch(inquiry.stage, inquiry.facts)
        if wanted and self._sources is not None:
            return self._after_lookup(inquiry, wanted, self._sources)
        return self._concluded(inquiry)

    def _concluded(self, inquiry: Inquiry) -> Reply:
        return inquiry.conclude(self._policy.evaluate(inquiry.stage, inquiry.facts))

    def _to_fetch(self, stage: Stage, facts: Facts) -> list[str]:
        failed = facts.value(LOOKUP_FAILED)
        tried = failed if isinstance(failed, tuple) else ()
        return [name for name in self._policy.lookups(stage) if name not in tried and facts.get(name) is None]

    async def _after_lookup(self, inquiry: Inquiry, wanted: list[str], sources: FactSource) -> Reply:
        home = inquiry.facts if inquiry.home is None else inquiry.home
        await sources.fetch(wanted, inquiry.session, home, inquiry.sender_domain)
        return self._concluded(inquiry)


def keep_verdict(mail: MailTransaction, verdict: Verdict, now: float, recipient: str = "") -> None:
    """What a verdict that admits means for the message: tags, hold, route, and the trail (ITP-5)."""
    if not verdict.rule:
        return
    mail.tags.extend(tag for tag in verdict.tags if tag not in mail.tags)
    if verdict.action is Action.HOLD:
        mail.hold_reason = verdict.reason
    if verdict.action is Action.ROUTE and not recipient:
        mail.route = verdict.route
    if verdict.rule not in mail.rules:
        mail.rules.append(verdict.rule)
        mail.events.append(verdict_event(now, verdict.reason, recipient))


def keep_breach(mail: MailTransaction, breach: Breach, now: float) -> bool:
    """What a breach of a partner's terms means for a message that is let through or held (ITP-8).

    False when it was known already."""
    event = verdict_event(now, breach.reason)
    if any(known.text == event.text for known in mail.events):
        return False
    mail.events.append(event)
    if MISMATCH_TAG not in mail.tags:
        mail.tags.append(MISMATCH_TAG)
    if breach.mode == "hold":
        mail.hold_reason = mail.hold_reason or breach.reason
    return True
