"""What delivery asks of DNS: three questions, and four ways of not getting an answer.

The distinction that mail lives by (SEC-163): "there is no such record" is knowledge, a time-out is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, Protocol

from outrider.routing.mail_exchangers import Exchanger
from outrider.routing.services import Service

ServiceProtocol = Literal["amtp", "mt2"]
"""The protocols whose servers are found by SRV."""


class LookupFailed(Exception):
    """No answer; `reason` is for the operator and for reports."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LookupTemporary(LookupFailed):
    """Nothing is known: time-out, SERVFAIL, no server. The mail waits; nothing stands in (SEC-163)."""


class NoSuchName(LookupFailed):
    """The name does not exist (NXDOMAIN)."""


class NoRecords(LookupFailed):
    """The name exists and has none of this type. For MX: the domain's own addresses count (RFC 5321 5.1)."""


class Unusable(LookupFailed):
    """There are records and none can be used, or no DNS is configured; never an implicit MX."""


@dataclass(frozen=True, slots=True)
class MxRecords:
    """A domain's mail exchangers; `null_mx` when it states that it takes no mail (RFC 7505)."""

    exchangers: tuple[Exchanger, ...]
    null_mx: bool = False
    secure: bool = False


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """A host's addresses, at least one."""

    addresses: Sequence[IPv4Address | IPv6Address]
    secure: bool = False


@dataclass(frozen=True, slots=True)
class ServiceRecords:
    """A domain's servers for a service; none where it states that there is no such service (target ".")."""

    services: tuple[Service, ...]
    secure: bool = False


class MailLookup(Protocol):
    """The resolver as delivery sees it. Each call ends in bounded time."""

    async def mx(self, domain: str) -> MxRecords:
        """The domain's MX records. Raises LookupFailed's four kinds."""
        ...

    async def addresses(self, host: str) -> HostAddresses:
        """The host's IPv4 and IPv6 addresses. Raises LookupFailed's four kinds."""
        ...

    async def services(self, protocol: ServiceProtocol, domain: str) -> ServiceRecords:
        """The domain's SRV records (``_amtp._tcp``, ``_mt2._tcp``). Raises LookupFailed's four kinds."""
        ...
