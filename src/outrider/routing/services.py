"""From a domain's SRV records to the servers to try, in order (RFC 2782, AMTP-7, MT2-27).

Unlike MX, an SRV record names a port, and whoever runs the domain's DNS chooses it: the port is hearsay like
the rest, and only ports on which nobody else's service is expected are believed (SEC-162). Randomness comes
from the caller as a function giving [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from outrider.routing.mail_exchangers import MAX_EXCHANGERS, NoWay, Ourselves

Chance = Callable[[], float]

FIRST_FREE_PORT = 1024
"""Below it live services with a root's trust, of which none expects a mail client (SEC-162)."""


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record: a server of a service."""

    priority: int
    weight: int
    port: int
    target: str
    """Lower-case A-labels, without the final dot."""


def order_of(services: Iterable[Service], chance: Chance) -> tuple[Service, ...]:
    """Priorities ascending; within one, a weighted random order (RFC 2782, "Weight").

    Each place goes to a server with a probability in proportion to its weight among those left; those of
    weight zero have a very small chance beside others, as the RFC wants it.
    """
    ordered: list[Service] = []
    for _, group in groupby(sorted(services, key=lambda one: one.priority), lambda one: one.priority):
        # Zeros first, so that a drawn zero can choose them (RFC 2782); chance decides among equals.
        left = sorted(group, key=lambda one: (one.weight > 0, chance()))
        while left:
            ordered.append(left.pop(_drawn(left, chance)))
    return tuple(ordered)


def _drawn(left: Sequence[Service], chance: Chance) -> int:
    """The place of the first whose running sum reaches the number drawn from 0 to the sum, both included."""
    number = int(chance() * (sum(one.weight for one in left) + 1))
    running = 0
    for place, one in enumerate(left):
        running += one.weight
        if running >= number:
            return place
    return len(left) - 1


def believable_port(port: int, own: int) -> bool:
    """Whether a port from somebody's DNS may be connected to: ours for the service, or a free one."""
    return port == own or FIRST_FREE_PORT <= port <= 65_535


def candidates(
    domain: str,
    services: Iterable[Service],
    ourselves: Ourselves,
    chance: Chance,
    *,
    protocol: str,
    own_port: int,
) -> tuple[Service, ...] | NoWay:
    """The servers to try, cut to `MAX_EXCHANGERS`.

    As with MX (RFC 5321 5.1): if we are among them, we and all that are not better fall away; when nothing is
    left the mail would come back to us. Servers at ports that nobody should be sent to fall away too.
    """
    ordered = order_of(services, chance)
    own = [one.priority for one in ordered if one.target.lower() in ourselves.names]
    better = [one for one in ordered if one.priority < own[0]] if own else list(ordered)
    if own and not better:
        return loops_back(domain)
    usable = [one for one in better if believable_port(one.port, own_port)]
    if not usable:
        return NoWay(
            "4.4.4", f"the SRV records of {domain} for {protocol} name no port that may be connected to"
        )
    return tuple(usable[:MAX_EXCHANGERS])


def loops_back(domain: str) -> NoWay:
    """We are the best server of a domain that we do not serve."""
    return NoWay(
        "5.4.6",
        f"mail for {domain} loops back to this host: by its SRV records it is the best server "
        "for the domain, but it is not configured to take its mail",
    )
