"""How the holding facility of AMDP is joined to the rest (AMDP-2 to AMDP-6, AMDP-9, AMDP-12, AMDP-13)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from outrider.delivery.interface import FreshMail, LocalTransport
from outrider.delivery.reports import Reporting
from outrider.holding.facility.envelope_watch import EnvelopeWatch
from outrider.holding.facility.exchangers import Exchangers
from outrider.holding.facility.expiry import Caretaker, Caretaking
from outrider.holding.facility.facility_pages import HeldPages
from outrider.holding.facility.guesses import Guesses, MissCounts
from outrider.holding.facility.held_errands import ErrandMaker, ErrandRunner, RunnerParts
from outrider.holding.facility.held_records import CopyIds
from outrider.holding.facility.held_store import open_held_store
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.hold_policy import Policies
from outrider.holding.facility.hold_transport import HoldParts, HoldTransport
from outrider.holding.facility.observer import FacilityObserver
from outrider.holding.facility.service import Facility, FacilityParts
from outrider.holding.postage.provider_interface import Payer
from outrider.lists.mailing import Mailing
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.runtime.assembly import Assembly
from outrider.spool.interface import Spool


def make_held_store(assembly: Assembly) -> HeldThreads:
    """Made once, at start; opened by whatever needs it first, closed with the server."""
    config, data_dir = assembly.config, assembly.data_dir
    return HeldThreads(lambda: open_held_store(config, data_dir))


def new_copy_ids() -> CopyIds:
    """Three identifiers, each drawn for itself from the system's generator (AMDP-2)."""
    drawn, confirmation, token = (identifier(secrets.token_bytes(OCTETS)) for _ in range(3))
    return CopyIds(drawn, confirmation, token)


@dataclass(frozen=True, slots=True)
class HoldingSurroundings:
    """What the facility needs of the rest of the server."""

    mailing: Mailing
    reporting: Reporting
    spool: Spool
    fresh: FreshMail | None
    """None: nothing is delivered now."""
    policies: Policies
    """`holding.policies.directory.PolicyDirectory`."""
    observer: FacilityObserver
    owner: str
    """Names this worker and its spool: the name that its spool has."""
    payer: Payer | None = None
    exchangers: Exchangers | None = None
    """For [amdp.holding] only_contacted: `holding.facility.exchangers.DnsExchangers`."""
    clock: Callable[[], float] = time.time
    misses: MissCounts = field(default_factory=MissCounts)
    """What was asked about in vain, of which a reload forgets nothing."""


@dataclass(frozen=True, slots=True)
class Holding:
    """The facility; made anew by a reload, all but the store."""

    transports: dict[str, LocalTransport]
    """`amdp-hold`."""
    facility: Facility
    """The `WebService` for programs."""
    pages: HeldPages
    """The `PageSource` for people."""
    watch: EnvelopeWatch
    """For `delivery.item_runner.Rules.envelopes`."""
    caretaker: Caretaker
    """To be started, and stopped before the store is closed."""
    is_host: Callable[[str], bool]
    """Whether a name is one of the facility's."""


def holder_names(assembly: Assembly) -> Callable[[str], bool]:
    """Whether a host name is one that this facility has in some domain of ours: as in [amdp.holding] names,
    or ``mhf-N.DOMAIN``. The page and the endpoints answer to these names only."""
    given = {name.lower() for name in assembly.config.amdp.holding.names.values()}
    domains = {name.lower() for name in assembly.config.domains}

    def is_ours(host: str) -> bool:
        first, _, domain = host.partition(".")
        number = first.removeprefix("mhf-")
        listed = number.isascii() and number.isdigit() and len(number) <= 2 and number != first
        return host in given or (listed and 1 <= int(number) <= 16 and domain in domains)

    return is_ours


def make_holding(assembly: Assembly, around: HoldingSurroundings, store: HeldThreads) -> Holding:
    """All of it."""
    amdp, clock = assembly.config.amdp, around.clock
    settings = amdp.holding
    maker = ErrandMaker(
        around.owner,
        around.mailing.new_id,
        hook=bool(settings.hook),
        refunds=around.payer is not None,
    )
    runner = ErrandRunner(
        RunnerParts(
            store,
            around.owner,
            around.spool,
            around.fresh,
            around.reporting,
            around.observer,
            clock,
            settings.hook,
            around.payer,
            assembly.config.spool.lease,
        )
    )
    watch = EnvelopeWatch(store, maker, around.observer, clock)
    review = lambda: watch.review(around.spool)  # noqa: E731
    is_host = holder_names(assembly)
    parts = FacilityParts(
        store,
        maker,
        Guesses(settings.guesses_per_minute, around.misses),
        around.observer,
        is_host,
        clock,
        around.exchangers if settings.only_contacted else None,
    )
    hold = HoldTransport(
        HoldParts(
            store=store,
            settings=settings,
            port=amdp.port,
            delivery=assembly.config.delivery,
            mailing=around.mailing,
            routes=assembly.routes,
            policies=around.policies,
            observer=around.observer,
            clock=clock,
            new_ids=new_copy_ids,
            check_room=around.spool.check_room,
            payer=around.payer,
            vouched_by=frozenset(map(str.lower, amdp.postage.vouched_by)),
        )
    )
    return Holding(
        transports={"amdp-hold": hold},
        facility=Facility(parts),
        pages=HeldPages(parts),
        watch=watch,
        caretaker=Caretaker(Caretaking(store, maker, runner, around.observer, clock, review)),
        is_host=is_host,
    )
