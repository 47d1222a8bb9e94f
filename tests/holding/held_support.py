"""Held messages for tests of the facility: made directly, without transport and web."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from outrider.holding.facility.held_records import CopyIds, HeldMessage, NewCopy, Question
from outrider.holding.facility.held_store import PART, HeldStore
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.identifiers import OCTETS, identifier

NOW, HOUR, DAY = 1_800_000_000.0, 3600.0, 86_400.0
EXPIRES = int(NOW + 7 * DAY)
BODY = b"From: ann@alpha.example\r\n\r\nhello\r\n"
T = TypeVar("T")


def draw() -> CopyIds:
    """New ids."""
    return CopyIds(*(identifier(secrets.token_bytes(OCTETS)) for _ in range(3)))


def a_message(name: str = "MESSAGE", body: bytes = BODY, **changes: object) -> HeldMessage:
    """A message; its digest is that of `body`."""
    made = HeldMessage(
        id=name,
        sender="ann@alpha.example",
        reports_to="ann@alpha.example",
        subject="News of the week",
        mail_class="Direct::Business::newsletter",
        language="en",
        attachments="",
        date=NOW - 60,
        size=len(body),
        digest=str(digest_of([body])),
        held_at=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def a_copy(number: int = 0, recipient: str = "", **changes: object) -> NewCopy:
    """A copy for a recipient of its own."""
    made = NewCopy(
        number=number,
        ids=draw(),
        recipient=recipient or f"r{number}@beta.example",
        timestamp=int(NOW),
        stated=EXPIRES,
        fields="ab" * 32,
        envelope=f"ENVELOPE{number}",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def changing(store: HeldStore, work: Callable[[HeldStore], T]) -> T:
    """Do it in a transaction of its own."""
    with store.transaction():
        return work(store)


def hold(
    store: HeldStore, *copies: NewCopy, message: HeldMessage | None = None, body: bytes = BODY
) -> HeldMessage:
    """Hold a message with these copies."""
    held = message or a_message(body=body)

    def work(one: HeldStore) -> None:
        name = draw().id
        if one.hold_message(held, name):
            for number, start in enumerate(range(0, len(body), PART)):
                one.add_part(name, number, body[start : start + PART])
        one.add_copies(held.id, copies)

    changing(store, work)
    return held


def question(copy: NewCopy, **changes: object) -> Question:
    """What the receiver's server asks of a copy."""
    asked = Question(copy.ids.id, copy.timestamp, copy.stated, copy.fields, copy.keys)
    return replace(asked, **changes)  # type: ignore[arg-type]


def acknowledge(store: HeldStore, copy: NewCopy, now: float = NOW) -> bool:
    """Acknowledge one copy."""
    pair = (copy.ids.id, copy.ids.confirmation)
    return changing(store, lambda one: one.acknowledge([pair], "192.0.2.1", now))[0]


def is_known(store: HeldStore, copy: NewCopy, now: float = NOW) -> bool:
    """Whether a query is answered."""
    return store.query([question(copy)], now)[0] is not None


def fetched(store: HeldStore, copy: NewCopy, secret: str = "", now: float = NOW) -> bytes | None:
    """The octets; None for nothing, or where they broke off."""
    found = store.unlocked(copy.ids.id, secret or copy.ids.confirmation, now)
    if found is None:
        return None
    octets = bytearray(found.first)
    while len(octets) < found.size:
        part = store.part(found, len(octets) // PART, now)
        if part is None:
            return None
        octets += part
    return bytes(octets)


def count(store: HeldStore, table: str) -> int:
    """Rows of a table."""
    return int(store.database.execute(f"SELECT count(*) FROM {table}")[0][0] or 0)
