"""Reading a published policy (AMDP-16). Never fails: a document of nonsense, or one of 100 MB of which the
first 64 KiB count, is a report with problems and the defaults. A line that is not understood never makes the
policy wider: an ACCEPT-CLASS with an unreadable price accepts nothing, yet still restricts to what others
accept."""

from __future__ import annotations

import re
from collections.abc import Callable

from outrider.model.address import AddressError, Domain, parse_domain
from outrider.protocols.amdp.mail_class import ClassError, ClassPattern, parse_pattern
from outrider.protocols.amdp.prices import PriceError, parse_currency, parse_price
from outrider.protocols.amdp.report import (
    MAX_VALUE,
    AcceptClass,
    HourRange,
    PolicyReport,
    Problem,
)

MAX_OCTETS = 65_536
"""Of a report; what is behind is not read."""
MAX_LINES = 2000
MAX_CLASSES = 200
"""ACCEPT-CLASS and DENY-CLASS, each."""
MAX_SERVICES = 10
MAX_LISTED = 100
"""Unknown keys and problems, each."""
MAX_SIZE = 10**15 - 1

_LINE_END = re.compile(r"\r\n|\n|\r")
_LINE = re.compile(
    r"[ \t]*([A-Za-z][A-Za-z0-9_-]{0,63})(?:[ \t]*[:=](?!:)[ \t]*|[ \t]+|$)([^\x00]*)", re.ASCII
)
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufffd]")
_SIZE = re.compile(r"([0-9]{1,15})[ \t]*(bytes|octets|[KMG]?i?B|[KMG])?", re.ASCII | re.IGNORECASE)
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}
_PRIORITY = re.compile(
    r"\[?[ \t]*([0-9]{1,3})[ \t]*%?[ \t]*AMDP[ \t]*\]?[ \t,]*"
    r"\[?[ \t]*([0-9]{1,3})[ \t]*%?[ \t]*SMTP[ \t]*\]?",
    re.ASCII | re.IGNORECASE,
)
_HOURS = re.compile(r"([0-9]{2}):?([0-9]{2})[ \t]*-[ \t]*([0-9]{2}):?([0-9]{2})", re.ASCII)
_HOST = re.compile(r"(?:https://)?([^/:@\s]{1,255})(?::([0-9]{1,5}))?/?", re.ASCII)
_YES = frozenset({"yes", "true", "1", "on", "required"})
_NO = frozenset({"no", "false", "0", "off", "none"})


class _Unclear(ValueError):
    """Why a value is not understood."""


def parse_report(octets: bytes, domain: str = "") -> PolicyReport:
    """A report as it was fetched. Never raises. `domain`: whose it should be (A-labels); a report that says
    another DOMAIN is still that domain's, with a problem."""
    reader = _Reader()
    if len(octets) > MAX_OCTETS:
        octets = octets[:MAX_OCTETS].rpartition(b"\n")[0]
        reader.problem(0, f"the report is longer than {MAX_OCTETS} octets: the rest was not read")
    lines = _LINE_END.split(octets.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
    if len(lines) > MAX_LINES:
        reader.problem(0, f"the report has more than {MAX_LINES} lines: the rest was not read")
    for number, line in enumerate(lines[:MAX_LINES], 1):
        reader.line(number, line)
    return reader.report(domain)


class _Reader:
    """What has been read so far."""

    def __init__(self) -> None:
        self._single: dict[str, object] = {}
        self._accept: list[AcceptClass] = []
        self._restricted = False
        self._deny: list[ClassPattern] = []
        self._hours: list[HourRange] = []
        self._unknown: list[tuple[str, str]] = []
        self._problems: list[Problem] = []

    def problem(self, line: int, text: str) -> None:
        if len(self._problems) < MAX_LISTED:
            self._problems.append(Problem(line, text))

    def line(self, number: int, line: str) -> None:
        text = line.strip(" \t")
        if not text or text.startswith("#"):
            return
        form = _LINE.fullmatch(text)
        if form is None or _CONTROL.search(text):
            self.problem(number, "not a line of a policy: KEY value")
            return
        key = form[1].upper().replace("_", "-")
        try:
            self._take(number, key, _value(form[2]))
        except _Unclear as error:
            self.problem(number, f"{key}: {error}")

    def _take(self, number: int, key: str, value: str) -> None:
        if key == "ACCEPT-CLASS":
            self._restricted = True
            self._accept.append(_accept_class(value, len(self._accept)))
        elif key == "DENY-CLASS":
            self._deny.append(_pattern(value, len(self._deny)))
        elif key == "UNSOLICITED-MAIL-HOURS":
            self._hours += _hour_ranges(value, len(self._hours))
        elif key not in _SINGLE:
            self._keep(number, key, value)
        elif (attribute := _SINGLE[key][0]) in self._single:
            raise _Unclear("stands twice: the first counts")
        else:
            self._single[attribute] = _SINGLE[key][1](value)

    def _keep(self, number: int, key: str, value: str) -> None:
        if len(self._unknown) < MAX_LISTED:
            self._unknown.append((key, value))
        else:
            self.problem(number, f"{key}: more than {MAX_LISTED} unknown keys; not kept")

    def report(self, domain: str) -> PolicyReport:
        said = self._single.pop("domain", None)
        if domain and said != domain:
            self.problem(0, f"the report does not say that it is of {domain}")
        self._single.setdefault("pay", any(one.price for one in self._accept))
        return PolicyReport(
            domain=Domain(domain or str(said or "")),
            accept=tuple(self._accept),
            restricted=self._restricted,
            deny=tuple(self._deny),
            unsolicited_hours=tuple(self._hours),
            unknown=tuple(self._unknown),
            problems=tuple(self._problems),
            **self._single,  # type: ignore[arg-type]  # the readers of _SINGLE give these types
        )


def _value(text: str) -> str:
    """What a line says: without its comment, or what stands in quotes."""
    text = text.strip(" \t")
    if text.startswith('"') and (end := text.rfind('"')) > 0:
        rest = text[end + 1 :].strip(" \t")
        if not rest or rest.startswith("#"):
            return _bounded(text[1:end])
    return _bounded(_COMMENT.sub("", text).strip(" \t"))


def _bounded(value: str) -> str:
    if len(value) > MAX_VALUE:
        raise _Unclear(f"longer than {MAX_VALUE} characters")
    return value


def _accept_class(value: str, so_far: int) -> AcceptClass:
    words = value.split()
    if len(words) > 2:
        raise _Unclear("a pattern and at most a price")
    pattern = _pattern(words[0] if words else "", so_far)
    if len(words) == 1:
        return AcceptClass(pattern)
    try:
        return AcceptClass(pattern, parse_price(words[1].removeprefix("[").removesuffix("]").lstrip("$")))
    except PriceError as error:
        raise _Unclear(f"accepts nothing, for {error}") from error


def _pattern(value: str, so_far: int) -> ClassPattern:
    if so_far >= MAX_CLASSES:
        raise _Unclear(f"more than {MAX_CLASSES} of them; not read")
    try:
        return parse_pattern(value)
    except ClassError as error:
        raise _Unclear(str(error)) from error


def _hour_ranges(value: str, so_far: int) -> list[HourRange]:
    texts = [text.strip(" \t") for text in value.replace(";", ",").split(",") if text.strip(" \t")]
    if not texts or so_far + len(texts) > 24:
        raise _Unclear("one to 24 ranges HHMM-HHMM")
    return [_hour_range(text) for text in texts]


def _hour_range(text: str) -> HourRange:
    form = _HOURS.fullmatch(text)
    if form is None:
        raise _Unclear("a range is HHMM-HHMM, UTC")
    first, last = (int(form[at]) * 60 + int(form[at + 1]) for at in (1, 3))
    if int(form[2]) > 59 or int(form[4]) > 59 or first >= 1440 or last > 1440:
        raise _Unclear("no such time of day")
    return HourRange(first, last)


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) or not least <= int(value) <= most:
            raise _Unclear(f"a number between {least} and {most}")
        return int(value)

    return read


