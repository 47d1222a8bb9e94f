"""The policy of our own domains, as one value: what is published, and what judges the envelopes that come
(ITP-4c).

It is made of [amdp.policy] and of the compiled rules, so that what is announced and what is done are the same
thing read twice. Of a rule is announced what is sure: a refusal that hangs on `amdp.class` alone and is not
reached by way of a rule that might have admitted the mail. What else rules refuse, they refuse unannounced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from outrider.config.amdp_schema import Amdp
from outrider.holding.postage.receipt import is_currency
from outrider.model.address import AddressError, Domain, parse_domain
from outrider.model.facts import Provenance
from outrider.model.verdict import Action
from outrider.policy.conditions import Condition
from outrider.policy.policy import CompiledPolicy
from outrider.policy.rules import STAGES, CompiledRule
from outrider.protocols.amdp.mail_class import ClassError, ClassPattern, parse_pattern
from outrider.protocols.amdp.prices import PriceError, parse_price
from outrider.protocols.amdp.report import AcceptClass, HourRange, PolicyReport, write_report
from outrider.protocols.amdp.report_reader import parse_report

CLASS_FACT: Final = "amdp.class"


def information_host(domain: str) -> str:
    """The name under which a domain's information service is reached."""
    return f"amdp-mis.{domain}"


def service_at(domain: str, port: int) -> str:
    """The same as policies name it."""
    return information_host(domain) + (f":{port}" if port != 443 else "")


def published_report(domain: Domain, amdp: Amdp, policy: CompiledPolicy) -> PolicyReport:
    """What is published for a domain of ours. Raises ValueError for a setting that cannot be, as `key:
    fault`."""
    settings = amdp.policy
    here = service_at(domain, amdp.port)
    accept = tuple(_accepted(text, price) for text, price in settings.accept.items())
    is_paid = amdp.postage.provider != "none"
    priced = [text for text, price in settings.accept.items() if price]
    if not is_currency(amdp.postage.currency):
        raise ValueError("amdp.postage.currency: three capital letters (ISO 4217)")
    if priced and not is_paid:
        raise ValueError("amdp.policy.accept: a price, and [amdp.postage] has no provider to pay it to")
    report = PolicyReport(
        domain=domain,
        mis=here,
        super_auth=_name("amdp.policy.super_auth", settings.super_auth),
        max_mail_size=settings.max_mail_size,
        messages_per_minute=settings.messages_per_minute,
        cache_hours=settings.cache_refresh,
        amdp_share=settings.amdp_share,
        contact=settings.contact,
        accept=accept,
        restricted=bool(accept),
        deny=_denied(settings.deny, policy),
        accept_reject=settings.accept_reject,
        unsolicited_hours=_hours(settings.unsolicited_hours),
        pay=bool(priced),
        pay_method=amdp.postage.method if priced else "",
        pay_account=f"{information_host(domain)}:{amdp.port}" if priced else "",
        pay_currency=amdp.postage.currency,
        unvouched_price=_unvouched_price(accept, amdp),
        class_services=_service_hosts(amdp) if priced else (),
        subscribe_synch=settings.subscribe_synch or (here if "subscriptions" in amdp.roles else ""),
        subscribe_agent=settings.subscribe_agent,
    )
    _check(report)
    return report


def _unvouched_price(accept: Sequence[AcceptClass], amdp: Amdp) -> int:
    """What a class costs that is merely claimed; 0 where prices are alike, so that a claim saves nothing."""
    prices = [one.price for one in accept]
    if amdp.postage.unvouched == "claimed" or len(set(prices)) < 2:
        return 0
    return max(prices)


def _service_hosts(amdp: Amdp) -> tuple[str, ...]:
    """The services whose word counts here, as policies name hosts."""
    return tuple(one.removeprefix("https://").rstrip("/").lower() for one in amdp.classification.services)


