"""The page on validation names every check, with the words that the peer hears."""

from __future__ import annotations

import re

import pytest

from outrider.identity.checks import Check
from outrider.identity.mt2_identity import Mt2Check, Mt2IdentityFailure
from outrider.reception.delegation_lookups import LEAST_AGE_S, MAX_AT_ONCE, TEMPORARY_KEPT_S
from tests.docs.pages import PROJECT

PAGE = (PROJECT / "docs" / "protocols" / "mt2-validation.md").read_text("utf-8")
OF_AMTP = {Check.EHLO_MISMATCH, Check.PTR_TIMEOUT, Check.PTR_NONE, Check.PTR_MISMATCH, Check.PTR_NOT_FORWARD}
"""About names that MT2 does not ask for."""


def row_of(check: Check | Mt2Check) -> str:
    [row] = [line for line in PAGE.split("\n") if re.search(rf"^\|[^|]*`{check.value}`", line)]
    return row


@pytest.mark.parametrize("check", [*Mt2Check, *(one for one in Check if one not in OF_AMTP)])
def test_every_check_is_there_with_its_words(check: Check | Mt2Check) -> None:
    row, failure = row_of(check), Mt2IdentityFailure(check, "")
    assert failure.peer_text in row or "the same in words" in row
    assert (f"`{check.value}` *" in row) is failure.temporary


def test_the_limits_are_those_of_the_code() -> None:
    assert MAX_AT_ONCE == 8
    assert "eight domains in all" in PAGE
    assert LEAST_AGE_S == 60
    assert "unless it asked within the last minute" in PAGE
    assert f"a failure for {TEMPORARY_KEPT_S:g} s" in PAGE
