"""What a look-up can bring: typed answers, the errors, and the `Resolver` interface. No I/O here.

Every name in an answer is a host name of lower-case A-labels without a final dot; whatever else a name
server sent as a name (NUL, space, escapes) was dropped on the way in. Every tuple is cut to a small number.

The distinction that matters to mail (SEC-163): `DnsPermanent` is knowledge, "there is no such record";
`DnsTemporary` is the lack of it. The second is never read as the first.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from dns.rdata import Rdata

IPAddress = IPv4Address | IPv6Address


class DnsError(Exception):
    """A look-up that brought no answer. `name` and `rdtype` say what was asked, `reason` why it failed."""

    def __init__(self, name: str, rdtype: str, reason: str) -> None:
        super().__init__(f"{rdtype} {name}: {reason}")
        self.name = name
        self.rdtype = rdtype
        self.reason = reason


class DnsPermanent(DnsError):
    """Asking again soon would not help."""


class NoSuchDomain(DnsPermanent):
    """The name does not exist (NXDOMAIN)."""


class BadName(NoSuchDomain):
    """No such name could exist: too long, an empty label, octets no host name has. Nothing was asked."""


class NoData(DnsPermanent):
    """The name exists without a record of this type. For MX this permits the implicit MX (RFC 5321 5.1)."""


class UnusableAnswer(DnsPermanent):
    """Records exist and none can be used: an MX without a proper host name, say. Never an implicit MX."""


class DnsDisabled(DnsPermanent):
    """No name server is configured (`servers = []`): the operator wants no DNS at all."""


class DnsTemporary(DnsError):
    """Time-out, SERVFAIL, an answer that makes no sense, no server reachable: nothing is known, try later."""


@dataclass(frozen=True, slots=True, order=True)
class MxHost:
    """One mail exchanger; the lower preference is tried first (RFC 5321 section 5.1)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """The mail exchangers of a domain, sorted by preference.

    `null_mx` means the domain takes no mail (RFC 7505); then `hosts` is empty. Otherwise it is not.
    """

    hosts: tuple[MxHost, ...]
    null_mx: bool = False
    secure: bool = False
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """The addresses of a host, IPv4 before IPv6, at least one.

    `complete` is false when one family could not be looked up: dialling may go ahead with the other, but
    the absence of an address from this answer then proves nothing.
    """

    addresses: tuple[IPAddress, ...]
    canonical_name: str
    secure: bool = False
    ttl_s: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class PtrAnswer:
    """The names that an address's owner claims for it; nothing is proven by them alone (SEC-153)."""

    names: tuple[str, ...]
    secure: bool = False
    ttl_s: int = 0


@dataclass(frozen=True, slots=True, order=True)
class SrvHost:
    """One server of a service (RFC 2782). `port` is hearsay: hold it against an allow-list (SEC-162)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class SrvAnswer:
    """The servers of a service, sorted by priority. `unavailable`: the target is ".", no such service."""

    hosts: tuple[SrvHost, ...]
    unavailable: bool = False
    secure: bool = False
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class TxtAnswer:
    """The texts of a name, each record's strings joined (as RFC 7208 section 3.3 does); raw octets."""

    texts: tuple[bytes, ...]
    secure: bool = False
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class RecordsAnswer:
    """Records of any type, as dnspython's typed values (for TLSA, CAA, NS, SOA ...)."""

    records: tuple[Rdata, ...]
    canonical_name: str
    secure: bool = False
    ttl_s: int = 0


class Confirmation(Enum):
    """How a reverse look-up ended."""

    CONFIRMED = "confirmed"
    NO_NAME = "no PTR record"
    NO_MATCH = "no PTR name has this address"


@dataclass(frozen=True, slots=True)
class ForwardConfirmed:
    """The names of an address that resolve back to it: a snapshot, to be kept for the session (SEC-155).

    `names` are the confirmed ones; `rejected` were claimed by PTR and do not have the address;
    `undecided` could not be looked up.
    """

    how: Confirmation
    names: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The first confirmed name, or None."""
        return self.names[0] if self.names else None


class Resolver(Protocol):
    """Look-ups as delivery, routing and sessions see them.

    Names may be given in any case, with or without a final dot, as A-labels or U-labels. Each call returns
    a complete answer or raises one of `NoSuchDomain` (with `BadName`), `NoData`, `UnusableAnswer`,
    `DnsDisabled` (together `DnsPermanent`) or `DnsTemporary`; it ends within the resolver's total time limit.
    """

    async def mx(self, domain: str) -> MxAnswer:
        """Return the domain's mail exchangers. `NoData` means: the domain itself, by its addresses."""
        ...

    async def addresses(self, host: str) -> AddressAnswer:
        """Return the host's IPv4 and IPv6 addresses. `DnsTemporary` only if no family brought any."""
        ...

    async def ptr(self, address: IPAddress) -> PtrAnswer:
        """Return the names claimed for the address."""
        ...

    async def srv(self, name: str) -> SrvAnswer:
        """Return the servers for a service name such as `_amtp._tcp.bank.example`."""
        ...

    async def txt(self, name: str) -> TxtAnswer:
        """Return the name's texts."""
        ...

    async def query(self, name: str, rdtype: str) -> RecordsAnswer:
        """Return the records of a type given by its mnemonic; `ValueError` for a type that is none."""
        ...

    async def forward_confirmed(self, address: IPAddress) -> ForwardConfirmed:
        """Return which PTR names of the address resolve to it.

        Raises `DnsTemporary` when that could not be found out, `DnsDisabled` without DNS; the absence of a
        name is an answer, not an error.
        """
        ...
