"""A worker process, from the fork to its end."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, NoReturn

from outrider.config.loader import Loaded
from outrider.runtime.assembly import Assembly
from outrider.runtime.listening import Sockets
from outrider.runtime.membership import Member, Post
from outrider.runtime.server import Server
from outrider.spool.interface import SpoolError

REFUSED: Final = 1
"""Exit status of a worker that has said why it could not start."""
CRASHED: Final = 70
"""EX_SOFTWARE: a fault of this program; the traceback is on standard error."""

Runner = Callable[[Callable[[], Coroutine[None, None, None]]], None]


@dataclass(frozen=True, slots=True)
class Orders:
    """What every worker of a server begins with, the first and those that replace it."""

    loaded: Loaded
    assembly: Assembly
    sockets: Sockets
    runner: Runner


def run_and_exit(orders: Orders, latest: tuple[Loaded, Assembly] | None, post: Post) -> NoReturn:
    """Serve until asked to stop, then end the process without a way back into the supervisor's code.

    `latest` is what a reload has brought since the server started.
    """
    status = CRASHED
    try:
        _take_back_signals()
        os.environ.pop("NOTIFY_SOCKET", None)  # the service manager listens to the supervisor alone
        status = _serve(orders, latest, post)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _take_back_signals() -> None:
    """From the supervisor's handlers to a worker's; what came meanwhile is held back until here."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all: the supervisor answers
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _serve(orders: Orders, latest: tuple[Loaded, Assembly] | None, post: Post) -> int:
    member = Member(post)
    server = Server(orders.loaded, orders.assembly, orders.sockets, member, latest)
    try:
        orders.runner(server.run)
    except (SpoolError, OSError) as error:
        if server.is_ready:
            raise
        member.failed(start_failure(orders.loaded, error))
        return REFUSED
    return 0


def start_failure(loaded: Loaded, error: SpoolError | OSError) -> str:
    """Why a server did not start, for the operator."""
    if isinstance(error, SpoolError):
        return str(loaded.problem(("spool",), str(error)))
    return str(error)
