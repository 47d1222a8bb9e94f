"""The subscription service's pages for people (AMDP-19): apply, confirm, see what one has, leave.

GET shows and never changes anything, as link scanners open every link of a letter; a POST does it. No page is
told who somebody is but by the link itself: there are no cookies, so nothing can be done in somebody's name
by a page of somebody else's (SEC-195). Leaving takes one POST and no more, by people and by mail programs
(RFC 8058).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qsl

from outrider.holding.pages.html import NOTHING, Html, Page, element, joined, page_response, shown
from outrider.holding.subscriptions.letters import CLASS_WORDS, in_words, wish_in_words
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.office import Membership, SubscriptionOffice, TooMany
from outrider.holding.subscriptions.wishes import ANYBODY, RuleError, Standing
from outrider.holding.web import WebRequest, WebResponse
from outrider.tables.database import StoreUnavailable

ROOT: Final = "/subscriptions"
FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 20
_MOST_FORM: Final = 16_384
_CLASSES: Final = ((ANYBODY, "all mail"), *CLASS_WORDS.items())
_KINDS: Final = (
    ("accept", "I want this mail"),
    ("deny", "I do not want this mail"),
    ("leave", "forget what I said about it"),
    ("show", "show me what I have subscribed to"),
)


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
            again = {"Retry-After": str(error.seconds)}
            return _told(
                "Not now", "Too much was asked from your address. Please come back later.", 429, again
            )
        except StoreUnavailable as error:
            self._observer.subscriptions_failed("a page", error)
            again = {"Retry-After": "60"}
            return _told("Not now", "This cannot be done at the moment. Please try again soon.", 503, again)

    async def _answer(self, request: WebRequest) -> WebResponse:
        rest = request.path[len(ROOT) :].strip("/").split("/")
        posts = request.method == "POST"
        if rest == [""]:
            return await self._applied(request) if posts else _form(request.query)
        match rest:
            case ["confirm", token]:
                return await self._confirmed(token, request) if posts else await self._asked(token, request)
            case ["mine", token]:
                return await self._mine(token, request)
            case ["leave", token]:
                return await self._leave("", token, request)
            case ["leave", name, token]:
                return await self._leave(name.lower(), token, request)
        return _unknown()

    # --- applying -------------------------------------------------------------------------------------------

    async def _applied(self, request: WebRequest) -> WebResponse:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _told("No", "That form is on a page of another site.", 403)
        fields = form_fields(request)
        if fields is None:
            return _told("No", "That is not what this form sends.", 400)
        try:
            await self._office.apply(
                fields.get("kind", ""),
                fields.get("address", ""),
                fields.get("sender", ""),
                fields.get("class", ""),
                request.client,
                request.headers.get("accept-language", ""),
            )
        except RuleError as error:
            return _form(fields, str(error))
        return _told(
            "Look into your mail",
            "If that address takes part here, a letter is on its way to it, with a link to confirm this. "
            "Nothing happens before that. An address that was asked often enough today gets no more letters.",
        )

    # --- by a link ------------------------------------------------------------------------------------------

    async def _asked(self, token: str, request: WebRequest) -> WebResponse:
        found = await self._office.pending(token, request.client)
        if found is None or found.application.kind == "show":
            return _unknown()
        one = found.application
        question = element("p", "Do you want to ", shown(wish_in_words(one)), "?")
        whom = element("p", f"This is about the address {shown(str(one.address))}.", class_="quiet")
        return _page("Please confirm", joined(question, whom, _button("Yes, I want this")))

    async def _confirmed(self, token: str, request: WebRequest) -> WebResponse:
        found = await self._office.confirm(token, request.client)
        if found is None or found.application.kind == "show":
            return _unknown()
        if found.used:
            return _told("Done", "This was confirmed before; nothing more was changed now.")
        return _told("Done", f"As you wished: {shown(wish_in_words(found.application))}.")

    async def _mine(self, token: str, request: WebRequest) -> WebResponse:
        if request.method != "POST":
            found = await self._office.pending(token, request.client)
            if found is None or found.application.kind != "show":
                return _unknown()
            return _page("Your subscriptions", _button("Show them"))
        mine = await self._office.mine(token, request.client)
        return _unknown() if mine is None else _list(str(mine[0]), mine[1])

    async def _leave(self, name: str, token: str, request: WebRequest) -> WebResponse:
        if request.method == "POST":
            left = await self._office.leave(name, token, request.client)
            return (
                _unknown()
                if left is None
                else _told("Done", f"You have left: {shown(in_words(left.about))}.")
            )
        found = await self._office.leaving(name, token, request.client)
        if found is None:
            return _unknown()
        question = element("p", f"End your subscription to {shown(in_words(found.about))}?")
        return _page("Leave", joined(question, _button("Leave")))


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


# --- what pages are made of ---------------------------------------------------------------------------------


def _form(fields: Mapping[str, str], fault: str = "") -> WebResponse:
    note = NOTHING
    if fault:
        note = element("div", element("p", shown(fault)), class_="note care", role="alert")
    form = element(
        "form",
        _text("address", "Your mail address", fields, type_="email", required=True, autocomplete="email"),
        _choice("kind", "What you wish", _KINDS, fields.get("kind", "accept")),
        _text("sender", "Whose mail: an address, a list, a domain; empty for anybody's", fields),
        _choice("class", "Which kind of mail", _with(fields.get("class", "")), fields.get("class", "")),
        element("p", element("button", "Send me the link", type="submit", class_="chief")),
        method="post",
        action=ROOT,
    )
    how = element("p", "You get a letter with a link. Nothing happens until you open it and confirm.")
    return _page("Subscriptions", joined(note, how, form), 400 if fault else 200)


def _with(chosen: str) -> tuple[tuple[str, str], ...]:
    """The classes to choose from, with the one that a link to this form has named."""
    known = {value for value, _ in _CLASSES}
    return _CLASSES if chosen in known or not chosen else (*_CLASSES, (chosen, chosen))


def _text(name: str, label: str, fields: Mapping[str, str], type_: str = "text", **more: str | bool) -> Html:
    field = element(
        "input",
        id=name,
        name=name,
        type=type_,
        value=shown(fields.get(name, ""), 320),
        maxlength="320",
        **more,
    )
    return element("p", element("label", label, for_=name), field)


def _choice(name: str, label: str, options: tuple[tuple[str, str], ...], chosen: str) -> Html:
    made = (
        element("option", shown(words), value=shown(value), selected=value == chosen)
        for value, words in options
    )
    return element("p", element("label", label, for_=name), element("select", *made, id=name, name=name))


def _list(address: str, mine: list[Membership]) -> WebResponse:
    if not mine:
        return _told("Your subscriptions", f"There is nothing that {shown(address)} has subscribed to here.")
    rows = element("ul", *(_row(one) for one in mine))
    return _page("Your subscriptions", joined(element("p", f"For the address {shown(address)}:"), rows))


def _row(one: Membership) -> Html:
    word = "Wanted" if one.standing is Standing.ACCEPT else "Not wanted"
    what = shown(in_words(one.about))
    words = element("span", f"{word}: {what}")
    leave = element("button", "Leave", type="submit", aria_label=f"Leave: {what}")
    button = element("form", leave, method="post", action=one.leave)
    return element("li", words, button, class_="row")


def _button(words: str) -> Html:
    """Posts to where the page is."""
    button = element("button", words, type="submit", class_="chief")
    return element("form", element("p", button), method="post", class_="act")


def _told(title: str, words: str, status: int = 200, headers: Mapping[str, str] | None = None) -> WebResponse:
    return _page(title, element("p", words), status, headers)


def _unknown() -> WebResponse:
    return _told("Not here", "This link is not good, or is not good any more. You can apply again.", 404)


def _page(title: str, main: Html, status: int = 200, headers: Mapping[str, str] | None = None) -> WebResponse:
    return page_response(Page(title, "en", joined(element("h1", title), main)), status, headers)
