"""Facts that cost a look-up: asked early, bounded in time, waited for only by the rule that needs them.

What could not be had is told to policy as such (``lookup.failed``), so that nothing permanent is built on
silence (SEC-154).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from outrider.delivery.lookup import LookupFailed, LookupTemporary, MailLookup, NoRecords
from outrider.identity.host_identity import ReverseNames
from outrider.model.facts import Fact, Facts, Provenance
from outrider.policy.fact_names import LOOKUP_FAILED
from outrider.reception.interface import IPAddress, Session
from outrider.reception.observer import ReceptionObserver
from outrider.reception.trust_lookups import TrustSource
from outrider.trust.assessment import TRUST_FACTS
from outrider.trust.issuers import issuer_domains

MAX_PENDING = 2000
"""Clients whose names are being looked up in advance; more are looked up only when a rule asks."""
MAX_EXCHANGERS = 10


@dataclass(frozen=True, slots=True)
class ClientNames:
    """What reverse DNS says of an address (forward-confirmed: SEC-153)."""

    confirmed: tuple[str, ...] = ()
    """Names that lead back to the address."""
    unconfirmed: tuple[str, ...] = ()
    """Names that do not, or could not be followed."""
    undecided: tuple[str, ...] = ()
    """Those of `unconfirmed` that could not be followed."""


class ReceptionLookup(MailLookup, Protocol):
    """The resolver as reception sees it. Each call ends in bounded time."""

    async def client_names(self, address: IPv4Address | IPv6Address) -> ClientNames:
        """Names by PTR, confirmed or not. Raises LookupTemporary when nothing could be learnt; no name at
        all is an answer."""
        ...

    async def pointer_names(self, address: IPv4Address | IPv6Address) -> tuple[str, ...]:
        """Names by PTR, followed nowhere. Raises LookupTemporary; no name at all is an answer."""
        ...


class FactSource:
    """Fetches facts for sessions and their messages."""

    def __init__(
        self,
        lookup: ReceptionLookup,
        observer: ReceptionObserver,
        clock: Callable[[], float],
        timeout_s: float,
        trust: TrustSource | None = None,
    ) -> None:
        self._trust = trust
        self._lookup = lookup
        self._observer = observer
        self._clock = clock
        self._timeout_s = timeout_s
        self._pending: dict[str, asyncio.Task[None]] = {}

    def begin(self, session: Session) -> None:
        """Start to look up the client's name; it becomes a fact of the session when it comes."""
        if session.id in self._pending or len(self._pending) >= MAX_PENDING or not _asks_names(session):
            return
        task = asyncio.get_running_loop().create_task(self._client_names(session))
        self._pending[session.id] = task
        task.add_done_callback(lambda done: self._begun_is_done(session, done))

    def _begun_is_done(self, session: Session, task: asyncio.Task[None]) -> None:
        self._pending.pop(session.id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._observer.reception_failed(session, "connect", error)

    async def close(self) -> None:
        """Give up what is still being looked up."""
        tasks = tuple(self._pending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def fetch(
        self, names: Iterable[str], session: Session, facts: Facts, sender_domain: str = ""
    ) -> None:
        """Make these facts known: the client's to the session's facts, others to `facts`; what cannot be had
        is made known as such. Never raises for a look-up's sake."""
        wanted = frozenset(names)
        for name in sorted(wanted - TRUST_FACTS):
            if name == "client.ptr":
                await self._wait_client_names(session)
            elif name == "sender.domain.takes-mail" and sender_domain:
                await self._bounded(name, session, facts, self._sender_domain(sender_domain, facts))
        asked = wanted & TRUST_FACTS
        if asked and self._trust is not None:
            await self._trust.fetch(asked, session.facts, facts, _issuers(session), self._clock())

    async def reverse_names(self, session: Session, *, forward: bool) -> ReverseNames:
        """What DNS says of an AMTP client's address; `forward`: its names are followed back.

        What was begun at connect is waited for, and a failure of then is not asked for again: the client may
        come back. Ends in bounded time; never raises for a look-up's sake.
        """
        address = session.client_address
        if address is None:
            return ReverseNames()
        task = self._pending.get(session.id)
        if task is not None:
            await asyncio.shield(task)
        if forward and (failed := _failed_before(session.facts, "client.ptr")):
            return ReverseNames(failure=failed)
        try:
            async with asyncio.timeout(self._timeout_s):
                if not forward:
                    return ReverseNames(rejected=await self._lookup.pointer_names(address))
                names = await self._lookup.client_names(address)
        except LookupFailed as error:
            return ReverseNames(failure=error.reason)
        except TimeoutError:
            return ReverseNames(failure=f"no answer in {self._timeout_s:g} s")
        rejected = tuple(name for name in names.unconfirmed if name not in names.undecided)
        return ReverseNames(names.confirmed, rejected, names.undecided)

    async def listed_as_exchanger(self, domain: str, own: frozenset[IPAddress]) -> bool | None:
        """Whether DNS names one of our addresses as exchanger of the domain (TLS-2); None = not known."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._is_listed(domain, own)
        except (LookupTemporary, TimeoutError):
            return None
        except LookupFailed:
            return False

    async def _is_listed(self, domain: str, own: frozenset[IPAddress]) -> bool | None:
        try:
            hosts = [one.host for one in (await self._lookup.mx(domain)).exchangers]
        except NoRecords:
            hosts = [domain]  # RFC 5321 5.1: the implicit MX
        listed: bool | None = False
        for host in hosts[:MAX_EXCHANGERS]:
            try:
                if not own.isdisjoint((await self._lookup.addresses(host)).addresses):
                    return True
            except LookupTemporary:
                listed = None
            except LookupFailed:
                continue
        return listed

    async def _wait_client_names(self, session: Session) -> None:
        task = self._pending.get(session.id)
        if task is not None:
            await asyncio.shield(task)  # one waiter's end must not end what another waits for
        # Begun before STARTTLS, it has told the session of then: ask again, from the resolver's memory.
        await self._client_names(session)

    async def _client_names(self, session: Session) -> None:
        if session.client_address is not None and _asks_names(session):
            question = self._ask_client_names(session.client_address, session.facts)
            await self._bounded("client.ptr", session, session.facts, question)

    async def _ask_client_names(self, address: IPAddress, facts: Facts) -> None:
        names = await self._lookup.client_names(address)
        now = self._clock()
        if names.confirmed:
            facts.prove("client.ptr", names.confirmed, "PTR and forward DNS", now)
        elif names.unconfirmed:
            facts.add(Fact("client.ptr", names.unconfirmed, Provenance.CLAIMED, "PTR, not confirmed", now))
        else:
            facts.prove("client.ptr", (), "no PTR record", now)  # an empty value: known not to be there

    async def _sender_domain(self, domain: str, facts: Facts) -> None:
        facts.prove("sender.domain.takes-mail", await self._takes_mail(domain), "DNS", self._clock())

    async def _takes_mail(self, domain: str) -> bool:
        try:
            records = await self._lookup.mx(domain)
        except NoRecords:
            return await self._has_address(domain)
        except LookupTemporary:
            raise
        except LookupFailed:
            return False
        return not records.null_mx and bool(records.exchangers)

    async def _has_address(self, host: str) -> bool:
        try:
            await self._lookup.addresses(host)
        except LookupTemporary:
            raise
        except LookupFailed:
            return False
        return True

    async def _bounded(self, name: str, session: Session, facts: Facts, question: Awaitable[None]) -> None:
        """Wait for an answer; its lack becomes a fact of its own."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await question
        except (LookupFailed, TimeoutError) as error:
            reason = (
                error.reason if isinstance(error, LookupFailed) else f"no answer in {self._timeout_s:g} s"
            )
            self._observer.lookup_failed(session, name, reason)
            failed = facts.value(LOOKUP_FAILED)
            already = failed if isinstance(failed, tuple) else ()
            facts.prove(LOOKUP_FAILED, (*already, name), reason, self._clock())


def _failed_before(facts: Facts, name: str) -> str:
    """Why the look-up of that fact failed; "" if it did not."""
    failed = facts.get(LOOKUP_FAILED)
    if failed is None or not isinstance(failed.value, tuple) or name not in failed.value:
        return ""
    return failed.how or "the look-up failed"


def _issuers(session: Session) -> tuple[str, ...]:
    """Domains of who issued the client's certificate, if it is proven.

    Of an MT2 host they are known already: a CA that its own domain publishes speaks for that domain alone,
    whatever others its certificates name (MT2-25).
    """
    known = session.facts.value("mt2.issuer", Provenance.PROVEN)
    if isinstance(known, tuple):
        return known
    if session.facts.get("tls.client.ca", Provenance.PROVEN) is None:
        return ()
    chain = session.proof_chain or (session.tls.peer_chain if session.tls is not None else ())
    return issuer_domains(chain[0]) if chain else ()


def _asks_names(session: Session) -> bool:
    """Whether the client's names are neither known nor known not to be had."""
    failed = session.facts.value(LOOKUP_FAILED)
    tried = isinstance(failed, tuple) and "client.ptr" in failed
    return session.client_address is not None and not tried and session.facts.get("client.ptr") is None
