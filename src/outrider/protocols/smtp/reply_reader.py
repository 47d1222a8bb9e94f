"""Replies of a server as a client reads them: strictly, and with every length bounded (RFC 5321 section 4.2).

A reply decides what becomes of mail, and its text goes into the spool, the log and reports. So nothing is
guessed: a line that is not a reply line, a continuation with another code, a NUL or a bare CR or LF ends the
session, and the mail waits (SEC-53). Text leaves here decoded and printable.
"""

from __future__ import annotations

import re
from typing import Final

from outrider.model.reply import Reply
from outrider.wire.lines import LineBuffer, LineError, LineTooLong

MAX_REPLY_LINE: Final = 2048
"""Octets with CRLF. RFC 5321 4.5.3.1.5 gives servers 512; Postfix reads 2048; long AUTH challenges fit."""
MAX_REPLY_LINES: Final = 200
"""Of one reply: no list of extensions has 50."""
MAX_TEXT: Final = 512
"""Characters of a reply's text that are kept with a result."""

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\x00]*))?")
_STATUS: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$)")


class MalformedReply(ValueError):
    """What the server sent is no reply; the text says why, in words of ours only."""


class ReplyReader:
    """Puts replies together from octets cut anywhere."""

    __slots__ = ("_buffer", "_code", "_texts")

    def __init__(self) -> None:
        self._buffer = LineBuffer()
        self._code = 0
        self._texts: list[str] = []

    def append(self, octets: bytes) -> None:
        """Add what has arrived. Call `maybe_reply` until it gives None."""
        self._buffer.append(octets)

    @property
    def has_octets(self) -> bool:
        """Whether anything is here that has not been returned as part of a reply."""
        return bool(len(self._buffer) or self._texts)

    def starts_with(self, octets: bytes) -> bool:
        """Whether what is here begins with these octets; looks, and takes nothing."""
        head = self._buffer.take(len(octets))
        self._buffer.put_back(head)
        return head == octets

    def maybe_reply(self) -> Reply | None:
        """The next whole reply, None until more octets come. Raises :class:`MalformedReply`."""
        while (line := self._maybe_line()) is not None:
            if self._take(line):
                return self._finish()
        return None

    def _maybe_line(self) -> bytes | None:
        try:
            return self._buffer.maybe_line(MAX_REPLY_LINE)
        except LineTooLong:
            raise MalformedReply("reply line too long") from None
        except LineError:
            raise MalformedReply("reply line not ended by CRLF") from None

    def _take(self, line: bytes) -> bool:
        """Add one line to the reply; True when it is the last."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise MalformedReply("malformed reply line")
        code = int(match[1])
        if self._texts and code != self._code:
            raise MalformedReply("reply code changes between lines")
        if len(self._texts) == MAX_REPLY_LINES:
            raise MalformedReply("reply of too many lines")
        self._code = code
        self._texts.append(printable(match[3] or b""))
        return match[2] != b"-"

    def _finish(self) -> Reply:
        texts, self._texts = self._texts, []
        found = _STATUS.match(texts[0])
        if found is None or found[1][0] != str(self._code)[0]:
            return Reply(self._code, "", "\n".join(texts))
        status = found[1]
        return Reply(self._code, status, "\n".join(_without(status, text) for text in texts))


def _without(status: str, text: str) -> str:
    rest = text.removeprefix(status)
    return rest.lstrip() if rest is not text and rest[:1] in ("", " ") else text


def printable(octets: bytes) -> str:
    """A peer's text as one printable line: UTF-8 where it is (RFC 6531), "?" for all that cannot be shown."""
    text = octets.decode("utf-8", "replace").replace("\t", " ")
    if text.isprintable() and "\ufffd" not in text:
        return text
    return "".join(char if char.isprintable() and char != "\ufffd" else "?" for char in text)


def one_line(reply: Reply) -> str:
    """The text of a reply for results, logs and reports: one line of at most :data:`MAX_TEXT` characters."""
    text = " ".join(line.strip() for line in reply.text.split("\n") if line.strip())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
