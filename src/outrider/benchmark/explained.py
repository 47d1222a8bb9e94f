"""Nothing is switched off for speed: what `outrider explain` must know of any message of a measured run."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RULE = "mail that is measured"
"""The policy rule that lets the load in."""
POLICY = f"""
[[policy.rules]]
name = "{RULE}"
action = "accept"
stage = "sender"
when = {{ "client.address" = ["127.0.0.0/8"] }}
"""
FACTS = frozenset({"client.address", "client.name", "sender"})
FINAL_EVENTS = frozenset({"delivered", "relayed", "discarded"})


class NotExplained(Exception):
    """Something that is always recorded is not there; the argument says what."""


def random_message(log: Path, seed: int | None = None, patience_s: float = 5.0) -> str:
    """The id of a message that the server with this log has received. Raises NotExplained without any.

    The log is written behind the mail, so the first lines may take a moment.
    """
    limit = time.monotonic() + patience_s
    while not (ids := _received(log)):
        if time.monotonic() > limit:
            raise NotExplained(f"{log} tells of no message received")
        time.sleep(0.05)
    return random.Random(seed).choice(ids)  # noqa: S311 - any will do


def _received(log: Path) -> list[str]:
    ids = []
    with log.open("rb") as lines:
        for line in lines:
            if b'"received"' in line:
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if entry.get("event") == "received":
                        ids.append(str(entry["id"]))
    return ids


def check(row: Mapping[str, Any]) -> str:
    """One line on what `explain` knows of a message that has left. Raises NotExplained."""
    facts = {str(fact["name"]) for fact in row["facts"]}
    if missing := FACTS - facts:
        raise NotExplained(f"message {row['id']} has no fact {', '.join(sorted(missing))}")
    events = row["events"]
    texts = " ".join(str(event["text"]) for event in events)
    if RULE not in texts:
        raise NotExplained(f"message {row['id']} has no event of the rule {RULE!r}")
    kinds = {str(event["kind"]) for event in events}
    if "received" not in kinds:
        raise NotExplained(f"message {row['id']} has no event of its arrival")
    if not kinds & FINAL_EVENTS:
        raise NotExplained(f"message {row['id']} has no event of its delivery")
    return f"explain {row['id']}: {len(facts)} facts, the rule, {len(events)} events"
