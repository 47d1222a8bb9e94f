"""What was found when something was looked at before it is believed: one line each, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum


class Level(Enum):
    """What a finding means for accepting."""

    OK = "ok"
    ASK = "ask"
    """Only people can tell."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    """A few words of a closed list: signature, dates, hosts, sender domains, CA set, sequence."""
    text: str


def is_acceptable(findings: Sequence[Finding]) -> bool:
    """Whether nothing forbids to accept."""
    return all(finding.level is not Level.REFUSE for finding in findings)


def day(seconds: float) -> str:
    """A moment as people compare them: 2026-11-22, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
