"""Zones for the small Internet: what an authoritative server knows, and what it answers from it. No I/O.

A zone is described in plain data, values as in a master file (RFC 1035 section 5.1), "@" for the zone itself,
names without a final dot relative to the zone:

    {"alpha.example": {"@": {"MX": ["10 mx"]}, "mx": {"A": ["127.0.1.1"]}, "www": {"CNAME": ["mx"]}}}

TXT values are the text itself, without quotes. SOA and NS are supplied where a zone does not bring its own.
Delegation to other servers (NS below the apex) is not supported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType

DEFAULT_TTL_S = 60
MAX_ALIASES = 8
# Nothing of the small Internet uses the zone's own name server names, so they need not exist.
_NAME_SERVER = dns.name.from_text("ns.outrider.invalid.")
_HOSTMASTER = dns.name.from_text("hostmaster.outrider.invalid.")
_WILDCARD = b"*"

ZoneRecords = Mapping[str, Mapping[str, Sequence[str]]]
"""Owner name -> record type -> values."""


class ZoneError(ValueError):
    """A zone description that makes no sense; the text names the record."""


@dataclass(slots=True)
class Lookup:
    """What the zones say to a question: the response code and the sections of the answer."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    authoritative: bool = True
    answer: list[dns.rrset.RRset] = field(default_factory=list)
    authority: list[dns.rrset.RRset] = field(default_factory=list)


_Node = dict[RdataType, dns.rdataset.Rdataset]


class Zone:
    """One zone's records. Change it by `put` and `delete`; each change raises the serial."""

    def __init__(self, origin: dns.name.Name) -> None:
        self.origin = origin
        self._nodes: dict[dns.name.Name, _Node] = {}
        self._existing: frozenset[dns.name.Name] | None = None
        self._serial = 1
        self.put(origin, dns.rdatatype.NS, [_NAME_SERVER.to_text()], DEFAULT_TTL_S)

    def put(self, owner: dns.name.Name, rdtype: RdataType, values: Iterable[str], ttl_s: int) -> None:
        """Set (replace) the records of one type at one name; raises `ZoneError`."""
        try:
            records = [self._record(rdtype, value) for value in values]
        except (dns.exception.DNSException, ValueError) as error:
            raise ZoneError(f"{owner} {rdtype.name}: {error}") from error
        if not records:
            raise ZoneError(f"{owner} {rdtype.name}: no values")
        self._refuse_mixed_alias(owner, rdtype)
        rdataset = dns.rdataset.from_rdata_list(ttl_s, records)
        self._nodes.setdefault(owner, {})[rdtype] = rdataset
        self._changed()

    def delete(self, owner: dns.name.Name, rdtype: RdataType | None = None) -> None:
        """Remove the records of one type, or all, at one name; none there is no error."""
        node = self._nodes.get(owner, {})
        for kind in [rdtype] if rdtype is not None else list(node):
            node.pop(kind, None)
        if not node:
            self._nodes.pop(owner, None)
        self._changed()

    def node(self, name: dns.name.Name) -> _Node | None:
        """Return the records at `name`, real or from a wildcard; None if the name does not exist."""
        if name in self._all_names():
            return self._nodes.get(name, {})
        # RFC 4592 section 3.3.1: only the wildcard right below the closest name that exists counts.
        encloser = name.parent()
        while encloser not in self._all_names():
            encloser = encloser.parent()
        return self._nodes.get(dns.name.Name((_WILDCARD, *encloser.labels)))

    def rrsets(self) -> Iterator[dns.rrset.RRset]:
        """Yield all records, the SOA first."""
        yield self.soa()
        for owner in sorted(self._nodes):
            for rdataset in self._nodes[owner].values():
                if rdataset.rdtype != dns.rdatatype.SOA:
                    yield _rrset(owner, rdataset)

    def soa(self) -> dns.rrset.RRset:
        """Return the zone's SOA: the one set, or one with the serial counted here."""
        own = self._nodes.get(self.origin, {}).get(dns.rdatatype.SOA)
        if own is not None:
            return _rrset(self.origin, own)
        text = f"{_NAME_SERVER} {_HOSTMASTER} {self._serial} 3600 900 1209600 {DEFAULT_TTL_S}"
        return dns.rrset.from_text(self.origin, DEFAULT_TTL_S, dns.rdataclass.IN, dns.rdatatype.SOA, text)

    def _record(self, rdtype: RdataType, value: str) -> dns.rdata.Rdata:
        text = _quoted(value) if rdtype == dns.rdatatype.TXT else value
        return dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, origin=self.origin, relativize=False)

    def _refuse_mixed_alias(self, owner: dns.name.Name, rdtype: RdataType) -> None:
        """RFC 1034 section 3.6.2: a name with a CNAME has no other records."""
        others = self._nodes.get(owner, {}).keys() - {rdtype}
        if others and dns.rdatatype.CNAME in (rdtype, *others):
            raise ZoneError(f"{owner}: CNAME beside other records")

    def _changed(self) -> None:
        self._serial += 1
        self._existing = None

    def _all_names(self) -> frozenset[dns.name.Name]:
        """The names that exist: owners, and those between them and the apex (empty non-terminals)."""
        if self._existing is None:
            names = {self.origin}
            for owner in self._nodes:
                while owner != self.origin:
                    names.add(owner)
                    owner = owner.parent()
            self._existing = frozenset(names)
        return self._existing