def _check(report: PolicyReport) -> None:
    """Others must read what we mean. Raises ValueError."""
    fault = _misread(report)
    if not fault:
        return
    for name, key in _FREE.items():
        alone = PolicyReport(report.domain, **{name: getattr(report, name)})
        if _misread(alone):
            raise ValueError(f"{key}: {_misread(alone)}")
    raise ValueError(f"amdp.policy: {fault}")


_FREE: Final[Mapping[str, str]] = {
    "contact": "amdp.policy.contact",
    "accept_reject": "amdp.policy.accept_reject",
    "subscribe_synch": "amdp.policy.subscribe_synch",
    "subscribe_agent": "amdp.policy.subscribe_agent",
    "pay_method": "amdp.postage.method",
}
"""What settings say in any words, by its name in the report."""


def _misread(report: PolicyReport) -> str:
    """Why others would not read what we mean; "" when they do."""
    try:
        text = write_report(report)
    except ValueError as error:
        return str(error)
    read = parse_report(text.encode(), report.domain)
    if read.problems:
        return read.problems[0].text
    return "" if read == report else "it would be read as something else"


def _accepted(text: str, price: str) -> AcceptClass:
    try:
        return AcceptClass(parse_pattern(text), parse_price(price) if price else 0)
    except (ClassError, PriceError) as error:
        raise ValueError(f"amdp.policy.accept: {text}: {error}") from error


def _denied(texts: Sequence[str], policy: CompiledPolicy) -> tuple[ClassPattern, ...]:
    patterns: list[ClassPattern] = []
    for number, text in enumerate(texts):
        try:
            patterns.append(parse_pattern(text))
        except ClassError as error:
            raise ValueError(f"amdp.policy.deny[{number}]: {error}") from error
    return tuple(dict.fromkeys((*patterns, *denied_by_rules(policy))))


def _hours(texts: Sequence[str]) -> tuple[HourRange, ...]:
    if not texts:
        return ()
    listed = ", ".join(texts)
    read = parse_report(f"DOMAIN a.example\nUNSOLICITED_MAIL_HOURS {listed}\n".encode(), "a.example")
    if read.problems:
        raise ValueError(f"amdp.policy.unsolicited_hours: {read.problems[0].text}")
    return read.unsolicited_hours


def _name(key: str, text: str) -> str:
    try:
        return parse_domain(text.lower()) if text else ""
    except AddressError as error:
        raise ValueError(f"{key}: {error}") from error


# -- what the rules refuse for sure ------------------------------------------------------------------------


def denied_by_rules(policy: CompiledPolicy) -> tuple[ClassPattern, ...]:
    """Patterns of classes of which no mail is taken, whatever else is true of it."""
    found: list[ClassPattern] = []
    for stage in STAGES:
        found += _denied_at([rule for rule in policy.rules if stage in rule.stages])
    return tuple(dict.fromkeys(found))


def _denied_at(rules: Sequence[CompiledRule]) -> list[ClassPattern]:
    """Of one stage, at which the first rule that decides wins. Behind one that may admit nothing is sure."""
    found: list[ClassPattern] = []
    for rule in rules:
        if rule.admits:
            break
        if rule.action is Action.REFUSE and len(rule.when) == 1 and not rule.unless:
            found += _classes(rule.when[0])
    return found


def _classes(condition: Condition) -> list[ClassPattern]:
    """The classes that surely fulfil a condition. As text a `*` stands for any characters, so each class that
    a pattern matches is matched by the same pattern read as text."""
    if condition.fact.name != CLASS_FACT or condition.wants_absence or condition.wanted.by_text:
        return []
    if condition.at_least is not Provenance.CLAIMED:
        return []
    patterns: list[ClassPattern] = []
    for text in condition.wanted.values:
        try:
            pattern = parse_pattern(str(text))
        except ClassError:
            continue
        if str(pattern).lower() == str(text).lower():  # GOV read as text is not Government
            patterns.append(pattern)
    return patterns
