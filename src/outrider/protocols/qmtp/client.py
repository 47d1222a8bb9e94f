"""The QMTP client without I/O (QMTP-1): packages go out, one answer for each recipient comes back.

There is no greeting and nothing to negotiate: a connection that stands is ready. Messages go in the form
whose lines end with CRLF, as they are kept. The next package is sent when the last has been answered.
"""

from __future__ import annotations

import re
from collections import deque
from enum import Enum, auto
from typing import Final

from outrider.protocols.qmtp.events import (
    CRLF_LINES,
    MAX_ANSWER,
    Answer,
    ClientEnded,
    ClientEvent,
    PackageAnswered,
    PieceWanted,
    QmtpClientSettings,
    QmtpMail,
    QmtpOutcome,
)
from outrider.wire.netstring import NetstringError, NetstringReader, encode_netstring

MAX_TEXT: Final = 512
"""Characters of an answer that are kept with a result."""
_STATUS: Final = re.compile(r"\(#([245]\.[0-9]{1,3}\.[0-9]{1,3})\)")


class _State(Enum):
    READY = auto()
    SENDING = auto()
    ANSWERS = auto()
    CLOSED = auto()


class QmtpClient:
    """The core; see the module. Made when the connection stands."""

    def __init__(self, settings: QmtpClientSettings) -> None:
        self.settings = settings
        self.packages = 0
        """Sent, or begun, in this session."""
        self._state = _State.READY
        self._reader = NetstringReader()
        self._events: deque[ClientEvent] = deque()
        self._out: list[bytes] = []
        self._deadline: float | None = None
        self._now = 0.0
        self._mail: QmtpMail | None = None
        self._rest = 0
        self._unanswered: deque[int] = deque()
        self._outcomes: dict[int, QmtpOutcome] = {}

    @property
    def takes_mail(self) -> bool:
        """Whether another package may follow."""
        return self._state is _State.READY

    def next_event(self) -> ClientEvent | None:
        """The next thing that happened; None until more octets or time have passed."""
        return self._events.popleft() if self._events else None

    def bytes_to_send(self) -> bytes:
        """Everything for the wire since the last call."""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    def deadline(self) -> float | None:
        """When `timed_out` is to be called, on the clock of `now`; None while nothing is awaited."""
        return self._deadline

    # -- sending -------------------------------------------------------------------------------------

    def send_mail(self, mail: QmtpMail, now: float) -> None:
        """Begin a package; it ends with PackageAnswered, whatever happens.

        The content has passed the guard (no stray CR, LF or NUL): the form that is used has no way to say so.
        """
        if self._state is not _State.READY:
            raise RuntimeError("a package is under way, or the session has ended")
        self._now = now
        self.packages += 1
        self._mail = mail
        self._rest = mail.size
        self._unanswered = deque(mail.recipients)
        self._outcomes = {}
        self._state = _State.SENDING
        length = 1 + mail.size + (0 if mail.ends_with_crlf else 2)
        self._out.append(b"%d:%c" % (length, CRLF_LINES))
        if mail.content is not None:
            self._send(mail.content, last=True)
        else:
            self._want()

    def send_content(self, octets: bytes, *, last: bool, now: float) -> None:
        """The next piece of the content, in answer to PieceWanted; dropped when the session has ended."""
        if self._state is not _State.SENDING:
            return
        self._now = now
        self._send(octets, last=last)
        if not last:
            self._want()

    def _want(self) -> None:
        self._deadline = self._now + self.settings.command_timeout_s
        self._events.append(PieceWanted())

    def _send(self, octets: bytes, *, last: bool) -> None:
        self._rest -= len(octets)
        if self._rest < 0 or (last and self._rest):
            raise RuntimeError("the content is not of the size that was declared")
        self._out.append(octets)
        if last:
            self._send_envelope(self._current())

    def _send_envelope(self, mail: QmtpMail) -> None:
        self._out.append(b"," if mail.ends_with_crlf else b"\r\n,")
        recipients = b"".join(map(encode_netstring, mail.recipients.values()))
        self._out.append(encode_netstring(mail.sender) + encode_netstring(recipients))
        self._state = _State.ANSWERS
        self._deadline = self._now + self.settings.answer_timeout_s

    def _current(self) -> QmtpMail:
        if self._mail is None:
            raise AssertionError("asked for only while a package is under way")
        return self._mail

    # -- receiving -----------------------------------------------------------------------------------

    def receive(self, octets: bytes, now: float) -> None:
        """Octets from the server."""
        if self._state is _State.CLOSED or not octets:
            return
        self._now = now
        self._reader.append(octets)
        try:
            while self._state is _State.ANSWERS and self._maybe_answer():
                pass
        except NetstringError as error:
            self._end(f"the server broke the protocol: {error}", misbehaved=True)
        if self._state is not _State.ANSWERS and len(self._reader):
            # Before the last comma there is nothing to answer, and after the last answer nothing to add.
            self._end("the server broke the protocol: it spoke unasked", misbehaved=True)

    def _maybe_answer(self) -> bool:
        octets = self._reader.maybe_whole(MAX_ANSWER)
        if octets is None:
            return False
        self._outcomes[self._unanswered.popleft()] = _read_answer(octets)
        self._deadline = self._now + self.settings.answer_timeout_s
        if not self._unanswered:
            self._state = _State.READY
            self._finish()
        return True

    def _finish(self) -> None:
        self._deadline = None
        self._mail = None
        self._events.append(PackageAnswered(self._outcomes))

    def receive_eof(self, now: float, why: str = "the server closed the connection") -> None:
        """The connection has ended; `why` in words of ours."""
        self._now = now
        self._end(why)

    def timed_out(self, now: float) -> None:
        """`deadline` has passed; harmless when it has not."""
        if self._deadline is not None and now >= self._deadline:
            sending = self._state is _State.SENDING
            self._end("timed out sending the message" if sending else "timed out waiting for the answer")

    def abandon(self, why: str) -> None:
        """Our side cannot go on; recipients without an answer get this sentence."""
        self._end(why)

    def _end(self, reason: str, *, misbehaved: bool = False) -> None:
        if self._state is _State.CLOSED:
            return
        complete = self._state is _State.ANSWERS
        self._state = _State.CLOSED
        self._reader.clear()
        self._out.clear()
        if self._mail is not None:
            for position in self._unanswered:
                self._outcomes[position] = QmtpOutcome(None, reason, complete)
            self._finish()
        self._deadline = None
        self._events.append(ClientEnded(reason, misbehaved))


def _read_answer(octets: bytes) -> QmtpOutcome:
    try:
        answer = Answer(octets[:1])
    except ValueError:
        raise NetstringError("an answer is neither K nor Z nor D") from None
    text = octets[1:].decode("utf-8", "replace").replace("\ufffd", "?")
    text = "".join(char if char.isprintable() else " " for char in text)
    return QmtpOutcome(answer, " ".join(text.split())[:MAX_TEXT])


def status_of(outcome: QmtpOutcome) -> str:
    """The status in an answer, as qmail writes it (``(#5.1.1)``), or the undefined one of its kind."""
    kind = "2" if outcome.answer is Answer.TAKEN else "5" if outcome.answer is Answer.NOT_AT_ALL else "4"
    found = _STATUS.search(outcome.text)
    return found[1] if found is not None and found[1][0] == kind else f"{kind}.0.0"
