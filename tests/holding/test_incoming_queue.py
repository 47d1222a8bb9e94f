"""The incoming gateway's transports under the real queue manager: no sender ever hears of an envelope."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outrider.config.schema import Delivery
from outrider.delivery.local import DiscardTransport
from outrider.holding.web import CallFailed
from outrider.model.message import MessageId, NewItem, NewMessage, StoredMessage
from outrider.protocols.amdp.mail_class import parse_class
from tests.delivery.support import World
from tests.holding.incoming_support import DAY, START, IncomingRig, rig

BULK = parse_class("Agent::Bulk::newsletter")


async def stored(world: World, message: StoredMessage) -> MessageId:
    """An envelope in the spool, as reception stores it."""
    assert message.content is not None
    lane = world.rules.routes.find(message.envelope.recipients[0]).lane
    assert lane == "amdp-callback:"
    await world.spool.store(
        NewMessage(
            message.id, START, message.envelope, message.trace, message.content,
            (NewItem(lane, (0,), next_attempt_at=START),), message.facts,
        )
    )  # fmt: skip
    return message.id


def world_of(site: IncomingRig) -> World:
    """A queue manager over the rig's spool and transports; mail is given up after a day."""
    config = site.config.__class__(
        hostname=site.config.hostname,
        data_dir=site.config.data_dir,
        domains=site.config.domains,
        delivery=Delivery(jitter=0.0, max_age=DAY, delay_warning=3600.0),
    )
    transports = {**site.transports, "discard": DiscardTransport()}
    world = World(config=config, transports=transports, spool=site.spool)
    world.clock._now = START
    site.clock = world.clock.now
    return world


async def step(world: World, seconds: float) -> None:
    """Later; the ledger is a thread of its own, for which the clock of tests does not wait."""
    world.clock.jump(seconds)
    world.manager.wake()
    for _ in range(20):
        await asyncio.sleep(0.0005)


async def until_done(world: World, message: MessageId, kinds: list[str], step_s: float = 60.0) -> None:
    for _ in range(3000):
        if await world.kinds(message) == kinds:
            return
        await step(world, step_s)
    raise AssertionError(await world.kinds(message))


def _by_way(site: IncomingRig, way: str) -> MessageId | None:
    ids = (
        name for name, one in site.spool.messages.items() if one.message.envelope.recipients[0].route == way
    )
    return next(ids, None)


@pytest.mark.covers("AMDP-9", "AMDP-11")
async def test_an_envelope_becomes_mail(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        world = world_of(site)
        async with world:
            world.run()
            site.arrive()
            fetched = await stored(world, site.queue.pop().message)
            site.arrive(2, mail_class=BULK)
            handed = await stored(world, site.queue.pop().message)
            world.manager.wake()
            await until_done(world, fetched, ["delivered"])
            await until_done(world, handed, ["delivered"])
            while (receipt := _by_way(site, "amdp-receipt:")) is None:
                await step(world, 10.0)
            await until_done(world, receipt, ["delivered"])
            held = list(site.holder.held.values())
            assert [one.burnt for one in held] == [True, True]
            assert [one.receipts for one in held] == [1, 0]
            ways = [one.message.envelope.recipients[0].route for one in site.spool.messages.values()]
            assert sorted(ways) == [
                "", "", "amdp-callback:", "amdp-callback:", "amdp-fetch:", "amdp-receipt:",
            ]  # fmt: skip
            assert list(world.reports()) == []


@pytest.mark.covers("AMDP-10", "SEC-189")
async def test_a_holder_that_never_answers_outlives_the_age_of_mail_and_nobody_is_told(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, retry=(600.0, 7200.0)) as site:
        site.holder.away = CallFailed("no route")
        world = world_of(site)
        async with world:
            world.run()
            site.arrive()
            message = await stored(world, site.queue.pop().message)
            world.manager.wake()
            for _ in range(20):
                await step(world, 7200.0)
            assert world.clock.now() > START + DAY
            assert await world.kinds(message) == ["pending"]
            await until_done(world, message, ["dropped"], 7200.0)
            assert world.clock.now() >= START + 7 * DAY
            assert list(world.reports()) == []
            assert len(site.spool.messages) == 1
            kinds = [event.kind for event in await site.spool.events(message)]
            assert kinds[-1] == "dropped"
