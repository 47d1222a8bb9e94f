"""Which TLS a way asks for (TLS-4a): explicit, per destination, and never weakened by a detour.

Where the other policies stand: `dane` and `mta-sts` (TLS-4b) are levels like the rest; what they demand is
found out when the hop is dialled, because it depends on records of the host and domain at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from outrider.config.schema import Delivery, Route, TlsLevel

CLEAR_LEVELS: tuple[TlsLevel, ...] = ("none", "opportunistic")


@dataclass(frozen=True, slots=True)
class TlsRequirement:
    """The TLS policy for one hop (TLS-4a)."""

    level: TlsLevel = "opportunistic"
    name: str = ""
    """To be found in the server's certificate; "" = the host's name."""
    fingerprints: tuple[str, ...] = ()
    certificate: str = ""
    """PEM path of a client certificate; "" = the server's own."""
    key: str = ""
    authorities: tuple[str, ...] = ()
    """PEM files of the CAs that may vouch for the server; () = any that are configured."""

    @property
    def required(self) -> bool:
        """Whether mail waits rather than goes in the clear."""
        return self.level not in CLEAR_LEVELS


OPPORTUNISTIC = TlsRequirement()
"""TLS where the host offers it, believed about nothing (RFC 7435)."""

NO_TLS = TlsRequirement("none")


def default_requirement(delivery: Delivery) -> TlsRequirement:
    """What holds for destinations without an entry of their own."""
    return TlsRequirement(delivery.tls)


def route_requirement(route: Route, delivery: Delivery) -> TlsRequirement:
    """What a table under [routes] asks for; a login is only ever sent under TLS, so it raises the floor.

    Raises ValueError when the table contradicts itself.
    """
    level = route.tls or delivery.tls
    if level == "fingerprint" and not route.fingerprints:
        raise ValueError('tls = "fingerprint" needs fingerprints')
    if route.fingerprints and level != "fingerprint":
        raise ValueError('fingerprints count only with tls = "fingerprint"')
    if bool(route.certificate) != bool(route.key):
        raise ValueError("certificate and key go together")
    if route.username and route.tls == "none":
        raise ValueError('a login is sent only under TLS, but tls = "none"')
    if route.username and level in CLEAR_LEVELS:
        level = "encrypt"
    return TlsRequirement(level, route.tls_name, route.fingerprints, route.certificate, route.key)


def for_detour(override: TlsRequirement, demanded: TlsRequirement) -> TlsRequirement:
    """What holds when a recipient is sent another way than the destination's own.

    What the operator explicitly demands for a destination goes with the mail (ITP-7: never a silent
    downgrade), unless the detour itself demands TLS, by its own entry.
    """
    if demanded.required and not override.required:
        return replace(demanded, certificate=override.certificate or demanded.certificate)
    return override
