"""Asking the lists of `[trust]`: all at once, each for a bounded time, remembered (ITP-3).

Silence costs no mail. A list that does not answer is rested for a while, so that not every message waits for
it. A hit counts only if the list does not also list what no list may (RFC 5782 section 5): a list that was
given up, and whose zone now answers to everything, would otherwise stop all mail at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from outrider.delivery.lookup import LookupFailed, NoRecords, NoSuchName
from outrider.model.facts import Facts
from outrider.reception.trust_files import WatchedList
from outrider.trust.assessment import CLIENT_FACTS, Assessment, Finding
from outrider.trust.brokers import Broker, broker_said
from outrider.trust.lists import NamedList
from outrider.trust.observer import TrustObserver
from outrider.trust.questions import (
    Answer,
    Question,
    Said,
    control_question,
    judge_addresses,
    judge_vouching,
    probe_questions,
    question_about,
)
from outrider.trust.subjects import OwnerOf, Subject, all_subjects, client_subjects

MAX_REMEMBERED = 20_000
"""Answers, about 300 octets each."""
MISS_REMEMBERED_S = 60.0
"""At most, for "not listed": lists add faster than they strike off."""
SILENCES_BEFORE_REST = 3
SILENCE_REST_S = 30.0
REFUSAL_REST_S = 300.0
"""For a list that refuses us or lists everything: that is not over in a minute."""


@dataclass(frozen=True, slots=True)
class ListRecords:
    """What DNS has for a name."""

    addresses: tuple[str, ...] = ()
    texts: tuple[bytes, ...] = ()
    ttl_s: float = 0.0


_Ask = Callable[[], Awaitable[tuple[Answer, float]]]
"""Brings an answer, and for how many seconds it holds; 0 = not at all."""


class ListLookup(Protocol):
    """The resolver as lists are asked through it. Each call ends in bounded time."""

    async def list_addresses(self, name: str) -> ListRecords:
        """A records. Raises LookupFailed's kinds."""
        ...

    async def list_texts(self, name: str) -> ListRecords:
        """TXT records. Raises LookupFailed's kinds."""
        ...


@dataclass(frozen=True, slots=True)
class TrustParts:
    """What a source works with; `runtime` joins it."""

    lists: tuple[NamedList, ...]
    files: Mapping[str, WatchedList]
    """By the list's name, for every list that is a file."""
    lookup: ListLookup
    observer: TrustObserver
    clock: Callable[[], float]
    """Seconds, monotonic."""
    cache_s: float
    owner_of: OwnerOf = lambda domain: ""
    """The partner entry of a sender domain."""
    brokers: Mapping[str, Broker] = field(default_factory=dict)
    """By the list's name, for every list that is a broker."""


@dataclass(slots=True)
class _Standing:
    """How a list has behaved lately."""

    silences: int = 0
    rests_until: float = 0.0
    is_out: bool = False


@dataclass(slots=True)
class _Memory:
    """Answers until their time is up; the oldest go first."""

    answers: OrderedDict[tuple[str, str], tuple[float, Answer]] = field(default_factory=OrderedDict)

    def get(self, key: tuple[str, str], now: float) -> Answer | None:
        until, answer = self.answers.get(key, (0.0, None))
        return answer if until > now else None

    def put(self, key: tuple[str, str], answer: Answer, until: float) -> None:
        self.answers[key] = (until, answer)
        self.answers.move_to_end(key)
        while len(self.answers) > MAX_REMEMBERED:
            self.answers.popitem(last=False)


