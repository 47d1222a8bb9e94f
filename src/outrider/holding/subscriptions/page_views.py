"""What the subscription service's pages are made of: a form, a button, a list, a sentence; in a language."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from outrider.holding.pages.html import (
    NOTHING,
    Html,
    Page,
    element,
    filled,
    joined,
    page_response,
    shown,
)
from outrider.holding.subscriptions.letters import in_words, wish_in_words
from outrider.holding.subscriptions.office import Left, Membership
from outrider.holding.subscriptions.page_texts import PageTexts
from outrider.holding.subscriptions.store import Application
from outrider.holding.subscriptions.wishes import ANYBODY, MAX_SENDER, Fault, Standing, Subject
from outrider.holding.web import WebResponse

ROOT: Final = "/subscriptions"
_FAULT: Final = "fault"
"""The id of the note that says what is wrong."""
_AT_FAULT: Final[Mapping[Fault, Collection[str]]] = {
    Fault.KIND: ("kind",),
    Fault.ADDRESS: ("address",),
    Fault.EVERYTHING: ("sender", "class"),
    Fault.SENDER: ("sender",),
    Fault.CLASS: ("class",),
}
"""The fields that it is about, so that a screen reader says so."""


def form(texts: PageTexts, fields: Mapping[str, str], fault: Fault | None = None) -> WebResponse:
    """Where one applies, with what was entered before and what was wrong with it."""
    note = NOTHING
    if fault is not None:
        words = element("p", texts.faults[fault])
        note = element("div", words, id=_FAULT, class_="note care", role="alert")
    about = (_wrong(name, fault) for name in ("address", "kind", "sender", "class"))
    address, kind, sender, pattern = about
    made = element(
        "form",
        _text(
            "address", texts.address_label, fields, "email", required=True, autocomplete="email", **address
        ),
        _choice("kind", texts.kind_label, texts.kinds, fields.get("kind", "accept"), **kind),
        _text("sender", texts.sender_label, fields, **sender),
        _choice("class", texts.class_label, _classes(texts, fields), fields.get("class", ""), **pattern),
        element("p", element("button", texts.apply_button, type="submit", class_="chief")),
        method="post",
        action=ROOT,
    )
    main = joined(note, element("p", texts.form_how), made)
    return _page(texts, texts.form_title, main, 200 if fault is None else 400)


def confirmation(texts: PageTexts, application: Application) -> WebResponse:
    """What was asked for, and the button that confirms it."""
    wish = shown(wish_in_words(application, texts.wishes))
    question = element("p", filled(texts.confirm, wish=wish))
    whom = element("p", filled(texts.confirm_whom, address=shown(str(application.address))), class_="quiet")
    return _page(texts, texts.confirm_title, joined(question, whom, _button(texts.confirm_button)))


def confirmed(texts: PageTexts, application: Application, *, before: bool) -> WebResponse:
    """It is done; or was."""
    if before:
        return told(texts, texts.done_title, texts.done_before)
    wish = shown(wish_in_words(application, texts.wishes))
    return told(texts, texts.done_title, filled(texts.done, wish=wish))


def asks_to_show(texts: PageTexts) -> WebResponse:
    """A button, so that who only opens the link sees nothing."""
    return _page(texts, texts.mine_title, _button(texts.mine_button))


def subscriptions(texts: PageTexts, address: str, mine: list[Membership]) -> WebResponse:
    """What somebody has, with a way out of each."""
    whose = texts.mine_whom if mine else texts.mine_none
    rows = element("ul", *(_row(texts, one) for one in mine)) if mine else NOTHING
    main = joined(element("p", filled(whose, address=shown(address))), rows)
    return _page(texts, texts.mine_title, main)


def asks_to_leave(texts: PageTexts, left: Left) -> WebResponse:
    """What would end, and the button that ends it."""
    question = element("p", filled(texts.leave, mail=_mail(texts, left.about)))
    return _page(texts, texts.leave_title, joined(question, _button(texts.leave_button)))


def has_left(texts: PageTexts, left: Left) -> WebResponse:
    """It has ended."""
    return told(texts, texts.done_title, filled(texts.left, mail=_mail(texts, left.about)))


def unknown(texts: PageTexts) -> WebResponse:
    """For every link that is not good."""
    return told(texts, texts.missing_title, texts.missing, 404)


def told(
    texts: PageTexts,
    title: str,
    words: str | Html,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> WebResponse:
    """A page of one sentence."""
    return _page(texts, title, element("p", words), status, headers)


def _wrong(name: str, fault: Fault | None) -> dict[str, str]:
    if fault is None or name not in _AT_FAULT[fault]:
        return {}
    return {"aria_invalid": "true", "aria_describedby": _FAULT}


def _classes(texts: PageTexts, fields: Mapping[str, str]) -> Mapping[str, str]:
    """The classes to choose from, with the one that a link to this form has named."""
    known = {ANYBODY: texts.every_class, **texts.wishes.classes}
    chosen = fields.get("class", "")
    return known if chosen in known or not chosen else {**known, chosen: chosen}


def _text(name: str, label: str, fields: Mapping[str, str], type_: str = "text", **more: str | bool) -> Html:
    field = element(
        "input",
        id=name,
        name=name,
        type=type_,
        value=shown(fields.get(name, ""), MAX_SENDER),
        maxlength=str(MAX_SENDER),
        **more,
    )
    return element("p", element("label", label, for_=name), field)


def _choice(name: str, label: str, options: Mapping[str, str], chosen: str, **more: str | bool) -> Html:
    made = (
        element("option", shown(words), value=shown(value), selected=value == chosen)
        for value, words in options.items()
    )
    choice = element("select", *made, id=name, name=name, **more)
    return element("p", element("label", label, for_=name), choice)


def _row(texts: PageTexts, one: Membership) -> Html:
    mail = _mail(texts, one.about)
    standing = texts.wanted if one.standing is Standing.ACCEPT else texts.unwanted
    name = texts.leave_one.format(mail=mail)
    button = element("button", texts.leave_button, type="submit", aria_label=name)
    leave = element("form", button, method="post", action=one.leave)
    return element("li", element("span", filled(standing, mail=mail)), leave, class_="row")


def _mail(texts: PageTexts, about: Subject) -> str:
    return shown(in_words(about, texts.wishes))


def _button(words: str) -> Html:
    """Posts to where the page is."""
    button = element("button", words, type="submit", class_="chief")
    return element("form", element("p", button), method="post", class_="act")


def _page(
    texts: PageTexts, title: str, main: Html, status: int = 200, headers: Mapping[str, str] | None = None
) -> WebResponse:
    page = Page(title, texts.language, joined(element("h1", title), main))
    return page_response(page, status, headers)
