"""What the control socket answers: queue operations and `explain`, as rows for people and programs."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from outrider.config.problems import ConfigError
from outrider.delivery.operations import Action, BadArgument, QueueOperations
from outrider.message.summary import summarize
from outrider.model.content import Content
from outrider.model.facts import Fact
from outrider.model.layered import MessageObjects
from outrider.model.message import Event, Item, ItemState, MessageId, StoredMessage
from outrider.model.result import DeliveryResult
from outrider.runtime.control import CommandRefused, Row
from outrider.spool.interface import Filter, NotFound, QueueEntry, SpoolError

OCTETS_A_ROW = 262_144
"""Of content, in base64: rows stay small however large a message is."""

Rows = AsyncIterator[Row]


class Commands:
    """One object for a running server, or for the command line when none runs."""

    def __init__(
        self,
        operations: QueueOperations,
        *,
        clock: Callable[[], float] = time.time,
        reload: Callable[[], Awaitable[str]] | None = None,
        stop: Callable[[], None] | None = None,
        status: Callable[[], Row] | None = None,
        metrics: Callable[[], bytes] | None = None,
        further: Mapping[str, Callable[[dict[str, Any]], Rows]] | None = None,
    ) -> None:
        """`further`: commands of other rooms."""
        self._operations = operations
        self._clock = clock
        self._reload = reload
        self._stop = stop
        self._status = status
        self._metrics = metrics
        self._table: dict[str, Callable[[dict[str, Any]], Rows]] = {
            "queue.list": self._list,
            "queue.count": self._count,
            "queue.show": self._show,
            "queue.content": self._content,
            "queue.objects": self._objects,
            "queue.change": self._change,
            "queue.pause": self._pause,
            "queue.resume": self._resume,
            "queue.destinations": self._destinations,
            "explain": self._explain,
            "server.reload": self._server_reload,
            "server.stop": self._server_stop,
            "server.status": self._server_status,
            "server.metrics": self._server_metrics,
            **(further or {}),
        }

    async def run(self, command: str, arguments: dict[str, Any]) -> Rows:
        """The rows of one command. Raises CommandRefused with a sentence for the caller."""
        handler = self._table.get(command)
        if handler is None:
            raise CommandRefused(f"this server knows no command {command!r}; is it of another version?")
        try:
            async for row in handler(arguments):
                yield row
        except NotFound as error:
            raise CommandRefused(str(error) or "no such message") from error
        except (BadArgument, SpoolError) as error:
            raise CommandRefused(str(error)) from error

    # -- looking -----------------------------------------------------------------------------------

    async def _list(self, arguments: dict[str, Any]) -> Rows:
        now = self._clock()
        async for entries in self._operations.pages(self._filter(arguments)):
            for entry in entries:
                yield _entry_row(entry, now)

    async def _count(self, _: dict[str, Any]) -> Rows:
        counts = await self._operations.counts()
        oldest = max(self._clock() - counts.oldest_received_at, 0.0) if counts.oldest_received_at else 0.0
        yield {
            "ready": counts.ready,
            "active": counts.active,
            "held": counts.held,
            "oldest_s": round(oldest),
        }

    async def _show(self, arguments: dict[str, Any]) -> Rows:
        shown = await self._operations.show(MessageId(str(arguments["id"])))
        message = shown.message
        row: Row = {
            "id": message.id,
            "received": moment(message.received_at),
            "finished": moment(message.finished_at) if message.finished_at else "",
            "size": message.size,
            "priority": message.priority,
            "envelope": _envelope_row(message),
            "items": [_item_row(item, message) for item in shown.items],
        }
        if message.content is not None:
            row["summary"] = asdict(summarize(message.content.headers))
        if message.objects is not None:
            row["objects"] = _object_sizes(message.objects, message)
        yield row

    async def _content(self, arguments: dict[str, Any]) -> Rows:
        """The message as mail, or one object of it: as MT2 has it, where it came so (MT2-1)."""
        message = (await self._operations.show(MessageId(str(arguments["id"])))).message
        if message.content is None:
            raise CommandRefused("the content is gone: every recipient of this message is settled")
        for octets in _octets_of(message, message.content, arguments.get("part", "content")):
            yield {"octets": base64.b64encode(octets).decode()}

    async def _objects(self, arguments: dict[str, Any]) -> Rows:
        """A message as MT2 has it: envelope and headers in one row, then the body object (MT2-23c)."""
        message = (await self._operations.show(MessageId(str(arguments["id"])))).message
        if message.content is None:
            raise CommandRefused("the content is gone: every recipient of this message is settled")
        if message.objects is None:
            raise CommandRefused("this message did not come by MT2: nobody has sealed it")
        objects = message.objects
        yield {
            "envelope": base64.b64encode(objects.envelope).decode(),
            "headers": base64.b64encode(objects.headers).decode(),
            "headers_type": objects.headers_type,
            "has_body": objects.has_body,
            "received": message.received_at,
            "peer": [fact.value for fact in message.facts if fact.name == "host"],
        }
        if objects.has_body:
            yield {"octets": base64.b64encode(objects.body_prefix).decode()}
            for octets in message.content.body.chunks(OCTETS_A_ROW):
                yield {"octets": base64.b64encode(octets).decode()}

    async def _explain(self, arguments: dict[str, Any]) -> Rows:
        shown = await self._operations.show(MessageId(str(arguments["id"])))
        message = shown.message
        yield {
            "id": message.id,
            "sender": _sender(message),
            "recipients": [str(recipient.address) for recipient in message.envelope.recipients],
            "received": moment(message.received_at),
            "verdict": _standing(shown.items, message),
            "facts": [_fact_row(fact) for fact in message.facts],
            "events": [_event_row(event) for event in shown.events],
        }

    async def _destinations(self, _: dict[str, Any]) -> Rows:
        for lane in self._operations.destinations():
            yield {
                "destination": lane.destination,
                "active": lane.active,
                "waiting": lane.waiting,
                "concurrency": lane.concurrency,
                "paused": lane.paused,
                "backoff_s": lane.backoff_s,
                "last_error": lane.last_error,
            }

    # -- changing ----------------------------------------------------------------------------------

    async def _change(self, arguments: dict[str, Any]) -> Rows:
        try:
            action = Action(str(arguments["change"]))
        except ValueError as error:
            raise CommandRefused(f"there is no change {arguments['change']!r}") from error
        done = self._operations.changes(
            self._filter(arguments),
            action,
            by=str(arguments.get("by", "operator")),
            argument=str(arguments.get("argument", "")),
            dry_run=bool(arguments.get("dry_run")),
        )
        async for one in done:
            yield {
                "id": one.key.message,
                "item": one.key.number,
                "destination": one.destination,
                "changed": one.changed,
                "result": one.result,
            }

    async def _pause(self, arguments: dict[str, Any]) -> Rows:
        yield {"result": await self._operations.pause(str(arguments["destination"]))}

    async def _resume(self, arguments: dict[str, Any]) -> Rows:
        yield {"result": await self._operations.resume(str(arguments["destination"]))}

    # -- the server --------------------------------------------------------------------------------

    async def _server_reload(self, _: dict[str, Any]) -> Rows:
        if self._reload is None:
            raise CommandRefused("no server runs")
        try:
            yield {"result": await self._reload()}
        except ConfigError as error:
            raise CommandRefused(f"nothing was changed:\n{error}") from error

    async def _server_stop(self, _: dict[str, Any]) -> Rows:
        if self._stop is None:
            raise CommandRefused("no server runs")
        self._stop()
        yield {"result": "stopping"}

    async def _server_status(self, _: dict[str, Any]) -> Rows:
        if self._status is None:
            raise CommandRefused("no server runs")
        yield self._status()

    async def _server_metrics(self, _: dict[str, Any]) -> Rows:
        if self._metrics is None:
            raise CommandRefused("no server runs")
        yield {"page": self._metrics().decode()}

    def _filter(self, arguments: dict[str, Any]) -> Filter:
        older_s = float(arguments.get("older_s") or 0)
        return Filter(
            ids=tuple(MessageId(str(one)) for one in arguments.get("ids", ())),
            states=tuple(ItemState(str(one)) for one in arguments.get("states", ())),
            sender=str(arguments.get("sender", "")),
            recipient=str(arguments.get("recipient", "")),
            destination=str(arguments.get("destination", "")),
            older_than=self._clock() - older_s if older_s else 0.0,
            reason=str(arguments.get("reason", "")),
            include_done=bool(arguments.get("include_done")),
            limit=int(arguments.get("limit") or 0),
        )


def moment(at: float) -> str:
    """A moment as people and programs read it; "" for none."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") if at else ""


