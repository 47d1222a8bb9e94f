"""Where the parts of a held message lie: found while its octets pass by, none of them kept (AMDP-13).

A part is then read by its place in the stored octets and decoded piece by piece, so that a message of any
size costs the same small memory. Depth, number of parts and header sections are bounded; what exceeds them
is not guessed at: the message can then be saved as a whole, and that is all (SEC-113).
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final, Protocol

from outrider.holding.pages.part_headers import PartHeaders, read_part_headers

MAX_DEPTH: Final = 30
MAX_PARTS: Final = 200
MAX_HEADERS: Final = 1_048_576
"""Octets of one header section."""
_MAX_LINE: Final = 300
"""Octets of a line with a boundary (RFC 2046 section 5.1.1 allows 70, and blanks behind)."""
_DELIMITER: Final = re.compile(rb"\r\n--([^\r\n]{0,%d})(?=\r\n)" % _MAX_LINE)
_LAST_DELIMITER: Final = re.compile(rb"\r\n--([^\r\n]{0,%d})(?=\r\n|\Z)" % _MAX_LINE)
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})


class UnreadableError(Exception):
    """The message cannot be taken apart within the limits."""


@dataclass(frozen=True, slots=True)
class FoundPart:
    """One part that has no parts."""

    number: int
    """From 1, in order."""
    headers: PartHeaders
    start: int
    """Offset of its first octet in the message."""
    end: int
    alternative: int
    """Which multipart/alternative it is in (the innermost), 0 = none."""

    @property
    def is_text(self) -> bool:
        """Meant to be read in its place, not saved."""
        headers = self.headers
        readable = headers.media_type in ("text/plain", "text/html")
        return readable and headers.disposition != "attachment" and not headers.name

    @property
    def size(self) -> int:
        """Octets when decoded, nearly."""
        held = self.end - self.start
        return held * 57 // 78 if self.headers.encoding == "base64" else held


@dataclass(frozen=True, slots=True)
class _Frame:
    """A multipart that is open."""

    boundary: bytes
    media_type: str
    number: int


class PartFinder:
    """Takes the octets of a message in pieces of any size."""

    def __init__(self) -> None:
        self.parts: list[FoundPart] = []
        """Those whose end has been seen."""
        self._buffer = b""
        self._offset = 0
        """Of the buffer's first octet in the message."""
        self._in_headers = True
        self._leaf: tuple[PartHeaders, int, int] | None = None
        """Headers, start and alternative of the part that we are in."""
        self._frames: list[_Frame] = []
        self._multiparts = 0

    def feed(self, octets: bytes) -> None:
        """The next piece. Raises UnreadableError."""
        self._buffer += octets
        while self._headers_pass() if self._in_headers else self._body_passes():
            pass

    def finish(self) -> tuple[FoundPart, ...]:
        """All parts, after the last piece. Raises UnreadableError."""
        if self._in_headers:  # a header section without an empty line behind it
            self._begin(self._buffer, len(self._buffer))
        while self._body_passes(last=True) or (self._in_headers and self._headers_pass(last=True)):
            pass
        self._end_leaf(self._offset + len(self._buffer))
        return tuple(self.parts)

    # -- header sections -----------------------------------------------------------------------------

    def _headers_pass(self, *, last: bool = False) -> bool:
        """Read the section at the buffer's start; False when its end has not come yet."""
        if len(self._buffer) < 2 and not last:
            return False
        if self._buffer.startswith(b"\r\n"):
            self._begin(b"", 2)
            return True
        blank = self._buffer.find(b"\r\n\r\n")
        if blank < 0 and not last and len(self._buffer) <= MAX_HEADERS:
            return False
        if blank > MAX_HEADERS or (blank < 0 and len(self._buffer) > MAX_HEADERS):
            raise UnreadableError("a header section is too long")
        end = blank + 4 if blank >= 0 else len(self._buffer)
        section = self._buffer[:end]
        delimiter = self._first_delimiter(b"\r\n" + section)
        if delimiter is not None:  # the part ends within its header section: it has no body
            self._begin(section[:delimiter], delimiter)
        else:
            self._begin(section, end)
        return True

    def _first_delimiter(self, octets: bytes) -> int | None:
        """Where in a header section (after two octets put before it) a line ends the part it is in."""
        for match in _LAST_DELIMITER.finditer(octets):
            if self._frame_of(match[1]) is not None:
                return max(0, match.start() - 2)
        return None

    def _begin(self, section: bytes, end: int) -> None:
        """Behind a header section: its part, or its multipart, begins."""
        digest = bool(self._frames) and self._frames[-1].media_type == "multipart/digest"
        headers = read_part_headers(section, "message/rfc822" if digest else "text/plain")
        if headers.boundary and headers.encoding in _IDENTITY and len(self._frames) < MAX_DEPTH:
            self._multiparts += 1
            if self._multiparts > MAX_PARTS:
                raise UnreadableError("too many multiparts")
            self._frames.append(_Frame(headers.boundary, headers.media_type, self._multiparts))
        else:
            self._leaf = (headers, self._offset + end, self._alternative())
        self._in_headers = False
        # The line end before a body is also the one before a delimiter that begins it.
        self._drop(max(0, end - 2))

    def _alternative(self) -> int:
        found = [one.number for one in self._frames if one.media_type == "multipart/alternative"]
        return found[-1] if found else 0

    # -- bodies ----------------------------------------------------------------------------------------

    def _body_passes(self, *, last: bool = False) -> bool:
        """Go to the next delimiter; False when none is in sight."""
        if self._in_headers:
            return False
        if self._frames:
            pattern = _LAST_DELIMITER if last else _DELIMITER
            for match in pattern.finditer(self._buffer):
                frame = self._frame_of(match[1])
                if frame is not None:
                    self._cross(match.start(), match.end(), *frame)
                    return True
        # A delimiter may have begun: keep as much as one can be long.
        keep = min(len(self._buffer), _MAX_LINE + 8)
        if not last:
            self._drop(len(self._buffer) - keep)
        return False

    def _frame_of(self, line: bytes) -> tuple[int, bool] | None:
        """Depth of the multipart that the line belongs to, and whether it closes it."""
        line = line.rstrip(b" \t")
        for depth in range(len(self._frames) - 1, -1, -1):
            boundary = self._frames[depth].boundary
            if line in (boundary, boundary + b"--"):
                return depth, line != boundary
        return None

    def _cross(self, start: int, end: int, depth: int, closes: bool) -> None:
        self._end_leaf(self._offset + start)
        del self._frames[depth if closes else depth + 1 :]
        self._in_headers = not closes
        # Behind the line end; at the end of a multipart that line end may begin the next delimiter.
        self._drop(end if closes else min(end + 2, len(self._buffer)))

    def _end_leaf(self, end: int) -> None:
        if self._leaf is None:
            return
        headers, start, alternative = self._leaf
        self._leaf = None
        if len(self.parts) == MAX_PARTS:
            raise UnreadableError("too many parts")
        self.parts.append(FoundPart(len(self.parts) + 1, headers, start, max(start, end), alternative))

    def _drop(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._offset += count


# -- decoding ------------------------------------------------------------------------------------------------


class Decoder(Protocol):
    """Undoes a transfer encoding piece by piece; never raises, what is no encoding is passed over."""

    def feed(self, octets: bytes) -> bytes:
        """What the next piece gives."""
        ...

    def finish(self) -> bytes:
        """What was kept back."""
        ...


def decoder(encoding: str) -> Decoder:
    """For an encoding by name; unknown ones are left as they are."""
    if encoding == "base64":
        return _Base64()
    return _Quoted() if encoding == "quoted-printable" else _Identity()


def decode_all(octets: bytes, encoding: str) -> bytes:
    """In one piece."""
    one = decoder(encoding)
    return one.feed(octets) + one.finish()


class _Identity:
    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET) - {0x3D})


class _Base64:
    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def feed(self, octets: bytes) -> bytes:
        if self._ended:
            return b""
        clean, padding, _ = (self._rest + octets.translate(None, _NOT_BASE64)).partition(b"=")
        self._ended = bool(padding)
        whole = len(clean) - len(clean) % 4
        self._rest = clean[whole:]
        return binascii.a2b_base64(clean[:whole])

    def finish(self) -> bytes:
        # One character alone holds no octet.
        return binascii.a2b_base64(self._rest + b"=" * (4 - len(self._rest))) if len(self._rest) > 1 else b""


class _Quoted:
    _MOST_KEPT: Final = 65_536

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> bytes:
        lines, end, self._rest = (self._rest + octets).rpartition(b"\n")
        if len(self._rest) > self._MOST_KEPT:
            # A line longer than any may be: cut it where no escape is under way.
            cut = len(self._rest) - 3
            cut = self._rest.find(b"=", cut) if b"=" in self._rest[cut:] else len(self._rest)
            lines, end, self._rest = lines + end + self._rest[:cut], b"", self._rest[cut:]
        return binascii.a2b_qp(lines + end)

    def finish(self) -> bytes:
        return binascii.a2b_qp(self._rest)
