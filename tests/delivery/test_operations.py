"""What the operator's words do, with a running manager and without one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outrider.config.schema import Domain
from outrider.delivery.operations import Action, BadArgument, Changed, QueueOperations
from outrider.model.envelope import Notify
from outrider.model.message import ItemState, MessageId
from outrider.spool.interface import Filter, NotFound, QueueEntry
from tests.delivery.support import World, make_config, make_runner, refused, settle_down


class Operations(QueueOperations):
    """With all of a list at once."""

    async def find(self, wanted: Filter) -> list[QueueEntry]:
        return [entry async for page in self.pages(wanted) for entry in page]

    async def change(self, wanted: Filter, action: Action, **how: Any) -> tuple[Changed, ...]:
        return tuple([one async for one in self.changes(wanted, action, **how)])


def offline(world: World) -> Operations:
    return Operations(world.spool, make_runner(world), world.clock)


def online(world: World) -> Operations:
    return Operations(world.spool, make_runner(world), world.clock, world.manager)


def only(done: tuple[Changed, ...]) -> Changed:
    (one,) = done
    return one


async def state(world: World, message: MessageId) -> ItemState:
    (item,) = await world.spool.items(message)
    return item.state


@pytest.mark.covers("SMTP-6")
async def test_hold_release_and_the_trail() -> None:
    async with World() as world:
        message = await world.queue("x@b.example")
        queue = offline(world)
        held = only(await queue.change(Filter(), Action.HOLD, by="root", argument="to be looked at"))
        assert (held.changed, held.result, held.destination) == (True, "held", "b.example")
        assert await state(world, message) is ItemState.HELD
        again = only(await queue.change(Filter(), Action.HOLD, by="root"))
        assert (again.changed, again.result) == (False, "it is held already")
        assert only(await queue.change(Filter(), Action.RELEASE, by="root")).result == "released"
        events = [(event.kind, event.text) for event in await world.spool.events(message)]
        assert events == [("held", "held by root: to be looked at"), ("released", "released by root")]


async def test_a_filter_means_what_it_says() -> None:
    async with World() as world:
        await world.queue("x@b.example")
        wanted = await world.queue("y@c.example")
        queue = offline(world)
        assert [entry.message.id for entry in await queue.find(Filter(recipient="@c.example"))] == [wanted]
        assert await queue.change(Filter(recipient="@nobody.example"), Action.DROP, by="root") == ()


@pytest.mark.covers("SMTP-6")
async def test_a_dry_run_tells_and_changes_nothing() -> None:
    async with World() as world:
        message = await world.queue("x@b.example")
        queue = offline(world)
        for action in Action:
            way = "discard:" if action is Action.REROUTE else ""
            await queue.change(Filter(), action, by="root", argument=way, dry_run=True)
        assert await state(world, message) is ItemState.READY
        assert await world.spool.events(message) == ()
        drop = only(await queue.change(Filter(), Action.DROP, by="root", dry_run=True))
        assert (drop.changed, drop.result) == (True, "would be dropped")
        release = only(await queue.change(Filter(), Action.RELEASE, by="root", dry_run=True))
        assert (release.changed, release.result) == (False, "it is ready")


@pytest.mark.covers("SMTP-6")
async def test_fail_returns_the_mail_with_the_reason() -> None:
    async with World() as world:
        message = await world.queue("x@b.example", "y@b.example")
        done = only(
            await offline(world).change(Filter(), Action.FAIL, by="root", argument="no\r\nlonger here")
        )
        assert done.changed
        assert await world.kinds(message) == ["failed", "failed"]
        (report,) = world.reports()
        assert report.content is not None
        text = b"".join(report.content.chunks())
        assert b"returned by the postmaster: no longer here" in text
        assert text.count(b"Action: failed") == 2


async def test_fail_respects_notify_never() -> None:
    async with World() as world:
        await world.queue("x@b.example", notify=Notify.NEVER)
        done = only(await offline(world).change(Filter(), Action.FAIL, by="root"))
        assert done.result == "returned to the sender: nobody is told"
        assert list(world.reports()) == []


async def test_drop_tells_nobody() -> None:
    async with World() as world:
        message = await world.queue("x@b.example")
        assert only(await offline(world).change(Filter(), Action.DROP, by="root")).result == "dropped"
        assert await world.kinds(message) == ["dropped"]
        assert list(world.reports()) == []


async def test_reroute_sends_another_way_and_checks_it_first() -> None:
    config = make_config(domains={"alpha.example": Domain(deliver="discard:", users=("postmaster",))})
    async with World(config=config) as world:
        message = await world.queue("x@b.example")
        queue = online(world)
        with pytest.raises(BadArgument, match="unknown way"):
            await queue.change(Filter(), Action.REROUTE, by="root", argument="pigeon:coop")
        await queue.change(Filter(), Action.REROUTE, by="root", argument="smtp:relay.example")
        (item,) = await world.spool.items(message)
        assert item.destination == "smtp:relay.example:25"
        world.run()
        await world.clock.advance(1)
        assert [host for host, _ in world.dialler.sent] == ["relay.example"]
        assert await world.kinds(message) == ["delivered"]


async def test_retry_makes_waiting_mail_go_now_even_to_a_dead_destination() -> None:
    async with World() as world:
        world.dialler.down = {"b.example"}
        messages = [await world.queue("x@b.example") for _ in range(10)]
        world.run()
        await world.clock.advance(5)
        world.dialler.down = set()
        await world.clock.advance(5)
        assert world.dialler.sent == []
        await online(world).change(Filter(), Action.RETRY, by="root")
        await world.clock.advance(5)
        assert [await world.kinds(message) for message in messages] == [["delivered"]] * 10


@pytest.mark.covers("SEC-208")
@pytest.mark.parametrize("action", [Action.DROP, Action.FAIL, Action.REROUTE, Action.HOLD])
async def test_what_is_being_delivered_is_left_alone(action: Action) -> None:
    async with World() as world:
        world.dialler.gate = asyncio.Event()
        message = await world.submit("x@b.example")
        await settle_down()
        done = only(await online(world).change(Filter(), action, by="root", argument="mx"))
        assert (done.changed, done.result) == (False, "it is being delivered")
        world.dialler.gate.set()
        await settle_down()
        assert await world.kinds(message) == ["delivered"]


@pytest.mark.covers("SEC-208")
async def test_what_only_waits_in_memory_can_be_changed() -> None:
    from outrider.config.schema import Delivery

    async with World(config=make_config(delivery=Delivery(total=1))) as world:
        world.dialler.gate = asyncio.Event()
        await world.submit("x@b.example")
        waiting = await world.submit("x@c.example")
        await settle_down()
        wanted = Filter(recipient="@c.example")
        foreseen = only(await online(world).change(wanted, Action.DROP, by="root", dry_run=True))
        assert foreseen.changed
        assert only(await online(world).change(wanted, Action.DROP, by="root")).changed
        world.dialler.gate.set()
        await settle_down()
        assert await world.kinds(waiting) == ["dropped"]
        assert [host for host, _ in world.dialler.sent] == ["b.example"]


async def test_show_has_message_items_and_trail() -> None:
    async with World() as world:
        world.dialler.results["x@b.example"] = refused(450, "4.2.1", "full")
        message = await world.submit("x@b.example")
        await settle_down()
        shown = await offline(world).show(message)
        assert shown.message.id == message
        assert shown.items[0].attempts == 1
        assert [event.kind for event in shown.events] == ["deferred"]
        with pytest.raises(NotFound):
            await offline(world).show(MessageId("nonesuch"))


async def test_pause_needs_a_server_and_destinations_show_it() -> None:
    async with World() as world:
        with pytest.raises(BadArgument, match="no server"):
            await offline(world).pause("b.example")
        assert offline(world).destinations() == ()
        queue = online(world)
        assert await queue.pause("b.example") == "deliveries to b.example are paused"
        (shown,) = queue.destinations()
        assert (shown.destination, shown.paused) == ("b.example", True)
        assert await queue.resume("b.example") == "deliveries to b.example go on"
        assert await queue.resume("b.example") == "deliveries to b.example were not paused"


async def test_destinations_show_what_limits_them() -> None:
    async with World() as world:
        world.dialler.down = {"b.example"}
        for _ in range(10):
            await world.queue("x@b.example")
        world.run()
        await world.clock.advance(5)
        (shown,) = online(world).destinations()
        assert shown.backoff_s > 0
        assert "connection refused" in shown.last_error
        assert (await online(world).counts()).ready == 10