def _size(value: str) -> int:
    form = _SIZE.fullmatch(value)
    if form is None:
        raise _Unclear("a number of octets, or with KB, MB, GB")
    unit = (form[2] or "").lower()
    octets = int(form[1]) * (_UNITS.get(unit[:1], 1) if unit not in ("bytes", "octets") else 1)
    if octets > MAX_SIZE:
        raise _Unclear("too large")
    return octets


def _share(value: str) -> int:
    form = _PRIORITY.fullmatch(value)
    if form is None or int(form[1]) + int(form[2]) != 100:
        raise _Unclear("two shares that make 100: [90AMDP] [10SMTP]")
    return int(form[1])


def _yes(value: str) -> bool:
    lowered = value.lower()
    if lowered not in _YES | _NO:
        raise _Unclear("YES or NO")
    return lowered in _YES


def _domain(value: str) -> str:
    try:
        return parse_domain(value.lower())
    except AddressError as error:
        raise _Unclear(str(error)) from error


def _host(value: str) -> str:
    """A host with or without a port; no other part of a URL."""
    form = _HOST.fullmatch(value)
    if form is None or (form[2] and not 0 < int(form[2]) < 65_536):
        raise _Unclear("a host, or host:port")
    name = _domain(form[1])
    return f"{name}:{form[2]}" if form[2] else name


def _hosts(value: str) -> tuple[str, ...]:
    texts = [text.strip(" \t") for text in value.split(",")]
    if len(texts) > MAX_SERVICES:
        raise _Unclear(f"more than {MAX_SERVICES} hosts")
    return tuple(map(_host, texts))


def _price(value: str) -> int:
    try:
        return parse_price(value)
    except PriceError as error:
        raise _Unclear(str(error)) from error


def _currency(value: str) -> str:
    try:
        return parse_currency(value)
    except PriceError as error:
        raise _Unclear(str(error)) from error


def _text(value: str) -> str:
    return value


_SINGLE: dict[str, tuple[str, Callable[[str], object]]] = {
    "DOMAIN": ("domain", _domain),
    "MIS": ("mis", _host),
    "SUPER-AUTH": ("super_auth", _domain),
    "MAX-MAIL-SIZE": ("max_mail_size", _size),
    "MSG-PER-MIN": ("messages_per_minute", _number(0, 1_000_000)),
    "CACHE-REFRESH": ("cache_hours", _number(1, 720)),
    "DELIVERY-PRIORITY": ("amdp_share", _share),
    "CONTACT-INFO": ("contact", _text),
    "ACCEPT-REJECT-PCT": ("accept_reject", _text),
    "ACCEPT-NEXT-IN": ("accept_next_in", _number(0, 10_080)),
    "PAY": ("pay", _yes),
    "PAY-METHOD": ("pay_method", _text),
    "PAY-ACCT": ("pay_account", _text),
    "PAY-CURRENCY": ("pay_currency", _currency),
    "PAY-UNVOUCHED": ("unvouched_price", _price),
    "CLASS-AUTH": ("class_services", _hosts),
    "SUBSCRIBE-SYNCH": ("subscribe_synch", _host),
    "SUBSCRIBE-AGENT": ("subscribe_agent", _host),
}
"""Keys that stand once: what they are in `PolicyReport`, and how they are read."""
