"""JSON of classification services (docs/protocols/amdp.md section 9): bounded, typed, unknown members
ignored."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from outrider.holding.policies.host_documents import Signed

CLASS_PATH = "/.well-known/amdp-class"
REPORT_PATH = "/amdp/v1/class/report"
CLASS_KIND = "amdp-class+json"
REPORT_KIND = "amdp-class-report+json"
MOST_CLASSES = 64
"""Of one domain."""
MAX_ANSWER = 65_536
"""Octets: a signed answer with its certificates."""
MAX_REPORT = 262_144

_Class = Annotated[str, Meta(max_length=255)]


class ClassAnswer(Signed, frozen=True):
    """What the service vouches for, for everybody to check."""

    domain: Annotated[str, Meta(max_length=255)]
    classes: Annotated[tuple[_Class, ...], Meta(max_length=MOST_CLASSES)]
    """Patterns; none: it vouches for nothing."""
    expires: Annotated[int, Meta(ge=0, le=253_402_300_799)]


class ClassReport(Signed, frozen=True):
    """A lie about a class, with what is needed to check it."""

    domain: Annotated[str, Meta(max_length=255)]
    mail_class: _Class
    report: bytes
    """A report of abuse (RFC 5965), the whole message; base64 in JSON."""


class Taken(Struct, frozen=True):
    """The report is kept."""

    taken: bool
