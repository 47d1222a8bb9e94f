"""When a holder is genuine for a domain (AMDP-8).

The address that an envelope came from must be one that the sender's domain lists, and so must the name that
is to be called. A domain lists facilities in DNS, as `mhf-1.DOMAIN` to `mhf-16.DOMAIN` (*static*), or has its
information service at `amdp-mis.DOMAIN` say so, for an address and name that change (*dynamic*).

Listed in DNS means under the name itself: a wildcard answers for any name, and whatever it answers counts as
none. What could not be asked is no answer: the envelope waits, it is not dropped (SEC-163).
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlencode

from outrider.delivery.lookup import LookupFailed, LookupTemporary, NoSuchName
from outrider.holding.web import CallFailed, IPAddress, WebCaller
from outrider.model.address import Domain
from outrider.protocols.amdp.callback import GENUINE_PATH, Genuine
from outrider.protocols.amdp.json_forms import FormError, decode

MOST_FACILITIES: Final = 16
LONGEST_TTL_S: Final = 3600.0
"""DNS's own time to live, but never longer: a facility that was given up stops being believed."""
SHORTEST_TTL_S: Final = 5.0
REFUSAL_TTL_S: Final = 60.0
"""How long a holder that was not found genuine is not looked up again: the flood of a forger costs one
look-up."""
DYNAMIC_TTL_S: Final = 300.0
"""The same for the word of an information service."""
MOST_REMEMBERED: Final = 20_000
MAX_ANSWER: Final = 4096
ROBUST_ID: Final = 64
"""Characters of AMDP-MHF-Id that are handed on."""
_LABEL = re.compile(r"mhf-([1-9]|1[0-6])")
_WILDCARD_LABEL = "mhf-0"
"""No facility has this name (AMDP-8 counts from 1): whatever answers for it answers for every name."""


@dataclass(frozen=True, slots=True)
class NameAddresses:
    """The addresses of a name, at least one."""

    addresses: frozenset[IPAddress]
    ttl_s: float
    complete: bool = True
    """False: one family could not be looked up, and the absence of an address proves nothing."""


@dataclass(frozen=True, slots=True)
class AddressNames:
    """What an address's owner calls it; proves nothing by itself (SEC-153)."""

    names: tuple[str, ...]
    ttl_s: float


class FacilityLookup(Protocol):
    """What is asked of DNS. Each call ends in bounded time, and raises LookupFailed's kinds."""

    async def name_addresses(self, name: str) -> NameAddresses:
        """A and AAAA."""
        ...

    async def address_names(self, address: IPAddress) -> AddressNames:
        """PTR."""
        ...


