"""Work that runs beside other work: its failures are recorded, and its end can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

from outrider.delivery.observer import DeliveryObserver
from outrider.spool.interface import SpoolError

CANCEL_AGAIN_S = 2.0


async def ended(tasks: Collection[asyncio.Future[None]]) -> None:
    """Cancel tasks that go on for ever, until they have ended; what they failed of is passed over.

    Once is not always enough: up to Python 3.11 `asyncio.wait_for`, which database libraries use, forgets a
    cancellation that comes in the same moment as what it waits for, and the task would go on for ever.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


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
