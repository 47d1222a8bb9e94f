"""Damaged inputs by the hundred in `make test`, by the million in `make fuzz`; frames have theirs in
`tests/protocols/mt2/test_peer_properties.py`.

A failure names its target and seed; ``python -m tests.fuzz TARGET SEED`` runs that case again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz.all_targets import TARGETS
from tests.fuzz.running import Broken, Target, run

BLOCK = 2_500
"""Cases of one test in the long form."""
FIRST_LONG = 1_000_000
"""Seeds of the long form begin here: none is one of the short form's."""

COVERS = {
    "envelope": ("MT2-2", "MT2-5", "SEC-129"),
    "headers": ("MT2-3", "MT2-5", "SEC-133"),
    "riding": ("MT2-28b",),
    "seal": ("MT2-23b", "SEC-134"),
    "trace": ("MT2-23a", "SEC-135"),
    "proof": ("MT2-10b", "SEC-134"),
    "encrypted": ("MT2-4",),
    "certificates": ("MT2-22", "SEC-149"),
    "revocations": ("SEC-150",),
    "pem": ("SEC-149",),
    "options": ("MT2-11", "MT2-7"),
    "extensions": ("MT2-19",),
    "held": ("AMDP-4a", "AMDP-1"),
    "reports": ("AMDP-16", "AMDP-17"),
    "bodies": ("AMDP-9", "AMDP-13", "SEC-204"),
}


def _targets() -> list[object]:
    return [
        pytest.param(target, id=name, marks=pytest.mark.covers(*COVERS[name]))
        for name, target in TARGETS.items()
    ]


def _blocks() -> list[object]:
    return [
        pytest.param(target, first, id=f"{name}-{first}", marks=pytest.mark.covers(*COVERS[name]))
        for name, target in TARGETS.items()
        for first in range(FIRST_LONG, FIRST_LONG + target.long, BLOCK)
    ]


@pytest.mark.parametrize("target", _targets())
def test_damaged_inputs(target: Target) -> None:
    outcomes = run(target, range(target.short))
    assert_both(outcomes)


@pytest.mark.long
@pytest.mark.parametrize(("target", "first"), _blocks())
def test_many_damaged_inputs(target: Target, first: int) -> None:
    outcomes = run(target, range(first, first + BLOCK))
    assert_both(outcomes)


def assert_both(outcomes: Counter[bool]) -> None:
    """Inputs of which all are refused, or none, would not have shown much."""
    assert outcomes[True] >= outcomes.total() // 250
    assert outcomes[False] >= outcomes.total() // 4


def test_the_long_form_has_a_million_cases() -> None:
    assert sum(target.long for target in TARGETS.values()) >= 1_000_000


def test_a_failure_says_how_to_see_it_again() -> None:
    def case(_: object) -> bool:
        raise KeyError("peer's word")

    with pytest.raises(Broken, match=r"python -m tests\.fuzz lost 7"):
        run(Target("lost", case), [7])


def test_what_takes_memory_or_never_ends_is_noticed() -> None:
    def greedy(_: object) -> bool:
        return len(bytearray(200 << 20)) > 0

    def greedier(_: object) -> bool:
        return len(bytearray(2 << 30)) > 0

    with pytest.raises(AssertionError, match="MiB more than before"):
        run(Target("greedy", greedy), [1])
    with pytest.raises(Broken, match="MemoryError"):
        run(Target("greedier", greedier), [1])
