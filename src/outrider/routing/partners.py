"""Partners: sites with which terms are agreed, and what those terms demand in both directions (ITP-7, ITP-8).

A remedy against forgery works only where it excludes the old way. So a partner's entry says the least that
mail *from* its domains must come by, and the least that mail *to* them must go by. What is said here is
decided from names alone; who has proven which name is `identity`'s to say, what becomes of a breach is
`reception`'s and `delivery`'s.

Names cover themselves; written with a leading dot, ``.bank.example``, they cover the domain and all below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from outrider.config.schema import (
    Config,
    InboundChannel,
    OutboundChannel,
    Partner,
    SendingProtocol,
    TlsLevel,
)
from outrider.model.address import AddressError, parse_domain

InboundMode = Literal["report", "refuse", "hold"]
Fallback = Literal["smtp", "never"]

_RANK: dict[InboundChannel, int] = {"any": 0, "tls": 1, "tls-mutual": 2, "amtp": 3, "mt2": 3}
_EXCLUSIVE: frozenset[InboundChannel] = frozenset({"amtp", "mt2"})
"""Either proves the host as well as the other, but who demands one by name gets no other."""
_HOST_PROVEN = 2
"""From this rank on a channel proves a host, and then it must be one of the partner's."""
_LEVELS: dict[OutboundChannel, TlsLevel | None] = {
    "any": None,
    "encrypt": "encrypt",
    "verify": "verify",
    "mutual": "mutual",
    "amtp": None,
    "mt2": None,
}
_ONLY: dict[OutboundChannel, SendingProtocol] = {"amtp": "amtp", "mt2": "mt2"}
_MODES: dict[InboundMode, int] = {"report": 0, "hold": 1, "refuse": 2}


class PartnerError(ValueError):
    """An entry that contradicts itself or another; the text begins with its key."""


@dataclass(frozen=True, slots=True)
class NameSet:
    """Names, and domains with all below them."""

    exact: frozenset[str]
    parents: frozenset[str]
    """Without their leading dot."""

    def covers(self, name: str) -> bool:
        """Whether the name (lower-case A-labels) is in the set."""
        if name in self.exact:
            return True
        return any(above in self.parents for above in _self_and_above(name)) if self.parents else False

    def __bool__(self) -> bool:
        return bool(self.exact or self.parents)


@dataclass(frozen=True, slots=True)
class OutboundTerms:
    """What mail to a partner's domain must go by, at the least."""

    partner: str
    channel: OutboundChannel
    fallback: Fallback | None
    """Whether another protocol (SMTP under `tls_level`) may stand in where the first cannot be reached
    (AMTP-8); None = as [amtp] and [mt2] say."""
    tls_level: TlsLevel | None
    """What SMTP needs, if it may be used; None = what would hold without this entry."""
    hosts: NameSet
    """Its servers: an SRV target among them needs no DNSSEC to count (AMTP-5); empty = none are named."""
    ca: tuple[str, ...]
    """PEM files of the CAs that may vouch for its hosts; () = any configured CA."""

    @property
    def only(self) -> SendingProtocol | None:
        """The one protocol by which mail goes, or waits; None where there is a choice."""
        return _ONLY.get(self.channel)


@dataclass(frozen=True, slots=True)
class PartnerEntry:
    """One partner's terms, checked."""

    name: str
    sender_domains: NameSet
    hosts: NameSet
    ca: tuple[str, ...]
    inbound: InboundChannel
    mode: InboundMode
    outbound: OutboundTerms
    contact: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """How a message came: the channel, and the names that its client has proven by certificate."""

    channel: InboundChannel
    hosts: tuple[str, ...] = ()
    """Lower-case A-labels; claimed names (HELO) never stand here. Where the entry names CAs, only a name
    that one of *them* vouches for (see `PartnerTable.by_host`)."""


