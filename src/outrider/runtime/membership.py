"""What a serving process is among others: alone, or one of several workers under a supervisor.

`Server` does the same work either way. What differs is who hears signals, who says that the server is ready,
whom a command speaks for, and which spools are delivered: that is decided here.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from outrider.maillog.emitter import Emitter, Level, Value
from outrider.net.shared_counts import CountRow
from outrider.runtime.channel import SupervisorLink, Word
from outrider.runtime.control import Handler, socket_path, worker_socket_path
from outrider.runtime.control_server import ControlServer, open_control
from outrider.runtime.group import GroupCommands
from outrider.runtime.roster import Roster, Standing
from outrider.runtime.service_manager import notify

_OF_THE_QUEUE = frozenset(
    {
        "queue.list",
        "queue.count",
        "queue.show",
        "queue.content",
        "queue.objects",
        "queue.change",
        "explain",
    }
)
"""Commands that ask nothing but the spool."""
_ABSENCES = {
    Standing.DOWN: "it has died and is about to be started again",
    Standing.STARTING: "it is being started",
    Standing.GIVEN_UP: "it was given up",
}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What may be asked of a server from outside; none of them waits."""

    stop: Callable[[], None]
    reload: Callable[[], None]
    """Read the configuration anew: in this process, and in all other workers if there are any."""
    refresh: Callable[[], None]
    """The same, in this process alone."""
    adopt: Callable[[int], None]
    """Deliver what lies in the spool of that number."""


class Membership(Protocol):
    """One process's place. The methods are called in the order in which they stand here."""

    number: int
    """From 1: the number of the spool in which new mail is stored."""
    workers: int
    """How many processes there are."""
    restarts: int
    """How often this worker has been started again since the server was."""
    adopts: tuple[int, ...]
    """Numbers of further spools to deliver from the start."""
    connections: CountRow | None
    """This worker's row in the counts of connections that all share; None when alone."""
    lanes: CountRow | None
    """The same for slots of delivery."""
    guesses: CountRow | None
    """The same for ids of AMDP that were asked about and are not to be had."""
    marks: Mapping[str, Value]
    """Fields for each line of the log."""

    def attach(self, hooks: Hooks) -> None:
        """From now on signals and the supervisor reach the server."""
        ...

    def adopted(self, emitter: Emitter, shard: int) -> None:
        """A further spool is open here."""
        ...

    def answering(self, local: Handler, data_dir: Path, *, one_queue: bool) -> Handler:
        """What answers commands for the whole server, given what answers them for this process.

        `one_queue`: all processes share one queue, so that each knows all of it.
        """
        ...

    def open_controls(self, data_dir: Path, local: Handler, everybody: Handler) -> list[ControlServer]:
        """The control sockets that this process serves. Raises OSError."""
        ...

    def ready(self, emitter: Emitter, listeners: list[str]) -> None:
        """Mail is taken."""
        ...

    def reloaded(self) -> None:
        """A changed configuration has been taken over."""
        ...

    def stop_everybody(self) -> None:
        """Somebody gave the command to stop the server."""
        ...

    def stopping(self, emitter: Emitter) -> None:
        """This process ends its sessions."""
        ...

    def stopped(self, emitter: Emitter) -> None:
        """It has ended them, and has closed all but the log."""
        ...


