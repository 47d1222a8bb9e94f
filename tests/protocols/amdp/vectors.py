"""The conformance vectors of tests/vectors/amdp; their form is told in docs/protocols/amdp.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent.parent.parent / "vectors" / "amdp"


def vectors(name: str) -> Any:
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes())
