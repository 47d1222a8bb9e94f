"""Which way leads to a destination: the operator's routes, local domains, literals, DNS (SMTP-7, ITP-7).

For a recipient with a route of its own (a policy rule's or `queue reroute`), that is the way; then comes the
route of the address itself (MT2-27). Otherwise the domain is looked up: exact route, local domain, longest
`.parent` route, `*`, then by what the domain is. A `*` or `.parent` route never takes mail away from a local
domain; an exact one does.

What a partner entry demands for its domains holds whatever way is found: it makes TLS stricter, and a way
that cannot meet it is not gone. Where it demands AMTP or MT2, mail goes to the partner's own servers past a
`*` or `.parent` route that speaks something else; an exact route that does is a contradiction, and refused at
start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeGuard

from outrider.config.schema import Config, Route, SendingProtocol
from outrider.extensions.oids import is_oid
from outrider.model.address import Address, AddressError, literal_address, parse_address, parse_domain
from outrider.model.envelope import Arrival, Recipient
from outrider.routing.channels import Channel, channel_for, staying, tls_under_terms, under_terms
from outrider.routing.list_addresses import list_address
from outrider.routing.partners import Fallback, OutboundTerms, PartnerTable
from outrider.routing.tls_policy import TlsRequirement, default_requirement, for_detour, route_requirement
from outrider.routing.ways import (
    AMDP_TRANSPORTS,
    ErrorWay,
    HostOptions,
    HostWay,
    LocalWay,
    MxWay,
    Way,
    is_private,
    parse_way,
)

LIST_WAY = LocalWay("list", "")
"""To the mailing list whose address it is."""
AMDP_CONCURRENCY = 200
"""Attempts of AMDP at once: they wait for others' answers, which are asked for by the hundred (AMDP-9)."""
MAX_FOUND = 10_000
"""Domains whose way is remembered."""


class RouteError(ValueError):
    """A setting that means no way; the text begins with its key."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A way and its limits.

    `lane` is what shares concurrency, rate, pause and back-off: one named host for all domains that go
    through it, else the domain. It is also what an item's `destination` should be in the spool, so that
    the recipients of one message by one host are one item.
    """

    way: Way
    lane: str
    concurrency: int
    rate: float = 0.0
    """Messages a second; 0 = no limit."""


@dataclass(frozen=True, slots=True)
class _Entry:
    way: Way
    tls: TlsRequirement
    concurrency: int
    rate: float


