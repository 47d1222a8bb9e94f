"""Hosts with certificates, and calls between services without a network."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from outrider.holding.policies.host_documents import HostKey
from outrider.holding.web import CallAnswer, CallFailed, StreamedAnswer, WebRequest, WebService
from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.runtime.subscription_parts import StoresCheck
from tests.lists.support import START

BEGIN = datetime.fromtimestamp(START, UTC)
AUTHORITY = CertificateAuthority.create("Test CA", BEGIN, kind="public")
STRANGER = CertificateAuthority.create("Other CA", BEGIN, kind="public")
CHECK = StoresCheck(CaStores.of(public=[AUTHORITY.certificate]))


def host(name: str, authority: CertificateAuthority = AUTHORITY) -> HostKey:
    """A host with a certificate."""
    issued = authority.issue_host([name], BEGIN)
    return HostKey(name, lambda: (issued.certificate_pem, issued.key_pem))


class LocalCaller:
    """Implements `WebCaller`: hands each request to the services of its host."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[WebService, ...]] = {}
        self.calls: list[tuple[str, str]] = []
        self.now = START
        self.changed: dict[str, bytes] = {}
        """What hosts answer instead."""

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        return await self._call("GET", host, path, b"", limit)

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        return await self._call("POST", host, path, body, limit)

    def stream(
        self, host: str, port: int, path: str, body: bytes, *, limit: int
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        raise NotImplementedError

    async def _call(self, method: str, host: str, path: str, body: bytes, limit: int) -> CallAnswer:
        self.calls.append((host, path))
        parts = urlsplit(path)
        here = ip_address("192.0.2.9")
        if host in self.changed:
            return CallAnswer(200, self.changed[host], "application/json", here)
        for service in self.services.get(host, ()):
            if service.serves(host, parts.path):
                headers = {"content-type": "application/json"}
                query = dict(parse_qsl(parts.query))
                request = WebRequest(method, host, parts.path, query, headers, body, here, self.now)
                answer = await service.answer(request)
                assert len(answer.body) <= limit
                return CallAnswer(answer.status, answer.body, answer.content_type, here)
        raise CallFailed(f"{host} is away")
