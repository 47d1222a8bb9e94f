"""How fast the spool is: stores of small messages, and whole lives (store with lease, then settle).

    python bench/spool_bench.py [--directory DIR] [--callers 20,100] [--messages 20000] [--repeat 3]

One process, one event loop, `callers` tasks that each wait for their commit before they begin the next.
What is printed are medians over the repeats: messages a second, CPU time of the process for one message
(all threads), and how many requests shared a commit.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from outrider.model.address import Address, Domain
from outrider.model.content import inline_content
from outrider.model.envelope import Envelope, Recipient
from outrider.model.facts import Fact, Provenance
from outrider.model.message import (
    Event,
    Leased,
    MessageId,
    NewItem,
    NewMessage,
    RecipientState,
    RecipientStatus,
    Settlement,
)
from outrider.model.result import DeliveryResult, Kind
from outrider.spool.interface import Spool
from outrider.spool.observer import NullObserver
from outrider.spool.sqlite.spool import SqliteSpool

NOW = 1_700_000_000.0
CONTENT = inline_content(b"From: a@a.example\r\nSubject: measured\r\n\r\n" + b"0123456789abcd\r\n" * 253)
TRACE = b"Received: from client.example ([192.0.2.1]) by mx.example with ESMTPS id %s\r\n" + b" " * 120
FACTS = tuple(
    Fact(f"client.fact{number}", "mx.client.example", Provenance.PROVEN, "reverse look-up", NOW)
    for number in range(10)
)


class CountingObserver(NullObserver):
    """Counts commits."""

    def __init__(self) -> None:
        self.commits = 0
        self.requests = 0

    def batch_committed(self, requests: int, seconds: float) -> None:
        """One more."""
        self.commits += 1
        self.requests += requests


def new_message(number: int) -> NewMessage:
    """A message of 4 KiB with the facts and events of an ordinary session."""
    name = f"{number:015d}"
    return NewMessage(
        id=MessageId(name),
        received_at=NOW,
        envelope=Envelope(
            Address("sender", Domain("a.example")), (Recipient(Address("user", Domain("b.example"))),)
        ),
        trace=TRACE % name.encode(),
        content=CONTENT,
        items=(NewItem("b.example", (0,)),),
        facts=FACTS,
        events=(Event(NOW, "received", "from client.example [192.0.2.1] with ESMTPS"),),
    )


def settlement_of(leased: Leased) -> Settlement:
    """Delivered at once."""
    remote = "mx.b.example [192.0.2.9]:25"
    result = DeliveryResult(Kind.RELAYED, "2.0.0", "queued as 1234", 250, remote, "smtp")
    return Settlement(
        leased.item.key,
        leased.item.lease,
        (RecipientStatus(0, RecipientState.RELAYED, 1, result),),
        events=(Event(NOW + 1, "delivered", "250 2.0.0 queued as 1234", ("user@b.example",)),),
        at=NOW + 1,
    )


async def store(spool: Spool, number: int) -> None:
    """Only the store."""
    await spool.store(new_message(number))


async def life(spool: Spool, number: int) -> None:
    """Stored with a lease, delivered, settled."""
    for leased in await spool.store(new_message(number), lease_until=NOW + 300):
        await spool.settle(settlement_of(leased))


@dataclass(frozen=True)
class Measure:
    """One run."""

    per_second: float
    cpu_us: float
    per_commit: float


Work = Callable[[Spool, int], Awaitable[None]]


async def run(directory: Path, work: Work, callers: int, count: int) -> Measure:
    """One run with a fresh spool."""
    observer = CountingObserver()
    spool = SqliteSpool(directory, reserve=0, observer=observer)
    await spool.start(NOW)
    numbers = iter(range(count))

    async def caller(numbers: Iterator[int]) -> None:
        for number in numbers:
            await work(spool, number)

    cpu, began = _cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(caller(numbers) for _ in range(callers)))
    elapsed, cpu = time.perf_counter() - began, _cpu_seconds() - cpu
    await spool.close()
    return Measure(count / elapsed, cpu / count * 1e6, observer.requests / max(observer.commits, 1))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--directory", type=Path, default=None, help="where the spool is made; default: /tmp")
    parser.add_argument("--callers", default="20,100")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'work':8}{'callers':>8}{'per second':>12}{'CPU us each':>13}{'per commit':>12}")
    for name, work in (("store", store), ("life", life)):
        for callers in map(int, arguments.callers.split(",")):
            runs = []
            for _ in range(arguments.repeat):
                directory = Path(tempfile.mkdtemp(prefix="spool-bench-", dir=arguments.directory))
                try:
                    runs.append(_run_loop(run(directory, work, callers, arguments.messages)))
                finally:
                    shutil.rmtree(directory)
            median = Measure(
                statistics.median(one.per_second for one in runs),
                statistics.median(one.cpu_us for one in runs),
                statistics.median(one.per_commit for one in runs),
            )
            print(
                f"{name:8}{callers:8}{median.per_second:12,.0f}{median.cpu_us:13.1f}{median.per_commit:12.1f}",
                flush=True,
            )


def _run_loop(work: Awaitable[Measure]) -> Measure:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)  # type: ignore[arg-type]
    return uvloop.run(work)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
