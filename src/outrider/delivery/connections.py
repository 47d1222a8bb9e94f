"""Open connections kept for the next message to the same place (SMTP-3), and addresses that just failed.

A connection is reused only for a hop with the same protocol, host, port, login and TLS terms: what was
negotiated under weaker terms never carries mail that asks for stronger ones (TLS-4a). For AMTP the terms name
the domain for which the server has proven to be the right one: each domain has connections of its own
(AMTP-5).

A connection that carries many messages at once (MT2-18d) is lent to as many as it takes, and while it is
being opened those who want the same wait for it: one nailed-up connection, not one for each message.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from outrider.delivery.interface import (
    ConnectFailed,
    Connection,
    Dialler,
    Hop,
    ManyAtOnce,
    RequirementUnmet,
    ServerTerms,
)
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.results import as_deferred, deferred
from outrider.model.result import DeliveryResult
from outrider.routing.tls_policy import TlsRequirement

Address = IPv4Address | IPv6Address | str
PoolKey = tuple[str, str, int, TlsRequirement, str, str, bool, ServerTerms | None, str]

MAX_IDLE = 200
"""Connections kept open for nobody in particular: descriptors are for mail under way."""
AVOID_S = 60.0
"""How long an address that did not answer is tried after all others (the shortest usual wait for a retry)."""
MAX_AVOIDED = 1000
ORPHAN_S = 5.0
"""How long a connection is kept whose asker went away while it was being opened."""
SHARING = ("mt2",)
"""Protocols whose connections may carry many messages at once."""


Failure = tuple[Hop, Address, DeliveryResult]


@dataclass(slots=True, eq=False)
class _Line:
    """A connection that several use at once."""

    connection: ManyAtOnce
    is_backup: bool
    users: int = 1
    given_up: bool = False
    """It is lent no more, and closed when the last has done with it."""


@dataclass(slots=True, eq=False)
class Opened:
    """A connection in use, or kept for the next one."""

    connection: Connection
    key: PoolKey
    reused: bool = False
    carried: int = 0
    """Messages sent on it so far."""
    failures: tuple[Failure, ...] = ()
    """What was met at better hops and addresses before this one answered."""
    unmet: bool = False
    """Among them was a host that did not meet a requirement of ours."""
    is_backup: bool = False
    """The domain has AMTP servers that come before this one (AMTP-21)."""
    idle_until: float = 0.0
    line: _Line | None = None
    """For a connection that others may be using too."""

    @property
    def parallel(self) -> int:
        """How many messages may be under way on the connection."""
        return 1 if self.line is None else self.line.connection.parallel


@dataclass(frozen=True, slots=True)
class Unreached:
    """Why no hop gave a session: what was met at each address, in order."""

    failures: tuple[Failure, ...]
    unmet: bool = False
    """A host answered, and a requirement of ours was not met."""
    answered: bool = False
    """A host answered, and would not have us."""

    @property
    def is_unreachable(self) -> bool:
        """Nobody spoke at all: only then another protocol may be tried (ITP-7)."""
        return not self.unmet and not self.answered

    @property
    def result(self) -> DeliveryResult:
        """What to record: an unmet requirement before all, else a host that may come back, else the last."""
        chosen = [result for _, _, result in self.failures]
        temporary = [one for one in chosen if not one.is_final]
        return (temporary or chosen)[-1]


@dataclass(frozen=True, slots=True)
class _Avoided:
    until: float
    silence: str
    """Why there was no connection; "" when the host did speak."""


class Connections:
    """Opens, lends, keeps and closes connections. Time is an argument; nothing here waits for a timer."""

    def __init__(self, dialler: Dialler, observer: DeliveryObserver) -> None:
        self._dialler = dialler
        self._observer = observer
        self._idle: dict[PoolKey, list[Opened]] = {}
        self._order: OrderedDict[Opened, None] = OrderedDict()
        self._avoided: OrderedDict[tuple[Address, int], _Avoided] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._lines: dict[PoolKey, list[_Line]] = {}
        """Connections in use that may have room for one more."""
        self._dialling: dict[tuple[Hop, ...], asyncio.Task[Opened | Unreached]] = {}

    # --- reuse --------------------------------------------------------------------------------------

    def lend(self, hops: tuple[Hop, ...], now: float) -> Opened | None:
        """An open connection to one of the hops, better hops first; None when there is none."""
        for hop in hops:
            key = pool_key(hop)
            one = self._lend_line(key) or self._lend_idle(key, now)
            if one is not None:
                self._observer.connection_reused(one.connection.description, hop.protocol)
                return one
        return None

    def _lend_idle(self, key: PoolKey, now: float) -> Opened | None:
        kept = self._idle.get(key, [])
        while kept:
            one = kept.pop()
            self._order.pop(one, None)
            if one.idle_until > now and one.connection.usable:
                one.reused, one.failures, one.unmet = True, (), False
                self._offer_line(one)
                return one
            self._close(one.connection)
        return None

    def _lend_line(self, key: PoolKey) -> Opened | None:
        for line in self._lines.get(key, ()):
            if line.connection.usable and line.users < line.connection.parallel:
                line.users += 1
                return Opened(line.connection, key, reused=True, is_backup=line.is_backup, line=line)
        return None

    def _offer_line(self, opened: Opened) -> None:
        """Let others use it too, if it can carry more than one message at once."""
        if opened.key[0] in SHARING and isinstance(opened.connection, ManyAtOnce):
            opened.line = _Line(opened.connection, opened.is_backup)
            self._lines.setdefault(opened.key, []).append(opened.line)

    def _still_used(self, opened: Opened, *, give_up: bool) -> bool:
        """One user has done with it: whether others have not."""
        line = opened.line
        if line is None:
            return False
        opened.line = None
        line.users -= 1
        line.given_up = line.given_up or give_up
        if line.given_up or not line.users:
            rest = [one for one in self._lines.get(opened.key, ()) if one is not line]
            if rest:
                self._lines[opened.key] = rest
            else:
                self._lines.pop(opened.key, None)
        return line.users > 0

    def give_back(self, opened: Opened, now: float, idle_s: float) -> None:
        """Keep it for the next message if it can take one, else close it."""
        given_up = opened.line is not None and opened.line.given_up
        if self._still_used(opened, give_up=not opened.connection.usable):
            return
        if given_up or not opened.connection.usable or idle_s <= 0:
            self._close(opened.connection)
            return
        if opened.key[0] in SHARING and isinstance(opened.connection, ManyAtOnce):
            idle_s = max(idle_s, opened.connection.keep_open_s)
        opened.idle_until = now + idle_s
        self._idle.setdefault(opened.key, []).append(opened)
        self._order[opened] = None
        if len(self._order) > MAX_IDLE:
            self._forget(next(iter(self._order)))

    def discard(self, opened: Opened) -> None:
        """It is of no further use: closed, as soon as nobody else uses it."""
        if not self._still_used(opened, give_up=True):
            self._close(opened.connection)

    def abandon(self, opened: Opened) -> None:
        """What is said on it now has no meaning any more. Where it carries others' messages too, its `send`
        has taken back this one."""
        if not self._still_used(opened, give_up=False):
            opened.connection.abort()
            self._close(opened.connection)

    def deadline(self) -> float | None:
        """When the first idle connection has waited long enough."""
        return min((one.idle_until for one in self._order), default=None)

    def close_idle(self, now: float) -> None:
        """Close those that have."""
        for kept in [one for one in self._order if one.idle_until <= now]:
            self._forget(kept)

    def _forget(self, kept: Opened) -> None:
        self._order.pop(kept, None)
        same = self._idle.get(kept.key, [])
        if kept in same:
            same.remove(kept)
        if not same:
            self._idle.pop(kept.key, None)
        self._close(kept.connection)

    def _close(self, connection: Connection) -> None:
        self._spawn(connection.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all that are idle, and wait for it."""
        for kept in list(self._order):
            self._forget(kept)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    # --- dialling -----------------------------------------------------------------------------------

    async def open(self, hops: tuple[Hop, ...], now: Callable[[], float]) -> Opened | Unreached:
        """Try each hop at each of its addresses, in order, until one gives a session."""
        if not any(hop.protocol in SHARING for hop in hops):
            return await self._open(hops, now)
        while True:
            dialling = self._dialling.get(hops)
            if dialling is None:
                return await self._dial_for_many(hops, now)
            found = await asyncio.shield(dialling)
            if isinstance(found, Unreached):
                return found
            lent = self.lend(hops, now())
            if lent is not None:
                return lent

    async def _dial_for_many(self, hops: tuple[Hop, ...], now: Callable[[], float]) -> Opened | Unreached:
        dialling = asyncio.get_running_loop().create_task(self._open(hops, now))
        self._dialling[hops] = dialling
        dialling.add_done_callback(lambda _: self._dialling.pop(hops, None))
        try:
            return await asyncio.shield(dialling)
        except asyncio.CancelledError:
            dialling.add_done_callback(lambda done: self._nobody_asked(done, now()))
            raise

    def _nobody_asked(self, dialling: asyncio.Task[Opened | Unreached], now: float) -> None:
        """Who asked for it has gone; others may be waiting for it."""
        if dialling.cancelled() or dialling.exception() is not None:
            return
        found = dialling.result()
        if isinstance(found, Opened):
            self.give_back(found, now, ORPHAN_S)

    async def _open(self, hops: tuple[Hop, ...], now: Callable[[], float]) -> Opened | Unreached:
        met: list[Failure] = []
        unmet: list[Failure] = []
        answered = False
        for hop, address in self._attempts(hops, now()):
            try:
                connection = await self._dialler.connect(hop, address)
            except ConnectFailed as failure:
                met.append((hop, address, failure.result))
                answered = answered or failure.answered
                silence = "" if failure.answered else failure.result.text
                self._avoid(address, hop.port, _Avoided(now() + AVOID_S, silence))
                self._observer.connection_failed(hop.host, str(address), hop.protocol, failure.result)
            except RequirementUnmet as failure:
                result = as_deferred(failure.result)
                unmet.append((hop, address, result))
                self._observer.requirement_unmet(hop.host, str(address), hop.protocol, result)
            else:
                self._avoided.pop((address, hop.port), None)
                self._observer.connection_opened(connection.description, hop.protocol)
                is_backup = hop.terms is not None and hop.terms.backup
                opened = Opened(
                    connection,
                    pool_key(hop),
                    failures=(*met, *unmet),
                    unmet=bool(unmet),
                    is_backup=is_backup,
                )
                self._offer_line(opened)
                return opened
        return Unreached((*met, *unmet), unmet=bool(unmet), answered=answered)

    def recently_silent(self, hops: tuple[Hop, ...], now: float) -> Unreached | None:
        """What `open` said a moment ago, where it reached nobody at any of these addresses; else None."""
        met: list[Failure] = []
        for hop in hops:
            for address in hop.addresses:
                avoided = self._avoided.get((address, hop.port))
                if avoided is None or avoided.until <= now or not avoided.silence:
                    return None
                remote = f"{hop.host} [{address}]:{hop.port}"
                met.append((hop, address, deferred("4.4.1", avoided.silence, remote, hop.protocol)))
        return Unreached(tuple(met)) if met else None

    def _attempts(self, hops: tuple[Hop, ...], now: float) -> list[tuple[Hop, Address]]:
        """Hops and addresses in order; addresses that failed a moment ago come last."""
        every = [(hop, address) for hop in hops for address in hop.addresses]
        if not self._avoided:
            return every
        return sorted(every, key=lambda one: self._is_avoided(one[1], one[0].port, now))

    def _is_avoided(self, address: Address, port: int, now: float) -> bool:
        avoided = self._avoided.get((address, port))
        return avoided is not None and avoided.until > now

    def _avoid(self, address: Address, port: int, avoided: _Avoided) -> None:
        self._avoided[(address, port)] = avoided
        self._avoided.move_to_end((address, port))
        if len(self._avoided) > MAX_AVOIDED:
            self._avoided.popitem(last=False)


def pool_key(hop: Hop) -> PoolKey:
    """What must be equal for a connection to serve a hop."""
    socket_path = next((one for one in hop.addresses if isinstance(one, str)), "")
    terms = (hop.tls, hop.username, hop.password_file, hop.secure, hop.terms)
    return (hop.protocol, hop.host, hop.port, *terms, socket_path)
