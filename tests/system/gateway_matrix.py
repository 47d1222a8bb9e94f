"""What becomes of a message that comes in by one protocol and goes out by another (ITP-6); the table of
docs/gateways.md is made of it, and `test_gateway_matrix.py` tries every row on running servers.

python -m tests.system.gateway_matrix
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.system.gateway_sites import PROTOCOLS


@dataclass(frozen=True, slots=True)
class Row:
    """One way through."""

    refused: str = ""
    """Why it is returned to its sender, as the report says; "" where it is carried."""
    source: str = ""
    """What it is refused by."""
    code: bool = True
    """Its Mail Policy Code arrives."""


AGAIN = "Mail from a public AMTP connection is not passed on over another"
FETCHED = "only mail of this facility's own outgoing gateways is held"

ROWS: dict[tuple[str, str], Row] = {(came, goes): Row() for came in PROTOCOLS for goes in PROTOCOLS}
for again in ("amtp", "amdp"):  # what is held is fetched over a public connection
    ROWS["amtp", again] = Row(refused=AGAIN, source="AMTP-18")
ROWS["amdp", "amdp"] = Row(refused=FETCHED, source="AMDP-2")


def table() -> str:
    """For the page."""
    head = "| in \\ out | " + " | ".join(one.upper() for one in PROTOCOLS) + " |"
    rows = [
        f"| {came.upper()} | " + " | ".join(_cell(ROWS[came, goes]) for goes in PROTOCOLS) + " |"
        for came in PROTOCOLS
    ]
    lines = [head, "|---" * (len(PROTOCOLS) + 1) + "|", *rows]
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    if row.refused:
        return f"refused: {row.refused} ({row.source})"
    return "every octet" + (", code" if row.code else ", no code")


if __name__ == "__main__":
    sys.stdout.write(table())
