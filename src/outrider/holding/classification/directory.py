"""Whose word on the class of a sender counts (AMDP-18).

A class in an envelope is *claimed*. It is *vouched* for when a classification service that this site has
chosen says that the sender's domain may use it; a domain may be vouched for several, and binds each account
to one of its own (`[amdp.outgoing] classes`). A service answers with a signed document, so that its word can
be checked by others too, when somebody is reported for a lie. A service that does not answer never blocks
mail by itself (ITP-3): the class stays claimed. A service in the hand of the domain that is asked about is
never asked about it, nor told of its lies.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from outrider.holding.classification.forms import (
    CLASS_KIND,
    CLASS_PATH,
    MAX_ANSWER,
    REPORT_KIND,
    REPORT_PATH,
    ClassAnswer,
    ClassReport,
    Taken,
)
from outrider.holding.classification.observer import DirectoryObserver
from outrider.holding.policies.host_documents import HostCheck, HostKey, read_signed
from outrider.holding.policies.peers import Peer
from outrider.holding.web import CallFailed, WebCaller
from outrider.identity.delegated_authorities import registered_domain
from outrider.model.address import Domain
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.json_forms import decode
from outrider.protocols.amdp.mail_class import (
    ClassError,
    ClassPattern,
    matches_any,
    parse_class,
    parse_pattern,
)

REMEMBERED = 10_000
"""Domains whose answers are kept."""
UNANSWERED_S = 60.0
"""After which services that did not answer are asked again."""
OLDEST_S = 86_400.0
"""An answer may have lain at its service for so long."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What is known of a domain's classes."""

    patterns: frozenset[ClassPattern] = frozenset()
    """Empty: nobody vouches for anything."""
    service: str = ""
    """The host of the service whose word this is; "" for nobody's."""
    answered: bool = True
    """False: not every service could be asked; the class stays claimed, and nothing follows from that."""

    def covers(self, mail_class: str) -> bool:
        """Whether this class is vouched for."""
        try:
            return matches_any(self.patterns, parse_class(mail_class))
        except ClassError:
            return False


class Classes(Protocol):
    """What the services say, for those who judge envelopes."""

    async def vouched(self, domain: Domain) -> Vouched:
        """Asked of the services in their order, remembered for a while. Never raises for their reasons."""
        ...

    async def report(self, domain: Domain, mail_class: str, report: bytes) -> bool:
        """Send a report of abuse (ARF, RFC 5965, whole message) on a lie about the class to the service that
        vouched for it, so that it is classified anew. False: nobody took it."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryParts:
    """What the directory works with; made anew by a reload."""

    services: tuple[Peer, ...]
    caller: WebCaller
    check: HostCheck
    observer: DirectoryObserver
    clock: Callable[[], float]
    chance: Callable[[int], bytes]
    cache_s: float = 3600.0
    key: HostKey | None = None
    """What reports are signed with; None: none are sent."""


class ClassDirectory:
    """Implements `Classes`."""

    def __init__(self, parts: DirectoryParts) -> None:
        self._parts = parts
        self._known: OrderedDict[Domain, tuple[Vouched, float]] = OrderedDict()
        self._asking: dict[Domain, asyncio.Task[Vouched]] = {}

    async def vouched(self, domain: Domain) -> Vouched:
        """See `Classes`. Several that want to know the same ask once."""
        known = self._known.get(domain)
        if known is not None and known[1] > self._parts.clock():
            self._known.move_to_end(domain)
            return known[0]
        task = self._asking.get(domain)
        if task is None:
            task = self._asking[domain] = asyncio.create_task(self._ask_all(domain))
            task.add_done_callback(lambda _: self._asking.pop(domain, None))
        return await asyncio.shield(task)

    async def _ask_all(self, domain: Domain) -> Vouched:
        answered, until = True, self._parts.clock() + self._parts.cache_s
        found = Vouched()
        for service in self._services_for(domain):
            try:
                answer = await self._ask(service, domain)
                patterns = frozenset(parse_pattern(one) for one in answer.classes)
            except (CallFailed, ValueError) as error:
                self._parts.observer.subscriptions_failed(f"asking {service.host} about {domain}", error)
                answered = False
                continue
            until = min(until, float(answer.expires))
            if patterns:
                found = Vouched(patterns, service.host)
                break
        else:
            found = Vouched(answered=answered)
            if not answered:
                until = self._parts.clock() + min(UNANSWERED_S, self._parts.cache_s)
        self._remember(domain, found, until)
        return found

    def _remember(self, domain: Domain, found: Vouched, until: float) -> None:
        self._parts.observer.class_looked_up(
            str(domain), found.service, len(found.patterns), answered=found.answered
        )
        self._known[domain] = found, until
        self._known.move_to_end(domain)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _services_for(self, domain: Domain) -> list[Peer]:
        """Those that the domain does not control."""
        own = registered_domain(domain)
        return [one for one in self._parts.services if registered_domain(one.host) != own]

    async def _ask(self, service: Peer, domain: Domain) -> ClassAnswer:
        path = f"{CLASS_PATH}?domain={quote(domain)}"
        answer = await self._parts.caller.get(service.host, service.port, path, limit=MAX_ANSWER)
        if answer.status != 200:
            raise CallFailed(f"{service.host} answers {answer.status}")
        now = self._parts.clock()
        said = read_signed(
            answer.body, CLASS_KIND, ClassAnswer, self._parts.check, audience="", now=now, age_s=OLDEST_S
        )
        if said.signer != service.host or said.domain != domain:
            raise ValueError("the answer is another's, or about another")
        if said.expires <= now:
            raise ValueError("the answer has expired")
        return said

    async def report(self, domain: Domain, mail_class: str, report: bytes) -> bool:
        """See `Classes`."""
        host = (await self.vouched(domain)).service
        service = next((one for one in self._services_for(domain) if one.host == host), None)
        if service is None or self._parts.key is None:
            return False
        try:
            document = self._signed_report(self._parts.key, service, domain, mail_class, report)
            answer = await self._parts.caller.post(
                service.host, service.port, REPORT_PATH, document, limit=MAX_ANSWER
            )
            taken = answer.status == 200 and decode(answer.body, Taken).taken
        except (CallFailed, ValueError) as error:
            self._parts.observer.subscriptions_failed(f"reporting {domain} to {host}", error)
            return False
        if taken:
            self._known.pop(domain, None)  # it may say something else from now on
        return taken

    def _signed_report(
        self, key: HostKey, service: Peer, domain: Domain, mail_class: str, report: bytes
    ) -> bytes:
        payload = ClassReport(
            signer=key.host,
            audience=service.host,
            at=int(self._parts.clock()),
            nonce=identifier(self._parts.chance(OCTETS)),
            domain=str(domain),
            mail_class=mail_class,
            report=report,
        )
        return key.sign(payload, REPORT_KIND)
