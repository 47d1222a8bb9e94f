"""The QMTP server without I/O (QMTP-1).

The core reads packages and hands out messages piece by piece, lines ended by CRLF whatever form they came in.
It waits for the answer to a package before it reads the next (`is_waiting`), so that a client which sends a
thousand packages without reading an answer fills its own buffers and not ours (SEC-180).

A package counts only when its last comma has come (SEC-179). A length that is no plain number, or a netstring
that does not end where it says, ends the session: nobody knows where the next would begin (SEC-176).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from outrider.model.reply import Reply
from outrider.protocols.qmtp.events import (
    CRLF_LINES,
    LF_LINES,
    MAX_ANSWER,
    MessageOctets,
    PackageReceived,
    QmtpLimits,
    ServerEvent,
    SessionEnded,
)
from outrider.wire.line_ends import LineEndCheck
from outrider.wire.netstring import NetstringError, NetstringReader, encode_netstring, split_netstrings

MAX_SENDER: Final = 4096
"""Octets of a sender that are read, to be refused in order; more ends the session."""
OVERSIZE: Final = 4
"""Messages up to so many times the limit are read to their end and refused in order; larger ones end the
session, as reading them would only serve to waste the line."""

STRAY_OCTETS: Final = Reply(550, "5.6.0", "Message holds a stray CR, LF or NUL")
TOO_LARGE: Final = Reply(552, "5.3.4", "Message is too large")
UNKNOWN_FORM: Final = Reply(554, "5.6.1", "Message does not begin with the octet 10 or 13")


class _State(Enum):
    """What is read next: one netstring after the other, and one octet between them."""

    MESSAGE_HEAD = auto()
    MESSAGE_FORM = auto()
    MESSAGE = auto()
    MESSAGE_END = auto()
    SENDER = auto()
    RECIPIENTS = auto()
    WAITING = auto()
    """For our own side's answer."""
    CLOSED = auto()


