"""xtext is decoded, then judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.wire.xtext import (
    XtextError,
    decode_utf8_address,
    decode_xtext,
    encode_utf8_address,
    encode_xtext,
)


def test_hexadecimal_octets_are_decoded() -> None:
    assert decode_xtext(b"a+2Bb+3Dc@d") == "a+b=c@d"
    assert decode_xtext(b"plain") == "plain"
    assert decode_xtext(b"with+20blank") == "with blank"


@pytest.mark.covers("SEC-67")
@pytest.mark.parametrize(
    "octets",
    [
        b"+0D+0ABcc:+20x",
        b"+00",
        b"+zz",
        b"+",
        b"+1",
        b"+2b",
        b"a=b",
        b"a b",
        b"\x7f",
        b"+7F",
        b"+FF",
        b"\xc3\xa9",
    ],
)
def test_what_could_break_a_line_is_refused(octets: bytes) -> None:
    with pytest.raises(XtextError):
        decode_xtext(octets)


@pytest.mark.covers("SEC-67")
@pytest.mark.parametrize(
    "octets",
    [rb"\x{0D}\x{0A}Bcc", rb"\x{D800}", rb"\x{110000}", rb"a\x{2028}b", b"\xff", "a\u0085".encode(), b"+0A"],
)
def test_neither_may_a_utf8_address(octets: bytes) -> None:
    with pytest.raises(XtextError):
        decode_utf8_address(octets)


@pytest.mark.covers("SMTP-2a")
@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("δοκιμή@παράδειγμα".encode(), "δοκιμή@παράδειγμα"),
        (rb"\x{E9}t\x{E9}@a.example", "été@a.example"),
        (rb"a+2Bb@c.example", "a+b@c.example"),
        (rb"a\x{2B}b@c.example", "a+b@c.example"),
    ],
)
def test_all_forms_of_a_utf8_address_are_read(octets: bytes, text: str) -> None:
    assert decode_utf8_address(octets) == text


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_xtext_comes_back(text: str) -> None:
    assert decode_xtext(encode_xtext(text).encode()) == text


@given(st.text(st.characters(min_codepoint=0xA1, exclude_categories=["C", "Z"])))
def test_utf8_addresses_come_back(text: str) -> None:
    assert decode_utf8_address(encode_utf8_address(text + "+=\\").encode()) == text + "+=\\"


@pytest.mark.parametrize("text", ["a\r\nb", "\0", "\x7f"])
def test_control_characters_are_not_encoded(text: str) -> None:
    for encode in (encode_xtext, encode_utf8_address):
        with pytest.raises(XtextError):
            encode(text)
    with pytest.raises(XtextError):
        encode_xtext("é")
