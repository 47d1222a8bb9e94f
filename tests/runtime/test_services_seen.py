"""What is remembered of who speaks AMTP or MT2: over a restart, for a time, within bounds (AMTP-7)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.runtime import services_seen
from outrider.runtime.services_seen import ServicesSeen, latest

DAY = 86_400.0
START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def memory(folder: Path, clock: Clock, seen_for: float = 30 * DAY) -> ServicesSeen:
    return ServicesSeen(folder, "amtp", seen_for, clock)


@pytest.mark.covers("AMTP-7")
async def test_a_domain_is_known_after_a_restart_and_until_its_time_is_over(tmp_path: Path) -> None:
    clock = Clock()
    before = memory(tmp_path, clock)
    before.saw("b.example")
    await before.written()
    after = memory(tmp_path, clock)
    assert not await after.knows("c.example")
    clock.now += 29 * DAY
    assert await after.knows("b.example")
    clock.now += 2 * DAY
    assert not await after.knows("b.example")
    assert not await before.knows("b.example")


@pytest.mark.covers("AMTP-7")
async def test_what_one_worker_has_seen_another_knows(tmp_path: Path) -> None:
    clock = Clock()
    one, other = memory(tmp_path, clock), memory(tmp_path, clock)
    assert not await other.knows("b.example")
    one.saw("b.example")
    await one.written()
    assert await other.knows("b.example")


async def test_a_domain_is_written_once_a_day(tmp_path: Path) -> None:
    clock = Clock()
    seen = memory(tmp_path, clock)
    for _ in range(100):
        seen.saw("b.example")
    await seen.written()
    clock.now += DAY + 1
    seen.saw("b.example")
    await seen.written()
    lines = (tmp_path / "amtp-seen").read_text().splitlines()
    assert lines == [f"{int(START)} b.example", f"{int(START + DAY + 1)} b.example"]


async def test_the_file_is_private_and_does_not_grow_without_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_seen, "MAX_OCTETS", 1000)
    monkeypatch.setattr(services_seen, "MAX_DOMAINS", 5)
    clock = Clock()
    seen = memory(tmp_path, clock)
    for number in range(200):
        clock.now += 1
        seen.saw(f"d{number}.example")
        await seen.written()
    path = tmp_path / "amtp-seen"
    assert path.stat().st_size < 1100
    assert path.stat().st_mode & 0o777 == 0o600
    assert await memory(tmp_path, clock).knows("d199.example")


async def test_a_file_that_cannot_be_written_or_read_is_told_and_stops_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "amtp-seen"
    path.mkdir()
    seen = ServicesSeen(tmp_path, "amtp", DAY, Clock(), lambda doing, reason: told.append(doing))
    seen.saw("b.example")
    await seen.written()
    assert not await seen.knows("c.example")
    assert told == ["remembering who speaks amtp", "recalling who speaks amtp"]


@given(st.lists(st.text(max_size=60)))
def test_torn_and_foreign_lines_are_passed_over(lines: list[str]) -> None:
    found = latest([*lines, "12 b.example", "9 b.example", "99 B.EXAMPLE", "1e9 c.example", "13 b.exa mple"])
    assert found["b.example"] >= 12.0
    assert "B.EXAMPLE" not in found
    assert "c.example" not in found
