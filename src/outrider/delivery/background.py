"""Work that runs beside the queue manager's rounds: its failures are recorded, and its end can be waited
for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from outrider.delivery.observer import DeliveryObserver
from outrider.spool.interface import SpoolError


class Background:
    """Tasks that nobody awaits one by one."""

    def __init__(self, observer: DeliveryObserver) -> None:
        self._observer = observer
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, beginning soon."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, within_s: float) -> None:
        """Wait for all that runs, and end what takes longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        for task in self._tasks:
            task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SpoolError as error:
            self._observer.spool_failed("putting items off", str(error))
        except Exception as error:
            self._observer.own_failure("putting items off", error, None)
