"""What an operator may do with the queue: find, show, hold, release, retry, fail, drop, reroute, pause.

Works on the spool's interface, with a running queue manager or without one. An item being delivered is
never dropped, rerouted or failed: the answer says so, item by item (SEC-208). A dry run finds and checks, and
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from outrider.delivery.clock import Clock
from outrider.delivery.item_runner import ItemRunner, Rules
from outrider.delivery.queue_manager import LaneReport, QueueManager
from outrider.delivery.results import cleaned, failed
from outrider.delivery.settlement import Attempt
from outrider.model.envelope import Recipient
from outrider.model.message import Event, Item, ItemKey, ItemState, MessageId, StoredMessage
from outrider.routing.ways import WayError, parse_way
from outrider.spool.interface import Change, Conflict, Counts, Filter, NotFound, QueueEntry, Spool

FAIL_LEASE_S = 60.0
"""Long enough to settle one item."""
CHUNK = 500
"""Items changed in one request to the spool."""


class Action(Enum):
    """What is to be done with the items that match."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    FAIL = "fail"
    DROP = "drop"
    REROUTE = "reroute"


_ALLOWED: dict[Action, tuple[ItemState, ...]] = {
    Action.HOLD: (ItemState.READY,),
    Action.RELEASE: (ItemState.HELD,),
    Action.RETRY: (ItemState.READY,),
    Action.FAIL: (ItemState.READY, ItemState.HELD),
    Action.DROP: (ItemState.READY, ItemState.HELD),
    Action.REROUTE: (ItemState.READY, ItemState.HELD),
}


class BadArgument(ValueError):
    """The request cannot mean anything; the text says why."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of one item."""

    key: ItemKey
    destination: str
    changed: bool
    """True in a dry run when it would be."""
    result: str
    """One sentence, or the past participle: "held", "would be held", "it is being delivered now"."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One message with all that is known of it."""

    message: StoredMessage
    items: tuple[Item, ...]
    events: tuple[Event, ...]


_DONE = {
    Action.HOLD: "held",
    Action.RELEASE: "released",
    Action.RETRY: "due now",
    Action.FAIL: "returned to the sender",
    Action.DROP: "dropped",
    Action.REROUTE: "rerouted",
}


