"""How AMDP's roles are joined: what lives as long as the server, and what a reload makes anew."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from outrider.extensions.postage_office import PostageOffice
from outrider.holding.facility.exchangers import DnsExchangers
from outrider.holding.facility.guesses import MissCounts
from outrider.holding.pages.retrieval import RetrievalPages
from outrider.holding.policies.published_policy import published_report
from outrider.holding.postage.provider_interface import Payer, PostageProvider
from outrider.holding.web import WebService
from outrider.maillog.amdp_web_log import AmdpWebLog
from outrider.maillog.holding_log import HoldingLog
from outrider.maillog.incoming_log import IncomingLog
from outrider.maillog.postage_log import PostageLog
from outrider.maillog.subscriptions_log import SubscriptionsLog
from outrider.model.address import parse_domain
from outrider.protocols.amdp.report import PolicyReport
from outrider.reception.ids import id_maker
from outrider.runtime import incoming_parts, subscription_parts
from outrider.runtime.amdp_checks import own_reports
from outrider.runtime.amdp_entry import AmdpParts, AmdpSurroundings, LateFreshMail
from outrider.runtime.amdp_web_parts import make_web_caller
from outrider.runtime.assembly import Assembly
from outrider.runtime.gateway_parts import make_envelope_desk, make_mail_side, make_submission_desk
from outrider.runtime.holding_parts import HoldingSurroundings, make_held_store, make_holding
from outrider.runtime.incoming_parts import make_arrivals, make_incoming
from outrider.runtime.joining import Core, utc_offset
from outrider.runtime.listing import make_mailing
from outrider.runtime.mis_parts import make_information_service, make_policy_directory
from outrider.runtime.postage_parts import PostageHouse, PostageParts


class AmdpHouse:
    """Lives as long as the server: stores, each opened when it is first needed."""

    def __init__(
        self, assembly: Assembly, core: Core, owner: str, misses: MissCounts, fresh: LateFreshMail
    ) -> None:
        """`owner` names this worker and its spool."""
        self.core = core
        self.owner = owner
        self.misses = misses
        self.side = make_mail_side(assembly)
        self.held = make_held_store(assembly)
        self.arrivals = make_arrivals(assembly)
        self.postage = PostageHouse(assembly, time.time)
        self.subscriptions = subscription_parts.Subscriptions(assembly)
        voices = core.voices
        self.logs = _Logs(
            voices.web,
            HoldingLog(voices.emitter, voices.metrics),
            IncomingLog(voices.emitter, voices.metrics),
            PostageLog(voices.emitter, voices.metrics),
            SubscriptionsLog(voices.emitter, voices.metrics),
        )
        self.fresh = fresh
        self.office: tuple[Assembly, PostageOffice] | None = None
        core.extensions.postage = self._postage_of

    def close(self) -> None:
        """Wait for what is being done, and give the databases up."""
        self.side.close()
        self.held.close()
        self.arrivals.close()
        self.postage.close()
        self.subscriptions.close()

    def _postage_of(self, assembly: Assembly) -> PostageOffice | None:
        return self.office[1] if self.office is not None and self.office[0] is assembly else None

    def parts(self, assembly: Assembly, around: AmdpSurroundings) -> AmdpParts:
        """What belongs to these settings. To be started."""
        amdp = assembly.config.amdp
        postage = amdp.postage
        if not (amdp.roles or postage.provider != "none" or postage.accounts or postage.payers):
            self.office = None
            return AmdpParts()
        return _Joining(self, assembly, around).parts()


@dataclass(frozen=True, slots=True)
class _Logs:
    web: AmdpWebLog
    facility: HoldingLog
    incoming: IncomingLog
    postage: PostageLog
    subscriptions: SubscriptionsLog


class _Joining:
    """One set of settings being joined."""

    def __init__(self, house: AmdpHouse, assembly: Assembly, around: AmdpSurroundings) -> None:
        self._house = house
        self._assembly = assembly
        self._around = around
        self._roles = frozenset(assembly.config.amdp.roles)
        self._caller = make_web_caller(assembly, around.lookup)
        self._mailing = make_mailing(assembly, id_maker(random.getrandbits), utc_offset)
        self._made = AmdpParts(closing=(self._caller.aclose,))

    def parts(self) -> AmdpParts:
        """All of it."""
        house, made = self._house, self._made
        postage = self._postage_parts()
        subscriptions = self._subscription_parts()
        report = site_report(self._assembly)
        services: list[WebService] = [*make_information_service(self._assembly), *postage.services]
        services += subscriptions.services
        made.background = (postage.run, *subscriptions.background)
        if "img" in self._roles:
            self._join_incoming(report, subscriptions, postage.provider)
        if "mhf" in self._roles:
            services += self._join_holding(postage.payer)
        made.submissions = make_submission_desk(self._assembly, house.side)
        made.services = tuple(services)
        return made

    def _postage_parts(self) -> PostageParts:
        house = self._house
        find = house.core.spool.find_transfer
        made = house.postage.parts(self._assembly, self._caller, find, house.logs.postage)
        house.office = self._assembly, made.office
        return made

    def _subscription_parts(self) -> subscription_parts.SubscriptionParts:
        house = self._house
        around = subscription_parts.Surroundings(
            self._mailing,
            subscription_parts.storing(house.core.spool, house.fresh),
            house.core.lists,
            self._caller,
            house.logs.subscriptions,
        )
        return house.subscriptions.make(self._assembly, around)

    def _join_incoming(
        self,
        report: PolicyReport,
        subscriptions: subscription_parts.SubscriptionParts,
        provider: PostageProvider | None,
    ) -> None:
        house, made, around = self._house, self._made, self._around
        surroundings = incoming_parts.Surroundings(
            mailing=self._mailing,
            spool=house.core.spool,
            reception=around.reception,
            resolver=around.resolver,
            caller=self._caller,
            gate=house.side.holders,
            report=report,
            observer=house.logs.incoming,
            classes=subscriptions.classes,
            wishes=subscriptions.wishes,
            postage=lambda: provider,
        )
        incoming = make_incoming(self._assembly, surroundings, house.arrivals)
        made.transports |= incoming.transports
        made.envelopes = make_envelope_desk(
            self._assembly, incoming.rules, report, house.side, house.core.gauge
        )
        made.closing = (incoming.aclose, *made.closing)

    def _join_holding(self, payer: Payer) -> list[WebService]:
        house, made, around = self._house, self._made, self._around
        surroundings = HoldingSurroundings(
            mailing=self._mailing,
            reporting=around.reporting,
            spool=house.core.spool,
            fresh=house.fresh,
            policies=make_policy_directory(self._assembly.config, self._caller, house.logs.web),
            observer=house.logs.facility,
            owner=house.owner,
            payer=payer,
            exchangers=DnsExchangers(around.lookup),
            misses=house.misses,
        )
        holding = make_holding(self._assembly, surroundings, house.held)
        made.transports |= holding.transports
        made.watch = holding.watch
        made.caretaker = holding.caretaker
        return [holding.facility, RetrievalPages(holding.pages, holding.is_host)]


def site_report(assembly: Assembly) -> PolicyReport:
    """What this site publishes, and judges by; the same for all its domains but for the name in it."""
    reports = own_reports(assembly.config, assembly.policy)
    if reports:
        return next(iter(reports.values()))
    return published_report(parse_domain(assembly.config.hostname), assembly.config.amdp, assembly.policy)