@dataclass(frozen=True, slots=True)
class Breach:
    """Mail that came by less than agreed, or from a partner's host for somebody else."""

    partner: str
    domain: str
    """The sender domain in question."""
    mode: InboundMode
    reason: str
    """One sentence, the same in reply, log and explain."""


class PartnerTable:
    """All partner entries of a configuration; immutable, exchanged as a whole by a reload."""

    def __init__(self, config: Config) -> None:
        """Raises PartnerError naming the key."""
        self.entries: tuple[PartnerEntry, ...] = tuple(
            _entry(name, partner) for name, partner in config.partners.items()
        )
        self._by_domain: dict[str, PartnerEntry] = {}
        self._by_parent: dict[str, PartnerEntry] = {}
        self._by_host: dict[str, list[PartnerEntry]] = {}
        """By exact name, and by parent with its leading dot."""
        for entry in self.entries:
            self._claim(entry)
            for name in (*entry.hosts.exact, *(f".{parent}" for parent in entry.hosts.parents)):
                self._by_host.setdefault(name, []).append(entry)
        self._refuse_own_domains(config)

    def _claim(self, entry: PartnerEntry) -> None:
        """A domain has one partner: which terms hold must not depend on the order of files."""
        for names, table in (
            (entry.sender_domains.exact, self._by_domain),
            (entry.sender_domains.parents, self._by_parent),
        ):
            for name in sorted(names):
                other = table.setdefault(name, entry)
                if other is not entry:
                    where = f'partners."{entry.name}".sender_domains'
                    raise PartnerError(f'{where}: {name} is already with partner "{other.name}"')

    def _refuse_own_domains(self, config: Config) -> None:
        for domain in config.domains:
            entry = self.by_sender_domain(_name("domains", domain))
            if entry is not None and entry.inbound != "any":
                where = f'partners."{entry.name}".sender_domains'
                raise PartnerError(f"{where}: {domain} is our own; its users here could not send any more")

    def by_sender_domain(self, domain: str) -> PartnerEntry | None:
        """Whose domain this is: the exact name first, then the nearest ``.parent`` above."""
        found = self._by_domain.get(domain)
        if found is not None or not self._by_parent:
            return found
        return next(
            (self._by_parent[above] for above in _self_and_above(domain) if above in self._by_parent), None
        )

    def by_host(self, name: str) -> tuple[PartnerEntry, ...]:
        """Whose host this is; several partners may send by one provider's hosts.

        The name counts for an entry with `ca` only if one of those CAs vouches for it: the caller proves it
        against each candidate's own set.
        """
        keys = (name, *(f".{above}" for above in _self_and_above(name)))
        return tuple(dict.fromkeys(entry for key in keys for entry in self._by_host.get(key, ())))

    def inbound_demand(self, domain: str) -> tuple[InboundChannel, InboundMode]:
        """The least that mail from this domain must come by, and what becomes of mail that came by less."""
        entry = self.by_sender_domain(domain)
        return (entry.inbound, entry.mode) if entry is not None else ("any", "report")

    def outbound_for(self, domain: str) -> OutboundTerms | None:
        """The terms for mail to this domain; None where none are agreed."""
        entry = self.by_sender_domain(domain)
        return entry.outbound if entry is not None else None

    def breaches(self, sender_domains: Iterable[str], arrived: Arrived) -> tuple[Breach, ...]:
        """What is wrong with mail of these sender domains (MAIL FROM, From) that came so (ITP-8).

        The gravest first. A null sender has no domain and breaks nothing.
        """
        domains = tuple(dict.fromkeys(domain for domain in sender_domains if domain))
        found = [breach for domain in domains if (breach := self._forged(domain, arrived))]
        if not found and arrived.hosts:
            found = [breach for domain in domains if (breach := self._foreign(domain, arrived))]
        return tuple(sorted(found, key=lambda breach: -_MODES[breach.mode]))

    def _forged(self, domain: str, arrived: Arrived) -> Breach | None:
        entry = self.by_sender_domain(domain)
        if entry is None:
            return None
        if not meets(arrived.channel, entry.inbound):
            reason = f"mail from {domain} must come by {entry.inbound}, this came by {_came_by(arrived)}"
            return Breach(entry.name, domain, entry.mode, reason)
        if _RANK[entry.inbound] >= _HOST_PROVEN and not any(map(entry.hosts.covers, arrived.hosts)):
            reason = f"mail from {domain} must come from a host of {entry.name}, this did not"
            return Breach(entry.name, domain, entry.mode, reason)
        return None

    def _foreign(self, domain: str, arrived: Arrived) -> Breach | None:
        """A proven partner host may use only the sender domains of its entry (or entries)."""
        owners = [entry for name in arrived.hosts for entry in self.by_host(name)]
        if not owners or any(entry.sender_domains.covers(domain) for entry in owners):
            return None
        gravest = max(owners, key=lambda entry: _MODES[entry.mode])
        reason = f"hosts of {gravest.name} may not send for {domain}"
        return Breach(gravest.name, domain, gravest.mode, reason)


