"""The conformance vectors hold for our own core, fed whole and octet by octet (docs/protocols/mt2.md)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.protocols.mt2.vectors import Runner, cases

CASES = [pytest.param(case, id=case["name"], marks=pytest.mark.covers(*case["covers"])) for case in cases()]


@pytest.mark.parametrize("case", CASES)
def test_vector(case: dict[str, Any]) -> None:
    runner = Runner(case)
    if case["side"] == "server" and "written" not in case["steps"][0]:
        runner.peer.bytes_to_send()  # the greeting
    for step in case["steps"]:
        runner.step(step)
    assert not runner.written()
    assert runner.peer.next_event() is None


@pytest.mark.parametrize("case", CASES)
def test_vector_octet_by_octet(case: dict[str, Any]) -> None:
    """What is written is the same, however the octets arrive."""
    runner = Runner(case)
    if case["side"] == "server" and "written" not in case["steps"][0]:
        runner.peer.bytes_to_send()
    written: list[str] = []
    for step in case["steps"]:
        if "receive" in step or "receive_hex" in step:
            octets = step["receive"].encode() if "receive" in step else bytes.fromhex(step["receive_hex"])
            for octet in octets:
                runner.peer.receive(bytes([octet]), runner.now)
            written += runner.written()
        elif "written" in step:
            written += runner.written()
            assert written == step["written"]
            written = []
        elif "events" not in step:
            runner.step(step)


def test_names_tell_cases_apart() -> None:
    names = Counter(case["name"] for case in cases())
    assert len(names) > 100
    assert [name for name, times in names.items() if times > 1] == []
