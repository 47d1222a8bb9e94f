"""The stub resolver: asks the configured name servers, remembers, and never asks twice at once.

A look-up goes through three doors. The cache answers at once, without a task or a suspension. Otherwise, if
the same question is already under way, the caller waits for that one. Otherwise a task asks the servers in
turn. Waiters may come and go (be cancelled) as they like; the task is stopped when the last one has left.

All failures inside are values (`Failure`), so that one outcome can be handed to many waiters, each of whom
gets an exception of its own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.rdatatype

from outrider.dns.answers import (
    AddressAnswer,
    DnsDisabled,
    DnsError,
    DnsTemporary,
    ForwardConfirmed,
    IPAddress,
    MxAnswer,
    NoData,
    NoSuchDomain,
    PtrAnswer,
    RecordsAnswer,
    SrvAnswer,
    TxtAnswer,
    UnusableAnswer,
)
from outrider.dns.cache import TtlCache
from outrider.dns.confirm import forward_confirmed
from outrider.dns.decode import Answer, Unusable, decode, decode_records
from outrider.dns.exchange import Question, Reply, ServerFailed, exchange
from outrider.dns.names import query_name, reverse_name
from outrider.dns.reading import MAX_ALIASES, Reading
from outrider.dns.servers import Server, servers_from_config


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """How to resolve. Times in seconds.

    `validating` says that the servers check DNSSEC: their AD bit then counts as proof, if they are on
    loopback (ITP-2c). No servers at all = no DNS.
    """

    servers: tuple[Server, ...]
    validating: bool = False
    try_timeout_s: float = 2.0
    total_timeout_s: float = 10.0  # an SMTP client waits minutes (RFC 5321 section 4.5.3.2)
    rounds: int = 2
    rest_after_silence_s: float = 30.0  # a silent server is asked last for so long
    max_in_flight: int = 256  # sockets open at once
    max_entries: int = 20_000
    max_octets: int = 32 * 1024 * 1024
    min_ttl_s: int = 5  # one message's several look-ups of a TTL 0 name cost one query
    max_ttl_s: int = 86_400  # SEC-164
    max_negative_ttl_s: int = 3600  # RFC 2308 section 5 suggests one to three hours
    failure_ttl_s: int = 5  # RFC 9520 section 3.2: remember failures for at least 1 second, at most 5 minutes

    @classmethod
    def from_config(
        cls, servers: Sequence[str] | None, validating: bool = False, timeout_s: float = 10.0
    ) -> "ResolverSettings":
        """`[dns]`: servers None = the system's (reads resolv.conf), [] = no DNS at all. Raises ValueError."""
        return cls(servers_from_config(servers), validating, total_timeout_s=timeout_s)

    def believes(self, server: Server) -> bool:
        """Whether the server's AD bit counts: it is said to validate, and nobody stands between it and us."""
        return self.validating and server.is_loopback


