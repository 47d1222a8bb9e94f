"""Envelopes of AMDP as load: all alike but for the id, which no two share."""

from __future__ import annotations

from collections.abc import Callable

from outrider.benchmark.plan import Plan
from outrider.model.address import Domain, parse_address
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.envelope import HeldEnvelope, write_envelope
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.mail_class import parse_class

KEPT_S = 7 * 86_400
CLASS = "Agent::Bulk::newsletter"
"""What a gateway leaves to its readers unless it is told otherwise."""
_ID = identifier(bytes(OCTETS))


def envelopes(plan: Plan, now: float, chance: Callable[[int], bytes]) -> Callable[[], bytes]:
    """Gives one after the other, each with the dot that ends it; `chance` gives random octets."""
    written = _written(plan, now)
    placeholder = _ID.encode("ascii")
    return lambda: written.replace(placeholder, identifier(chance(OCTETS)).encode("ascii"))


def envelope_size(plan: Plan, now: float) -> int:
    """Octets of such an envelope."""
    return len(_written(plan, now)) - len(b".\r\n")


def _written(plan: Plan, now: float) -> bytes:
    name, _, port = plan.holder.partition(":")
    held = HeldEnvelope(
        sender=parse_address(plan.sender),
        recipient=parse_address(plan.recipient),
        id=_ID,
        digest=digest_of([b"Subject: load\r\n\r\n"]),
        mail_class=parse_class(CLASS),
        date=int(now),
        timestamp=int(now),
        expires=int(now) + KEPT_S,
        holder=Domain(name),
        port=int(port),
        subject="load",
    )
    return write_envelope(held, message_id=f"{_ID}@{held.domain}") + b".\r\n"
