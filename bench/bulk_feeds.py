"""The senders' side of bulk feeds, without I/O: what to send first, and what in answer to what came.

Each sends as fast as its protocol allows on one connection: SMTP with PIPELINING, and CHUNKING where the
server has it; NNTP with CHECK and TAKETHIS (RFC 4644); MT2 with PIPE=ON. All messages are made before the
clock starts, seals included, and no reply is looked at for more than whether it is the good one.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from dataclasses import replace
from typing import Protocol

from bench.work import RECIPIENT
from outrider.gateway.mapping import smtp_to_mt2
from outrider.identity.seals import Handover, Sealer
from outrider.message.objects.envelope import LayeredEnvelope, ObjectEntry, Part, write_envelope
from outrider.message.objects.headers import write_headers
from outrider.model.address import parse_address
from outrider.model.transaction import RecipientRequest

SENDER = "load@client.example"
CLIENT = "client.example"
WINDOW = 500
"""Messages under way at once, for SMTP and NNTP; MT2's server says it itself."""
MT2_REQUESTS, MT2_WINDOW = 3000, 16_777_216
"""What is asked for: requests, octets."""
_LINE = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef012345678\r\n"


class FeedRefused(Exception):
    """The server answered otherwise than with what was hoped for."""


class Feed(Protocol):
    """One connection's worth of messages."""

    taken: int
    """Messages that the server has answered for, well."""

    def receive(self, octets: bytes) -> bytes:
        """What to send in answer to octets that came. Raises FeedRefused."""
        ...


def letter(size: int, message_id: str, extra: bytes = b"") -> bytes:
    """A message of that size with CRLF line ends, in which no line begins with a dot."""
    head = (
        f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: load\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
        f"Message-ID: <{message_id}>\r\n"
    ).encode("ascii") + extra
    lines = max(0, size - len(head) - 2) // len(_LINE)
    return head + b"\r\n" + _LINE * lines


