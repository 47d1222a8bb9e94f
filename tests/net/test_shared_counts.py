"""Counts over processes: never too few, exact while few keys are in use, and right with real processes."""

from __future__ import annotations

import os
import signal
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, ip_address
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.net.listener_limits import ConnectionLimits
from outrider.net.server_limits import LoadGauge
from outrider.net.shared_counts import CountRow, SharedCounts

_steps = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.binary(min_size=1, max_size=4)), max_size=200
)


@settings(deadline=None, max_examples=50)
@given(_steps)
def test_totals_are_never_too_small_and_mostly_exact(steps: list[tuple[int, bool, bytes]]) -> None:
    rows = _rows(counts := SharedCounts(3))
    open_: list[Counter[bytes]] = [Counter() for _ in rows]
    for number, more, key in steps:
        if more:
            rows[number].add(key)
            rows[number].add_all()
            open_[number][key] += 1
        elif open_[number][key]:
            rows[number].remove(key)
            rows[number].remove_all()
            open_[number][key] -= 1
    truth = sum(open_, Counter[bytes]())
    for key in {key for _, _, key in steps}:
        found = {row.total(key) for row in rows}
        assert len(found) == 1
        # With at most 200 keys, two of them share both cells once in some hundred thousand runs.
        assert found.pop() >= truth[key]
    assert {row.total_all() for row in rows} == {truth.total()}
    assert counts.rows == 3


def _rows(counts: SharedCounts) -> list[CountRow]:
    return [counts.row(number) for number in range(counts.rows)]


def test_a_key_is_exact_among_few_others() -> None:
    first, second = _rows(SharedCounts(2))
    for number in range(50):
        first.add(number.to_bytes(2))
    first.add(b"mine")
    second.add(b"mine")
    wrong = sum(first.total(number.to_bytes(2)) != 1 for number in range(50))
    assert wrong <= 1
    assert second.total(b"mine") >= 2
    assert first.total(b"nobody's") <= 1


def test_a_dead_process_is_forgotten_and_no_count_goes_below_nothing() -> None:
    counts = SharedCounts(2)
    first, second = _rows(counts)
    for row in (first, second):
        row.add(b"key")
        row.add_all()
    counts.clear(0)
    assert (second.total(b"key"), second.total_all()) == (1, 1)
    first.remove(b"key")
    first.remove_all()
    assert (second.total(b"key"), second.total_all()) == (1, 1)


@pytest.mark.parametrize("number", [-1, 2])
def test_there_are_no_other_rows(number: int) -> None:
    counts = SharedCounts(2)
    with pytest.raises(IndexError):
        counts.row(number)
    with pytest.raises(IndexError):
        counts.clear(number)


def test_memory_that_nobody_counts_in_is_not_taken() -> None:
    before = _resident()
    counts = SharedCounts(64)
    counts.row(63).add(b"key")
    counts.row(0).total(b"key")
    assert _resident() - before < 8 * 1024 * 1024 < 64 * 2 * 65_536 * 4


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


# --- real processes -------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> int:
    """Fork, work, end; the child's process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def wait(pid: int) -> int:
    """Its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.covers("SEC-90")
def test_processes_see_what_the_others_count() -> None:
    counts = SharedCounts(4)
    keys = [bytes([10, 0, 0, number]) for number in range(20)]

    def work(number: int) -> None:
        row = counts.row(number)
        for turn in range(2000):
            row.add(keys[turn % 20])
            row.add_all()
        for turn in range(1000):
            row.remove(keys[turn % 20])
            row.remove_all()

    children = [in_child(lambda number=number: work(number)) for number in range(1, 4)]  # type: ignore[misc]
    assert [wait(child) for child in children] == [0, 0, 0]
    row = counts.row(0)
    assert row.total_all() == 3 * 1000
    totals = [row.total(key) for key in keys]
    assert min(totals) == 3 * 50
    assert totals.count(150) >= 18
    counts.clear(2)
    assert row.total_all() == 2 * 1000


@pytest.mark.covers("SEC-90", "SMTP-9")
def test_no_more_connections_than_allowed_however_many_processes_race(tmp_path: Path) -> None:
    """Each writes down from when till when it was inside: totals read while others come and go would prove
    nothing, for the rows are read one after the other."""
    counts = SharedCounts(4)
    address = ip_address("192.0.2.7")

    def work(number: int) -> None:
        limits = ConnectionLimits(total=3, per_address=2, shared=counts.row(number))
        inside, inside_from = array("q"), array("q")
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            if not limits.enter():
                continue
            came = time.monotonic_ns()
            if limits.enter_from(address):
                inside_from.append(time.monotonic_ns())
                inside_from.append(time.monotonic_ns())
                limits.leave_from(address)
            inside.extend((came, time.monotonic_ns()))
            limits.leave()
        assert limits.open == limits.open_from(address) == 0
        (tmp_path / f"all.{number}").write_bytes(inside.tobytes())
        (tmp_path / f"address.{number}").write_bytes(inside_from.tobytes())

    children = [in_child(lambda number=number: work(number)) for number in range(4)]  # type: ignore[misc]
    assert [wait(child) for child in children] == [0] * 4
    assert 0 < most_at_once(tmp_path.glob("all.*")) <= 3
    assert 0 < most_at_once(tmp_path.glob("address.*")) <= 2
    row = counts.row(0)
    assert row.total_all() == row.total(address.packed) == 0


def most_at_once(files: Iterable[Path]) -> int:
    """How many of the times written down - from, till, from, till - had one moment in common."""
    steps = []
    for file in files:
        times = array("q", file.read_bytes())
        steps += [(moment, -1 if number % 2 else 1) for number, moment in enumerate(times)]
    return max(accumulate(step for _, step in sorted(steps)), default=0)


@pytest.mark.covers("SEC-90", "SMTP-9")
def test_limits_hold_over_all_workers() -> None:
    counts = SharedCounts(2)
    first, second = (
        ConnectionLimits(
            total=4, per_address=2, exempt=[IPv4Network("10.0.0.0/8")], shared=counts.row(number)
        )
        for number in (0, 1)
    )
    stranger, friend = ip_address("192.0.2.7"), ip_address("10.0.0.1")
    assert first.enter_from(stranger)
    assert second.enter_from(stranger)
    assert not first.enter_from(stranger)
    assert not second.enter_from(stranger)
    assert first.open_from(stranger) == 1
    assert all(limits.enter_from(friend) for limits in (first, second, first, second))
    second.leave_from(stranger)
    assert first.enter_from(stranger)
    assert [one.enter() for one in (first, second, first, second, first, second)] == [True] * 4 + [False] * 2
    assert (first.open, second.open, first.open_in_all) == (2, 2, 4)
    assert LoadGauge(first, 0.9).is_stressed()
    counts.clear(1)  # that worker has died
    assert not LoadGauge(first, 0.9).is_stressed()
    assert first.enter()


@pytest.mark.covers("SEC-90")
def test_a_process_that_is_killed_leaves_a_row_to_clear() -> None:
    counts = SharedCounts(2)

    def work() -> None:
        counts.row(1).add(b"key")
        counts.row(1).add_all()
        signal.pause()

    child = in_child(work)
    row = counts.row(0)
    while row.total_all() == 0:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert wait(child) == -signal.SIGKILL
    assert row.total(b"key") == 1
    counts.clear(1)
    assert row.total(b"key") == 0
