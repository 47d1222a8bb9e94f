"""Letters of a program: well-formed whatever was put in, and marked so that no program answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.lists.letters import Letter, letter_content
from outrider.message.header_fields import field_names, field_values
from outrider.model.address import parse_address

ANN, EVE = parse_address("ann@alpha.example"), parse_address("eve@far.example")
NAMES = {
    b"from", b"to", b"subject", b"date", b"message-id", b"auto-submitted", b"precedence", b"mime-version",
    b"content-type", b"content-transfer-encoding",
}  # fmt: skip


def test_a_plain_letter() -> None:
    letter = Letter(ANN, EVE, "Gone", "I am away.\nBack soon.", writer_name="Ann", detail="vacation")
    content = letter_content(letter, "1@mx.alpha.example", 1_800_000_000.0, 60)
    assert content.headers == (
        b'From: "Ann" <ann@alpha.example>\r\nTo: <eve@far.example>\r\nSubject: Gone\r\n'
        b"Date: Fri, 15 Jan 2027 09:00:00 +0100\r\nMessage-ID: <1@mx.alpha.example>\r\n"
        b"Auto-Submitted: auto-replied (vacation)\r\nPrecedence: bulk\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    )
    assert b"".join(content.body.chunks()) == b"I am away.\r\nBack soon.\r\n"


def test_an_answer_names_what_it_answers() -> None:
    letter = Letter(
        ANN, EVE, "Re", "x", reply_to=ANN, in_reply_to="<1@far.example>", references="<0@far.example>"
    )
    headers = letter_content(letter, "2@mx", 0, 0).headers
    assert field_values(headers, b"in-reply-to") == (b"<1@far.example>",)
    assert field_values(headers, b"references") == (b"<0@far.example> <1@far.example>",)
    assert field_values(headers, b"reply-to") == (b"<ann@alpha.example>",)


@pytest.mark.covers("SEC-80", "SEC-171")
@given(st.text(max_size=300), st.text(max_size=3000), st.text(max_size=300))
def test_nothing_that_is_put_in_becomes_a_field_or_breaks_a_line(subject: str, text: str, name: str) -> None:
    content = letter_content(Letter(ANN, EVE, subject, text, writer_name=name), "1@mx", 0, 0)
    assert field_names(content.headers) == NAMES
    octets = b"".join(content.chunks())
    assert octets.isascii() == content.is_ascii
    for line in octets.removesuffix(b"\r\n").split(b"\r\n"):
        assert len(line) <= 998
        assert not set(line) & {0, 10, 13}


def test_a_line_that_is_too_long_is_wrapped() -> None:
    content = letter_content(Letter(ANN, EVE, "", "word " * 400 + "\n" + "x" * 5000), "1@mx", 0, 0)
    lines = b"".join(content.body.chunks()).split(b"\r\n")
    assert max(len(line) for line in lines) <= 76
