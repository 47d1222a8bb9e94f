"""A resolver with set answers, for tests of whatever looks things up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

import dns.rdata
import dns.rdataclass
import dns.rdatatype

from outrider.dns.answers import (
    AddressAnswer,
    DnsError,
    DnsTemporary,
    ForwardConfirmed,
    IPAddress,
    MxAnswer,
    MxHost,
    NoData,
    NoSuchDomain,
    PtrAnswer,
    RecordsAnswer,
    SrvAnswer,
    SrvHost,
    TxtAnswer,
)
from outrider.dns.confirm import forward_confirmed
from outrider.dns.names import query_name, reverse_name

_TTL_S = 60


class StaticResolver:
    """Implements `outrider.dns.answers.Resolver` from a table, without a network.

        StaticResolver({
            "alpha.example": {"MX": ["10 mx.alpha.example"], "TXT": ["v=spf1 -all"]},
            "mx.alpha.example": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
            "192.0.2.1": {"PTR": ["mx.alpha.example"]},
            "null.example": {"MX": ["0 ."]},
            "alias.example": {"CNAME": ["mx.alpha.example"]},
        })

    A name that is not in the table does not exist; one that is, without the type, has no data. Names in
    values are absolute. Names in `secure_names` answer as DNSSEC-validated.
    """

    def __init__(
        self, table: Mapping[str, Mapping[str, Sequence[str]]], secure_names: Sequence[str] = ()
    ) -> None:
        self.asked: list[tuple[str, str]] = []
        """Each question as (name, type), in order; an address look-up asks for A and AAAA."""
        self._table = {_key(name): dict(by_type) for name, by_type in table.items()}
        self._secure = {_key(name) for name in secure_names}
        self._scheduled: dict[str, deque[type[DnsError] | None]] = {}
        self._failing: dict[tuple[str, str | None], type[DnsError]] = {}
        self._delays_s: dict[str, float] = {}
        self._held: dict[str, asyncio.Event] = {}

    def set(self, name: str, rdtype: str, *values: str) -> None:
        """Change the table; without values the type is removed."""
        by_type = self._table.setdefault(_key(name), {})
        by_type.pop(rdtype, None)
        if values:
            by_type[rdtype] = values

    def fail(self, name: str, error: type[DnsError] = DnsTemporary, rdtype: str | None = None) -> None:
        """Raise `error` for the name from now on, for one type or for all."""
        self._failing[_key(name), rdtype] = error

    def heal(self, name: str, rdtype: str | None = None) -> None:
        """End what `fail` began."""
        self._failing.pop((_key(name), rdtype), None)

    def schedule(self, name: str, *outcomes: type[DnsError] | None) -> None:
        """Let the next questions for the name end so, one each; None = answered from the table as ever."""
        self._scheduled.setdefault(_key(name), deque()).extend(outcomes)

    def delay(self, name: str, seconds: float) -> None:
        """Answer questions for the name that much later."""
        self._delays_s[_key(name)] = seconds

    def hold(self, name: str) -> asyncio.Event:
        """Answer questions for the name only once the event that is returned is set."""
        return self._held.setdefault(_key(name), asyncio.Event())

    async def mx(self, domain: str) -> MxAnswer:
        """See `Resolver.mx`."""
        name, values = await self._values(domain, "MX")
        if tuple(values) == ("0 .",):
            return MxAnswer((), True, name in self._secure, _TTL_S)
        hosts = (MxHost(int(preference), _key(host)) for preference, host in map(str.split, values))
        return MxAnswer(tuple(sorted(hosts)), False, name in self._secure, _TTL_S)

    async def addresses(self, host: str) -> AddressAnswer:
        """See `Resolver.addresses`."""
        found: list[IPAddress] = []
        errors: list[DnsError] = []
        name = _key(host)
        for rdtype in ("A", "AAAA"):
            try:
                name, values = await self._values(host, rdtype)
                found.extend(ip_address(value) for value in values)
            except DnsError as error:
                errors.append(error)
        unknown = [error for error in errors if isinstance(error, DnsTemporary)]
        if not found:
            raise (unknown or errors)[0]
        return AddressAnswer(tuple(found), name, name in self._secure, _TTL_S, complete=not unknown)

    async def ptr(self, address: IPAddress) -> PtrAnswer:
        """See `Resolver.ptr`."""
        name, values = await self._values(reverse_name(address), "PTR")
        return PtrAnswer(tuple(_key(value) for value in values), name in self._secure, _TTL_S)

    async def srv(self, name: str) -> SrvAnswer:
        """See `Resolver.srv`."""
        owner, values = await self._values(name, "SRV")
        secure = owner in self._secure
        rows = [value.split() for value in values]
        if [row[3] for row in rows] == ["."]:
            return SrvAnswer((), True, secure, _TTL_S)
        hosts = (SrvHost(int(row[0]), int(row[1]), int(row[2]), _key(row[3])) for row in rows)
        return SrvAnswer(tuple(sorted(hosts)), False, secure, _TTL_S)

    async def txt(self, name: str) -> TxtAnswer:
        """See `Resolver.txt`."""
        owner, values = await self._values(name, "TXT")
        return TxtAnswer(tuple(value.encode() for value in values), owner in self._secure, _TTL_S)

    async def query(self, name: str, rdtype: str) -> RecordsAnswer:
        """See `Resolver.query`."""
        kind = dns.rdatatype.from_text(rdtype)
        owner, values = await self._values(name, rdtype)
        records = tuple(dns.rdata.from_text(dns.rdataclass.IN, kind, value) for value in values)
        return RecordsAnswer(records, owner, owner in self._secure, _TTL_S)

    async def forward_confirmed(self, address: IPAddress) -> ForwardConfirmed:
        """See `Resolver.forward_confirmed`."""
        return await forward_confirmed(self, address)

    async def _values(self, text: str, rdtype: str) -> tuple[str, Sequence[str]]:
        """Return the end of the name's aliases and its values, or raise as the table and the schedule say."""
        name = query_name(text, rdtype)
        self.asked.append((name, rdtype))
        if name in self._held:
            await self._held[name].wait()
        await asyncio.sleep(self._delays_s.get(name, 0))
        self._raise_if_failing(name, rdtype)
        while "CNAME" in self._table.get(name, {}) and rdtype != "CNAME":
            name = _key(self._table[name]["CNAME"][0])
        if name not in self._table:
            raise NoSuchDomain(name, rdtype, "no such domain")
        if rdtype not in self._table[name]:
            raise NoData(name, rdtype, "no such record")
        return name, self._table[name][rdtype]

    def _raise_if_failing(self, name: str, rdtype: str) -> None:
        scheduled = self._scheduled.get(name)
        error = scheduled.popleft() if scheduled else None
        error = error or self._failing.get((name, rdtype)) or self._failing.get((name, None))
        if error is not None:
            raise error(name, rdtype, "set to fail")


def _key(text: str) -> str:
    """Return a name as look-ups have it; an address stands for its reverse name."""
    try:
        return reverse_name(ip_address(text))
    except ValueError:
        return text.lower().removesuffix(".")
