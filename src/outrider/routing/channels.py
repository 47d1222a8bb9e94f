"""Which protocols may carry mail to a destination, in which order, and what a server must prove (ITP-7,
AMTP-8).

The order is the operator's: `[delivery] protocols`, a route's, a partner's. What the destination publishes
decides whether a protocol comes into question at all; SMTP always does. QMTP has no place in the order: it is
announced host by host in MX preferences (MXPS) and belongs to the SMTP step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from outrider.config.schema import SendingProtocol, TlsLevel
from outrider.routing.partners import NameSet, OutboundTerms
from outrider.routing.tls_policy import TlsRequirement

NO_NAMES = NameSet(frozenset(), frozenset())

_STRENGTH: dict[TlsLevel, int] = {
    "none": 0,
    "opportunistic": 0,
    "encrypt": 1,
    "verify": 2,
    "fingerprint": 2,
    "dane": 2,
    "mta-sts": 2,
    "mutual": 3,
}
_PROOF = 2
"""From this strength on the server proves who it is."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The protocols for a destination whose servers are found by DNS."""

    protocols: tuple[SendingProtocol, ...] = ("amtp", "smtp")
    """The first whose servers the destination publishes is used."""
    falls_back: bool = True
    """The next may be used where no server of the one before can be reached; for no other reason."""
    partner: str = ""
    """The partner entry that says so, for words."""
    hosts: NameSet = NO_NAMES
    """The partner's servers."""

    @property
    def amtp_only(self) -> bool:
        """Mail waits rather than goes by another protocol."""
        return self.protocols == ("amtp",)

    @property
    def demanded_by(self) -> str:
        """Who wants it so, for people."""
        return f"partner {self.partner}" if self.partner else "the route"


ANY_CHANNEL = Channel()
SMTP_ONLY = Channel(("smtp",))


def channel_for(protocols: Sequence[SendingProtocol], fallback: Literal["smtp", "never"]) -> Channel:
    """From settings. Raises ValueError for an order that means nothing."""
    if not protocols or len(set(protocols)) != len(protocols):
        raise ValueError('protocols: each of "amtp" and "smtp" at most once, and one at least')
    return Channel(tuple(protocols), fallback == "smtp")


def under_terms(channel: Channel, terms: OutboundTerms) -> Channel:
    """The channel as a partner entry has it: its hosts and its word on falling back; amtp alone if it says
    so."""
    protocols: tuple[SendingProtocol, ...] = ("amtp",) if terms.channel == "amtp" else channel.protocols
    return replace(
        channel,
        protocols=protocols,
        falls_back=channel.falls_back and terms.fallback == "smtp",
        partner=terms.partner,
        hosts=terms.hosts,
    )


def tls_under_terms(tls: TlsRequirement, terms: OutboundTerms) -> TlsRequirement:
    """The stronger of what a route and a partner entry demand; the partner's CAs where it names some."""
    level = terms.tls_level
    if level is not None and _STRENGTH[level] > _STRENGTH[tls.level]:
        tls = replace(tls, level=level, fingerprints=())
    return replace(tls, authorities=terms.ca) if terms.ca else tls


def wants_proof(tls: TlsRequirement) -> bool:
    """Whether the server has to prove who it is."""
    return _STRENGTH[tls.level] >= _PROOF
