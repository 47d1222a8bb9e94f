"""The published policies of others: fetched, read, remembered for as long as they say (AMDP-3, AMDP-16).

A policy is fetched once for all who ask at the same time. One that has run out is used on while a new one
cannot be had, up to `STALE_S`: a service that is down for an hour neither stops mail nor opens what was
closed. A domain without a service (no such name, nothing there) has no policy, and that is remembered too.
Where a name exists and never answers as it should - a wildcard in DNS leads to some web server, say - mail
waits for `GIVE_UP_S` and then goes without: who publishes a policy also keeps to it, so nothing is forced on
anybody.

Nothing here is ever more than `MOST_OCTETS` of a document, or `MOST_DOMAINS` documents.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlencode

from outrider.holding.policies.published_policy import information_host
from outrider.holding.web import CallFailed, WebCaller
from outrider.model.address import Domain
from outrider.protocols.amdp.report import POLICY_PATH, PolicyReport
from outrider.protocols.amdp.report_reader import MAX_OCTETS, parse_report

MOST_OCTETS: Final = 8 * MAX_OCTETS
"""Of an answer; of what is longer nothing is believed, and what is read of it `parse_report` bounds."""
MOST_DOMAINS: Final = 10_000
NONE_S: Final = 3600.0
"""How long "there is no policy" is remembered."""
FAILED_S: Final = 60.0
"""How long a service that did not answer is left in peace."""
GIVE_UP_S: Final = 900.0
"""How long mail waits for the policy of a domain of which none was ever seen."""
STALE_S: Final = 7 * 86_400.0
"""How long beyond its time a policy is used while there is no newer one."""
JITTER: Final = 0.1
"""Share by which times are shortened by chance, so that what was fetched together is not renewed together."""


class PolicyUnknown(Exception):
    """Whether there is a policy cannot be found out now; the text is for log and trail."""


class PolicyObserver(Protocol):
    """What the directory tells log and metrics. Must neither wait nor raise."""

    def policy_fetched(self, domain: str, result: str, text: str) -> None:
        """`result`: fetched, none, failed, stale (failed, and an older one is used)."""


class SilentPolicyObserver:
    """Keeps it all to itself."""

    def policy_fetched(self, domain: str, result: str, text: str) -> None:
        """Nothing."""


@dataclass(slots=True)
class _Known:
    """What is remembered of a domain. Times in seconds since the epoch."""

    report: PolicyReport | None
    ask_again_at: float
    good_until: float
    """Until when it may be used; 0 = nothing is known."""
    failing_since: float = 0.0


class PolicyDirectory:
    """Answers what a domain publishes. Belongs to one event loop."""

    def __init__(
        self,
        caller: WebCaller,
        clock: Callable[[], float],
        chance: Callable[[], float],
        *,
        port: int = 443,
        observer: PolicyObserver | None = None,
    ) -> None:
        """`chance` gives [0, 1)."""
        self._caller = caller
        self._clock = clock
        self._chance = chance
        self._port = port
        self._observer = observer or SilentPolicyObserver()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    async def of(self, domain: Domain) -> PolicyReport | None:
        """The policy of a domain; None when it publishes none. Raises PolicyUnknown."""
        known = self._known.get(domain)
        if known is None or known.ask_again_at <= self._clock():
            known = await self._fetched_once(domain)
        if known.good_until <= self._clock():
            raise PolicyUnknown(f"the policy of {domain} cannot be fetched now")
        return known.report

    async def fetch(self, domain: Domain) -> tuple[PolicyReport, bytes] | None:
        """The policy as it is now, with its text, for the operator; None when there is none. Raises
        CallFailed."""
        answer = await self._caller.get(
            information_host(domain), self._port, _path(domain), limit=MOST_OCTETS
        )
        if answer.status in (404, 410):
            return None
        if answer.status != 200:
            raise CallFailed(f"{information_host(domain)} answers {answer.status}")
        if answer.content_type != "text/plain":
            return None  # somebody's web page, and no policy
        return parse_report(answer.body, domain), answer.body

    async def aclose(self) -> None:
        """Give up what is under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetched_once(self, domain: Domain) -> _Known:
        task = self._asking.get(domain)
        if task is None:
            task = self._asking[domain] = asyncio.create_task(self._renewed(domain))
            task.add_done_callback(lambda _: self._asking.pop(domain, None))
        return await asyncio.shield(task)

    async def _renewed(self, domain: Domain) -> _Known:
        try:
            found = await self.fetch(domain)
        except CallFailed as error:
            if error.temporary:
                return self._failed(domain, str(error))
            self._observer.policy_fetched(domain, "none", str(error))
            found = None
        else:
            self._observer.policy_fetched(domain, "fetched" if found else "none", "")
        if found is None:
            return self._remember(domain, None, NONE_S)
        return self._remember(domain, found[0], found[0].cache_hours * 3600.0)

    def _failed(self, domain: Domain, words: str) -> _Known:
        """What is used until the service answers again."""
        now = self._clock()
        known = self._known.get(domain)
        if known is not None and known.good_until > now:
            known.ask_again_at = now + FAILED_S * self._shortened()
            self._observer.policy_fetched(domain, "stale", words)
            return known
        since = known.failing_since if known is not None and known.failing_since else now
        if now - since >= GIVE_UP_S:
            self._observer.policy_fetched(domain, "none", words)
            return self._remember(domain, None, NONE_S)
        self._observer.policy_fetched(domain, "failed", words)
        return self._keep(domain, _Known(None, now + FAILED_S * self._shortened(), 0.0, since))

    def _remember(self, domain: Domain, report: PolicyReport | None, for_s: float) -> _Known:
        now = self._clock()
        return self._keep(domain, _Known(report, now + for_s * self._shortened(), now + for_s + STALE_S))

    def _shortened(self) -> float:
        return 1.0 - JITTER * self._chance()

    def _keep(self, domain: Domain, known: _Known) -> _Known:
        self._known[domain] = known
        self._known.move_to_end(domain)
        if len(self._known) > MOST_DOMAINS:
            self._known.popitem(last=False)
        return known


def _path(domain: Domain) -> str:
    return f"{POLICY_PATH}?{urlencode({'domain': domain})}"
