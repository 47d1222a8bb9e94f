"""From records to typed answers: hostile values dropped, sorted for a steady order, cut to small numbers."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TypeVar

import dns.name
import dns.rdatatype
from dns.rdata import Rdata
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from outrider.dns.answers import (
    AddressAnswer,
    MxAnswer,
    MxHost,
    PtrAnswer,
    RecordsAnswer,
    SrvAnswer,
    SrvHost,
    TxtAnswer,
)
from outrider.dns.names import display_name, host_name, plain_address
from outrider.dns.reading import Reading

# SEC-159. A sender tries a handful; the rest is room for honest large sites.
MAX_MX_HOSTS = 20
MAX_SRV_HOSTS = 20
MAX_PTR_NAMES = 10  # AMTP-2a: any of at most ten PTR names
MAX_TEXTS = 50
MAX_TEXT_OCTETS = 8192  # a DKIM key of RSA 8192 takes 1,500

Answer = MxAnswer | AddressAnswer | PtrAnswer | SrvAnswer | TxtAnswer | RecordsAnswer
R = TypeVar("R", bound=Rdata)
T = TypeVar("T")


class Unusable(Exception):
    """Records came, none of them of use; the text says why."""


def decode(reading: Reading, rdtype: dns.rdatatype.RdataType, ttl_s: int) -> Answer:
    """Return the typed answer for records of `rdtype`; raises `Unusable`."""
    decoder = _DECODERS.get(rdtype, decode_records)
    return decoder(reading, ttl_s)


def decode_records(reading: Reading, ttl_s: int) -> RecordsAnswer:
    """Return the records as they are."""
    return RecordsAnswer(reading.records, display_name(reading.canonical), reading.authentic, ttl_s)


def _decode_mx(reading: Reading, ttl_s: int) -> MxAnswer:
    """RFC 7505: "." alone is the null MX. Beside others it means nothing and is dropped (SEC-158)."""
    records = _of_type(reading.records, MX)
    if records and all(record.exchange == dns.name.root for record in records):
        return MxAnswer((), True, reading.authentic, ttl_s)
    found = {MxHost(record.preference, host) for record in records if (host := host_name(record.exchange))}
    hosts = tuple(sorted(found)[:MAX_MX_HOSTS])
    return MxAnswer(_some(hosts, "no MX record names a host"), False, reading.authentic, ttl_s)


def _decode_srv(reading: Reading, ttl_s: int) -> SrvAnswer:
    """RFC 2782: the target "." says that the service is decidedly not available."""
    records = _of_type(reading.records, SRV)
    if records and all(record.target == dns.name.root for record in records):
        return SrvAnswer((), True, reading.authentic, ttl_s)
    found = {
        SrvHost(record.priority, record.weight, record.port, host)
        for record in records
        if record.port and (host := host_name(record.target))
    }
    hosts = tuple(sorted(found)[:MAX_SRV_HOSTS])
    return SrvAnswer(_some(hosts, "no SRV record names a host and port"), False, reading.authentic, ttl_s)


def _decode_ptr(reading: Reading, ttl_s: int) -> PtrAnswer:
    names = {name for record in _of_type(reading.records, PTR) if (name := host_name(record.target))}
    some = _some(tuple(sorted(names)[:MAX_PTR_NAMES]), "no PTR record holds a host name")
    return PtrAnswer(some, reading.authentic, ttl_s)


def _decode_txt(reading: Reading, ttl_s: int) -> TxtAnswer:
    texts = (b"".join(record.strings) for record in _of_type(reading.records, TXT))
    kept = tuple(text for text in texts if len(text) <= MAX_TEXT_OCTETS)[:MAX_TEXTS]
    return TxtAnswer(_some(kept, "every text is too long"), reading.authentic, ttl_s)


def _decode_addresses(reading: Reading, ttl_s: int) -> AddressAnswer:
    """A or AAAA. An IPv4-mapped address stands for the IPv4 one inside (SEC-158: `::ffff:127.0.0.1`)."""
    texts = [record.address for record in reading.records if isinstance(record, A | AAAA)]
    # dict, not set: the server's order is kept, it may carry a rotation that spreads load
    addresses = tuple(dict.fromkeys(plain_address(ip_address(text)) for text in texts))
    canonical = display_name(reading.canonical)
    return AddressAnswer(_some(addresses, "no address"), canonical, reading.authentic, ttl_s)


def _of_type(records: Iterable[Rdata], kind: type[R]) -> list[R]:
    return [record for record in records if isinstance(record, kind)]


def _some(values: tuple[T, ...], otherwise: str) -> tuple[T, ...]:
    if not values:
        raise Unusable(otherwise)
    return values


_DECODERS: dict[dns.rdatatype.RdataType, Callable[[Reading, int], Answer]] = {
    dns.rdatatype.MX: _decode_mx,
    dns.rdatatype.SRV: _decode_srv,
    dns.rdatatype.PTR: _decode_ptr,
    dns.rdatatype.TXT: _decode_txt,
    dns.rdatatype.A: _decode_addresses,
    dns.rdatatype.AAAA: _decode_addresses,
}
