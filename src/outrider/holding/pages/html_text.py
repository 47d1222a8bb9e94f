"""The text of an HTML part: for reading, never for showing as HTML.

One pass over bounded input with patterns that cannot backtrack far. Pictures are left out, what a link leads
to is written beside it, so that a text that names one site and leads to another is seen to.
"""

from __future__ import annotations

import html
import re
from typing import Final

MAX_HTML: Final = 524_288
"""Characters that are looked at."""
_TOKEN: Final = re.compile(
    r"<!--|<(script|style|head|title|template|noscript|svg|math)\b|<(/?)([a-z][a-z0-9]{0,20})([^<>]{0,4000})>|<[!?/][^<>]{0,4000}>",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(
    r"""\bhref\s{0,9}=\s{0,9}(?:"([^"]{0,2000})"|'([^']{0,2000})'|([^\s>]{1,2000}))""", re.IGNORECASE
)
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt", "fieldset"}
    | {"figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "main", "nav", "ol"}
    | {"p", "pre", "section", "table", "tbody", "tfoot", "thead", "tr", "ul"}
)
_MOST_ADDRESS: Final = 300


def html_to_text(markup: str) -> str:
    """The text, in lines; never raises."""
    return _Reader(markup[:MAX_HTML]).text()


class _Reader:
    def __init__(self, markup: str) -> None:
        self._markup = markup
        self._lowered = markup.lower()
        if len(self._lowered) != len(
            markup
        ):  # a few letters become two: then ends are looked for as they stand
            self._lowered = markup
        self._out: list[str] = []
        self._address = ""
        self._linked: list[str] = []

    def text(self) -> str:
        """Read all."""
        position = 0
        while token := _TOKEN.search(self._markup, position):
            self._words(self._markup[position : token.start()])
            position = token.end()
            if token[0] == "<!--":
                position = self._behind("-->", position)
            elif token[1]:
                position = self._behind(">", self._behind(f"</{token[1].lower()}", position))
            elif token[3]:
                self._tag(token[3].lower(), bool(token[2]), token[4])
        self._words(self._markup[position:])
        self._end_link()
        return _tidied("".join(self._out))

    def _behind(self, what: str, position: int) -> int:
        found = self._lowered.find(what, position)
        return len(self._markup) if found < 0 else found + len(what)

    def _words(self, markup: str) -> None:
        if markup:
            words = re.sub(r"[ \t\r\n\f]+", " ", html.unescape(markup))
            self._out.append(words)
            if self._address:
                self._linked.append(words)

    def _tag(self, name: str, closes: bool, attributes: str) -> None:
        if name == "a":
            self._end_link()
            if not closes and (found := _ADDRESS.search(attributes)):
                self._address = html.unescape(found[1] or found[2] or found[3] or "").strip()[:_MOST_ADDRESS]
        elif name == "br" or (name in _BLOCKS and closes):
            self._out.append("\n")
        elif name in _BLOCKS:
            self._out.append("\n\n" if name == "p" else "\n")
        elif name == "li" and not closes:
            self._out.append("\n• ")
        elif name in ("td", "th") and closes:
            self._out.append("\t")

    def _end_link(self) -> None:
        """Write where the link leads, unless its text says just that."""
        address, self._address = self._address, ""
        said, self._linked = "".join(self._linked).strip(), []
        if address and not address.startswith("#") and address.removeprefix("mailto:") != said:
            self._out.append(f" <{address}> " if said else f"<{address}> ")


def _tidied(text: str) -> str:
    """No blanks at the ends of lines, at most one empty line in a row."""
    lines = [re.sub(r" {2,}", " ", line).strip(" \t\u00a0") for line in text.split("\n")]
    kept = [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]
    return "\n".join(kept).strip("\n")
