"""What becomes of an envelope whose holder is genuine (AMDP-10, AMDP-11, AMDP-22): fetched by this server,
handed to its reader as it is, or dropped. Pure decisions; what must be looked up is an argument.

Three classes of senders: *allowed* ones, whose mail is fetched whatever its class; *denied* ones; and all
others, who are strangers: their mail is held where it is unless the published policy takes it directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from outrider.config.amdp_schema import AmdpIncoming
from outrider.holding.subscriptions.wishes import Standing as Wish
from outrider.model.facts import Provenance
from outrider.protocols.amdp.envelope import HeldEnvelope
from outrider.protocols.amdp.mail_class import ClassPattern, MailType, matches_any
from outrider.protocols.amdp.report import PolicyReport
from outrider.protocols.amdp.terms import Asked, NotNow, Refused, judge

PAYS_ANY: Final = 10**12
"""Thousandths: what a receipt is worth is found out when it is redeemed."""
MOST_DECISIONS: Final = 1000
"""Remembered."""
MASS_MAIL: Final = frozenset({MailType.BULK, MailType.COMMERCE, MailType.UNKNOWN})
"""What comes to many at once: its fetches are spread over the window."""


class Standing(Enum):
    """What a sender's domain is to this site (AMDP-22)."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNCLASSIFIED = "unclassified"


class Fate(Enum):
    """What becomes of an envelope."""

    FETCH = "fetch"
    """This server fetches the message, its reader sees ordinary mail."""
    HAND_OVER = "hand over"
    """The reader gets the envelope and fetches the message when he likes."""
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and why."""

    fate: Fate
    words: str
    """For the trail."""
    standing: Standing
    price: int = 0
    """Thousandths that have to be paid before it is taken."""
    breaks_policy: bool = False
    """Dropped because of the published policy, or for a lie about the class: worth a report (AMDP-18)."""
    lacks_voucher: bool = False
    """Dropped because nobody vouches for the class."""
    class_warrant: Provenance = Provenance.CLAIMED
    class_service: str = ""
    """Who vouches for the class."""


class Vouching(Protocol):
    """What classification services say of a domain; see `classification.Vouched`."""

    @property
    def service(self) -> str:
        """The host whose word it is."""
        ...

    @property
    def answered(self) -> bool:
        """Whether anybody could be asked."""
        ...

    def covers(self, mail_class: str) -> bool:
        """Whether this class is vouched for."""
        ...


@dataclass(frozen=True, slots=True)
class IncomingRules:
    """What the settings say, read once; made anew by a reload."""

    incoming: AmdpIncoming
    fetch_classes: tuple[ClassPattern, ...]
    unvouched: str
    """[amdp.classification] unvouched."""
    asks_services: bool
    """There are classification services."""
    exempt: tuple[str, ...]
    """Sender domains that pay nothing."""
    largest: int
    """Octets of the largest message that is taken at all; 0 = no limit."""

    def standing(self, domain: str) -> Standing:
        """What a sender's domain is; denied comes before allowed."""
        if is_listed(domain, self.incoming.denied):
            return Standing.DENIED
        return Standing.ALLOWED if is_listed(domain, self.incoming.allowed) else Standing.UNCLASSIFIED


def is_listed(domain: str, entries: tuple[str, ...]) -> bool:
    """Whether the domain is one of the entries; `.domain` is everything below it."""
    folded = domain.lower()
    return any(folded == one.lower() or (one[:1] == "." and folded.endswith(one.lower())) for one in entries)


