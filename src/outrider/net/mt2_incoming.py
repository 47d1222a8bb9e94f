"""The other side's transfers on an MT2 connection: from the core's events to reception and back (MT2-14).

What reception says at once is answered at once, within the read that asked. What it must wait for - a seal,
a look-up, the disk - holds up the rest of *that* transfer only: the others go on, and so many messages share
one commit. Octets that wait for the disk are counted; while they are too many, nothing is read (MT2-18c).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from outrider.net.mt2_line import Line
from outrider.protocols.mt2.codes import ALREADY_TAKEN, MESSAGE_TAKEN, NO_STORAGE, TAKES_NO_MAIL, Result, err
from outrider.protocols.mt2.events import (
    ObjectOctets,
    ObjectOffered,
    StatusAsked,
    TransferDropped,
)
from outrider.protocols.mt2.options import Grant
from outrider.protocols.mt2.status import TransferStatus
from outrider.reception.interface import Session
from outrider.reception.mt2_interface import IncomingObject, Mt2Reception, ObjectAnswer, ObjectRequest
from outrider.spool.interface import SpoolUnavailable

HELD_OCTETS: Final = 1_048_576
"""May wait for the disk, on one connection, before reading stops."""

_OWN_OPTIONS: Final = frozenset({"PIPE", "TRACE"})

_Step = Callable[[], Awaitable[None] | None]


@dataclass(slots=True, eq=False)
class _Course:
    """One transfer of theirs: its steps, in the order in which they came."""

    transfer: str
    steps: deque[_Step] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    """The step that waits for something."""
    answer: asyncio.Future[ObjectAnswer] | None = None
    """What the last step waits for, where that needs no task."""
    object: IncomingObject | None = None
    octets: int = 0
    """That wait here."""
    is_finishing: bool = False
    """An object is being judged, or the message stored: that is seen to its end."""
    is_forgotten: bool = False
    """Nothing more of it is looked at."""


class Incoming:
    """Carries the other side's transfers; made with the connection."""

    def __init__(self, line: Line, reception: Mt2Reception | None, session: Callable[[], Session]) -> None:
        """`reception` is None where no mail is taken; `session` gives the connection's, as it stands."""
        self._line = line
        self._reception = reception
        self._session = session
        self._courses: dict[str, _Course] = {}
        self.messages = 0
        """Taken so far."""

    # -- events --------------------------------------------------------------------------------------------

    def offered(self, event: ObjectOffered) -> None:
        """XFER."""
        reception = self._reception
        if reception is None:
            self._line.core.answer(event.tag, err(TAKES_NO_MAIL), self._line.now())
            return
        course = self._courses.get(event.transfer_id)
        if course is None:
            course = self._courses[event.transfer_id] = _Course(event.transfer_id)
        request = ObjectRequest(event.transfer_id, event.media_type, event.size, event.to_come, event.offset)

        def ask() -> Awaitable[None] | None:
            session = self._session()
            _note_options(session, self._line.core.theirs)
            said = reception.offered(session, request)
            if isinstance(said, Awaitable):
                return self._permit_later(course, event.tag, said)
            self._permit(course, event.tag, said)
            return None

        self._do(course, ask)

    def octets(self, event: ObjectOctets) -> None:
        """Data."""
        course = self._courses.get(event.transfer_id)
        if course is None:
            return
        size = len(event.octets)
        course.octets += size
        self._line.hold(size)

        def work() -> Awaitable[None] | None:
            waiting = course.object.write(event.octets) if course.object is not None and size else None
            if waiting is not None:
                return self._written_later(course, event, waiting)
            return self._written(course, event)

        self._do(course, work)

    def dropped(self, event: TransferDropped) -> None:
        """ABOR, or a rule broken: the core has answered everything."""
        course = self._courses.get(event.transfer_id)
        if course is not None:
            self._forget(course)
        if self._reception is not None:
            why = "killed by its sender" if event.reason.value == "killed" else event.result.text
            self._reception.aborted(self._session(), event.transfer_id, why or event.reason.value)

    def status_asked(self, event: StatusAsked) -> None:
        """STAT."""
        if self._reception is None:
            self._line.core.answer(event.tag, err(TAKES_NO_MAIL), self._line.now())
        else:
            self._line.spawn(
                self._tell_status(event, self._reception.status(self._session(), event.transfer_id))
            )

    async def _tell_status(self, event: StatusAsked, asked: Awaitable[TransferStatus]) -> None:
        try:
            status = await asked
        except SpoolUnavailable:
            self._line.core.answer(event.tag, err(NO_STORAGE), self._line.now())
        else:
            self._line.core.answer_status(event.tag, status, self._line.now())
        self._line.advance()

    # -- the end -------------------------------------------------------------------------------------------

    def lost(self) -> list[asyncio.Future[Any]]:
        """The connection is gone: what only waits is given up; what is being stored is let finish. What to
        wait for."""
        finishing: list[asyncio.Future[Any]] = []
        for course in list(self._courses.values()):
            self._forget(course)
            if course.answer is not None:
                finishing.append(course.answer)
            if course.task is not None and course.is_finishing:
                finishing.append(course.task)
            elif course.task is not None:
                course.task.cancel()
        return finishing

    # -- steps ---------------------------------------------------------------------------------------------

    async def _permit_later(
        self, course: _Course, tag: int, waiting: Awaitable[IncomingObject | Result]
    ) -> None:
        self._permit(course, tag, await waiting)

    def _permit(self, course: _Course, tag: int, said: IncomingObject | Result) -> None:
        if isinstance(said, Result):
            self._answer(course, tag, ObjectAnswer(said))
        elif not course.is_forgotten:
            course.object = said
            self._line.core.grant(tag, self._line.now())

    async def _written_later(self, course: _Course, event: ObjectOctets, waiting: Awaitable[None]) -> None:
        await waiting
        further = self._written(course, event)
        if further is not None:
            await further

    def _written(self, course: _Course, event: ObjectOctets) -> Awaitable[None] | None:
        if course.is_forgotten:
            return None
        course.octets -= len(event.octets)
        self._line.hold(-len(event.octets))
        if event.object_ended:
            return self._finish(course, event.tag)
        if event.fragment_ended:
            self._line.core.taken(event.tag, self._line.now())
        return None

    def _finish(self, course: _Course, tag: int) -> Awaitable[None] | None:
        incoming, course.object = course.object, None
        if incoming is None:
            raise AssertionError("octets of an object that was never granted")
        course.is_finishing = True
        said = incoming.finish()
        if isinstance(said, ObjectAnswer):
            self._answer(course, tag, said)
            return None
        if not isinstance(said, asyncio.Future):
            return self._answer_later(course, tag, said)
        course.answer = said
        said.add_done_callback(lambda done: self._answered(course, tag, done))
        return None

    def _answered(self, course: _Course, tag: int, done: asyncio.Future[ObjectAnswer]) -> None:
        """What an object's answer hung on has come to pass."""
        course.answer = None
        if done.cancelled():
            return  # the loop is being shut down
        try:
            self._answer(course, tag, done.result())
            self._line.advance_soon()
            if course.steps and course.task is None:
                course.task = self._line.spawn(self._go_on(course, None))
        except Exception as error:
            self._line.broke(error)

    async def _answer_later(self, course: _Course, tag: int, waiting: Awaitable[ObjectAnswer]) -> None:
        self._answer(course, tag, await waiting)

    def _answer(self, course: _Course, tag: int, said: ObjectAnswer) -> None:
        course.is_finishing = False
        result = said.result
        self._line.core.answer(tag, result, self._line.now(), parts=said.parts)
        self.messages += result.is_ok and result.code == MESSAGE_TAKEN
        if not result.is_ok or result.code in (MESSAGE_TAKEN, ALREADY_TAKEN):
            self._forget(course)

    def _forget(self, course: _Course) -> None:
        course.is_forgotten = True
        course.steps.clear()
        self._line.hold(-course.octets)
        course.octets = 0
        course.object = None
        if self._courses.get(course.transfer) is course:
            del self._courses[course.transfer]

    # -- order ---------------------------------------------------------------------------------------------

    def _do(self, course: _Course, step: _Step) -> None:
        """At once, or behind what this transfer waits for."""
        if course.task is not None or course.answer is not None:
            course.steps.append(step)
            return
        waiting = step()
        if waiting is not None:
            course.task = self._line.spawn(self._go_on(course, waiting))

    async def _go_on(self, course: _Course, waiting: Awaitable[None] | None) -> None:
        try:
            while True:
                if waiting is not None:
                    await waiting
                self._line.advance_soon()
                if not course.steps or course.answer is not None:
                    break
                waiting = course.steps.popleft()()
        finally:
            course.task = None


def _note_options(session: Session, granted: Grant) -> None:
    """Which of the core's own options the peer has switched on: for policy, and for extensions."""
    options = session.options - _OWN_OPTIONS
    if granted.pipe:
        options |= {"PIPE"}
    if granted.trace:
        options |= {"TRACE"}
    if options != session.options:
        session.options = options
