"""Which way leads to a destination: the operator's routes, local domains, literals, MX (SMTP-7).

For a recipient with a route of its own (a policy rule's or `queue reroute`), that is the way. Otherwise the
domain is looked up: exact route, local domain, longest `.parent` route, `*`, then by what the domain is.
A `*` or `.parent` route never takes mail away from a local domain; an exact one does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeGuard

from outrider.config.schema import Config, Route
from outrider.model.address import AddressError, literal_address, parse_domain
from outrider.model.envelope import Recipient
from outrider.routing.tls_policy import TlsRequirement, default_requirement, for_detour, route_requirement
from outrider.routing.ways import (
    ErrorWay,
    HostOptions,
    HostWay,
    MxWay,
    Way,
    parse_way,
)

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

    def __init__(self, config: Config) -> None:
        """Raises RouteError naming the key."""
        self._delivery = config.delivery
        self._default_tls = default_requirement(config.delivery)
        self._exact: dict[str, _Entry] = {}
        self._parents: dict[str, _Entry] = {}
        self._smart: _Entry | None = None
        self._hosts: dict[str, _Entry] = {}
        """Hosts by the text of their way: a detour to one of them has its login, TLS terms and limits."""
        self._smtp_port = config.net.smtp_port
        self._local: dict[str, _Entry] = {}
        self._found: dict[str, Routed] = {}
        """Answers already given, by domain; emptied when they are many."""
        for key, route in config.routes.items():
            self._add(key, route)
        for name, domain in config.domains.items():
            if domain.deliver is not None:
                where = f'domains."{name}".deliver'
                self._local[_domain_key(where, name)] = self._entry(where, domain.deliver)

    def _add(self, key: str, route: str | Route) -> None:
        where = f'routes."{key}"'
        entry = self._entry(where, route)
        if isinstance(entry.way, HostWay):
            self._hosts.setdefault(str(entry.way), entry)
        if key == "*":
            self._smart = entry
        elif key.startswith("."):
            self._parents[_domain_key(where, key[1:])] = entry
        else:
            self._exact[_domain_key(where, key)] = entry

    def _entry(self, where: str, route: str | Route) -> _Entry:
        try:
            if isinstance(route, str):
                way = parse_way(route, HostOptions(self._default_tls))
                return _Entry(way, self._default_tls, self._delivery.concurrency, 0.0)
            tls = route_requirement(route, self._delivery)
            way = parse_way(route.to, HostOptions(tls, route.username, route.password_file))
        except ValueError as error:
            raise RouteError(f"{where}: {error}") from error
        return _Entry(way, tls, route.concurrency or self._delivery.concurrency, route.rate)

    def find(self, recipient: Recipient) -> Routed:
        """The way for one recipient. Never raises: mail whose stored route is unreadable waits."""
        domain = recipient.address.domain
        if recipient.route:
            return self._detour(recipient.route, domain)
        routed = self._found.get(domain)
        if routed is None:
            entry = self._lookup(domain)
            routed = self._by_domain(domain) if entry is None else _routed(entry, domain)
            if len(self._found) >= MAX_FOUND:
                self._found.clear()
            self._found[domain] = routed
        return routed

    def is_local(self, domain: str) -> bool:
        """Whether the domain's mail ends in a mailbox here."""
        return domain in self._local

    def _lookup(self, domain: str) -> _Entry | None:
        return self._exact.get(domain) or self._local.get(domain) or self._parent_of(domain) or self._smart

    def _parent_of(self, domain: str) -> _Entry | None:
        while not domain.startswith("[") and "." in domain:
            domain = domain.partition(".")[2]
            if domain in self._parents:
                return self._parents[domain]
        return None

    def _by_domain(self, domain: str) -> Routed:
        literal = literal_address(domain)
        if literal is None:
            return Routed(MxWay(self._default_tls), domain, self._delivery.concurrency)
        way = HostWay(
            "smtp", str(literal), self._smtp_port, literal, tls=self._default_tls, chosen_by_operator=False
        )
        return Routed(way, domain, self._delivery.concurrency)

    def _detour(self, route: str, domain: str) -> Routed:
        try:
            way = parse_way(route, HostOptions(self._default_tls))
        except ValueError as error:
            text = f"the route {route!r} of this recipient cannot be used: {error}"
            return Routed(ErrorWay("4.3.5", text), route, self._delivery.concurrency)
        entry = self._hosts.get(str(way)) or _Entry(way, self._default_tls, self._delivery.concurrency, 0.0)
        demanded = self._lookup(domain)
        if demanded is not None and _crosses_a_network(entry.way):
            entry = replace(entry, way=replace(entry.way, tls=for_detour(entry.way.tls, demanded.tls)))
        return _routed(entry, domain)


def _crosses_a_network(way: Way) -> TypeGuard[HostWay | MxWay]:
    return isinstance(way, MxWay) or (isinstance(way, HostWay) and not way.socket_path)


def _routed(entry: _Entry, domain: str) -> Routed:
    return Routed(entry.way, lane_of(entry.way, domain), entry.concurrency, entry.rate)


def lane_of(way: Way, domain: str) -> str:
    """What the way has in common with others, for limits and back-off."""
    match way:
        case HostWay(chosen_by_operator=True):
            return str(way)
        case _:
            return domain


def _domain_key(where: str, name: str) -> str:
    try:
        return parse_domain(name)
    except AddressError as error:
        raise RouteError(f"{where}: {name!r} is no domain: {error}") from error
