"""What a site has to publish in DNS so that mail reaches it and its hosts are believed; and whether it does.

Only records that the protocols of its own listeners look up, here or at a peer:

- MX for each domain, to every host that takes SMTP from the Internet (RFC 5321 section 5.1);
- SRV ``_amtp._tcp`` for each domain, to every host that takes AMTP from the public (AMTP-7), and
  ``_mt2._tcp`` to every one that takes MT2 under TLS (MT2-27);
- SRV ``_submissions._tcp`` and ``_submission._tcp`` (RFC 8314 section 5.1, RFC 6186) for mail programs;
- addresses of these hosts, and PTR back from each: an AMTP client whose PTR is not its name is refused
  (AMTP-2a), an SMTP client distrusted;
- addresses of ``mhf-1`` of each domain, where its AMDP facility is called and from where it sends (AMDP-8),
  and of ``amdp-mis``, where its policy is published (AMDP-16).

The same list is printed and checked, so that what is printed is never complained about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from outrider.config.schema import Config, Listener
from outrider.dns.answers import DnsError, DnsPermanent, DnsTemporary, IPAddress, Resolver
from outrider.dns.names import reverse_name
from outrider.model.address import parse_domain

TTL_S = 3600
OWN_PREFERENCE = 10
BACKUP_PREFERENCE = 20
"""Greater than any primary's usual one (RFC 5321 section 5.1: the lower is tried first)."""
SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT = 25, 587, 465


@dataclass(frozen=True, slots=True)
class Record:
    """One record to publish. Names are A-labels without a final dot."""

    name: str
    rdtype: str
    value: str
    """As in a zone file, names with their final dot."""
    purpose: str
    """Why it is needed, in a few words."""

    def __str__(self) -> str:
        return f"{self.name}. {TTL_S} IN {self.rdtype} {self.value}"


@dataclass(frozen=True, slots=True)
class Publication:
    """All records of a site."""

    records: tuple[Record, ...]
    unknown: tuple[str, ...]
    """Hosts whose addresses the settings do not tell."""
    notes: tuple[str, ...]
    """What is worth knowing besides."""


def publication(config: Config, addresses: Sequence[IPAddress] = ()) -> Publication:
    """What to publish for these settings.

    `addresses` are this host's as the Internet sees them, for where the settings do not tell (an unspecified
    address, NAT); given them, listeners on loopback and private addresses count too, else those are nobody's
    business. Raises ValueError for a name that is no domain.
    """
    serving = [one for one in config.listeners if _serves(one, bool(addresses))]
    hosts = _host_addresses(config, serving, addresses)
    records = (
        *_exchanger_records(config, serving),
        *_service_records(config, serving),
        *(record for host, found in hosts.items() for record in _address_records(host, found)),
        *(record for host, found in hosts.items() for record in _reverse_records(host, found)),
    )
    amdp = _amdp_hosts(config, addresses)
    records += tuple(record for host, found in amdp.items() for record in _amdp_records(host, found, hosts))
    unknown = tuple(host for host, found in (hosts | amdp).items() if not found)
    return Publication(tuple(dict.fromkeys(records)), unknown, _notes(config, serving))


def _serves(listener: Listener, counts_all: bool, protocols: tuple[str, ...] | None = None) -> bool:
    """Whether strangers can reach it."""
    if listener.address.startswith("unix:") or listener.protocol not in (protocols or _PUBLISHED):
        return False
    return counts_all or not ip_address(listener.address).is_loopback


_PUBLISHED = ("smtp", "submission", "amtp", "mt2", "qmtp")


def _host_addresses(
    config: Config, serving: Sequence[Listener], given: Sequence[IPAddress]
) -> dict[str, tuple[IPAddress, ...]]:
    """Each host of the site with the addresses that are to be its own."""
    own = parse_domain(config.hostname)
    owner: dict[IPAddress, str] = {}
    for text in (config.net.source_address, config.net.source_address6):
        if text and (ip_address(text).is_global or ip_address(text) in given):
            owner[ip_address(text)] = own
    for one in serving:
        address = ip_address(one.address)
        if address.is_global or address in given:
            owner.setdefault(address, _host(config, one))
    for address in given:
        owner.setdefault(address, own)
    names = dict.fromkeys((own, *(_host(config, one) for one in serving)))
    return {
        name: tuple(address for address, host in owner.items() if host == name)
        for name in names
        if not name.startswith("[")
    }


