"""A queue of a million, and the start of a server on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer

from bench.accounting import Account
from bench.fill_queue import Queue, fill
from bench.measuring import PORT, CountingSink, MeasurementFailed
from bench.programs import STORE
from bench.subjects import OutriderTwo, Subject
from bench.work import KIB, RECIPIENT, Figure, Shape, Work
from outrider.benchmark.generator import generate
from outrider.benchmark.plan import Plan
from outrider.benchmark.processes import PeakMemory, pss_kib

MESSAGES = 1_000_000
READY_WITHIN_S = 300.0
WATCHED_S = 20.0
"""How long memory is watched while the queue is delivered."""


def measure_million(
    shape: Shape,
    kind: type[Subject],
    number: int,
    messages: int = MESSAGES,
    watched_s: float = WATCHED_S,
) -> Figure:
    """One start on the queue, which later rounds find as the earlier left it. Raises MeasurementFailed."""
    if not issubclass(kind, OutriderTwo):
        raise MeasurementFailed(f"{kind.name}: nobody has written a queue for it")
    data = filled(kind.workers, messages)
    work = Work(loopback_address(), PORT, 100, ((loopback_address(), PORT),))
    configuration = kind(work).configuration(data_dir=data)
    with CountingSink(*work.hops[0]) as sink:
        began = time.monotonic()
        with (
            Account() as account,
            OutriderServer(configuration, ready_within_s=READY_WITHIN_S) as server,
        ):
            account.watch(server.pid)
            extra = {"ready_s": time.monotonic() - began, "ready_mib": pss_kib(account.pids()) / KIB}
            with PeakMemory(account.pids) as memory:
                outcome = generate(Plan(work.address, PORT, messages=1, sessions=1, recipient=RECIPIENT))
                if outcome.failed:
                    raise MeasurementFailed(f"{kind.name}: {outcome.failures}")
                extra["accepted_s"] = time.monotonic() - began
                # The new message is one of them.
                _wait(lambda: sink.count() >= 2, "an old message to be delivered")
                extra["delivered_s"] = time.monotonic() - began
                time.sleep(watched_s)
            arrived = sink.count()
    blank = Figure(shape.name, kind.name, number, arrived, 0.0, 0.0, memory.kib / KIB)
    return replace(blank, extra=extra, note=f"{arrived:,} delivered within {watched_s:g} s")


def _wait(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + READY_WITHIN_S
    while not condition():
        if time.monotonic() > limit:
            raise MeasurementFailed(f"waited in vain for {what}")
        time.sleep(0.01)


@cache
def filled(workers: int, messages: int) -> Path:
    """A data folder whose queue is that long, in equal parts for the workers; made once a run."""
    folder = STORE / "million"
    shutil.rmtree(folder, ignore_errors=True)
    queue = Queue(messages=messages // workers, now=time.time())
    for worker in range(1, workers + 1):
        for _ in fill(folder / "spool" / str(worker), queue):
            pass
    return folder
