"""The information service: what is published, and which facilities are confirmed (AMDP-8, AMDP-16)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest

from outrider.holding.policies.mis import Facilities, InformationService
from outrider.holding.web import WebRequest, WebResponse
from outrider.model.address import Domain
from outrider.protocols.amdp.report import PolicyReport
from outrider.protocols.amdp.report_reader import parse_report

REPORTS = [PolicyReport(Domain("alpha.example"), max_mail_size=5), PolicyReport(Domain("beta.example"))]
GOOD = {"id": "m1", "address": "192.0.2.7", "name": "mhf-1.alpha.example", "domain": "alpha.example"}


def service(names: Mapping[str, str] | None = None, facility: str = "m1") -> InformationService:
    return InformationService(REPORTS, Facilities(facility, names or {}, (ip_network("192.0.2.0/28"),)))


async def asked(
    one: InformationService,
    path: str,
    query: Mapping[str, str],
    *,
    method: str = "GET",
    domain: str = "alpha",
) -> WebResponse:
    host = f"amdp-mis.{domain}.example"
    assert one.serves(host, path)
    return await one.answer(WebRequest(method, host, path, query, {}, b"", ip_address("198.51.100.1"), 0.0))


async def genuine(one: InformationService, **changed: str) -> bool:
    answer = await asked(one, "/.well-known/amdp-mhf", GOOD | changed)
    if answer.status == 404:
        return False
    said = json.loads(answer.body)["genuine"]
    assert isinstance(said, bool)
    return said


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize("query", [{"domain": "alpha.example"}, {}, {"domain": "Alpha.Example"}])
async def test_the_policy_of_each_domain_is_published(query: dict[str, str]) -> None:
    answer = await asked(service(), "/.well-known/amdp-policy", query)
    assert answer.status == 200
    assert answer.content_type.startswith("text/plain")
    assert answer.headers["Cache-Control"] == "max-age=86400"
    assert parse_report(answer.body, "alpha.example").max_mail_size == 5


@pytest.mark.covers("AMDP-16", "SEC-205")
async def test_no_policy_under_another_name() -> None:
    one = service()
    assert not one.serves("mhf-1.alpha.example", "/.well-known/amdp-policy")
    assert not one.serves("amdp-mis.gamma.example", "/.well-known/amdp-policy")
    assert not one.serves("amdp-mis.alpha.example", "/")
    assert (await asked(one, "/.well-known/amdp-policy", {"domain": "beta.example"})).status == 404
    assert (await asked(one, "/.well-known/amdp-policy", {}, method="POST")).status == 405


@pytest.mark.covers("AMDP-8")
async def test_a_facility_of_ours_is_confirmed() -> None:
    assert await genuine(service())
    named = service({"alpha.example": "mhf-3.alpha.example"})
    assert await genuine(named, name="MHF-3.alpha.example.")
    assert not await genuine(named)


@pytest.mark.covers("AMDP-8")
@pytest.mark.parametrize(
    "changed",
    [
        {"id": "m2"},
        {"id": ""},
        {"id": "é"},
        {"address": "192.0.2.99"},
        {"address": "nonsense"},
        {"address": ""},
        {"name": "mhf-2.alpha.example"},
        {"name": "mhf-1.beta.example"},
        {"name": "mhf-1.evil.example"},
        {"name": "mx.alpha.example"},
        {"name": ""},
        {"domain": "beta.example"},
    ],
)
async def test_nobody_else_is(changed: dict[str, str]) -> None:
    assert not await genuine(service(), **changed)


@pytest.mark.covers("AMDP-8")
async def test_without_an_id_nobody_is() -> None:
    assert not await genuine(service(facility=""), id="")
