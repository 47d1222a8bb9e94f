"""Connections that carry many messages at once: lent to all, dialled once, closed when the last has done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from outrider.delivery.connections import Connections, Opened, Unreached
from outrider.delivery.interface import ConnectFailed, Hop, Job
from outrider.delivery.results import deferred
from outrider.model.result import DeliveryResult
from tests.delivery.support import Observer

HOP = Hop("mt2", "gate.example", (ip_address("192.0.2.1"),), 10_126)


@dataclass(eq=False)
class Line:
    """A connection that carries three at once."""

    parallel: int = 3
    keep_open_s: float = 60.0
    usable: bool = True
    description: str = "gate.example"
    closed: int = 0
    aborted: int = 0

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1


@dataclass
class Dialler:
    """Gives lines, when it is let."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    made: list[Line] = field(default_factory=list)
    dialled: int = 0
    fails: bool = False

    async def connect(self, hop: Hop, address: IPv4Address | IPv6Address | str) -> Line:
        self.dialled += 1
        await self.let.wait()
        if self.fails:
            raise ConnectFailed(deferred("4.4.1", "away"))
        self.made.append(Line())
        return self.made[-1]


def clock() -> float:
    return 100.0


async def opened(connections: Connections) -> Opened:
    found = await connections.open((HOP,), clock)
    assert isinstance(found, Opened)
    return found


@pytest.fixture
def dialler() -> Dialler:
    return Dialler()


@pytest.fixture
def connections(dialler: Dialler) -> Connections:
    return Connections(dialler, Observer())


@pytest.mark.covers("MT2-18d")
async def test_all_who_want_it_wait_for_one_dialling(connections: Connections, dialler: Dialler) -> None:
    waiting = [asyncio.create_task(opened(connections)) for _ in range(3)]
    await asyncio.sleep(0)
    dialler.let.set()
    found = await asyncio.gather(*waiting)
    assert dialler.dialled == 1
    assert {one.connection for one in found} == {dialler.made[0]}
    assert connections.lend((HOP,), clock()) is None, "it is full"
    connections.give_back(found[0], clock(), 1.0)
    assert connections.lend((HOP,), clock()) is not None


@pytest.mark.covers("MT2-18d")
async def test_it_stays_for_the_next_when_all_have_done(connections: Connections, dialler: Dialler) -> None:
    dialler.let.set()
    first, second = await opened(connections), connections.lend((HOP,), clock())
    assert second is not None
    connections.give_back(first, clock(), 1.0)
    assert connections.deadline() is None, "somebody still uses it"
    connections.give_back(second, clock(), 1.0)
    assert connections.deadline() == clock() + 60.0, "nailed up"
    again = connections.lend((HOP,), clock() + 50)
    assert again is not None
    assert again.connection is dialler.made[0]
    assert connections.lend((HOP,), clock() + 50) is not None


@pytest.mark.covers("MT2-18d")
async def test_one_that_is_given_up_is_closed_by_the_last(connections: Connections, dialler: Dialler) -> None:
    dialler.let.set()
    first, second = await opened(connections), connections.lend((HOP,), clock())
    assert second is not None
    connections.discard(first)
    await asyncio.sleep(0)
    assert dialler.made[0].closed == 0
    assert connections.lend((HOP,), clock()) is None
    connections.give_back(second, clock(), 1.0)
    await asyncio.sleep(0)
    assert dialler.made[0].closed == 1


@pytest.mark.covers("MT2-12")
async def test_who_is_broken_off_does_not_take_the_others_down(
    connections: Connections, dialler: Dialler
) -> None:
    dialler.let.set()
    first, second = await opened(connections), connections.lend((HOP,), clock())
    assert second is not None
    connections.abandon(first)
    assert dialler.made[0].aborted == 0
    connections.abandon(second)
    assert dialler.made[0].aborted == 1


@pytest.mark.covers("MT2-18d")
async def test_nobody_dials_again_what_has_just_failed(connections: Connections, dialler: Dialler) -> None:
    dialler.fails = True
    waiting = [asyncio.create_task(connections.open((HOP,), clock)) for _ in range(4)]
    await asyncio.sleep(0)
    dialler.let.set()
    found = await asyncio.gather(*waiting)
    assert dialler.dialled == 1
    assert all(isinstance(one, Unreached) for one in found)


@pytest.mark.covers("MT2-18d")
async def test_a_dialling_whose_asker_has_gone_serves_the_others(
    connections: Connections, dialler: Dialler
) -> None:
    first, second = (asyncio.create_task(opened(connections)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    dialler.let.set()
    found = await second
    assert dialler.dialled == 1
    assert found.connection is dialler.made[0]
    assert dialler.made[0].closed == 0
