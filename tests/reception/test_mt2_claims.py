"""Claims of transfers between processes: one has each, and none outlives who had it (MT2-18a)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outrider.reception.mt2_claims import TransferClaims

KEY = ("mx.b.example", "t1")
OTHER = ("mx.b.example", "t2")
CHILD = """
import sys
from pathlib import Path
from outrider.reception.mt2_claims import TransferClaims
claims = TransferClaims(Path(sys.argv[1]))
for line in sys.stdin:
    word, peer, name = line.split()
    key = peer, name
    said = claims.take(key) if word == "take" else claims.give_back(key)
    print(said, flush=True)
"""


class Sibling:
    """Another process with the same file."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, word: str, key: tuple[str, str]) -> str:
        """Have it do that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word} {key[0]} {key[1]}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def sibling(path: Path) -> Iterator[Sibling]:
    """For the time of a test."""
    one = Sibling(path)
    try:
        yield one
    finally:
        one.kill()


@pytest.mark.covers("MT2-18a")
def test_one_process_has_a_transfer(tmp_path: Path) -> None:
    path = tmp_path / "mt2" / "claims"
    claims = TransferClaims(path)
    with sibling(path) as other:
        assert claims.take(KEY)
        assert other.say("take", KEY) == "False"
        assert other.say("take", OTHER) == "True"
        assert not claims.take(OTHER)
        assert claims.is_elsewhere(OTHER)
        claims.give_back(KEY)
        assert other.say("take", KEY) == "True"
        other.say("give_back", OTHER)
        assert not claims.is_elsewhere(OTHER)
    claims.close()
    assert path.stat().st_size == 0
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.covers("MT2-18a")
def test_who_is_killed_has_nothing_any_more(tmp_path: Path) -> None:
    claims = TransferClaims(tmp_path / "claims")
    with sibling(tmp_path / "claims") as other:
        assert other.say("take", KEY) == "True"
        assert not claims.take(KEY)
        other.kill()
        assert claims.take(KEY)
    claims.close()