def _sender(message: StoredMessage) -> str:
    return str(message.envelope.sender) if message.envelope.sender else "<>"


def _entry_row(entry: QueueEntry, now: float) -> Row:
    message, item = entry.message, entry.item
    last = next((status.last for status in item.recipients if status.last is not None), None)
    return {
        "id": message.id,
        "item": item.key.number,
        "state": item.state.value,
        "received": moment(message.received_at),
        "age_s": round(max(now - message.received_at, 0.0), 1),
        "size": message.size,
        "sender": _sender(message),
        "recipients": [
            str(message.envelope.recipients[status.index].address)
            for status in item.recipients
            if not status.state.is_final or item.state is ItemState.DONE
        ],
        "destination": item.destination,
        "attempts": item.attempts,
        "next_attempt": moment(item.next_attempt_at) if item.state is ItemState.READY else "",
        "reason": item.reason or (f"{last.status} {last.text}" if last else ""),
    }


def _octets_of(message: StoredMessage, content: Content, part: str) -> Iterator[bytes]:
    """One part, in pieces. Raises CommandRefused."""
    objects = message.objects
    if objects is None or part == "content":
        if part in ("headers", "content"):
            yield message.trace + content.headers
        if part in ("body", "content"):
            yield from content.body.chunks(OCTETS_A_ROW)
    elif part == "envelope":
        yield objects.envelope
    elif part == "headers":
        yield objects.headers
    elif not objects.has_body:
        raise CommandRefused("this message has no body object")
    else:
        yield objects.body_prefix
        yield from content.body.chunks(OCTETS_A_ROW)