class RouteTable:
    """All routes of a configuration, checked; immutable, exchanged as a whole by a reload."""

    def __init__(self, config: Config, partners: PartnerTable | None = None) -> None:
        """Raises RouteError or PartnerError naming the key. `partners` where they have been read already."""
        self._delivery = config.delivery
        self._amtp, self._mt2 = config.amtp, config.mt2
        self._partners = partners or PartnerTable(config)
        self._default_tls = default_requirement(config.delivery)
        self._defaults = self._default_options()
        self._addresses: dict[tuple[str, str], _Entry] = {}
        self._exact: dict[str, _Entry] = {}
        self._parents: dict[str, _Entry] = {}
        self._smart: _Entry | None = None
        self._hosts: dict[str, _Entry] = {}
        """Hosts by the text of their way: a detour to one of them has its login, TLS terms and limits."""
        self._smtp_port = config.net.smtp_port
        self._local: dict[str, _Entry] = {}
        self._found: dict[str, Routed] = {}
        """Answers already given, by domain; emptied when they are many."""
        self._detours: dict[tuple[str, str], Routed] = {}
        """The same for a recipient's own route and his domain."""
        for key, route in config.routes.items():
            self._add(key, route)
        self._lists: dict[str, frozenset[str]] = {}
        for name, domain in config.domains.items():
            if domain.lists:
                self._lists[_domain_key(f'domains."{name}"', name)] = frozenset(domain.lists)
            if domain.deliver is not None:
                where = f'domains."{name}".deliver'
                self._local[_domain_key(where, name)] = self._entry(where, domain.deliver)
        self._by_extension = {
            oid: self._extension_route(oid, route) for oid, route in config.mt2.extension_routes.items()
        }
        self._check_terms()

    def _default_options(self) -> HostOptions:
        try:
            channel = self._channel(self._delivery.protocols)
        except ValueError as error:
            raise RouteError(f"delivery.{error}") from error
        return HostOptions(
            self._default_tls, channel=channel, amtp_port=self._amtp.port, mt2_port=self._mt2.port
        )

    def _channel(self, protocols: tuple[SendingProtocol, ...], own_word: Fallback | None = None) -> Channel:
        return channel_for(protocols, staying(protocols, own_word, self._amtp, self._mt2))

    def _check_terms(self) -> None:
        """An exact route that a partner entry makes useless is a mistake to be found now."""
        by_address = [(f"{local}@{domain}", domain, one) for (local, domain), one in self._addresses.items()]
        by_domain = [(domain, domain, one) for domain, one in self._exact.items()]
        for key, domain, entry in (*by_address, *by_domain):
            terms = self._partners.outbound_for(domain)
            if terms is not None and not _may_meet(entry.way, terms):
                raise RouteError(
                    f'routes."{key}": {entry.way} cannot be {terms.channel}, '
                    f"which partner {terms.partner} demands (its `outbound`)"
                )

    def _extension_route(self, oid: str, route: str) -> str:
        where = f'mt2.extension_routes."{oid}"'
        if not is_oid(oid):
            raise RouteError(f"{where}: {oid!r} is no object identifier, such as 2.25.1.2")
        entry = self._entry(where, route)
        if isinstance(entry.way, HostWay):
            self._hosts.setdefault(str(entry.way), entry)
        return route

    def _add(self, key: str, route: str | Route) -> None:
        where = f'routes."{key}"'
        entry = self._entry(where, route)
        if isinstance(entry.way, HostWay):
            self._hosts.setdefault(str(entry.way), entry)
        if key == "*":
            self._smart = entry
        elif "@" in key:
            self._addresses[_address_key(where, key)] = entry
        elif key.startswith("."):
            self._parents[_domain_key(where, key[1:])] = entry
        else:
            self._exact[_domain_key(where, key)] = entry

    def _entry(self, where: str, route: str | Route) -> _Entry:
        try:
            if isinstance(route, str):
                way = parse_way(route, self._defaults)
                return _Entry(way, self._default_tls, self._delivery.concurrency, 0.0)
            tls = route_requirement(route, self._delivery)
            way = parse_way(route.to, self._options(route, tls))
        except ValueError as error:
            raise RouteError(f"{where}: {error}") from error
        return _Entry(way, tls, route.concurrency or self._delivery.concurrency, route.rate)

    def _options(self, route: Route, tls: TlsRequirement) -> HostOptions:
        if (route.protocols is not None or route.fallback is not None) and route.to != "mx":
            raise ValueError('protocols and fallback are for to = "mx"; other ways name their protocol')
        protocols = self._delivery.protocols if route.protocols is None else route.protocols
        channel = self._channel(protocols, route.fallback)
        ports = (self._amtp.port, self._mt2.port)
        return HostOptions(tls, route.username, route.password_file, channel, *ports)

    def find(self, recipient: Recipient) -> Routed:
        """The way for one recipient. Never raises: mail whose stored route is unreadable waits."""
        domain = recipient.address.domain
        if recipient.route:
            return self._remembered_detour(recipient.route, domain)
        if domain in self._lists and list_address(recipient.address.local, self._lists[domain]) is not None:
            return Routed(LIST_WAY, domain, self._delivery.concurrency)
        if self._addresses and (entry := self._addresses.get(recipient.address.key)) is not None:
            terms = self._partners.outbound_for(domain)
            return _routed(entry if terms is None else _on_terms(entry, terms), domain)
        routed = self._found.get(domain)
        if routed is None:
            routed = self._by_domain(domain)
            if len(self._found) >= MAX_FOUND:
                self._found.clear()
            self._found[domain] = routed
        return routed

    def extension_route(self, oids: Iterable[str]) -> str:
        """The route, for `Recipient.route`, of a message with these delivery extensions (MT2-27); "" where
        none of them leads anywhere else. The first that does counts."""
        return next((self._by_extension[oid] for oid in oids if oid in self._by_extension), "")

    def may_leave(self, recipient: Recipient, arrival: Arrival) -> bool:
        """Whether mail that came so may go the recipient's way (AMTP-18): what came over a public AMTP
        connection goes only to this machine or to a host that the operator has named. What only DNS knows
        counts as public."""
        return arrival is not Arrival.AMTP_PUBLIC or is_private(self.find(recipient).way)

    def is_local(self, domain: str) -> bool:
        """Whether the domain's mail ends in a mailbox here."""
        return domain in self._local

    def _by_domain(self, domain: str) -> Routed:
        entry = self._lookup(domain)
        terms = self._partners.outbound_for(domain)
        if terms is not None and domain not in self._exact and domain not in self._local:
            if entry is None or not _may_meet(entry.way, terms):
                # A partner's word on falling back goes before the general one, and after a route's.
                channel = self._defaults.channel
                entry = self._by_dns(
                    domain, channel if terms.fallback is None else replace(channel, stays=frozenset())
                )
            return _routed(_on_terms(entry, terms), domain)
        if terms is not None and entry is not None:
            entry = _on_terms(entry, terms)
        return _routed(entry or self._by_dns(domain, self._defaults.channel), domain)

    def _lookup(self, domain: str) -> _Entry | None:
        return self._exact.get(domain) or self._local.get(domain) or self._parent_of(domain) or self._smart

    def _parent_of(self, domain: str) -> _Entry | None:
        while not domain.startswith("[") and "." in domain:
            domain = domain.partition(".")[2]
            if domain in self._parents:
                return self._parents[domain]
        return None

    def _by_dns(self, domain: str, channel: Channel) -> _Entry:
        literal = literal_address(domain)
        way: Way
        if literal is None:
            way = MxWay(self._default_tls, channel)
        else:
            host = str(literal)
            way = HostWay(
                "smtp", host, self._smtp_port, literal, tls=self._default_tls, chosen_by_operator=False
            )
        return _Entry(way, self._default_tls, self._delivery.concurrency, 0.0)

    def _remembered_detour(self, route: str, domain: str) -> Routed:
        routed = self._detours.get((route, domain))
        if routed is None:
            routed = self._detour(route, domain)
            if len(self._detours) >= MAX_FOUND:
                self._detours.clear()
            self._detours[route, domain] = routed
        return routed

    def _detour(self, route: str, domain: str) -> Routed:
        try:
            way = parse_way(route, self._defaults)
        except ValueError as error:
            text = f"the route {route!r} of this recipient cannot be used: {error}"
            return Routed(ErrorWay("4.3.5", text), route, self._delivery.concurrency)
        entry = self._hosts.get(str(way)) or _Entry(way, self._default_tls, self._delivery.concurrency, 0.0)
        demanded = self._lookup(domain)
        if demanded is not None and _crosses_a_network(entry.way):
            only = _demanded_protocols(demanded.way)
            if only and not _speaks_one_of(entry.way, only):
                return self._unfit(route, f"the route of its domain demands {' or '.join(only)}")
            entry = replace(entry, way=_weakened_never(entry.way, demanded))
        terms = self._partners.outbound_for(domain)
        if terms is not None and not _may_meet(entry.way, terms):
            return self._unfit(route, f"partner {terms.partner} demands {terms.channel}")
        return _routed(entry if terms is None else _on_terms(entry, terms), domain)

    def _unfit(self, route: str, why: str) -> Routed:
        """ITP-7: a detour never leads below what is demanded; the mail waits until one of the two is
        changed."""
        text = f"the route {route!r} of this recipient is not gone: {why}"
        return Routed(ErrorWay("4.7.4", text), route, self._delivery.concurrency)


