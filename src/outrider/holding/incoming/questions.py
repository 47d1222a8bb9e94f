"""The call-back (AMDP-9): envelopes of one holder are asked about together.

While one call is under way, and for a moment since the last one began, whatever else is to be asked of the
same holder gathers, up to a hundred, and goes with the next (as commits do): a call costs the same for one
as for many, and nobody counts an envelope's milliseconds. One *dialogue* for all of them: what is remembered
of earlier attempts, the query, comparing addresses, postage, one transaction that remembers every answer,
and the acknowledgement, which burns the ids. It may break off anywhere: until the transaction nothing is
burnt and all is asked again; after it an attempt that is made again goes straight to the acknowledgement,
which a holder takes twice.

A holder that does not answer rests for a moment, and all that wait for it wait in the queue instead of here.
Holders that have never answered share a small part of the room: whoever sends envelopes for a thousand
names that lead nowhere does not stand in the way of others (AMDP-12).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

import msgspec

from outrider.holding.incoming.arrival_store import Arrival, ArrivalState, Why
from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.observer import IncomingObserver
from outrider.holding.postage.provider_interface import PostageProvider, PostageUnavailable, Redeemed
from outrider.holding.web import CallFailed, WebCaller
from outrider.model.address import Address, AddressError, parse_address
from outrider.model.message import MessageId
from outrider.protocols.amdp.callback import (
    ACKNOWLEDGE_PATH,
    MAX_ANSWER,
    MOST_ITEMS,
    QUERY_PATH,
    Acknowledgement,
    AcknowledgementAnswers,
    Acknowledgements,
    Answer,
    Answers,
    Done,
    Queries,
    Query,
)
from outrider.protocols.amdp.identifiers import is_identifier
from outrider.protocols.amdp.json_forms import FormError, decode, encode
from outrider.tables.database import StoreUnavailable

GATHER_S: Final = 0.05
"""From the beginning of one dialogue with a holder to that of the next, where that is not full before."""
REST_S: Final = 15.0
"""How long a holder that did not answer is left alone, where the first retry is not sooner."""
MOST_STRANGERS: Final = 50
"""Holders that have never answered and are being asked at once."""
MOST_WAITING: Final = 1000
"""Envelopes of one holder that wait here at once."""
MOST_LINES: Final = 10_000

F = TypeVar("F", bound=msgspec.Struct)


class HolderAway(Exception):
    """No answer now: the envelope waits. The words are for log and trail."""


class Refusal(Exception):
    """The envelope ends here (AMDP-10)."""

    def __init__(self, why: Why, words: str) -> None:
        super().__init__(words)
        self.why = why
        self.words = words


@dataclass(frozen=True, slots=True)
class Question:
    """One envelope to be asked about, and what is to be remembered of it when it is known."""

    query: Query
    recipient: Address
    """AMDP-To: the holder must mean the same."""
    arrival: Arrival
    """Without confirmation number yet."""
    price: int = 0
    """Thousandths that it must have paid."""
    postage: str = ""
    """AMDP-Payment-Rcpt."""


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """What calls may cost."""

    concurrency: int = 4
    """Calls at once to one holder."""
    batch: int = MOST_ITEMS
    rest_s: float = REST_S
    """How long a holder that did not answer is left alone."""
    gather_s: float = GATHER_S


@dataclass(frozen=True, slots=True, eq=False)
class _Asker:
    question: Question
    done: asyncio.Future[Arrival]

    @property
    def key(self) -> tuple[str, str]:
        return self.question.arrival.holder, self.question.arrival.id

    def refuse(self, why: Why, words: str) -> None:
        if not self.done.done():
            self.done.set_exception(Refusal(why, words))

    def wait(self, words: str) -> None:
        if not self.done.done():
            self.done.set_exception(HolderAway(words))


@dataclass(slots=True)
class _Line:
    """One holder."""

    holder: tuple[str, int]
    waiting: list[_Asker] = field(default_factory=list)
    calls: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)
    """As many wait as one call can take."""
    next_at: float = 0.0
    """By the loop's clock: until then questions gather."""
    rests_until: float = 0.0
    why: str = ""
    has_answered: bool = False


class PostageSource(Protocol):
    """Gives the provider that takes our receipts; None where nothing is to be paid."""

    def __call__(self) -> PostageProvider | None:
        """The present one."""
        ...