def _object_sizes(objects: MessageObjects, message: StoredMessage) -> Row:
    """What there is to be shown with --object, in octets."""
    sizes: Row = {"envelope": len(objects.envelope)}
    if objects.headers:
        sizes[objects.headers_type] = len(objects.headers)
    if objects.has_body and message.content is not None:
        sizes["body"] = len(objects.body_prefix) + message.content.body.size
    return sizes


def _envelope_row(message: StoredMessage) -> Row:
    envelope = message.envelope
    return {
        "sender": _sender(message),
        "recipients": [str(recipient.address) for recipient in envelope.recipients],
        "body_type": envelope.body_type.value,
        "smtputf8": envelope.smtputf8,
        "envelope_id": envelope.envelope_id,
        "ret": envelope.ret.value,
        "hold_until": moment(envelope.hold_until),
        "authenticated_as": envelope.authenticated_as,
    }


def _item_row(item: Item, message: StoredMessage) -> Row:
    recipients = message.envelope.recipients
    return {
        "number": item.key.number,
        "destination": item.destination,
        "state": item.state.value,
        "attempts": item.attempts,
        "next_attempt": moment(item.next_attempt_at) if item.state is ItemState.READY else "",
        "reason": item.reason,
        "recipients": [
            {
                "address": str(recipients[status.index].address),
                "state": status.state.value,
                "attempts": status.attempts,
                "last": _result_row(status.last) if status.last else None,
            }
            for status in item.recipients
        ],
    }


def _result_row(result: DeliveryResult) -> Row:
    return {
        "result": result.kind.value,
        "status": result.status,
        "code": result.code,
        "text": result.text,
        "remote": result.remote,
        "protocol": result.protocol,
        "tls": result.tls,
    }


def _fact_row(fact: Fact) -> Row:
    value = list(fact.value) if isinstance(fact.value, tuple) else fact.value
    return {
        "name": fact.name,
        "value": value,
        "provenance": fact.provenance.name.lower(),
        "how": fact.how,
    }


def _event_row(event: Event) -> Row:
    return {
        "time": moment(event.at),
        "kind": event.kind,
        "text": event.text,
        "recipients": list(event.recipients),
    }


def _standing(items: tuple[Item, ...], message: StoredMessage) -> str:
    """One line on where it stands: ``2 delivered, 1 pending``."""
    counts: dict[str, int] = {}
    for item in items:
        for status in item.recipients:
            word = (
                "held" if item.state is ItemState.HELD and not status.state.is_final else status.state.value
            )
            counts[word] = counts.get(word, 0) + 1
    text = ", ".join(f"{count} {word}" for word, count in counts.items())
    return text + (f"; finished {moment(message.finished_at)}" if message.finished_at else "")