def _demanded_protocols(way: Way) -> tuple[SendingProtocol, ...]:
    """What mail by this way goes by, or waits; () where SMTP will do."""
    return way.channel.protocols if isinstance(way, MxWay) and way.channel.is_strict else ()


def _speaks_one_of(way: Way, protocols: tuple[SendingProtocol, ...]) -> bool:
    return isinstance(way, MxWay) or (isinstance(way, HostWay) and way.protocol in protocols)


def _weakened_never(way: HostWay | MxWay, demanded: _Entry) -> Way:
    """What holds for the destination goes with the mail on its detour."""
    way = replace(way, tls=for_detour(way.tls, demanded.tls))
    if isinstance(way, MxWay) and isinstance(demanded.way, MxWay):
        way = replace(way, channel=demanded.way.channel)
    return way


def _may_meet(way: Way, terms: OutboundTerms) -> bool:
    """Whether mail by that way can be what a partner entry demands."""
    if isinstance(way, HostWay) and not way.socket_path:
        if terms.only is not None:
            return way.protocol == terms.only
        return way.protocol != "qmtp" or terms.tls_level is None
    return True


def _on_terms(entry: _Entry, terms: OutboundTerms) -> _Entry:
    """The entry as a partner's terms make it; what stays on this machine is the operator's affair."""
    if not _crosses_a_network(entry.way):
        return entry
    tls = tls_under_terms(entry.way.tls, terms)
    way: Way = replace(entry.way, tls=tls)
    if isinstance(way, MxWay):
        way = replace(way, channel=under_terms(way.channel, terms))
    return replace(entry, way=way, tls=tls)


def _crosses_a_network(way: Way) -> TypeGuard[HostWay | MxWay]:
    return isinstance(way, MxWay) or (isinstance(way, HostWay) and not way.socket_path)


def _routed(entry: _Entry, domain: str) -> Routed:
    is_amdp = isinstance(entry.way, LocalWay) and entry.way.transport in AMDP_TRANSPORTS
    concurrency = max(entry.concurrency, AMDP_CONCURRENCY) if is_amdp else entry.concurrency
    return Routed(entry.way, lane_of(entry.way, domain), concurrency, entry.rate)


def lane_of(way: Way, domain: str) -> str:
    """What the way has in common with others, for limits and back-off."""
    match way:
        case HostWay(chosen_by_operator=True):
            return str(way)
        case LocalWay(transport=transport) if transport in AMDP_TRANSPORTS:
            # Waiting for a holder must not stand in the way of the domain's mailboxes.
            return str(way)
        case _:
            return domain


def _domain_key(where: str, name: str) -> str:
    try:
        return parse_domain(name)
    except AddressError as error:
        raise RouteError(f"{where}: {name!r} is no domain: {error}") from error


def _address_key(where: str, text: str) -> tuple[str, str]:
    try:
        address: Address = parse_address(text)
    except AddressError as error:
        raise RouteError(f"{where}: {text!r} is no address: {error}") from error
    return address.key