@dataclass(slots=True)
class ResolverCounters:
    """What the resolver has done since it started."""

    cache_hits: int = 0
    cache_misses: int = 0
    shared: int = 0  # misses that joined a query already under way
    sent: int = 0  # queries sent to servers
    failed: int = 0  # questions that ended without knowledge


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: the class of the error to raise, and the reason."""

    error: type[DnsError]
    reason: str


Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class _Key:
    """All that an answer depends on, given the servers; each resolver has a cache of its own (SEC-164)."""

    name: str
    rdtype: dns.rdatatype.RdataType
    raw: bool = False  # asked for by `query`, to be answered with records as they are

    def failed(self, failure: Failure) -> DnsError:
        return failure.error(self.name, self.rdtype.name, failure.reason)


@dataclass(slots=True)
class _Flight:
    """A query under way, and how many wait for it."""

    task: asyncio.Task[Outcome]
    waiters: int = 0


@dataclass(slots=True)
class _Rotation:
    """The servers, and until when each that fell silent is asked last."""

    servers: tuple[Server, ...]
    rest_s: float
    _rests_until: dict[Server, float] = field(default_factory=dict)

    def in_order(self, now: float) -> list[Server]:
        return sorted(self.servers, key=lambda server: self._rests_until.get(server, 0.0) > now)

    def fell_silent(self, server: Server, now: float) -> None:
        self._rests_until[server] = now + self.rest_s

    def answered(self, server: Server) -> None:
        self._rests_until.pop(server, None)


class DnsResolver:
    """The `Resolver` that asks real servers. Belongs to one event loop; `aclose` it at the end."""

    def __init__(self, settings: ResolverSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.counters = ResolverCounters()
        self._clock = clock
        self._cache: TtlCache[_Key, Outcome] = TtlCache(clock, settings.max_entries, settings.max_octets)
        self._flights: dict[_Key, _Flight] = {}
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._rotation = _Rotation(settings.servers, settings.rest_after_silence_s)
        self._closed = False

    async def aclose(self) -> None:
        """Stop every query under way (their waiters get `DnsTemporary`) and take no more."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def flush(self) -> None:
        """Forget all answers, for the operator's `flush` and for a reload."""
        self._cache.clear()

    # -- the Resolver interface ------------------------------------------------------------------------

    async def mx(self, domain: str) -> MxAnswer:
        """See `Resolver.mx`."""
        answer = await self._answer(_Key(query_name(domain, "MX"), dns.rdatatype.MX))
        assert isinstance(answer, MxAnswer)
        return answer

    async def addresses(self, host: str) -> AddressAnswer:
        """See `Resolver.addresses`. Both families are asked for at once."""
        name = query_name(host, "A")
        keys = _Key(name, dns.rdatatype.A), _Key(name, dns.rdatatype.AAAA)
        ipv4, ipv6 = (self._recall(key) for key in keys)
        if ipv4 is None or ipv6 is None:
            ipv4, ipv6 = await asyncio.gather(*(self._outcome(key) for key in keys))
        return _both_families(keys[0], ipv4, ipv6)

    async def ptr(self, address: IPAddress) -> PtrAnswer:
        """See `Resolver.ptr`."""
        answer = await self._answer(_Key(reverse_name(address), dns.rdatatype.PTR))
        assert isinstance(answer, PtrAnswer)
        return answer

    async def srv(self, name: str) -> SrvAnswer:
        """See `Resolver.srv`."""
        answer = await self._answer(_Key(query_name(name, "SRV"), dns.rdatatype.SRV))
        assert isinstance(answer, SrvAnswer)
        return answer

    async def txt(self, name: str) -> TxtAnswer:
        """See `Resolver.txt`."""
        answer = await self._answer(_Key(query_name(name, "TXT"), dns.rdatatype.TXT))
        assert isinstance(answer, TxtAnswer)
        return answer

    async def query(self, name: str, rdtype: str) -> RecordsAnswer:
        """See `Resolver.query`."""
        try:
            kind = dns.rdatatype.from_text(rdtype)
        except dns.exception.DNSException:
            raise ValueError(f"{rdtype!r} is not a record type") from None
        if dns.rdatatype.is_metatype(kind):
            raise ValueError(f"{rdtype!r} is not a type of records")
        answer = await self._answer(_Key(query_name(name, rdtype), kind, raw=True))
        assert isinstance(answer, RecordsAnswer)
        return answer

    async def forward_confirmed(self, address: IPAddress) -> ForwardConfirmed:
        """See `Resolver.forward_confirmed`."""
        return await forward_confirmed(self, address)

    # -- cache, then a query under way, then a new one -------------------------------------------------

    async def _answer(self, key: _Key) -> Answer:
        outcome = await self._outcome(key)
        if isinstance(outcome, Failure):
            raise key.failed(outcome)
        return outcome

    async def _outcome(self, key: _Key) -> Outcome:
        """Return what is or becomes known; does not suspend if the cache knows."""
        return self._recall(key) or await self._join(key)

    def _recall(self, key: _Key) -> Outcome | None:
        if not self.settings.servers:
            return Failure(DnsDisabled, "no DNS server is configured")
        outcome = self._cache.get(key)
        if outcome is not None:
            self.counters.cache_hits += 1
        return outcome

    async def _join(self, key: _Key) -> Outcome:
        """Wait for the query for `key`, starting it if need be."""
        if self._closed:
            return Failure(DnsTemporary, "the resolver is closed")
        self.counters.cache_misses += 1
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fetch(key)))
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        else:
            self.counters.shared += 1
        flight.waiters += 1
        try:
            await asyncio.wait(
                [flight.task]
            )  # unlike awaiting the task, this neither cancels it nor shares its end
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._landed(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            return Failure(DnsTemporary, "the resolver was closed")
        return flight.task.result()

    def _landed(self, key: _Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    # -- asking the servers ----------------------------------------------------------------------------

    async def _fetch(self, key: _Key) -> Outcome:
        """Ask, within the total time limit, and remember the outcome."""
        try:
            async with asyncio.timeout(self.settings.total_timeout_s), self._slots:
                reply = await self._follow(key)
        except TimeoutError:
            return self._remember_failure(key, f"no answer within {self.settings.total_timeout_s:g} s")
        except ServerFailed as error:
            return self._remember_failure(key, error.reason)
        outcome = _judge(key, reply.reading, self._ttl(reply.reading))
        self._cache.put(key, outcome, self._ttl(reply.reading), reply.octets)
        return outcome

    async def _follow(self, key: _Key) -> Reply:
        """Ask for the name, and on along the chain of aliases where a server's knowledge of it ends."""
        reply = await self._ask_servers(dns.name.from_text(key.name), key.rdtype)
        reading, octets = reply.reading, reply.octets
        aliases, ttl_s, authentic = reading.aliases, reading.ttl_s, reading.authentic
        while reading.ending == "alias":
            further = await self._ask_servers(reading.canonical, key.rdtype)
            reading, octets = further.reading, octets + further.octets
            aliases += reading.aliases
            ttl_s, authentic = min(ttl_s, reading.ttl_s), authentic and reading.authentic
            if aliases > MAX_ALIASES:
                raise ServerFailed("too many aliases", silent=False)
        whole = Reading(reading.ending, reading.canonical, aliases, reading.records, ttl_s, authentic)
        return Reply(whole, octets)

    async def _ask_servers(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Reply:
        """Ask one server after the other; those that stayed silent again in the next round.

        A server's SERVFAIL or nonsense is final for that server: it had its say.
        """
        hopeful = self._rotation.in_order(self._clock())
        last = ServerFailed("no server left to ask", silent=True)
        for _ in range(self.settings.rounds):
            for server in tuple(hopeful):
                try:
                    return await self._ask(server, name, rdtype)
                except ServerFailed as error:
                    last = error
                    if not error.silent:
                        hopeful.remove(server)
        raise last

    async def _ask(self, server: Server, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Reply:
        """Ask one server; what it says of authenticity is kept only if it may say so (ITP-2c)."""
        may_vouch = self.settings.believes(server)
        self.counters.sent += 1
        try:
            reply = await exchange(server, Question(name, rdtype, may_vouch), self.settings.try_timeout_s)
        except ServerFailed as error:
            if error.silent:
                self._rotation.fell_silent(server, self._clock())
            raise
        self._rotation.answered(server)
        if may_vouch or not reply.reading.authentic:
            return reply
        return Reply(_not_authentic(reply.reading), reply.octets)

    def _ttl(self, reading: Reading) -> int:
        """How long to keep what was read, seconds."""
        at_most = self.settings.max_ttl_s if reading.ending == "records" else self.settings.max_negative_ttl_s
        return max(self.settings.min_ttl_s, min(reading.ttl_s, at_most))

    def _remember_failure(self, key: _Key, reason: str) -> Failure:
        self.counters.failed += 1
        failure = Failure(DnsTemporary, reason)
        self._cache.put(key, failure, self.settings.failure_ttl_s)
        return failure


def _not_authentic(reading: Reading) -> Reading:
    return Reading(
        reading.ending, reading.canonical, reading.aliases, reading.records, reading.ttl_s, authentic=False
    )


def _judge(key: _Key, reading: Reading, ttl_s: int) -> Outcome:
    """Turn a reading into an answer, or into the failure it amounts to."""
    if reading.ending == "no such domain":
        return Failure(NoSuchDomain, "no such domain")
    if reading.ending != "records":
        return Failure(NoData, "no such record")
    try:
        return decode_records(reading, ttl_s) if key.raw else decode(reading, key.rdtype, ttl_s)
    except Unusable as error:
        return Failure(UnusableAnswer, str(error))


def _both_families(key: _Key, ipv4: Outcome, ipv6: Outcome) -> AddressAnswer:
    """Join the outcomes for A and AAAA.

    Without any address, one family's time-out outweighs the other's "none" (SEC-163).
    """
    answers = [outcome for outcome in (ipv4, ipv6) if isinstance(outcome, AddressAnswer)]
    failures = [outcome for outcome in (ipv4, ipv6) if isinstance(outcome, Failure)]
    if not answers:
        ranking = (DnsTemporary, DnsDisabled, UnusableAnswer, NoData, NoSuchDomain)
        raise key.failed(min(failures, key=lambda failure: ranking.index(failure.error)))
    return AddressAnswer(
        addresses=tuple(dict.fromkeys(address for answer in answers for address in answer.addresses)),
        canonical_name=answers[0].canonical_name,
        secure=all(answer.secure for answer in answers),
        ttl_s=min(answer.ttl_s for answer in answers),
        complete=not any(failure.error is DnsTemporary for failure in failures),
    )