def _amdp_hosts(config: Config, given: Sequence[IPAddress]) -> dict[str, tuple[IPAddress, ...]]:
    """The names that AMDP looks up in each domain, with their addresses."""
    serving = [one for one in config.listeners if _serves(one, bool(given), ("amdp",))]
    if not serving:
        return {}
    own = [ip_address(one.address) for one in serving]
    reached = [one for one in own if one.is_global or one in given]
    if any(one.is_unspecified for one in own) or not reached:
        reached += [one for one in given if one not in reached]
    source = [ip_address(text) for text in (config.net.source_address, config.net.source_address6) if text]
    sending = [one for one in source if one.is_global or one in given]
    hosts: dict[str, tuple[IPAddress, ...]] = {}
    for domain in _domains(name for name in config.domains if not name.startswith(".")):
        if "mhf" in config.amdp.roles:
            name = parse_domain(config.amdp.holding.names.get(domain, f"mhf-1.{domain}"))
            hosts[name] = tuple(dict.fromkeys((*reached, *sending)))
        if "mis" in config.amdp.roles:
            hosts[parse_domain(f"amdp-mis.{domain}")] = tuple(reached)
    return hosts


def _amdp_records(
    name: str, addresses: Sequence[IPAddress], hosts: Mapping[str, Sequence[IPAddress]]
) -> Iterator[Record]:
    is_facility = not name.startswith("amdp-mis.")
    purpose = "the facility that holds mail" if is_facility else "where the mail policy is published"
    owned = {address for found in hosts.values() for address in found}
    for address in addresses:
        yield Record(name, "A" if address.version == 4 else "AAAA", str(address), purpose)
        if is_facility and address not in owned:
            yield Record(reverse_name(address), "PTR", f"{name}.", "how its receivers find it at once")


def _host(config: Config, listener: Listener) -> str:
    return parse_domain(listener.hostname or config.hostname)


def _domains(names: Iterable[str]) -> list[str]:
    """Domains that can have records: no literals, no patterns."""
    found = [parse_domain(name.removeprefix(".")) for name in names]
    return [name for name in found if not name.startswith("[")]


def _exchanger_records(config: Config, serving: Sequence[Listener]) -> Iterator[Record]:
    hosts = [
        _host(config, one)
        for one in serving
        if one.protocol == "smtp" and (one.port or SMTP_PORT) == SMTP_PORT
    ]
    for host in dict.fromkeys(hosts):
        for domain in _domains(config.domains):
            yield Record(domain, "MX", f"{OWN_PREFERENCE} {host}.", f"mail for {domain} comes here by SMTP")
        for domain in _domains(config.relay.domains):
            purpose = f"mail for {domain} may wait here, as a backup"
            yield Record(domain, "MX", f"{BACKUP_PREFERENCE} {host}.", purpose)


def _service_records(config: Config, serving: Sequence[Listener]) -> Iterator[Record]:
    for one in serving:
        service = _service(config, one)
        if service is None:
            continue
        label, port, purpose = service
        for domain in _domains(config.domains):
            value = f"0 0 {port} {_host(config, one)}."
            yield Record(f"{label}._tcp.{domain}", "SRV", value, purpose)


def _service(config: Config, listener: Listener) -> tuple[str, int, str] | None:
    """The label, port and purpose under which a listener is announced; None for those that are not."""
    if listener.protocol == "amtp" and not listener.private:
        return "_amtp", listener.port or config.amtp.port, "mail comes here by AMTP"
    if listener.protocol == "mt2" and listener.tls != "none":
        return "_mt2", listener.port or config.mt2.port, "mail comes here by MT2"
    if listener.protocol == "submission" and listener.tls == "implicit":
        return "_submissions", listener.port or SUBMISSIONS_PORT, "users submit mail here, under TLS"
    if listener.protocol == "submission":
        return "_submission", listener.port or SUBMISSION_PORT, "users submit mail here"
    return None


def _address_records(host: str, addresses: Sequence[IPAddress]) -> Iterator[Record]:
    for address in addresses:
        yield Record(host, "A" if address.version == 4 else "AAAA", str(address), "where the host is")


def _reverse_records(host: str, addresses: Sequence[IPAddress]) -> Iterator[Record]:
    for address in addresses:
        purpose = "who the address is: peers refuse or distrust a host that is not called so"
        yield Record(reverse_name(address), "PTR", f"{host}.", purpose)


def _notes(config: Config, serving: Sequence[Listener]) -> tuple[str, ...]:
    notes: list[str] = []
    if not serving:
        notes.append("no listener is reached by strangers; behind NAT give --address")
    if any(one.protocol == "qmtp" for one in serving):
        notes.append("QMTP is announced by an MX preference of 12801 in place of 10; it goes in the clear")
    if "mhf" in config.amdp.roles:
        notes.append("no wildcard (*) beside mhf-1: what answers for any name lists no facility (AMDP-8)")
    if config.relay.domains:
        notes.append("records of [relay] domains belong to their owners, below their own hosts' preferences")
    return tuple(notes)


