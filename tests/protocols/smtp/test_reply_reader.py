"""Replies read strictly and within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.reply import Reply
from outrider.protocols.smtp.reply_reader import (
    MAX_REPLY_LINE,
    MAX_REPLY_LINES,
    MAX_TEXT,
    MalformedReply,
    ReplyReader,
    one_line,
)


def read(*pieces: bytes) -> list[Reply]:
    reader = ReplyReader()
    found = []
    for piece in pieces:
        reader.append(piece)
        while (reply := reader.maybe_reply()) is not None:
            found.append(reply)
    return found


CASES = [
    (b"250 ok\r\n", Reply(250, "", "ok")),
    (b"250\r\n", Reply(250, "", "")),
    (b"250 \r\n", Reply(250, "", "")),
    (b"250-a\r\n250-\r\n250 c\r\n", Reply(250, "", "a\n\nc")),
    (b"250-a\r\n250\r\n", Reply(250, "", "a\n")),
    (b"550 5.1.1 no\r\n", Reply(550, "5.1.1", "no")),
    (b"550-5.1.1 no\r\n550 5.1.1 way\r\n", Reply(550, "5.1.1", "no\nway")),
    (b"550 5.1.1\r\n", Reply(550, "5.1.1", "")),
    (b"550 4.1.1 no\r\n", Reply(550, "", "4.1.1 no")),
    (b"250 5.1.10000 no\r\n", Reply(250, "", "5.1.10000 no")),
    ("550 größe ✓\r\n".encode(), Reply(550, "", "größe ✓")),
    (b"550 gr\xf6\xdfe \x1b[2J\x07\x7f\ta\r\n", Reply(550, "", "gr??e ?[2J?? a")),
    ("550 a\u202eb\u2028c\x85d\r\n".encode(), Reply(550, "", "a?b?c?d")),
]


@pytest.mark.covers("SEC-53")
@pytest.mark.parametrize(("octets", "expected"), CASES)
def test_whole_and_octet_by_octet_and_with_more_behind(octets: bytes, expected: Reply) -> None:
    assert read(octets) == [expected]
    assert read(*(octets[n : n + 1] for n in range(len(octets)))) == [expected]
    assert read(octets + b"220 next\r\n2") == [expected, Reply(220, "", "next")]


@pytest.mark.covers("SEC-53")
@pytest.mark.parametrize(
    "octets",
    [
        b"250-a\r\n550 b\r\n",
        b"250ok\r\n",
        b"250_ok\r\n",
        b"999 what\r\n",
        b"199 what\r\n",
        b"25 ok\r\n",
        b"\r\n",
        b" 250 ok\r\n",
        b"250 ok\n",
        b"250 o\x00k\r\n",
        b"250 o\rk\r\n",
        b"\xff\xfe\r\n",
        b"250-a\r\n\r\n",
        "２５０ ok\r\n".encode(),
        b"250 " + b"x" * MAX_REPLY_LINE,
        b"250 " + b"x" * MAX_REPLY_LINE + b"\r\n",
        b"250-a\r\n" * (MAX_REPLY_LINES + 1),
        b"x" * 10_000_000,
    ],
)
def test_what_is_no_reply(octets: bytes) -> None:
    with pytest.raises(MalformedReply):
        read(octets)


def test_one_line_is_bounded() -> None:
    text = one_line(Reply(550, "", "\n".join(["word " * 50] * 100)))
    assert len(text) == MAX_TEXT
    assert "\n" not in text


def test_octets_are_reported_until_they_are_read() -> None:
    reader = ReplyReader()
    assert not reader.has_octets
    reader.append(b"250-a\r\n")
    assert reader.maybe_reply() is None
    assert reader.has_octets
    reader.append(b"250 b\r\n421 bye")
    assert reader.maybe_reply() is not None
    assert reader.starts_with(b"421")
    assert not reader.starts_with(b"250")


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_octets_give_replies_or_the_one_error(octets: bytes, size: int) -> None:
    try:
        for reply in read(*(octets[n : n + size] for n in range(0, len(octets), size))):
            assert 200 <= reply.code <= 599
            assert reply.text.replace("\n", "").isprintable()
    except MalformedReply:
        pass
