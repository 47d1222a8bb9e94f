"""The policy that a domain publishes (AMDP-16): what it says, how it is written, what in it is surely not
meant.

Reading is `report_reader.parse_report`. The grammar is in docs/protocols/amdp.md section 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from outrider.model.address import Domain
from outrider.protocols.amdp.mail_class import ClassPattern
from outrider.protocols.amdp.prices import format_price, parse_currency

POLICY_PATH = "/.well-known/amdp-policy"
MAX_VALUE = 500
"""Characters of a value."""
_NOT_WRITTEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]")
_KEY = re.compile(r"[A-Z][A-Z0-9_-]{0,63}", re.ASCII)
_COMMENT = re.compile(r"(?:^|[ \t])#")


@dataclass(frozen=True, slots=True)
class HourRange:
    """A daily range in UTC, minutes of the day: from `first` up to but not with `last`; may pass midnight;
    both the same = all day."""

    first: int
    last: int

    def __str__(self) -> str:
        """``HHMM-HHMM``."""
        first, last = (f"{minute // 60:02d}{minute % 60:02d}" for minute in (self.first, self.last))
        return f"{first}-{last}"


@dataclass(frozen=True, slots=True)
class AcceptClass:
    """An ACCEPT-CLASS line."""

    pattern: ClassPattern
    price: int = 0
    """Thousandths of the report's currency; 0 = nothing is to be paid."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a report that is not as it should be."""

    line: int
    """From 1; 0 = the report as a whole."""
    text: str


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """A published policy. Absent keys have the defaults written here."""

    domain: Domain
    mis: str = ""
    super_auth: str = ""
    max_mail_size: int = 0
    """Octets that are fetched directly; 0 = none was said: no direct delivery is promised."""
    messages_per_minute: int = 0
    """Of one facility; 0 = no limit."""
    cache_hours: int = 24
    amdp_share: int = 50
    """Percent; the rest is `smtp_share`."""
    contact: str = ""
    accept: tuple[AcceptClass, ...] = ()
    restricted: bool = False
    """Whether there is an ACCEPT-CLASS line, understood or not: what no line covers is then refused. Without,
    every class that is not denied is taken."""
    deny: tuple[ClassPattern, ...] = ()
    accept_reject: str = ""
    """ACCEPT-REJECT-PCT, as published: how much of what came was taken and refused. Claimed; decides
    nothing."""
    unsolicited_hours: tuple[HourRange, ...] = ()
    """None at all: always."""
    pay: bool = False
    """Whether the prices are asked for: PAY, or where that is absent whether there is a price."""
    pay_method: str = ""
    pay_account: str = ""
    pay_currency: str = "USD"
    unvouched_price: int = 0
    """PAY-UNVOUCHED: thousandths that mail costs at least while nobody of `class_services` vouches for its
    class; 0 = a claimed class costs what a vouched one does."""
    class_services: tuple[str, ...] = ()
    """CLASS-AUTH: hosts of the classification services whose word counts."""
    subscribe_synch: str = ""
    subscribe_agent: str = ""
    accept_next_in: int = 0
    """ACCEPT-NEXT-IN: minutes that a facility which is too fast is told to wait; 0 = not said."""
    unknown: tuple[tuple[str, str], ...] = ()
    """Keys that are not known here, with their values."""
    problems: tuple[Problem, ...] = ()
    """What could not be read as it stands."""

    @property
    def smtp_share(self) -> int:
        """Percent of inbound work for SMTP; 0 = SMTP mail is refused (AMDP-5b)."""
        return 100 - self.amdp_share


def accept_line(pattern: ClassPattern, price: int) -> str:
    """An ACCEPT-CLASS line as it is published."""
    return f"ACCEPT-CLASS {pattern}" + (f" {format_price(price)}" if price else "")


def write_report(report: PolicyReport, comments: tuple[str, ...] = ()) -> str:
    """The text that is published; `parse_report` of it gives the same report again. Raises ValueError for a
    value that cannot be published, such as one with a line end."""
    written = [f"# {_checked(comment)}" for comment in comments]
    written += [f"{key} {value}" for key, value in _single_lines(report) if value]
    written += [accept_line(one.pattern, one.price) for one in report.accept]
    written += [f"DENY-CLASS {pattern}" for pattern in report.deny]
    if report.unsolicited_hours:
        written.append("UNSOLICITED_MAIL_HOURS " + ", ".join(map(str, report.unsolicited_hours)))
    for key, value in report.unknown:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key")
        written.append(f"{key} {_quoted(value)}".rstrip())
    if report.restricted and not report.accept:
        raise ValueError("restricted, and no class is accepted: write DENY-CLASS *")
    return "".join(f"{line}\n" for line in written)


