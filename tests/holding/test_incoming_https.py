"""The incoming gateway over real HTTPS: envelope, call-back, fetch and receipt, and holders that are none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outrider.holding.web import JSON, WebRequest, WebResponse
from outrider.model.result import Kind
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.retrieval import MESSAGE_PATH
from tests.holding.incoming_support import BODY, HOLDER, octets_of, rig
from tests.holding.scripted_holder import ScriptedHolder
from tests.net.web_harness import web_caller, web_site
from tests.peers.certificates import CertificateAuthority

LARGE = BODY + b"0123456789\r\n" * 100_000


class HolderService:
    """The scripted holder as a service of a real server."""

    def __init__(self) -> None:
        self.holder = ScriptedHolder()

    def serves(self, host: str, path: str) -> bool:
        return host == HOLDER and path.startswith("/amdp/v1/")

    async def answer(self, request: WebRequest) -> WebResponse:
        if request.method != "POST":
            return WebResponse(405)
        if request.path != MESSAGE_PATH:
            return WebResponse(200, self.holder.answered(request.path, request.body), JSON)
        content = self.holder.content_of(request.body)
        if content is None:
            return WebResponse(404)
        return WebResponse(200, content_type="message/rfc822", stream=_pieces(content), length=len(content))


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


@pytest.mark.covers("AMDP-9", "AMDP-11", "AMDP-13")
async def test_from_envelope_to_receipt(authority: CertificateAuthority, tmp_path: Path) -> None:
    service = HolderService()
    async with (
        web_site(authority, [service], HOLDER) as server,
        web_caller(authority, {HOLDER: [server.address]}) as caller,
        rig(tmp_path, caller=caller) as site,
    ):
        site.holder = service.holder
        for number, content in ((1, BODY), (2, LARGE)):
            site.arrive(number, content=content, digest=digest_of([content]))
        site.arrive(3, mail_class=parse_class("Agent::Bulk::news"))
        await site.run()
        assert sorted(len(octets_of(one)) for one in site.fetched()) == [len(BODY), len(LARGE)]
        assert len(site.delivered) == 1
        assert [held.receipts for held in service.holder.held.values()] == [1, 1, 0]
        assert all(held.burnt for held in service.holder.held.values())
        assert site.queue == []


@pytest.mark.covers("AMDP-8", "SEC-185", "SEC-207")
@pytest.mark.parametrize("fault", ["certificate", "address"])
async def test_a_holder_that_cannot_prove_its_name_gets_nothing(
    authority: CertificateAuthority, tmp_path: Path, fault: str
) -> None:
    service = HolderService()
    name = "mhf-1.gamma.example" if fault == "certificate" else HOLDER
    async with (
        web_site(authority, [service], name) as server,
        web_caller(authority, {HOLDER: [server.address if fault == "certificate" else "10.1.2.3"]}) as caller,
        rig(tmp_path, caller=caller) as site,
    ):
        site.holder = service.holder
        site.arrive()
        await site.run()
        assert site.last.kind in (Kind.DEFERRED, Kind.DROPPED)
        assert service.holder.calls == []
        assert site.fetched() == []
        assert site.delivered == []
