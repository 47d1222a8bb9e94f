"""Content between session and reception: what is kept in memory, and when that ends."""

from __future__ import annotations

import pytest

from outrider.net.incoming_content import IncomingContent


def outgrown(limit: int, pieces: list[bytes]) -> int | None:
    """After how many pieces the body had outgrown memory."""
    incoming = IncomingContent(limit)
    for n, piece in enumerate(pieces, start=1):
        incoming.add(piece)
        if incoming.outgrows_memory():
            octets = b"".join(pieces[:n])
            assert incoming.headers is not None
            assert incoming.headers + incoming.take() == octets
            assert not incoming.outgrows_memory()
            return n
    return None


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize("headers", [b"S: x\r\n\r\n", b"\r\n", b"S: " + b"x" * 100 + b"\r\n\r\n"])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_the_body_alone_is_measured(headers: bytes, piece: int) -> None:
    for size, outgrows in ((50, False), (51, True)):
        octets = headers + b"y" * size
        pieces = [octets[n : n + piece] for n in range(0, len(octets), piece)]
        assert (outgrown(50, pieces) is not None) is outgrows


def test_without_a_body_there_is_none_to_outgrow() -> None:
    assert outgrown(10, [b"Subject: x\r\n" * 10] * 10) is None


def test_small_messages_are_handed_over_as_they_came() -> None:
    incoming = IncomingContent(1000)
    piece = b"Subject: x\r\n\r\nbody\r\n"
    incoming.add(piece)
    content = incoming.content(is_ascii=True, is_binary=False)
    assert (content.headers, b"".join(content.body.chunks())) == (b"Subject: x\r\n\r\n", b"body\r\n")
    assert len(incoming) == 0
