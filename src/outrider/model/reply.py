"""Replies and status codes as values (RFC 5321 section 4.2, RFC 3463, RFC 2034)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of a server: three digits, an enhanced status code (or ""), and lines of text.

    Immutable and cheap to share; `encode` is what goes on the wire.
    """

    code: int
    status: str
    text: str
    """Lines parted by ``\\n``; control characters never reach the wire."""

    @property
    def is_positive(self) -> bool:
        """2yz and 3yz."""
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        """4yz: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz."""
        return self.code >= 500

    def encode(self, *, utf8: bool = False) -> bytes:
        """The octets on the wire, every line carrying code and enhanced status (RFC 2034)."""
        lines = self.text.split("\n")
        prefix = f"{self.status} " if self.status else ""
        last = len(lines) - 1
        wire = [
            f"{self.code}{' ' if n == last else '-'}{prefix}{_clean(line, utf8)}\r\n"
            for n, line in enumerate(lines)
        ]
        return "".join(wire).encode("utf-8" if utf8 else "ascii")

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{self.text}"


def _clean(line: str, utf8: bool) -> str:
    line = _UNPRINTABLE.sub("?", line)
    return line if utf8 or line.isascii() else line.encode("ascii", "replace").decode("ascii")


def is_status(text: str) -> bool:
    """Whether the text is an enhanced status code (RFC 3463), such as ``5.7.1``."""
    return _STATUS.fullmatch(text) is not None


def status_for(reply_code: int, status: str) -> str:
    """A peer's enhanced status, or the undefined one of its reply's class when it gave none."""
    return status if is_status(status) and status[0] == str(reply_code)[0] else f"{str(reply_code)[0]}.0.0"
