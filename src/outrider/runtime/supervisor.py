"""The parent of a server's worker processes: starts them, hears them, replaces the dead, stops them.

It is synchronous and has neither threads nor an event loop, ever: `fork` copies only the calling thread, and
a lock that another one held would stay locked in the child. Its whole life is one wait for signals, for words
from the workers and for the next moment at which something is due.

It holds every listening socket open, so that connections which wait while a worker is replaced are taken by
its siblings or by its successor. It touches no mail: what a crash leaves behind is put right by the spool
when the successor opens it, the counting of crashes and the holding of poison messages included.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outrider.config.loader import Loaded, load
from outrider.config.problems import ConfigError
from outrider.maillog.direct import DirectEmitter
from outrider.maillog.emitter import Level
from outrider.net.shared_counts import SharedCounts
from outrider.runtime.assembly import Assembly, assemble
from outrider.runtime.channel import Word, WordReader, receive_words, send_word
from outrider.runtime.membership import Post
from outrider.runtime.restarts import Restarts
from outrider.runtime.roster import Roster, RosterEntry, Standing
from outrider.runtime.service_manager import notify
from outrider.runtime.worker import Orders, run_and_exit
from outrider.spool.factory import shards_on_disk

SILENCE_S: Final = 60.0
"""A worker whose event loop has not turned for so long will not come back; its sessions wait in vain."""
STOP_S: Final = 80.0
"""Sessions and deliveries under way have 30 s each; service managers usually wait 90 s in all."""
OVERSLEPT_S: Final = 10.0
"""Woken so much later than planned, this process itself stood still, and so perhaps did its workers."""
ADOPTION_TRIES: Final = 2
"""Deaths of a worker that has not yet opened a further spool; then it is left alone."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class GroupFailed(Exception):
    """The workers did not start, or none is left; the text is for the operator."""


@dataclass(slots=True)
class Worker:
    """What is known of one worker."""

    number: int
    pid: int = 0
    """0: no process now."""
    link: socket.socket | None = None
    reader: WordReader = field(default_factory=WordReader)
    restarts: Restarts = field(default_factory=Restarts)
    starts: int = 0
    started_at: float = 0.0
    heard_at: float = 0.0
    start_at: float | None = None
    """When it is started again."""
    ready: bool = False
    refusal: str = ""
    """Why it says that it cannot start."""
    killed_for: str = ""
    given_up: bool = False
    generation: int = 0
    """Of the configuration that it was started with."""
    adopted: set[int] = field(default_factory=set)
    """Further spools that it has opened without trouble: its successor opens them too."""
    adopting: dict[int, int] = field(default_factory=dict)
    """Spools that it was told to open and has not yet said that it has; with its deaths since."""


