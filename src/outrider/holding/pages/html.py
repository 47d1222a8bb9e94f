"""HTML made so that nothing of a stranger's can become markup (SEC-196).

Markup is a type of its own, `Html`, which is no string: every string that is put into an element is text and
is escaped, there is no way to write one in as markup, and forgetting to escape is not possible. That is all
a template engine would have been wanted for: the pages are few, have no authors beside us, and carry no
loops worth a language of their own; so there is no dependency.

A page has no script, loads nothing from anywhere, and is in one style sheet that its policy names by digest.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outrider.holding.pages.style import STYLE
from outrider.holding.web import WebResponse

_VOID: Final = frozenset({"meta", "br", "hr", "input"})
_ENTITIES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "`": "&#96;"}
)
_INVISIBLE: Final = frozenset({"Cc", "Cs", "Co", "Cn"})
# Embeddings, overrides, isolates and marks of direction: with them a file name or address reads backwards.
_TURNING: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Html:
    """Finished markup; made by `element`, `escaped` and `joined` only."""

    markup: str


Child = Html | str
NOTHING: Final = Html("")


def shown(text: str, limit: int = 500) -> str:
    """A stranger's text in one line, cut at `limit`: what cannot be seen or turns the direction of writing
    becomes U+FFFD. (Joiners stay: languages and emoji need them.)"""
    return shown_lines(re.sub(r"[\t\n\r\u2028\u2029]+", " ", text[:limit])) + (
        "…" if len(text) > limit else ""
    )


def shown_lines(text: str) -> str:
    """The same for text of many lines; line ends and tabs stay."""
    text = _TURNING.sub("\ufffd", text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n"))
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _INVISIBLE:
        return character
    return "\ufffd"


def escaped(text: str) -> Html:
    """Text as markup: also where nobody has called `shown`, no control character and no surrogate gets
    through."""
    return Html(shown_lines(text).translate(_ENTITIES))


def element(name: str, /, *children: Child, **attributes: str | bool) -> Html:
    """An element; strings are text. `class_`, `for_`: a last underline is dropped, others become hyphens.
    An attribute that is False is left out, one that is True has no value."""
    assert _NAME.fullmatch(name), name
    opening = f"<{name}{''.join(_attribute(*pair) for pair in attributes.items())}>"
    if name in _VOID:
        return Html(opening)
    return Html(f"{opening}{joined(*children).markup}</{name}>")


def _attribute(name: str, value: str | bool) -> str:
    name = name.removesuffix("_").replace("_", "-").lower()
    assert _NAME.fullmatch(name), name
    assert not name.startswith("on"), "no scripts"
    if isinstance(value, bool):
        return f" {name}" if value else ""
    return f' {name}="{escaped(value).markup}"'


def joined(*children: Child) -> Html:
    """One after the other."""
    return Html("".join(one.markup if isinstance(one, Html) else escaped(one).markup for one in children))


def filled(template: str, **values: Child) -> Html:
    """A sentence of ours with `{name}` where values stand, which may be markup; so that translators can order
    them as their language does."""
    pieces: list[Child] = []
    for place, piece in enumerate(re.split(r"\{([a-z_]+)\}", template)):
        pieces.append(values[piece] if place % 2 else piece)
    return joined(*pieces)


# -- the page around it ------------------------------------------------------------------------------------

_DIGEST: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of every page: no script, nothing loaded, no frame around or in it."""
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "browsing-topics=(), interest-cohort=()",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
"""Headers of every answer that a browser sees."""


@dataclass(frozen=True, slots=True)
class Page:
    """What stands in a page."""

    title: str
    """In the browser's tab; never a secret or an id: it stays in the history."""
    language: str
    main: Html
    footer: Html = NOTHING


def page_response(page: Page, status: int = 200, headers: Mapping[str, str] | None = None) -> WebResponse:
    """The page as an answer."""
    return WebResponse(
        status=status,
        body=document(page).encode(),
        content_type="text/html; charset=utf-8",
        headers={**HEADERS, "Content-Language": page.language, "Vary": "Accept-Language", **(headers or {})},
    )


def document(page: Page) -> str:
    """The whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="robots", content="noindex, nofollow"),
        # Mail addresses and times are not for telephones and map programs to guess at.
        element("meta", name="format-detection", content="telephone=no, date=no, address=no, email=no"),
        element("title", page.title),
        Html(f"<style>{STYLE}</style>"),
    )
    footer = element("footer", page.footer) if page.footer.markup else NOTHING
    body = element("body", element("main", page.main, id="main"), footer)
    return f"<!doctype html>\n{element('html', head, body, lang=page.language).markup}\n"
