"""The queue manager as one node of several: what it does when others ask, and when it was away too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from outrider.config.schema import Delivery
from outrider.delivery.neighbours import Attendant, SharedQueue
from outrider.delivery.queue_manager import QueueManager
from outrider.delivery.sharing import LaneSharing, SoleDeliverer
from outrider.model.message import ItemKey
from outrider.spool.interface import SpoolUnavailable
from tests.delivery.support import World, make_config, settle_down

ONE_AT_A_TIME = Delivery(jitter=0.0, retry=(60.0, 300.0, 900.0), total=1)


class Shared:
    """What all nodes share, in memory."""

    def __init__(self) -> None:
        self.sharing: LaneSharing = SoleDeliverer()
        self.attendants: list[Attendant] = []
        self.destinations: set[str] = set()
        self.fail = False

    def attend(self, attendant: Attendant) -> None:
        self.attendants.append(attendant)

    async def paused(self) -> frozenset[str]:
        if self.fail:
            raise SpoolUnavailable("away")
        return frozenset(self.destinations)

    async def pause(self, destination: str) -> None:
        self.destinations.add(destination)
        self.tell()

    async def resume(self, destination: str) -> bool:
        was_paused = destination in self.destinations
        self.destinations.discard(destination)
        self.tell()
        return was_paused

    async def revive(self, lanes: Iterable[str]) -> None:
        names = list(lanes)
        for attendant in self.attendants:
            attendant.revive(names)

    def tell(self) -> None:
        for attendant in self.attendants:
            attendant.set_paused(self.destinations)


def node(world: World, shared: Shared) -> None:
    """Make the world's manager one that shares its queue."""
    checked: SharedQueue = shared
    world.manager = QueueManager(world.parts(shared=checked), world.rules)


async def test_pauses_of_other_nodes_hold_from_the_first_round() -> None:
    shared = Shared()
    shared.destinations.add("b.example")
    async with World() as world:
        node(world, shared)
        held, free = await world.queue("x@b.example"), await world.queue("x@c.example")
        world.run()
        await world.clock.advance(30)
        assert (await world.kinds(held), await world.kinds(free)) == (["pending"], ["delivered"])
        assert await shared.resume("b.example")
        await world.clock.advance(70)
        assert await world.kinds(held) == ["delivered"]
        await world.manager.pause("c.example")
        assert shared.destinations == {"c.example"}
        assert world.manager.paused == ("c.example",)
        assert await world.manager.resume("c.example")
        assert not await world.manager.resume("c.example")


async def test_nothing_is_started_before_the_pauses_are_known() -> None:
    shared = Shared()
    shared.destinations.add("b.example")
    shared.fail = True
    async with World() as world:
        node(world, shared)
        await world.queue("x@b.example")
        world.run()
        await world.clock.advance(30)
        shared.fail = False
        await world.clock.advance(30)
        assert not world.dialler.sent


async def test_what_waits_is_given_back_when_another_node_pauses_it() -> None:
    shared = Shared()
    async with World(config=make_config(delivery=ONE_AT_A_TIME)) as world:
        node(world, shared)
        world.dialler.gate = asyncio.Event()
        world.run()
        await settle_down()
        await world.submit("x@b.example")
        waiting = await world.submit("x@c.example")
        assert world.manager.is_waiting(ItemKey(waiting, 0))
        await shared.pause("c.example")
        await settle_down()
        assert not world.manager.is_waiting(ItemKey(waiting, 0))


@pytest.mark.covers("SEC-213")
async def test_a_process_that_slept_starts_nothing_before_its_leases_are_renewed() -> None:
    async with World(config=make_config(delivery=ONE_AT_A_TIME)) as world:
        world.dialler.gate = asyncio.Event()
        first = await world.submit("x@b.example")
        second = await world.submit("x@c.example")
        world.run()
        await settle_down()
        world.spool._leases.pop(ItemKey(second, 0))  # it ran out meanwhile, and another has it
        world.clock.jump(1000)  # nobody was woken: the process was stopped
        world.dialler.gate.set()
        await settle_down()
        await world.clock.advance(1)
        assert [job.message.id for _, job in world.dialler.sent] == [first]
        assert world.observer.named("lease_lost") == [(ItemKey(second, 0),)]


@pytest.mark.covers("SEC-213")
async def test_leases_that_cannot_be_renewed_are_not_used_to_their_end() -> None:
    async with World(config=make_config(delivery=ONE_AT_A_TIME)) as world:
        world.dialler.gate = asyncio.Event()
        await world.submit("x@b.example")
        second = await world.submit("x@c.example")
        world.run()
        await settle_down()
        world.spool.fail_with = SpoolUnavailable("cut off")
        await world.clock.advance(250)
        world.dialler.gate.set()
        await world.clock.advance(10)
        assert len(world.dialler.sent) == 1, "the second waits: another may have it by now"
        world.spool.fail_with = None
        await world.clock.advance(60)
        assert await world.kinds(second) == ["delivered"]
        assert len(world.dialler.sent) == 2
