"""One load generator: many sessions on one event loop of its own, as plain as can be.

asyncio would cost more than many a server it measures. So sessions are sans-I/O dialogues, and this file is
an `epoll` loop around them that does a send and a receive for each step, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import random
import select
import socket
import ssl
import time
from collections.abc import Callable

from outrider.benchmark.dialogue import (
    AwaitDue,
    Dialogue,
    Refused,
    Replies,
    ReplyReader,
    Send,
    StartTls,
    Step,
    content,
    session,
)
from outrider.benchmark.envelopes import envelopes
from outrider.benchmark.plan import Outcome, Plan

_READ_SIZE = 65_536
_CLOSED = "connection lost"


def generate(plan: Plan, clock: Callable[[], float] = time.monotonic, seed: int = 0) -> Outcome:
    """Carry out the plan in this thread."""
    return _Generator(plan, clock, seed).run()


class _Schedule:
    """When each message is due: at once, or at moments that chance spreads around the rate (Poisson)."""

    def __init__(self, plan: Plan, began: float, seed: int) -> None:
        self._left = plan.messages
        self._rate = plan.rate
        self._chance = random.Random(seed)  # noqa: S311 - load, not secrets
        self._due = began

    def take(self, now: float) -> float | None:
        """The moment of the next message; None when all are taken."""
        if not self._left:
            return None
        self._left -= 1
        if not self._rate:
            return now
        self._due += self._chance.expovariate(self._rate)
        return self._due

    def drop_all(self) -> int:
        """Take all that is left; how many they were."""
        left, self._left = self._left, 0
        return left


class _Connection:
    """One session under way."""

    __slots__ = (
        "connected",
        "dialogue",
        "due",
        "first",
        "outgoing",
        "reader",
        "replies",
        "socket",
        "tls",
        "writes",
    )

    def __init__(self, sock: socket.socket, due: float) -> None:
        self.socket = sock
        self.due: float | None = due
        """When the message it carries, or is to carry, was due; None after its last."""
        self.dialogue: Dialogue
        self.first: Step | None = None
        """What to do once it is connected; None when that is done."""
        self.reader = ReplyReader()
        self.replies = 0
        """How many it waits for."""
        self.outgoing = memoryview(b"")
        self.tls: _Tls | None = None
        self.connected = False
        self.writes = False
        """It waits until it can write, to connect or to go on sending."""


class _Tls:
    """TLS over memory; the certificate is not looked at."""

    __slots__ = ("done", "engine", "incoming", "outgoing")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.engine = context.wrap_bio(self.incoming, self.outgoing)
        self.done = False

    def shake_hands(self) -> bool:
        """Go on with the handshake; True once it is complete."""
        try:
            self.engine.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.done = True
        return True

    def decrypted(self) -> bytes:
        """What the peer's octets say."""
        parts = []
        try:
            while part := self.engine.read(_READ_SIZE):
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        return b"".join(parts)

    def encrypted(self, octets: bytes | memoryview) -> bytes:
        """The octets as the peer wants them."""
        self.engine.write(octets)
        return self.outgoing.read()