class Supervisor:
    """See the module."""

    def __init__(self, orders: Orders, control: socket.socket, control_path: Path) -> None:
        """`control` listens at `control_path`, which is removed at the end."""
        config = orders.assembly.config
        count = orders.assembly.workers
        self._orders = orders
        self._latest: tuple[Loaded, Assembly] | None = None
        self._control = control
        self._control_path = control_path
        self._log = DirectEmitter(form=config.log.format, file=config.log.file, level=config.log.level)
        self._connections = SharedCounts(count)
        self._lanes = SharedCounts(count)
        self._guesses = SharedCounts(count)
        self._roster = Roster(count)
        self._workers = [Worker(number) for number in range(1, count + 1)]
        self._selector = selectors.DefaultSelector()
        self._announced = False
        self._stop_by: float | None = None
        self._reload_wanted = False
        self._reread = False
        self._generation = 0
        self._failure = ""

    def run(self) -> None:
        """Serve until asked to stop. Raises GroupFailed; no worker is left then."""
        with _signals_as_octets() as wake:
            self._selector.register(wake, selectors.EVENT_READ)
            self._share_out_shards()
            for worker in self._workers:
                self._start(worker)
            while self._stop_by is None or self._living():
                self._turn(wake)
        self._control_path.unlink(missing_ok=True)
        self._selector.close()
        if self._failure:
            raise GroupFailed(self._failure)
        self._log.emit(Level.INFO, "stopped")

    def _turn(self, wake: socket.socket) -> None:
        """One wait, and what came of it. Words come before deaths, and both before what time brings."""
        due = self._next_due()
        self._selector.select(None if due is None else max(due - time.monotonic(), 0.0))
        if due is not None and time.monotonic() - due > OVERSLEPT_S:
            self._forgive_silence()
        self._heed_signals(wake)
        for worker in self._workers:
            self._hear(worker)
        self._reap()
        self._announce()
        self._do_what_is_due(time.monotonic())

    def _living(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.pid]

    # -- starting ----------------------------------------------------------------------------------

    def _share_out_shards(self) -> None:
        """Spools of workers that there no longer are, since the operator lowered their number."""
        count = len(self._workers)
        for shard in shards_on_disk(self._orders.assembly.config):
            if shard > count:
                self._workers[(shard - 1) % count].adopting[shard] = 0

    def _start(self, worker: Worker) -> None:
        now = time.monotonic()
        worker.start_at, worker.started_at, worker.heard_at = None, now, now
        worker.ready, worker.refusal, worker.killed_for = False, "", ""
        worker.starts += 1
        worker.generation = self._generation
        try:
            worker.pid, worker.link = self._fork(worker)
        except OSError as error:
            worker.refusal = f"fork: {error.strerror}"
            self._died(worker, {"text": worker.refusal})
            return
        worker.reader = WordReader()
        self._selector.register(worker.link, selectors.EVENT_READ)
        self._note(worker, Standing.STARTING)

    def _fork(self, worker: Worker) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        # Objects that the collector never looks at again stay shared with the children (copy on write).
        gc.collect()
        gc.freeze()
        # A signal for the child must not fall between the fork and the moment when it is able to hear it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(worker, ours, theirs)
        except OSError:
            ours.close()
            theirs.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        ours.setblocking(False)
        return pid, ours

    def _be_worker(self, worker: Worker, ours: socket.socket, theirs: socket.socket) -> None:
        """In the child. Without its own copies of them the siblings learn of the supervisor's death."""
        ours.close()
        for sibling in self._workers:
            if sibling.link is not None:
                sibling.link.close()
        self._selector.close()
        post = Post(
            number=worker.number,
            workers=len(self._workers),
            restarts=worker.starts - 1,
            adopts=tuple(sorted({*worker.adopting, *worker.adopted})),
            link=theirs,
            control=self._control,
            connections=self._connections.row(worker.number - 1),
            lanes=self._lanes.row(worker.number - 1),
            guesses=self._guesses.row(worker.number - 1),
            roster=self._roster,
        )
        run_and_exit(self._orders, self._latest, post)

    def _note(self, worker: Worker, standing: Standing) -> None:
        self._roster.write(worker.number, RosterEntry(standing, worker.pid, max(worker.starts - 1, 0)))

    # -- hearing -----------------------------------------------------------------------------------

    def _hear(self, worker: Worker) -> None:
        if worker.link is None:
            return
        words, there = receive_words(worker.link, worker.reader)
        if words:
            worker.heard_at = time.monotonic()
        for word in words:
            self._heed(worker, word)
        if not there:
            self._hang_up(worker)

    def _hang_up(self, worker: Worker) -> None:
        if worker.link is not None:
            self._selector.unregister(worker.link)
            worker.link.close()
            worker.link = None

    def _heed(self, worker: Worker, word: Word) -> None:
        if word.name == "ready":
            self._became_ready(worker)
        elif word.name == "failed":
            worker.refusal = str(word.argument)
        elif word.name == "adopted" and isinstance(word.argument, int):
            worker.adopting.pop(word.argument, None)
            if word.argument not in worker.adopted:
                worker.adopted.add(word.argument)
                self._log.emit(Level.INFO, "shard_adopted", worker=worker.number, shard=word.argument)
        elif word.name == "reloaded":
            self._reread = True
        elif word.name == "stop":
            self._begin_stop()

    def _became_ready(self, worker: Worker) -> None:
        worker.ready = True
        self._note(worker, Standing.READY)
        self._log.emit(Level.INFO, "worker_started", worker=worker.number, pid=worker.pid)
        if worker.generation != self._generation and worker.link is not None:
            send_word(worker.link, Word("refresh"))  # the others reloaded while it was being started

    def _heed_signals(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in set(wake.recv(4096)):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._begin_stop()
                elif number == signal.SIGHUP:
                    self._reload_wanted = True

    def _pass_on_reload(self) -> None:
        """One worker reads the file, and has all others do so when it is good."""
        for worker in self._workers:
            if worker.ready and worker.link is not None:
                self._reload_wanted = False
                send_word(worker.link, Word("reload"))
                return

    # -- deaths ------------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for worker in self._workers:
                if worker.pid == pid:  # as process 1 of a container we also inherit children of the dead
                    self._hear(worker)
                    self._hang_up(worker)
                    self._died(worker, _way_of_death(status))

    def _died(self, worker: Worker, how: dict[str, str | int]) -> None:
        pid, worker.pid = worker.pid, 0
        for counts in (self._connections, self._lanes, self._guesses):
            counts.clear(worker.number - 1)
        self._note(worker, Standing.DOWN)
        if self._stop_by is not None:
            if how != {"status": 0}:
                self._log_death(worker, pid, how, None)
            return
        if worker.refusal and not self._announced:
            self._fail(worker.refusal)
            return
        wait_s = worker.restarts.wait_after(
            life_s=time.monotonic() - worker.started_at,
            was_ready=worker.ready,
            refused=bool(worker.refusal),
        )
        self._log_death(worker, pid, how, wait_s)
        self._doubt_adoptions(worker)
        if wait_s is None:
            self._give_up(worker)
        else:
            worker.start_at = time.monotonic() + wait_s

    def _doubt_adoptions(self, worker: Worker) -> None:
        """A spool under whose opening a worker has died again is left alone: it may be what kills it."""
        for shard, deaths in list(worker.adopting.items()):
            worker.adopting[shard] = deaths + 1
            if deaths + 1 >= ADOPTION_TRIES:
                del worker.adopting[shard]
                self._log.emit(Level.ERROR, "shard_not_adopted", worker=worker.number, shard=shard)

    def _log_death(
        self, worker: Worker, pid: int, how: dict[str, str | int], restart_in_s: float | None
    ) -> None:
        text = worker.refusal or worker.killed_for
        fields = {"worker": worker.number, "pid": pid, **how, "text": text, "restart_in_s": restart_in_s}
        self._log.emit(Level.ERROR, "worker_died", **fields)

    def _give_up(self, worker: Worker) -> None:
        """Leave it dead; its mail goes to a sibling."""
        worker.given_up = True
        self._note(worker, Standing.GIVEN_UP)
        self._log.emit(Level.ERROR, "worker_given_up", worker=worker.number, starts=worker.starts)
        heir = next((one for one in self._workers if not one.given_up and one.pid), None)
        heir = heir or next((one for one in self._workers if not one.given_up), None)
        if heir is None:
            self._fail("every worker died again and again before it was ready; see the log")
            return
        owned = {worker.number, *worker.adopted, *worker.adopting}
        for shard in sorted(owned.intersection(shards_on_disk(self._orders.assembly.config))):
            heir.adopting[shard] = 0
            if heir.link is not None:
                send_word(heir.link, Word("adopt", shard))

    # -- time --------------------------------------------------------------------------------------

    def _next_due(self) -> float | None:
        if self._stop_by is not None:
            return self._stop_by
        moments = [worker.start_at for worker in self._workers if worker.start_at is not None]
        moments += [worker.heard_at + SILENCE_S for worker in self._living() if not worker.killed_for]
        return min(moments, default=None)

    def _do_what_is_due(self, now: float) -> None:
        if self._reload_wanted and self._announced:
            self._pass_on_reload()
        if self._reread:
            self._read_again()
        if self._stop_by is not None:
            if now >= self._stop_by:
                self._kill_all()
            return
        for worker in self._workers:
            if worker.start_at is not None and now >= worker.start_at:
                self._start(worker)
            elif worker.pid and now >= worker.heard_at + SILENCE_S and not worker.killed_for:
                worker.killed_for = f"its event loop stood still for {SILENCE_S:.0f} s"
                os.kill(worker.pid, signal.SIGKILL)

    def _forgive_silence(self) -> None:
        for worker in self._workers:
            worker.heard_at = time.monotonic()

    def _read_again(self) -> None:
        """Workers have taken over a changed file: so must those that replace them later."""
        self._reread = False
        with contextlib.suppress(ConfigError):  # it has changed once more: they keep what was good
            loaded = load(self._orders.loaded.path)
            self._latest = loaded, assemble(loaded)
            self._generation += 1
            notify("READY=1")

    def _announce(self) -> None:
        """Say once that the server is ready: every worker is, or was given up."""
        if self._announced or self._stop_by is not None:
            return
        if all(worker.ready or worker.given_up for worker in self._workers):
            self._announced = True
            listeners = [plan.name for plan in self._orders.assembly.listeners]
            self._log.emit(Level.INFO, "ready", listeners=listeners, workers=len(self._living()))
            notify("READY=1")

    # -- stopping ----------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._begin_stop()

    def _begin_stop(self) -> None:
        """Have every worker end what it has begun; new connections are taken by nobody."""
        if self._stop_by is not None:
            return
        self._stop_by = time.monotonic() + STOP_S
        notify("STOPPING=1")
        if not self._failure:
            self._log.emit(Level.INFO, "stopping")
        for listening in self._orders.sockets.values():
            listening.close()
        self._control.close()
        for worker in self._living():
            os.kill(worker.pid, signal.SIGTERM)

    def _kill_all(self) -> None:
        self._stop_by = time.monotonic() + STOP_S
        for worker in self._living():
            worker.killed_for = f"it had not ended {STOP_S:.0f} s after it was asked to"
            os.kill(worker.pid, signal.SIGKILL)


def _way_of_death(status: int) -> dict[str, str | int]:
    """A wait status as fields of the log: the exit status, or the signal's name."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return {"status": code}
    try:
        return {"signal": signal.Signals(-code).name}
    except ValueError:
        return {"signal": str(-code)}


@contextlib.contextmanager
def _signals_as_octets() -> Iterator[socket.socket]:
    """A socket from which the numbers of the signals can be read that arrive while the block runs."""
    read, write = socket.socketpair()
    read.setblocking(False)
    write.setblocking(False)
    with read, write, contextlib.ExitStack() as stack:
        for number in _SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        old = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, old)
        yield read
