"""May this mail be announced to a domain that publishes this policy (AMDP-3), and does it keep what is
published (AMDP-7, AMDP-11)? One judge for both sides, so that announcement and verdict agree (ITP-4c)."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.protocols.amdp.mail_class import MailClass, Ranked, Ranking
from outrider.protocols.amdp.prices import format_price
from outrider.protocols.amdp.report import HourRange, PolicyReport, accept_line

_DAY = 86_400
_RATE_WAIT = 60.0
"""Seconds after which a facility that was too fast may go on, where ACCEPT-NEXT-IN says nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sent, or came."""

    mail_class: MailClass
    size: int
    """Octets of the message."""
    now: float
    """Seconds since the epoch, UTC."""
    paid: int = 0
    """Thousandths of the report's currency that a receipt shows or that we are ready to pay."""
    recent: int = 0
    """Envelopes of this facility to this domain within the last minute, this one not counted."""
    vouched: bool = False
    """Whether one of the receiver's classification services vouches for the class, as far as is known."""
    known: bool = False
    """An allowed sender: class, hours, price do not bind it (AMDP-20, AMDP-22); the rate does."""


@dataclass(frozen=True, slots=True)
class Taken:
    """It may be announced."""

    price: int
    """Thousandths that this class costs; 0 = nothing."""
    direct: bool
    """Whether the size is one that the receiver fetches at once. Never a reason not to announce (AMDP-3)."""
    rule: str
    """The line that decided, as published; "" = there is none."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not under this policy."""

    rule: str
    """The line, as published."""
    words: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Later: outside hours, or too fast."""

    rule: str
    words: str
    seconds: float
    """From now."""


Judgement = Taken | Refused | NotNow


def judge(report: PolicyReport, asked: Asked) -> Judgement:
    """The judgement: class, then price, then hours, then rate."""
    if asked.known:
        price, rule = 0, ""
    else:
        best = _ranking(report).best(asked.mail_class)
        refused = _class_refused(report, asked.mail_class, best)
        if refused is not None:
            return refused
        price, rule = _price(report, best, asked)
        if asked.paid < price:
            words = f"{asked.mail_class} costs {format_price(price)} {report.pay_currency}"
            return Refused(rule, f"{words}; {_shown_paid(asked.paid, report.pay_currency)}")
        closed = _closed(report, asked)
        if closed is not None:
            return closed
    direct = asked.size <= report.max_mail_size and report.max_mail_size > 0
    return _too_fast(report, asked) or Taken(price, direct, rule)


def _ranking(report: PolicyReport) -> Ranking:
    accepted = tuple(Ranked(one.pattern, True, one.price) for one in report.accept)
    return Ranking(accepted + tuple(Ranked(pattern, False) for pattern in report.deny))


def _class_refused(report: PolicyReport, mail_class: MailClass, best: Ranked | None) -> Refused | None:
    if best is not None and not best.accepted:
        return Refused(f"DENY-CLASS {best.pattern}", f"mail of the class {mail_class} is not taken")
    if best is None and report.restricted:
        return Refused("ACCEPT-CLASS", f"no accepted class covers {mail_class}")
    return None


def _price(report: PolicyReport, best: Ranked | None, asked: Asked) -> tuple[int, str]:
    """Thousandths, and the line that says so. A class that is merely claimed makes mail no cheaper
    (AMDP-18)."""
    price = best.price if best is not None and report.pay else 0
    if report.pay and not asked.vouched and report.unvouched_price > price:
        return report.unvouched_price, f"PAY-UNVOUCHED {format_price(report.unvouched_price)}"
    return price, accept_line(best.pattern, best.price) if best is not None else ""


def _shown_paid(paid: int, currency: str) -> str:
    return f"{format_price(paid)} {currency} was paid" if paid else "nothing was paid"


def _closed(report: PolicyReport, asked: Asked) -> NotNow | None:
    """Whether it is of a type that is kept to certain hours, and this is none of them."""
    if not (report.unsolicited_hours and asked.mail_class.is_unsolicited):
        return None
    second = int(asked.now) % _DAY
    waits = [_until(hours, second) for hours in report.unsolicited_hours]
    if 0 in waits:
        return None
    listed = ", ".join(str(hours) for hours in report.unsolicited_hours)
    words = f"mail of the class {asked.mail_class} is taken at {listed} UTC"
    return NotNow(f"UNSOLICITED_MAIL_HOURS {listed}", words, float(min(waits)))


def _until(hours: HourRange, second: int) -> int:
    """Seconds until the range is open; 0 = it is."""
    first, last = hours.first * 60, hours.last * 60
    is_open = first <= second < last if first < last else second >= first or second < last
    return 0 if is_open else (first - second) % _DAY


def _too_fast(report: PolicyReport, asked: Asked) -> NotNow | None:
    limit = report.messages_per_minute
    if not limit or asked.recent < limit:
        return None
    seconds = report.accept_next_in * 60.0 or _RATE_WAIT
    words = f"more than {limit} envelopes a minute; next in {round(seconds)} seconds"
    return NotNow(f"MSG-PER-MIN {limit}", words, seconds)