class ZoneSet:
    """All zones of the small Internet; may be changed while a server answers from it."""

    def __init__(self, zones: Mapping[str, ZoneRecords] | None = None) -> None:
        """Build from a description as in the module's head; raises `ZoneError`."""
        self._zones: dict[dns.name.Name, Zone] = {}
        for origin, records in (zones or {}).items():
            self.add_zone(origin, records)

    def add_zone(self, origin: str, records: ZoneRecords | None = None, ttl_s: int = DEFAULT_TTL_S) -> None:
        """Add a zone, replacing one of that name."""
        zone = Zone(_name(origin))
        for owner, by_type in (records or {}).items():
            for rdtype, values in by_type.items():
                zone.put(_name(owner, zone.origin), _rdatatype(rdtype), values, ttl_s)
        self._zones[zone.origin] = zone

    def remove_zone(self, origin: str) -> None:
        """Forget a zone: questions about it are refused from now on."""
        self._zones.pop(_name(origin), None)

    def put(self, name: str, rdtype: str, *values: str, ttl_s: int = DEFAULT_TTL_S) -> None:
        """Set (replace) the records of one type at a name (always absolute); raises `ZoneError`."""
        owner = _name(name)
        self._zone_for_change(owner).put(owner, _rdatatype(rdtype), values, ttl_s)

    def delete(self, name: str, rdtype: str | None = None) -> None:
        """Remove the records of one type, or of all types, at a name."""
        owner = _name(name)
        self._zone_for_change(owner).delete(owner, None if rdtype is None else _rdatatype(rdtype))

    def add_host(self, name: str, *addresses: str, ttl_s: int = DEFAULT_TTL_S) -> None:
        """Give a host its addresses, forward and reverse; a missing reverse zone is made.

        The reverse name of an address belongs to the host that was given it last.
        """
        by_type: dict[str, list[str]] = {}
        for text in addresses:
            address = ip_address(text)
            by_type.setdefault("A" if address.version == 4 else "AAAA", []).append(str(address))
            reverse = _name(address.reverse_pointer)
            if self.zone_of(reverse) is None:
                # An IPv4 /24 or an IPv6 /64: the sizes in which reverse zones are usually run.
                self.add_zone(reverse.split(6 if address.version == 4 else 19)[1].to_text())
            self.put(address.reverse_pointer, "PTR", _name(name).to_text(), ttl_s=ttl_s)
        for rdtype, values in by_type.items():
            self.put(name, rdtype, *values, ttl_s=ttl_s)

    def zone_of(self, name: dns.name.Name) -> Zone | None:
        """Return the deepest zone that holds the name."""
        while True:
            zone = self._zones.get(name)
            if zone is not None or name == dns.name.root:
                return zone
            name = name.parent()

    def lookup(self, name: dns.name.Name, rdtype: RdataType) -> Lookup:
        """Answer a question as RFC 1034 section 4.3.2 has it, following aliases through all zones."""
        zone = self.zone_of(name)
        if zone is None:
            return Lookup(dns.rcode.REFUSED, authoritative=False)
        found = Lookup()
        for _ in range(MAX_ALIASES):
            node = zone.node(name)
            if node is None:
                found.rcode = dns.rcode.NXDOMAIN
                break
            answer = _matching(zone, name, node, rdtype)
            alias = node.get(dns.rdatatype.CNAME)
            found.answer.extend(answer or ([_rrset(name, alias)] if alias else []))
            if answer:
                return found
            if alias is None:
                break
            name = alias[0].target
            next_zone = self.zone_of(name)
            if next_zone is None:
                return found
            zone = next_zone
        else:
            return found
        found.authority.append(zone.soa())
        return found

    def master_file(self, origin: str) -> str:
        """Return a zone as a master file, for other servers and for people."""
        return "".join(f"{rrset.to_text()}\n" for rrset in self._zones[_name(origin)].rrsets())

    def origins(self) -> list[str]:
        """Return the names of the zones."""
        return [origin.to_text() for origin in sorted(self._zones)]

    def _zone_for_change(self, name: dns.name.Name) -> Zone:
        zone = self.zone_of(name)
        if zone is None:
            raise ZoneError(f"{name} is in none of the zones")
        return zone


