"""No test waits for ever: one that is over its limit fails, and shows where every task and thread was.

A hanging test would hide all that come behind it. The limit is that of each phase: set-up, call, clean-up.
It is long, for it is no measurement; what a test waits for has patience of its own (`wait_until`), which
ends first and says more. `@pytest.mark.limit(seconds)` gives another one; `long` tests have none.

The test is ended by a signal, so that it fails where it stands: its servers are stopped, its neighbours go
on, and what it tells comes through from workers too. A clean-up that hangs as well is interrupted again and
again; and if not even that helps, since nothing returns to the interpreter, the process ends.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType

import pytest

USUAL_S = 300.0
SERIAL_S = 1_200.0
"""For tests that have the machine for themselves: under load they take minutes."""

AGAIN_S = 30.0
DEAF_S = 180.0
"""After the limit, for a process in which no signal is heard."""

MOST_TASKS = 200
FRAMES = 12
"""Of each thread, the innermost."""

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known; keep the standard error that is nobody's capture."""
    config.addinivalue_line(
        "markers", "limit(seconds): for each phase of the test, if the usual is too short"
    )
    config.stash[_stderr] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give it back."""
    os.close(config.stash[_stderr])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the set-up."""
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the test itself."""
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the clean-up."""
    with _limited(item):
        return (yield)


def pytest_enter_pdb() -> None:
    """Whoever looks at a test by hand has time. (What `faulthandler` was to do, pytest takes back.)"""
    signal.setitimer(signal.ITIMER_REAL, 0)


def limit_of(item: pytest.Item) -> float:
    """Seconds for each phase; 0 for none."""
    if (marker := item.get_closest_marker("limit")) is not None:
        return float(marker.args[0])
    if item.get_closest_marker("long") is not None:
        return 0.0
    return SERIAL_S if item.get_closest_marker("serial") is not None else USUAL_S


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    seconds = limit_of(item)
    if not seconds:
        yield
        return
    said: list[str] = []

    def end(_number: int, _frame: FrameType | None) -> None:
        said.append(f"not done within {seconds + len(said) * AGAIN_S:g} s\n\n{stacks()}")
        pytest.fail("\n".join(said), pytrace=False)

    old = signal.signal(signal.SIGALRM, end)
    faulthandler.dump_traceback_later(seconds + DEAF_S, file=item.config.stash[_stderr], exit=True)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, old)


def stacks() -> str:
    """Where each thread is, and each task of each event loop that runs."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = [
        f"thread {names.get(number, number)}:\n{''.join(traceback.format_stack(frame, FRAMES))}"
        for number, frame in sys._current_frames().items()
    ]
    tasks = [task for loop in _running_loops() for task in asyncio.all_tasks(loop)]
    shown = [f"{task!r}:\n{''.join(_awaiting(task))}" for task in islice(tasks, MOST_TASKS)]
    more = [f"and {len(tasks) - MOST_TASKS} tasks more\n"] if len(tasks) > MOST_TASKS else []
    return "\n".join([*threads, *shown, *more])


def _running_loops() -> list[asyncio.AbstractEventLoop]:
    # Those of other threads are in no list.
    objects = (one for one in gc.get_objects() if issubclass(type(one), asyncio.AbstractEventLoop))
    return [loop for loop in objects if loop.is_running()]


def _awaiting(task: asyncio.Task[object]) -> Iterator[str]:
    """The frames of a task from the outermost to the one that waits; `Task.get_stack` has the first only."""
    one: object = task.get_coro()
    while one is not None:
        frame = getattr(one, "cr_frame", None) or getattr(one, "gi_frame", None)
        if frame is not None:
            code = frame.f_code
            yield f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}\n'
        one = getattr(one, "cr_await", None) or getattr(one, "gi_yieldfrom", None)
