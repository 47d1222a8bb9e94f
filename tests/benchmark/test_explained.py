"""What `explain` must know of a measured message, and what is said when it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.benchmark.explained import RULE, NotExplained, check, random_message

FACTS = [{"name": name} for name in ("client.address", "client.name", "sender", "recipients")]
EVENTS = [
    {"kind": "rule", "text": f"accept: {RULE}"},
    {"kind": "received", "text": "from client"},
    {"kind": "delivered", "text": "250"},
]


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "1M", "facts": FACTS, "events": EVENTS, **changes}


def test_a_message_that_is_known_is_summed_up() -> None:
    assert check(row()) == "explain 1M: 4 facts, the rule, 3 events"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"facts": FACTS[1:]}, "no fact client.address"),
        ({"events": EVENTS[1:]}, "no event of the rule"),
        ({"events": [EVENTS[0], EVENTS[2]]}, "no event of its arrival"),
        ({"events": EVENTS[:2]}, "no event of its delivery"),
    ],
)
def test_whatever_was_switched_off_is_missed(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(NotExplained, match=what):
        check(row(**changes))


def test_a_message_is_drawn_from_those_received(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [{"event": "ready"}, *({"event": "received", "id": f"1M{number}"} for number in range(20))]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event":"received"')
    assert {random_message(log, seed) for seed in range(200)} == {f"1M{number}" for number in range(20)}


def test_a_log_without_messages_is_no_proof(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"event": "ready"}\n')
    with pytest.raises(NotExplained):
        random_message(log, patience_s=0)
