"""Everything that is fuzzed here."""

from __future__ import annotations

from tests.fuzz import lines, objects, papers, signatures, web
from tests.fuzz.running import Target

TARGETS: dict[str, Target] = {
    one.name: one
    for one in (*objects.TARGETS, *signatures.TARGETS, *papers.TARGETS, *lines.TARGETS, *web.TARGETS)
}
