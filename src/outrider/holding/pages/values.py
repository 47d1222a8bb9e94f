"""Sizes, times and kinds as people of a language write them."""

from __future__ import annotations

import time

from outrider.holding.pages.html import Child, Html, element, filled, joined, shown
from outrider.holding.pages.texts import Texts, counted
from outrider.message.summary import displayable

_MOST_ADDRESS = 320


def size_words(texts: Texts, octets: int) -> str:
    """`1.2 MB`, decimal units; two digits that matter."""
    value, unit = float(max(octets, 0)), 0
    while value >= 999.5 and unit < 3:
        value, unit = value / 1000, unit + 1
    number = f"{value:.1f}" if unit and value < 9.95 else f"{value:.0f}"
    return f"{number.replace('.', texts.decimal_sign)}\u00a0{texts.units[unit]}"


def date_words(texts: Texts, moment: float) -> Html:
    """A moment in UTC, as a `time` element."""
    try:
        when = time.gmtime(moment)
    except (OverflowError, ValueError, OSError):
        return element("span", "?")
    words = texts.date.format(
        day=when.tm_mday,
        month=texts.months[when.tm_mon - 1],
        year=when.tm_year,
        hour=f"{when.tm_hour:02d}",
        minute=f"{when.tm_min:02d}",
    )
    return element("time", words, datetime=time.strftime("%Y-%m-%dT%H:%MZ", when))


def kept_words(texts: Texts, expires: float, now: float) -> Html:
    """Until when, and how long that is from now."""
    left = max(0.0, expires - now)
    if left >= 2 * 86_400:
        words = counted(texts.days_left, int(left // 86_400))
    elif left >= 3600:
        words = counted(texts.hours_left, int(left // 3600))
    else:
        words = texts.moments_left
    return filled(texts.kept, date=date_words(texts, expires), left=words)


def kind_words(texts: Texts, mail_class: str) -> Html:
    """A class in words, with itself beside it; one that we do not know as it is."""
    parts = mail_class.split("::")
    words = texts.kinds.get(parts[1].strip().lower(), "") if len(parts) > 1 else ""
    itself = element("bdi", shown(mail_class, 200), class_="stranger")
    return joined(words, " ", element("small", itself, class_="quiet")) if words else itself


def address(text: str) -> Html:
    """A mail address with its site marked: the site is what can be proven. Invisible characters are spelled
    out."""
    local, at, site = displayable(text, _MOST_ADDRESS).rpartition("@")
    return element("bdi", local, at, element("span", site, class_="site"))


def site_of(text: str) -> str:
    """The domain of an address, to be shown."""
    return displayable(text.rpartition("@")[2], 255)


def stranger(text: str, limit: int = 500) -> Html:
    """One line of somebody's words, kept apart from ours in direction and in height."""
    return element("bdi", shown(text, limit), class_="stranger", dir="auto")


def facts(*pairs: tuple[str, Child]) -> Html:
    """A list of names and values; without those that have no value."""
    rows = [
        element("div", element("dt", name), element("dd", value))
        for name, value in pairs
        if value
        if not isinstance(value, Html) or value.markup
    ]
    return element("dl", *rows)
