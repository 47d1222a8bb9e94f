"""How subscriptions and classification are joined to the rest (AMDP-18, AMDP-19)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outrider.config.schema import Config
from outrider.delivery.interface import FreshMail
from outrider.holding.classification.directory import ClassDirectory, Classes, DirectoryParts
from outrider.holding.classification.service import ClassificationService, ServiceParts, read_vouched
from outrider.holding.classification.store import ClassificationStoreThread, open_classification_store
from outrider.holding.policies.host_documents import HostCheck, HostKey
from outrider.holding.policies.peers import parse_peer
from outrider.holding.policies.published_policy import information_host
from outrider.holding.subscriptions.api import SubscriptionApi
from outrider.holding.subscriptions.exchange import ExchangeParts, SubscriptionExchange
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.office import OfficeParts, SubscriptionOffice
from outrider.holding.subscriptions.pages import SubscriptionPages
from outrider.holding.subscriptions.store import SubscriptionStoreThread, open_subscription_store
from outrider.holding.subscriptions.wishes import Wishes
from outrider.holding.web import WebCaller, WebService
from outrider.identity.authorities import CaStores
from outrider.identity.server_tls import TlsRefusal, verify_server
from outrider.lists.mailing import Mailing
from outrider.lists.settings import load_lists
from outrider.lists.store import ListStoreThread
from outrider.model.address import parse_domain
from outrider.model.message import NewMessage
from outrider.runtime.assembly import Assembly
from outrider.runtime.subscription_names import host_key, own_domains, service_base, service_host
from outrider.spool.interface import Spool

LEASE_S = 300.0
"""For handing a new message to delivery from memory."""
Post = Callable[[NewMessage], Awaitable[None]]
Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SubscriptionParts:
    """What a server works with; made anew by a reload."""

    services: tuple[WebService, ...] = ()
    """For the HTTPS listeners."""
    wishes: Wishes | None = None
    """What people wish; None: this server does not have the role `subscriptions`."""
    classes: Classes | None = None
    """What classification services say; None: this site has chosen none."""
    background: tuple[Run, ...] = ()
    """Each runs until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the parts need of a running server."""

    mailing: Mailing
    post: Post
    list_store: ListStoreThread
    caller: WebCaller
    observer: SubscriptionObserver
    clock: Callable[[], float] = time.time
    chance: Callable[[int], bytes] = secrets.token_bytes


class Subscriptions:
    """Lives as long as the server: the stores; what the present settings make of them is made by `make`."""

    def __init__(self, assembly: Assembly) -> None:
        config, data_dir = assembly.config, assembly.data_dir
        self._store = SubscriptionStoreThread(
            lambda: open_subscription_store(config, data_dir), "subscriptions"
        )
        self._classification = ClassificationStoreThread(
            lambda: open_classification_store(config, data_dir), "classification"
        )

    def make(self, assembly: Assembly, around: Surroundings) -> SubscriptionParts:
        """The parts for these settings, which `subscription_faults` has passed."""
        amdp = assembly.config.amdp
        check = StoresCheck(assembly.amdp_stores)
        key = host_key(assembly.config, (service_host(assembly.config),))
        services: list[WebService] = []
        background: list[Run] = []
        classes, wishes = _classes(assembly.config, around, check, key), None
        if "subscriptions" in amdp.roles:
            office = self._office(assembly, around)
            exchange = self._exchange(assembly, around, office, check, key, classes)
            hosts = service_hosts(assembly)
            services += [
                SubscriptionPages(office, hosts, around.observer),
                SubscriptionApi(office, exchange, hosts, around.observer),
            ]
            background += [office.run, exchange.run]
            wishes = office
        if "classification" in amdp.roles and key is not None:
            services.append(self._service(assembly.config, around, check, key))
        return SubscriptionParts(tuple(services), wishes, classes, tuple(background))

    def _office(self, assembly: Assembly, around: Surroundings) -> SubscriptionOffice:
        parts = OfficeParts(
            self._store,
            load_lists(assembly.config),
            around.list_store,
            around.mailing,
            around.post,
            lambda domain: service_base(assembly.config, domain),
            around.observer,
            around.clock,
            around.chance,
            assembly.config.amdp.subscriptions.requests_per_hour,
        )
        return SubscriptionOffice(parts)

    def _exchange(
        self,
        assembly: Assembly,
        around: Surroundings,
        office: SubscriptionOffice,
        check: HostCheck,
        key: HostKey | None,
        classes: Classes | None,
    ) -> SubscriptionExchange:
        settings = assembly.config.amdp.subscriptions
        parts = ExchangeParts(
            office,
            self._store,
            check,
            around.observer,
            around.clock,
            around.chance,
            lambda domain: service_base(assembly.config, domain),
            frozenset(parse_domain(one) for one in settings.synch_clients),
            tuple(parse_peer(one) for one in settings.peers),
            tuple(own_domains(assembly.config)),
            settings.min_ratio,
            settings.requests_per_hour,
            key,
            around.caller,
            classes,
        )
        return SubscriptionExchange(parts)

    def _service(
        self, config: Config, around: Surroundings, check: HostCheck, key: HostKey
    ) -> ClassificationService:
        settings = config.amdp.classification
        vouched = read_vouched(Path(settings.vouched)) if settings.vouched else {}
        parts = ServiceParts(
            vouched, self._classification, key, check, around.observer, around.clock, settings.cache
        )
        return ClassificationService(parts)

    def close(self) -> None:
        """Wait for what is being done, and give the databases up."""
        self._store.close()
        self._classification.close()


def _classes(
    config: Config, around: Surroundings, check: HostCheck, key: HostKey | None
) -> ClassDirectory | None:
    settings = config.amdp.classification
    services = tuple(parse_peer(one) for one in settings.services)
    if not services:
        return None
    parts = DirectoryParts(
        services, around.caller, check, around.observer, around.clock, around.chance, settings.cache, key
    )
    return ClassDirectory(parts)


def storing(spool: Spool, fresh: FreshMail | None, clock: Callable[[], float] = time.time) -> Post:
    """What stores letters, and hands them to delivery where there is one running."""

    async def post(message: NewMessage) -> None:
        lease_until = 0.0 if fresh is None else clock() + LEASE_S
        leased = await spool.store(message, lease_until=lease_until)
        if leased and fresh is not None:
            fresh.take(leased)

    return post


def service_hosts(assembly: Assembly) -> frozenset[str]:
    """The names that requests may be for."""
    config = assembly.config
    return frozenset({service_host(config), *(information_host(domain) for domain in own_domains(config))})


@dataclass(frozen=True, slots=True)
class StoresCheck:
    """Implements `HostCheck`: the CAs that may vouch for services and facilities."""

    stores: CaStores

    def belongs(self, chain: Sequence[bytes], host: str, now: float) -> bool:
        """See `HostCheck`."""
        return not isinstance(verify_server(chain, host, self.stores, now), TlsRefusal)
