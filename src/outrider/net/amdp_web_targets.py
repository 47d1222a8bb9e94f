"""Whom AMDP's calls may go to: names only, by addresses that were checked, none of them too often.

A host and port stand in an envelope that anybody can send. So that this makes us neither a scanner of
networks that trust us (SEC-185, SEC-207) nor somebody's weapon (AMDP-12): names are DNS names and nothing
that a resolver of the system would read as an address; every address is held against the guard and what is
connected to is the address that passed, looked up once for each connection; an address that has not proven to
be a holder of its name is tried a few times a minute.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from outrider.delivery.lookup import HostAddresses, LookupFailed, LookupTemporary
from outrider.holding.web import CallFailed, IPAddress
from outrider.routing.private_addresses import AddressGuard

MAX_ADDRESSES: Final = 4
"""Tried for one connection."""
WINDOW_S: Final = 60.0
MAX_REMEMBERED: Final = 10_000
"""Addresses whose failures are remembered."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{4,253}}$)({_LABEL}\.)+(?![0-9]+$)(?!0x[0-9a-f]*$){_LABEL}")
_PATH = re.compile(r"/[\x21-\x7e]{0,4000}")


class AddressLookup(Protocol):
    """What a call asks of DNS."""

    async def addresses(self, host: str) -> HostAddresses:
        """The addresses of a host. Raises LookupFailed."""
        ...


def check_target(host: str, port: int, path: str) -> None:
    """Raises CallFailed for what is no name, port (AMDP-9: 443, or 1024 and up) or path of a service."""
    if not _NAME.fullmatch(host):
        raise CallFailed("the host is no domain name", temporary=False)
    if port != 443 and not 1024 <= port <= 65535:
        raise CallFailed(f"port {port} is not called (443, or 1024 and up)", temporary=False)
    if not _PATH.fullmatch(path) or path.startswith("//"):
        raise CallFailed("the path cannot be asked for", temporary=False)


async def checked_addresses(lookup: AddressLookup, guard: AddressGuard, host: str) -> Sequence[IPAddress]:
    """The addresses of the host that may be connected to. Raises CallFailed."""
    try:
        found = (await lookup.addresses(host)).addresses
    except LookupFailed as error:
        raise CallFailed(f"{host}: {error.reason}", temporary=isinstance(error, LookupTemporary)) from error
    refusals = [guard.refusal(one) for one in found]
    allowed = [one for one, refusal in zip(found, refusals, strict=True) if not refusal]
    if not allowed:
        why = f"{found[0]} {refusals[0]}" if found else "has no address"
        raise CallFailed(f"{host}: {why}", temporary=False)
    return allowed[:MAX_ADDRESSES]


class UnprovenAddresses:
    """How often connecting to an address has lately come to nothing: no TLS, or no certificate for the name.

    An honest holder's failures are few; a victim named in forged envelopes fails every time, whatever names
    the forger's DNS gives it. Attempts beyond the number wait for those under way, since with an honest
    holder of many domains they end well.
    """

    def __init__(self, per_window: int, clock: Callable[[], float]) -> None:
        """`clock` is a monotonic time in seconds."""
        self._per_window = per_window
        self._clock = clock
        self._failures: OrderedDict[IPAddress, deque[float]] = OrderedDict()
        self._under_way: dict[IPAddress, _Gate] = {}

    @asynccontextmanager
    async def attempt(self, address: IPAddress) -> AsyncIterator[None]:
        """One attempt, which has failed when it ends by CallFailed. Raises CallFailed when there were
        enough."""
        gate = self._under_way.setdefault(address, _Gate(asyncio.Semaphore(self._per_window)))
        gate.users += 1
        try:
            async with gate.room:
                if not self._may_try(address):
                    raise CallFailed("too many connections there came to nothing")
                try:
                    yield
                except CallFailed:
                    self._failed(address)
                    raise
                self._failures.pop(address, None)
        finally:
            gate.users -= 1
            if not gate.users:
                del self._under_way[address]

    def _may_try(self, address: IPAddress) -> bool:
        failed = self._failures.get(address)
        if failed is None:
            return True
        since = self._clock() - WINDOW_S
        while failed and failed[0] <= since:
            failed.popleft()
        return len(failed) < self._per_window

    def _failed(self, address: IPAddress) -> None:
        self._failures.setdefault(address, deque(maxlen=self._per_window)).append(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)


@dataclass(slots=True)
class _Gate:
    """Attempts at one address."""

    room: asyncio.Semaphore
    users: int = 0
