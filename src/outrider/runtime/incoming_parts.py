"""How the incoming gateway of AMDP is joined to the rest (AMDP-7 to AMDP-11)."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from outrider.delivery.interface import LocalTransport
from outrider.delivery.lookup import LookupTemporary, NoRecords, NoSuchName, Unusable
from outrider.dns.answers import DnsError, DnsTemporary, NoData, NoSuchDomain, Resolver
from outrider.holding.classification.directory import Classes as ClassDirectory
from outrider.holding.incoming.abuse import AbuseDesk
from outrider.holding.incoming.arrival_store import ArrivalStore, open_arrivals
from outrider.holding.incoming.callback_transport import (
    CallbackParts,
    CallbackTransport,
    Classes,
    Gate,
    Spreading,
)
from outrider.holding.incoming.deciding import IncomingRules
from outrider.holding.incoming.fetch_transport import FetchParts, FetchTransport
from outrider.holding.incoming.ledger import Arrivals
from outrider.holding.incoming.messages import Making
from outrider.holding.incoming.mhf_check import AddressNames, HolderCheck, NameAddresses
from outrider.holding.incoming.observer import IncomingObserver
from outrider.holding.incoming.questions import REST_S, Questions, QuestionTerms
from outrider.holding.incoming.receipt_transport import ReceiptParts, ReceiptTransport
from outrider.holding.postage.provider_interface import PostageProvider
from outrider.holding.subscriptions.wishes import Wishes
from outrider.holding.web import WebCaller
from outrider.lists.mailing import Mailing
from outrider.model.address import Address, AddressError, parse_address
from outrider.protocols.amdp.mail_class import ClassError, parse_pattern
from outrider.protocols.amdp.report import PolicyReport
from outrider.reception.interface import Reception
from outrider.runtime.assembly import Assembly
from outrider.spool.interface import Spool
from outrider.tables.serial_thread import SerialThread

Clock = Callable[[], float]
_CHANCE = random.SystemRandom()


class IncomingError(ValueError):
    """A setting of [amdp.incoming] that means nothing; the text begins with its key."""


class FacilityDns:
    """The resolver, as the check of holders asks it (implements `mhf_check.FacilityLookup`)."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def name_addresses(self, name: str) -> NameAddresses:
        """See `FacilityLookup`."""
        try:
            answer = await self._resolver.addresses(name)
        except DnsError as error:
            raise _as_lookup(error) from error
        return NameAddresses(frozenset(answer.addresses), float(answer.ttl_s), answer.complete)

    async def address_names(self, address: IPv4Address | IPv6Address) -> AddressNames:
        """See `FacilityLookup`."""
        try:
            answer = await self._resolver.ptr(address)
        except DnsError as error:
            raise _as_lookup(error) from error
        return AddressNames(answer.names, float(answer.ttl_s))


def _as_lookup(error: DnsError) -> LookupTemporary | NoSuchName | NoRecords | Unusable:
    if isinstance(error, DnsTemporary):
        return LookupTemporary(str(error))
    if isinstance(error, NoSuchDomain):
        return NoSuchName(str(error))
    return NoRecords(str(error)) if isinstance(error, NoData) else Unusable(str(error))


def make_arrivals(assembly: Assembly) -> Arrivals:
    """Made once, at start; opened when it is first needed, closed with the server."""
    config, data_dir = assembly.config, assembly.data_dir
    thread: SerialThread[ArrivalStore] = SerialThread(lambda: open_arrivals(config, data_dir), "arrivals")
    return Arrivals(thread)


def incoming_rules(assembly: Assembly) -> IncomingRules:
    """What the settings say of senders and classes; for reception's `EnvelopeDesk` too. Raises
    IncomingError."""
    amdp = assembly.config.amdp
    try:
        classes = tuple(parse_pattern(text) for text in amdp.incoming.fetch_classes)
    except ClassError as error:
        raise IncomingError(f"amdp.incoming.fetch_classes: {error}") from error
    return IncomingRules(
        incoming=amdp.incoming,
        fetch_classes=classes,
        unvouched=amdp.classification.unvouched,
        asks_services=bool(amdp.classification.services),
        exempt=amdp.postage.exempt,
        largest=assembly.config.limits.message_size,
    )


def report_address(assembly: Assembly) -> Address | None:
    """[amdp.incoming] report_to. Raises IncomingError."""
    text = assembly.config.amdp.incoming.report_to
    try:
        return parse_address(text) if text else None
    except AddressError as error:
        raise IncomingError(f"amdp.incoming.report_to: {text!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the incoming gateway needs of the rest of the server."""

    mailing: Mailing
    spool: Spool
    reception: Callable[[], Reception]
    """The one in use, after a reload too."""
    resolver: Resolver
    caller: WebCaller
    gate: Gate
    """`holders.Holders`, which reception asks too (AMDP-7)."""
    report: PolicyReport
    """What this site publishes: of the one policy (ITP-4c)."""
    observer: IncomingObserver
    classes: ClassDirectory | None = None
    """None: no classification service was chosen."""
    wishes: Wishes | None = None
    """What people have said about whose mail they want; None: no subscription service here."""
    postage: Callable[[], PostageProvider | None] = lambda: None
    clock: Clock = time.time
    chance: Callable[[], float] = _CHANCE.random


@dataclass(frozen=True, slots=True)
class Incoming:
    """The incoming gateway; made anew by a reload, all but the arrivals."""

    transports: dict[str, LocalTransport]
    questions: Questions
    rules: IncomingRules

    async def aclose(self) -> None:
        """Break off calls under way, where the server stops or the settings have changed."""
        await self.questions.aclose()


def make_incoming(assembly: Assembly, around: Surroundings, arrivals: Arrivals) -> Incoming:
    """`amdp-callback`, `amdp-fetch`, `amdp-receipt`. Raises IncomingError."""
    settings = assembly.config.amdp.incoming
    rules = incoming_rules(assembly)
    making = Making(around.mailing, settings.retry)
    abuse = AbuseDesk(
        report_address(assembly), around.mailing, arrivals, around.observer, around.clock, around.classes
    )
    terms = QuestionTerms(settings.concurrency, rest_s=min((REST_S, *settings.retry[:1])))
    questions = Questions(around.caller, arrivals, around.observer, around.clock, terms, around.postage)
    classes: Classes | None = around.classes
    mis_port = assembly.config.net.amdp_port
    check = HolderCheck(FacilityDns(around.resolver), around.caller, around.clock, mis_port=mis_port)
    callback = CallbackTransport(
        CallbackParts(
            settings, rules, around.report, check, questions, arrivals, around.gate, making, abuse,
            Spreading(settings.window, around.chance), around.observer, around.clock, classes,
            around.wishes,
        )
    )  # fmt: skip
    fetch = FetchTransport(
        FetchParts(
            around.caller, arrivals, around.spool, around.reception, making, abuse, around.observer,
            around.clock, assembly.config.hostname, lambda: secrets.token_hex(6), questions.refund,
            max(1, settings.concurrency - 1),  # the last connection is for call-backs
        )
    )  # fmt: skip
    receipt = ReceiptTransport(ReceiptParts(around.caller, arrivals, making, around.observer, around.clock))
    transports: dict[str, LocalTransport] = {
        "amdp-callback": callback, "amdp-fetch": fetch, "amdp-receipt": receipt,
    }  # fmt: skip
    return Incoming(transports, questions, rules)
