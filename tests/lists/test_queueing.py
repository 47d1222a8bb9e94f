"""Lists in the queue: what is made of a message is stored with its settlement, or not at all."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from outrider.delivery.interface import Expansion, Job
from outrider.model.message import Leased, NewItem, NewMessage, Settlement
from outrider.model.result import DeliveryResult, Kind
from outrider.spool.interface import SpoolUnavailable
from outrider.testing.memory_spool import MemorySpool
from tests.delivery.support import World, delivered, make_config, new_message, refused


class Maker:
    """A transport that makes two messages of each, and delivers or defers."""

    def __init__(self) -> None:
        self.result = delivered()
        self.attempts = 0

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult] | Expansion:
        self.attempts += 1
        made = tuple(self.message(f"made{self.attempts}-{number}") for number in range(2))
        return Expansion(dict.fromkeys(job.recipients, self.result), made)

    def message(self, name: str) -> NewMessage:
        return new_message(name, f"{name}@far.example")


class Failing(MemorySpool):
    """Cannot settle for a while, or does not know what it is given."""

    failures: tuple[Exception, ...] = ()

    def settle(self, settlement: Settlement, *, lease_until: float = 0.0):  # type: ignore[no-untyped-def]
        if self.failures:
            error, *rest = self.failures
            self.failures = tuple(rest)
            raise error
        return super().settle(settlement, lease_until=lease_until)


def world(maker: Maker, spool: MemorySpool | None = None) -> World:
    return World(config=make_config(), transports={"discard": maker}, spool=spool)


def made_in(world: World) -> list[str]:
    return sorted(name for name in world.spool.messages if name.startswith("made"))


@pytest.mark.covers("SMTP-8", "SMTP-5")
async def test_what_a_transport_makes_is_queued_and_carried() -> None:
    maker = Maker()
    async with world(maker) as here:
        here.run()
        number = await here.submit("ann@alpha.example")
        await here.clock.advance(1)
        assert await here.kinds(number) == ["delivered"]
        assert made_in(here) == ["made1-0", "made1-1"]
        assert len(here.dialler.sent) == 2


class NeverAsked(MemorySpool):
    """Gives nothing that was not leased when it was stored."""

    async def lease_due(self, *_: object, **__: object) -> tuple[Leased, ...]:
        return ()


@pytest.mark.covers("SMTP-8")
async def test_what_a_transport_makes_goes_on_from_memory() -> None:
    async with world(Maker(), NeverAsked()) as here:
        here.run()
        await here.submit("ann@alpha.example")
        await here.clock.advance(1)
        assert made_in(here) == ["made1-0", "made1-1"]
        assert len(here.dialler.sent) == 2


@pytest.mark.covers("SMTP-6")
async def test_a_spool_that_cannot_settle_gets_the_same_again() -> None:
    maker, spool = Maker(), Failing()
    async with world(maker, spool) as here:
        here.run()
        spool.failures = (SpoolUnavailable("full"), SpoolUnavailable("full"))
        number = await here.submit("ann@alpha.example")
        await here.clock.advance(10)
        assert await here.kinds(number) == ["delivered"]
        assert (maker.attempts, made_in(here)) == (1, ["made1-0", "made1-1"])


@pytest.mark.covers("SMTP-8", "SMTP-6")
async def test_what_cannot_be_recorded_is_not_called_delivered() -> None:
    """Held for a person, and pending: its copies were not stored either."""
    spool = Failing()
    async with world(Maker(), spool) as here:
        here.run()
        spool.failures = (ValueError("unforeseen"),)
        number = await here.submit("ann@alpha.example")
        await here.clock.advance(1)
        assert await here.kinds(number) == ["pending"]
        assert made_in(here) == []
        [item] = await here.spool.items(number)
        assert item.reason


async def test_a_failure_brings_its_report_beside_what_was_made() -> None:
    maker = Maker()
    maker.result = refused()
    async with world(maker) as here:
        here.run()
        number = await here.submit("ann@alpha.example")
        await here.clock.advance(1)
        assert await here.kinds(number) == ["failed"]
        assert made_in(here) == ["made1-0", "made1-1"]
        assert len(list(here.reports())) == 1


def test_a_result_without_messages_is_one_all_the_same() -> None:
    assert Expansion({0: DeliveryResult(Kind.DELIVERED, "2.0.0", "x")}).messages == ()
    assert NewItem("x", (0,)).recipients == (0,)