class CannotTell(Exception):
    """Whether the holder is genuine cannot be found out now; the words are for log and trail."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an envelope says of its holder, and where it came from."""

    address: IPAddress
    """Of the connection that brought it."""
    name: str
    """AMDP-MHF-Name."""
    domain: Domain
    holder_id: str = ""
    """AMDP-MHF-Id."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a claim."""

    genuine: bool
    words: str
    """By what means it is, or why it is not; for facts, log and trail."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    finding: Finding
    until: float


@dataclass(slots=True)
class _Ttl:
    """The shortest time to live of the answers that a finding stands on."""

    seconds: float = LONGEST_TTL_S

    def of(self, answer: NameAddresses | AddressNames) -> None:
        self.seconds = min(self.seconds, max(answer.ttl_s, SHORTEST_TTL_S))


class HolderCheck:
    """Finds out, once for all that ask at the same time, and remembers for a while."""

    def __init__(
        self, dns: FacilityLookup, caller: WebCaller, clock: Callable[[], float], *, mis_port: int = 443
    ) -> None:
        self._dns = dns
        self._caller = caller
        self._clock = clock
        self._mis_port = mis_port
        self._known: OrderedDict[Claim, _Remembered] = OrderedDict()
        self._asking: dict[Claim, asyncio.Task[Finding]] = {}

    async def find(self, claim: Claim) -> Finding:
        """Whether the holder is genuine. Raises CannotTell."""
        known = self._known.get(claim)
        if known is not None and self._clock() < known.until:
            return known.finding
        task = self._asking.get(claim)
        if task is None:
            task = self._asking[claim] = asyncio.create_task(self._ask(claim))
            task.add_done_callback(lambda _: self._asking.pop(claim, None))
        return await asyncio.shield(task)

    async def _ask(self, claim: Claim) -> Finding:
        ttl = _Ttl()
        finding = await self._static(claim, ttl)
        if not finding.genuine and claim.holder_id:
            ttl.seconds = DYNAMIC_TTL_S
            finding = await self._dynamic(claim, finding)
        self._remember(claim, finding, ttl.seconds if finding.genuine else REFUSAL_TTL_S)
        return finding

    def _remember(self, claim: Claim, finding: Finding, ttl_s: float) -> None:
        self._known[claim] = _Remembered(finding, self._clock() + ttl_s)
        self._known.move_to_end(claim)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    # --- by DNS ---------------------------------------------------------------------------------------------

    async def _static(self, claim: Claim, ttl: _Ttl) -> Finding:
        if not is_facility_name(claim.name, claim.domain):
            return Finding(False, f"{claim.name} is no facility of {claim.domain}")
        try:
            wildcard = await self._listed(f"{_WILDCARD_LABEL}.{claim.domain}", ttl)
            named = await self._listed(claim.name, ttl) - wildcard
            if not named:
                return Finding(False, f"{claim.name} is not listed in DNS")
            if claim.address in named:
                return Finding(True, f"{claim.address} is {claim.name} in DNS")
            other = await self._by_ptr(claim, wildcard, ttl) or await self._by_number(claim, wildcard, ttl)
        except LookupTemporary as error:
            raise CannotTell(
                f"DNS cannot be asked about the facilities of {claim.domain}: {error}"
            ) from error
        if other:
            return Finding(True, f"{claim.address} is {other} in DNS, which lists {claim.name} too")
        return Finding(False, f"{claim.address} is no facility of {claim.domain} in DNS")

    async def _listed(self, name: str, ttl: _Ttl) -> frozenset[IPAddress]:
        """The addresses of a name; none where there is no such record. Raises LookupTemporary, also where not
        all are known: for want of one proves nothing."""
        try:
            answer = await self._dns.name_addresses(name)
        except LookupTemporary:
            raise
        except LookupFailed:
            return frozenset()
        if not answer.complete:
            raise LookupTemporary(f"{name}: one family of addresses could not be looked up")
        ttl.of(answer)
        return frozenset(map(plain, answer.addresses))

    async def _by_ptr(self, claim: Claim, wildcard: frozenset[IPAddress], ttl: _Ttl) -> str:
        """The facility that the address's owner calls it, where that name leads back to it; "" for none."""
        if claim.address in wildcard:
            return ""
        try:
            answer = await self._dns.address_names(claim.address)
        except LookupFailed:
            return ""  # the names can still be asked one by one
        for name in answer.names:
            if is_facility_name(name, claim.domain) and claim.address in await self._listed(name, ttl):
                ttl.of(answer)
                return name
        return ""

    async def _by_number(self, claim: Claim, wildcard: frozenset[IPAddress], ttl: _Ttl) -> str:
        """`mhf-1` to `mhf-16`, until one does not exist; "" for none."""
        if claim.address in wildcard:
            return ""
        unknown: LookupTemporary | None = None
        for number in range(1, MOST_FACILITIES + 1):
            name = f"mhf-{number}.{claim.domain}"
            try:
                answer = await self._dns.name_addresses(name)
            except NoSuchName:
                break
            except LookupTemporary as error:
                unknown = error
                continue
            except LookupFailed:
                continue
            if claim.address in map(plain, answer.addresses):
                ttl.of(answer)
                return name
            if not answer.complete:
                unknown = LookupTemporary(f"{name}: one family of addresses could not be looked up")
        if unknown is not None:
            raise unknown
        return ""

    # --- by the information service -------------------------------------------------------------------------

    async def _dynamic(self, claim: Claim, static: Finding) -> Finding:
        if len(claim.holder_id) > ROBUST_ID:
            return Finding(False, f"{static.words}; AMDP-MHF-Id is too long")
        service = f"amdp-mis.{claim.domain}"
        asked = urlencode(
            {"domain": claim.domain, "id": claim.holder_id, "address": claim.address, "name": claim.name}
        )
        try:
            answer = await self._caller.get(
                service, self._mis_port, f"{GENUINE_PATH}?{asked}", limit=MAX_ANSWER
            )
        except CallFailed as error:
            if error.temporary:
                raise CannotTell(f"{service} cannot be asked: {error}") from error
            return Finding(False, f"{static.words}; {service}: {error}")
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise CannotTell(f"{service} cannot be asked: it answers {answer.status}")
        if answer.status == 200 and _says_genuine(answer.body):
            return Finding(True, f"{service} confirms {claim.name} at {claim.address}")
        return Finding(False, f"{static.words}, and {service} does not confirm it")


def is_facility_name(name: str, domain: str) -> bool:
    """Whether it is one of `mhf-1.DOMAIN` to `mhf-16.DOMAIN`."""
    label, dot, rest = name.lower().removesuffix(".").partition(".")
    return bool(dot) and rest == domain.lower() and _LABEL.fullmatch(label) is not None


def plain(address: IPAddress) -> IPAddress:
    """An IPv4 address as such, however it was written."""
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _says_genuine(body: bytes) -> bool:
    try:
        return decode(body, Genuine, MAX_ANSWER).genuine
    except FormError:
        return False
