"""The seals of what comes in, verified before any object but the envelope is asked for (MT2-23a, MT2-26).

Signatures cost time and no waiting. A thread that verifies one lets go of the interpreter's lock, and then
waits for a busy loop to give it back: that costs more than the signature. So the seals of the ordinary
message, a few of them, are verified on the loop, after the read that brought them. A long trail goes to a
thread, many messages at a time: what comes while one batch is under way shares the next. Whom a sealer's
certificate stands for is asked on the loop; it is remembered by chain, and only a stranger's issuer costs a
look-up (MT2-24b).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seal_paths import answers_here, trace_answers
from outrider.identity.trace import (
    Circumstances,
    OpenedTrace,
    Problem,
    SealedMessage,
    TraceReport,
    judge_trace,
    open_many,
    open_trace,
)
from outrider.model.facts import Fact, Provenance

FEW_SEALS = 4
"""Of one message, up to which they are verified at once: a third of a millisecond."""
MOST_AT_ONCE = 64
"""Messages in one batch."""
MAX_PLACES = 16
_HOW = "seals verified"

_Asked = tuple[SealedMessage, Circumstances, asyncio.Future[OpenedTrace]]


@dataclass(frozen=True, slots=True)
class JudgedTrace:
    """What the seals of a message are worth."""

    word: str
    """The fact ``mt2.trace``."""
    facts: tuple[Fact, ...]
    problem: str = ""
    """Of one that is not good: the first place and what is wrong there, in a sentence for peer and log."""
    signers: frozenset[str] = frozenset()
    """Proven names of those who sealed it."""
    sender_is_claimed: bool = False
    """The host that sealed it first says that it took the sender's word for who he is (MT2-28c)."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


class TraceChecker:
    """Verifies seals; one for each configuration. Belongs to the event loop."""

    def __init__(self, peers: Mt2Peers, executor: Executor) -> None:
        self._peers = peers
        self._executor = executor
        self._asked: list[_Asked] = []
        self._is_running = False

    def check(
        self, message: SealedMessage, circumstances: Circumstances, address: str
    ) -> JudgedTrace | Awaitable[JudgedTrace]:
        """The judgement, at once where the seals are few and all sealers known. `address` is the peer's,
        whose look-ups are counted."""
        if message.parsed is None or len(message.parsed.seals) > FEW_SEALS:
            return self._opened_later(message, circumstances, address)
        opened = open_trace(message, circumstances)
        known = answers_here(self._peers, opened)
        if known is None:
            return self._asked_about(opened, circumstances, address)
        return judged(judge_trace(opened, known, circumstances), circumstances.now)

    async def _opened_later(
        self, message: SealedMessage, circumstances: Circumstances, address: str
    ) -> JudgedTrace:
        return await self._asked_about(await self._open(message, circumstances), circumstances, address)

    async def _asked_about(
        self, opened: OpenedTrace, circumstances: Circumstances, address: str
    ) -> JudgedTrace:
        known = await trace_answers(self._peers, opened, address)
        return judged(judge_trace(opened, known, circumstances), circumstances.now)

    def _open(self, message: SealedMessage, circumstances: Circumstances) -> asyncio.Future[OpenedTrace]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[OpenedTrace] = loop.create_future()
        self._asked.append((message, circumstances, future))
        if not self._is_running:
            self._is_running = True
            loop.call_soon(self._begin)
        return future

    def _begin(self) -> None:
        batch, self._asked = self._asked[:MOST_AT_ONCE], self._asked[MOST_AT_ONCE:]
        if not batch:
            self._is_running = False
            return
        work = [(message, circumstances) for message, circumstances, _ in batch]
        running = asyncio.get_running_loop().run_in_executor(self._executor, open_many, work)
        running.add_done_callback(lambda done: self._done(batch, done))

    def _done(self, batch: list[_Asked], done: asyncio.Future[list[OpenedTrace]]) -> None:
        error = None if done.cancelled() else done.exception()
        opened: Iterator[OpenedTrace] = iter(() if error is not None or done.cancelled() else done.result())
        for _, _, future in batch:
            if future.done():
                next(opened, None)
            elif error is not None or done.cancelled():
                future.set_exception(error or RuntimeError("the verifying of seals was called off"))
            else:
                future.set_result(next(opened))
        self._begin()


def judged(report: TraceReport, now: float) -> JudgedTrace:
    """The report as facts (MT2-23a)."""
    names = tuple(dict.fromkeys(hop.seal.by for hop in report.hops if hop.how))
    facts = [Fact("mt2.trace.hops", len(report.hops), Provenance.PROVEN, _HOW, now)]
    core = report.hops[0] if report.core is not None and report.hops[0].how else None
    if core is not None and "@" in core.seal.by:
        facts.append(Fact("mt2.sender", core.seal.by, Provenance.PROVEN, f"sealed; {core.how}", now))
    claimed = report.core is not None and report.core.verified.get("sender") == "claimed"
    if claimed:
        facts.append(Fact("mt2.sender.claimed", True, Provenance.PROVEN, "says who sealed it first", now))
    if report.is_good:
        facts.append(Fact("mt2.trace", "good", Provenance.PROVEN, _HOW, now))
        return JudgedTrace("good", tuple(facts), signers=frozenset(names), sender_is_claimed=claimed)
    first = report.findings[0]
    word = "unsealed" if first.problem is Problem.UNSEALED else "broken"
    places = tuple(dict.fromkeys(one.place for one in report.findings))[:MAX_PLACES]
    facts.append(Fact("mt2.trace", word, Provenance.PROVEN, first.text, now))
    facts.append(Fact("mt2.trace.place", places, Provenance.PROVEN, first.text, now))
    return JudgedTrace(word, tuple(facts), f"{first.place}: {first.text}", frozenset(names), claimed)
