"""The end of tasks that go on for ever."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from outrider.delivery import background
from outrider.delivery.background import ended


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CANCEL_AGAIN_S", 0.01)
    lost: list[int] = []

    async def deaf() -> None:
        while True:
            if len(lost) < 3:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                lost.append(1)
            else:
                await asyncio.Event().wait()

    async def failing() -> None:
        raise RuntimeError

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await ended(tasks)
    assert len(lost) == 3
    assert tasks[0].cancelled()
    await ended([])
