"""What a person sees of a message: decoded, bounded, harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.message.encoded_words import decode_text, encode_phrase
from outrider.message.summary import displayable, summarize


def test_first_fields_decoded() -> None:
    headers = (
        b"From: =?utf-8?Q?J=C3=B6rg_M?= <j@a.example>\r\n"
        b"Subject: =?iso-8859-1?B?R3L832U=?=\r\n\t=?utf-8?B?IQ==?=\r\n"
        b"To: x@b.example\r\nsubject: second\r\nMessage-ID: <1@a.example>\r\n\r\n"
    )
    summary = summarize(headers)
    assert summary.subject == "Grüße!"
    assert summary.sender == "Jörg M <j@a.example>"
    assert (summary.to, summary.message_id, summary.date) == ("x@b.example", "<1@a.example>", "")


@pytest.mark.covers("SEC-115")
@pytest.mark.parametrize(
    "charset", ["utf-7", "idna", "zlib", "unicode_escape", "punycode", "rot13", "utf-16", "x"]
)
def test_only_listed_charsets_are_decoded(charset: str) -> None:
    word = f"=?{charset}?Q?+AGEAYg-?="
    assert decode_text(word.encode()) == word


@pytest.mark.covers("SEC-115")
@pytest.mark.parametrize(
    "broken", [b"=?utf-8?B?!!!?=", b"=?utf-8?B?YQ?=", b"=?utf-8?X?YQ==?=", b"=?utf-8?Q?a"]
)
def test_broken_words_stay(broken: bytes) -> None:
    assert decode_text(broken) == broken.decode()


@pytest.mark.covers("SEC-115")
def test_a_hundred_thousand_words_end_at_the_bound() -> None:
    assert len(decode_text(b"=?utf-8?Q?a?= " * 100_000)) <= 8192


@pytest.mark.covers("SEC-75", "SEC-210")
def test_no_control_or_direction_character_is_shown() -> None:
    assert displayable("a\x1b[31m\r\nb\u202ec\u200bd\u2028") == r"a\x1b[31m\r\nb\u202ec\u200bd\u2028"
    assert displayable("x" * 600) == "x" * 500 + "…"


@given(st.binary(max_size=300))
def test_any_header_can_be_shown(octets: bytes) -> None:
    summary = summarize(b"Subject: " + octets)
    assert summary.subject == "" or summary.subject.isprintable()


@given(st.text(max_size=80).filter(lambda text: not text.isascii()))
def test_phrases_come_back(text: str) -> None:
    encoded = encode_phrase(text)
    assert encoded.isascii()
    assert decode_text(encoded.replace("\r\n", "").encode()) == text
