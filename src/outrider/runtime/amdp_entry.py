"""AMDP as the server sees it: parts that may be none, and the house that is built when settings first ask for
it.

Nothing of AMDP's own is loaded with this module (`on_demand.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from outrider.delivery.background import ended
from outrider.delivery.interface import EnvelopeWatch, FreshMail, LocalTransport
from outrider.delivery.reports import Reporting
from outrider.dns.resolver import DnsResolver
from outrider.model.message import Leased
from outrider.net.shared_counts import CountRow
from outrider.reception.interface import Reception
from outrider.reception.parts import SubmissionDesk
from outrider.runtime.assembly import Assembly
from outrider.runtime.joining import Core
from outrider.runtime.lookup import DnsLookup
from outrider.runtime.on_demand import speaks_amdp

if TYPE_CHECKING:
    from outrider.holding.facility.expiry import Caretaker
    from outrider.holding.web import WebService
    from outrider.reception.amdp_envelopes import EnvelopeDesk
    from outrider.runtime.amdp_parts import AmdpHouse


class LateFreshMail:
    """Delivery from memory, for those that are made before the queue manager is."""

    def __init__(self) -> None:
        self.target: FreshMail | None = None

    def take(self, leased: Sequence[Leased]) -> None:
        """See `FreshMail`."""
        if self.target is None:
            raise AssertionError("mail is made before anything delivers it")
        self.target.take(leased)


@dataclass(frozen=True, slots=True)
class AmdpSurroundings:
    """What AMDP needs of the rest of the server."""

    resolver: DnsResolver
    lookup: DnsLookup
    reporting: Reporting
    reception: Callable[[], Reception]
    """The one in use."""


@dataclass(slots=True)
class AmdpParts:
    """What the present settings make of AMDP; nothing at all where it is off."""

    transports: dict[str, LocalTransport] = field(default_factory=dict)
    services: tuple[WebService, ...] = ()
    """For the HTTPS listeners."""
    envelopes: EnvelopeDesk | None = None
    submissions: SubmissionDesk | None = None
    watch: EnvelopeWatch | None = None
    caretaker: Caretaker | None = None
    background: tuple[Callable[[], Awaitable[None]], ...] = ()
    closing: tuple[Callable[[], Awaitable[None]], ...] = ()
    _tasks: list[asyncio.Future[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin what goes on by itself."""
        if self.caretaker is not None:
            self.caretaker.start()
        self._tasks = [asyncio.ensure_future(one()) for one in self.background]

    async def stop(self) -> None:
        """End it, when others have taken over."""
        if self.caretaker is not None:
            await self.caretaker.stop()
        await ended(self._tasks)

    async def aclose(self) -> None:
        """Break off calls under way; when nothing uses these parts any more."""
        for one in self.closing:
            await one()


class AmdpEntry:
    """Lives as long as the server, and keeps what does too: the house, once there is one."""

    def __init__(self, core: Core, owner: str, guesses: CountRow | None) -> None:
        """`owner` names this worker and its spool. `guesses` counts this worker's wrong ones where there are
        several workers."""
        self._core = core
        self._owner = owner
        self._guesses = guesses
        self._house: AmdpHouse | None = None
        self.fresh = LateFreshMail()
        """To be told of the queue manager."""

    def parts(self, assembly: Assembly, around: AmdpSurroundings) -> AmdpParts:
        """What belongs to these settings. To be started."""
        if self._house is None and not speaks_amdp(assembly.config):
            return AmdpParts()
        if self._house is None:
            self._house = self._build(assembly)
        return self._house.parts(assembly, around)

    def _build(self, assembly: Assembly) -> AmdpHouse:
        from outrider.holding.facility.guesses import MissCounts
        from outrider.runtime.amdp_parts import AmdpHouse

        return AmdpHouse(assembly, self._core, self._owner, MissCounts(self._guesses), self.fresh)

    def close(self) -> None:
        """Wait for what is being done, and give the databases up."""
        if self._house is not None:
            self._house.close()
