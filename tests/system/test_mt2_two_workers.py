"""MT2 over two workers of one server: what breaks off at one goes on at the other, and is taken once.

The sender is the stranger of mt2_stranger.py, so that each octet it sends is this test's decision. Which
worker has a connection is decided by stopping the others while it is made.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import read_maildir, wait_until
from tests.system.mt2_stranger import ENVELOPE, Endpoint, Session
from tests.system.test_mt2_stranger import certificates as certificates
from tests.system.test_mt2_stranger import connected, maildir, message, site, transfer
from tests.system.test_mt2_stranger import stranger as stranger
from tests.system.workers import kill_worker, pids, wait_restarted

PART = 1_048_576
BODY = "message/body"
TEXT = b"".join(b"line %d of a body that is cut\r\n" % number for number in range(200_000))
"""Six fragments and a bit."""
CUT_AT = 3 * PART + 400_000


@dataclass
class Sending:
    """One message of the stranger's, and what it has sent of the body."""

    stranger: Endpoint
    address: str
    server: OutriderServer
    text: bytes = TEXT
    sent: int = 0
    """Octets of the body, over all connections."""
    one: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.one = message(1, body=self.text)
        self.name, [(_, self.envelope), (_, self.headers), (_, self.body)] = transfer(self.stranger, self.one)

    def session_at(self, number: int) -> Session:
        """A connection to that worker, which may send large fragments."""
        others = [pid for worker, pid in pids(self.server).items() if worker != number]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            session = connected(self.stranger, self.address)
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)
        assert session.answer(f"OPT (WINDOW={4 * PART}) (MAXPART={PART})").code == "99.0.2.2"
        return session

    def held(self, session: Session) -> int | None:
        """Octets of the body as STAT has them; None: nothing is known of the transfer."""
        said = session.answer(f"STAT {self.name}")
        assert said.word == "OK", said
        if said.code.endswith(".2.0"):
            return None
        assert said.code.endswith(".2.1"), said
        found = {one.values[0]: int(one.params["HELD"]) for one in said.parts if one.name == "PART"}
        assert found[ENVELOPE] == len(self.envelope)
        return found.get(BODY, 0)

    def begin(self, session: Session, *, again: bool = False) -> None:
        """The envelope, and the headers unless they are held."""
        size = len(self.envelope)
        answer = session.answer(f"XFER {self.name} {ENVELOPE} {{{size}}} {{0}}", self.envelope)
        assert answer.code == "99.0.2.3", answer
        size = len(self.headers)
        words = f"{{0}} {{0}} (OFFSET={size})" if again else f"{{{size}}} {{0}}"
        answer = session.answer(f"XFER {self.name} message/headers {words}", b"" if again else self.headers)
        assert answer.code == "99.0.2.5", answer

    def go_on(self, session: Session, start: int, stop: int) -> str:
        """The body from `start` up to `stop`, where the data ends amid a fragment; the code of the last
        answer."""
        code, size = "", len(self.body)
        for at in range(start, min(stop, size), PART):
            length = min(PART, size - at)
            come = (size - at - 1) // PART
            offset = f" (OFFSET={start})" if at == start and start else ""
            octets = self.body[at : min(at + length, stop)]
            self.sent += len(octets)
            asked = session.ask(f"XFER {self.name} {BODY} {{{length}}} {{{come}}}{offset}", octets)
            if len(octets) < length:
                session.take_frame()  # the permission, upon which they are sent
                return ""
            session.until(lambda asked=asked: asked.word)
            assert asked.word == "OK", asked
            code = asked.code
        return code

    def wait_held(self, session: Session, size: int) -> None:
        """Until all that was sent is there, as far as that session is told."""
        wait_until(lambda: self.held(session) == size, f"{size} octets to be held")

    def was_taken_once(self) -> None:
        """It is there, octet for octet, and nothing of it is left over."""
        [content] = maildir(self.server, "bob", 1)
        assert content.endswith(b"\r\n\r\n" + self.text)
        folder = self.server.folder / "data" / "mt2" / "partials"
        wait_until(lambda: not folder.exists() or not list(folder.iterdir()), "no part to be left")
        assert len(read_maildir(self.server.folder / "mail" / "bob")) == 1


def cut(session: Session) -> None:
    """The connection breaks."""
    session.tls.sock_shutdown(socket.SHUT_RDWR)


@pytest.fixture
def sending(certificates: Path, stranger: Endpoint) -> Iterator[Sending]:
    """A site of two workers, and a message that waits to be sent there."""
    address = loopback_address()
    with site(address, certificates, workers=2) as server:
        yield Sending(stranger, address, server)


def parts(server: OutriderServer) -> list[Path]:
    """Files of what broke off."""
    folder = server.folder / "data" / "mt2" / "partials"
    return [path for path in folder.iterdir() if path.suffix != ".tmp"] if folder.exists() else []


