"""Messages, outcomes and transfers for tests of spools: made by hand, and drawn by Hypothesis."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import HealthCheck, settings
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
    Settlement,
)
from outrider.model.mpc import LEGAL
from outrider.model.result import DeliveryResult, Kind
from outrider.spool.interface import (
    Spool,
)

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
results = st.builds(
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


any_settings = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
