"""Lists in files: one entry a line, `#` for comments.

An entry is an address or network, a domain (``bad.example``), a domain with all below it
(``.bad.example``), or the address of a sender (``ann@bad.example``).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from outrider.model.address import AddressError, parse_address, parse_domain
from outrider.trust.subjects import IPAddress, Role, Subject

MAX_OCTETS = 64 * 1024 * 1024
MAX_ENTRIES = 2_000_000


class ListFileError(ValueError):
    """The text is no list; the argument says which line, and why."""


@dataclass(frozen=True, slots=True)
class ListEntries:
    """A file's entries, to be asked quickly whatever their number."""

    networks: dict[tuple[int, int], frozenset[int]]
    """By version and length of the prefix: the networks, as the numbers that their prefixes are."""
    domains: frozenset[str]
    parents: frozenset[str]
    """Without their leading dot."""
    mailboxes: frozenset[tuple[str, str]]

    @property
    def count(self) -> int:
        """How many entries it has."""
        networks = sum(len(prefixes) for prefixes in self.networks.values())
        return networks + len(self.domains) + len(self.parents) + len(self.mailboxes)

    def entry_for(self, subject: Subject) -> str:
        """The entry that names the subject, as it would be written; "" for none."""
        if subject.role is Role.CLIENT:
            return self._network_of(subject.address)
        if subject.role is Role.SENDER:
            return self._mailbox(subject.name)
        return self._domain(subject.name)

    def _network_of(self, address: IPAddress) -> str:
        width, number = address.max_prefixlen, int(address)
        for (version, length), prefixes in self.networks.items():
            if version == address.version and number >> (width - length) in prefixes:
                return str(ip_network((address, length), strict=False))
        return ""

    def _mailbox(self, name: str) -> str:
        try:
            return name if parse_address(name).key in self.mailboxes else ""
        except AddressError:
            return ""

    def _domain(self, name: str) -> str:
        if name in self.domains:
            return name
        above = name
        while above and self.parents:
            if above in self.parents:
                return f".{above}"
            above = above.partition(".")[2]
        return ""


def parse_list(text: str) -> ListEntries:
    """The entries of a file. Raises ListFileError with the line's number."""
    networks: dict[tuple[int, int], set[int]] = {}
    domains: set[str] = set()
    parents: set[str] = set()
    mailboxes: set[tuple[str, str]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        if number > MAX_ENTRIES:
            raise ListFileError(f"line {number}: more than {MAX_ENTRIES} lines")
        try:
            _add(entry, networks, domains, parents, mailboxes)
        except ValueError as error:
            raise ListFileError(f"line {number}: {entry[:100]!r}: {error}") from error
    frozen = {key: frozenset(prefixes) for key, prefixes in networks.items()}
    return ListEntries(frozen, frozenset(domains), frozenset(parents), frozenset(mailboxes))


def _add(
    entry: str,
    networks: dict[tuple[int, int], set[int]],
    domains: set[str],
    parents: set[str],
    mailboxes: set[tuple[str, str]],
) -> None:
    network = _network(entry)
    if network is not None:
        prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        networks.setdefault((network.version, network.prefixlen), set()).add(prefix)
    elif "@" in entry:
        mailboxes.add(parse_address(entry).key)
    elif entry.startswith("."):
        parents.add(parse_domain(entry[1:]))
    else:
        domains.add(parse_domain(entry))


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    """None for what is no address at all; a network with bits behind its prefix raises ValueError."""
    try:
        ip_address(entry.partition("/")[0])
    except ValueError:
        return None
    return ip_network(entry)
