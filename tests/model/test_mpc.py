"""Mail Policy Codes: a closed list, and patterns over it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.mpc import (
    ABOUT_POLICY,
    BOUNCE,
    LEGAL,
    MailClass,
    Mpc,
    MpcError,
    MpcPattern,
    Role,
    parse_mpc,
    parse_mpc_pattern,
)


@pytest.mark.covers("AMTP-9")
def test_there_are_37_codes() -> None:
    roles = ("per", "com", "ngo", "net", "gov", "pol")
    classes = ("individual", "autoresponse", "customer", "optout", "optin", "confirmed")
    written = {f"{role}/{mail_class}" for role in roles for mail_class in classes} | {"mpc/individual"}
    assert {str(code) for code in LEGAL} == written
    assert len(LEGAL) == 37


@pytest.mark.covers("AMTP-9", "AMTP-13")
def test_the_two_with_a_meaning_of_their_own() -> None:
    assert (str(ABOUT_POLICY), str(BOUNCE)) == ("mpc/individual", "net/autoresponse")


@pytest.mark.covers("AMTP-9")
@given(st.sampled_from(LEGAL), st.integers())
def test_case_does_not_count(code: Mpc, seed: int) -> None:
    text = "".join(char.upper() if seed >> n & 1 else char for n, char in enumerate(str(code)))
    assert parse_mpc(text) == code
    assert parse_mpc_pattern(text).matches(code)


@pytest.mark.covers("AMTP-9")
@pytest.mark.parametrize(
    "text",
    ["", "/", "com", "com/", "/optin", "com/optin/", "com/optin/x", "optin/com", "*/optin", "com/*",
     "mpc/optin", "mpc/confirmed", " com/optin", "com /optin", "com/optin\n", "com\\optin",
     "individual/confirmed", "c\u0131m/x", "com/opt\u0131n", "\uff43om/optin"],
)  # fmt: skip
def test_what_is_no_code(text: str) -> None:
    with pytest.raises(MpcError):
        parse_mpc(text)


@pytest.mark.covers("AMTP-9")
def test_none_can_be_made_that_is_not_legal() -> None:
    with pytest.raises(MpcError):
        Mpc(Role.MPC, MailClass.OPTIN)


@pytest.mark.parametrize(
    ("text", "count"),
    [("*/*", 37), ("com/*", 6), ("*/optin", 6), ("*/individual", 7), ("mpc/*", 1), ("com/optin", 1)],
)
def test_patterns(text: str, count: int) -> None:
    pattern = parse_mpc_pattern(text.upper())
    assert str(pattern) == text
    assert sum(pattern.matches(code) for code in LEGAL) == count


@pytest.mark.parametrize(
    "text", ["", "*", "**/*", "*/", "/*", "com*/*", "org/*", "*/spam", "mpc/optin", "com/*/x"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(MpcError):
        parse_mpc_pattern(text)


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_an_error(text: str) -> None:
    try:
        pattern = parse_mpc_pattern(text)
    except MpcError:
        return
    assert isinstance(pattern, MpcPattern)
    assert str(pattern) == text.lower()