class Questions:
    """See the module. Belongs to one event loop."""

    def __init__(
        self,
        caller: WebCaller,
        arrivals: Arrivals,
        observer: IncomingObserver,
        clock: Callable[[], float],
        terms: QuestionTerms | None = None,
        postage: PostageSource = lambda: None,
    ) -> None:
        self._caller = caller
        self._arrivals = arrivals
        self._observer = observer
        self._clock = clock
        self._terms = terms or QuestionTerms()
        self._postage = postage
        self._lines: OrderedDict[tuple[str, int], _Line] = OrderedDict()
        self._strangers: set[tuple[str, int]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def ask(self, question: Question) -> Arrival:
        """The arrival as it is remembered, with its confirmation number, when the holder has burnt the id.
        Raises Refusal, HolderAway."""
        line = self._line((question.arrival.holder, question.arrival.port))
        if self._is_closed:
            raise HolderAway("the server stops")
        if self._clock() < line.rests_until:
            raise HolderAway(line.why)
        if len(line.waiting) >= MOST_WAITING:
            raise HolderAway(f"many envelopes wait for {question.arrival.holder}")
        if not line.has_answered:
            self._make_room(question.arrival, line)
        asker = _Asker(question, asyncio.get_running_loop().create_future())
        line.waiting.append(asker)
        if len(line.waiting) >= self._terms.batch:
            line.full.set()
        self._start(line)
        return await asker.done

    def _make_room(self, arrival: Arrival, line: _Line) -> None:
        """Raises HolderAway: strangers have a part of the room, and each a part of that."""
        holder = (arrival.holder, arrival.port)
        is_new = holder not in self._strangers
        if len(line.waiting) >= self._terms.batch or (is_new and len(self._strangers) >= MOST_STRANGERS):
            raise HolderAway("many envelopes wait for holders that have not answered yet")
        self._strangers.add(holder)

    async def aclose(self) -> None:
        """Break off what is under way, and begin nothing more."""
        self._is_closed = True
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        for line in self._lines.values():
            for asker in line.waiting:
                asker.wait("the server stops")

    # --- lines ----------------------------------------------------------------------------------------------

    def _line(self, holder: tuple[str, int]) -> _Line:
        line = self._lines.get(holder)
        if line is None:
            line = self._lines[holder] = _Line(holder)
            if len(self._lines) > MOST_LINES:
                self._forget_one()
        self._lines.move_to_end(holder)
        return line

    def _forget_one(self) -> None:
        for holder, line in self._lines.items():
            if not line.calls and not line.waiting:
                del self._lines[holder]
                return

    def _start(self, line: _Line) -> None:
        """One call at a time, as long as it takes all that wait; more where there is more."""
        is_enough = line.calls and len(line.waiting) < self._terms.batch
        if self._is_closed or not line.waiting or is_enough or line.calls >= self._terms.concurrency:
            return
        line.calls += 1
        call = asyncio.create_task(self._serve(line))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(self, line: _Line) -> None:
        try:
            while line.waiting:
                await self._gather(line)
                batch, line.waiting = line.waiting[: self._terms.batch], line.waiting[self._terms.batch :]
                batch = [asker for asker in batch if not asker.done.done()]
                if batch:
                    await self._hold_dialogue(line, batch)
        finally:
            line.calls -= 1
            self._strangers.discard(line.holder)
            self._start(line)

    async def _gather(self, line: _Line) -> None:
        """Wait for others to go along, unless nothing was asked a moment ago."""
        loop = asyncio.get_running_loop()
        line.full.clear()
        if len(line.waiting) < self._terms.batch and loop.time() < line.next_at:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(line.next_at):
                    await line.full.wait()
        line.next_at = loop.time() + self._terms.gather_s

    async def _hold_dialogue(self, line: _Line, batch: list[_Asker]) -> None:
        try:
            await self._dialogue(batch)
            line.has_answered = True
        except CallFailed as error:
            self._failed(line, batch, error)
        except (FormError, StoreUnavailable) as error:
            for asker in batch:
                asker.wait(str(error))
        except Exception as error:
            self._observer.incoming_failed("asking a holder", error, batch[0].question.arrival.message)
            for asker in batch:
                asker.wait("a fault in this server while asking the holder; the envelope waits")
        finally:
            for asker in batch:
                asker.wait("the server stops")

    def _failed(self, line: _Line, batch: list[_Asker], error: CallFailed) -> None:
        """All that wait for a holder that is away wait in the queue; one that can never be called is none."""
        if not error.temporary:
            for asker in batch:
                asker.refuse(Why.NOT_GENUINE, f"its holder cannot be called: {error}")
            return
        line.rests_until, line.why = self._clock() + self._terms.rest_s, str(error)
        waiting, line.waiting = line.waiting, []
        for asker in (*batch, *waiting):
            asker.wait(str(error))

    # --- one dialogue ---------------------------------------------------------------------------------------

    async def _dialogue(self, batch: Sequence[_Asker]) -> None:
        known = await self._arrivals.recall([asker.key for asker in batch])
        asked = [asker for asker in batch if asker.key not in known]
        going = [(asker, known[asker.key]) for asker in batch if asker.key in known]
        if asked:
            going += await self._query(asked)
        ours: list[tuple[_Asker, Arrival]] = []
        for asker, arrival in going:
            if arrival.message == asker.question.arrival.message:
                ours.append((asker, arrival))
            else:
                asker.refuse(Why.REPLAYED, f"it has come before, as {arrival.message}")
        if ours:
            await self._acknowledge(ours)

    async def _query(self, asked: Sequence[_Asker]) -> list[tuple[_Asker, Arrival]]:
        """Those that are known, as they are remembered from now on."""
        queries = Queries(tuple(asker.question.query for asker in asked))
        answers = (await self._post(asked[0], QUERY_PATH, queries, Answers)).answers
        if len(answers) != len(asked):
            raise CallFailed(f"{asked[0].key[0]}: {len(answers)} answers to {len(asked)} questions")
        confirmed = []
        for asker, answer in zip(asked, answers, strict=True):
            arrival = _confirmed(asker, answer)
            if arrival is not None and await self._is_paid(asker):
                confirmed.append((asker, arrival))
        self._observer.holder_asked(asked[0].key[0], len(asked), sum(answer.known for answer in answers))
        if not confirmed:
            return []
        remembered = await self._arrivals.confirm([arrival for _, arrival in confirmed])
        return [(asker, found) for (asker, _), found in zip(confirmed, remembered, strict=True)]

    async def _is_paid(self, asker: _Asker) -> bool:
        """Redeem its postage, where it has a price. The envelope's queue id is the cause: once it is spent
        for this envelope it is so however often that is asked (AMDP-20)."""
        question = asker.question
        provider = self._postage() if question.price else None
        if provider is None:
            return True
        try:
            outcome = await provider.redeem(
                question.postage,
                cause=question.arrival.message,
                message_id=question.arrival.id,
                recipient_domain=question.recipient.domain,
                payer=question.arrival.domain,
                price=question.price,
                now=self._clock(),
            )
        except PostageUnavailable as error:
            asker.wait(f"its postage cannot be redeemed now: {error}")
            return False
        if isinstance(outcome, Redeemed):
            return True
        asker.refuse(Why.POSTAGE, f"its postage is not taken: {outcome.words}")
        return False

    async def refund(self, postage: str, message: MessageId) -> None:
        """Pay back what the postage of an envelope has cost that is dropped after all, or whose message is
        refused; nothing, where it was not redeemed by this envelope (AMDP-20). Raises HolderAway."""
        provider = self._postage() if postage else None
        if provider is None:
            return
        try:
            await provider.refund(postage, cause=message, now=self._clock())
        except PostageUnavailable as error:
            raise HolderAway(f"its postage cannot be refunded now: {error}") from error

    async def _acknowledge(self, ours: Sequence[tuple[_Asker, Arrival]]) -> None:
        told = Acknowledgements(
            tuple(Acknowledgement(arrival.id, arrival.confirmation) for _, arrival in ours)
        )
        answers = (await self._post(ours[0][0], ACKNOWLEDGE_PATH, told, AcknowledgementAnswers)).answers
        if len(answers) != len(ours):
            raise CallFailed(f"{ours[0][1].holder}: {len(answers)} answers to {len(ours)} acknowledgements")
        for (asker, arrival), answer in zip(ours, answers, strict=True):
            if not _agrees(answer, arrival):
                await self._arrivals.move(arrival, ArrivalState.LOST)
                asker.refuse(Why.UNKNOWN, "its holder takes no acknowledgement of it: withdrawn or expired")
            elif not asker.done.done():
                asker.done.set_result(arrival)

    async def _post(self, asker: _Asker, path: str, body: msgspec.Struct, form: type[F]) -> F:
        """The answer to a call. Raises CallFailed for all but 200: whatever a holder says in HTTP alone
        proves nothing about an envelope (SEC-184)."""
        arrival = asker.question.arrival
        answer = await self._caller.post(arrival.holder, arrival.port, path, encode(body), limit=MAX_ANSWER)
        if answer.status != 200:
            raise CallFailed(f"{arrival.holder} answers {answer.status} to {path}")
        try:
            return decode(answer.body, form, MAX_ANSWER)
        except FormError as error:
            raise CallFailed(f"{arrival.holder}: {error}") from error


def _confirmed(asker: _Asker, answer: Answer) -> Arrival | None:
    """The arrival that an answer confirms; None: the asker has been refused."""
    question = asker.question
    if not answer.known:
        asker.refuse(Why.UNKNOWN, f"{question.arrival.holder} does not know it as it came")
        return None
    if not _is_same(answer.to, question.recipient):
        asker.refuse(Why.RECIPIENT, f"{question.arrival.holder} holds it for another recipient")
        return None
    if not is_identifier(answer.confirmation):
        asker.wait(f"{question.arrival.holder} gave no confirmation number")
        return None
    thread = tuple(one for one in answer.thread if one.isascii() and one.isprintable())
    return replace(question.arrival, confirmation=answer.confirmation, thread=thread)


def _is_same(text: str, recipient: Address) -> bool:
    try:
        return parse_address(text).key == recipient.key
    except AddressError:
        return False


def _agrees(answer: Done, arrival: Arrival) -> bool:
    """Repeating an acknowledgement returns the same number (AMDP-9)."""
    return answer.done and answer.confirmation in ("", arrival.confirmation)