def meets(channel: InboundChannel, demanded: InboundChannel) -> bool:
    """Whether mail that came by `channel` satisfies the demand.

    any < tls < tls-mutual < amtp, mt2: each proves all that those before it prove, encryption first, then the
    client's name. amtp and mt2 both prove the host under the protocol's own rules; neither stands in for the
    other when one is demanded by name.
    """
    if demanded in _EXCLUSIVE:
        return channel == demanded
    return _RANK[channel] >= _RANK[demanded]


def channel_of(protocol: str, *, encrypted: bool, host_proven: bool) -> InboundChannel:
    """The channel of a session: its protocol, whether TLS is on, whether a CA vouched for the client's name.

    An AMTP session whose host is not proven has not got as far as MAIL; it counts as TLS.
    """
    if not encrypted:
        return "any"
    if not host_proven:
        return "tls"
    if protocol == "amtp":
        return "amtp"
    return "mt2" if protocol == "mt2" else "tls-mutual"


def _came_by(arrived: Arrived) -> str:
    return "plain SMTP" if arrived.channel == "any" else arrived.channel


def _entry(name: str, partner: Partner) -> PartnerEntry:
    where = f'partners."{name}"'
    domains = _names(f"{where}.sender_domains", partner.sender_domains)
    hosts = _names(f"{where}.hosts", partner.hosts)
    if not domains:
        raise PartnerError(f"{where}: `sender_domains` is missing; add the domains that its mail is from")
    if _RANK[partner.inbound] >= _HOST_PROVEN and not hosts:
        raise PartnerError(f'{where}.hosts: inbound = "{partner.inbound}" needs the names of its hosts')
    if partner.outbound in _ONLY and partner.fallback == "smtp":
        text = f'"smtp" is less than outbound = "{partner.outbound}"; leave one of them out'
        raise PartnerError(f"{where}.fallback: {text}")
    fallback: Fallback | None = "never" if partner.outbound in _ONLY else partner.fallback
    terms = OutboundTerms(name, partner.outbound, fallback, _LEVELS[partner.outbound], hosts, partner.ca)
    mode = partner.inbound_mode
    return PartnerEntry(name, domains, hosts, partner.ca, partner.inbound, mode, terms, partner.contact)


def _names(where: str, texts: tuple[str, ...]) -> NameSet:
    exact = frozenset(_name(where, text) for text in texts if not text.startswith("."))
    parents = frozenset(_name(where, text[1:]) for text in texts if text.startswith("."))
    return NameSet(exact, parents)


def _name(where: str, text: str) -> str:
    try:
        return parse_domain(text)
    except AddressError as error:
        raise PartnerError(f"{where}: {text!r} is no domain: {error}") from error


def _self_and_above(name: str) -> Iterable[str]:
    """bank.example, example; an address literal is only itself."""
    while name:
        yield name
        name = "" if name.startswith("[") else name.partition(".")[2]
