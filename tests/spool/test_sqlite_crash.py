"""What is left of a SQLite spool when its process dies, at any moment and after any step."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from outrider.model.message import Event, ItemState, MessageId
from outrider.spool.interface import Filter, NotFound, Recovery, Spool
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_samples import NOW, OBJECTS, transfer
from tests.spool.crash_child import INLINE_LIMIT, body_of, size_of

ROUNDS = 30


def start_child(directory: Path, *arguments: str, under: Iterable[str] = ()) -> subprocess.Popen[bytes]:
    """The child, its facts on a pipe."""
    command = [*under, sys.executable, "-m", "tests.spool.crash_child", str(directory), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def run_child(directory: Path, *arguments: str, under: Iterable[str] = ()) -> list[list[str]]:
    """All facts of a child that ends by itself, or kills itself."""
    with start_child(directory, *arguments, under=under) as child:
        out, _ = child.communicate(timeout=120)
    return facts_in(out)


def facts_in(octets: bytes) -> list[list[str]]:
    """Whole lines only."""
    return [line.decode().split(" ") for line in octets.split(b"\n")[:-1]]


def names(facts: Iterable[list[str]], word: str) -> set[str]:
    """Whom a fact was told of."""
    return {fact[1] for fact in facts if fact[0] == word}


@contextlib.asynccontextmanager
async def opened(directory: Path):  # type: ignore[no-untyped-def]
    """The spool after the crash, with what its start found."""
    spool = SqliteSpool(directory, inline_limit=INLINE_LIMIT, reserve=0)
    recovery = await spool.start(NOW + 1000)
    try:
        yield spool, recovery
    finally:
        await spool.close()


async def check_whole(spool: Spool, name: str) -> bool:
    """Whether the message is there; if it is, every octet of it must be, and its transfer is known for taken
    (MT2-18a)."""
    taken = transfer(name)
    known = await spool.find_transfer(taken.peer, taken.transfer)
    try:
        stored = await spool.read(MessageId(name))
    except NotFound:
        assert known is None
        return False
    assert known == taken
    (item,) = await spool.items(stored.id)
    assert (stored.content is None) == (item.state is ItemState.DONE)
    if stored.content is not None:
        assert b"".join(stored.content.body.chunks()) == body_of(name, size_of(name))
        assert stored.objects == OBJECTS
    return True


@pytest.mark.covers("SMTP-5", "FAULT-F2")
async def test_what_was_acknowledged_outlives_kills_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(7)
    begun, acknowledged, settled = set[str](), set[str](), set[str]()
    for _ in range(ROUNDS):
        with start_child(tmp_path / "spool", "load") as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"started\n"
            time.sleep(chance.uniform(0.0, 0.25))
            child.kill()
            facts = facts_in(child.stdout.read())
        begun |= names(facts, "begin")
        acknowledged |= names(facts, "ack")
        settled |= names(facts, "done")
        assert not names(facts, "failed")
    assert len(acknowledged) > 20 * ROUNDS
    async with opened(tmp_path / "spool") as (spool, _):
        for name in begun:
            assert await check_whole(spool, name) or name not in acknowledged, f"{name} is lost"
        for name in settled:
            (item,) = await spool.items(MessageId(name))
            assert item.state is ItemState.DONE, f"{name} was settled and would be sent again"
        counts = await spool.counts()
        assert counts.active == 0
        kept = {entry.message.id for entry in await spool.find(Filter(include_done=True))}
        assert kept <= begun


BODY_STEPS = ("body created", "directory synced", "body written", "body synced")


@pytest.mark.covers("SMTP-5", "FAULT-F2")
@pytest.mark.parametrize("step", [*BODY_STEPS, "rows written", "committed"])
async def test_a_death_after_each_step_leaves_all_or_nothing(tmp_path: Path, step: str) -> None:
    facts = run_child(tmp_path / "spool", "large", step)
    assert not names(facts, "ack")
    async with opened(tmp_path / "spool") as (spool, recovery):
        assert isinstance(recovery, Recovery)
        there = await check_whole(spool, "LARGE-0-700000")
        assert there == (step == "committed")
        assert recovery.orphans_removed == (
            1 if step in ("body written", "body synced", "rows written") else 0
        )
        assert recovery.released == (1 if there else 0)
    files = [path for path in (tmp_path / "spool" / "bodies").rglob("*") if path.is_file()]
    assert len(files) == (1 if there else 0)


@pytest.mark.covers("SMTP-5", "FAULT-F2")
@pytest.mark.parametrize("step", ["rows written", "committed"])
async def test_a_small_message_is_there_from_the_commit_on(tmp_path: Path, step: str) -> None:
    run_child(tmp_path / "spool", "once", step)
    async with opened(tmp_path / "spool") as (spool, _):
        assert await check_whole(spool, "ONCE-0-4096") == (step == "committed")
        if step == "committed":
            assert (await spool.events(MessageId("ONCE-0-4096")))[0] == Event(NOW, "received", "from x by y")


SYNCED = re.compile(r"(?:fsync|fdatasync)(?:\(\d+<[^>]*spool\.db-wal>| resumed).*= 0$")
UNFINISHED = re.compile(r"(?:fsync|fdatasync)\(\d+<([^>]*)> <unfinished")
TOLD = re.compile(r'write\(1<[^>]*>, "(begin|ack) ([^ \\]+)\\n"')


@pytest.mark.covers("FAULT-F1", "SMTP-5")
def test_a_sync_of_the_log_is_completed_before_every_acknowledgement(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-y", "-s", "80", "-e", "trace=fsync,fdatasync,write", "-o", str(trace))
    facts = run_child(tmp_path / "spool", "plain", under=strace)
    assert len(names(facts, "ack")) == 1000
    begun: dict[str, int] = {}
    syncs = violations = 0
    pending: dict[str, str] = {}
    for line in trace.read_text().split("\n"):
        thread = line.partition(" ")[0]
        if unfinished := UNFINISHED.search(line):
            pending[thread] = unfinished[1]
        elif SYNCED.search(line) and pending.pop(thread, "spool.db-wal").endswith("spool.db-wal"):
            syncs += 1
        elif told := TOLD.search(line):
            if told[1] == "begin":
                begun[told[2]] = syncs
            elif begun[told[2]] == syncs:
                violations += 1
    assert len(begun) == 1000
    assert violations == 0


@pytest.mark.covers("FAULT-F7")
async def test_after_a_failed_sync_nothing_is_acknowledged_until_the_database_is_reopened(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "spool"):
        pass
    strace = (
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=20",
    )
    facts = run_child(tmp_path / "spool", "slow", under=strace)
    failed = [fact for fact in facts if fact[0] == "failed"]
    assert failed
    assert all(fact[2] == "SpoolUnavailable" for fact in failed)
    assert "IOERR" in " ".join(failed[0])
    last_failure = max(index for index, fact in enumerate(facts) if fact[0] == "failed")
    assert names(facts[last_failure:], "ack"), "it recovers by itself"
    async with opened(tmp_path / "spool") as (spool, _):
        for name in names(facts, "ack"):
            assert await check_whole(spool, name)
