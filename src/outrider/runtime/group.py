"""Commands for a server of several workers: whoever is asked asks the others, and gives one answer.

Each worker answers for itself alone at a socket of its own. What it says is put together here: lists are
merged as they come, so that a million rows need no more memory than a few; sums are summed; what concerns one
message is answered by the worker that has it.

A worker that does not answer is never left out in silence: what the others have is given, and then the
command is refused with the number of the one that is missing, and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from outrider.maillog.merging import merge_pages
from outrider.runtime.control import MAX_ROW, CommandRefused, Handler, Row, encode, short_path

PATIENCE_S = 3.0
"""Without an octet from a worker, before it is asked whether it is there at all; and for that answer."""

CHUNK = 65_536
NO_SUCH = "no such message"
"""How the refusal of a worker ends that does not know the message."""

Rows = AsyncIterator[Row]


class WorkerSilent(Exception):
    """A worker gave no answer, or no more of it; the text says why."""


@dataclass(slots=True)
class Answers:
    """What the workers said to one command, by their numbers."""

    rows: dict[int, list[Row]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    silent: dict[int, str] = field(default_factory=dict)

    @property
    def all_rows(self) -> list[Row]:
        """Of all, by the workers' numbers."""
        return [row for number in sorted(self.rows) for row in self.rows[number]]


