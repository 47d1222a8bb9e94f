"""A message's content while it arrives, by DATA or BDAT: its size, its header section, its stray octets.

Whatever is wrong with a message, it is read to its true end and refused there; what the reader finds decides
the reply and does not depend on how the octets were cut. Where several things are wrong, the size is named
before stray octets, and those before the header section.

**Size** (SEC-85) is what will be stored: octets after dots are unstuffed, the last line's CRLF included,
the closing dot not (RFC 1870 section 3). A message of exactly the limit is taken. **The header section**
counts up to and with the empty line that ends it; a message without one counts whole.
"""

from __future__ import annotations

from typing import Final

from outrider.model.reply import Reply
from outrider.protocols.smtp import replies
from outrider.wire.line_ends import LineEndCheck

_SECTION_END: Final = b"\r\n\r\n"


class ContentReader:
    """Looks at the content of one message and passes on what may still be taken."""

    __slots__ = (
        "_fault",
        "_header_limit",
        "_header_tail",
        "_header_too_big",
        "_in_header",
        "_is_binary_allowed",
        "_line_ends",
        "_size_limit",
        "is_ascii",
        "size",
    )

    def __init__(self, size_limit: int, header_limit: int, *, is_binary_allowed: bool = False) -> None:
        """Limits in octets; with `is_binary_allowed` (BODY=BINARYMIME) any octet may stand anywhere."""
        self.size = 0
        self.is_ascii = True
        self._size_limit = size_limit
        self._header_limit = header_limit
        self._is_binary_allowed = is_binary_allowed
        self._line_ends = LineEndCheck()
        self._in_header = True
        self._header_tail = b"\r\n"  # as if a line had ended: content may begin with the empty line
        self._header_too_big = False
        self._fault: Reply | None = None

    def take(self, octets: bytes) -> bytes:
        """Look at the next octets; gives them back, or b"" once the message will be refused."""
        self.size += len(octets)
        if self.size > self._size_limit:
            return b""
        if self.is_ascii and not octets.isascii():
            self.is_ascii = False
        self._line_ends.feed(octets)
        if self._in_header:
            self._look_for_header_end(octets)
        return b"" if self.fault_so_far() else octets

    def refuse(self, reply: Reply) -> None:
        """The message is refused whatever it holds."""
        self._fault = reply

    def fault_so_far(self) -> Reply | None:
        """Why the message will be refused, as far as can be known before its end."""
        if self._fault is not None:
            return self._fault
        if self.size > self._size_limit:
            return replies.MESSAGE_TOO_BIG
        if not self._line_ends.clean and not self._is_binary_allowed:
            return replies.STRAY_OCTETS
        return replies.HEADER_TOO_BIG if self._header_too_big else None

    def finish(self) -> Reply | None:
        """The content is whole: why it is refused, or None."""
        fault = self.fault_so_far()
        if fault in (None, replies.HEADER_TOO_BIG) and not self._is_binary_allowed:
            return fault if self._line_ends.finish() else replies.STRAY_OCTETS
        return fault

    @property
    def is_binary(self) -> bool:
        """Whether it holds what only BINARYMIME may. Meant for the end."""
        return not self._line_ends.finish()

    def _look_for_header_end(self, octets: bytes) -> None:
        tail = self._header_tail
        before = self.size - len(octets) - len(tail)  # where the searched octets begin
        searched = tail + octets
        end = searched.find(_SECTION_END)
        header_size = before + end + len(_SECTION_END) if end >= 0 else self.size
        if end >= 0 or header_size > self._header_limit:
            self._in_header = False
            self._header_too_big = header_size > self._header_limit
        else:
            self._header_tail = searched[-3:]
