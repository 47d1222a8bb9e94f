"""What the log says of mail that broke a partner's terms: to be seen before it is refused (ITP-8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outrider.runtime.partner_files import PartnerFileError

EVENT = "partner_terms_broken"
MAX_KINDS = 1000
"""Different breaches that are told apart: a flood of forgeries is counted, not listed."""


@dataclass(frozen=True, slots=True)
class BreachCount:
    """Breaches of one kind from one client."""

    reason: str
    client: str
    count: int
    last: str
    """When, as the log has it."""


def breaches_in(path: Path, partner: str) -> list[BreachCount]:
    """The breaches of a partner's terms in a log of JSON lines, the most frequent first.

    Raises PartnerFileError when the file cannot be read. Lines that are not ours are passed over.
    """
    found: dict[tuple[str, str], BreachCount] = {}
    for entry in _events(path, partner):
        key = str(entry.get("text", "")), str(entry.get("client", ""))
        if key not in found and len(found) >= MAX_KINDS:
            key = ("others", "many clients")
        before = found[key].count if key in found else 0
        found[key] = BreachCount(*key, before + 1, str(entry.get("time", "")))
    return sorted(found.values(), key=lambda one: -one.count)


def _events(path: Path, partner: str) -> Iterator[dict[str, object]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if EVENT not in line:
                    continue
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if (
                    isinstance(entry, dict)
                    and entry.get("event") == EVENT
                    and entry.get("partner") == partner
                ):
                    yield entry
    except OSError as error:
        raise PartnerFileError(f"{path}: {error.strerror}") from error