class GroupCommands:
    """Answers like `Commands`, for all workers; any of them may be the one that is asked."""

    def __init__(
        self,
        siblings: Mapping[int, Path],
        own: int,
        local: Handler,
        *,
        absence: Callable[[int], str] = lambda _: "",
        given_up: Callable[[int], bool] = lambda _: False,
        one_queue: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`siblings` are the workers' own sockets by number; `local` answers for number `own`. `absence` says
        why a worker is known not to be there ("being restarted"), or "" when it should answer. One that was
        `given_up` is asked nothing, since another has its mail: the status names it, and that is all.
        `one_queue`: they share a spool, so that each counts the whole queue."""
        self._paths = {number: path for number, path in siblings.items() if number != own}
        self._own = own
        self._all_numbers = sorted({*siblings, own})
        self._given_up = given_up
        self._one_queue = one_queue
        self._local = local
        self._absence = absence
        self._patience_s = patience_s
        self._table: dict[str, Callable[[dict[str, Any]], Rows]] = {
            "queue.list": self._list,
            "queue.count": self._count,
            "queue.show": lambda arguments: self._first("queue.show", arguments),
            "queue.content": lambda arguments: self._first("queue.content", arguments),
            "queue.objects": lambda arguments: self._first("queue.objects", arguments),
            "queue.change": self._change,
            "queue.pause": lambda arguments: self._everywhere("queue.pause", arguments),
            "queue.resume": lambda arguments: self._everywhere("queue.resume", arguments),
            "queue.destinations": self._destinations,
            "explain": lambda arguments: self._first("explain", arguments),
            "mt2.transfer": lambda arguments: self._others("mt2.transfer", arguments),
            "server.reload": self._reload,
            "server.status": self._status,
            "server.metrics": self._metrics,
        }

    async def run(self, command: str, arguments: dict[str, Any]) -> Rows:
        """The rows of one command. Raises CommandRefused with a sentence for the caller, also after the rows
        of those that answered when others did not."""
        handler = self._table.get(command)
        rows = self._local(command, arguments) if handler is None else handler(arguments)
        async with _Closing(rows):
            async for row in rows:
                yield row

    @property
    def _numbers(self) -> list[int]:
        """Of those who are to answer."""
        return [number for number in self._all_numbers if not self._given_up(number)]

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, number: int, command: str, arguments: dict[str, Any]) -> Rows:
        """One worker's rows. Raises CommandRefused when it refuses, WorkerSilent."""
        if number == self._own:
            return self._local(command, arguments)
        return self._ask_other(number, command, arguments)

    async def _ask_other(self, number: int, command: str, arguments: dict[str, Any]) -> Rows:
        async with self._conversation(number) as conversation:
            conversation.say({"command": command, "arguments": arguments})
            while True:
                answer = await self._next_answer(number, conversation)
                if "row" in answer:
                    yield answer["row"]
                elif "error" in answer:
                    raise CommandRefused(str(answer["error"]))
                else:
                    return

    def _conversation(self, number: int) -> _Conversation:
        absence = self._absence(number)
        if absence:
            raise WorkerSilent(absence)
        return _Conversation(self._paths[number])

    async def _next_answer(self, number: int, conversation: _Conversation) -> Row:
        """The next line. A worker may take long over a command, but must then still answer another."""
        while True:
            try:
                async with asyncio.timeout(self._patience_s):
                    return await conversation.answer()
            except TimeoutError:
                await self._check_alive(number)

    async def _check_alive(self, number: int) -> None:
        async with self._conversation(number) as conversation:
            conversation.say({"command": "server.status", "arguments": {}})
            try:
                async with asyncio.timeout(self._patience_s):
                    await conversation.answer()
            except TimeoutError:
                raise WorkerSilent(f"no answer within {2 * self._patience_s:g} s") from None

    async def _ask_all(
        self, command: str, arguments: dict[str, Any], numbers: Iterable[int] | None = None
    ) -> Answers:
        """All at once, for commands with few rows."""
        answers = Answers()

        async def ask(number: int) -> None:
            try:
                answers.rows[number] = [row async for row in self._ask(number, command, arguments)]
            except CommandRefused as refusal:
                answers.refused[number] = str(refusal)
            except WorkerSilent as silence:
                answers.silent[number] = str(silence)

        async with asyncio.TaskGroup() as group:
            for number in self._numbers if numbers is None else numbers:
                group.create_task(ask(number))
        return answers

    # -- the queue ---------------------------------------------------------------------------------

    async def _list(self, arguments: dict[str, Any]) -> Rows:
        merged = _Merged(self._sources("queue.list", arguments), self._own)
        async with aclosing(merged.rows(int(arguments.get("limit") or 0))) as rows:
            async for _, row in rows:
                yield row
        _complain(merged.silent, "the list has nothing of its mail")

    def _sources(self, command: str, arguments: dict[str, Any]) -> dict[int, Rows]:
        return {number: self._ask(number, command, arguments) for number in self._numbers}

    async def _count(self, arguments: dict[str, Any]) -> Rows:
        answers = await self._ask_all("queue.count", arguments)
        self._raise_refusal(answers)
        rows = answers.all_rows
        total: Row = {name: sum(row[name] for row in rows) for name in ("ready", "active", "held")}
        yield {**total, "oldest_s": max((row["oldest_s"] for row in rows), default=0)}
        _complain(answers.silent, "its mail is not counted")

    async def _first(self, command: str, arguments: dict[str, Any]) -> Rows:
        """The answer of the worker that knows the message."""
        refusals: list[str] = []
        silent: dict[int, str] = {}
        for number in (self._own, *(one for one in self._numbers if one != self._own)):
            begun = False
            rows = self._ask(number, command, arguments)
            try:
                async with _Closing(rows):
                    async for row in rows:
                        begun = True
                        yield row
                return
            except (CommandRefused, WorkerSilent) as reason:
                if begun:
                    raise CommandRefused(f"worker {number}: {reason}") from reason
                if isinstance(reason, WorkerSilent):
                    silent[number] = str(reason)
                else:
                    refusals.append(str(reason))
        # One that knows the message says what else is wrong; all others only that they do not know it.
        known = [text for text in refusals if not text.endswith(NO_SUCH)]
        if not known:
            _complain(silent, "the message may be there")
        raise CommandRefused((known or refusals)[0])

    async def _change(self, arguments: dict[str, Any]) -> Rows:
        limits = await self._limits(arguments)
        silent: dict[int, str] = {}
        for number in self._numbers:
            if limits.get(number) == 0:
                continue
            rows = self._ask(number, "queue.change", {**arguments, "limit": limits.get(number, 0)})
            try:
                async with _Closing(rows):
                    async for row in rows:
                        yield row
            except (CommandRefused, WorkerSilent) as reason:
                if number == self._own:
                    raise
                silent[number] = str(reason)
        _complain(silent, "nothing of its mail was changed, or it is not known what")

    async def _limits(self, arguments: dict[str, Any]) -> dict[int, int]:
        """With a limit over all workers: how many of the oldest each of them has. Raises CommandRefused when
        one is silent, since then nobody knows."""
        limit = int(arguments.get("limit") or 0)
        if not limit:
            return {}
        merged = _Merged(self._sources("queue.list", arguments), self._own)
        counts = dict.fromkeys(self._numbers, 0)
        async with aclosing(merged.rows(limit)) as rows:
            async for number, _ in rows:
                counts[number] += 1
        _complain(merged.silent, "which are the oldest is not known: nothing was changed")
        return counts

    async def _everywhere(self, command: str, arguments: dict[str, Any]) -> Rows:
        """What concerns all alike: one answer stands for them."""
        answers = await self._ask_all(command, arguments)
        self._raise_refusal(answers)
        for row in answers.all_rows[:1]:
            yield row
        _complain(answers.silent, "it was not told")

    async def _others(self, command: str, arguments: dict[str, Any]) -> Rows:
        """What a worker asks the others; one that is silent has nothing to say."""
        others = [number for number in self._numbers if number != self._own]
        for row in (await self._ask_all(command, arguments, others)).all_rows:
            yield row

    async def _destinations(self, arguments: dict[str, Any]) -> Rows:
        answers = await self._ask_all("queue.destinations", arguments)
        self._raise_refusal(answers)
        lanes: dict[str, Row] = {}
        for row in answers.all_rows:
            known = lanes.get(row["destination"])
            lanes[row["destination"]] = row if known is None else _same_lane(known, row)
        for lane in lanes.values():
            yield lane
        _complain(answers.silent, "its deliveries are not counted")

    # -- the server --------------------------------------------------------------------------------

    async def _reload(self, arguments: dict[str, Any]) -> Rows:
        """This worker checks the file and takes it over; if it is at fault, nothing changes anywhere. The
        others follow, one after the other."""
        own = [row async for row in self._ask(self._own, "server.reload", arguments)]
        behind: dict[int, str] = {}
        for number in self._numbers:
            if number != self._own:
                answers = await self._ask_all("server.reload", arguments, (number,))
                behind |= answers.refused | answers.silent
        for row in own:
            yield row
        _complain(behind, "it has not taken over the new configuration; the others have")

    async def _status(self, arguments: dict[str, Any]) -> Rows:
        answers = await self._ask_all("server.status", arguments)
        self._raise_refusal(answers)
        missing = answers.silent | answers.refused
        rows = {number: rows[0] for number, rows in answers.rows.items() if rows}
        not_ready = {number: row["ready"] for number, row in rows.items() if row["ready"] != "yes"} | missing
        yield {
            **rows[self._own],
            "up_s": max(row["up_s"] for row in rows.values()),
            "connections": sum(row["connections"] for row in rows.values()),
            "listeners": _listeners(rows.values()),
            "ready": _each(not_ready) or "yes",
            "workers": [
                _worker(number, rows.get(number), missing.get(number) or self._absence(number))
                for number in self._all_numbers
            ],
        }

    async def _metrics(self, arguments: dict[str, Any]) -> Rows:
        answers = await self._ask_all("server.metrics", arguments)
        self._raise_refusal(answers)
        page = merge_pages([str(row["page"]).encode() for row in answers.all_rows], one_queue=self._one_queue)
        silent = len(answers.silent) + len(answers.refused)
        yield {"page": page.decode() + _presence(len(self._numbers) - silent, silent)}

    def _raise_refusal(self, answers: Answers) -> None:
        """What this worker refuses, it refuses for all. Another that refuses is as good as silent."""
        if self._own in answers.refused:
            raise CommandRefused(answers.refused[self._own])
        answers.silent |= answers.refused


class _Conversation:
    """A connection to one worker's socket. All methods raise WorkerSilent when it breaks off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._octets = bytearray()
        self._searched = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        try:
            with short_path(self._path) as short:
                self._reader, self._writer = await asyncio.open_unix_connection(short)
        except OSError as error:
            raise WorkerSilent(f"nobody is at its socket ({error.strerror or error})") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def say(self, request: Row) -> None:
        """Send a line."""
        self._writer.write(encode(request))

    async def answer(self) -> Row:
        """The next line; nothing of it is lost when the wait is cut short."""
        while (end := self._octets.find(b"\n", self._searched)) < 0:
            self._searched = len(self._octets)
            await self._read()
        line, self._searched = bytes(self._octets[:end]), 0
        del self._octets[: end + 1]
        answer: Row = json.loads(line)
        return answer

    async def _read(self) -> None:
        try:
            octets = await self._reader.read(CHUNK)
        except OSError as error:
            raise WorkerSilent(f"it broke off ({error.strerror or error})") from error
        self._octets += octets
        if not octets or len(self._octets) > MAX_ROW:
            raise WorkerSilent("it broke off in the middle of its answer")


class _Merged:
    """Lists of several workers, oldest first, as one; no more than a row of each is looked at ahead."""

    def __init__(self, sources: Mapping[int, Rows], own: int) -> None:
        self._sources = dict(sources)
        self._own = own
        self.silent: dict[int, str] = {}
        """Those that gave no answer, or not all of it."""

    async def rows(self, limit: int) -> AsyncGenerator[tuple[int, Row], None]:
        """Rows with the number of their worker; 0 = all. Raises CommandRefused when the own one refuses."""
        given = 0
        async with contextlib.AsyncExitStack() as stack:
            for source in self._sources.values():
                stack.push_async_callback(_close, source)
            heads = dict(
                zip(self._sources, await asyncio.gather(*map(self._next, self._sources)), strict=True)
            )
            while waiting := {number: head for number, head in heads.items() if head is not None}:
                number = min(waiting, key=lambda one: str(waiting[one]["received"]))
                yield number, waiting[number]
                given += 1
                if given == limit:
                    return
                heads[number] = await self._next(number)

    async def _next(self, number: int) -> Row | None:
        try:
            return await anext(self._sources[number], None)
        except (CommandRefused, WorkerSilent) as reason:
            if number == self._own:
                raise
            self.silent[number] = str(reason)
            return None


async def _close(rows: Rows) -> None:
    close: Callable[[], Awaitable[None]] | None = getattr(rows, "aclose", None)
    if close is not None:
        await close()


class _Closing:
    """`contextlib.aclosing` for what may be a plain iterator."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await _close(self._rows)


def _complain(reasons: Mapping[int, str], what: str) -> None:
    """Name those that are missing from the answer. Raises CommandRefused if there are any."""
    if reasons:
        raise CommandRefused(f"{_each(reasons)}: {what}")


def _each(reasons: Mapping[int, str]) -> str:
    return "; ".join(f"worker {number}: {reasons[number]}" for number in sorted(reasons))


def _same_lane(one: Row, other: Row) -> Row:
    """A destination as two workers have it. Its window is the wider of theirs: slots are counted together."""
    return {
        "destination": one["destination"],
        "active": one["active"] + other["active"],
        "waiting": one["waiting"] + other["waiting"],
        "concurrency": max(one["concurrency"], other["concurrency"]),
        "paused": one["paused"] or other["paused"],
        "backoff_s": max(one["backoff_s"], other["backoff_s"]),
        "last_error": one["last_error"] or other["last_error"],
    }


def _listeners(rows: Iterable[Row]) -> list[Row]:
    connections: dict[str, int] = {}
    for row in rows:
        for listener in row["listeners"]:
            name = listener["name"]
            connections[name] = connections.get(name, 0) + listener["connections"]
    return [{"name": name, "connections": number} for name, number in connections.items()]


def _worker(number: int, row: Row | None, why: str) -> Row:
    """One worker's line in the status; of one that is missing, no more than that."""
    if row is None:
        return {"worker": number, "ready": why}
    own = {name: value for name, value in row.items() if name not in ("hostname", "listeners")}
    return {**own, "worker": number}


def _presence(answering: int, silent: int) -> str:
    name = "outrider_workers"
    return (
        f"# HELP {name} Workers whose figures this page has, and those that did not answer\n"
        f"# TYPE {name} gauge\n"
        f'{name}{{state="answering"}} {answering}\n{name}{{state="silent"}} {silent}\n'
    )
