"""Would others believe us? AMDP's checks of a domain of ours, made the way that a receiver makes them.

Everything is asked from outside: DNS for the facility, HTTPS for its certificate and for the policy. What is
printed as fine here is what a receiver needs (AMDP-8, AMDP-9, AMDP-16); a resolver or CA of its own may
differ.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from outrider.dns.resolver import DnsResolver
from outrider.holding.incoming.mhf_check import CannotTell, Claim, HolderCheck
from outrider.holding.policies.directory import PolicyDirectory
from outrider.holding.policies.mis import own_facility
from outrider.holding.policies.published_policy import information_host
from outrider.holding.web import CallFailed, IPAddress, WebCaller
from outrider.model.address import Domain
from outrider.protocols.amdp.report import PolicyReport, lint, write_report
from outrider.runtime.amdp_checks import own_reports
from outrider.runtime.amdp_web_parts import make_web_caller
from outrider.runtime.assembly import Assembly
from outrider.runtime.incoming_parts import FacilityDns
from outrider.runtime.lookup import DnsLookup

LOOK_LIMIT = 65_536


class Grade(Enum):
    """How a point stands."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It could not be found out now."""


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at."""

    what: str
    grade: Grade
    found: str
    remedy: str = ""


@asynccontextmanager
async def calling(assembly: Assembly) -> AsyncIterator[tuple[WebCaller, DnsResolver]]:
    """A caller and a resolver of our own, for a command."""
    resolver = DnsResolver(assembly.resolver)
    caller = make_web_caller(assembly, DnsLookup(resolver))
    try:
        yield caller, resolver
    finally:
        await caller.aclose()
        await resolver.aclose()


async def check_domain(assembly: Assembly, domain: Domain) -> tuple[Point, ...]:
    """All points for a domain of ours."""
    roles = assembly.config.amdp.roles
    points: list[Point] = []
    async with calling(assembly) as (caller, resolver):
        if "mhf" in roles:
            points += await _facility(assembly, domain, caller, resolver)
        if "mis" in roles:
            points.append(await _policy(assembly, domain, caller))
    return tuple(points)


# -- the facility ------------------------------------------------------------------------------------------


async def _facility(
    assembly: Assembly, domain: Domain, caller: WebCaller, resolver: DnsResolver
) -> Sequence[Point]:
    amdp = assembly.config.amdp
    name = own_facility(amdp.holding.names, domain)
    check = HolderCheck(FacilityDns(resolver), caller, time.time)
    points = [
        await _genuine(check, Claim(address, name, domain, amdp.holding.id))
        for address in sending_addresses(assembly)
    ]
    if not points:
        remedy = "set source_address in [net] to the address that others see"
        points.append(Point("address that mail is sent from", Grade.UNKNOWN, "the system chooses it", remedy))
    return (*points, await _answers(caller, name, amdp.port))


def sending_addresses(assembly: Assembly) -> tuple[IPAddress, ...]:
    """Where receivers see envelopes come from, as far as the settings tell."""
    net = assembly.config.net
    return tuple(ip_address(text) for text in (net.source_address, net.source_address6) if text)


async def _genuine(check: HolderCheck, claim: Claim) -> Point:
    what = f"{claim.name} at {claim.address}"
    try:
        finding = await check.find(claim)
    except CannotTell as error:
        return Point(what, Grade.UNKNOWN, str(error), "ask again later")
    if finding.genuine:
        return Point(what, Grade.OK, finding.words)
    kind = "A" if claim.address.version == 4 else "AAAA"
    return Point(what, Grade.WRONG, finding.words, f"add to DNS: {claim.name}. {kind} {claim.address}")


async def _answers(caller: WebCaller, name: str, port: int) -> Point:
    """Whether call-backs reach the facility and believe its certificate; what it answers does not matter."""
    what = f"https://{name}:{port}"
    try:
        answer = await caller.get(name, port, "/", limit=LOOK_LIMIT)
    except CallFailed as error:
        remedy = "a listener with protocol amdp there, with a certificate for this name ([[tls.sni]])"
        return Point(what, Grade.WRONG, str(error), remedy)
    return Point(what, Grade.OK, f"reached at {answer.address}, the certificate is good")


# -- the policy --------------------------------------------------------------------------------------------


async def _policy(assembly: Assembly, domain: Domain, caller: WebCaller) -> Point:
    what = f"policy at {information_host(domain)}"
    directory = PolicyDirectory(caller, time.time, lambda: 0.0, port=assembly.config.net.amdp_port)
    try:
        found = await directory.fetch(domain)
    except CallFailed as error:
        remedy = "a listener with protocol amdp on port 443, with a certificate for this name ([[tls.sni]])"
        return Point(what, Grade.WRONG, str(error), remedy)
    if found is None:
        return Point(what, Grade.WRONG, "there is none", "is it this server that answers there?")
    ours = own_reports(assembly.config, assembly.policy)[domain]
    problems = "; ".join(problem.text for problem in lint(found[0]))
    if not _is_same(found[0], ours):
        return Point(what, Grade.WRONG, "says something else than the settings", "outrider reload")
    return Point(what, Grade.OK, f"as in the settings{f'; {problems}' if problems else ''}")


def _is_same(fetched: PolicyReport, ours: PolicyReport) -> bool:
    return not fetched.problems and write_report(fetched) == write_report(ours)