class QmtpServer:
    """The core; see the module. Made when the connection stands, `now` being that moment."""

    def __init__(self, limits: QmtpLimits, now: float) -> None:
        self.limits = limits
        self.packages = 0
        """Received whole in this session."""
        self._state = _State.MESSAGE_HEAD
        self._reader = NetstringReader()
        self._events: deque[ServerEvent] = deque()
        self._out: list[bytes] = []
        self._deadline: float | None = now + limits.idle_timeout_s
        self._began = False  # an octet of the current package has come
        self._now = now
        self._rest = 0
        self._lf_lines = False
        self._fault: Reply | None = None
        self._check = LineEndCheck()
        self._sender = b""
        self._answers_due = 0
        self._eof = False

    # -- what the driver asks ------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """A package waits for `answer`: read nothing more from the connection."""
        return self._state is _State.WAITING

    @property
    def is_closed(self) -> bool:
        """Nothing more is read or said, and every event has been taken."""
        return self._state is _State.CLOSED and not self._events

    def next_event(self) -> ServerEvent | None:
        """The next thing that happened; None until more octets have come."""
        return self._events.popleft() if self._events else None

    def bytes_to_send(self) -> bytes:
        """Everything for the wire since the last call."""
        out, self._out = self._out, []
        return b"".join(out)

    def deadline(self) -> float | None:
        """When `timed_out` is to be called, on the clock of `now`; None while our own side is due."""
        return self._deadline

    # -- what happens --------------------------------------------------------------------------------

    def receive(self, octets: bytes, now: float) -> None:
        """Octets from the client."""
        if self._state is _State.CLOSED or not octets:
            return
        self._now = now
        self._reader.append(octets)
        self._read()

    def receive_eof(self, now: float) -> None:
        """The client has closed its side. What it sent whole is still answered."""
        self._now = now
        self._eof = True
        if self._state is not _State.WAITING:
            self._end_of_input()

    def timed_out(self, now: float) -> None:
        """`deadline` has passed; harmless when it has not."""
        if self._deadline is not None and now >= self._deadline:
            self._end("timed out in a package" if self._began else "idle for too long")

    def shut_down(self, why: str) -> None:
        """Our own side ends the session. A package that waits for its answer is dropped."""
        self._end(why)

    def answer(self, replies: Sequence[Reply], now: float) -> None:
        """The answers to the package, one for each recipient in order."""
        if self._state is not _State.WAITING or len(replies) != self._answers_due:
            raise RuntimeError("an answer for each recipient of the package that waits, and no other")
        self._now = now
        self._out.append(b"".join(map(_encode_answer, replies)))
        self._begin_package()
        self._read()
        if self._eof and not self.is_waiting:
            self._end_of_input()

    def _end_of_input(self) -> None:
        orderly = not self._began and not len(self._reader)
        self._end(
            "the client closed the connection" if orderly else "the client closed inside a package", orderly
        )

    # -- reading -------------------------------------------------------------------------------------

    def _begin_package(self) -> None:
        self._state = _State.MESSAGE_HEAD
        self._began = False
        self._fault = None
        self._deadline = self._now + self.limits.idle_timeout_s

    def _read(self) -> None:
        try:
            while self._state in _STEPS and self._step():
                pass
        except NetstringError as error:
            self._end(f"protocol error: {error}")

    def _step(self) -> bool:
        """One step; False when more octets or an answer are needed."""
        return bool(len(self._reader)) and _STEPS[self._state](self)

    def _message_head(self) -> bool:
        if not self._began:
            self._began = True
            self._deadline = self._now + self.limits.package_timeout_s
        limit = self.limits.message_size * OVERSIZE
        length = self._reader.maybe_length(limit)
        if length is None:
            return False
        rate = self.limits.slowest_rate
        self._deadline = self._now + self.limits.package_timeout_s + (length / rate if rate else math.inf)
        self._rest = max(0, length - 1)
        if self._rest > self.limits.message_size:
            self._fault = TOO_LARGE
        self._state = _State.MESSAGE_FORM
        if not length:
            self._fault = UNKNOWN_FORM
            self._state = _State.MESSAGE_END
        return True

    def _message_form(self) -> bool:
        form = self._reader.take(1)[0]
        if form not in (LF_LINES, CRLF_LINES):
            self._fault = UNKNOWN_FORM
        self._lf_lines = form == LF_LINES
        self._check = LineEndCheck()
        self._state = _State.MESSAGE if self._rest else _State.MESSAGE_END
        return True

    def _message(self) -> bool:
        octets = self._reader.take(self._rest)
        self._rest -= len(octets)
        if self._fault is None:
            self._pass_on(octets)
        if not self._rest:
            if self._fault is None and not self._lf_lines and not self._check.finish():
                self._fault = STRAY_OCTETS
            self._state = _State.MESSAGE_END
        return True

    def _pass_on(self, octets: bytes) -> None:
        """The same rule for stray octets as for SMTP (SMTP-1): where LF ends the lines, any CR is one."""
        if self._lf_lines:
            clean = b"\r" not in octets and 0 not in octets
            octets = octets.replace(b"\n", b"\r\n")
        else:
            self._check.feed(octets)
            clean = self._check.clean
        if clean:
            self._events.append(MessageOctets(octets))
        else:
            self._fault = STRAY_OCTETS

    def _message_end(self) -> bool:
        self._reader.comma()
        self._state = _State.SENDER
        return True

    def _sender_string(self) -> bool:
        sender = self._reader.maybe_whole(MAX_SENDER)
        if sender is None:
            return False
        self._sender = sender
        self._state = _State.RECIPIENTS
        return True

    def _recipient_strings(self) -> bool:
        octets = self._reader.maybe_whole(self.limits.envelope_size)
        if octets is None:
            return False
        recipients = tuple(split_netstrings(octets, self.limits.envelope_size))
        self.packages += 1
        self._answers_due = len(recipients)
        self._state = _State.WAITING
        self._deadline = None
        self._events.append(PackageReceived(self._sender, recipients, self._fault))
        return True

    def _end(self, reason: str, orderly: bool = False) -> None:
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self._deadline = None
        self._reader.clear()
        self._events.append(SessionEnded(reason, orderly))


_STEPS: Final[dict[_State, Callable[[QmtpServer], bool]]] = {
    _State.MESSAGE_HEAD: QmtpServer._message_head,
    _State.MESSAGE_FORM: QmtpServer._message_form,
    _State.MESSAGE: QmtpServer._message,
    _State.MESSAGE_END: QmtpServer._message_end,
    _State.SENDER: QmtpServer._sender_string,
    _State.RECIPIENTS: QmtpServer._recipient_strings,
}


def _encode_answer(reply: Reply) -> bytes:
    """K, Z or D, the text in one line, and the status as qmail writes it: ``Dno such user (#5.1.1)``."""
    kind = "K" if reply.is_positive else "Z" if reply.is_temporary else "D"
    status = f" (#{reply.status})" if reply.status and not reply.is_positive else ""
    text = "".join(char if char.isprintable() else " " for char in reply.text)
    return encode_netstring(f"{kind}{text}{status}".encode("ascii", "replace")[:MAX_ANSWER])
