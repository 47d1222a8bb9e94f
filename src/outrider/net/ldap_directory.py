"""A domain's own directory asked for its CA certificate: LDAP as FIRS has it (MT2-24b).

SRV ``_ldap._tcp.`` and the domain names the servers; the base is ``cn=inetResources`` under the domain's
``dc`` components, the entry an ``inetDnsDomain`` whose ``cn`` is the domain, the attribute ``cACertificate``.
At most two referrals are followed, to servers inside the domain.

Which server is asked, a stranger has chosen. So `libldap` (python-ldap, the extra ``ldap``) has no socket
that leads there: it talks into a pair of local ones, and a `Relay` carries the octets to the server and back.
Address, port, TLS, octets and time are thereby ours to bound, whatever the library does with what it is told;
it works in a few threads (`ldap_search`), and when the relay ends, it ends.

An answer is worth what its way was worth. LDAP signs nothing: an answer counts as secure only if it came by
TLS from a server that has proven to be the domain's (as AMTP-5 has it, by `ServerJudge`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from outrider.delivery.lookup import HostAddresses, LookupFailed, LookupTemporary, ServiceRecords
from outrider.identity.delegated_authorities import (
    AuthorityLookupFailed,
    DelegatedAuthorities,
    read_published,
)
from outrider.identity.host_identity import HostRefusal, ServerJudge, ServerQuestion
from outrider.net.dialling import DialFailed, Dialling
from outrider.net.ldap_relay import Relay
from outrider.net.ldap_search import (
    PORTS,
    TLS_PORT,
    LdapSaid,
    SearchResult,
    base_of,
    load_ldap,
    read_referral,
    search,
)
from outrider.net.tls import TlsTimes, start_tls_client
from outrider.net.tls_context import ClientContext
from outrider.net.tls_info import TlsHandshakeError, TlsInfo
from outrider.routing.private_addresses import AddressGuard, IPAddress
from outrider.routing.services import Chance, order_of

MAX_OCTETS: Final = 65_536
"""Of all that one server may send."""
MAX_REFERRALS: Final = 2
MAX_SERVERS: Final = 3
MAX_ADDRESSES: Final = 2
MAX_THREADS: Final = 4
_SERVICE = "_ldap"


class DirectoryLookup(Protocol):
    """DNS as a directory's client needs it. Each call ends in bounded time."""

    async def directory_servers(self, domain: str) -> ServiceRecords:
        """The domain's SRV records for LDAP. Raises LookupFailed's four kinds."""
        ...

    async def addresses(self, host: str) -> HostAddresses:
        """The host's addresses. Raises LookupFailed's four kinds."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryParts:
    """What the client works with."""

    lookup: DirectoryLookup
    guard: AddressGuard
    """Which addresses may be connected to: public ones, and those that the operator allows."""
    judge: ServerJudge
    """By whose CAs a server under TLS is judged."""
    chance: Chance
    clock: Callable[[], float]
    """Seconds since the epoch."""
    dialling: Dialling = field(default_factory=lambda: Dialling(timeout_s=5.0))
    timeout_s: float = 5.0
    """For one server; the caller bounds the whole."""


@dataclass(frozen=True, slots=True)
class _Server:
    """A server to ask, and how we came to it."""

    host: str
    port: int
    secure: bool
    """DNSSEC, or a server that was proven, has named it."""
    base: str = ""
    """Where to look, if a referral says so."""


class LdapDirectory:
    """Asks directories. Belongs to one event loop; to be closed when replaced."""

    def __init__(self, parts: DirectoryParts) -> None:
        """Raises LdapMissing."""
        load_ldap()
        self._parts = parts
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="ldap")
        self._tls = ClientContext()

    def close(self) -> None:
        """Take no more questions; threads that still wait for a server end with it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def find(self, domain: str) -> DelegatedAuthorities:
        """See `AuthorityLookup`. The servers are tried in their order until one answers."""
        failures: list[AuthorityLookupFailed] = []
        for server in await self._servers(domain):
            try:
                return await self._follow(domain, server)
            except AuthorityLookupFailed as error:
                failures.append(error)
        raise next((one for one in failures if one.temporary), failures[-1])

    async def _servers(self, domain: str) -> tuple[_Server, ...]:
        try:
            records = await self._parts.lookup.directory_servers(domain)
        except LookupTemporary as error:
            raise AuthorityLookupFailed(f"DNS did not answer: {error.reason}", temporary=True) from error
        except LookupFailed as error:
            reason = f"{domain} names no directory: {error.reason}"
            raise AuthorityLookupFailed(reason, temporary=False) from error
        ordered = order_of(records.services, self._parts.chance)
        usable = [one for one in ordered if one.port in PORTS]
        if not usable:
            reason = f"{domain} names no directory at port {' or '.join(map(str, PORTS))}"
            raise AuthorityLookupFailed(reason, temporary=False)
        return tuple(_Server(one.target, one.port, records.secure) for one in usable[:MAX_SERVERS])

    async def _follow(self, domain: str, server: _Server) -> DelegatedAuthorities:
        """Ask a server, and those that it refers to."""
        for _ in range(MAX_REFERRALS + 1):
            answer, info = await self._ask(domain, server)
            warrant, proven = self._warrant(domain, server, info)
            certificates, wrong = read_published(answer.certificates)
            if certificates:
                how = f"LDAP at {server.host}, {warrant}"
                return DelegatedAuthorities(domain, "ldap", proven, how, certificates)
            if wrong:
                reason = f"{server.host} has no usable CA certificate for {domain}: {wrong}"
                raise AuthorityLookupFailed(reason, temporary=False)
            if not answer.referrals:
                reason = f"{server.host} has no CA certificate for {domain}"
                raise AuthorityLookupFailed(reason, temporary=False)
            server = _referred(domain, server, answer.referrals, proven)
        reason = f"the directory of {domain} refers further than {MAX_REFERRALS} times"
        raise AuthorityLookupFailed(reason, temporary=False)

    def _warrant(self, domain: str, server: _Server, info: TlsInfo | None) -> tuple[str, bool]:
        """How an answer came, in words, and whether it was from a server that is proven."""
        dns = "DNSSEC-secure DNS" if server.secure else "unsigned DNS"
        if info is None:
            return f"unsigned LDAP over {dns}", False
        question = ServerQuestion(domain, server.host, server.secure, service=_SERVICE)
        judged = self._parts.judge.judge(info.peer_chain, question, self._parts.clock())
        if isinstance(judged, HostRefusal):
            return f"LDAP under TLS over {dns}, server not proven ({judged.check.value})", False
        if not judged.proven:
            return f"LDAP under TLS over {dns}, server merely claimed ({judged.how})", False
        return f"LDAP under TLS, server proven ({judged.how})", True

    # -- one server ------------------------------------------------------------------------------------

    async def _ask(self, domain: str, server: _Server) -> tuple[SearchResult, TlsInfo | None]:
        """Ask at the first address that can be reached."""
        failure = AuthorityLookupFailed(f"{server.host} has no address", temporary=True)
        for address in await self._addresses(server):
            try:
                async with asyncio.timeout(self._parts.timeout_s):
                    return await self._ask_at(domain, server, address)
            except TimeoutError:
                reason = f"{server.host} has not answered within {self._parts.timeout_s:g} s"
                failure = AuthorityLookupFailed(reason, temporary=True)
            except (DialFailed, TlsHandshakeError) as error:
                failure = AuthorityLookupFailed(f"{server.host}: {error}", temporary=True)
        raise failure

    async def _addresses(self, server: _Server) -> Sequence[IPAddress]:
        try:
            found = (await self._parts.lookup.addresses(server.host)).addresses
        except LookupFailed as error:
            reason = f"the addresses of {server.host} could not be learnt: {error.reason}"
            raise AuthorityLookupFailed(reason, temporary=True) from error
        refused = [(one, self._parts.guard.refusal(one)) for one in found]
        allowed = [one for one, reason in refused if not reason][:MAX_ADDRESSES]
        if not allowed:
            reasons = ", ".join(f"{one} {reason}" for one, reason in refused[:MAX_ADDRESSES])
            raise AuthorityLookupFailed(f"{server.host} is not asked: {reasons}", temporary=False)
        return allowed

    async def _ask_at(
        self, domain: str, server: _Server, address: IPAddress
    ) -> tuple[SearchResult, TlsInfo | None]:
        relay = Relay(MAX_OCTETS)
        try:
            await self._parts.dialling.dial(address, server.port, lambda: relay.outer)
            info = await self._secure(relay, server) if server.port == TLS_PORT else None
            return await self._search(relay, server.base or base_of(domain), domain), info
        except LdapSaid as error:
            raise _failed(server, domain, relay, error) from None
        finally:
            relay.close()

    async def _secure(self, relay: Relay, server: _Server) -> TlsInfo | None:
        assert relay.outer.transport is not None
        times = TlsTimes(handshake_s=self._parts.timeout_s)
        secured = await start_tls_client(
            relay.outer.transport,
            relay.outer,
            self._tls,
            server_hostname=server.host,
            announce=True,
            times=times,
        )
        return secured.info

    async def _search(self, relay: Relay, base: str, domain: str) -> SearchResult:
        """In a thread. If that is not even begun when we are cancelled, the socket is ours to close."""
        theirs = await relay.open()
        running = self._threads.submit(search, theirs, base, domain, self._parts.timeout_s)
        try:
            return await asyncio.wrap_future(running)
        finally:
            if running.cancelled():
                theirs.close()


def _referred(domain: str, server: _Server, referrals: Sequence[str], proven: bool) -> _Server:
    """The first server of a referral that may be asked: inside the domain (MT2-24b)."""
    wrong = ""
    for text in referrals:
        try:
            found = read_referral(text, domain)
        except ValueError as error:
            wrong = wrong or str(error)
        else:
            return _Server(found.host, found.port, proven, found.base)
    reason = f"{server.host} refers to where it may not: {wrong}"
    raise AuthorityLookupFailed(reason, temporary=False)


def _failed(server: _Server, domain: str, relay: Relay, said: LdapSaid) -> AuthorityLookupFailed:
    if relay.is_oversized:
        reason = f"{server.host} has sent more than {MAX_OCTETS // 1024} KiB"
        return AuthorityLookupFailed(reason, temporary=False)
    if said.is_absence:
        return AuthorityLookupFailed(f"{server.host} has no entry for {domain}", temporary=False)
    return AuthorityLookupFailed(f"{server.host}: {said}", temporary=True)