class _Generator:
    def __init__(self, plan: Plan, clock: Callable[[], float], seed: int) -> None:
        self._plan = plan
        self._clock = clock
        self._next_message = _contents(plan)
        self._family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._waiting: list[tuple[float, int, _Connection]] = []
        """Those whose message is not due yet: a heap by the moment, then by turn."""
        self._turns = itertools.count()
        self._free = plan.sessions
        """Sessions that may be opened."""
        self._schedule = _Schedule(plan, clock(), seed)
        self._outcome = Outcome()
        self._context = _client_context(plan) if plan.starttls or plan.amtp else None

    def run(self) -> Outcome:
        outcome, cpu = self._outcome, time.process_time()
        outcome.began = outcome.ended = self._clock()
        try:
            self._loop()
        finally:
            for connection in self._connections.values():
                connection.socket.close()
            self._epoll.close()
        outcome.cpu = time.process_time() - cpu
        return outcome

    def _loop(self) -> None:
        last_word = self._clock()
        self._open_free()
        while self._connections:
            due = self._waiting[0][0] if self._waiting else None
            now = self._clock()
            ready = self._epoll.poll(self._plan.stall if due is None else max(0.0, due - now))
            for number, _ in ready:
                # It may have been closed by what came before in this very list.
                if (connection := self._connections.get(number)) is not None:
                    self._guarded(self._flush if connection.writes else self._receive, connection)
            now = self._clock()
            if ready or due is not None:
                last_word = now
            elif now - last_word >= self._plan.stall:
                self._give_up()
            self._wake(now)
            self._open_free()

    def _wake(self, now: float) -> None:
        """Go on with the sessions whose messages are due now."""
        while self._waiting and self._waiting[0][0] <= now:
            connection = heapq.heappop(self._waiting)[2]
            if connection.due is not None:
                self._guarded(self._resume if connection.connected else self._connect, connection)

    def _give_up(self) -> None:
        what = f"no answer for {self._plan.stall:g} s"
        left = self._schedule.drop_all()
        if left:
            self._outcome.fail(what, left)
        for connection in list(self._connections.values()):
            self._fail(connection, what)

    # -- connections -------------------------------------------------------------------------------

    def _open_free(self) -> None:
        """Begin sessions, as many as may be and as there are messages for."""
        while self._free and (due := self._schedule.take(self._clock())) is not None:
            self._free -= 1
            self._open(due)

    def _open(self, due: float) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection = _Connection(sock, due)
        connection.dialogue = session(self._plan, self._next_message, lambda: self._accepted(connection))
        connection.first = next(connection.dialogue)
        self._connections[sock.fileno()] = connection
        if self._plan.kept or not self._plan.rate:
            self._guarded(self._connect, connection)
        else:
            self._wait_until_due(connection)

    def _connect(self, connection: _Connection) -> None:
        if self._plan.source:
            connection.socket.bind((self._plan.source, 0))
        code = connection.socket.connect_ex((self._plan.host, self._plan.port))
        if code not in (0, errno.EINPROGRESS):
            raise Refused(os.strerror(code))
        connection.connected = connection.writes = True
        self._epoll.register(connection.socket.fileno(), select.EPOLLOUT)

    def _close(self, connection: _Connection) -> None:
        # Closing a socket takes it out of the epoll set.
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            connection.socket.close()
            self._free += 1

    def _fail(self, connection: _Connection, what: str) -> None:
        if connection.due is not None:
            self._outcome.fail(what)
            connection.due = None
        self._close(connection)

    def _accepted(self, connection: _Connection) -> bool:
        """Note a message; tell whether the session sends another."""
        now = self._clock()
        assert connection.due is not None
        self._outcome.times.append(now - connection.due)
        self._outcome.ended = now
        connection.due = self._schedule.take(now) if self._plan.kept and self._plan.mail else None
        return connection.due is not None

    def _wait_until_due(self, connection: _Connection) -> None:
        assert connection.due is not None
        heapq.heappush(self._waiting, (connection.due, next(self._turns), connection))

    # -- steps -------------------------------------------------------------------------------------

    def _guarded(self, act: Callable[[_Connection], None], connection: _Connection) -> None:
        """Whatever goes wrong with a connection ends that connection only."""
        try:
            act(connection)
        except Refused as refused:
            self._fail(connection, str(refused))
        except OSError as error:  # ssl.SSLError is one
            self._fail(connection, error.strerror or type(error).__name__)

    def _flush(self, connection: _Connection) -> None:
        first, connection.first = connection.first, None
        if first is not None:
            self._do(connection, first)
        else:
            self._write(connection, connection.outgoing)

    def _resume(self, connection: _Connection) -> None:
        self._advance(connection, [])

    def _receive(self, connection: _Connection) -> None:
        octets = connection.socket.recv(_READ_SIZE)
        if not octets:
            raise Refused(_CLOSED)
        tls = connection.tls
        if tls is not None:
            tls.incoming.write(octets)
            if not tls.done:
                self._shake_hands(connection, tls)
                if not tls.done:
                    return
            octets = tls.decrypted()  # a greeting may have come with the end of the handshake
        replies = connection.reader.take(octets, connection.replies)
        if replies is not None:
            self._advance(connection, replies)

    def _shake_hands(self, connection: _Connection, tls: _Tls) -> None:
        complete = tls.shake_hands()
        self._write(connection, memoryview(tls.outgoing.read()))
        if complete:
            self._advance(connection, [])

    def _advance(self, connection: _Connection, replies: Replies) -> None:
        """The next step of the dialogue."""
        try:
            step = connection.dialogue.send(replies)
            if isinstance(step, AwaitDue) and self._is_due(connection):
                step = connection.dialogue.send([])
        except StopIteration:
            self._close(connection)
            return
        self._do(connection, step)

    def _do(self, connection: _Connection, step: Step) -> None:
        if isinstance(step, Send):
            connection.replies = step.replies
            octets = step.octets
            if connection.tls is not None and octets:
                octets = connection.tls.encrypted(octets)
            self._write(connection, memoryview(octets))
        elif isinstance(step, StartTls):
            assert self._context is not None
            connection.tls = _Tls(self._context)
            self._shake_hands(connection, connection.tls)
        else:
            self._wait_until_due(connection)

    def _is_due(self, connection: _Connection) -> bool:
        now = self._clock()
        assert connection.due is not None
        if not self._plan.rate and self._plan.kept:
            connection.due = now  # the time is that of the transaction, not of the connection
        return connection.due <= now

    def _write(self, connection: _Connection, octets: memoryview) -> None:
        """Send what the kernel takes; for the rest, wait until it takes more."""
        if octets:
            with contextlib.suppress(BlockingIOError):
                octets = octets[connection.socket.send(octets) :]
        if connection.writes != bool(octets):
            connection.writes = bool(octets)
            wanted = select.EPOLLOUT if octets else select.EPOLLIN
            self._epoll.modify(connection.socket.fileno(), wanted)
        connection.outgoing = octets


def _contents(plan: Plan) -> Callable[[], bytes]:
    """The same message again and again, or envelopes, of which no two are alike."""
    if plan.holder:
        return envelopes(plan, time.time(), os.urandom)
    message = content(plan)
    return lambda: message


def _client_context(plan: Plan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # load, not mail: nothing is at stake
    if plan.certificate:
        context.load_cert_chain(plan.certificate, plan.key or None)
    return context
