"""The queue manager as a whole, on a spool in memory, a clock turned by hand and a scripted network."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from outrider.config.schema import Delivery, Domain, Route
from outrider.delivery.interface import Job
from outrider.model.content import Content
from outrider.model.envelope import Notify
from outrider.model.message import ItemKey, ItemState, Leased, MessageId, Settlement
from outrider.model.result import DeliveryResult, Kind
from outrider.spool.interface import ContentDamaged, SpoolError, SpoolFull, SpoolUnavailable
from outrider.testing.memory_spool import MemorySpool
from tests.delivery.support import (
    ScriptedConnection,
    World,
    make_config,
    make_rules,
    mx,
    refused,
    settle_down,
)


class TroubledBody:
    """A body that cannot be read as long as there is trouble."""

    size = 5

    def __init__(self, trouble: SpoolError) -> None:
        self.trouble: SpoolError | None = trouble

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        if self.trouble is not None:
            raise self.trouble
        yield b"Text\n"[:size]


def quick(**settings: Any) -> Delivery:
    return Delivery(**{"jitter": 0.0, "retry": (60.0, 300.0, 900.0), **settings})


# --- the ordinary way -------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-6")
async def test_fresh_mail_is_delivered_from_memory_without_asking_the_spool() -> None:
    async with World() as world:
        message = await world.submit("x@b.example")
        await settle_down()
        assert await world.kinds(message) == ["delivered"]
        assert [job.message.id for _, job in world.dialler.sent] == [message]


async def test_mail_in_the_spool_is_found_when_it_is_due() -> None:
    async with World() as world:
        message = await world.queue("x@b.example")
        world.run()
        await settle_down()
        assert await world.kinds(message) == ["delivered"]


@pytest.mark.covers("SMTP-6", "SEC-174")
async def test_only_the_remainder_is_retried_with_growing_waits() -> None:
    async with World(config=make_config(delivery=quick())) as world:
        world.dialler.results["bad@b.example"] = refused(450, "4.2.1", "full")
        message = await world.submit("good@b.example", "bad@b.example", "worse@b.example")
        world.dialler.results["worse@b.example"] = refused()
        start = world.clock.now()
        attempts: list[tuple[float, tuple[int, ...]]] = []

        def note(connection: ScriptedConnection, job: Job) -> None:
            if job.message.id == message:
                attempts.append((world.clock.now() - start, job.recipients))

        world.dialler.on_send = note
        world.run()
        await world.clock.advance(2000)
        assert attempts == [(0, (0, 1, 2)), (60, (1,)), (360, (1,)), (1260, (1,))]
        assert await world.kinds(message) == ["delivered", "pending", "failed"]


@pytest.mark.covers("SMTP-6")
async def test_a_failure_makes_a_report_which_is_delivered_too() -> None:
    async with World() as world:
        world.dialler.results["x@b.example"] = refused()
        message = await world.submit("x@b.example", sender="ann@sender.example")
        world.run()
        await world.clock.advance(1)
        assert await world.kinds(message) == ["failed"]
        (report,) = world.reports()
        assert [str(one.address) for one in report.envelope.recipients] == ["ann@sender.example"]
        assert await world.kinds(report.id) == ["delivered"]
        events = [event.kind for event in await world.spool.events(message)]
        assert events[-2:] == ["failed", "report"]


@pytest.mark.covers("SMTP-6", "SEC-167")
async def test_bounces_end_after_the_second_generation() -> None:
    async with World() as world:
        for address in ("x@b.example", "ann@sender.example"):
            world.dialler.results[address] = refused()
        await world.submit("x@b.example", sender="ann@sender.example")
        world.run()
        await world.clock.advance(10)
        reports = list(world.reports())
        assert [[str(one.address) for one in report.envelope.recipients] for report in reports] == [
            ["ann@sender.example"],
            ["postmaster@alpha.example"],
        ]


@pytest.mark.covers("SMTP-6")
async def test_a_message_is_warned_of_once_and_returned_at_the_end_of_its_life() -> None:
    settings = quick(max_age=7200.0, delay_warning=1000.0)
    async with World(config=make_config(delivery=settings)) as world:
        world.dialler.results["x@b.example"] = refused(450, "4.2.1", "full")
        message = await world.submit("x@b.example")
        world.run()
        await world.clock.advance(7300)
        assert await world.kinds(message) == ["failed"]
        assert len(list(world.reports())) == 2, "a warning and a failure"
        last = (await world.statuses(message))[0].last
        assert last is not None
        assert last.status == "4.4.7"


@pytest.mark.covers("SMTP-6")
async def test_mail_held_back_by_its_sender_waits_until_then() -> None:
    async with World() as world:
        until = world.clock.now() + 500
        message = world.message("x@b.example", hold_until=until)
        items = tuple(replace(item, next_attempt_at=until) for item in message.items)
        await world.spool.store(replace(message, items=items))
        world.run()
        await world.clock.advance(499)
        assert world.dialler.sent == []
        await world.clock.advance(6)
        assert len(world.dialler.sent) == 1


# --- limits and fairness (SMTP-3) -------------------------------------------------------------------


@pytest.mark.covers("SMTP-3")
async def test_connections_to_one_destination_stay_within_its_limit() -> None:
    async with World(config=make_config(delivery=quick(concurrency=3))) as world:
        for _ in range(50):
            await world.queue("x@b.example")
        await world.queue("x@c.example")
        world.run()
        await world.clock.advance(5)
        assert world.dialler.most["b.example"] == 3
        assert len(world.dialler.sent) == 51


@pytest.mark.covers("SMTP-3")
async def test_deliveries_in_all_stay_within_the_total() -> None:
    async with World(config=make_config(delivery=quick(total=4))) as world:
        world.dialler.gate = asyncio.Event()
        for number in range(20):
            await world.submit(f"x@d{number}.example")
        await settle_down()
        assert world.manager.counts == (16, 4)
        world.dialler.gate.set()
        await settle_down()
        assert world.manager.counts == (0, 0)


@pytest.mark.covers("SMTP-3")
async def test_a_rate_limit_is_kept() -> None:
    routes: dict[str, str | Route] = {"slow.example": Route(to="mx", rate=0.1)}
    async with World(config=make_config(routes=routes)) as world:
        for _ in range(4):
            await world.submit("x@slow.example")
        world.run()
        await world.clock.advance(1)
        assert len(world.dialler.sent) == 1
        await world.clock.advance(10)
        assert len(world.dialler.sent) == 2
        await world.clock.advance(20)
        assert len(world.dialler.sent) == 4


@pytest.mark.covers("SMTP-3")
async def test_a_flood_for_one_destination_does_not_hold_up_another() -> None:
    async with World(config=make_config(delivery=quick(total=10, concurrency=10))) as world:
        world.dialler.gate = asyncio.Event()
        for _ in range(200):
            await world.submit("x@flood.example")
        single = await world.submit("x@single.example")
        await settle_down()
        assert single in [job.message.id for _, job in world.dialler.sent]


async def test_priority_is_kept() -> None:
    async with World(config=make_config(delivery=quick(total=1))) as world:
        world.dialler.gate = asyncio.Event()
        await world.submit("x@first.example")
        bulk = await world.submit("x@b.example", priority=-1)
        normal = await world.submit("x@c.example")
        high = await world.submit("x@d.example", priority=1)
        world.dialler.gate.set()
        await settle_down()
        assert [job.message.id for _, job in world.dialler.sent][1:] == [high, normal, bulk]


async def test_what_memory_has_no_room_for_stays_in_the_spool_and_comes_later() -> None:
    async with World(config=make_config(delivery=quick(total=2)), capacity=10) as world:
        messages = [await world.submit(f"x@d{number}.example") for number in range(30)]
        world.run()
        await world.clock.advance(30)
        assert [await world.kinds(message) for message in messages] == [["delivered"]] * 30
        assert len(world.dialler.sent) == 30, "each once"


@pytest.mark.covers("SMTP-3")
async def test_connections_are_reused_and_then_closed() -> None:
    async with World(config=make_config(delivery=quick(concurrency=1))) as world:
        for _ in range(10):
            await world.submit("x@b.example")
        world.run()
        await world.clock.advance(1)
        (connection,) = world.dialler.connections
        assert not connection.closed
        await world.clock.advance(6)
        assert connection.closed


# --- destinations that are dead (SEC-174, FAULT-F13) ------------------------------------------------


@pytest.mark.covers("SEC-174", "FAULT-F13")
async def test_a_dead_destination_is_probed_and_not_hammered() -> None:
    async with World(config=make_config(delivery=quick())) as world:
        world.dialler.down = {"dead.example"}
        for _ in range(300):
            await world.queue("x@dead.example")
        world.run()
        await world.clock.advance(10)
        first = len(world.dialler.dialled)
        assert first <= 10
        await world.clock.advance(60 + 300 + 900)
        assert len(world.dialler.dialled) <= first + 4
        assert len(world.observer.named("destination_backed_off")) >= 3


@pytest.mark.covers("ITP-7", "SEC-174")
async def test_fresh_mail_for_a_dead_destination_is_told_why_it_waits() -> None:
    async with World(config=make_config(delivery=quick())) as world:
        world.dialler.down = {"dead.example"}
        for _ in range(10):
            await world.submit("x@dead.example")
        await settle_down()
        dialled = len(world.dialler.dialled)
        late = await world.submit("y@dead.example")
        await settle_down()
        assert len(world.dialler.dialled) == dialled
        (status,) = await world.statuses(late)
        assert status.last is not None
        assert status.last.text.startswith("not tried: the last attempts by dead.example reached nobody")
        assert [event.kind for event in await world.spool.events(late)] == ["deferred"]


@pytest.mark.covers("FAULT-F13")
async def test_while_a_long_queue_is_put_off_nothing_of_it_is_leased() -> None:
    async with World(config=make_config(delivery=quick()), capacity=20) as world:
        world.dialler.down = {"dead.example"}
        postpone, go_on = world.spool.postpone, asyncio.Event()

        async def slow(destination: str, until: float) -> int:
            await go_on.wait()
            return await postpone(destination, until)

        world.spool.postpone = slow  # type: ignore[method-assign]
        messages = [await world.queue("x@dead.example") for _ in range(200)]
        world.run()
        await world.clock.advance(40)
        go_on.set()
        await world.clock.advance(1)
        told = [one for one in messages if await world.spool.events(one)]
        assert 0 < len(told) <= 20


@pytest.mark.covers("SEC-214")
async def test_stop_leaves_alone_what_is_being_put_off() -> None:
    async with World(config=make_config(delivery=quick())) as world:
        world.dialler.down = {"dead.example"}
        settle, go_on = world.spool.settle, asyncio.Event()

        async def slow(settlement: Settlement, *, lease_until: float = 0.0) -> tuple[Leased, ...]:
            last = settlement.recipients[0].last
            if last is not None and last.text.startswith("not tried"):
                await go_on.wait()
            return await settle(settlement, lease_until=lease_until)

        messages = [await world.queue("x@dead.example") for _ in range(30)]
        world.spool.settle = slow  # type: ignore[method-assign, assignment]
        world.run()
        await settle_down()
        assert world.observer.named("destination_backed_off")
        stopping = asyncio.ensure_future(world.stop())
        await settle_down()
        go_on.set()
        await stopping
        assert not world.observer.named("lease_lost")
        assert {(await world.spool.items(one))[0].state for one in messages} == {ItemState.READY}


@pytest.mark.covers("FAULT-F13")
async def test_when_it_lives_again_all_is_delivered_once() -> None:
    async with World(config=make_config(delivery=quick())) as world:
        world.dialler.down = {"dead.example"}
        messages = [await world.queue("x@dead.example") for _ in range(100)]
        world.run()
        await world.clock.advance(100)
        world.dialler.down = set()
        await world.clock.advance(2000)
        counted = Counter(job.message.id for _, job in world.dialler.sent)
        assert counted == Counter(messages)
        assert len(world.observer.named("destination_recovered")) == 1


@pytest.mark.covers("SMTP-6", "SEC-174")
async def test_mail_for_a_destination_that_never_comes_back_is_returned_in_the_end() -> None:
    settings = quick(max_age=3600.0, delay_warning=0.0)
    async with World(config=make_config(delivery=settings), capacity=20) as world:
        world.dialler.down = {"dead.example"}
        messages = [await world.queue("x@dead.example", notify=Notify.NEVER) for _ in range(60)]
        world.run()
        await world.clock.advance(3 * 3600)
        assert [await world.kinds(message) for message in messages] == [["failed"]] * 60
        assert len(world.dialler.dialled) < 40


@pytest.mark.covers("SEC-163", "SEC-174")
async def test_silent_dns_backs_a_destination_off_like_a_silent_host() -> None:
    from outrider.delivery.lookup import LookupTemporary

    async with World(config=make_config(delivery=quick())) as world:
        world.lookup.mx_answers["dark.example"] = LookupTemporary("SERVFAIL")
        for _ in range(50):
            await world.queue("x@dark.example")
        world.run()
        await world.clock.advance(50)
        assert len(world.lookup.asked) <= 10


@pytest.mark.covers("SMTP-3")
async def test_a_dead_smart_host_holds_back_all_domains_that_go_through_it() -> None:
    config = make_config(delivery=quick(), routes={"*": "smtp:[8.8.8.8]:25"})
    async with World(config=config) as world:
        world.dialler.down = {"8.8.8.8"}
        for number in range(100):
            await world.queue(f"x@d{number}.example")
        world.run()
        await world.clock.advance(30)
        assert len(world.dialler.dialled) <= 10


# --- poison (FAULT-F11) -----------------------------------------------------------------------------


@pytest.mark.covers("FAULT-F11")
async def test_a_suspect_is_delivered_while_nothing_else_is() -> None:
    async with World() as world:
        suspect = await world.queue("x@suspect.example")
        for _ in range(2):
            await world.spool.lease_due(world.clock.now(), world.clock.now() + 1, 10)
            world.spool.crash()
            await world.spool.start(world.clock.now())
            await world.clock.advance(400)
        alongside: list[int] = []

        def watch(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult] | None:
            if job.message.id == suspect:
                alongside.append(sum(world.dialler.busy.values()))
            return None

        world.dialler.on_send = watch
        for number in range(30):
            await world.queue(f"x@d{number}.example")
        world.run()
        await world.clock.advance(60)
        assert alongside == [1]
        assert await world.kinds(suspect) == ["delivered"]
        assert len(world.dialler.sent) == 31


@pytest.mark.covers("FAULT-F11")
async def test_content_that_is_gone_makes_no_crash() -> None:
    async with World() as world:
        message = await world.queue("x@b.example")
        entry = world.spool.messages[message]
        entry.message = type(entry.message)(
            entry.message.id, entry.message.received_at, entry.message.envelope, b"", None, 10, ()
        )
        world.run()
        await world.clock.advance(1)
        (status,) = await world.statuses(message)
        assert status.last is not None
        assert status.last.kind is Kind.DEFERRED
        assert world.dialler.dialled == []


# --- faults of the spool, leases (FAULT-F10, SEC-213) -----------------------------------------------


@pytest.mark.covers("FAULT-F10", "SMTP-5")
async def test_a_result_that_cannot_be_recorded_is_recorded_later_and_not_sent_again() -> None:
    async with World() as world:
        message = await world.submit("x@b.example")
        world.spool.fail_with = SpoolUnavailable("disk full")
        world.run()
        await world.clock.advance(20)
        assert await world.kinds(message) == ["pending"]
        world.spool.fail_with = None
        await world.clock.advance(60)
        assert await world.kinds(message) == ["delivered"]
        assert len(world.dialler.sent) == 1
        assert world.observer.named("spool_failed")


@pytest.mark.covers("FAULT-F10", "SEC-93")
async def test_a_body_that_cannot_be_read_for_the_report_just_now_is_read_later() -> None:
    async with World() as world:
        body = TroubledBody(SpoolUnavailable("too many open files"))
        world.dialler.results["x@b.example"] = refused()
        message = await world.submit("x@b.example", content=Content(b"Subject: x\r\n\r\n", body))
        world.run()
        await world.clock.advance(20)
        assert await world.kinds(message) == ["pending"]
        body.trouble = None
        await world.clock.advance(60)
        assert await world.kinds(message) == ["failed"]
        assert not world.observer.named("own_failure")
        assert world.observer.named("report_made")


@pytest.mark.covers("FAULT-F9", "SMTP-6")
async def test_the_report_on_a_message_with_a_damaged_body_has_its_header_section() -> None:
    async with World() as world:
        world.dialler.results["x@b.example"] = refused()
        body = TroubledBody(ContentDamaged("an octet differs"))
        message = await world.submit("x@b.example", content=Content(b"Subject: x\r\n\r\n", body))
        world.run()
        await world.clock.advance(20)
        assert await world.kinds(message) == ["failed"]
        assert not world.observer.named("own_failure")
        assert world.observer.named("report_made")


@pytest.mark.covers("FAULT-F10")
async def test_a_crash_between_the_remotes_250_and_our_mark_sends_the_same_message_once_more() -> None:
    spool = MemorySpool()
    async with World(spool=spool) as world:
        await spool.start(0)
        message = await world.submit("x@b.example")
        spool.fail_with = SpoolUnavailable("the machine is going down")
        await settle_down()
        assert len(world.dialler.sent) == 1
        spool.crash()
        again = World(spool=spool)
        spool.fail_with = None
        again.clock = world.clock
        async with again:
            restarted = World(spool=spool)
            await restarted.clock.advance(400)
            restarted.run()
            await restarted.clock.advance(5)
            assert await restarted.kinds(message) == ["delivered"]
            contents = [job.message.content for _, job in (*world.dialler.sent, *restarted.dialler.sent)]
            assert len(contents) == 2
            assert contents[0] == contents[1]
            await restarted.stop()


@pytest.mark.covers("SEC-213")
async def test_a_lease_that_another_has_taken_stops_the_delivery() -> None:
    async with World() as world:
        world.dialler.gate = asyncio.Event()
        message = await world.submit("x@b.example")
        world.run()
        await settle_down()
        key = ItemKey(message, 0)
        world.spool._leases.clear()  # as if it had run out and another node had it
        await world.clock.advance(200)
        assert world.observer.named("lease_lost") == [(key,)]
        assert world.manager.counts == (0, 0)
        world.dialler.gate.set()
        await settle_down()
        assert await world.kinds(message) == ["pending"]


@pytest.mark.covers("SEC-213")
async def test_leases_of_long_deliveries_are_renewed() -> None:
    async with World() as world:
        world.dialler.gate = asyncio.Event()
        message = await world.submit("x@b.example")
        world.run()
        await world.clock.advance(3000)
        world.dialler.gate.set()
        await world.clock.advance(1)
        assert await world.kinds(message) == ["delivered"]
        assert len(world.dialler.sent) == 1


async def test_a_spool_that_is_away_for_a_while_does_not_end_the_manager() -> None:
    async with World() as world:
        world.spool.fail_with = SpoolUnavailable("away")
        world.run()
        await world.clock.advance(60)
        world.spool.fail_with = None
        message = await world.queue("x@b.example")
        await world.clock.advance(10)
        assert await world.kinds(message) == ["delivered"]


@pytest.mark.covers("SMTP-6")
async def test_a_fault_while_recording_holds_what_was_not_delivered_and_never_sends_twice() -> None:
    async with World() as world:

        def broken(_: float) -> MessageId:
            raise ZeroDivisionError("a fault of ours")

        object.__setattr__(world.rules.reporting, "new_id", broken)
        world.dialler.results["x@b.example"] = refused()
        message = await world.submit("x@b.example", "y@b.example")
        await settle_down()
        assert await world.kinds(message) == ["pending", "delivered"]
        (item,) = await world.spool.items(message)
        assert item.state is ItemState.HELD
        assert world.observer.named("own_failure")


# --- stopping ---------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-214")
async def test_stop_lets_deliveries_end_and_gives_the_rest_back() -> None:
    async with World(config=make_config(delivery=quick(total=1))) as world:
        world.dialler.gate = asyncio.Event()
        running = await world.submit("x@b.example")
        waiting = await world.submit("x@c.example")
        world.run()
        await settle_down()
        stopping = asyncio.ensure_future(world.stop(grace_s=30.0))
        await settle_down()
        late = await world.submit("x@d.example")
        await world.clock.advance(10)
        world.dialler.gate.set()
        await stopping
        assert await world.kinds(running) == ["delivered"]
        for message in (waiting, late):
            (item,) = await world.spool.items(message)
            assert (item.state, item.attempts) == (ItemState.READY, 0)
        assert all(connection.closed for connection in world.dialler.connections)


@pytest.mark.covers("SEC-214")
async def test_what_is_leased_while_stop_is_called_is_given_back() -> None:
    async with World() as world:
        message = await world.queue("x@b.example")
        lease_due = world.spool.lease_due
        leasing, go_on = asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **options: Any) -> Any:
            leased = await lease_due(*args, **options)
            leasing.set()
            await go_on.wait()
            return leased

        world.spool.lease_due = slow  # type: ignore[method-assign]
        world.run()
        await leasing.wait()
        stopping = asyncio.ensure_future(world.stop())
        await settle_down()
        go_on.set()
        await stopping
        (item,) = await world.spool.items(message)
        assert item.state is ItemState.READY
        assert world.dialler.dialled == []


@pytest.mark.covers("SEC-214")
async def test_stop_ends_what_does_not_end_by_itself() -> None:
    async with World() as world:
        world.dialler.gate = asyncio.Event()
        message = await world.submit("x@b.example")
        world.run()
        await settle_down()
        stopping = asyncio.ensure_future(world.stop(grace_s=30.0))
        await world.clock.advance(31)
        await stopping
        (item,) = await world.spool.items(message)
        assert item.state is ItemState.READY
        assert item.next_attempt_at > world.clock.now()
        assert world.dialler.connections[0].aborted


async def test_take_never_raises() -> None:
    async with World() as world:
        message = world.message("x@b.example")
        leased = await world.spool.store(message, lease_until=world.clock.now() + 300)
        object.__setattr__(world.manager._runner.rules, "routes", None)
        world.manager.take(leased)
        assert world.observer.named("own_failure")


# --- pause, reload ----------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-3")
async def test_a_paused_destination_waits_and_others_do_not() -> None:
    async with World() as world:
        await world.manager.pause("b.example")
        held, free = await world.submit("x@b.example"), await world.queue("x@c.example")
        world.run()
        await world.clock.advance(300)
        assert await world.kinds(held) == ["pending"]
        assert await world.kinds(free) == ["delivered"]
        assert await world.manager.resume("b.example")
        await world.clock.advance(61)
        assert await world.kinds(held) == ["delivered"]
        assert not await world.manager.resume("b.example")


async def test_pause_takes_back_what_waits_in_memory() -> None:
    async with World(config=make_config(delivery=quick(total=1))) as world:
        world.dialler.gate = asyncio.Event()
        await world.submit("x@b.example")
        waiting = await world.submit("x@c.example")
        await world.manager.pause("c.example")
        world.dialler.gate.set()
        await settle_down()
        (item,) = await world.spool.items(waiting)
        assert item.state is ItemState.READY


async def test_paused_destinations_are_known_over_a_restart() -> None:
    async with World(paused=("b.example",)) as world:
        assert world.manager.paused == ("b.example",)
        message = await world.queue("x@b.example")
        world.run()
        await world.clock.advance(60)
        assert await world.kinds(message) == ["pending"]
        assert [lane.destination for lane in world.manager.lanes() if lane.paused] == ["b.example"]


async def test_a_reload_gives_new_routes_to_what_waits() -> None:
    async with World(config=make_config(delivery=quick())) as world:
        world.dialler.results["x@b.example"] = refused(450, "4.2.1", "later")
        message = await world.submit("x@b.example")
        world.run()
        await world.clock.advance(1)
        changed = make_config(delivery=quick(), routes={"b.example": "discard:"})
        world.manager.reconfigure(make_rules(changed, world.lookup))
        await world.clock.advance(60)
        assert await world.kinds(message) == ["delivered"]
        (status,) = await world.statuses(message)
        assert status.last is not None
        assert status.last.protocol == "discard"


async def test_recipients_of_one_message_by_different_ways_each_go_theirs() -> None:
    domains = {"alpha.example": Domain(deliver="discard:", users=("ann", "postmaster"))}
    async with World(config=make_config(domains=domains)) as world:
        world.lookup.mx_answers["b.example"] = mx((1, "mx.b.example"))
        message = await world.submit("ann@alpha.example", "x@b.example", "y@c.example")
        await settle_down()
        assert await world.kinds(message) == ["delivered"] * 3
        assert sorted(host for host, _ in world.dialler.sent) == ["c.example", "mx.b.example"]


async def test_one_host_for_many_domains_means_one_transaction() -> None:
    async with World(config=make_config(routes={"*": "smtp:[8.8.8.8]:25"})) as world:
        message = await world.submit("x@b.example", "y@c.example", "z@d.example")
        await settle_down()
        assert await world.kinds(message) == ["delivered"] * 3
        assert len(world.dialler.sent) == 1


@pytest.mark.covers("SEC-95")
@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_a_clock_that_jumps_a_day_returns_no_mail_untried(jump_s: float) -> None:
    """The mail of a young queue is neither returned nor lost, whichever way the clock goes."""
    async with World() as world:
        message = world.message("x@b.example")
        due = world.clock.now() + 300
        items = tuple(replace(item, next_attempt_at=due) for item in message.items)
        await world.spool.store(replace(message, items=items))
        world.run()
        world.clock.jump(jump_s)
        await world.clock.advance(400 + max(-jump_s, 0.0))
        assert await world.kinds(message.id) == ["delivered"]
        assert list(world.reports()) == []


@pytest.mark.covers("FAULT-F8", "SEC-174")
async def test_a_disk_that_is_full_while_a_destination_dies_forgets_no_mail() -> None:
    """What waited for the dead way went out of the lanes before the spool said that it is full."""
    async with World() as world:
        world.dialler.down = {"dead.example"}
        messages = [await world.queue("x@dead.example") for _ in range(20)]

        async def full(destination: str, until: float) -> int:
            raise SpoolFull("no room")

        world.spool.postpone = full  # type: ignore[method-assign]
        world.run()
        await world.clock.advance(30)
        world.dialler.down = set()
        await world.clock.advance(2000)
        assert [await world.kinds(message) for message in messages] == [["delivered"]] * 20
