"""What must hold before AMTP is served, and what reception needs for it, from the settings.

Every check here finds at the start what would otherwise be found by mail that nobody takes or everybody may
send: listeners (AMTP-3, AMTP-6, AMTP-19), backups without a private way to their primary (AMTP-21), CAs and
codes that mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from outrider.config.schema import Config, Listener
from outrider.config.source_map import Path as KeyPath
from outrider.identity.authorities import CaStores
from outrider.identity.credentials import UserTable
from outrider.identity.host_identity import HostIdentifier, HostSettings
from outrider.model.address import Address, AddressError, parse_domain
from outrider.model.envelope import Arrival, Recipient
from outrider.reception.hosts import HostProver
from outrider.reception.lookups import FactSource
from outrider.reception.mail_codes import MailCodes
from outrider.reception.partner_terms import PartnerTerms
from outrider.routing.partners import PartnerTable
from outrider.routing.routes import RouteTable


@dataclass(frozen=True, slots=True)
class Fault:
    """A setting that cannot stand."""

    key: KeyPath
    fault: str
    remedy: str


def has_private_hosts(config: Config) -> bool:
    """Whether anybody could make a private connection."""
    return bool(config.tls.private_ca or config.amtp.private_fingerprints)


def offers_logins(config: Config) -> bool:
    """Whether AMTP listeners have AUTH: on private connections (AMTP-19)."""
    return has_private_hosts(config) and config.amtp.private_auth != "none"


def listener_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with `[[listeners]]`, and with what they need."""
    for number, one in enumerate(config.listeners):
        key: KeyPath = ("listeners", number)
        if one.protocol == "amtp":
            yield from _amtp_faults(config, key, one)
        elif one.private:
            yield Fault((*key, "private"), "only AMTP knows private connections", "remove it")
    speaks = {number: one for number, one in enumerate(config.listeners) if one.protocol == "amtp"}
    if speaks and offers_logins(config) and not config.auth.users_file:
        remedy = 'set users_file in [auth], or private_auth = "none" in [amtp]'
        yield Fault(("listeners", min(speaks)), "AUTH on private connections needs logins", remedy)
    if any(not one.private for one in speaks.values()) and config.dns.servers == ():
        fault = "public AMTP connections need DNS: a client's address must have its name (AMTP-2)"
        yield Fault(("dns", "servers"), fault, "name a resolver, or make the listeners private")


def _amtp_faults(config: Config, key: KeyPath, one: Listener) -> Iterator[Fault]:
    if one.address.startswith("unix:"):
        yield Fault((*key, "address"), "AMTP is spoken over a network", "write an IPv4 or IPv6 address")
    if one.tls not in (None, "implicit"):
        yield Fault((*key, "tls"), "AMTP is under TLS from the first octet", "remove it")
    if one.auth is not None:
        remedy = "remove it; private_auth in [amtp] says it for all"
        yield Fault((*key, "auth"), "AMTP has logins on private connections only", remedy)
    if one.request_client_certificate is False:
        fault = "AMTP asks every client for its certificate (AMTP-1)"
        yield Fault((*key, "request_client_certificate"), fault, "remove it")
    if one.private and not has_private_hosts(config):
        remedy = "set private_ca in [tls], or private_fingerprints in [amtp]"
        yield Fault((*key, "private"), "nobody could make a private connection", remedy)
    if not one.private and one.port not in (None, config.amtp.port):
        fault = f"public AMTP connections are taken on port {config.amtp.port} only (AMTP-6)"
        remedy = "use that port (port in [amtp]), or add `private = true`"
        yield Fault((*key, "port"), fault, remedy)


def backup_faults(config: Config, routes: RouteTable) -> Iterator[Fault]:
    """A backup reaches its primary over a private connection (AMTP-21): what comes over a public one may go
    over no other, and would be refused at RCPT (AMTP-18)."""
    if not any(one.protocol == "amtp" and not one.private for one in config.listeners):
        return
    for number, text in enumerate(config.relay.domains):
        try:
            domain = parse_domain(text)
        except AddressError:
            continue  # told of elsewhere
        if not routes.may_leave(Recipient(Address("postmaster", domain)), Arrival.AMTP_PUBLIC):
            fault = f"mail for {domain} that comes by AMTP could not be passed on: no private way is known"
            remedy = f'add `"{domain}" = "amtp:HOST:PORT"` (or another host) to [routes] (AMTP-21)'
            yield Fault(("relay", "domains", number), fault, remedy)


@dataclass(frozen=True, slots=True)
class AmtpParts:
    """What an assembly holds for AMTP and for partners."""

    hosts: HostSettings
    partners: PartnerTable
    partner_stores: Mapping[str, CaStores]
    """Of the entries that name CAs, by name."""

    def partner_identifiers(self) -> dict[str, HostIdentifier]:
        """What knows the CAs of each entry that names some: those alone, and as public ones."""
        settings = HostSettings(self.hosts.forward_confirm)
        return {name: HostIdentifier(stores, settings) for name, stores in self.partner_stores.items()}

    def terms(self, identifiers: Mapping[str, HostIdentifier]) -> PartnerTerms | None:
        """None without partners."""
        return PartnerTerms(self.partners, identifiers) if self.partners.entries else None

    def prover(
        self, stores: CaStores, sources: FactSource | None, identifiers: Mapping[str, HostIdentifier]
    ) -> HostProver:
        """Who tells hosts."""
        known = [(one, identifiers[one.name]) for one in self.partners.entries if one.name in identifiers]
        return HostProver(HostIdentifier(stores, self.hosts), sources, known)


def mail_codes(config: Config, users: UserTable | None) -> MailCodes:
    """`[mpc]`. Raises ReceptionSettingsError naming the key."""
    return MailCodes(config.mpc, users.find if users is not None else lambda _login: None)
