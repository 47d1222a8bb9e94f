"""A subscription service on a real store, real tables and real lists, and what it wrote."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from outrider.holding.subscriptions.api import SubscriptionApi
from outrider.holding.subscriptions.exchange import ExchangeParts, SubscriptionExchange
from outrider.holding.subscriptions.office import OfficeParts, SubscriptionOffice
from outrider.holding.subscriptions.pages import SubscriptionPages
from outrider.holding.subscriptions.store import SubscriptionStoreThread, open_subscription_store
from outrider.holding.web import IPAddress, WebRequest, WebResponse, WebService
from outrider.model.address import Domain, parse_address
from outrider.model.message import NewMessage
from outrider.spool.interface import SpoolFull
from tests.lists.support import START, Rig, octets

HOST = "mx.alpha.example"
CLIENT = ip_address("192.0.2.7")
FORM = "application/x-www-form-urlencoded"


class Nobody:
    """Implements `HostCheck`: no certificate is anybody's."""

    def belongs(self, chain: object, host: str, now: float) -> bool:
        return False


class ServiceRig:
    """`now` is its clock; `letters` what was written."""

    def __init__(
        self, folder: Path, *, host: str = HOST, settings: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        self.now = START
        self.host = host
        self.lists = Rig(folder, dict(settings or {}))
        self.observer = self.lists.observer
        self.letters: list[NewMessage] = []
        self.spool_is_full = False
        self.store = SubscriptionStoreThread(
            lambda: open_subscription_store(self.lists.config, folder), "subscriptions"
        )
        counter = itertools.count(1)

        def chance(octets: int) -> bytes:
            return (next(counter) * 256).to_bytes(octets, "big") if octets > 3 else bytes(octets)

        self.office = SubscriptionOffice(
            OfficeParts(
                self.store,
                self.lists.lists,
                self.lists.store,
                self.lists.mailing,
                self._post,
                lambda _: f"https://{host}",
                self.observer,
                lambda: self.now,
                chance,
                more.pop("requests_per_hour", 60),
            )
        )
        self.exchange = SubscriptionExchange(
            ExchangeParts(
                self.office,
                self.store,
                more.pop("check", Nobody()),
                self.observer,
                lambda: self.now,
                chance,
                lambda _: f"https://{host}",
                domains=(Domain("alpha.example"),),
                **more,
            )
        )
        hosts = {host}
        self.pages = SubscriptionPages(self.office, hosts, self.observer)
        self.api = SubscriptionApi(self.office, self.exchange, hosts, self.observer)

    async def _post(self, message: NewMessage) -> None:
        if self.spool_is_full:
            raise SpoolFull("no room")
        self.letters.append(message)

    def close(self) -> None:
        self.store.close()
        self.lists.close()

    # --- as people see it ---

    async def get(self, path: str, **more: Any) -> WebResponse:
        return await self.ask(self.pages, "GET", path, **more)

    async def post(self, path: str, fields: Mapping[str, str] | None = None, **more: Any) -> WebResponse:
        body = urlencode(fields or {}).encode()
        headers = {"content-type": FORM, **more.pop("headers", {})}
        return await self.ask(self.pages, "POST", path, body=body, headers=headers, **more)

    async def json(self, path: str, body: bytes, **more: Any) -> WebResponse:
        headers = more.pop("headers", {"content-type": "application/json"})
        return await self.ask(self.api, "POST", path, body=body, headers=headers, **more)

    async def ask(
        self,
        service: WebService,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        client: IPAddress = CLIENT,
    ) -> WebResponse:
        assert service.serves(self.host, path)
        request = WebRequest(method, self.host, path, query or {}, headers or {}, body, client, self.now)
        return await service.answer(request)

    async def apply(self, kind: str, address: str, sender: str = "", pattern: str = "", **more: Any) -> str:
        """Apply and have the letter written; the path of its link, "" when there is none."""
        before = len(self.letters)
        fields = {"kind": kind, "address": address, "sender": sender, "class": pattern}
        response = await self.post("/subscriptions", fields, **more)
        assert response.status == 200, response.body
        await self.office.write_letters()
        return link_of(self.letters[-1], self.host) if len(self.letters) > before else ""

    async def subscribed(self, kind: str, address: str, sender: str, pattern: str = "") -> None:
        """Apply and confirm."""
        path = await self.apply(kind, address, sender, pattern)
        assert (await self.post(path)).status == 200
        self.now += 86_400  # another day, other limits

    async def wishes(self, address: str) -> list[tuple[str, str, str]]:
        found = await self.store.call(lambda store: store.rules_of(parse_address(address)))
        return [(one.standing.value, one.subject.sender, one.subject.pattern) for one in found]


def link_of(letter: NewMessage, host: str = HOST) -> str:
    [path] = re.findall(rf"https://{re.escape(host)}(/\S+)", octets(letter).decode())
    return str(path)