def _single_lines(report: PolicyReport) -> list[tuple[str, str]]:
    """Keys that stand once, with what is written; "" = the line is left out."""
    priced = any(one.price for one in report.accept)
    return [
        ("DOMAIN", _quoted(report.domain)),
        ("MIS", _quoted(report.mis)),
        ("SUPER-AUTH", _quoted(report.super_auth)),
        ("MAX-MAIL-SIZE", str(report.max_mail_size or "")),
        ("MSG-PER-MIN", str(report.messages_per_minute or "")),
        ("CACHE-REFRESH", str(report.cache_hours)),
        ("DELIVERY-PRIORITY", f"[{report.amdp_share}AMDP] [{report.smtp_share}SMTP]"),
        ("CONTACT-INFO", _quoted(report.contact)),
        ("ACCEPT-REJECT-PCT", _quoted(report.accept_reject)),
        ("ACCEPT-NEXT-IN", str(report.accept_next_in or "")),
        ("PAY", ("YES" if report.pay else "NO") if report.pay or priced else ""),
        ("PAY-METHOD", _quoted(report.pay_method)),
        ("PAY-ACCT", _quoted(report.pay_account)),
        ("PAY-CURRENCY", parse_currency(report.pay_currency)),
        ("PAY-UNVOUCHED", format_price(report.unvouched_price) if report.unvouched_price else ""),
        ("CLASS-AUTH", ", ".join(report.class_services)),
        ("SUBSCRIBE-SYNCH", _quoted(report.subscribe_synch)),
        ("SUBSCRIBE-AGENT", _quoted(report.subscribe_agent)),
    ]


def _quoted(value: str) -> str:
    """A value, in quotes where it would be read otherwise without. Raises ValueError."""
    text = _checked(value)
    if text != text.strip() or text.startswith(('"', ":", "=")) or _COMMENT.search(text):
        return f'"{text}"'
    return text


def _checked(value: str) -> str:
    if len(value) > MAX_VALUE or _NOT_WRITTEN.search(value):
        raise ValueError("too long, or a control character in a value that is to be published")
    return value


def lint(report: PolicyReport) -> tuple[Problem, ...]:
    """Its problems, and what can be read but is surely not meant; in the order of the lines."""
    found = list(report.problems)
    found += [Problem(0, f"unknown key {key} is kept and means nothing here") for key, _ in report.unknown]
    found += [Problem(0, text) for text in (*_lint_payment(report), *_lint_classes(report))]
    if not report.contact:
        found.append(Problem(0, "no CONTACT-INFO: nobody can be asked about this policy"))
    if not report.max_mail_size:
        found.append(Problem(0, "no MAX-MAIL-SIZE: nothing is fetched directly"))
    if report.amdp_share == 100:
        found.append(Problem(0, "DELIVERY-PRIORITY gives SMTP nothing: all mail by SMTP is refused"))
    return tuple(sorted(found, key=lambda problem: (problem.line == 0, problem.line)))


def _lint_payment(report: PolicyReport) -> list[str]:
    priced = any(one.price for one in report.accept)
    found: list[str] = []
    if report.pay and not (priced or report.unvouched_price):
        found.append("PAY without a price in any ACCEPT-CLASS: nothing is asked for")
    if priced and not report.pay:
        found.append("prices, and PAY NO: nothing is asked for")
    if report.pay and not (report.pay_method and report.pay_account):
        found.append("PAY without PAY-METHOD or PAY-ACCT: nobody can pay")
    return found


def _lint_classes(report: PolicyReport) -> list[str]:
    accepted = {one.pattern: one.price for one in report.accept}
    denied = set(report.deny)
    found = [
        f"ACCEPT-CLASS {one.pattern} has two prices: the higher counts"
        for one in report.accept
        if accepted[one.pattern] != one.price
    ]
    found += [f"{pattern} is accepted and denied: denied" for pattern in accepted if pattern in denied]
    if any(str(pattern) == "*" for pattern in denied) and not accepted:
        found.append("DENY-CLASS * and nothing is accepted: no mail at all")
    return found
