"""The mail information service (AMDP-16, AMDP-8): publishes the policies of our domains, and confirms our
facilities.

A facility that DNS does not list at the address from which it sends (NAT, addresses that change) is confirmed
here: its name is one that we use, its id is the one we gave it, and the address is one of ours.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from outrider.holding.policies.published_policy import information_host
from outrider.holding.web import JSON, WebRequest, WebResponse
from outrider.protocols.amdp.callback import GENUINE_PATH, Genuine
from outrider.protocols.amdp.json_forms import encode
from outrider.protocols.amdp.report import POLICY_PATH, PolicyReport, write_report

IPNetwork = IPv4Network | IPv6Network
_FACILITY: Final = re.compile(r"mhf-(?:[1-9]|1[0-6])")
_COMMENT = "Mail policy; see docs/protocols/amdp.md of Outrider, or draft-fakih-amdp"


@dataclass(frozen=True, slots=True)
class Facilities:
    """What is known of the facilities that hold our domains' mail."""

    id: str = ""
    """AMDP-MHF-Id; "" = none is confirmed here, DNS lists them all."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Domain to the name of its facility; default `mhf-1.DOMAIN`."""
    networks: tuple[IPNetwork, ...] = ()
    """Where they send from."""


def own_facility(names: Mapping[str, str], domain: str) -> str:
    """The name of a domain's facility, by [amdp.holding] names."""
    return names.get(domain, f"mhf-1.{domain}").lower()


class InformationService:
    """A `WebService` for `amdp-mis.DOMAIN` of each of our domains."""

    def __init__(self, reports: Sequence[PolicyReport], facilities: Facilities) -> None:
        """One report for each domain."""
        self._domains = {information_host(one.domain): one.domain for one in reports}
        self._policies = {one.domain: _policy(one) for one in reports}
        self._facilities = facilities

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return path in (POLICY_PATH, GENUINE_PATH) and host in self._domains

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        if request.method == "POST":
            return WebResponse(405, b"only GET\n", headers={"Allow": "GET, HEAD"})
        domain = self._domains.get(request.host)
        if domain is None or request.query.get("domain", domain).lower() != domain:
            return WebResponse(404, b"not found\n")
        if request.path == POLICY_PATH:
            return self._policies[domain]
        genuine = self._is_genuine(domain, request.query)
        return WebResponse(200, encode(Genuine(genuine=genuine)), JSON)

    def _is_genuine(self, domain: str, said: Mapping[str, str]) -> bool:
        facilities = self._facilities
        if not facilities.id or not hmac.compare_digest(said.get("id", "").encode(), facilities.id.encode()):
            return False
        name = said.get("name", "").lower().removesuffix(".")
        ours = own_facility(facilities.names, domain)
        label, _, rest = name.partition(".")
        if name != ours or rest != domain or not _FACILITY.fullmatch(label):
            return False
        try:
            address = ip_address(said.get("address", ""))
        except ValueError:
            return False
        return any(address in network for network in facilities.networks)


def _policy(report: PolicyReport) -> WebResponse:
    """What is answered every time."""
    body = write_report(report, (_COMMENT,)).encode()
    age = {"Cache-Control": f"max-age={report.cache_hours * 3600}"}
    return WebResponse(200, body, headers=age)
