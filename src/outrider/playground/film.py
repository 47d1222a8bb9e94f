"""A message too large to be held in memory: made piece by piece when it is sent, and again when it is
compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

FILM_SIZE: Final = 200 * 1_048_576
"""Octets of the attachment."""
_LINE: Final = 64
_LINES: Final = 4_096
_REEL: Final = _LINE * _LINES

Pieces = Callable[[], Iterator[bytes]]


def film(sender: str, *recipients: str) -> Pieces:
    """A message with a file of `FILM_SIZE` octets, in lines that need no encoding; the same at each call. No
    line begins with a dot."""
    fields = (
        f"From: {sender}\r\nTo: {', '.join(recipients)}\r\nSubject: The film\r\nMIME-Version: 1.0\r\n"
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 7bit\r\n"
        'Content-Disposition: attachment; filename="film.txt"\r\n\r\n'
    )
    frames = b"".join(b"%-*d\r\n" % (_LINE - 2, number) for number in range(_LINES))

    def pieces() -> Iterator[bytes]:
        yield fields.encode()
        for number in range(FILM_SIZE // _REEL):
            yield b"reel %-*d\r\n" % (_LINE - 7, number) + frames[_LINE:]

    return pieces


def ends_in(path: Path, sent: Pieces) -> bool:
    """Whether, below the fields that a host has added, every octet of a file is as it was sent."""
    length = sum(map(len, sent()))
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - length, 0))
        return all(file.read(len(piece)) == piece for piece in sent()) and not file.read(1)
