"""The subscription service for programs: docs/protocols/amdp.md section 8 (AMDP-19)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from outrider.holding.subscriptions.exchange import Refused, SubscriptionExchange
from outrider.holding.subscriptions.forms import (
    APPLY_PATH,
    CHANGES_PATH,
    CONFIRM_PATH,
    LEAVE_PATH,
    SYNCHRONISE_PATH,
    Apply,
    Done,
    Token,
)
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.office import SubscriptionOffice, TooMany
from outrider.holding.subscriptions.wishes import RuleError
from outrider.holding.web import JSON, WebRequest, WebResponse
from outrider.identity.signed_document import DocumentError
from outrider.protocols.amdp.json_forms import FormError, decode, encode
from outrider.tables.database import StoreUnavailable

Handler = Callable[[WebRequest], Awaitable[msgspec.Struct]]


class Failure(msgspec.Struct, frozen=True):
    """What an answer other than 200 holds."""

    error: str


class SubscriptionApi:
    """The endpoints as a `WebService`."""

    def __init__(
        self,
        office: SubscriptionOffice,
        exchange: SubscriptionExchange,
        hosts: Collection[str],
        observer: SubscriptionObserver,
    ) -> None:
        self._hosts = frozenset(hosts)
        self._office = office
        self._exchange = exchange
        self._observer = observer
        self._handlers: Final[dict[str, Handler]] = {
            APPLY_PATH: self._apply,
            CONFIRM_PATH: self._confirm,
            LEAVE_PATH: self._leave,
            SYNCHRONISE_PATH: self._synchronise,
            CHANGES_PATH: self._changes,
        }

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return host in self._hosts and path in self._handlers

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        if request.method != "POST":
            return json_failure(405, "POST only", {"Allow": "POST"})
        if not is_json(request):
            # A form of somebody else's page can send anything but this type (SEC-195).
            return json_failure(415, "application/json only")
        try:
            return json_response(await self._handlers[request.path](request))
        except (FormError, RuleError, DocumentError) as error:
            return json_failure(400, str(error))
        except Refused as error:
            return json_failure(403, str(error))
        except TooMany as error:
            return json_failure(429, str(error), {"Retry-After": str(error.seconds)})
        except StoreUnavailable as error:
            self._observer.subscriptions_failed(request.path, error)
            return json_failure(503, "not now", {"Retry-After": "60"})

    async def _apply(self, request: WebRequest) -> Done:
        one = decode(request.body, Apply)
        languages = request.headers.get("accept-language", "")
        await self._office.apply(one.wish, one.address, one.sender, one.mail_class, request.client, languages)
        return Done(done=True)

    async def _confirm(self, request: WebRequest) -> Done:
        found = await self._office.confirm(decode(request.body, Token).token, request.client)
        return Done(done=found is not None)

    async def _leave(self, request: WebRequest) -> Done:
        one = decode(request.body, Token)
        found = await self._office.leave(one.list.lower(), one.token, request.client)
        return Done(done=found is not None)

    async def _synchronise(self, request: WebRequest) -> msgspec.Struct:
        return await self._exchange.synchronise(request.body, request.host, request.client)

    async def _changes(self, request: WebRequest) -> msgspec.Struct:
        return await self._exchange.changes(request.body, request.host, request.client)


def is_json(request: WebRequest) -> bool:
    """Whether the body says that it is JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON


def json_response(form: msgspec.Struct) -> WebResponse:
    """A 200."""
    return WebResponse(200, encode(form), JSON)


def json_failure(status: int, words: str, headers: dict[str, str] | None = None) -> WebResponse:
    """Anything else."""
    return WebResponse(status, encode(Failure(words)), JSON, headers or {})