class Alone:
    """The only process of its server."""

    number = 1
    workers = 1
    restarts = 0
    connections: CountRow | None = None
    lanes: CountRow | None = None
    guesses: CountRow | None = None

    def __init__(self, adopts: tuple[int, ...] = ()) -> None:
        self.adopts = adopts
        self.marks: Mapping[str, Value] = {}
        self._hooks: Hooks | None = None
        self._control: Path | None = None

    def attach(self, hooks: Hooks) -> None:
        """See `Membership`."""
        self._hooks = hooks
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, hooks.stop)
        loop.add_signal_handler(signal.SIGHUP, hooks.reload)

    def adopted(self, emitter: Emitter, shard: int) -> None:
        """See `Membership`."""
        emitter.emit(Level.INFO, "shard_adopted", shard=shard)

    def answering(self, local: Handler, data_dir: Path, *, one_queue: bool) -> Handler:
        """See `Membership`."""
        del data_dir, one_queue
        return local

    def open_controls(self, data_dir: Path, local: Handler, everybody: Handler) -> list[ControlServer]:
        """See `Membership`."""
        del local
        self._control = socket_path(data_dir)
        return [ControlServer(open_control(self._control), everybody)]

    def ready(self, emitter: Emitter, listeners: list[str]) -> None:
        """See `Membership`."""
        emitter.emit(Level.INFO, "ready", listeners=listeners)
        notify("READY=1")

    def reloaded(self) -> None:
        """See `Membership`."""
        notify("READY=1")

    def stop_everybody(self) -> None:
        """See `Membership`."""
        if self._hooks is not None:
            self._hooks.stop()

    def stopping(self, emitter: Emitter) -> None:
        """See `Membership`."""
        notify("STOPPING=1")
        emitter.emit(Level.INFO, "stopping")

    def stopped(self, emitter: Emitter) -> None:
        """See `Membership`."""
        if self._control is not None:
            self._control.unlink(missing_ok=True)
        emitter.emit(Level.INFO, "stopped")


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is given by its supervisor."""

    number: int
    workers: int
    restarts: int
    adopts: tuple[int, ...]
    link: socket.socket
    control: socket.socket
    """The server's control socket, shared by all workers."""
    connections: CountRow
    lanes: CountRow
    guesses: CountRow
    roster: Roster


class Member:
    """One of several workers: the supervisor speaks for the server."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._link = SupervisorLink(post.link)
        self._own_control: Path | None = None
        self.number = post.number
        self.workers = post.workers
        self.restarts = post.restarts
        self.adopts = post.adopts
        self.connections: CountRow | None = post.connections
        self.lanes: CountRow | None = post.lanes
        self.guesses: CountRow | None = post.guesses
        self.marks: Mapping[str, Value] = {"worker": post.number}

    def failed(self, reason: str) -> None:
        """The start came to nothing."""
        self._link.tell("failed", reason)

    def attach(self, hooks: Hooks) -> None:
        """See `Membership`."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, hooks.stop)

        def on_word(word: Word) -> None:
            if word.name == "reload":
                hooks.reload()
            elif word.name == "refresh":
                hooks.refresh()
            elif word.name == "adopt" and isinstance(word.argument, int):
                hooks.adopt(word.argument)

        self._link.attach(on_word, on_gone=hooks.stop)

    def adopted(self, emitter: Emitter, shard: int) -> None:
        """See `Membership`; the supervisor, who has to know it anyway, records it."""
        del emitter
        self._link.tell("adopted", shard)

    def answering(self, local: Handler, data_dir: Path, *, one_queue: bool) -> Handler:
        """See `Membership`."""
        siblings = {number: worker_socket_path(data_dir, number) for number in range(1, self.workers + 1)}
        everybody = GroupCommands(
            siblings,
            self.number,
            local,
            absence=self._absence,
            given_up=self._is_given_up,
            one_queue=one_queue,
        ).run
        if not one_queue:
            return everybody
        return lambda command, arguments: (
            local(command, arguments) if command in _OF_THE_QUEUE else everybody(command, arguments)
        )

    def _is_given_up(self, number: int) -> bool:
        return self._post.roster.read(number).standing is Standing.GIVEN_UP

    def _absence(self, number: int) -> str:
        entry = self._post.roster.read(number)
        if entry.standing is Standing.READY:
            return ""
        return f"{_ABSENCES[entry.standing]}, after {entry.restarts} restarts"

    def open_controls(self, data_dir: Path, local: Handler, everybody: Handler) -> list[ControlServer]:
        """See `Membership`."""
        self._own_control = worker_socket_path(data_dir, self.number)
        own = ControlServer(open_control(self._own_control), local)
        return [own, ControlServer(self._post.control, everybody)]

    def ready(self, emitter: Emitter, listeners: list[str]) -> None:
        """See `Membership`; the event is the supervisor's, once all are ready."""
        del emitter, listeners
        self._link.tell("ready")

    def reloaded(self) -> None:
        """See `Membership`."""
        self._link.tell("reloaded")

    def stop_everybody(self) -> None:
        """See `Membership`."""
        self._link.tell("stop")

    def stopping(self, emitter: Emitter) -> None:
        """See `Membership`; the supervisor says it for all."""

    def stopped(self, emitter: Emitter) -> None:
        """See `Membership`."""
        del emitter
        self._link.detach()
        if self._own_control is not None:
            self._own_control.unlink(missing_ok=True)
