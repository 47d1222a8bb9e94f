"""Slots on loan: how they are divided, that the limit holds, that the dead pay back, and what nodes tell."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.message import ItemKey, MessageId
from outrider.spool.interface import SpoolError
from outrider.spool.postgresql import presence as presence_module
from outrider.spool.postgresql import sharing as sharing_module
from outrider.spool.postgresql.presence import (
    LARGEST_NOTE,
    Note,
    Word,
    key_name,
    named_key,
    notes_of,
    read_note,
    write_note,
)
from outrider.spool.postgresql.sharing import Claim, SlotSharing, fair_share, loan_of
from outrider.spool.postgresql.spool import PostgresSpool
from outrider.testing.spool_samples import NOW

NODES = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(0, 50), min_size=1)


# --- dividing -----------------------------------------------------------------------------------------


@given(limit=st.integers(1, 60), wanted=NODES, turn=st.integers(0, 1000))
def test_a_share_is_fair(limit: int, wanted: dict[str, int], turn: int) -> None:
    shares = fair_share(limit, wanted, turn)
    assert sum(shares.values()) == min(limit, sum(wanted.values())), "what is wanted and there is given"
    assert all(0 <= shares[node] <= wanted[node] for node in wanted)
    short = [shares[node] for node in wanted if shares[node] < wanted[node]]
    assert not short or max(shares.values()) <= min(short) + 1, "nobody has more at the cost of another"


def test_a_slot_that_cannot_be_divided_goes_round() -> None:
    wanted = {"a": 5, "b": 5, "c": 5}
    had = [node for turn in range(6) for node, share in fair_share(1, wanted, turn).items() if share]
    assert sorted(had) == ["a", "a", "b", "b", "c", "c"]


@given(limit=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_what_is_held_never_exceeds_the_limit(limit: int, seed: int) -> None:
    chance = random.Random(seed)
    claims = {name: Claim(0, 0) for name in "abc"}
    used = dict.fromkeys("abc", 0)
    slots = dict.fromkeys("abc", 0)
    for turn in range(60):
        name = chance.choice("abc")
        used[name] = chance.randint(0, max(slots[name], used[name]))  # what is begun may go on, or end
        claims[name] = Claim(used[name], chance.choice([0, 1, limit, limit * 2]))
        loan = loan_of(limit, claims, name, turn)
        slots[name] = loan.slots
        claims[name] = Claim(max(loan.slots, used[name]), claims[name].wanted)
        assert sum(claim.held for claim in claims.values()) <= limit
        assert loan.claimants >= 1


# --- lending ------------------------------------------------------------------------------------------


class Hands:
    """A node's sharing, with words for what lanes do."""

    def __init__(self, sharing: SlotSharing) -> None:
        self.sharing = sharing
        self.used = 0

    def grasp(self, limit: int) -> None:
        """Take all there is."""
        while self.used < limit and self.sharing.take("lane", self.used, limit, NOW) is None:
            self.used += 1

    def let_go(self) -> None:
        """Give one back."""
        self.used -= 1
        self.sharing.give_back("lane", NOW)


@pytest.fixture
async def hands(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Hands, Hands]]:
    """Two nodes on one database."""
    spools = [PostgresSpool(postgres_dsn, owner=name, scratch=tmp_path / name) for name in ("one", "two")]
    for spool in spools:
        await spool.start(NOW)
    yield Hands(spools[0].sharing), Hands(spools[1].sharing)
    for spool in spools:
        await spool.close()


async def until(condition: object, *grasping: tuple[Hands, int]) -> None:
    """Let nodes grasp until something holds."""
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():
            for one, limit in grasping:
                one.grasp(limit)
            await asyncio.sleep(0.01)


@pytest.mark.covers("SMTP-3")
async def test_one_node_has_it_all_until_another_wants_some(hands: tuple[Hands, Hands]) -> None:
    one, two = hands
    await until(lambda: one.used == 8, (one, 8))
    assert one.sharing.take("lane", 8, 8, NOW) is not None
    for _ in range(50):
        two.grasp(8)
        await asyncio.sleep(0.01)
        assert one.used + two.used <= 8
    while one.used + two.used < 8 or two.used < 4:  # as deliveries end, the parts even out
        async with asyncio.timeout(60):
            one.let_go() if one.used > 4 else None
            one.grasp(8)
            two.grasp(8)
            assert one.used + two.used <= 8
            await asyncio.sleep(0.05)
    assert two.used == 4
    assert one.sharing.rate("lane", 10.0) == 5.0


@pytest.mark.covers("SMTP-3")
async def test_what_a_dead_node_had_borrowed_runs_out(
    hands: tuple[Hands, Hands], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing_module, "LOAN_SECONDS", 1.5)
    one, two = hands
    await until(lambda: one.used == 2, (one, 2))
    two.grasp(2)
    assert one.sharing._task is not None
    one.sharing._task.cancel()  # it says nothing any more
    await until(lambda: two.used == 2, (two, 2))
    assert one.sharing.take("other", 0, 1, NOW) is not None


@pytest.mark.covers("SMTP-3")
async def test_a_node_that_loses_the_database_starts_nothing_when_its_loans_have_run_out(
    hands: tuple[Hands, Hands], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing_module, "LOAN_SECONDS", 1.0)
    one, _ = hands
    await until(lambda: one.used == 1, (one, 1))
    assert one.sharing._task is not None
    one.sharing._task.cancel()
    one.let_go()

    def refused() -> bool:
        if one.sharing.take("lane", 0, 1, NOW) is None:
            one.sharing.give_back("lane", NOW)
            return False
        return True

    await until(refused)


# --- notes --------------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 999_999_999))
def test_an_items_name_is_read_as_it_was_written(message: str, number: int) -> None:
    key = ItemKey(MessageId(message), number)
    assert named_key(key_name(key)) == key


@given(st.text())
def test_any_payload_is_read(payload: str) -> None:
    note = read_note(payload)
    assert note is None or read_note(write_note(note)) == note
    named_key(payload)


def test_many_names_are_told_in_many_notes() -> None:
    names = [f"m{number:04d}" for number in range(3000)] + ["x" * 10_000]
    notes = notes_of(Word.WITHDRAW, names)
    assert [name for note in notes for name in note.names] == names[:-1]
    assert all(len(write_note(note)) <= LARGEST_NOTE for note in notes)
    assert all(read_note(write_note(note)) == note for note in notes)
    assert read_note("") == Note(Word.WAKE)
    assert read_note('["tomorrow"]') is None


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-213")
async def test_a_name_belongs_to_one_process(
    postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "OWNER_WAIT_SECONDS", 0.3)
    first = PostgresSpool(postgres_dsn, owner="one", scratch=tmp_path / "a")
    await first.start(NOW)
    second = PostgresSpool(postgres_dsn, owner="one", scratch=tmp_path / "b")
    with pytest.raises(SpoolError, match="another process uses this spool as one"):
        await second.start(NOW)
    # Its connections are cut: it takes its name up again before anybody else.
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(SpoolError):
                first.check_room()
                await first.counts()
                break
            await asyncio.sleep(0.02)
    await first.close()
    await second.start(NOW)
    await second.close()
