"""The subscription service's pages for people (AMDP-19): apply, confirm, see what one has, leave.

GET shows and never changes anything, as link scanners open every link of a letter; a POST does it. No page is
told who somebody is but by the link itself: there are no cookies, so nothing can be done in somebody's name
by a page of somebody else's (SEC-195). Leaving takes one POST and no more, by people and by mail programs
(RFC 8058).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl

from outrider.holding.subscriptions import page_views as views
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.office import SubscriptionOffice, TooMany
from outrider.holding.subscriptions.page_texts import PageTexts, page_texts_for
from outrider.holding.subscriptions.page_views import ROOT
from outrider.holding.subscriptions.store import PendingWish
from outrider.holding.subscriptions.wishes import RuleError
from outrider.holding.web import WebRequest, WebResponse
from outrider.tables.database import StoreUnavailable

FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 20
_MOST_FORM: Final = 16_384


class SubscriptionPages:
    """The pages as a `WebService`."""

    def __init__(
        self, office: SubscriptionOffice, hosts: Collection[str], observer: SubscriptionObserver
    ) -> None:
        self._office = office
        self._hosts = frozenset(hosts)
        self._observer = observer

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return host in self._hosts and (path == ROOT or path.startswith(f"{ROOT}/"))

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        try:
            return await self._answer(request)
        except TooMany as error:
            texts = _texts(request)
            again = {"Retry-After": str(error.seconds)}
            return views.told(texts, texts.later_title, texts.too_many, 429, again)
        except StoreUnavailable as error:
            self._observer.subscriptions_failed("a page", error)
            texts = _texts(request)
            return views.told(texts, texts.later_title, texts.not_now, 503, {"Retry-After": "60"})

    async def _answer(self, request: WebRequest) -> WebResponse:
        rest = request.path[len(ROOT) :].strip("/").split("/")
        posts = request.method == "POST"
        if rest == [""]:
            return await self._applied(request) if posts else views.form(_texts(request), request.query)
        match rest:
            case ["confirm", token]:
                return await self._confirmed(token, request) if posts else await self._asked(token, request)
            case ["mine", token]:
                return await self._mine(token, request)
            case ["leave", token]:
                return await self._leave("", token, request)
            case ["leave", name, token]:
                return await self._leave(name.lower(), token, request)
        return views.unknown(_texts(request))

    # --- applying -------------------------------------------------------------------------------------------

    async def _applied(self, request: WebRequest) -> WebResponse:
        texts = _texts(request)
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return views.told(texts, texts.refused_title, texts.foreign_form, 403)
        fields = form_fields(request)
        if fields is None:
            return views.told(texts, texts.refused_title, texts.no_form, 400)
        try:
            await self._office.apply(
                fields.get("kind", ""),
                fields.get("address", ""),
                fields.get("sender", ""),
                fields.get("class", ""),
                request.client,
                _languages(request),
            )
        except RuleError as error:
            return views.form(texts, fields, error.fault)
        return views.told(texts, texts.applied_title, texts.applied)

    # --- by a link ------------------------------------------------------------------------------------------

    async def _asked(self, token: str, request: WebRequest) -> WebResponse:
        found = await self._office.pending(token, request.client)
        texts = _texts(request, found)
        if found is None or found.application.kind == "show":
            return views.unknown(texts)
        return views.confirmation(texts, found.application)

    async def _confirmed(self, token: str, request: WebRequest) -> WebResponse:
        found = await self._office.confirm(token, request.client)
        texts = _texts(request, found)
        if found is None or found.application.kind == "show":
            return views.unknown(texts)
        return views.confirmed(texts, found.application, before=found.used)

    async def _mine(self, token: str, request: WebRequest) -> WebResponse:
        found = await self._office.pending(token, request.client)
        texts = _texts(request, found)
        if found is None or found.application.kind != "show":
            return views.unknown(texts)
        if request.method != "POST":
            return views.asks_to_show(texts)
        return views.subscriptions(texts, str(found.application.address), await self._office.mine(found))

    async def _leave(self, name: str, token: str, request: WebRequest) -> WebResponse:
        texts = _texts(request)
        posts = request.method == "POST"
        ask = self._office.leave if posts else self._office.leaving
        found = await ask(name, token, request.client)
        if found is None:
            return views.unknown(texts)
        return views.has_left(texts, found) if posts else views.asks_to_leave(texts, found)


def _languages(request: WebRequest) -> str:
    return request.headers.get("accept-language", "")


def _texts(request: WebRequest, wish: PendingWish | None = None) -> PageTexts:
    """In the language that the browser wants; where it wants none that we have, in that of the letter."""
    if wish is None:
        return page_texts_for(_languages(request))
    return page_texts_for(_languages(request), wish.application.language)


def form_fields(request: WebRequest) -> dict[str, str] | None:
    """The fields of a submitted form, the first of several; None for what is no form, or too large a one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM or len(request.body) > _MOST_FORM:
        return None
    try:
        text = request.body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        return None
    return dict(reversed(pairs))
