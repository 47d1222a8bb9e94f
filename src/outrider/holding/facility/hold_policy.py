"""What the recipients' domains say to mail before they are told of it (AMDP-3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from outrider.delivery.results import deferred, failed
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.hold_case import PROTOCOL, Case, held_result
from outrider.holding.facility.observer import FacilityObserver
from outrider.holding.policies.directory import FAILED_S, PolicyUnknown
from outrider.model.address import Domain
from outrider.protocols.amdp.prices import MAX_PRICE
from outrider.protocols.amdp.report import PolicyReport
from outrider.protocols.amdp.terms import Asked, NotNow, Refused, Taken, judge

SHORTEST_WAIT_S = 15.0
"""Before another try of what a policy does not take now."""


class Policies(Protocol):
    """Finds what domains publish (AMDP-3, AMDP-16)."""

    async def of(self, domain: Domain) -> PolicyReport | None:
        """The policy, from memory as long as it says; None where the domain publishes none. Raises
        PolicyUnknown."""
        ...


class PolicyGate:
    """Asks them."""

    def __init__(
        self,
        policies: Policies,
        store: HeldThreads,
        observer: FacilityObserver,
        *,
        pays: bool,
        pushes: bool,
        vouched_by: frozenset[str] = frozenset(),
    ) -> None:
        """`pays`: there is a payer. `pushes`: who has no AMDP gets the message itself, and no link.
        `vouched_by`: services that vouch for our classes."""
        self._vouched_by = vouched_by
        self._policies = policies
        self._store = store
        self._observer = observer
        self._pays = pays
        self._pushes = pushes

    async def judged(self, case: Case, numbers: Sequence[int]) -> list[int]:
        """The recipients whose domains take it (AMDP-3)."""
        domains: dict[str, list[int]] = {}
        for number in numbers:
            domains.setdefault(case.address(number).domain, []).append(number)
        reports = await asyncio.gather(*(self._policy_of(domain) for domain in domains))
        taken: list[int] = []
        for (domain, concerned), report in zip(domains.items(), reports, strict=True):
            if isinstance(report, PolicyUnknown):
                self._told(case, domain, concerned, NotNow("", str(report), FAILED_S))
            elif report is None and self._pushes:
                case.pushed += concerned
                case.results |= dict.fromkeys(
                    concerned, held_result(f"{domain} has no AMDP: it goes as it is")
                )
            elif report is None:
                taken += concerned
            else:
                taken += await self._by_policy(case, domain, concerned, report)
        return taken

    async def _policy_of(self, domain: str) -> PolicyReport | PolicyUnknown | None:
        try:
            return await self._policies.of(Domain(domain))
        except PolicyUnknown as unknown:
            return unknown

    async def _by_policy(
        self, case: Case, domain: str, numbers: list[int], report: PolicyReport
    ) -> list[int]:
        asked = Asked(
            case.mail_class,
            case.message.size,
            case.now,
            MAX_PRICE if self._pays else 0,
            vouched=not self._vouched_by.isdisjoint(report.class_services),
        )
        judgement = judge(report, asked)
        granted = len(numbers)
        if isinstance(judgement, Taken) and report.messages_per_minute:
            limit = report.messages_per_minute
            granted = await self._store.write(
                lambda store: store.take_turns(domain, len(numbers), limit, case.now)
            )
            late = judge(report, replace(asked, recent=limit))
            self._told(case, domain, numbers[granted:], late)
        if not isinstance(judgement, Taken):
            self._told(case, domain, numbers, judgement)
            return []
        if judgement.price:
            case.prices |= dict.fromkeys(numbers[:granted], (judgement.price, report))
        return numbers[:granted]

    def _told(
        self, case: Case, domain: str, numbers: Sequence[int], judgement: Taken | Refused | NotNow
    ) -> None:
        if not numbers or isinstance(judgement, Taken):
            return
        words = f"{domain} does not take it: {judgement.words}"
        if judgement.rule:
            words += f" (its policy: {judgement.rule})"
        if isinstance(judgement, Refused):
            result = failed("5.7.1", words, protocol=PROTOCOL)
        else:
            result = deferred("4.7.1", words, protocol=PROTOCOL)
            case.wait_s = min(case.wait_s or judgement.seconds, judgement.seconds) or SHORTEST_WAIT_S
        case.results |= dict.fromkeys(numbers, result)
        self._observer.holding_refused(case.message.id, domain, judgement.rule, judgement.words)