def zone_text(published: Publication, zone: str = "") -> str:
    """The records as lines of a zone file; those of one zone only, if it is named. Raises ValueError."""
    inside = "." + parse_domain(zone.removesuffix(".")) if zone else ""
    lines: list[str] = []
    for record in published.records:
        if inside and not f".{record.name}".endswith(inside):
            continue
        if not lines or lines[-1].rpartition(" ; ")[2] != record.purpose:
            lines.append(f"; {record.purpose}")
        lines.append(str(record))
    lines += [f"; {host}. {TTL_S} IN A <its address>: not in the settings" for host in published.unknown]
    lines += [f"; {note}" for note in published.notes]
    return "".join(f"{line}\n" for line in lines)


# -- what DNS says ---------------------------------------------------------------------------------------


class Status(Enum):
    """How a record stands."""

    OK = "ok"
    MISSING = "missing"
    DIFFERS = "differs"
    UNKNOWN = "unknown"
    """DNS gave no answer."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A record, or something that follows from one, against DNS."""

    record: str
    status: Status
    found: str
    """What DNS says instead; "" where that is nothing."""
    remedy: str = ""


async def check(published: Publication, resolver: Resolver) -> tuple[Checked, ...]:
    """Hold every record against DNS, all at once. Raises nothing."""
    one_by_one = [_check_record(record, resolver) for record in published.records]
    hosts = dict.fromkeys(record.name for record in published.records if record.rdtype in ("A", "AAAA"))
    by_host = [_check_alias(host, resolver) for host in hosts]
    unknown = [_check_host(host, resolver) for host in published.unknown]
    found = await asyncio.gather(*one_by_one, *by_host, *unknown)
    return tuple(checked for part in found for checked in part)


async def _check_record(record: Record, resolver: Resolver) -> list[Checked]:
    add = f"add: {record}"
    try:
        found = await _values(record, resolver)
    except DnsTemporary as error:
        return [Checked(str(record), Status.UNKNOWN, error.reason, "ask again later")]
    except DnsPermanent as error:
        return [Checked(str(record), Status.MISSING, error.reason, add)]
    if any(_essence(record.rdtype, one) == _essence(record.rdtype, record.value) for one in found):
        return [Checked(str(record), Status.OK, "")]
    return [Checked(str(record), Status.DIFFERS, ", ".join(found), add)]


async def _values(record: Record, resolver: Resolver) -> list[str]:
    """What DNS has for the record's name and type, as zone files write it. Raises DnsError."""
    match record.rdtype:
        case "MX":
            mx = await resolver.mx(record.name)
            return [f"{one.preference} {one.host}." for one in mx.hosts] or ["0 ."]
        case "SRV":
            srv = await resolver.srv(record.name)
            listed = [f"{one.priority} {one.weight} {one.port} {one.target}." for one in srv.hosts]
            return listed or ["0 0 0 ."]
        case "PTR":
            return [f"{name}." for name in (await resolver.ptr(_address_of(record.name))).names]
        case _:
            return [str(one) for one in (await resolver.addresses(record.name)).addresses]


def _essence(rdtype: str, value: str) -> list[str]:
    """Of a record's fields those that have to agree: how hosts are preferred is the operator's choice."""
    return value.split()[{"MX": 1, "SRV": 2}.get(rdtype, 0) :]


def _address_of(name: str) -> IPAddress:
    """The address whose reverse name this is."""
    labels = name.split(".")
    if labels[-2:] == ["in-addr", "arpa"]:
        return ip_address(".".join(reversed(labels[:-2])))
    digits = "".join(reversed(labels[:-2]))
    return ip_address(":".join(digits[n : n + 4] for n in range(0, 32, 4)))


async def _check_alias(host: str, resolver: Resolver) -> list[Checked]:
    """RFC 2181 section 10.3: the host that an MX or SRV names has addresses itself."""
    try:
        answer = await resolver.addresses(host)
    except DnsError:
        return []  # its address records have said so
    if answer.canonical_name == host:
        return []
    alias = f"CNAME {answer.canonical_name}."
    return [Checked(f"{host}. is no alias", Status.DIFFERS, alias, "give it address records of its own")]


async def _check_host(host: str, resolver: Resolver) -> list[Checked]:
    """A host whose addresses only DNS knows: it has some, and each leads back."""
    what = f"{host}. has an address"
    try:
        answer = await resolver.addresses(host)
    except DnsTemporary as error:
        return [Checked(what, Status.UNKNOWN, error.reason, "ask again later")]
    except DnsPermanent as error:
        return [Checked(what, Status.MISSING, error.reason, f"add an A or AAAA record for {host}.")]
    back = [_check_record(one, resolver) for one in _reverse_records(host, answer.addresses)]
    found = [checked for part in await asyncio.gather(*back) for checked in part]
    return [Checked(what, Status.OK, ""), *await _check_alias(host, resolver), *found]