@pytest.mark.covers("MT2-18b", "MT2-18a", "MT2-13")
@pytest.mark.parametrize("how", ["cut", "hangs", "cut and killed"])
def test_a_body_goes_on_at_the_other_worker(sending: Sending, how: str) -> None:
    server = sending.server
    first = sending.session_at(1)
    sending.begin(first)
    sending.go_on(first, 0, CUT_AT)
    if how != "hangs":
        cut(first)
        server.wait_event("transfer_kept")
    if how == "cut and killed":
        wait_until(lambda: parts(server), "it to be written down")
        kill_worker(server, 1)
        wait_restarted(server, 1)
    second = sending.session_at(2)
    sending.wait_held(second, CUT_AT)
    sending.begin(second, again=True)
    assert sending.go_on(second, CUT_AT, len(sending.body)) == "99.0.2.6"
    [kept] = server.wait_event("transfer_kept")
    [resumed] = server.wait_event("transfer_resumed")
    assert (kept["worker"], resumed["worker"]) == (1, 2)
    assert sending.sent == len(sending.body), "no octet was sent twice"
    sending.was_taken_once()
    again = sending.session_at(1)
    assert again.answer(f"STAT {sending.name}").parts[0].values[0] in ("queued", "delivered")
    size = len(sending.envelope)
    repeated = again.answer(f"XFER {sending.name} {ENVELOPE} {{{size}}} {{0}}", sending.envelope)
    assert repeated.code == "99.0.2.7"
    assert len(read_maildir(server.folder / "mail" / "bob")) == 1


@pytest.mark.covers("MT2-18b", "MT2-18a")
def test_a_worker_that_dies_amid_a_transfer_costs_what_it_alone_had(sending: Sending) -> None:
    """What had been written down when it began to go on is there for the other; the rest is sent again."""
    server = sending.server
    first = sending.session_at(1)
    sending.begin(first)
    sending.go_on(first, 0, CUT_AT)
    kill_worker(server, 1)
    wait_restarted(server, 1)
    second = sending.session_at(2)
    assert sending.held(second) is None
    sending.begin(second)
    sending.go_on(second, 0, CUT_AT)
    cut(second)
    wait_until(lambda: parts(server), "it to be written down")
    third = sending.session_at(1)
    sending.wait_held(third, CUT_AT)
    sending.begin(third, again=True)
    sending.go_on(third, CUT_AT, 5 * PART)
    kill_worker(server, 1)
    wait_restarted(server, 1, 3)
    fourth = sending.session_at(2)
    sending.wait_held(fourth, CUT_AT)
    sending.begin(fourth, again=True)
    assert sending.go_on(fourth, CUT_AT, len(sending.body)) == "99.0.2.6"
    sending.was_taken_once()


@pytest.mark.covers("MT2-18a")
def test_what_is_sent_to_both_at_once_is_taken_once(certificates: Path, stranger: Endpoint) -> None:
    address, count = loopback_address(), 60
    with site(address, certificates, workers=2) as server:
        one = Sending(stranger, address, server)
        made = [transfer(stranger, message(number)) for number in range(count)]
        codes: list[list[str]] = [[], []]

        def send(session: Session, found: list[str]) -> None:
            found += [session.send(each)[0].code for each in made]

        both = [
            threading.Thread(target=send, args=(one.session_at(number), codes[number - 1]))
            for number in (1, 2)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        pairs = list(zip(*codes, strict=True))
        for each, said in zip(made, pairs, strict=True):  # where one gave way to the other, neither may be it
            if not {"99.0.2.6", "99.0.2.7"} & set(said):
                assert one.session_at(1).send(each)[0].code == "99.0.2.6"
        assert all(said.count("99.0.2.6") <= 1 for said in pairs), pairs
        found = maildir(server, "bob", count)
        received = server.wait_event("received", count)
    assert len(found) == len(received) == count
    assert {event["worker"] for event in received} == {1, 2}


@pytest.mark.covers("MT2-18b")
def test_a_peer_that_leaves_parts_everywhere_fills_a_bounded_space(
    certificates: Path, stranger: Endpoint
) -> None:
    address, space = loopback_address(), 600_000
    text = b"x" * 62 + b"\r\n"
    with site(address, certificates, workers=2, mt2={"partial_space": space}) as server:
        for number in range(80):
            one = Sending(stranger, address, server, text * (10 if number < 70 else 2_000))
            session = connected(stranger, address)
            assert session.answer(f"OPT (WINDOW={4 * PART}) (MAXPART={PART})").code == "99.0.2.2"
            one.begin(session)
            one.go_on(session, 0, len(one.body) - 10)
            cut(session)
            server.wait_event("transfer_kept", number + 1)
            if number == 69:
                wait_until(lambda: len(parts(server)) >= 60, "most to be written down")
                assert len(parts(server)) <= 64
        wait_until(lambda: parts(server) and not _unfinished(server), "all to be written down")
        sizes = [path.stat().st_size for path in parts(server)]
        assert sum(sizes) <= space + 10_000  # envelopes and heads of files
        last = one.session_at(1)
        one.wait_held(last, len(one.body) - 10)


def _unfinished(server: OutriderServer) -> list[Path]:
    folder = server.folder / "data" / "mt2" / "partials"
    return list(folder.glob("*.tmp"))
