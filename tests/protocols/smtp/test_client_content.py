"""The guard, the survey and the dots."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.protocols.smtp.client_content import (
    MAX_LINE,
    Carriage,
    DotStuffer,
    LongLines,
    Survey,
    Unsendable,
    carriage,
    survey,
)
from outrider.protocols.smtp.client_offers import Offers

PIECES = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"a", b"a" * 500, b"\x80", b"\0"]))


def unstuff(wire: bytes) -> bytes:
    """What a strict server makes of DATA: one true end, one dot off each line."""
    assert wire.endswith(b".\r\n")
    ends = [m.start() for m in re.finditer(rb"(?:\A|\r\n)\.\r\n", wire)]
    assert len(ends) == 1
    body = wire[: ends[0] + (2 if ends[0] or wire.startswith(b"\r\n") else 0)]
    return re.sub(rb"(\A|\r\n)\.", rb"\1", body)


@pytest.mark.covers("SMTP-1", "SEC-27")
@given(PIECES.map(b"".join), st.data())
def test_stuffing_is_undone_by_a_server_however_it_is_cut(content: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    stuffer = DotStuffer()
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    wire = b"".join(map(stuffer.feed, pieces)) + stuffer.finish()
    expected = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert unstuff(wire) == expected


@pytest.mark.covers("SEC-27")
@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"..", b"...\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
    ],
)
def test_stuffing_examples(content: bytes, wire: bytes) -> None:
    stuffer = DotStuffer()
    assert stuffer.feed(content) + stuffer.finish() == wire


@given(PIECES, st.integers(0, 40))
def test_survey_agrees_with_a_plain_reading(pieces: list[bytes], header_size: int) -> None:
    whole = b"".join(pieces)
    found = survey(pieces, header_size)
    assert found == Survey(
        size=len(whole),
        stray=bool(re.search(rb"\0|\r(?!\n)|(?<!\r)\n", whole)),
        eight_bit=not whole.isascii(),
        eight_bit_headers=not whole[:header_size].isascii(),
        long_lines=found.long_lines,
        ends_with_crlf=not whole or whole.endswith(b"\r\n"),
    )
    if not found.stray:
        assert found.long_lines is any(len(line) > MAX_LINE for line in whole.split(b"\r\n"))


@given(st.lists(st.integers(990, 1002), max_size=5), st.integers(1, 1500), st.booleans())
def test_long_lines_are_measured_across_pieces(lengths: list[int], size: int, ended: bool) -> None:
    whole = b"\r\n".join(b"x" * length for length in lengths) + (b"\r\n" if ended else b"")
    pieces = [whole[n : n + size] for n in range(0, len(whole), size)]
    assert survey(pieces, 0).long_lines is any(length > MAX_LINE for length in lengths)


STRAYS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\r\n.\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
    b"\r\0\n.\r\n", b"\n\r.\n\r", b"\r\n.\n\r",
]  # fmt: skip


@pytest.mark.covers("SMTP-1", "SEC-26")
@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
def test_no_smuggling_sequence_passes_the_guard(stray: bytes, cut: int) -> None:
    content = b"Subject: x\r\n\r\nbody" + stray + b"MAIL FROM:<a@b>\r\n"
    found = survey([content[n : n + cut] for n in range(0, len(content), cut)], 14)
    offers = Offers(True, {"8BITMIME": "", "CHUNKING": "", "BINARYMIME": ""})
    refused = carriage(found, binary=False, smtputf8=False, offers=offers, long_lines=LongLines.ENCODE)
    assert isinstance(refused, Unsendable)
    assert refused.status == "5.6.0"


PLAIN = Survey(10, False, False, False, False, True)
EIGHT = Survey(10, False, True, False, False, True)
EIGHT_HEADERS = Survey(10, False, True, True, False, True)
LONG = Survey(10, False, False, False, True, True)
BINARY = Survey(10, True, True, False, True, False)


@pytest.mark.covers("SEC-28", "SEC-29", "SMTP-3")
@pytest.mark.parametrize(
    ("found", "binary", "keywords", "long_lines", "expected"),
    [
        (PLAIN, False, "", "encode", Carriage.AS_IS),
        (EIGHT, False, "8BITMIME", "encode", Carriage.AS_IS),
        (EIGHT, False, "", "encode", Carriage.ENCODE_SEVEN_BIT),
        (EIGHT_HEADERS, False, "8BITMIME", "encode", Carriage.AS_IS),
        (EIGHT_HEADERS, False, "", "encode", "5.6.3"),
        (LONG, False, "8BITMIME", "encode", Carriage.ENCODE),
        (LONG, False, "", "bounce", "5.6.3"),
        (BINARY, True, "BINARYMIME CHUNKING", "bounce", Carriage.AS_IS),
        (BINARY, True, "BINARYMIME 8BITMIME", "encode", Carriage.ENCODE),
        (BINARY, True, "8BITMIME", "bounce", Carriage.ENCODE),
        (BINARY, True, "", "encode", Carriage.ENCODE_SEVEN_BIT),
        (BINARY, False, "BINARYMIME CHUNKING", "encode", "5.6.0"),
    ],
)
def test_carriage(
    found: Survey, binary: bool, keywords: str, long_lines: str, expected: Carriage | str
) -> None:
    offers = Offers(True, dict.fromkeys(keywords.split(), ""))
    how = carriage(found, binary=binary, smtputf8=False, offers=offers, long_lines=LongLines(long_lines))
    assert (how.status if isinstance(how, Unsendable) else how) == expected