class QueueOperations:
    """One object for the control socket, the command line and the console."""

    def __init__(
        self, spool: Spool, runner: ItemRunner, clock: Clock, manager: QueueManager | None = None
    ) -> None:
        """`runner` settles what is failed (its connections are not used); `manager` is None offline."""
        self._spool = spool
        self._runner = runner
        self._clock = clock
        self._manager = manager

    def reconfigure(self, runner: ItemRunner) -> None:
        """Use other rules from now on."""
        self._runner = runner

    @property
    def rules(self) -> Rules:
        """The rules in use."""
        return self._runner.rules

    # --- looking ------------------------------------------------------------------------------------

    def pages(self, wanted: Filter) -> AsyncIterator[tuple[QueueEntry, ...]]:
        """Items that match, oldest first, some at a time."""
        return self._spool.pages(wanted)

    async def show(self, message: MessageId) -> Shown:
        """One message. Raises NotFound."""
        return Shown(
            await self._spool.read(message),
            await self._spool.items(message),
            await self._spool.events(message),
        )

    async def counts(self) -> Counts:
        """How many wait, are being delivered, are held."""
        return await self._spool.counts()

    def destinations(self) -> tuple[LaneReport, ...]:
        """What limits each way now; nothing without a running manager."""
        return self._manager.lanes() if self._manager else ()

    # --- changing -----------------------------------------------------------------------------------

    async def changes(
        self, wanted: Filter, action: Action, *, by: str, argument: str = "", dry_run: bool = False
    ) -> AsyncIterator[Changed]:
        """Act on every item that matches, some at a time; a result for each. Raises BadArgument.

        `argument` is the reason for hold and fail, the way for reroute. `by` is who did it, for the trail.
        """
        argument = _checked(action, argument)
        # The reports that come of failing messages are not meant; all that is here by now is. To try again
        # does no harm to what comes later, and must reach what came before the clock was set back (SEC-95).
        if action is not Action.RETRY:
            now = math.nextafter(self._clock.now(), math.inf)
            wanted = replace(wanted, older_than=min(wanted.older_than or now, now))
        async for entries in self._spool.pages(wanted):
            if dry_run:
                done = [self._foreseen(entry, action) for entry in entries]
            else:
                done = await self._act(entries, action, by, argument)
            for one in done:
                yield one

    async def _act(
        self, entries: Sequence[QueueEntry], action: Action, by: str, argument: str
    ) -> list[Changed]:
        if self._manager is not None:
            await self._manager.withdraw(entry.item.key for entry in entries)
        if action is Action.FAIL:
            done = [await self._fail(entry, by, argument) for entry in entries]
        else:
            done = await self._change(entries, Change(action.value), by, argument)
        self._set_going(action, entries)
        return done

    def _foreseen(self, entry: QueueEntry, action: Action) -> Changed:
        item = entry.item
        in_memory = self._manager is not None and self._manager.is_waiting(item.key)
        state = ItemState.READY if in_memory else item.state
        allowed = state in _ALLOWED[action]
        words = f"would be {_DONE[action]}" if allowed else f"it is {state.value}"
        return Changed(item.key, item.destination, allowed, words)

    async def _change(
        self, entries: Sequence[QueueEntry], change: Change, by: str, argument: str
    ) -> list[Changed]:
        done: list[Changed] = []
        for start in range(0, len(entries), CHUNK):
            part = entries[start : start + CHUNK]
            keys = [entry.item.key for entry in part]
            refused = await self._spool.change(keys, change, now=self._clock.now(), by=by, argument=argument)
            done += [_changed(entry, Action(change.value), refused) for entry in part]
        return done

    async def _fail(self, entry: QueueEntry, by: str, reason: str) -> Changed:
        """Settle every pending recipient as failed, with the report that NOTIFY asks for."""
        key = entry.item.key
        now = self._clock.now()
        try:
            leased = await self._spool.lease_one(key, now, now + FAIL_LEASE_S)
        except (Conflict, NotFound) as error:
            return Changed(key, entry.item.destination, False, str(error))
        words = f"returned by the postmaster: {cleaned(reason)}" if reason else "returned by the postmaster"
        waiting = [status.index for status in leased.item.recipients if not status.state.is_final]
        results = dict.fromkeys(waiting, failed("5.0.0", words))
        note = f"failed by {by}"
        recorded = await self._runner.record(Attempt(leased, results, now, (note,), counts=False))
        if recorded is None:
            return Changed(key, entry.item.destination, False, "another took it in the meantime")
        event = recorded.settled.report.event
        told = event.text if event else "nobody is told"
        return Changed(key, entry.item.destination, True, f"{_DONE[Action.FAIL]}: {told}")

    def _set_going(self, action: Action, entries: Sequence[QueueEntry]) -> None:
        if self._manager is None:
            return
        if action in (Action.RETRY, Action.REROUTE):
            self._manager.retry_soon(_recipients_of(entries))
        else:
            self._manager.wake()

    # --- pausing ------------------------------------------------------------------------------------

    async def pause(self, destination: str) -> str:
        """Start nothing more to a destination, as `list` shows it. Raises BadArgument without a server."""
        await self._running().pause(destination)
        return f"deliveries to {destination} are paused"

    async def resume(self, destination: str) -> str:
        """Let it go on. Raises BadArgument without a server."""
        if await self._running().resume(destination):
            return f"deliveries to {destination} go on"
        return f"deliveries to {destination} were not paused"

    def _running(self) -> QueueManager:
        if self._manager is None:
            raise BadArgument("no server is running: nothing is being delivered")
        return self._manager


def _recipients_of(entries: Sequence[QueueEntry]) -> set[Recipient]:
    return {
        entry.message.envelope.recipients[status.index]
        for entry in entries
        for status in entry.item.recipients
        if not status.state.is_final
    }


def _checked(action: Action, argument: str) -> str:
    """The argument; a way in the form in which lanes and destinations are named. Raises BadArgument."""
    if action is not Action.REROUTE:
        return argument
    try:
        return str(parse_way(argument))
    except WayError as error:
        raise BadArgument(str(error)) from error


def _changed(entry: QueueEntry, action: Action, refused: dict[ItemKey, str]) -> Changed:
    why = refused.get(entry.item.key)
    return Changed(entry.item.key, entry.item.destination, why is None, why or _DONE[action])
