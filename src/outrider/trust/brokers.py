"""Trust brokers: lists that are neither a file nor in DNS, but a program's word (ITP-3).

A broker is a plug-in: a package declares an entry point in the group `GROUP`, and ``source`` of a list of the
kind ``block-broker`` or ``vouch-broker`` names it. The entry point is called once for each list with the
list's ``options`` and gives a `Broker`::

    [project.entry-points."outrider.trust"]
    chamber = "chamber_of_commerce:make_broker"

A broker is asked like any list: with a time limit, at the same time as the others, and its answers are
remembered for as long as it says. One that fails or is slow counts as silent, and costs no mail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from outrider.trust.questions import Answer, Said
from outrider.trust.subjects import Subject

GROUP = "outrider.trust"
MAX_DETAIL = 200
MAX_TTL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class BrokerAnswer:
    """What a broker says of a subject."""

    known: bool
    """The subject is on its list: blocked, or vouched for."""
    detail: str = ""
    """For the operator, one line: why."""
    ttl_s: float = 60.0
    """How long that holds."""


class Broker(Protocol):
    """What an entry point gives."""

    async def ask(self, subject: Subject) -> BrokerAnswer:
        """What is known of the subject. Any exception counts as silence; the call may be cancelled."""
        ...


class BrokerFactory(Protocol):
    """What an entry point is."""

    def __call__(self, options: Mapping[str, object]) -> Broker:
        """A broker with the options of one list. Raises ValueError for options that mean nothing."""
        ...


def broker_said(answer: BrokerAnswer) -> tuple[Answer, float]:
    """The answer as every list gives it, and for how many seconds it holds. Its text is made one short line:
    a broker may pass on what others wrote."""
    detail = "".join(filter(str.isprintable, answer.detail))[:MAX_DETAIL]
    ttl_s = min(max(answer.ttl_s, 0.0), MAX_TTL_S)
    return Answer(Said.HIT if answer.known else Said.MISS, detail), ttl_s
