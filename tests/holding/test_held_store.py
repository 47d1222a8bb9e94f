"""What is held for whom: the same on SQLite and PostgreSQL, and the same when it is said twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from outrider.holding.facility.held_records import CopyState
from outrider.holding.facility.held_store import PART, HeldStore
from outrider.holding.facility.held_upkeep import (
    UNFINISHED_S,
    copies,
    delete_parts,
    doomed_bodies,
    expire,
    extend,
    forget,
    listed,
    notified,
    one_listed,
    refuse,
    withdraw,
)
from tests.holding.held_fixtures import Open, open_alone, race, store
from tests.holding.held_support import (
    BODY,
    DAY,
    EXPIRES,
    NOW,
    a_copy,
    a_message,
    acknowledge,
    changing,
    count,
    draw,
    fetched,
    hold,
    is_known,
    question,
)

__all__ = ["open_alone", "store"]


def state_of(store: HeldStore, number: int = 0, message: str = "MESSAGE") -> CopyState:
    found = store.copy(message, number)
    assert found is not None
    return found.state


@pytest.mark.covers("AMDP-9", "AMDP-6")
def test_a_copy_is_asked_about_burnt_fetched_and_confirmed(store: HeldStore) -> None:
    copy = a_copy()
    hold(store, copy)
    [answer] = store.query([question(copy)], NOW)
    assert answer is not None
    assert (answer.recipient, answer.confirmation) == (copy.recipient, copy.ids.confirmation)
    assert is_known(store, copy), "a query burns nothing"
    assert fetched(store, copy) is None, "it is locked until it is acknowledged"
    assert acknowledge(store, copy)
    assert not is_known(store, copy), "burnt"
    assert acknowledge(store, copy), "repeated, it is answered the same"
    assert state_of(store) is CopyState.AUTHENTICATED
    assert fetched(store, copy) == BODY
    done = changing(
        store, lambda one: one.receive(copy.ids.id, copy.ids.confirmation, a_message().digest, NOW + 5)
    )
    assert done is not None
    assert done.first
    again = changing(
        store, lambda one: one.receive(copy.ids.id, copy.ids.confirmation, a_message().digest, NOW + 9)
    )
    assert again is not None
    assert not again.first
    assert again.copy.received_at == NOW + 5
    assert fetched(store, copy) is None
    assert state_of(store) is CopyState.RETRIEVED
    assert count(store, "held_parts") == 0, "the last copy is done with: the content goes"


@pytest.mark.covers("AMDP-9")
def test_a_question_that_is_wrong_in_anything_is_not_known(store: HeldStore) -> None:
    copy = a_copy()
    hold(store, copy)
    wrong: list[dict[str, object]] = [
        {"timestamp": int(NOW) + 1},
        {"expires": EXPIRES + 1},
        {"fields": "cd" * 32},
        {"fields": ""},
        {"keys": "x"},
        {"id": "a" * 26},
        {"id": ""},
        {"id": "../../etc/passwd"},
        {"id": "\ud800"},
    ]
    assert store.query([question(copy, **one) for one in wrong], NOW) == [None] * len(wrong)
    assert is_known(store, copy)


@pytest.mark.covers("AMDP-12", "SEC-181")
def test_wrong_used_expired_and_withdrawn_are_the_same(store: HeldStore) -> None:
    used, late, taken_back = (a_copy(number) for number in range(3))
    late = replace(late, stated=int(NOW) - 1)
    hold(store, used, late, taken_back)
    assert acknowledge(store, used)
    digest = a_message().digest
    assert changing(store, lambda one: one.receive(used.ids.id, used.ids.confirmation, digest, NOW))
    changing(store, lambda one: withdraw(one, "MESSAGE", [2], NOW))
    never = a_copy(9)
    for copy in (used, late, taken_back, never):
        assert not is_known(store, copy)
        assert fetched(store, copy) is None
        if copy is not used:
            assert not acknowledge(store, copy)
            assert store.find(copy.ids.id, copy.ids.token, NOW) is None
            assert store.find(copy.ids.id, copy.ids.confirmation, NOW) is None
            assert changing(store, lambda one, c=copy: one.open(c.ids.id, c.ids.token, NOW)) is None


@pytest.mark.covers("AMDP-9", "SEC-182")
def test_a_batch_is_answered_item_by_item_and_in_order(store: HeldStore) -> None:
    held = [a_copy(number) for number in range(100)]
    hold(store, *held)
    asked = [question(one) if at % 3 else question(a_copy(at)) for at, one in enumerate(held)]
    answers = store.query(asked, NOW)
    assert [one.recipient if one else None for one in answers] == [
        one.recipient if at % 3 else None for at, one in enumerate(held)
    ]
    pairs = [(one.ids.id, one.ids.confirmation if at % 2 else "x" * 26) for at, one in enumerate(held)]
    assert changing(store, lambda one: one.acknowledge(pairs, "192.0.2.1", NOW)) == [
        bool(at % 2) for at in range(100)
    ]
    assert [one is not None for one in store.query([question(one) for one in held], NOW)] == [
        not at % 2 for at in range(100)
    ]
    # The same id twice in one batch, and another recipient's number.
    first, other = held[0].ids, held[2].ids
    twice = [(first.id, first.confirmation), (first.id, first.confirmation), (first.id, other.confirmation)]
    assert changing(store, lambda one: one.acknowledge(twice, "192.0.2.1", NOW)) == [True, True, False]


@pytest.mark.covers("AMDP-2")
def test_holding_again_after_a_crash_gives_the_same_ids(store: HeldStore) -> None:
    first, second = a_copy(0), a_copy(1)
    hold(store, first)
    known = changing(store, lambda one: one.add_copies("MESSAGE", [a_copy(0), second]))
    assert set(known) == {0}
    assert known[0].ids == first.ids
    assert is_known(store, first)
    assert is_known(store, second)
    hold(store, message=a_message())
    assert count(store, "held_messages") == count(store, "held_parts") == 1
    assert count(store, "held_bodies") == 1, "the second body has no message"


@pytest.mark.covers("AMDP-2")
def test_a_large_body_is_whole_and_goes_in_steps(store: HeldStore) -> None:
    body = bytes(range(256)) * 4096 + b"the end"
    copy = a_copy()
    hold(store, copy, message=a_message(body=body), body=body)
    assert count(store, "held_parts") == len(body) // PART + 1
    assert acknowledge(store, copy)
    assert fetched(store, copy) == body
    changing(store, lambda one: withdraw(one, "MESSAGE", None, NOW))
    [doomed] = doomed_bodies(store, NOW, 10)
    assert not changing(store, lambda one: delete_parts(one, doomed, NOW, 3))
    while not changing(store, lambda one: delete_parts(one, doomed, NOW, 3)):
        pass
    assert count(store, "held_parts") == count(store, "held_bodies") == 0


@pytest.mark.covers("AMDP-2")
def test_a_body_left_half_written_is_swept_and_one_being_written_is_not(store: HeldStore) -> None:
    for at in (NOW, NOW + UNFINISHED_S):
        changing(store, lambda one, at=at: one.begin_body("left", at) if at == NOW else None)
    changing(store, lambda one: one.add_part("left", 0, b"x" * PART))
    assert doomed_bodies(store, NOW + UNFINISHED_S - 1, 10) == []
    later = NOW + UNFINISHED_S + 1
    assert doomed_bodies(store, later, 10) == ["left"]
    changing(store, lambda one: one.begin_body("left", later))
    assert changing(store, lambda one: delete_parts(one, "left", later, 10)), "it is being written again"
    assert count(store, "held_parts") == 1
    later += UNFINISHED_S + 1
    assert changing(store, lambda one: delete_parts(one, "left", later, 10))
    assert count(store, "held_parts") == 0


@pytest.mark.covers("AMDP-6", "SEC-188")
def test_a_fetch_under_way_ends_with_nothing_when_it_is_withdrawn_or_expires(store: HeldStore) -> None:
    body = b"x" * (3 * PART)
    copy, other = a_copy(0), a_copy(1)
    hold(store, copy, other, message=a_message(body=body), body=body)
    assert acknowledge(store, copy)
    assert acknowledge(store, other)
    found = store.unlocked(copy.ids.id, copy.ids.confirmation, NOW)
    assert found is not None
    assert store.part(found, 1, NOW) == b"x" * PART
    assert store.part(found, 2, float(EXPIRES)) is None
    changing(store, lambda one: withdraw(one, "MESSAGE", [0], NOW))
    assert store.part(found, 2, NOW) is None
    assert fetched(store, other) == body, "the others' copies are untouched"


@pytest.mark.covers("AMDP-6")
def test_a_message_whose_body_went_is_held_again_for_late_recipients(store: HeldStore) -> None:
    hold(store, a_copy(0))
    changing(store, lambda one: refuse(one, "MESSAGE", 0, NOW))
    assert not store.is_held("MESSAGE")
    late = a_copy(1)
    hold(store, late)
    assert acknowledge(store, late)
    assert fetched(store, late) == BODY


@pytest.mark.covers("AMDP-5a")
def test_a_link_unlocks_once_by_a_post_and_the_call_back_is_over(store: HeldStore) -> None:
    copy = a_copy()
    hold(store, copy)
    seen = store.find(copy.ids.id, copy.ids.token, NOW)
    assert seen is not None
    assert seen.copy.opened_at == 0
    assert fetched(store, copy, copy.ids.token) is None, "looking at it unlocks nothing"
    assert changing(store, lambda one: one.open(copy.ids.id, copy.ids.confirmation, NOW)) is None
    opened = changing(store, lambda one: one.open(copy.ids.id, copy.ids.token, NOW + 1))
    assert opened is not None
    assert (opened.first, opened.copy.by_link, opened.copy.opened_at) == (True, True, NOW + 1)
    again = changing(store, lambda one: one.open(copy.ids.id, copy.ids.token, NOW + 2))
    assert again is not None
    assert (again.first, again.copy.opened_at) == (False, NOW + 1)
    assert fetched(store, copy, copy.ids.token) == BODY
    assert fetched(store, copy, copy.ids.confirmation) is None
    assert not is_known(store, copy)
    assert not acknowledge(store, copy)


@pytest.mark.covers("AMDP-13")
def test_after_the_call_back_the_token_opens_nothing(store: HeldStore) -> None:
    copy = a_copy()
    hold(store, copy)
    assert acknowledge(store, copy)
    assert store.find(copy.ids.id, copy.ids.token, NOW) is None
    assert changing(store, lambda one: one.receive(copy.ids.id, copy.ids.confirmation, None, NOW)) is None, (
        "a person confirms what he has opened"
    )
    assert changing(store, lambda one: one.open(copy.ids.id, copy.ids.confirmation, NOW)) is not None
    assert changing(store, lambda one: one.receive(copy.ids.id, copy.ids.confirmation, None, NOW)) is not None


@pytest.mark.covers("AMDP-22")
def test_a_receipt_for_other_octets_confirms_nothing(store: HeldStore) -> None:
    copy = a_copy()
    hold(store, copy)
    acknowledge(store, copy)
    wrong = a_message(body=b"other").digest
    assert changing(store, lambda one: one.receive(copy.ids.id, copy.ids.confirmation, wrong, NOW)) is None
    assert fetched(store, copy) == BODY


@pytest.mark.covers("AMDP-6")
def test_states_are_told_for_each_recipient(store: HeldStore) -> None:
    held = [a_copy(number) for number in range(6)]
    hold(store, *held)
    assert changing(store, lambda one: notified(one, "MESSAGE", 0, NOW)) is not None
    assert changing(store, lambda one: notified(one, "MESSAGE", 0, NOW)) is None
    acknowledge(store, held[1])
    late = changing(store, lambda one: notified(one, "MESSAGE", 1, NOW))
    assert late is not None
    assert late.state is CopyState.AUTHENTICATED, "the call-back was faster than the queue"
    changing(store, lambda one: refuse(one, "MESSAGE", 2, NOW))
    changing(store, lambda one: withdraw(one, "MESSAGE", [3], NOW))
    assert changing(store, lambda one: refuse(one, "MESSAGE", 1, NOW)) == []
    changing(store, lambda one: one.open(held[4].ids.id, held[4].ids.token, NOW))
    states = [one.state.value for one in copies(store, "MESSAGE")]
    assert states == ["notified", "authenticated", "refused", "withdrawn", "authenticated", "held"]
    [one] = listed(store)
    assert dict(one.states) == {"authenticated": 2, "held": 1, "notified": 1, "refused": 1, "withdrawn": 1}
    assert (one.expires, one.has_content) == (float(EXPIRES), True)
    ended = changing(store, lambda one: expire(one, float(EXPIRES), 100))
    assert {(each.copy.number, each.copy.state.value) for each in ended} == {
        (0, "expired"),
        (1, "expired"),
        (4, "retrieved"),  # its reader had opened it
        (5, "expired"),
    }
    assert listed(store) == []
    [past] = listed(store, past=True)
    assert not past.has_content


@pytest.mark.covers("AMDP-6")
def test_what_can_be_had_is_extended_and_the_envelope_stays_right(store: HeldStore) -> None:
    copy, gone = a_copy(0), a_copy(1)
    hold(store, copy, gone)
    changing(store, lambda one: withdraw(one, "MESSAGE", [1], NOW))
    later = EXPIRES + 3 * DAY
    assert [one.number for one in changing(store, lambda one: extend(one, "MESSAGE", later, NOW))] == [0]
    assert changing(store, lambda one: extend(one, "MESSAGE", later, NOW)) == []
    assert is_known(store, copy, EXPIRES + DAY), "what the envelope states is what is compared"
    assert changing(store, lambda one: extend(one, "MESSAGE", later + DAY, later + 1)) == [], "too late"


@pytest.mark.covers("AMDP-6")
def test_what_is_long_past_is_forgotten(store: HeldStore) -> None:
    hold(store, a_copy(0))
    hold(store, a_copy(0), message=a_message("YOUNG", held_at=NOW + 20 * DAY))
    changing(store, lambda one: withdraw(one, "MESSAGE", None, NOW))
    assert changing(store, lambda one: forget(one, NOW + 29 * DAY, 10)) == 0
    assert one_listed(store, "MESSAGE") is not None
    assert changing(store, lambda one: forget(one, NOW + 38 * DAY, 10)) == 1
    assert one_listed(store, "MESSAGE") is None
    assert one_listed(store, "YOUNG") is not None
    assert count(store, "held_copies") == 1


@pytest.mark.covers("AMDP-3")
def test_turns_are_counted_by_domain_and_minute(store: HeldStore) -> None:
    def turns(wanted: int, now: float, domain: str = "beta.example") -> int:
        return changing(store, lambda one: one.take_turns(domain, wanted, 5, now))

    assert [turns(3, NOW), turns(3, NOW + 1), turns(1, NOW + 59)] == [3, 2, 0]
    assert turns(9, NOW + 2, "other.example") == 5
    assert turns(4, NOW + 60) == 4


@pytest.mark.covers("SEC-188", "SEC-208")
def test_of_acknowledgement_refusal_and_link_at_one_moment_one_happens(
    open_alone: Open, store: HeldStore
) -> None:
    held = [a_copy(number) for number in range(25)]
    hold(store, *held)

    def acknowledging(one: HeldStore, wait: Callable[[], object]) -> list[bool]:
        return [bool(wait() is not None and acknowledge(one, copy)) for copy in held]

    def refusing(one: HeldStore, wait: Callable[[], object]) -> list[bool]:
        return [
            bool(
                wait() is not None and changing(one, lambda it, n=copy.number: refuse(it, "MESSAGE", n, NOW))
            )
            for copy in held
        ]

    def opening(one: HeldStore, wait: Callable[[], object]) -> list[bool]:
        return [
            wait() is not None
            and changing(one, lambda it, ids=copy.ids: it.open(ids.id, ids.token, NOW)) is not None
            for copy in held
        ]

    done = race(open_alone, acknowledging, refusing, opening)
    assert [sum(each) for each in zip(*done, strict=True)] == [1] * len(held)


@pytest.mark.covers("AMDP-9", "SEC-188")
def test_the_same_acknowledgement_twice_at_once_succeeds_twice(open_alone: Open, store: HeldStore) -> None:
    held = [a_copy(number) for number in range(60)]
    hold(store, *held)
    pairs = [(one.ids.id, one.ids.confirmation) for one in held]

    def run(one: HeldStore, wait: Callable[[], object]) -> list[bool]:
        wait()
        return changing(one, lambda it: it.acknowledge(pairs, "192.0.2.1", NOW))

    assert race(open_alone, run, run) == [[True] * 60] * 2


@pytest.mark.covers("AMDP-6", "SEC-188")
def test_the_body_goes_when_the_last_copies_end_at_one_moment(open_alone: Open, store: HeldStore) -> None:
    hold(store, a_copy(0), a_copy(1))

    def withdrawing(number: int) -> Callable[[HeldStore, Callable[[], object]], int]:
        def run(one: HeldStore, wait: Callable[[], object]) -> int:
            wait()
            return len(changing(one, lambda it: withdraw(it, "MESSAGE", [number], NOW)))

        return run

    assert race(open_alone, withdrawing(0), withdrawing(1)) == [1, 1]
    assert count(store, "held_parts") == 0


def test_ids_are_drawn_apart_and_are_not_shown() -> None:
    drawn = [draw() for _ in range(100)]
    assert len({text for one in drawn for text in (one.id, one.confirmation, one.token)}) == 300
    assert drawn[0].id not in repr(drawn[0])
