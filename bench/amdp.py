"""AMDP under load: envelopes that are called back and settled, pages, and a large message that is fetched."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.peers.tools import SmtpSink

from bench.http_load import put_requests
from bench.subjects import Aiohttp, OutriderEnvelopes, Subject
from bench.work import CLIENT_NAME, HOLDER_NAME, HOLDER_PORT, RECIPIENT, Shape, Work
from outrider.benchmark.driving import drive
from outrider.benchmark.envelopes import envelope_size
from outrider.benchmark.plan import Outcome, Plan

SETTLED_WITHIN_S = 60.0
LOOK_S = 0.05
QUERY = b'{"queries":[{"id":"aeaeaeaeaeaeaeaeaeaeaeaeae","timestamp":1,"expires":2,"fields":"","keys":""}]}'
_LINK = re.compile(rb"^https://([a-z0-9.-]+):(\d+)(/m/[a-z2-7]{26}/[a-z2-7]{26})\r?$", re.MULTILINE)
_END = b"\r\n\r\n"
_READ = 262_144


class LoadFailed(Exception):
    """The server did not do what was asked of it; the argument says what."""


# --- envelopes ------------------------------------------------------------------------------------------


def put_envelopes(
    shape: Shape, subject: Subject, messages: int, generators: int
) -> tuple[float, Outcome | None]:
    """Seconds: of mail until the last 250, of envelopes until the last is settled. Raises LoadFailed."""
    work = subject.work
    if isinstance(subject, Aiohttp):
        return put_requests(work.address, work.port, messages, shape.sessions, QUERY), None
    assert isinstance(subject, OutriderEnvelopes)
    holder = f"{HOLDER_NAME}:{HOLDER_PORT}"
    plan = _plan(work, 1, 1, holder=holder)
    size = envelope_size(plan, time.time())
    if not subject.announces:
        return _driven(_plan(work, messages, shape.sessions, size=size), generators)
    # One at a time until the holder has passed (AMDP-7): that is not what is measured.
    _driven(plan, 1)
    _wait_settled(subject, 1)
    _, outcome = _driven(_plan(work, messages, shape.sessions, holder=holder), generators)
    _wait_settled(subject, messages + 1)
    return time.monotonic() - outcome.began, outcome


def _plan(work: Work, messages: int, sessions: int, *, size: int = 4096, holder: str = "") -> Plan:
    return Plan(
        work.address,
        work.port,
        messages=messages,
        sessions=sessions,
        size=size,
        helo=CLIENT_NAME,
        source=work.holder,
        recipient=RECIPIENT,
        holder=holder,
    )


def _driven(plan: Plan, generators: int) -> tuple[float, Outcome]:
    outcome = drive(plan, generators)
    if outcome.failed:
        raise LoadFailed(str(outcome.failures))
    return outcome.ended - outcome.began, outcome


def _wait_settled(subject: OutriderEnvelopes, count: int) -> None:
    """Until as many are confirmed and nothing is in the queue. Raises LoadFailed.

    Confirmations are read from the table, since the server has better things to do than to count its queue.
    """
    limit = time.monotonic() + SETTLED_WITHIN_S
    while subject.settled() < count or subject.waiting():
        if time.monotonic() > limit:
            raise LoadFailed(f"{subject.settled()} of {count} envelopes were confirmed")
        time.sleep(LOOK_S)
    if subject.settled() != count:
        raise LoadFailed(f"more envelopes were confirmed than the {count} that were sent")


# --- a held message -------------------------------------------------------------------------------------


def hold(work: Work, sink: SmtpSink, size: int) -> str:
    """Hand in a message of that size; the path of its page, from the envelope that arrives. Raises
    LoadFailed."""
    _driven(_plan(work, 1, 1, size=size), 1)
    limit = time.monotonic() + SETTLED_WITHIN_S
    while time.monotonic() < limit:
        for envelope in sink.transactions():
            if (link := _LINK.search(envelope)) is not None:
                return link[3].decode("ascii")
        time.sleep(LOOK_S)
    raise LoadFailed("no envelope with a link arrived")


class Reader:
    """A reader's connection to the facility, its certificate verified."""

    def __init__(self, work: Work) -> None:
        assert work.tls is not None
        context = ssl.create_default_context(cafile=str(work.tls.authority))
        plain = socket.create_connection((work.address, HOLDER_PORT), timeout=SETTLED_WITHIN_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link = context.wrap_socket(plain, server_hostname=HOLDER_NAME)

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def ask(self, request: str, body: str = "") -> tuple[float, int]:
        """Seconds until the first octet of the answer, and octets of its body. Raises LoadFailed."""
        kind = "Content-Type: application/x-www-form-urlencoded\r\n" if body else ""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        fields = f"Host: {HOLDER_NAME}:{HOLDER_PORT}\r\n{kind}{length}"
        began = time.monotonic()
        self._link.sendall(f"{request} HTTP/1.1\r\n{fields}\r\n{body}".encode("ascii"))
        said = self._receive()
        first_s = time.monotonic() - began
        while _END not in said:
            said += self._receive()
        head, _, begun = said.partition(_END)
        wanted = _length(head)
        received = len(begun)
        while received < wanted:
            received += len(self._receive())
        return first_s, received

    def _receive(self) -> bytes:
        octets = self._link.recv(_READ)
        if not octets:
            raise LoadFailed("the facility closed the connection")
        return octets


def _length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if not head.startswith(b"HTTP/1.1 200 ") or found is None:
        raise LoadFailed(f"the facility answers {head[:80]!r}")
    return int(found[1])


@contextmanager
def reader(work: Work) -> Iterator[Reader]:
    """A connection."""
    one = Reader(work)
    try:
        yield one
    finally:
        one.close()


def page_times(work: Work, path: str, count: int) -> list[float]:
    """Seconds to the first octet of the page, again and again over one connection."""
    with reader(work) as link:
        return [link.ask(f"GET {path}")[0] for _ in range(count)]


def first_page_times(work: Work, path: str, count: int) -> list[float]:
    """The same with a connection, and a handshake, for each."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        with reader(work) as link:
            connected_s = time.monotonic() - began
            times.append(connected_s + link.ask(f"GET {path}")[0])
    return times


def download(work: Work, path: str) -> tuple[float, float, int]:
    """The message: seconds to the first octet, to the last, and how many there were."""
    began = time.monotonic()
    with reader(work) as link:
        first_s, octets = link.ask(f"POST {path}", "do=message")
    return first_s, time.monotonic() - began, octets
