"""Declarations: read in every form, the last match decides, and what is written says what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.mpc import ABOUT_POLICY, LEGAL, MailClass, Mpc, MpcPattern, Role, parse_mpc
from outrider.model.reply import Reply
from outrider.protocols.amtp.declarations import (
    MAX_DECLARATIONS,
    Declaration,
    declarations_for,
    evaluate,
    parse_declarations,
    read_declarations,
)

patterns = st.builds(
    MpcPattern,
    st.none() | st.sampled_from([role for role in Role if role is not Role.MPC]),
    st.none() | st.sampled_from(MailClass),
)
declarations = st.builds(Declaration, st.booleans(), patterns)
lists = st.lists(declarations, max_size=8).map(tuple)
codes = st.sampled_from(LEGAL)


def allowed_by(*lines: str) -> set[str]:
    found = parse_declarations(lines)
    return {str(code) for code in LEGAL if evaluate(found, code).allowed}


def matching(*texts: str) -> set[str]:
    """The codes that one of the patterns matches, and the one that is always allowed."""
    return {str(code) for code in LEGAL for text in texts if _fits(code, text)} | {"mpc/individual"}


def _fits(code: Mpc, text: str) -> bool:
    role, _, mail_class = text.partition("/")
    return role in ("*", code.role.value) and mail_class in ("*", code.mail_class.value)


EVERYTHING = {str(code) for code in LEGAL}


# -- reading ---------------------------------------------------------------------------------------------


@pytest.mark.covers("AMTP-10")
@pytest.mark.parametrize(
    "line",
    [
        "MPC ALLOW=com/*",
        "MPC ALLOW com/*",
        "MPC-ALLOW com/*",
        "MPC-ALLOW=com/*",
        "MPC=ALLOW com/*",
        "mpc allow COM/*",
        "MPC  ALLOW = com/* ",
    ],
)
def test_one_declaration_in_every_form(line: str) -> None:
    assert [str(one) for one in parse_declarations([line])] == ["ALLOW=com/*"]


@pytest.mark.covers("AMTP-10")
@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        (("MPC DENY com/*",), EVERYTHING - matching("com/*") | {"mpc/individual"}),
        (("MPC ALLOW=com/*",), matching("com/*")),
        (("MPC-ALLOW */individual",), matching("*/individual")),
    ],
    ids=["deny", "allow", "hyphen"],
)
def test_the_three_declarations_of_the_draft(lines: tuple[str, ...], allowed: set[str]) -> None:
    assert allowed_by(*lines) == allowed


@pytest.mark.covers("AMTP-10")
@pytest.mark.parametrize(
    ("lines", "written"),
    [
        (("MPC ALLOW=com/*,net/*",), "ALLOW=com/* ALLOW=net/*"),
        (("MPC ALLOW=com/* DENY=com/optout",), "ALLOW=com/* DENY=com/optout"),
        (("MPC ALLOW com/* , net/*, DENY pol/* */*",), "ALLOW=com/* ALLOW=net/* DENY=pol/* DENY=*/*"),
        (("MPC ALLOW=com/*", "SIZE 100", "MPC-DENY com/optout"), "ALLOW=com/* DENY=com/optout"),
    ],
)  # fmt: skip
def test_lists(lines: tuple[str, ...], written: str) -> None:
    assert " ".join(map(str, parse_declarations(lines))) == written


@pytest.mark.covers("AMTP-10")
@pytest.mark.parametrize(
    "line",
    [
        "MPC",
        "MPC ",
        "MPC ALLOW",
        "MPC com/*",
        "MPC ALLOW=com",
        "MPC ALLOW=com/",
        "MPC ALLOW=org/*",
        "MPC ALLOW=com/spam",
        "MPC ALLOW=mpc/optin",
        "MPC ALLOW=com/*/x",
        "MPC PERHAPS=com/*",
        "MPC-PERHAPS com/*",
        "MPCALLOW=com/*",
        "XMPC ALLOW=com/*",
        "MPC\tALLOW=com/*",
        "ALLOW=com/*",
    ],
)
def test_what_cannot_be_read_decides_nothing(line: str) -> None:
    assert parse_declarations([line]) == ()
    assert allowed_by(line) == EVERYTHING
    assert allowed_by(line, "MPC ALLOW=net/*") == matching("net/*")


@pytest.mark.covers("AMTP-10")
def test_only_what_cannot_be_read_is_skipped() -> None:
    assert allowed_by("MPC ALLOW=com/*,org/*,net/* PERHAPS=per/* DENY=x/y,com/optout") == (
        matching("com/*", "net/*") - {"com/optout"}
    )


@pytest.mark.covers("AMTP-10")
def test_the_greeting_line_is_no_declaration() -> None:
    reply = Reply(250, "", "MPC ALLOW=com/*\nPIPELINING\nMPC DENY=com/*\nHELP")
    assert [str(one) for one in read_declarations(reply)] == ["DENY=com/*"]


@pytest.mark.covers("AMTP-10")
def test_a_list_without_end_is_not_heeded() -> None:
    line = "MPC DENY=*/*" + ",com/optin" * (MAX_DECLARATIONS - 1)
    assert allowed_by(line) == {"mpc/individual"}
    assert allowed_by(line + ",com/optin") == EVERYTHING


@pytest.mark.covers("AMTP-10")
@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=60) | st.just("MPC ALLOW=com/*")))
def test_any_text_is_read_or_passed_over(lines: list[str]) -> None:
    assert all(isinstance(one, Declaration) for one in parse_declarations(lines))


# -- evaluating ------------------------------------------------------------------------------------------


@pytest.mark.covers("AMTP-10")
@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ((), EVERYTHING),
        (("MPC ALLOW=*/*",), EVERYTHING),
        (("MPC DENY=*/*",), {"mpc/individual"}),
        (("MPC ALLOW=com/* DENY=com/optout ALLOW=com/*",), matching("com/*")),
        (("MPC DENY=*/optout ALLOW=com/*",), EVERYTHING - matching("*/optout") | matching("com/*")),
        (("MPC ALLOW=com/* DENY=*/*",), {"mpc/individual"}),
        (("MPC DENY=com/* ALLOW=*/*",), EVERYTHING),
    ],
)
def test_the_last_match_decides(lines: tuple[str, ...], allowed: set[str]) -> None:
    assert allowed_by(*lines) == allowed


@pytest.mark.covers("AMTP-9", "AMTP-12")
@given(lists)
def test_mail_about_policy_is_never_denied(found: tuple[Declaration, ...]) -> None:
    assert evaluate(found, ABOUT_POLICY).allowed


@pytest.mark.covers("AMTP-12")
@pytest.mark.parametrize(
    ("line", "code", "because"),
    [
        ("MPC ALLOW=com/* DENY=com/optout,pol/*", "com/optout", "DENY=com/optout"),
        ("MPC ALLOW=com/*,net/*", "per/individual", "not among ALLOW=com/*, ALLOW=net/*"),
        ("MPC ALLOW=com/*,net/*,gov/*,pol/*,ngo/*,per/optin,per/customer", "per/individual",
         "not among ALLOW=com/*, ALLOW=net/*, ALLOW=gov/*, ALLOW=pol/*, ALLOW=ngo/* and 2 more"),
        ("MPC ALLOW=com/*", "com/optin", "ALLOW=com/*"),
        ("MPC DENY=com/*", "per/optin", "no declaration denies it"),
    ],
)  # fmt: skip
def test_a_verdict_names_what_decides(line: str, code: str, because: str) -> None:
    assert evaluate(parse_declarations([line]), parse_mpc(code)).because == because


# -- writing ---------------------------------------------------------------------------------------------


@pytest.mark.covers("AMTP-10")
@given(lists)
def test_what_is_written_is_read_back(found: tuple[Declaration, ...]) -> None:
    assert parse_declarations(f"MPC {one}" for one in found) == found


def said_of(allowed: frozenset[Mpc]) -> set[Mpc]:
    """What a reader of our announcement takes it to allow."""
    found = parse_declarations(f"MPC {one}" for one in declarations_for(allowed))
    return {code for code in LEGAL if evaluate(found, code).allowed}


@pytest.mark.covers("AMTP-10", "ITP-4b")
@given(st.frozensets(codes))
def test_what_is_announced_is_what_is_allowed(allowed: frozenset[Mpc]) -> None:
    assert said_of(allowed) == allowed | {ABOUT_POLICY}


@pytest.mark.covers("AMTP-10", "ITP-4b")
@given(lists)
def test_no_announcement_is_longer_than_the_list_it_came_from(found: tuple[Declaration, ...]) -> None:
    allowed = frozenset(code for code in LEGAL if evaluate(found, code).allowed)
    assert said_of(allowed) == allowed
    assert len(declarations_for(allowed)) <= len(found)


@pytest.mark.covers("AMTP-10")
@pytest.mark.parametrize(
    ("allowed", "announced"),
    [
        (EVERYTHING, ()),
        (set(), ("DENY=*/*",)),
        (matching("com/*"), ("ALLOW=com/*",)),
        (EVERYTHING - matching("*/optout"), ("DENY=*/optout",)),
        (EVERYTHING - {"pol/optout"}, ("DENY=pol/optout",)),
        (matching("com/*") - {"com/optout"}, ("ALLOW=com/*", "DENY=com/optout")),
    ],
)
def test_plain_policies_are_announced_plainly(allowed: set[str], announced: tuple[str, ...]) -> None:
    assert declarations_for(frozenset(map(parse_mpc, allowed))) == announced
