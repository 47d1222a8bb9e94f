"""Which protocols may carry mail to a destination, in which order, and what a server must prove (ITP-7,
AMTP-8, MT2-27).

The order is the operator's: `[delivery] protocols`, a route's, a partner's. What the destination publishes
decides whether a protocol comes into question at all; SMTP always does. QMTP has no place in the order: it is
announced host by host in MX preferences (MXPS) and belongs to the SMTP step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from outrider.config.schema import Amtp, Mt2, SendingProtocol, TlsLevel
from outrider.routing.partners import Fallback, NameSet, OutboundTerms
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

    protocols: tuple[SendingProtocol, ...] = ("mt2", "amtp", "smtp")
    """The first whose servers the destination publishes is used."""
    stays: frozenset[SendingProtocol] = frozenset()
    """Protocols after which none follows. After the others the next may be used where no server of the one
    before can be reached; for no other reason."""
    partner: str = ""
    """The partner entry that says so, for words."""
    hosts: NameSet = NO_NAMES
    """The partner's servers."""

    @property
    def is_strict(self) -> bool:
        """Mail waits rather than goes by SMTP."""
        return "smtp" not in self.protocols

    @property
    def demanded_by(self) -> str:
        """Who wants it so, for people."""
        return f"partner {self.partner}" if self.partner else "the route"

    def without(self, protocols: Iterable[SendingProtocol]) -> Channel:
        """The channel for mail that cannot go by these."""
        left = tuple(one for one in self.protocols if one not in frozenset(protocols))
        return self if left == self.protocols else replace(self, protocols=left)


ANY_CHANNEL = Channel()
SMTP_ONLY = Channel(("smtp",))


def channel_for(protocols: Sequence[SendingProtocol], stays: Iterable[SendingProtocol] = ()) -> Channel:
    """From settings. Raises ValueError for an order that means nothing."""
    if not protocols or len(set(protocols)) != len(protocols):
        raise ValueError('protocols: each of "mt2", "amtp" and "smtp" at most once, and one at least')
    return Channel(tuple(protocols), frozenset(stays) & frozenset(protocols))


def staying(
    protocols: Sequence[SendingProtocol], own_word: Fallback | None, amtp: Amtp, mt2: Mt2
) -> frozenset[SendingProtocol]:
    """After which of the protocols none follows: by a route's own word, else by [amtp] and [mt2] fallback."""
    if own_word is not None:
        return frozenset(protocols) if own_word == "never" else frozenset()
    words: dict[SendingProtocol, Fallback] = {"amtp": amtp.fallback, "mt2": mt2.fallback}
    return frozenset(one for one in protocols if words.get(one) == "never")


def under_terms(channel: Channel, terms: OutboundTerms) -> Channel:
    """The channel as a partner entry has it: its hosts and its word on falling back; amtp or mt2 alone if it
    says so."""
    protocols = channel.protocols if terms.only is None else (terms.only,)
    stays = frozenset(protocols) if terms.fallback == "never" else channel.stays & frozenset(protocols)
    return replace(channel, protocols=protocols, stays=stays, partner=terms.partner, hosts=terms.hosts)


def tls_under_terms(tls: TlsRequirement, terms: OutboundTerms) -> TlsRequirement:
    """The stronger of what a route and a partner entry demand; the partner's CAs where it names some."""
    level = terms.tls_level
    if level is not None and _STRENGTH[level] > _STRENGTH[tls.level]:
        tls = replace(tls, level=level, fingerprints=())
    return replace(tls, authorities=terms.ca) if terms.ca else tls


def wants_proof(tls: TlsRequirement) -> bool:
    """Whether the server has to prove who it is."""
    return _STRENGTH[tls.level] >= _PROOF