class TrustSource:
    """Asks lists and makes facts of their answers. Belongs to one event loop."""

    def __init__(self, parts: TrustParts) -> None:
        self._parts = parts
        self._memory = _Memory()
        self._standing = {one.name: _Standing() for one in parts.lists}

    async def fetch(
        self, names: Iterable[str], session: Facts, message: Facts, issuers: Iterable[str], at: float
    ) -> None:
        """Make facts of `trust.assessment.TRUST_FACTS` known: the client's to the session's facts, others to
        the message's, which stand on them."""
        if CLIENT_FACTS.issuperset(names):
            assessment = await self.assess(client_subjects(session))
        else:
            assessment = await self.assess(all_subjects(message, self._parts.owner_of, issuers))
            for fact in assessment.sender_facts(at):
                message.add(fact)
        if session.get("client.listed") is None:
            for fact in assessment.client_facts(at):
                session.add(fact)

    async def assess(self, subjects: Iterable[Subject]) -> Assessment:
        """What all lists say of these subjects. Ends within the longest of their time limits."""
        lists = self._parts.lists
        asked = [(one, subject) for subject in subjects for one in lists if one.asks_about(subject)]
        return Assessment(tuple(await asyncio.gather(*(self._find(*one) for one in asked))))

    async def probe(self, one: NamedList) -> str:
        """What is wrong with a list, by the entries that RFC 5782 section 5 demands of it; "" = it is alive.

        Files are read already; vouching services and brokers have no such entries.
        """
        if one.is_file or one.is_broker or one.kind == "vbr":
            return ""
        whole = replace(one, codes=())  # whatever of its answers count here, it must have the entry
        for question, wanted in zip(probe_questions(one), (Said.HIT, Said.MISS), strict=True):
            try:
                async with asyncio.timeout(one.timeout_s):
                    answer, _ = await self._ask(whole, question)
            except TimeoutError:
                return f"{question.name}: no answer in {one.timeout_s:g} s"
            if answer.said is not wanted:
                what = answer.detail or ("is not listed" if wanted is Said.HIT else "is listed")
                return f"{question.name}: {what}"
        return ""

    async def _find(self, one: NamedList, subject: Subject) -> Finding:
        return Finding(one, subject, await self._answer(one, subject))

    async def _answer(self, one: NamedList, subject: Subject) -> Answer:
        if one.is_file:
            entry = (await self._parts.files[one.name].entries()).entry_for(subject)
            return Answer(Said.HIT, entry) if entry else Answer(Said.MISS)
        if one.is_broker:
            broker = self._parts.brokers[one.name]
            return await self._remembered(one, str(subject), lambda: _ask_broker(broker, subject))
        question = question_about(one, subject)
        if question is None:
            return Answer(Said.MISS, "no such name can be in DNS")
        control = control_question(one, subject)
        return await self._remembered(
            one, question.name, lambda: self._ask_and_control(one, question, control)
        )

    async def _remembered(self, one: NamedList, about: str, ask: _Ask) -> Answer:
        known = self._memory.get((one.name, about), self._parts.clock())
        if known is not None:
            self._parts.observer.answer_remembered(one.name)
            return known
        if self._standing[one.name].rests_until > self._parts.clock():
            return Answer(Said.SILENT, "did not answer a moment ago, and rests")
        return await self._ask_in_time(one, about, ask)

    async def _ask_in_time(self, one: NamedList, about: str, ask: _Ask) -> Answer:
        began = self._parts.clock()
        try:
            async with asyncio.timeout(one.timeout_s):
                answer, ttl_s = await ask()
        except TimeoutError:
            answer, ttl_s = Answer(Said.SILENT, f"no answer in {one.timeout_s:g} s"), 0.0
        now = self._parts.clock()
        self._parts.observer.list_answered(one.name, answer.said.value, now - began)
        self._keep_standing(one, answer, now)
        if ttl_s > 0:
            self._memory.put((one.name, about), answer, now + min(ttl_s, self._parts.cache_s))
        return answer

    async def _ask_and_control(
        self, one: NamedList, question: Question, control: Question | None
    ) -> tuple[Answer, float]:
        answer, ttl_s = await self._ask(one, question)
        if answer.said is Said.HIT and control is not None:
            controlled, _ = await self._ask(one, control)
            if controlled.said is Said.HIT:
                return Answer(Said.LISTS_ALL, f"it lists {control.name}, which no list may"), 0.0
        return answer, ttl_s

    async def _ask(self, one: NamedList, question: Question) -> tuple[Answer, float]:
        """The answer, and for how long it holds; 0 = not at all."""
        lookup = self._parts.lookup
        try:
            if question.is_txt:
                records = await lookup.list_texts(question.name)
                answer = judge_vouching(one, records.texts)
            else:
                records = await lookup.list_addresses(question.name)
                answer = judge_addresses(one, records.addresses)
        except (NoSuchName, NoRecords):
            return Answer(Said.MISS), MISS_REMEMBERED_S
        except LookupFailed as error:
            return Answer(Said.SILENT, error.reason), 0.0
        if answer.said is Said.REFUSED:
            return answer, 0.0
        return answer, records.ttl_s if answer.said is Said.HIT else min(records.ttl_s, MISS_REMEMBERED_S)

    def _keep_standing(self, one: NamedList, answer: Answer, now: float) -> None:
        standing = self._standing[one.name]
        if answer.said in (Said.HIT, Said.MISS):
            if standing.is_out:
                self._parts.observer.list_came_back(one.name)
            self._standing[one.name] = _Standing()
            return
        standing.silences += 1
        if answer.said is not Said.SILENT:
            standing.rests_until = now + REFUSAL_REST_S
        elif standing.silences >= SILENCES_BEFORE_REST:
            standing.rests_until = now + SILENCE_REST_S
        if not standing.is_out and standing.rests_until > now:
            standing.is_out = True
            self._parts.observer.list_fell_silent(one.name, answer.said.value, answer.detail)


async def _ask_broker(broker: Broker, subject: Subject) -> tuple[Answer, float]:
    """A plug-in's word; whatever it raises is its silence."""
    try:
        return broker_said(await broker.ask(subject))
    except TimeoutError:
        raise
    except Exception as error:
        return Answer(Said.SILENT, f"{type(error).__name__}: {error}"[:200]), 0.0
