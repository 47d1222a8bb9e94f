"""The client's side of a session under load, without I/O: what to send, and how many replies to wait for.

This is not the client that delivers mail (`protocols/smtp/client.py`): it generates load, so it sends one
message again and again, believes in nothing but reply codes, and costs as little as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from outrider.benchmark.plan import MIN_SIZE, Plan

MAX_REPLY = 65_536
"""Octets of replies that may be waiting: a server that says more is broken."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send the octets, then go on with the codes of so many replies."""

    octets: bytes | memoryview
    replies: int


@dataclass(frozen=True, slots=True)
class StartTls:
    """Do a TLS handshake, then go on with no replies."""


@dataclass(frozen=True, slots=True)
class AwaitDue:
    """Go on, with no replies, once the message is due."""


Step = Send | StartTls | AwaitDue
Replies = list[bytes]
Dialogue = Generator[Step, Replies, None]


class Refused(Exception):
    """The server answered otherwise than with what was hoped for; the argument says where and what."""


class ReplyReader:
    """Parts what a server says into whole replies."""

    def __init__(self) -> None:
        self._rest = b""
        self._replies: Replies = []

    def take(self, octets: bytes, count: int) -> Replies | None:
        """The first `count` replies, each as its last line, once they are there. Raises Refused."""
        lines = (self._rest + octets).split(b"\r\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_REPLY:
            raise Refused("the server's reply has no end")
        # RFC 5321 4.2.1: a hyphen after the code says that more lines follow.
        self._replies += [line for line in lines if line[3:4] != b"-"]
        if len(self._replies) < count:
            return None
        found, self._replies = self._replies[:count], self._replies[count:]
        return found


def content(plan: Plan) -> bytes:
    """A message of the size asked for, and the dot that ends it. Nothing in it needs stuffing."""
    head = (
        f"From: <{plan.sender}>\r\nTo: <{plan.recipient}>\r\nSubject: load\r\n"
        "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <load@client.example>\r\n\r\n"
    ).encode("ascii")
    line = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef012345678\r\n"
    wanted = max(plan.size, MIN_SIZE) - len(head)
    whole, rest = divmod(wanted, len(line))
    tail = b"x" * (rest - 2) + b"\r\n" if rest >= 2 else b""
    return head + line * whole + tail + b".\r\n"


def session(plan: Plan, next_message: Callable[[], bytes], accepted: Callable[[], bool]) -> Dialogue:
    """One connection from greeting to QUIT. Raises Refused.

    `next_message` gives a content, and the dot that ends it. `accepted` is called after each 250 for a
    message; it tells whether the session has another one to send.
    """
    if plan.amtp:
        yield StartTls()
    _check((yield Send(b"", 1)), b"220", "greeting")
    hello = f"EHLO {plan.helo}\r\n".encode("ascii")
    _check((yield Send(hello, 1)), b"250", "EHLO")
    if plan.starttls:
        _check((yield Send(b"STARTTLS\r\n", 1)), b"220", "STARTTLS")
        yield StartTls()
        _check((yield Send(hello, 1)), b"250", "EHLO after STARTTLS")
    more = True
    while plan.mail and more:
        yield AwaitDue()
        yield from _transaction(plan, next_message())
        more = accepted()
    if not plan.mail:
        accepted()
    yield Send(b"QUIT\r\n", 1)


def _transaction(plan: Plan, message: bytes) -> Dialogue:
    parameter = f" MPC={plan.mpc}" if plan.amtp else " AMDP" if plan.holder else ""
    mail = f"MAIL FROM:<{plan.sender}>{parameter}\r\n".encode("ascii")
    recipient = f"RCPT TO:<{plan.recipient}>\r\n".encode("ascii")
    if plan.pipelining:
        replies = yield Send(mail + recipient + b"DATA\r\n", 3)
    else:
        replies = (yield Send(mail, 1)) + (yield Send(recipient, 1)) + (yield Send(b"DATA\r\n", 1))
    for reply, code, verb in zip(replies, (b"250", b"250", b"354"), ("MAIL", "RCPT", "DATA"), strict=True):
        _check([reply], code, verb)
    _check((yield Send(memoryview(message), 1)), b"250", "the data")


def _check(replies: Replies, code: bytes, after: str) -> None:
    if not replies[0].startswith(code):
        raise Refused(f"after {after}: {replies[0][:120].decode('ascii', 'backslashreplace')}")
