"""Seals in addresses: only what we have made is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.lists.tokens import CONFIRMATION_LENGTH, Tokens
from outrider.routing.list_addresses import MAX_NAME, Purpose, list_local

TOKENS = Tokens(b"k" * 32)
LIST = "staff@alpha.example"


@given(st.integers(1, 9_999_999_999))
def test_a_members_token_names_him_and_nobody_else(member: int) -> None:
    token = TOKENS.for_member(LIST, Purpose.BOUNCES, member)
    assert TOKENS.member_of(LIST, Purpose.BOUNCES, token) == member
    assert TOKENS.member_of(LIST, Purpose.UNSUBSCRIBE, token) is None
    assert TOKENS.member_of("other@alpha.example", Purpose.BOUNCES, token) is None
    assert Tokens(b"x" * 32).member_of(LIST, Purpose.BOUNCES, token) is None
    assert TOKENS.member_of(LIST, Purpose.BOUNCES, f"1{token}") is None


def test_a_posts_token_names_it() -> None:
    token = TOKENS.for_post(LIST, Purpose.APPROVE, "01K9ZZZZZZABCDE")
    assert TOKENS.post_of(LIST, Purpose.APPROVE, token) == "01K9ZZZZZZABCDE"
    assert TOKENS.post_of(LIST, Purpose.REJECT, token) == ""


@pytest.mark.covers("SMTP-8")
@given(st.text("abcdefghijklmnopqrstuvwxyz234567-0189", max_size=40))
def test_guesses_are_not_believed(token: str) -> None:
    for purpose in Purpose:
        assert TOKENS.member_of(LIST, purpose, token) is None
        assert TOKENS.post_of(LIST, purpose, token) == ""


def test_a_confirmation_is_the_same_for_the_same_message_and_no_other() -> None:
    first = TOKENS.for_confirmation(LIST, "subscribe", "a@b.example", "M1")
    assert first == TOKENS.for_confirmation(LIST, "subscribe", "a@b.example", "M1")
    others = {
        TOKENS.for_confirmation(LIST, "subscribe", "a@b.example", "M2"),
        TOKENS.for_confirmation(LIST, "unsubscribe", "a@b.example", "M1"),
        TOKENS.for_confirmation(LIST, "subscribe", "c@b.example", "M1"),
        # Parts are kept apart: the same letters in other parts are another text.
        TOKENS.for_confirmation(LIST, "subscribea", "@b.example", "M1"),
    }
    assert first not in others
    assert len(others) == 4


def test_every_token_fits_into_a_local_part() -> None:
    name = "x" * MAX_NAME
    longest = [
        list_local(name, Purpose.UNSUBSCRIBE, TOKENS.for_member(LIST, Purpose.UNSUBSCRIBE, 9_999_999_999)),
        list_local(name, Purpose.APPROVE, TOKENS.for_post(LIST, Purpose.APPROVE, "01K9ZZZZZZABCDE")),
        list_local(name, Purpose.CONFIRM, "a" * CONFIRMATION_LENGTH),
    ]
    assert all(len(local) <= 64 for local in longest), longest
