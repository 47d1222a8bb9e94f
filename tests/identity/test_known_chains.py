"""What is remembered of chains: for how long, on what basis, and how much at most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.known_chains import LEAST_S, KnownChains

BASIS = object()


def test_an_answer_holds_from_when_it_was_found_until_its_end() -> None:
    known: KnownChains[str] = KnownChains()
    known.keep(b"k", "answer", 100.0, 200.0, BASIS)
    assert known.find(b"k", 100.0, BASIS) == "answer"
    assert known.find(b"k", 199.9, BASIS) == "answer"
    assert known.find(b"k", 200.0, BASIS) is None
    assert len(known) == 0


def test_a_clock_set_back_and_another_basis_end_it() -> None:
    for moment, basis in ((99.9, BASIS), (150.0, object())):
        known: KnownChains[str] = KnownChains()
        known.keep(b"k", "answer", 100.0, 200.0, BASIS)
        assert known.find(b"k", moment, basis) is None
        assert known.find(b"k", 150.0, BASIS) is None


def test_what_does_not_hold_by_itself_is_kept_for_a_minute() -> None:
    known: KnownChains[str] = KnownChains()
    known.keep(b"k", "refused", 100.0, 100.0, BASIS)
    assert known.find(b"k", 99.9 + LEAST_S, BASIS) == "refused"
    assert known.find(b"k", 100.0 + LEAST_S, BASIS) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=200))
def test_never_more_than_the_most_and_the_latest_used_stay(steps: list[tuple[bool, int]]) -> None:
    known: KnownChains[int] = KnownChains(most=8)
    used: list[int] = []
    for keep, number in steps:
        key = bytes([number])
        if keep:
            known.keep(key, number, 0.0, 10.0, BASIS)
        found = known.find(key, 1.0, BASIS)
        assert found == (number if number in used or keep else None)
        if keep or number in used:
            used = [*(one for one in used if one != number), number][-8:]
        assert len(known) == len(used)
