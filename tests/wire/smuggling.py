"""Octets with which one message has been made to look like two somewhere (SEC-1 to SEC-18)."""

from __future__ import annotations

from itertools import product

END = b"\r\n.\r\n"

ROWS: dict[int, tuple[bytes, ...]] = {
    1: (b"\n.\n",),
    2: (b"\n.\r\n",),
    3: (b"\r\n.\n",),
    4: (b"\r.\r",),
    5: (b"\r.\n",),
    6: (b"\n.\r",),
    7: (b"\r.\r\n",),
    8: (b"\r\n.\r",),
    9: (b"\r\n.\r\r\n",),
    11: (b"\r\r\n.\r\r\n",),
    12: (b"\r\n\0.\r\n",),
    13: (b"\r\n.\0\r\n",),
    14: (b"\r\0\n.\r\n", b"\r\n.\r\0\n"),
    15: (b"\n\r.\n\r", b"\r\n.\n\r"),
    16: tuple(
        mark + b"." + mark
        for mark in (
            b"\x0b",
            b"\x0c",
            b"\x1c",
            b"\x1d",
            b"\x1e",
            b"\x85",
            b"\xc2\x85",
            b"\xe2\x80\xa8",
            b"\xe2\x80\xa9",
        )
    ),
    17: (b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n\xef\xbc\x8e\r\n", b"\r\n\xae\r\n"),
}
"""Row of the checklist to octets that are no end of data. Row 10 is one, see the tests."""

TRUE_END_AFTER_STRAY_CR = b"\r\r\n.\r\n"  # row 10

_BREAKS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\n\r",
    b"\r\r",
    b"\n\n",
    b"\r\r\n",
    b"\r\n\n",
    b"\r\n\r",
    b"\n\r\n",
    b"\r\0\n",
    b"\0\r\n",
    b"\r\n\0",
    b"\x85",
)
_DOTS = (b".", b"..", b". ", b" .", b"\0.", b".\0")

MATRIX = [before + dot + after for before, dot, after in product(_BREAKS, _DOTS, _BREAKS)]
"""14 breaks x 6 dots x 14 breaks; a few of them are true ends, which `is_true_end` knows."""


def is_true_end(variant: bytes) -> bool:
    """The whole rule: CR LF dot CR LF, in one piece."""
    return END in variant