class _Lines:
    """What came, line by line."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, octets: bytes) -> list[bytes]:
        lines = (self._rest + octets).split(b"\r\n")
        self._rest = lines.pop()
        return lines


class SmtpFeed:
    """Many transactions in one session, replies read as they come."""

    def __init__(self, messages: int, size: int) -> None:
        body = letter(size, "load@client.example")
        start = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\n".encode("ascii")
        self._chunk = start + b"BDAT %d LAST\r\n" % len(body) + body
        self._before_data, self._data = start + b"DATA\r\n", body + b".\r\n"
        self.taken = 0
        self._left = messages
        self._lines = _Lines()
        self._expected: deque[bytes] = deque([b"220"])
        """Codes of the replies that are due; ``250 taken`` for the last of a message."""
        self._chunking = False

    def receive(self, octets: bytes) -> bytes:
        """See `Feed`."""
        out: list[bytes] = []
        for line in self._lines.take(octets):
            if line[3:4] == b"-":
                self._chunking = self._chunking or line[4:].upper().startswith(b"CHUNKING")
                continue
            expected = self._expected.popleft()
            if line[:3] != expected[:3]:
                raise FeedRefused(line[:200].decode("ascii", "replace"))
            out.append(self._next(expected, line))
        return b"".join(out)

    def _next(self, expected: bytes, line: bytes) -> bytes:
        match expected:
            case b"220":
                self._expected.append(b"250 hello")
                return f"EHLO {CLIENT}\r\n".encode("ascii")
            case b"250 hello":
                self._chunking = self._chunking or line[4:].upper().startswith(b"CHUNKING")
                return b"".join(self._chunks(WINDOW)) if self._chunking else self._transaction()
            case b"354":
                # RFC 2920: the next group may follow the end of the content at once.
                self._expected.append(b"250 taken")
                return self._data + self._transaction()
            case b"250 taken":
                self.taken += 1
                return b"".join(self._chunks(1)) if self._chunking else b""
        return b""

    def _chunks(self, count: int) -> list[bytes]:
        count = min(count, self._left)
        self._left -= count
        self._expected.extend((b"250", b"250", b"250 taken") * count)
        return [self._chunk] * count

    def _transaction(self) -> bytes:
        if not self._left:
            return b""
        self._left -= 1
        self._expected.extend((b"250", b"250", b"354"))
        return self._before_data


class NntpFeed:
    """A streaming feed: each article is offered by CHECK and sent by TAKETHIS when it is wanted."""

    def __init__(self, messages: int, size: int) -> None:
        self._articles = {}
        stamp = int(time.time())
        date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(stamp))
        for number in range(messages):
            name = f"{stamp}.{number}@{CLIENT}"
            extra = f"Newsgroups: bench.load\r\nPath: {CLIENT}!not-for-mail\r\n".encode("ascii")
            article = letter(size, name, extra).replace(b"Thu, 1 Jan 2026 00:00:00 +0000", date.encode())
            self._articles[b"<%b>" % name.encode()] = article
        self._offers = list(reversed(self._articles))
        self.taken = 0
        self._lines = _Lines()

    def receive(self, octets: bytes) -> bytes:
        """See `Feed`."""
        out: list[bytes] = []
        for line in self._lines.take(octets):
            code, _, rest = line.partition(b" ")
            match code:
                case b"200":
                    out.append(b"MODE STREAM\r\n")
                case b"203":
                    out.append(self._offer(WINDOW))
                case b"238":
                    name = rest.split(b" ")[0]
                    out += (b"TAKETHIS ", name, b"\r\n", self._articles[name], b".\r\n")
                case b"239":
                    self.taken += 1
                    out.append(self._offer(1))
                case _:
                    raise FeedRefused(line[:200].decode("ascii", "replace"))
        return b"".join(out)

    def _offer(self, count: int) -> bytes:
        names = [self._offers.pop() for _ in range(min(count, len(self._offers)))]
        return b"".join(b"CHECK %b\r\n" % name for name in names)


class Mt2Feed:
    """Requests for all parts of many messages at once; data as it is permitted."""

    def __init__(self, messages: int, size: int, sealer: Sealer, server: str) -> None:
        """`server`: the name of the server, to which the messages are sealed."""
        form = smtp_to_mt2(letter(size, "load@client.example").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        headers = write_headers(form.headers)
        body = form.body_prefix + letter(size, "x").partition(b"\r\n\r\n")[2]
        self._parts = ((b"message/headers", headers), (b"message/body", body))
        self._envelopes = list(reversed(_sealed(messages, headers, body, sealer, server)))
        self.taken = 0
        self._rest = b""
        self._tag = 2
        self._room = 0
        """Requests that may still be made."""
        self._data: dict[bytes, bytes] = {}
        """What is to be sent when the request is permitted."""
        self._last: set[bytes] = set()
        """Requests whose answer is the commit."""

    def receive(self, octets: bytes) -> bytes:
        """See `Feed`."""
        lines = (self._rest + octets).split(b"]\r\n")
        self._rest = lines.pop()
        out: list[bytes] = []
        for line in lines:
            tag, word, rest = line[1:].split(b" ", 2)
            if word == b"TMP" and tag in self._data:
                data = self._data.pop(tag)
                out += (b"{%b %d}\r\n" % (tag, len(data)), data)
            elif word == b"OK":
                out.append(self._done(tag, rest))
            elif tag == b"*" and word == b"TMP":
                out.append(b"[1 HELO {0} (HOST=%b)]\r\n" % CLIENT.encode() if self._tag == 2 else b"")
            elif not rest.startswith(b"99.0.3.4"):
                raise FeedRefused(line[:300].decode("utf-8", "replace"))
        return b"".join(out)

    def _done(self, tag: bytes, rest: bytes) -> bytes:
        if tag == b"1":
            options = b"(PIPE=ON) (INFLIGHT=%d) (WINDOW=%d) (MAXPART=1048576)" % (MT2_REQUESTS, MT2_WINDOW)
            return b"[2 OPT " + options + b"]\r\n"
        if tag == b"2":
            if b"(PIPE=ON OK" not in rest:
                raise FeedRefused(f"no pipelining: {rest[:200]!r}")
            self._room = int(rest.partition(b"(INFLIGHT=")[2].partition(b" ")[0].rstrip(b")"))
        else:
            self._room += 1
            if tag in self._last:
                self._last.discard(tag)
                self.taken += 1
        return self._more()

    def _more(self) -> bytes:
        out: list[bytes] = []
        while self._room >= 3 and self._envelopes:
            self._room -= 3
            number, envelope = len(self._envelopes), self._envelopes.pop()
            for kind, data in ((b"message/envelope", envelope), *self._parts):
                self._tag += 1
                tag = b"%d" % self._tag
                self._data[tag] = data
                out.append(b"[%b XFER b%d@client.example %b {%d} {0}]\r\n" % (tag, number, kind, len(data)))
            self._last.add(tag)
        return b"".join(out)


def _sealed(messages: int, headers: bytes, body: bytes, sealer: Sealer, server: str) -> list[bytes]:
    now = time.time()
    objects = tuple(
        ObjectEntry(part, kind, hashlib.sha256(octets).digest(), len(octets))
        for part, kind, octets in (
            (Part.HEADERS, "message/headers", headers),
            (Part.BODY, "message/body", body),
        )
    )
    recipients = (RecipientRequest(parse_address(RECIPIENT)),)
    blank = LayeredEnvelope("x", parse_address(SENDER), recipients, int(now), objects=objects)
    said = Handover(CLIENT, server)
    return [
        write_envelope(sealer.seal_core(replace(blank, id=f"{number}.{now:.0f}@{CLIENT}"), said, now))
        for number in range(messages)
    ]
