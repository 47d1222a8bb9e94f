"""What settings are made of: numbers with their bounds, and tables that refuse unknown keys."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

# The title is the unit, as the configuration reference tells it.
Seconds = Annotated[float, Meta(ge=0, title="seconds")]
Octets = Annotated[int, Meta(ge=0, title="octets")]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=1, le=65535, title="port")]
Percent = Annotated[int, Meta(ge=0, le=100, title="percent")]


class Section(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file: unknown keys are refused."""
