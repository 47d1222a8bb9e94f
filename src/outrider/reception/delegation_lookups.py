"""Asking domains for their own CAs: each way in turn, within limits, remembered (MT2-24b).

A stranger's certificate says which domain is asked, so that asking must cost little and hurt nobody: one
look-up for a domain at a time, few at once in all, few a minute for each client address, all in bounded time;
and what was learnt is remembered, that there was nothing as well.

A domain may change its CA at any time (MT2-25). Whoever finds that nothing fits what is remembered may have
it asked for again, once it is a minute old.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Network, ip_address
from typing import Protocol

from outrider.identity.delegated_authorities import (
    AuthorityLookup,
    AuthorityLookupFailed,
    DelegatedAuthorities,
    LookupsExhausted,
)

MAX_REMEMBERED = 2000
"""Domains; some kilobytes each."""
MAX_ADDRESSES = 10_000
"""Clients whose look-ups are counted."""
MAX_AT_ONCE = 8
"""Domains asked at the same time."""
LEAST_AGE_S = 60.0
"""What is younger is not asked for again, however badly it fits."""
LEAST_KEPT_S = 5.0
TEMPORARY_KEPT_S = 30.0
"""For a failure that may pass."""
_MINUTE_S = 60.0
_CUSTOMER_BITS = 64
"""Of an IPv6 address: one customer has all that follow."""


class DelegationObserver(Protocol):
    """Told what happened; `maillog` implements it. Neither method may raise or wait."""

    def authority_asked_for(self, domain: str, result: str, text: str, seconds: float) -> None:
        """A domain was asked for its CA: ``found``, ``none`` or ``failed``, and how or why."""
        ...

    def lookup_refused(self, domain: str, address: str, reason: str) -> None:
        """A limit was met; nothing was asked."""
        ...


class NullDelegationObserver:
    """Records nothing."""

    def authority_asked_for(self, domain: str, result: str, text: str, seconds: float) -> None:
        """Nothing."""

    def lookup_refused(self, domain: str, address: str, reason: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class DelegationLimits:
    """Seconds, and look-ups."""

    timeout_s: float = 5.0
    """For each way, with all that belongs to it."""
    cache_s: float = 3600.0
    negative_s: float = 300.0
    per_minute: int = 10
    """For one client address (IPv6: one /64). Look-ups of ours, without an address, are not counted."""


_Outcome = DelegatedAuthorities | AuthorityLookupFailed


@dataclass(frozen=True, slots=True)
class _Entry:
    outcome: _Outcome
    at: float
    until: float

    def holds(self, now: float) -> bool:
        return self.at <= now < self.until  # a clock that was set back ends it too


class DelegationLookups:
    """The `AuthoritySource` of a server. Belongs to one event loop; to be closed when replaced."""

    def __init__(
        self,
        ways: Sequence[AuthorityLookup],
        limits: DelegationLimits,
        clock: Callable[[], float],
        observer: DelegationObserver | None = None,
    ) -> None:
        """`ways` are tried in order; `clock` gives seconds since the epoch."""
        self._ways = tuple(ways)
        self._limits = limits
        self._clock = clock
        self._observer = observer or NullDelegationObserver()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._flights: dict[str, asyncio.Task[_Outcome]] = {}
        self._budget = _Budget(limits.per_minute)

    async def authorities(
        self, domain: str, address: str, *, newer_than: float | None = None
    ) -> DelegatedAuthorities:
        """See `AuthoritySource`."""
        entry = self._entry(domain)
        if entry is not None and not self._is_too_old(entry, newer_than):
            return _told(entry.outcome)
        try:
            return _told(await self._join(domain, address))
        except AuthorityLookupFailed as error:
            if entry is not None and error.temporary:
                return _told(entry.outcome)  # better than nothing, and no worse than it was
            raise

    async def aclose(self) -> None:
        """Give up what is being looked up."""
        tasks = tuple(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- memory ----------------------------------------------------------------------------------------

    def _entry(self, domain: str) -> _Entry | None:
        entry = self._entries.get(domain)
        return entry if entry is not None and entry.holds(self._clock()) else None

    def _is_too_old(self, entry: _Entry, newer_than: float | None) -> bool:
        return newer_than is not None and entry.at <= newer_than and self._clock() - entry.at >= LEAST_AGE_S

    def _remember(self, domain: str, outcome: _Outcome) -> None:
        at = outcome.at if isinstance(outcome, DelegatedAuthorities) else self._clock()
        self._entries[domain] = _Entry(outcome, at, at + self._kept_s(outcome))
        self._entries.move_to_end(domain)
        while len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)

    def _kept_s(self, outcome: _Outcome) -> float:
        if isinstance(outcome, DelegatedAuthorities):
            said = outcome.ttl_s or self._limits.cache_s
            return max(LEAST_KEPT_S, min(said, self._limits.cache_s))
        return (
            min(TEMPORARY_KEPT_S, self._limits.negative_s) if outcome.temporary else self._limits.negative_s
        )

    # -- asking ----------------------------------------------------------------------------------------

    async def _join(self, domain: str, address: str) -> _Outcome:
        """Wait for the look-up of the domain, which is begun if need be. Its end is nobody's own: a waiter
        that is cancelled leaves it to the others."""
        flight = self._flights.get(domain)
        if flight is None:
            self._take_turn(domain, address)
            flight = asyncio.get_running_loop().create_task(self._ask(domain))
            self._flights[domain] = flight
            flight.add_done_callback(lambda _: self._flights.pop(domain, None))
        await asyncio.wait([flight])
        if flight.cancelled():
            raise AuthorityLookupFailed("the look-up was given up", temporary=True)
        return flight.result()

    def _take_turn(self, domain: str, address: str) -> None:
        reason = ""
        if len(self._flights) >= MAX_AT_ONCE:
            reason = f"{MAX_AT_ONCE} other domains are being asked"
        elif address and not self._budget.take(address, self._clock()):
            reason = f"{address} has caused {self._limits.per_minute} look-ups within a minute"
        if reason:
            self._observer.lookup_refused(domain, address, reason)
            raise LookupsExhausted(f"{domain} was not asked for its CA: {reason}")

    async def _ask(self, domain: str) -> _Outcome:
        began = self._clock()
        outcome = await self._ask_each(domain)
        self._remember(domain, outcome)
        seconds = max(0.0, self._clock() - began)
        if isinstance(outcome, DelegatedAuthorities):
            self._observer.authority_asked_for(domain, "found", outcome.how, seconds)
        else:
            result = "failed" if outcome.temporary else "none"
            self._observer.authority_asked_for(domain, result, outcome.reason, seconds)
        return outcome

    async def _ask_each(self, domain: str) -> _Outcome:
        """The first way that knows something; else why none does, a failure that may pass before "there is
        none"."""
        failures: list[AuthorityLookupFailed] = []
        for way in self._ways:
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    found = await way.find(domain)
                return replace(found, at=self._clock())
            except AuthorityLookupFailed as error:
                failures.append(error)
            except TimeoutError:
                reason = f"{domain} has not answered within {self._limits.timeout_s:g} s"
                failures.append(AuthorityLookupFailed(reason, temporary=True))
            except Exception as error:  # a library's surprise about a stranger's answer is no knowledge
                reason = f"asking {domain} failed: {type(error).__name__}"
                failures.append(AuthorityLookupFailed(reason, temporary=True))
        reason = "; ".join(one.reason for one in failures) or "there is no way to ask"
        return AuthorityLookupFailed(reason, temporary=any(one.temporary for one in failures))


def _told(outcome: _Outcome) -> DelegatedAuthorities:
    """The answer; a failure is raised as one of each asker's own."""
    if isinstance(outcome, AuthorityLookupFailed):
        raise AuthorityLookupFailed(outcome.reason, temporary=outcome.temporary)
    return outcome


class _Budget:
    """Look-ups of the last minute for each client."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Whether the client may cause one more; counts it if so."""
        used = self._used.setdefault(_client(address), deque())
        self._used.move_to_end(_client(address))
        while len(self._used) > MAX_ADDRESSES:
            self._used.popitem(last=False)
        while used and not now - _MINUTE_S < used[0] <= now:
            used.popleft()
        if len(used) >= self._most:
            return False
        used.append(now)
        return True


def _client(address: str) -> str:
    """Whom an address stands for."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a unix socket
    return str(IPv6Network((parsed, _CUSTOMER_BITS), strict=False)) if parsed.version == 6 else address