def zones_from_json(text: str) -> ZoneSet:
    """Read `{"zones": {...}}`, described as in the module's head; raises `ZoneError`."""
    try:
        description = json.loads(text)
    except ValueError as error:
        raise ZoneError(f"not JSON: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("zones"), dict):
        raise ZoneError('expected an object with the member "zones"')
    zones = ZoneSet()
    for origin, records in description["zones"].items():
        zones.add_zone(origin, _checked_records(origin, records))
    return zones


def _checked_records(origin: str, records: object) -> ZoneRecords:
    """Return the records of one zone, their shape made sure of."""
    if not isinstance(records, dict):
        raise ZoneError(f"{origin}: expected an object of names")
    for owner, by_type in records.items():
        if not isinstance(by_type, dict):
            raise ZoneError(f"{origin}: {owner}: expected an object of record types")
        for rdtype, values in by_type.items():
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise ZoneError(f"{origin}: {owner} {rdtype}: expected a list of strings")
    return records


def _matching(zone: Zone, name: dns.name.Name, node: _Node, rdtype: RdataType) -> list[dns.rrset.RRset]:
    """Return what a node holds for a type; the apex always has an SOA."""
    if rdtype == dns.rdatatype.SOA and name == zone.origin:
        return [zone.soa()]
    if rdtype == dns.rdatatype.ANY:
        return [_rrset(name, rdataset) for rdataset in node.values()]
    return [_rrset(name, node[rdtype])] if rdtype in node else []


def _rrset(owner: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(owner, rdataset.ttl, list(rdataset))


def _name(text: str, origin: dns.name.Name = dns.name.root) -> dns.name.Name:
    try:
        return origin if text == "@" else dns.name.from_text(text, origin)
    except dns.exception.DNSException as error:
        raise ZoneError(f"{text!r} is not a domain name: {error}") from error


def _rdatatype(text: str) -> RdataType:
    try:
        return dns.rdatatype.from_text(text)
    except (dns.exception.DNSException, ValueError) as error:
        raise ZoneError(f"{text!r} is not a record type") from error


def _quoted(text: str) -> str:
    """Return a text as the quoted strings of a TXT record, each of at most 255 octets."""
    octets = text.encode("utf-8")
    pieces = [octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(f"\\{octet:03d}" for octet in piece) + '"' for piece in pieces)
