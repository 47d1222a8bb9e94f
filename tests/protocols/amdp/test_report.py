"""The published policy: the sample says what it says, nonsense never fails, what is written is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.protocols.amdp.vectors import vectors

from outrider.model.address import Domain
from outrider.protocols.amdp.mail_class import ClassPattern, parse_pattern
from outrider.protocols.amdp.prices import MAX_PRICE, PriceError, format_price, parse_currency, parse_price
from outrider.protocols.amdp.report import (
    AcceptClass,
    HourRange,
    PolicyReport,
    Problem,
    lint,
    write_report,
)
from outrider.protocols.amdp.report_reader import MAX_CLASSES, MAX_LISTED, MAX_OCTETS, parse_report

CASES = vectors("report")
SAMPLE = CASES["sample"]


def told(report: PolicyReport) -> dict[str, Any]:
    """A report in the form of the vectors."""
    values: dict[str, Any] = {name: getattr(report, name) for name in report.__slots__} | {
        "smtp_share": report.smtp_share,
        "accept": [[str(one.pattern), one.price] for one in report.accept],
        "class_services": list(report.class_services),
        "deny": [str(pattern) for pattern in report.deny],
        "unsolicited_hours": [str(hours) for hours in report.unsolicited_hours],
        "unknown": [list(one) for one in report.unknown],
        "problems": [[one.line, one.text] for one in report.problems],
    }
    return values


# -- reading -------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-16")
def test_the_sample_says_what_it_says() -> None:
    report = parse_report(SAMPLE["text"].encode(), SAMPLE["domain"])
    assert told(report) == SAMPLE["report"]
    assert lint(report) == ()


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize("case", CASES["lines"], ids=lambda case: case["name"])
def test_lines(case: Any) -> None:
    report = parse_report(case["text"].encode())
    found = told(report)
    expected = {"problems": []} | case["report"]
    assert {name: found[name] for name in expected} == expected
    assert {one.line for one in report.problems} <= {one.line for one in lint(report)}


@pytest.mark.covers("AMDP-16")
def test_a_report_of_another_domain() -> None:
    report = parse_report(b"DOMAIN evil.example\n", "beta.example")
    assert report.domain == "beta.example"
    assert report.problems == (Problem(0, "the report does not say that it is of beta.example"),)
    assert parse_report("DOMAIN MÜNCHEN.example".encode()).domain == "xn--mnchen-3ya.example"


@pytest.mark.covers("AMDP-16", "SEC-184")
def test_a_hundred_megabytes() -> None:
    line = b"DENY-CLASS *::Bulk::x\n"
    report = parse_report(b"MSG-PER-MIN 5\n" + line * (100_000_000 // len(line)), "a.example")
    assert report.messages_per_minute == 5
    assert len(report.deny) == MAX_CLASSES
    assert len(report.problems) == MAX_LISTED
    assert "was not read" in report.problems[0].text
    assert parse_report(b"x" * 100_000_000).accept == ()


@pytest.mark.covers("AMDP-16")
def test_a_line_that_was_cut_off_is_not_read() -> None:
    """Half a line may say something else than the whole."""
    padding = b"#" * (MAX_OCTETS - len(b"\nMSG-PER-MIN 1"))
    assert parse_report(padding + b"\nMSG-PER-MIN 1000\n").messages_per_minute == 0


@pytest.mark.covers("AMDP-16", "SEC-184")
@settings(max_examples=300, deadline=None)
@example(b"A !\t!")
@example(b'A "!\t"')
@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.tuples(
                st.sampled_from(
                    [
                        "DOMAIN",
                        "MIS",
                        "MAX-MAIL-SIZE",
                        "MSG-PER-MIN",
                        "CACHE-REFRESH",
                        "DELIVERY-PRIORITY",
                        "ACCEPT-CLASS",
                        "DENY-CLASS",
                        "UNSOLICITED_MAIL_HOURS",
                        "PAY",
                        "PAY-CURRENCY",
                        "SUBSCRIBE-SYNCH",
                        "ACCEPT-NEXT-IN",
                        "COLOUR",
                    ]
                ),
                st.text(max_size=30),
            ),
            max_size=10,
        ).map(lambda lines: "\n".join(f"{key} {value}" for key, value in lines).encode()),
    )
)
def test_nonsense_never_fails(octets: bytes) -> None:
    report = parse_report(octets, "a.example")
    assert 1 <= report.cache_hours <= 720
    assert 0 <= report.amdp_share <= 100
    assert all(0 <= one.price <= MAX_PRICE for one in report.accept)
    assert len(lint(report)) >= len(report.problems)
    again = parse_report(write_report(replace(report, restricted=bool(report.accept))).encode(), "a.example")
    assert replace(again, problems=()) == replace(report, problems=(), restricted=bool(report.accept))


# -- writing -------------------------------------------------------------------------------------------------

lines = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffd"), max_size=30
)
parts = st.sampled_from(["*", "Agent", "Bulk", "Personal", "x"])
patterns = st.lists(parts, min_size=3, max_size=5).map(lambda one: parse_pattern("::".join(one)))
prices = st.one_of(st.just(0), st.integers(0, MAX_PRICE))
hours = st.builds(HourRange, st.integers(0, 1439), st.integers(0, 1440))


@st.composite
def reports(draw: st.DrawFn) -> PolicyReport:
    accept = tuple(draw(st.lists(st.builds(AcceptClass, patterns, prices), max_size=4)))
    return PolicyReport(
        domain=Domain("beta.example"),
        mis=draw(st.sampled_from(["", "amdp-mis.beta.example", "mis.example:8443"])),
        super_auth=draw(st.sampled_from(["", "parent.example"])),
        max_mail_size=draw(st.integers(0, 10**12)),
        messages_per_minute=draw(st.integers(0, 1_000_000)),
        cache_hours=draw(st.integers(1, 720)),
        amdp_share=draw(st.integers(0, 100)),
        contact=draw(lines),
        accept=accept,
        restricted=bool(accept),
        deny=tuple(draw(st.lists(patterns, max_size=4))),
        accept_reject=draw(lines),
        unsolicited_hours=tuple(draw(st.lists(hours, max_size=3))),
        pay=draw(st.booleans()),
        pay_method=draw(lines),
        pay_account=draw(lines),
        pay_currency=draw(st.sampled_from(["USD", "EUR"])),
        unvouched_price=draw(prices),
        class_services=draw(st.sampled_from([(), ("class.example", "more.example:8443")])),
        subscribe_synch=draw(st.sampled_from(["", "lists.beta.example"])),
        subscribe_agent=draw(st.sampled_from(["", "agent.beta.example:8443"])),
        accept_next_in=draw(st.integers(0, 10_080)),
        unknown=tuple(draw(st.lists(st.tuples(st.sampled_from(["COLOUR", "X-1"]), lines), max_size=2))),
    )


@pytest.mark.covers("AMDP-16", "ITP-4c")
@settings(max_examples=300, deadline=None)
@given(reports())
def test_what_is_published_is_what_is_read(report: PolicyReport) -> None:
    text = write_report(report, ("written by a test", ""))
    assert parse_report(text.encode(), "beta.example") == report
    assert parse_report(text.replace("\n", "\r\n").encode(), "beta.example") == report


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize("evil", ["a\nPAY NO", "a\rb", "a\x00", "a\u2028b", "x" * 501])
@pytest.mark.parametrize(
    "field", ["contact", "accept_reject", "pay_method", "pay_account", "mis", "super_auth"]
)
def test_no_value_ends_its_line(field: str, evil: str) -> None:
    plain = PolicyReport(Domain("a.example"))
    with pytest.raises(ValueError, match="control character"):
        write_report(replace(plain, **{field: evil}))  # type: ignore[arg-type]


@pytest.mark.covers("AMDP-16")
def test_what_else_cannot_be_published() -> None:
    plain = PolicyReport(Domain("a.example"))
    for wrong in (
        replace(plain, unknown=(("a key", "x"),)),
        replace(plain, restricted=True),
        replace(plain, pay_currency="$"),
        replace(plain, accept=(AcceptClass(parse_pattern("*"), -1),), pay=True),
    ):
        with pytest.raises(ValueError):
            write_report(wrong)
    with pytest.raises(ValueError):
        write_report(plain, ("a\nDENY-CLASS *",))


# -- linting -------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("PAY YES\nPAY-METHOD x\nPAY-ACCT y\n", "PAY without a price"),
        ("ACCEPT-CLASS * 1\nPAY NO\n", "prices, and PAY NO"),
        ("ACCEPT-CLASS * 1\n", "nobody can pay"),
        ("ACCEPT-CLASS * 1\nACCEPT-CLASS * 2\n", "two prices: the higher counts"),
        ("ACCEPT-CLASS Agent::*\nDENY-CLASS agent::*\n", "accepted and denied: denied"),
        ("DENY-CLASS *\n", "no mail at all"),
        ("COLOUR blue\n", "unknown key COLOUR"),
        ("DELIVERY-PRIORITY [100AMDP] [0SMTP]\n", "all mail by SMTP is refused"),
        ("MSG-PER-MIN many\n", "a number between"),
        ("", "no CONTACT-INFO"),
        ("", "no MAX-MAIL-SIZE"),
    ],
)
def test_what_is_surely_not_meant(text: str, warning: str) -> None:
    assert any(warning in problem.text for problem in lint(parse_report(text.encode())))


# -- prices --------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-16", "SEC-193")
@pytest.mark.parametrize(("text", "price"), CASES["prices"])
def test_prices_are_exact(text: str, price: int) -> None:
    assert parse_price(text) == price
    assert parse_price(format_price(price)) == price


@pytest.mark.covers("AMDP-16", "SEC-193")
@pytest.mark.parametrize("text", CASES["no_prices"], ids=repr)
def test_what_is_no_price(text: str) -> None:
    with pytest.raises(PriceError):
        parse_price(text)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, MAX_PRICE))
def test_every_price_survives(price: int) -> None:
    assert parse_price(format_price(price)) == price


@pytest.mark.covers("SEC-193")
@pytest.mark.parametrize("price", [-1, MAX_PRICE + 1])
def test_amounts_out_of_range(price: int) -> None:
    with pytest.raises(PriceError):
        format_price(price)


@pytest.mark.covers("SEC-192")
@pytest.mark.parametrize("text", ["", "US", "USDX", "U$D", "ＵＳＤ", "USD\n"])
def test_what_is_no_currency(text: str) -> None:
    assert parse_currency("eur") == "EUR"
    with pytest.raises(PriceError):
        parse_currency(text)


def test_patterns_are_values() -> None:
    assert parse_pattern("agent::*") == ClassPattern(("Agent", "*"))
