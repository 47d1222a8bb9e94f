"""A plan: the hosts to try for one message, and what may come after them."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.config.schema import SendingProtocol
from outrider.delivery.interface import Hop
from outrider.delivery.results import deferred, failed
from outrider.model.result import DeliveryResult
from outrider.routing.mail_exchangers import NoWay


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A protocol that comes before the one used, and why it was not (ITP-7: every fallback is told)."""

    protocol: str
    used: str
    """The protocol used instead."""
    why: str
    """One word for counting: ``dns``, ``unreachable``."""
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The hops to try in order, or, when there are none, what is to be recorded."""

    hops: tuple[Hop, ...]
    result: DeliveryResult | None = None
    unreachable: bool = False
    """The look-up failed for now: counts against the way as a whole, like a host that does not answer."""
    then: tuple[SendingProtocol, ...] = ()
    """Protocols that may follow if none of the hops can be reached."""
    passed_over: tuple[PassedOver, ...] = ()
    protocol: str = ""
    """What the hops speak, or would if there were any; "" where it did not come to a choice."""


def waits(status: str, text: str, *, unreachable: bool = False) -> Plan:
    """Nothing to try now."""
    return Plan((), deferred(status, text), unreachable)


def hopeless(status: str, text: str) -> Plan:
    """Nothing to try ever."""
    return Plan((), failed(status, text))


def no_way(answer: NoWay) -> Plan:
    """What the domain's records leave: nothing."""
    return hopeless(answer.status, answer.text)
