"""What reception takes out of the configuration, in the form in which it is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from outrider.config.schema import Config
from outrider.identity.credentials import normal_fingerprint
from outrider.model.address import parse_domain
from outrider.protocols.smtp.server_settings import NO_LIMIT
from outrider.reception.interface import IPAddress

Network = IPv4Network | IPv6Network
DEFAULT_LOOKUP_TIMEOUT_S = 15.0
"""For one fact: a client waits 300 s for a reply (RFC 5321 4.5.3.2), but not gladly."""


class ReceptionSettingsError(ValueError):
    """A setting means nothing; the text begins with its key."""


class Networks:
    """A list of networks, asked often: exact addresses by hash, the rest one by one."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._known: dict[IPAddress, bool] = {}

    @classmethod
    def of(cls, key: str, texts: Iterable[str]) -> Networks:
        """From the configuration. Raises ReceptionSettingsError."""
        try:
            return cls(tuple(ip_network(text) for text in texts))
        except ValueError as error:
            raise ReceptionSettingsError(f"{key}: {error}") from error

    def __contains__(self, address: IPAddress | None) -> bool:
        if address is None or not self._networks:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        known = self._known.get(address)
        if known is None:
            known = any(address in network for network in self._networks)
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[address] = known
        return known


@dataclass(frozen=True, slots=True)
class ReceptionSettings:
    """Frozen; a reload makes new ones."""

    hostname: str
    message_size: int
    header_size: int
    recipients: int
    hops: int
    lease_s: float
    inline_limit: int
    relay_networks: Networks
    relay_domains: frozenset[str]
    relay_names: frozenset[str]
    relay_fingerprints: frozenset[str]
    require_tls_from: Networks
    restrict_sender: bool
    private_auth_required: bool = False
    """AMTP: nothing but AUTH is served on a private connection before there is a login (AMTP-19)."""
    private_auth_match: bool = True
    """AMTP: the login must be one that the certificate names."""
    utc_offset: int = 0
    """Minutes east, for the dates that we write."""
    lookup_timeout_s: float = DEFAULT_LOOKUP_TIMEOUT_S

    @property
    def relay_by_certificate(self) -> bool:
        """Whether any certificate may relay (TLS-2b)."""
        return bool(self.relay_names or self.relay_fingerprints)

    @classmethod
    def of(cls, config: Config, *, utc_offset: int = 0) -> ReceptionSettings:
        """From the whole configuration. Raises ReceptionSettingsError."""
        relay, limits = config.relay, config.limits
        try:
            domains = frozenset(parse_domain(name) for name in relay.domains)
            names = frozenset(parse_domain(name) for name in relay.certificate_names)
            prints = frozenset(normal_fingerprint(text) for text in relay.certificate_fingerprints)
        except ValueError as error:
            raise ReceptionSettingsError(f"relay: {error}") from error
        return cls(
            hostname=config.hostname,
            message_size=limits.message_size or NO_LIMIT,
            header_size=limits.header_size or NO_LIMIT,
            recipients=limits.recipients or NO_LIMIT,
            hops=limits.hops or NO_LIMIT,
            lease_s=config.spool.lease,
            inline_limit=config.spool.inline_limit,
            relay_networks=Networks.of("relay.networks", relay.networks),
            relay_domains=domains,
            relay_names=names,
            relay_fingerprints=prints,
            require_tls_from=Networks.of("relay.require_tls_from", relay.require_tls_from),
            restrict_sender=config.auth.restrict_sender,
            private_auth_required=config.amtp.private_auth == "required",
            private_auth_match=config.amtp.private_auth_match,
            utc_offset=utc_offset,
            lookup_timeout_s=config.dns.timeout + 5.0,
        )
