"""From what lists said to facts: who listed, who vouched, and the score over all (ITP-3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from outrider.model.facts import Fact, Provenance
from outrider.policy.fact_names import TRUST_DOUBT, TRUST_SCORE_LEAST
from outrider.trust.lists import NamedList
from outrider.trust.questions import Answer, Said
from outrider.trust.subjects import Role, Subject

MAX_HOW = 200
TRUST_FACTS = frozenset(
    {
        "client.listed", "client.vouched", "sender.domain.listed", "sender.domain.vouched", "trust.listed",
        "trust.vouched", "trust.score",
    }
)  # fmt: skip
CLIENT_FACTS = frozenset({"client.listed", "client.vouched"})
"""Those that are known at CONNECT."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one list said of one subject."""

    list: NamedList
    subject: Subject
    answer: Answer

    @property
    def is_hit(self) -> bool:
        """Whether the subject is on the list."""
        return self.answer.said is Said.HIT

    @property
    def is_silent(self) -> bool:
        """Whether nothing was learnt."""
        return self.answer.said not in (Said.HIT, Said.MISS)

    @property
    def counts(self) -> bool:
        """Whether it goes into the score: vouching for a name that is only claimed does not."""
        return self.is_hit and (self.subject.is_proven or not self.list.vouches)

    def __str__(self) -> str:
        detail = f" {self.answer.detail}" if self.answer.detail else ""
        return f"{self.list.name}{detail} ({self.subject})"


@dataclass(frozen=True, slots=True)
class Assessment:
    """All findings about one transaction."""

    findings: tuple[Finding, ...]

    @property
    def score(self) -> int:
        """Weights of block lists that list a subject, less those of vouch lists; each list counts once."""
        return self._weight(self._hits(vouching=False)) - self._weight(self._hits(vouching=True))

    @property
    def least_score(self) -> int:
        """The score had every silent vouch list vouched."""
        return self.score - self._weight(self._doubted())

    def _hits(self, *, vouching: bool) -> list[NamedList]:
        found = (one.list for one in self.findings if one.counts and one.list.vouches is vouching)
        return list(dict.fromkeys(found))

    def _doubted(self) -> list[NamedList]:
        """Vouch lists that might have vouched for something proven, and did not answer."""
        vouched = self._hits(vouching=True)
        silent = (
            one.list
            for one in self.findings
            if one.is_silent and one.list.vouches and one.subject.is_proven and one.list not in vouched
        )
        return list(dict.fromkeys(silent))

    @staticmethod
    def _weight(lists: Iterable[NamedList]) -> int:
        return sum(one.weight for one in lists)

    def client_facts(self, at: float) -> Iterator[Fact]:
        """Facts of the stage CONNECT."""
        about = [one for one in self.findings if one.subject.role is Role.CLIENT]
        yield _listing("client.listed", [one for one in about if not one.list.vouches], at)
        yield _listing("client.vouched", [one for one in about if one.list.vouches], at)
        yield from self._doubt(at)

    def sender_facts(self, at: float) -> Iterator[Fact]:
        """Facts of the stage SENDER, and what silence leaves in doubt."""
        about = [one for one in self.findings if one.subject.role in (Role.DOMAIN, Role.SENDER)]
        yield _listing("sender.domain.listed", [one for one in about if not one.list.vouches], at)
        yield _vouching_for_sender([one for one in about if one.list.vouches], at)
        counted = [one for one in self.findings if one.counts]
        yield _listing("trust.listed", [one for one in counted if not one.list.vouches], at)
        yield _listing("trust.vouched", [one for one in counted if one.list.vouches], at)
        yield Fact("trust.score", self.score, Provenance.VOUCHED, _told(counted), at)
        yield from self._doubt(at)

    def _doubt(self, at: float) -> Iterator[Fact]:
        """Which vouch lists are missed; () says that all answered."""
        if not any(one.list.vouches for one in self.findings):
            return
        doubted = tuple(one.name for one in self._doubted())
        yield Fact(TRUST_DOUBT, doubted, Provenance.PROVEN, "no answer" if doubted else "all answered", at)
        if doubted:
            yield Fact(TRUST_SCORE_LEAST, self.least_score, Provenance.PROVEN, "if they had vouched", at)


def _listing(name: str, findings: Iterable[Finding], at: float) -> Fact:
    """The names of the lists that hit; () says that the lists were asked and know nothing."""
    hits = [one for one in findings if one.is_hit]
    names = tuple(dict.fromkeys(one.list.name for one in hits))
    return Fact(name, names, Provenance.VOUCHED, _told(hits), at)


def _vouching_for_sender(findings: list[Finding], at: float) -> Fact:
    fact = _listing("sender.domain.vouched", findings, at)
    hits = [one for one in findings if one.is_hit]
    if hits and not any(one.subject.is_proven for one in hits):
        how = f"{_told(hits)}; nothing proves that the client speaks for it"
        return Fact(fact.name, fact.value, Provenance.CLAIMED, how[:MAX_HOW], at)
    return fact


def _told(hits: list[Finding]) -> str:
    text = ", ".join(str(hit) for hit in hits) if hits else "no list knows it"
    return text if len(text) <= MAX_HOW else f"{text[: MAX_HOW - 3]}..."