def decide(
    rules: IncomingRules,
    report: PolicyReport,
    envelope: HeldEnvelope,
    vouching: Vouching | None,
    received_at: float,
    wish: Wish | None = None,
) -> Decision:
    """What becomes of it. `report` is what we publish; `received_at`: when the envelope was taken, for its
    hours; `vouching` None: nobody was asked; `wish`: what its recipient has said of such mail (AMDP-19)."""
    standing = rules.standing(envelope.domain)
    if standing is Standing.UNCLASSIFIED and wish is Wish.ACCEPT:
        standing = Standing.ALLOWED
    if wish is Wish.DENY:
        words = "its recipient has said that such mail is not wanted"
        return Decision(Fate.DROP, words, Standing.DENIED)
    if standing is Standing.DENIED:
        return Decision(Fate.DROP, f"mail from {envelope.domain} is denied", standing)
    is_known = standing is Standing.ALLOWED
    is_exempt = is_listed(envelope.domain, rules.exempt)
    is_vouched = vouching is not None and vouching.covers(str(envelope.mail_class))
    asked = Asked(
        envelope.mail_class,
        envelope.size,
        received_at,
        paid=PAYS_ANY if envelope.postage or is_exempt else 0,
        recent=0,
        vouched=is_vouched or not _was_answered(rules, vouching),
        known=is_known,
    )
    judged = judge(report, asked)
    if isinstance(judged, Refused | NotNow):
        return Decision(Fate.DROP, judged.words, standing, breaks_policy=True)
    price = 0 if is_known or is_exempt else judged.price
    service = vouching.service if vouching is not None and is_vouched else ""
    warrant = Provenance.VOUCHED if is_vouched else Provenance.CLAIMED
    if not is_known and not is_vouched and rules.unvouched == "refuse" and _was_answered(rules, vouching):
        words = f"nobody vouches for the class {envelope.mail_class} of {envelope.domain}"
        return Decision(Fate.DROP, words, standing, breaks_policy=True, lacks_voucher=True)
    fate, words = _fate(rules, envelope, is_known, is_vouched, direct=judged.direct)
    return Decision(fate, words, standing, price, class_warrant=warrant, class_service=service)


class Decider:
    """`decide` under one set of rules. Envelopes of a newsletter differ in nothing that a decision goes by,
    so what was decided on one is remembered for the next."""

    def __init__(self, rules: IncomingRules, report: PolicyReport) -> None:
        self._rules = rules
        self._report = report
        self._known: dict[tuple[str, tuple[str, ...], int, bool], Decision] = {}

    def decide(
        self, envelope: HeldEnvelope, vouching: Vouching | None, received_at: float, wish: Wish | None
    ) -> Decision:
        """See `decide`."""
        if vouching is not None or wish is not None or self._report.unsolicited_hours:
            return decide(self._rules, self._report, envelope, vouching, received_at, wish)
        key = (envelope.domain, envelope.mail_class.parts, envelope.size, bool(envelope.postage))
        decision = self._known.get(key)
        if decision is None:
            if len(self._known) >= MOST_DECISIONS:
                self._known.clear()
            decision = decide(self._rules, self._report, envelope, None, received_at)
            self._known[key] = decision
        return decision


def _was_answered(rules: IncomingRules, vouching: Vouching | None) -> bool:
    """A service that cannot be asked never stands in the way of mail (ITP-3)."""
    return not rules.asks_services or (vouching is not None and vouching.answered)


def _fate(
    rules: IncomingRules, envelope: HeldEnvelope, is_known: bool, is_vouched: bool, *, direct: bool
) -> tuple[Fate, str]:
    wanted = rules.incoming.fetch
    if wanted == "never":
        return Fate.HAND_OVER, "its reader fetches it: [amdp.incoming] fetch is never"
    if rules.largest and envelope.size > rules.largest:
        return (
            Fate.HAND_OVER,
            f"its reader fetches it: {envelope.size} octets are more than mail may have here",
        )
    if not direct:
        return Fate.HAND_OVER, f"its reader fetches it: {envelope.size} octets are more than MAX-MAIL-SIZE"
    if is_known:
        return Fate.FETCH, f"{envelope.domain} is an allowed sender, of this site or of the recipient"
    if wanted == "allowed":
        return Fate.HAND_OVER, f"its reader fetches it: {envelope.domain} is a stranger"
    if not matches_any(rules.fetch_classes, envelope.mail_class):
        return Fate.HAND_OVER, f"its reader fetches it: it is of the class {envelope.mail_class}"
    if not is_vouched and rules.unvouched != "claimed":
        return Fate.HAND_OVER, f"its reader fetches it: nobody vouches for {envelope.mail_class}"
    return Fate.FETCH, f"the published policy takes {envelope.mail_class}"


def is_mass_mail(envelope: HeldEnvelope) -> bool:
    """Whether others like it come at the same moment, so that their fetches are to be spread (AMDP-22)."""
    return envelope.mail_class.mail_type in MASS_MAIL
