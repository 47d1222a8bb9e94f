"""What every back end of the spool must do: one class of tests, inherited for each.

A subclass provides the fixture `spool` (started, poison_after=3) and `reopen(spool, now, *, crash)`, which
ends this owner's spool in order or as a crash would and gives it back started anew.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.model.address import Address, Domain
from outrider.model.content import Content, InlineBody, inline_content
from outrider.model.envelope import Arrival, BodyType, Envelope, Notify, Recipient, Return
from outrider.model.facts import Fact, Provenance
from outrider.model.layered import MessageObjects, RecipientResult, TakenTransfer
from outrider.model.message import (
    Event,
    Item,
    ItemKey,
    ItemState,
    Leased,
    MessageId,
    NewItem,
    NewMessage,
    RecipientState,
    RecipientStatus,
    Settlement,
)
from outrider.model.mpc import LEGAL, parse_mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.spool.interface import (
    Change,
    Conflict,
    Filter,
    LeaseLost,
    NotFound,
    Spool,
    SpoolUnavailable,
)
from outrider.testing.writing import put

NOW = 1_700_000_000.0
CONTENT = inline_content(b"Subject: test\r\n\r\nbody\r\n")
REMOTE = "mx.b.example [192.0.2.9]:25"
DELIVERED = DeliveryResult(Kind.DELIVERED, "2.0.0", "ok", 250, REMOTE, "smtp", "TLSv1.3")
DEFERRED = DeliveryResult(Kind.DEFERRED, "4.4.1", "No Route to host", protocol="smtp")
FAILED = DeliveryResult(Kind.FAILED, "5.1.1", "unknown user", 550, REMOTE, "smtp")

_ids = itertools.count(1)


def address(text: str) -> Address:
    """``local@domain``, unchecked."""
    local, _, domain = text.rpartition("@")
    return Address(local, Domain(domain))


def message(
    *recipients: str,
    sender: str | None = "ann@a.example",
    destinations: tuple[str, ...] = (),
    state: ItemState = ItemState.READY,
    due: float = NOW,
    received_at: float = NOW,
    priority: int = 0,
    content: Content = CONTENT,
    id_: str = "",
) -> NewMessage:
    """A message with one item for each recipient (or one for all, when one destination is named)."""
    who = recipients or ("bob@b.example",)
    envelope = Envelope(
        None if sender is None else address(sender), tuple(Recipient(address(text)) for text in who)
    )
    items: tuple[NewItem, ...]
    if len(destinations) == 1:
        items = (NewItem(destinations[0], tuple(range(len(who))), state, due),)
    else:
        names = destinations or tuple(str(address(text).domain) for text in who)
        items = tuple(NewItem(name, (index,), state, due) for index, name in enumerate(names))
    return NewMessage(
        MessageId(id_ or f"M{next(_ids):09d}"),
        received_at,
        envelope,
        b"Received: from x by y\r\n",
        content,
        items,
        events=(Event(received_at, "received", "from x by y"),),
        priority=priority,
    )


def outcome(leased: Leased, result: DeliveryResult, **more: object) -> Settlement:
    """The settlement of an attempt that ended alike for all recipients of the item."""
    states = {Kind.DELIVERED: RecipientState.DELIVERED, Kind.FAILED: RecipientState.FAILED}
    recipients = tuple(
        replace(
            status,
            state=states.get(result.kind, RecipientState.PENDING),
            attempts=status.attempts + 1,
            last=result,
        )
        for status in leased.item.recipients
    )
    event = Event(NOW + 1, result.kind.value, result.text)
    settlement = Settlement(
        leased.item.key, leased.item.lease, recipients, next_attempt_at=NOW + 600, events=(event,), at=NOW + 1
    )
    return replace(settlement, **more)  # type: ignore[arg-type]


async def one_leased(spool: Spool, new: NewMessage, until: float = NOW + 300) -> Leased:
    """Store it and give its only due item."""
    (leased,) = await spool.store(new, lease_until=until)
    return leased


async def item_of(spool: Spool, key: ItemKey) -> Item:
    """The item as stored."""
    return next(item for item in await spool.items(key.message) if item.key == key)


# --- what Hypothesis draws ----------------------------------------------------------------------------

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_domains = st.sampled_from(("a.example", "xn--bcher-kva.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", ""))
_addresses = st.builds(Address, _text, _domains.map(Domain))
_times = st.floats(0, 4e9, allow_nan=False)
_notify = st.builds(Notify, st.integers(0, 15))
_recipients = st.builds(Recipient, _addresses, _notify, _text, _text)
_envelopes = st.builds(
    Envelope,
    st.none() | _addresses,
    st.lists(_recipients, min_size=1, max_size=4).map(tuple),
    st.sampled_from(BodyType),
    st.booleans(),
    st.sampled_from(Return),
    _text,
    _times,
    _text,
    st.none() | st.sampled_from(LEGAL),
    st.sampled_from(Arrival),
    _text,
)
_values = _text | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.lists(_text, max_size=3).map(tuple)
_facts = st.builds(Fact, _text, _values, st.sampled_from(Provenance), _text, _times)
_events = st.builds(Event, _times, _text, _text, st.lists(_text, max_size=2).map(tuple))
_contents = st.builds(
    Content, st.binary(max_size=200), st.binary(max_size=5000).map(InlineBody), st.booleans(), st.booleans()
)
_results = st.builds(
    DeliveryResult,
    st.sampled_from(Kind),
    st.just("4.0.0"),
    _text,
    st.integers(0, 599),
    _text,
    _text,
    _text,
)


@st.composite
def messages(draw: st.DrawFn) -> NewMessage:
    """Any message whose items cover its envelope."""
    envelope = draw(_envelopes)
    split = draw(st.integers(0, len(envelope.recipients)))
    everyone = tuple(range(len(envelope.recipients)))
    items = tuple(
        NewItem(
            draw(_text), part, draw(st.sampled_from((ItemState.READY, ItemState.HELD))), draw(_times), reason
        )
        for part, reason in ((everyone[:split], draw(_text)), (everyone[split:], ""))
        if part
    )
    return NewMessage(
        MessageId(f"H{next(_ids):09d}"),
        draw(_times),
        envelope,
        draw(st.binary(max_size=100)),
        draw(_contents),
        items,
        draw(st.lists(_facts, max_size=3).map(tuple)),
        draw(st.lists(_events, max_size=3).map(tuple)),
        draw(st.integers(-1, 1)),
        draw(st.none() | _objects),
    )


_objects = st.builds(
    MessageObjects,
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.sampled_from(("message/headers", "application/jose")),
    st.booleans(),
)
OBJECTS = MessageObjects(
    b"<envelope/>", b"<headers/>", b"Content-Type: text/plain\r\n\r\n", "message/headers"
)


def transfer(
    message_id: str, *, id_: str = "", peer: str = "mx.peer.example", until: float = NOW + 600
) -> TakenTransfer:
    """A transfer that brings the message."""
    results = (
        RecipientResult(1, "OK", "99.0.2.11", "ok"),
        RecipientResult(2, "ERR", "99.0.5.31", "no such user: \u00e9", "5.1.2"),
    )
    return TakenTransfer(peer, id_ or f"t.{message_id}@peer", b"\x01" * 32, message_id, NOW, until, results)


_any_settings = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class SpoolContract:
    """The contract of `spool.interface`."""

    windows: tuple[str, ...] = ()
    """Names of constants that say how far a search for due items looks, made small in one test."""
    pages: tuple[str, ...] = ()
    """Names of constants that say how many entries a page has."""

    async def reopen(self, spool: Spool, now: float, *, crash: bool) -> Spool:
        """End the spool, in order or not, and start it anew."""
        raise NotImplementedError

    # --- storing --------------------------------------------------------------------------------------

    @pytest.mark.covers("SMTP-5")
    @_any_settings
    @given(new=messages(), result=_results)
    async def test_every_field_comes_back(
        self, spool: Spool, new: NewMessage, result: DeliveryResult
    ) -> None:
        await spool.store(new)
        stored = await spool.read(new.id)
        assert stored.content is not None
        assert b"".join(stored.content.chunks()) == b"".join(new.content.chunks())
        assert (stored.content.headers, stored.content.is_ascii, stored.content.is_binary) == (
            new.content.headers,
            new.content.is_ascii,
            new.content.is_binary,
        )
        assert stored.size == new.content.size
        for name in ("id", "received_at", "envelope", "trace", "facts", "priority"):
            assert getattr(stored, name) == getattr(new, name), name
        assert await spool.events(new.id) == new.events
        items = await spool.items(new.id)
        assert [
            NewItem(
                item.destination,
                tuple(status.index for status in item.recipients),
                item.state,
                item.next_attempt_at,
                item.reason,
            )
            for item in items
        ] == list(new.items)
        leased = await spool.lease_one(items[0].key, NOW, NOW + 60)
        settlement = outcome(leased, result, hold_reason="kept")
        await spool.settle(settlement)
        assert (await item_of(spool, leased.item.key)).recipients == settlement.recipients

    async def test_a_store_with_lease_gives_what_is_due_from_memory(self, spool: Spool) -> None:
        new = message("bob@b.example", "eve@c.example")
        new = replace(new, items=(new.items[0], replace(new.items[1], next_attempt_at=NOW + 50)))
        (leased,) = await spool.store(new, lease_until=NOW + 300)
        assert leased.message.content is new.content
        assert leased.item.key == ItemKey(new.id, 0)
        assert leased.item.state is ItemState.ACTIVE
        now_stored = await item_of(spool, leased.item.key)
        assert (now_stored.state, now_stored.next_attempt_at) == (ItemState.ACTIVE, NOW + 300)
        assert [one.item.key.number for one in await spool.lease_due(NOW + 60, NOW + 360, 10)] == [1]

    async def test_held_items_are_not_leased(self, spool: Spool) -> None:
        new = message(state=ItemState.HELD)
        assert await spool.store(new, lease_until=NOW + 300) == ()
        assert await spool.lease_due(NOW + 9999, NOW + 99999, 10) == ()

    @pytest.mark.covers("SEC-94")
    async def test_an_id_is_taken_once(self, spool: Spool) -> None:
        new = message("first@b.example")
        await spool.store(new)
        results = await asyncio.gather(
            spool.store(message("second@b.example", id_=new.id)),
            spool.store(other := message("third@b.example")),
            return_exceptions=True,
        )
        assert isinstance(results[0], Conflict)
        assert results[1] == ()
        assert (await spool.read(new.id)).envelope == new.envelope
        assert (await spool.read(other.id)).envelope == other.envelope

    async def test_of_two_at_once_under_one_id_one_is_stored(self, spool: Spool) -> None:
        first, second = message("first@b.example"), message("second@b.example")
        second = replace(second, id=first.id)
        results = await asyncio.gather(spool.store(first), spool.store(second), return_exceptions=True)
        assert sorted(isinstance(result, Conflict) for result in results) == [False, True]
        winner = (first, second)[results.index(())]
        assert (await spool.read(first.id)).envelope == winner.envelope

    async def test_an_item_for_a_stranger_is_refused_alone(self, spool: Spool) -> None:
        bad = replace(message(), items=(NewItem("b.example", (7,)),))
        results = await asyncio.gather(
            spool.store(bad), spool.store(good := message()), return_exceptions=True
        )
        assert isinstance(results[0], Conflict)
        with pytest.raises(NotFound):
            await spool.read(bad.id)
        assert (await spool.read(good.id)).id == good.id

    async def test_text_that_is_not_unicode_is_refused_alone(self, spool: Spool) -> None:
        bad = message("b\udc80b@b.example")
        with pytest.raises(Conflict):
            await spool.store(bad)
        await spool.store(message())

    @pytest.mark.covers("SEC-68")
    async def test_sql_in_addresses_is_data(self, spool: Spool) -> None:
        nasty = (
            "x'/**/UNION/**/SELECT/**/X'41'--",
            "'';DROP TABLE messages;--",
            "100%_\\'\"",
            "a\x00b",
            "$1 %s ?1 :ids {0}",
        )
        for local in nasty:
            new = message(
                f"{local}@b.example", sender=f"{local}@a.example", destinations=(local.replace("\0", ""),)
            )
            await spool.store(new)
            leased = await spool.lease_one(ItemKey(new.id, 0), NOW, NOW + 60)
            await spool.settle(outcome(leased, replace(DEFERRED, text=local), hold_reason=local))
            stored = await spool.read(new.id)
            assert stored.envelope == new.envelope
            pattern = str(new.envelope.recipients[0].address)
            found = await spool.find(Filter(recipient=pattern, destination=local.replace("\0", "")))
            assert [entry.message.id for entry in found] == [new.id]
        for pattern in ("%@b.example", "_@b.example", "' OR 1=1 --", "%"):
            assert await spool.find(Filter(recipient=pattern)) == ()
            assert await spool.find(Filter(destination=pattern)) == ()
        assert len(await spool.find(Filter())) == len(nasty)

    async def test_a_streamed_body_comes_back(self, spool: Spool) -> None:
        body = bytes(range(256)) * 4096
        new = message()
        writer = spool.body_writer(new.id)
        for start in range(0, len(body), 100_001):
            await put(writer, body[start : start + 100_001])
        new = replace(new, content=Content(b"Subject: large\r\n\r\n", await writer.finish(), is_ascii=False))
        (leased,) = await spool.store(new, lease_until=NOW + 60)
        assert leased.message.content is not None
        assert b"".join(leased.message.content.body.chunks()) == body
        await spool.release([(leased.item.key, leased.item.lease)], NOW)
        (leased,) = await spool.lease_due(NOW, NOW + 60, 1)
        assert leased.message.content is not None
        assert leased.message.content.body.size == len(body)
        for _ in range(2):
            assert b"".join(leased.message.content.body.chunks(65_536)) == body
        stored = await spool.read(new.id)
        assert stored.content is not None
        assert b"".join(stored.content.chunks()) == new.content.headers + body
        await spool.settle(outcome(leased, DELIVERED))
        assert (await spool.read(new.id)).content is None

    async def test_a_small_streamed_body_stays_inline(self, spool: Spool) -> None:
        writer = spool.body_writer(MessageId("SMALL"))
        await put(writer, b"two ")
        await put(writer, b"words")
        body = await writer.finish()
        assert isinstance(body, InlineBody)
        assert body.octets == b"two words"

    async def test_an_abandoned_body_is_gone(self, spool: Spool) -> None:
        for finish in (False, True):
            writer = spool.body_writer(MessageId("GONE"))
            await put(writer, b"x" * 600_000)
            if finish:
                await writer.finish()
            await writer.abandon()
            await writer.abandon()
            with pytest.raises(SpoolUnavailable):
                await put(writer, b"more")

    async def test_abandoning_after_the_store_changes_nothing(self, spool: Spool) -> None:
        writer = spool.body_writer(MessageId("KEPT"))
        await put(writer, b"x" * 600_000)
        new = replace(message(id_="KEPT"), content=Content(b"\r\n", await writer.finish()))
        await spool.store(new)
        await writer.abandon()
        stored = await spool.read(new.id)
        assert stored.content is not None
        assert sum(map(len, stored.content.body.chunks())) == 600_000

    # --- leases ---------------------------------------------------------------------------------------

    async def test_leases_come_by_priority_then_age(self, spool: Spool) -> None:
        wanted = []
        for priority, due in ((0, 5), (-1, 1), (1, 9), (0, 3), (1, 2)):
            new = message(priority=priority, due=NOW + due)
            wanted.append((-priority, due, new.id))
            await spool.store(new)
        await spool.store(message(due=NOW + 100))
        leased = [
            *await spool.lease_due(NOW + 10, NOW + 300, 3),
            *await spool.lease_due(NOW + 10, NOW + 300, 9),
        ]
        assert [one.item.key.message for one in leased] == [id_ for _, _, id_ in sorted(wanted)]
        assert all(one.message.content is not None for one in leased)

    async def test_avoided_destinations_are_passed_over(self, spool: Spool) -> None:
        for number in range(30):
            await spool.store(message(f"user{number}@busy.example", due=NOW + number / 100))
        last = message("user@idle.example", due=NOW + 1)
        await spool.store(last)
        leased = await spool.lease_due(NOW + 2, NOW + 300, 5, avoid=("busy.example",))
        assert [one.item.key.message for one in leased] == [last.id]
        assert len(await spool.lease_due(NOW + 2, NOW + 300, 100)) == 30

    async def test_a_crowd_of_avoided_items_hides_nothing(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for window in self.windows:
            monkeypatch.setattr(window, 3)
        for number in range(20):
            await spool.store(message(f"user{number}@busy.example", due=NOW + number / 100))
        others = [message(f"user@{name}.example", due=NOW + 1) for name in ("alpha", "omega", "zeta")]
        for new in others:
            await spool.store(new)
        leased = [
            one.item.key.message
            for _ in range(2)
            for one in await spool.lease_due(NOW + 2, NOW + 300, 2, avoid=("busy.example",))
        ]
        assert sorted(leased) == sorted(new.id for new in others)

    async def test_nothing_is_leased_twice(self, spool: Spool) -> None:
        for _ in range(20):
            await spool.store(message())
        rounds = await asyncio.gather(*(spool.lease_due(NOW, NOW + 300, 7) for _ in range(5)))
        keys = [one.item.key for leased in rounds for one in leased]
        assert len(keys) == len(set(keys)) == 20

    @pytest.mark.covers("SEC-213")
    async def test_a_lease_that_ran_out_is_fenced(self, spool: Spool) -> None:
        old = await one_leased(spool, message())
        assert await spool.lease_due(NOW + 299, NOW + 900, 10) == ()
        (new,) = await spool.lease_due(NOW + 301, NOW + 900, 10)
        assert new.item.key == old.item.key
        assert new.item.lease > old.item.lease
        assert new.item.crashes == 1
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(old, FAILED))
        assert await spool.renew([(old.item.key, old.item.lease)], NOW + 9999) == (old.item.key,)
        await spool.release([(old.item.key, old.item.lease)], NOW)
        assert (await item_of(spool, new.item.key)).state is ItemState.ACTIVE
        await spool.settle(outcome(new, DELIVERED))
        assert (await item_of(spool, new.item.key)).recipients[0].last == DELIVERED

    async def test_a_lease_settles_once(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        results = await asyncio.gather(
            spool.settle(outcome(leased, DELIVERED)),
            spool.settle(outcome(leased, FAILED)),
            return_exceptions=True,
        )
        assert sorted(isinstance(result, LeaseLost) for result in results) == [False, True]
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(leased, FAILED))

    async def test_a_renewed_lease_holds_longer(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        assert await spool.renew([(leased.item.key, leased.item.lease)], NOW + 900) == ()
        assert await spool.lease_due(NOW + 400, NOW + 1300, 10) == ()
        await spool.settle(outcome(leased, DELIVERED))

    async def test_tokens_grow_across_restarts(self, spool: Spool) -> None:
        first = await one_leased(spool, message())
        spool = await self.reopen(spool, NOW + 1, crash=True)
        (second,) = await spool.lease_due(NOW + 301, NOW + 900, 10)
        assert second.item.lease > first.item.lease
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(first, DELIVERED))
        await spool.close()

    async def test_release_gives_back_without_an_attempt(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        await spool.release([(leased.item.key, leased.item.lease)], NOW + 60)
        item = await item_of(spool, leased.item.key)
        assert (item.state, item.next_attempt_at, item.attempts) == (ItemState.READY, NOW + 60, 0)
        with pytest.raises(LeaseLost):
            await spool.settle(outcome(leased, DELIVERED))

    async def test_close_gives_leases_back(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        spool = await self.reopen(spool, NOW + 1, crash=False)
        item = await item_of(spool, leased.item.key)
        assert (item.state, item.next_attempt_at, item.crashes) == (ItemState.READY, NOW, 0)
        await spool.close()

    async def test_closed_means_closed(self, spool: Spool) -> None:
        await spool.close()
        with pytest.raises(SpoolUnavailable):
            await spool.store(message())
        with pytest.raises(SpoolUnavailable):
            await spool.lease_due(NOW, NOW + 1, 1)

    async def test_postpone_moves_one_destination(self, spool: Spool) -> None:
        await spool.store(message("a@b.example"))
        await spool.store(message("b@b.example", due=NOW + 500))
        await spool.store(message("c@c.example"))
        await one_leased(spool, message("d@b.example"))
        assert await spool.postpone("b.example", NOW + 100) == 1
        assert [one.item.destination for one in await spool.lease_due(NOW + 50, NOW + 300, 10)] == [
            "c.example"
        ]
        assert await spool.next_due() == NOW + 100

    async def test_next_due_is_the_earliest_ready(self, spool: Spool) -> None:
        assert await spool.next_due() is None
        await spool.store(message(due=NOW + 50, priority=-1))
        await spool.store(message(due=NOW + 70, priority=1))
        await spool.store(message(due=NOW + 10, state=ItemState.HELD))
        assert await spool.next_due() == NOW + 50

    @pytest.mark.covers("FAULT-F11")
    async def test_a_poison_message_is_leased_alone_then_held(self, spool: Spool) -> None:
        poison = await one_leased(spool, message("poison@b.example"))
        bystander = await one_leased(spool, message("bystander@b.example"))
        for crashes, at in ((1, 400.0), (2, 800.0)):
            spool = await self.reopen(spool, NOW + at, crash=True)
            assert {(await item_of(spool, one.item.key)).crashes for one in (poison, bystander)} == {crashes}
            if crashes < 2:
                assert len(await spool.lease_due(NOW + at, NOW + at + 300, 10)) == 2
        assert await spool.lease_due(NOW + 1200, NOW + 1500, 10) == ()
        assert await spool.next_due() is not None
        (suspect,) = await spool.lease_due(NOW + 1200, NOW + 1500, 10, solo=True)
        assert suspect.item.solo
        assert await spool.lease_due(NOW + 1200, NOW + 1500, 10, solo=True) == ()
        spool = await self.reopen(spool, NOW + 1600, crash=True)
        assert (await item_of(spool, suspect.item.key)).state is ItemState.HELD
        (other,) = await spool.lease_due(NOW + 2000, NOW + 2300, 10, solo=True)
        assert {suspect.item.key, other.item.key} == {poison.item.key, bystander.item.key}
        await spool.settle(outcome(other, DEFERRED))
        assert not (await item_of(spool, other.item.key)).solo
        await spool.close()

    async def test_lease_one_takes_any_waiting_item(self, spool: Spool) -> None:
        new = message("a@b.example", "b@c.example")
        await spool.store(
            replace(new, items=(replace(new.items[0], state=ItemState.HELD, reason="why"), new.items[1]))
        )
        held = await spool.lease_one(ItemKey(new.id, 0), NOW, NOW + 60)
        assert held.item.reason == "why"
        with pytest.raises(Conflict):
            await spool.lease_one(held.item.key, NOW, NOW + 60)
        await spool.settle(outcome(held, FAILED))
        with pytest.raises(Conflict):
            await spool.lease_one(held.item.key, NOW, NOW + 60)
        with pytest.raises(NotFound):
            await spool.lease_one(ItemKey(new.id, 5), NOW, NOW + 60)
        with pytest.raises(NotFound):
            await spool.lease_one(ItemKey(MessageId("NONE"), 0), NOW, NOW + 60)

    # --- settling -------------------------------------------------------------------------------------

    async def test_the_last_item_finishes_the_message(self, spool: Spool) -> None:
        new = message("a@b.example", "b@c.example")
        first, second = await spool.store(new, lease_until=NOW + 300)
        await spool.settle(outcome(first, DELIVERED))
        between = await spool.read(new.id)
        assert between.content is not None
        assert between.finished_at == 0
        await spool.settle(outcome(second, FAILED, at=NOW + 7))
        after = await spool.read(new.id)
        assert (after.content, after.finished_at, after.size) == (None, NOW + 7, new.content.size)
        items = await spool.items(new.id)
        assert [item.state for item in items] == [ItemState.DONE, ItemState.DONE]
        assert [item.recipients[0].last for item in items] == [DELIVERED, FAILED]
        assert [item.attempts for item in items] == [1, 1]

    async def test_what_is_pending_waits_or_is_held(self, spool: Spool) -> None:
        waiting = await one_leased(spool, message())
        await spool.settle(outcome(waiting, DEFERRED))
        item = await item_of(spool, waiting.item.key)
        assert (item.state, item.next_attempt_at, item.attempts) == (ItemState.READY, NOW + 600, 1)
        held = await one_leased(spool, message())
        await spool.settle(outcome(held, DEFERRED, hold_reason="look at me", count_attempt=False))
        item = await item_of(spool, held.item.key)
        assert (item.state, item.reason, item.attempts) == (ItemState.HELD, "look at me", 0)

    async def test_a_settlement_that_forgets_a_recipient_is_refused(self, spool: Spool) -> None:
        leased = await one_leased(spool, message("a@b.example", "b@b.example", destinations=("b.example",)))
        settlement = outcome(leased, DELIVERED)
        with pytest.raises(ValueError, match="recipient"):
            await spool.settle(replace(settlement, recipients=settlement.recipients[:1]))
        await spool.settle(settlement)

    async def test_an_attempt_may_split_an_item(self, spool: Spool) -> None:
        leased = await one_leased(spool, message("a@b.example", "b@b.example", destinations=("b.example",)))
        await spool.settle(outcome(leased, DEFERRED))
        leased = await spool.lease_one(leased.item.key, NOW, NOW + 300)
        settlement = outcome(leased, DELIVERED)
        split = replace(
            settlement,
            recipients=settlement.recipients[:1],
            extra=(NewItem("other.example", (1,), next_attempt_at=NOW + 60),),
        )
        await spool.settle(split)
        first, second = await spool.items(leased.item.key.message)
        assert first.state is ItemState.DONE
        assert second.key.number == 1
        assert (second.destination, second.state, second.next_attempt_at) == (
            "other.example",
            ItemState.READY,
            NOW + 60,
        )
        assert second.recipients == (RecipientStatus(1, RecipientState.PENDING, 1, DEFERRED),)
        (leased,) = await spool.lease_due(NOW + 60, NOW + 300, 10)
        await spool.settle(outcome(leased, DELIVERED))
        assert (await spool.read(leased.item.key.message)).content is None

    @pytest.mark.covers("SMTP-6")
    async def test_a_report_is_stored_with_the_settlement_or_not_at_all(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        report = message("ann@a.example", sender=None, content=inline_content(b"Subject: failed\r\n\r\n"))
        stale = replace(outcome(leased, FAILED, new_messages=(report,)), lease=leased.item.lease - 1)
        with pytest.raises(LeaseLost):
            await spool.settle(stale)
        with pytest.raises(NotFound):
            await spool.read(report.id)
        await spool.settle(outcome(leased, FAILED, new_messages=(report,)))
        assert (await spool.read(report.id)).envelope == report.envelope
        assert [one.item.key.message for one in await spool.lease_due(NOW, NOW + 300, 10)] == [report.id]

    async def test_a_report_under_a_taken_id_undoes_the_settlement(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        await spool.store(taken := message())
        with pytest.raises(Conflict):
            await spool.settle(outcome(leased, FAILED, new_messages=(message(id_=taken.id),)))
        assert (await item_of(spool, leased.item.key)).state is ItemState.ACTIVE
        await spool.settle(outcome(leased, FAILED))

    # --- reading and changing -------------------------------------------------------------------------

    async def test_the_trail_is_in_order(self, spool: Spool) -> None:
        new = message()
        leased = await one_leased(spool, new)
        await spool.settle(outcome(leased, DEFERRED))
        await spool.change([leased.item.key], Change.HOLD, now=NOW + 2, by="root", argument="to look")
        await spool.change([leased.item.key], Change.RELEASE, now=NOW + 3, by="root")
        (leased,) = await spool.lease_due(NOW + 3, NOW + 300, 1)
        await spool.settle(outcome(leased, DELIVERED))
        events = await spool.events(new.id)
        assert [event.kind for event in events] == ["received", "deferred", "held", "released", "delivered"]
        assert events[2] == Event(NOW + 2, "held", "held by root: to look", ("bob@b.example",))
        with pytest.raises(NotFound):
            await spool.events(MessageId("NONE"))
        with pytest.raises(NotFound):
            await spool.items(MessageId("NONE"))

    async def test_find_by_every_part(self, spool: Spool) -> None:
        one = message("Bob@b.example", received_at=NOW)
        two = message("eve@c.example", sender=None, received_at=NOW + 10, state=ItemState.HELD)
        two = replace(two, items=(replace(two.items[0], reason="Suspicious content"),))
        three = message("x@d.example", "y@e.example", sender="Eve@A.example".lower(), received_at=NOW + 20)
        for new in (one, two, three):
            await spool.store(new)
        done = await one_leased(spool, message("bob@b.example", received_at=NOW + 30))
        await spool.settle(outcome(done, DELIVERED))
        waiting = await one_leased(spool, message("w@f.example", received_at=NOW + 40))
        await spool.settle(outcome(waiting, DEFERRED))

        async def ids(wanted: Filter) -> list[str]:
            return [entry.message.id for entry in await spool.find(wanted)]

        four = waiting.item.key.message
        assert await ids(Filter()) == [one.id, two.id, three.id, three.id, four]
        assert await ids(Filter(limit=2)) == [one.id, two.id]
        assert await ids(Filter(ids=(three.id, two.id))) == [two.id, three.id, three.id]
        assert await ids(Filter(states=(ItemState.HELD,))) == [two.id]
        assert await ids(Filter(sender="<>")) == [two.id]
        assert await ids(Filter(sender="EVE@a.example")) == [three.id, three.id]
        assert await ids(Filter(sender="@A.EXAMPLE")) == [one.id, three.id, three.id, four]
        assert await ids(Filter(recipient="bob@B.example")) == [one.id]
        assert await ids(Filter(recipient="bob@b.example", include_done=True)) == [
            one.id,
            done.item.key.message,
        ]
        assert await ids(Filter(recipient="@e.example")) == [three.id]
        assert await ids(Filter(destination="C.example")) == [two.id]
        assert await ids(Filter(older_than=NOW + 10)) == [one.id]
        assert await ids(Filter(reason="suspicious")) == [two.id]
        assert await ids(Filter(reason="no route")) == [four]
        assert await ids(Filter(states=(ItemState.DONE,))) == [done.item.key.message]
        assert await ids(Filter(sender="nobody@a.example")) == []
        (entry,) = await spool.find(Filter(ids=(one.id,)))
        assert entry.message.content is None
        assert entry.message.envelope == one.envelope

    async def test_pages_have_what_find_has(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        for size in self.pages:
            monkeypatch.setattr(size, 3)
        for number in range(20):
            where = "Odd.example" if number % 2 else "even.example"
            new = message(f"a{number}@{where}", "b@c.example", received_at=NOW + number)
            await spool.store(new)
            if number % 3 == 0:
                leased = await spool.lease_one(ItemKey(new.id, 1), NOW, NOW + 60)
                await spool.settle(outcome(leased, DELIVERED))
        for wanted in (
            Filter(),
            Filter(limit=1),
            Filter(limit=7),
            Filter(limit=30, include_done=True),
            Filter(include_done=True),
            Filter(states=(ItemState.DONE,)),
            Filter(destination="odd.EXAMPLE"),
            Filter(destination="odd.EXAMPLE", states=(ItemState.READY,)),
            Filter(destination="odd.EXAMPLE", states=(ItemState.READY,), limit=4, older_than=NOW + 9),
            Filter(recipient="a3@odd.example"),
            Filter(older_than=NOW + 4),
            Filter(states=(ItemState.HELD,)),
        ):
            pages = [page async for page in spool.pages(wanted)]
            assert [entry for page in pages for entry in page] == list(await spool.find(wanted))
            assert all(pages)
        everything = await spool.find(Filter())
        ids = tuple(entry.message.id for entry in everything[::5])
        assert [e for page in [p async for p in spool.pages(Filter(ids=ids))] for e in page] == list(
            await spool.find(Filter(ids=ids))
        )

    async def test_pages_go_on_while_what_they_had_is_changed(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for size in self.pages:
            monkeypatch.setattr(size, 2)
        for number in range(9):
            await spool.store(message(received_at=NOW + number))
        seen = []
        async for page in spool.pages(Filter()):
            seen += [entry.item.key for entry in page]
            await spool.change([page[0].item.key], Change.DROP, now=NOW, by="root")
            await spool.change([entry.item.key for entry in page[1:]], Change.HOLD, now=NOW, by="root")
        assert len(seen) == len(set(seen)) == 9
        assert (await spool.counts()).ready == 0

    @pytest.mark.covers("SEC-208")
    async def test_what_is_being_delivered_is_left_alone(self, spool: Spool) -> None:
        leased = await one_leased(spool, message())
        for change in Change:
            refused = await spool.change([leased.item.key], change, now=NOW, by="root", argument="x")
            assert refused == {leased.item.key: "it is being delivered"}
        await spool.settle(outcome(leased, DELIVERED))
        for change in Change:
            refused = await spool.change([leased.item.key], change, now=NOW, by="root", argument="x")
            assert refused == {leased.item.key: "it is finished"}
        missing = ItemKey(MessageId("NONE"), 0)
        assert missing in await spool.change([missing], Change.DROP, now=NOW, by="root")

    @pytest.mark.covers("SEC-208")
    async def test_of_two_administrators_one_wins(self, spool: Spool) -> None:
        new = message()
        await spool.store(new)
        key = ItemKey(new.id, 0)
        answers = await asyncio.gather(
            *(spool.change([key], Change.DROP, now=NOW, by=name) for name in ("ann", "bob")),
            spool.lease_due(NOW, NOW + 300, 10),
        )
        leased = answers[2]
        refusals = [bool(answer) for answer in answers[:2]]
        assert refusals.count(False) + len(leased) == 1
        dropped = [event for event in await spool.events(new.id) if event.kind == "dropped"]
        assert len(dropped) == refusals.count(False)

    async def test_a_bulk_change_takes_each_for_itself(self, spool: Spool) -> None:
        busy = await one_leased(spool, message())
        free = [message() for _ in range(3)]
        for new in free:
            await spool.store(new)
        keys = [ItemKey(new.id, 0) for new in free]
        refused = await spool.change([*keys, busy.item.key], Change.DROP, now=NOW + 5, by="root")
        assert list(refused) == [busy.item.key]
        for new in free:
            stored = await spool.read(new.id)
            assert (stored.content, stored.finished_at) == (None, NOW + 5)
            (item,) = await spool.items(new.id)
            assert item.state is ItemState.DONE
            assert item.recipients[0].state is RecipientState.DROPPED

    async def test_hold_release_retry(self, spool: Spool) -> None:
        new = message(due=NOW + 500)
        await spool.store(new)
        key = ItemKey(new.id, 0)
        assert await spool.change([key], Change.RELEASE, now=NOW, by="root") == {key: "it is not held"}
        assert not await spool.change([key], Change.HOLD, now=NOW, by="root")
        assert (await item_of(spool, key)).reason == "held by root"
        assert await spool.change([key], Change.HOLD, now=NOW, by="root") == {key: "it is held already"}
        assert key in await spool.change([key], Change.RETRY, now=NOW, by="root")
        assert await spool.lease_due(NOW + 999, NOW + 1999, 10) == ()
        assert not await spool.change([key], Change.RELEASE, now=NOW + 1, by="root")
        item = await item_of(spool, key)
        assert (item.state, item.next_attempt_at, item.reason) == (ItemState.READY, NOW + 1, "")
        later = message(due=NOW + 500)
        await spool.store(later)
        assert not await spool.change([ItemKey(later.id, 0)], Change.RETRY, now=NOW + 2, by="root")
        assert len(await spool.lease_due(NOW + 2, NOW + 300, 10)) == 2

    async def test_reroute_changes_way_and_destination(self, spool: Spool) -> None:
        new = message("a@b.example", "b@c.example", due=NOW + 500)
        await spool.store(new)
        route = "smtp:[127.0.0.9]:2525"
        assert not await spool.change(
            [ItemKey(new.id, 0)], Change.REROUTE, now=NOW, by="root", argument=route
        )
        (leased,) = await spool.lease_due(NOW, NOW + 300, 10)
        assert leased.item.destination == route
        assert [recipient.route for recipient in leased.message.envelope.recipients] == [route, ""]

    @pytest.mark.covers("AMTP-14", "AMTP-18", "AMDP-5a")
    async def test_code_arrival_and_token_stay_with_a_message(self, spool: Spool) -> None:
        """Through a change of its way, a crash and the lease after it."""
        new = message(due=NOW + 500)
        kept = replace(
            new.envelope, mpc=parse_mpc("com/optin"), arrival=Arrival.AMTP_PUBLIC, link_token="q" * 26
        )
        new = replace(new, envelope=kept)
        await spool.store(new)
        key = ItemKey(new.id, 0)
        assert not await spool.change([key], Change.REROUTE, now=NOW, by="root", argument="smtp:[::1]")
        spool = await self.reopen(spool, NOW, crash=True)
        (leased,) = await spool.lease_due(NOW + 500, NOW + 900, 10)
        envelope = leased.message.envelope
        assert (str(envelope.mpc), envelope.arrival) == ("com/optin", Arrival.AMTP_PUBLIC)
        assert envelope.link_token == "q" * 26
        await spool.close()

    async def test_counts_follow_every_move(self, spool: Spool) -> None:
        async def counted() -> tuple[int, int, int]:
            counts = await spool.counts()
            return counts.ready, counts.active, counts.held

        assert await counted() == (0, 0, 0)
        assert (await spool.counts()).oldest_received_at == 0
        leased = await one_leased(spool, message(received_at=NOW))
        await spool.store(message("a@b.example", "b@c.example", received_at=NOW + 5))
        await spool.store(held := message(state=ItemState.HELD, received_at=NOW + 6))
        assert await counted() == (2, 1, 1)
        assert (await spool.counts()).oldest_received_at == NOW
        await spool.settle(outcome(leased, FAILED, new_messages=(message(received_at=NOW + 7),)))
        assert await counted() == (3, 0, 1)
        assert (await spool.counts()).oldest_received_at == NOW + 5
        await spool.change([ItemKey(held.id, 0)], Change.RELEASE, now=NOW, by="root")
        assert await counted() == (4, 0, 0)
        leases = await spool.lease_due(NOW, NOW + 300, 3)
        assert await counted() == (1, 3, 0)
        await spool.release([(one.item.key, one.item.lease) for one in leases], NOW)
        assert await counted() == (4, 0, 0)
        await spool.lease_due(NOW, NOW + 300, 2)
        spool = await self.reopen(spool, NOW + 500, crash=True)
        assert await counted() == (4, 0, 0)
        await spool.close()

    async def test_purge_forgets_what_left_long_ago(self, spool: Spool) -> None:
        old = await one_leased(spool, message())
        await spool.settle(outcome(old, DELIVERED, at=NOW + 10))
        fresh = await one_leased(spool, message())
        await spool.settle(outcome(fresh, DELIVERED, at=NOW + 100))
        await spool.store(waiting := message())
        assert await spool.purge(NOW + 200, NOW + 50) == 1
        with pytest.raises(NotFound):
            await spool.read(old.item.key.message)
        assert await spool.events(fresh.item.key.message)
        assert await spool.events(waiting.id)
        assert await spool.purge(NOW + 200, NOW + 500) == 1
        assert [entry.message.id for entry in await spool.find(Filter(include_done=True))] == [waiting.id]

    async def test_everything_survives_a_restart(self, spool: Spool) -> None:
        kept = [message(f"user{number}@b.example") for number in range(50)]
        await asyncio.gather(*(spool.store(new) for new in kept))
        spool = await self.reopen(spool, NOW, crash=False)
        for new in kept:
            assert (await spool.read(new.id)).envelope == new.envelope
        assert (await spool.counts()).ready == 50
        await spool.close()

    async def test_a_cancelled_caller_leaves_no_lease_behind(self, spool: Spool) -> None:
        new = message()
        waiting = asyncio.ensure_future(spool.store(new, lease_until=NOW + 9999))
        # In company, so that no spool is done with it before it can be cancelled.
        others = [asyncio.ensure_future(spool.store(message())) for _ in range(4)]
        await asyncio.sleep(0)
        assert waiting.cancel()
        await asyncio.gather(waiting, *others, return_exceptions=True)
        await spool.store(message(state=ItemState.HELD))
        await spool.store(message(state=ItemState.HELD))
        try:
            item = await item_of(spool, ItemKey(new.id, 0))
        except NotFound:
            return  # not stored at all
        assert item.state is ItemState.READY

    async def test_check_room_is_silent_when_there_is_room(self, spool: Spool) -> None:
        spool.check_room()

    # --- MT2: objects and transfers -------------------------------------------------------------------

    @pytest.mark.covers("MT2-1", "MT2-29")
    async def test_objects_are_kept_and_leave_with_the_content(self, spool: Spool) -> None:
        new = replace(message(), objects=OBJECTS)
        assert (await one_leased(spool, new)).message.objects == OBJECTS
        assert (await spool.read(new.id)).objects == OBJECTS
        spool = await self.reopen(spool, NOW + 500, crash=True)
        (again,) = await spool.lease_due(NOW + 500, NOW + 900, 5)
        assert again.message.objects == OBJECTS
        (entry,) = await spool.find(Filter())
        assert entry.message.objects is None, "a list of the queue is without content"
        await spool.settle(outcome(again, DELIVERED))
        assert (await spool.read(new.id)).objects is None
        await spool.close()

    async def test_a_message_without_objects_has_none(self, spool: Spool) -> None:
        assert (await one_leased(spool, new := message())).message.objects is None
        assert (await spool.read(new.id)).objects is None

    @pytest.mark.covers("MT2-18a")
    async def test_a_transfer_is_remembered_with_its_message(self, spool: Spool) -> None:
        new = message()
        new = replace(new, transfer=(taken := transfer(new.id)))
        assert await spool.find_transfer(taken.peer, taken.transfer) is None
        await spool.store(new)
        assert await spool.find_transfer(taken.peer, taken.transfer) == taken
        assert await spool.find_transfer("other.example", taken.transfer) is None
        assert await spool.find_transfer(taken.peer, taken.transfer + "x") is None
        spool = await self.reopen(spool, NOW + 1, crash=True)
        assert await spool.find_transfer(taken.peer, taken.transfer) == taken
        await spool.close()

    @pytest.mark.covers("MT2-18a")
    async def test_a_transfer_is_taken_once(self, spool: Spool) -> None:
        first, second = message(), message()
        first = replace(first, transfer=(taken := transfer(first.id)))
        second = replace(second, transfer=replace(taken, message=second.id))
        await spool.store(first)
        with pytest.raises(Conflict):
            await spool.store(second)
        with pytest.raises(NotFound):
            await spool.read(second.id)
        assert await spool.find_transfer(taken.peer, taken.transfer) == taken

    @pytest.mark.covers("MT2-18a")
    async def test_of_two_at_once_one_is_stored_and_nobody_else_suffers(self, spool: Spool) -> None:
        new = [message() for _ in range(4)]
        same = [replace(one, transfer=transfer(one.id, id_="same")) for one in new[:2]]
        other = replace(new[2], transfer=transfer(new[2].id))
        outcomes = await asyncio.gather(
            *(spool.store(one) for one in (*same, other, new[3])), return_exceptions=True
        )
        assert [isinstance(one, Conflict) for one in outcomes].count(True) == 1
        assert not any(isinstance(one, Exception) for one in outcomes[2:])
        found = await spool.find_transfer("mx.peer.example", "same")
        assert found is not None
        assert await spool.read(MessageId(found.message))

    @pytest.mark.covers("MT2-18a")
    async def test_a_transfer_outlives_its_message_and_is_forgotten_in_time(self, spool: Spool) -> None:
        new = message()
        new = replace(new, transfer=transfer(new.id, id_="kept", until=NOW + 600))
        await spool.settle(outcome(await one_leased(spool, new), DELIVERED))
        assert await spool.purge(NOW + 599, NOW + 500) == 1
        with pytest.raises(NotFound):
            await spool.read(new.id)
        assert await spool.find_transfer("mx.peer.example", "kept") == new.transfer
        await spool.purge(NOW + 601, NOW)
        assert await spool.find_transfer("mx.peer.example", "kept") is None
        await spool.store(replace(message(), transfer=transfer("M-again", id_="kept")))

    async def test_many_transfers_are_asked_for_at_once(self, spool: Spool) -> None:
        new = [message() for _ in range(40)]
        await asyncio.gather(*(spool.store(replace(one, transfer=transfer(one.id))) for one in new))
        wanted = [f"t.{one.id}@peer" for one in new] + ["t.unknown@peer"]
        found = await asyncio.gather(*(spool.find_transfer("mx.peer.example", name) for name in wanted))
        assert [one.message if one else None for one in found] == [*(one.id for one in new), None]
