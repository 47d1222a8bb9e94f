"""Time as the queue manager uses it: handed in, so that its tests turn the clock by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch, and waiting."""

    def now(self) -> float:
        """The moment."""
        ...

    async def wait(self, event: asyncio.Event, until: float) -> None:
        """Return when the event is set or the moment has come, whichever is first."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """The moment, seconds since the epoch."""
        return time.time()

    async def wait(self, event: asyncio.Event, until: float) -> None:
        """Return when the event is set or the moment has come, whichever is first."""
        try:
            async with asyncio.timeout(max(0.0, until - self.now())):
                await event.wait()
        except TimeoutError:
            return
