"""BDAT: every octet of a chunk is swallowed, none is ever a command (SEC-96 to SEC-103)."""

from __future__ import annotations

import pytest
from tests.protocols.smtp.server_dialogue import Dialogue, codes, with_limits

from outrider.protocols.smtp.server_events import ContentReceived, ContentRefused, QuitReceived

HEAD = (b"MAIL FROM:<a@a.example>", b"RCPT TO:<b@mx.example>")
HOSTILE = b"\r\n.\r\nQUIT\r\nMAIL FROM:<c@c.example>\r\n"


def ready(dialogue: Dialogue | None = None) -> Dialogue:
    dialogue = dialogue or Dialogue()
    dialogue.hello(*HEAD)
    return dialogue


def chunk(octets: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


@pytest.mark.covers("SMTP-2a", "SEC-100")
@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
def test_chunks_are_taken_byte_exact(piece: int) -> None:
    dialogue = ready()
    octets = chunk(HOSTILE) + chunk(b"") + chunk(b".\r") + chunk(b"\n..", last=True) + b"NOOP\r\n"
    said = dialogue.feed_each(octets[n : n + piece] for n in range(0, len(octets), piece))
    assert codes(said) == [250] * 5
    assert dialogue.messages[0].content == HOSTILE + b".\r\n.."
    assert dialogue.of_type(QuitReceived) == []


@pytest.mark.covers("SEC-98")
def test_an_empty_message_is_a_message() -> None:
    dialogue = ready()
    assert codes(dialogue.feed(b"BDAT 0\r\nBDAT 0 LAST\r\n")) == [250, 250]
    assert dialogue.messages[0].content == b""


@pytest.mark.covers("SEC-97")
@pytest.mark.parametrize(
    "argument",
    [
        "-1",
        "99999999999999999999 LAST",
        "0x10",
        "1 2",
        "",
        "10 LASTT",
        "+5",
        "1_0 LAST",
        "５",
        "1  LAST",
        "1 LAST x",
    ],
)
def test_a_chunk_of_unknown_length_ends_the_session(argument: str) -> None:
    dialogue = ready()
    assert codes(dialogue.feed(f"BDAT {argument}\r\n".encode() + HOSTILE)) == [501]
    assert dialogue.core.is_closed
    assert dialogue.of_type(QuitReceived) == []


@pytest.mark.covers("SEC-97")
def test_so_does_one_with_control_characters() -> None:
    dialogue = ready()
    assert codes(dialogue.feed(b"BDAT 6\0\r\nQUIT\r\n")) == [501]
    assert dialogue.core.is_closed


@pytest.mark.covers("SEC-99")
@pytest.mark.parametrize("before", [(), HEAD[:1], (HEAD[0], b"RCPT TO:<nobody@mx.example>")])
@pytest.mark.parametrize("piece", [1, 1000])
def test_a_chunk_out_of_place_is_swallowed(before: tuple[bytes, ...], piece: int) -> None:
    dialogue = Dialogue()
    dialogue.hello(*before)
    octets = chunk(HOSTILE) + chunk(HOSTILE, last=True)
    said = codes(dialogue.feed_each(octets[n : n + piece] for n in range(0, len(octets), piece)))
    assert len(said) == 2
    assert set(said) <= {503, 554}
    assert not dialogue.core.is_closed
    assert dialogue.of_type(QuitReceived) == []
    assert dialogue.messages == []


@pytest.mark.covers("SEC-99")
def test_before_any_hello_too() -> None:
    dialogue = Dialogue()
    assert codes(dialogue.feed(chunk(HOSTILE))) == [503]
    assert codes(dialogue.hello()) == [250]


@pytest.mark.covers("SEC-99", "SEC-103")
def test_a_chunk_over_the_size_is_swallowed_and_all_behind_it() -> None:
    dialogue = ready(Dialogue(with_limits(message_size=50)))
    said = dialogue.feed(chunk(b"x" * 40) + chunk(HOSTILE) + chunk(HOSTILE) + chunk(HOSTILE, last=True))
    assert codes(said) == [250, 552, 552, 552]
    assert dialogue.messages == []
    assert len(dialogue.of_type(ContentRefused)) == 1
    assert codes(dialogue.feed(HEAD[0] + b"\r\n")) == [250]


@pytest.mark.covers("SEC-99")
def test_a_chunk_of_two_gigabytes_is_swallowed_as_it_comes() -> None:
    dialogue = ready(Dialogue(with_limits(message_size=1000)))
    dialogue.feed(b"BDAT 2147483648 LAST\r\n")
    zeros = b"x" * 16_777_216
    for _ in range(127):
        assert dialogue.feed(zeros) == b""
    assert sum(len(event.octets) for event in dialogue.events if isinstance(event, ContentReceived)) <= 1000
    assert codes(dialogue.feed(zeros + b"NOOP\r\n")) == [552, 250]


@pytest.mark.covers("SEC-101")
def test_nothing_follows_the_last() -> None:
    dialogue = ready()
    assert codes(dialogue.feed(chunk(b"x\r\n", last=True) + chunk(HOSTILE))) == [250, 503]
    assert len(dialogue.messages) == 1


@pytest.mark.covers("SEC-103")
def test_a_refused_chunk_is_refused_to_its_end_or_rset() -> None:
    dialogue = ready()
    assert codes(dialogue.feed(chunk(b"a\nb") + chunk(HOSTILE))) == [550, 550]
    assert codes(dialogue.feed(HEAD[0] + b"\r\n")) == [503]
    assert codes(dialogue.feed(b"RSET\r\n" + HEAD[0] + b"\r\n")) == [250, 250]


@pytest.mark.covers("SEC-96")
def test_half_a_chunk_is_nothing() -> None:
    dialogue = ready()
    dialogue.feed(b"BDAT 5 LAST\r\nab")
    dialogue.core.receive_eof(1.0)
    dialogue.pump()
    assert dialogue.messages == []


@pytest.mark.covers("SEC-100", "SMTP-1")
def test_a_chunk_may_end_between_return_and_line_feed_but_the_message_not() -> None:
    dialogue = ready()
    assert codes(dialogue.feed(chunk(b"a\r") + chunk(b"\nb", last=True))) == [250, 250]
    dialogue = ready()
    assert codes(dialogue.feed(chunk(b"a\r") + chunk(b"", last=True))) == [250, 550]
