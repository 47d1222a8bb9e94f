"""Open connections kept for the next message to the same place (SMTP-3), and addresses that just failed.

A connection is reused only for a hop with the same protocol, host, port, login and TLS terms: what was
negotiated under weaker terms never carries mail that asks for stronger ones (TLS-4a). For AMTP the terms name
the domain for which the server has proven to be the right one: each domain has connections of its own
(AMTP-5).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from outrider.delivery.interface import (
    AmtpTerms,
    ConnectFailed,
    Connection,
    Dialler,
    Hop,
    RequirementUnmet,
)
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.results import as_deferred, deferred
from outrider.model.result import DeliveryResult
from outrider.routing.tls_policy import TlsRequirement

Address = IPv4Address | IPv6Address | str
PoolKey = tuple[str, str, int, TlsRequirement, str, str, bool, AmtpTerms | None, str]

MAX_IDLE = 200
"""Connections kept open for nobody in particular: descriptors are for mail under way."""
AVOID_S = 60.0
"""How long an address that did not answer is tried after all others (the shortest usual wait for a retry)."""
MAX_AVOIDED = 1000


Failure = tuple[Hop, Address, DeliveryResult]


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

    # --- reuse --------------------------------------------------------------------------------------

    def lend(self, hops: tuple[Hop, ...], now: float) -> Opened | None:
        """An open connection to one of the hops, better hops first; None when there is none."""
        for hop in hops:
            kept = self._idle.get(pool_key(hop), [])
            while kept:
                one = kept.pop()
                self._order.pop(one, None)
                if one.idle_until > now and one.connection.usable:
                    self._observer.connection_reused(one.connection.description, hop.protocol)
                    one.reused, one.failures, one.unmet = True, (), False
                    return one
                self._close(one.connection)
        return None

    def give_back(self, opened: Opened, now: float, idle_s: float) -> None:
        """Keep it for the next message if it can take one, else close it."""
        if not opened.connection.usable or idle_s <= 0:
            self._close(opened.connection)
            return
        opened.idle_until = now + idle_s
        self._idle.setdefault(opened.key, []).append(opened)
        self._order[opened] = None
        if len(self._order) > MAX_IDLE:
            self._forget(next(iter(self._order)))

    def discard(self, opened: Opened) -> None:
        """It is of no further use."""
        self._close(opened.connection)

    def deadline(self) -> float | None:
        """When the first idle connection has waited long enough."""
        first = next(iter(self._order), None)  # all are kept equally long: the oldest is the first to go
        return None if first is None else first.idle_until

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
                is_backup = hop.amtp is not None and hop.amtp.backup
                return Opened(
                    connection,
                    pool_key(hop),
                    failures=(*met, *unmet),
                    unmet=bool(unmet),
                    is_backup=is_backup,
                )
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
    terms = (hop.tls, hop.username, hop.password_file, hop.secure, hop.amtp)
    return (hop.protocol, hop.host, hop.port, *terms, socket_path)
