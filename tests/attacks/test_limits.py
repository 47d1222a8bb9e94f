"""SEC-82 to SEC-93: too long, too many, too slow."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.attacks.target import SMTPS, Target
from tests.attacks.wire import Wire
from tests.peers.addresses import loopback_address
from tests.peers.rooms import wait_until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def tight_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server of little patience."""
    limits = {
        "errors": 5,
        "junk_commands": 10,
        "messages_per_session": 3,
        "connections_per_address": 10,
        "command_timeout": 2,
        "data_timeout": 2,
        "handshake_timeout": 2,
        "min_data_rate": 500,
    }
    with Target(tmp_path_factory.mktemp("tight"), limits=limits) as target:
        yield target


@pytest.fixture
def tight(tight_target: Target) -> Iterator[Target]:
    """The same, with the standing conditions checked afterwards."""
    yield tight_target
    tight_target.stands()


def pour(wire: Wire, octets: bytes, times: int) -> None:
    """Send a piece again and again, until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            wire.send(octets)


@pytest.mark.covers("SEC-82")
def test_a_line_that_never_ends(target: Target) -> None:
    target.serves()
    before = target.resident_octets()
    with target.session() as wire:
        pour(wire, b"x" * MIB, 64)
        assert wire.until_closed()[:3] in (b"500", b"421", b"")
    assert target.resident_octets() < before + 16 * MIB


@pytest.mark.covers("SEC-82")
def test_a_line_that_is_too_long_is_one_error(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"500", after=b"NOOP " + b"x" * 5000)
        assert wire.is_in_step()


@pytest.mark.covers("SEC-83", "SEC-85")
@pytest.mark.parametrize("piece", [b"x" * MIB, b"x\r\n" * 350_000], ids=["one line", "many lines"])
def test_content_without_end(target: Target, piece: bytes) -> None:
    target.serves()
    before = target.resident_octets()
    with target.session() as wire:
        wire.begin()
        wire.send(b"Subject: x\r\n\r\n")
        pour(wire, piece, 64)
        wire.send(b"\r\n.\r\n")
        wire.expect(b"552")
        assert wire.is_in_step()
    assert target.resident_octets() < before + 16 * MIB


@pytest.mark.covers("SEC-84")
@pytest.mark.parametrize(
    "header",
    [
        b"Subject: " + b"x" * 30_000 + b"\r\n",
        b"X: y\r\n" * 6_000,
        b"Subject: x\r\n" + b" folded\r\n" * 4_000,
        b"To: " + b"(" * 30_000 + b"\r\n",
        b"To: " + b"a@b.example, " * 3_000 + b"\r\n",
    ],
)
def test_header_sections_beyond_the_limit(target: Target, header: bytes) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(header + b"\r\nx\r\n.\r\n")
        wire.expect(b"552 5.3.4 ")
        assert wire.is_in_step()


@pytest.mark.covers("SEC-84")
@pytest.mark.parametrize(
    "header",
    [
        b"To: " + b"(" * 29_000 + b"\r\n",
        b"X: y\r\n" * 4_900,
        b"From: " + b'"' * 29_001 + b"\r\n",
        b"=?" * 14_000 + b":\r\n",
    ],
)
def test_nested_headers_within_the_limit_are_taken(target: Target, header: bytes) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(header + b"\r\nx\r\n.\r\n")
        assert wire.reply()[:3] in (b"250", b"550", b"554")


@pytest.mark.covers("SEC-85")
@pytest.mark.parametrize(
    ("size", "answer"), [(199_999, b"250"), (200_000, b"250"), (200_001, b"552"), (400_000, b"552")]
)
def test_the_exact_size(target: Target, size: int, answer: bytes) -> None:
    head = b"Subject: x\r\n\r\n"
    line = b"." + b"x" * 75 + b"\r\n"  # stuffed on the wire, counted without
    body = line * ((size - len(head) - 80) // len(line))
    body += b"y" * (size - len(head) - len(body) - 2) + b"\r\n"
    assert len(head + body) == size
    with target.session() as wire:
        wire.begin()
        wire.send((head + body).replace(b"\r\n.", b"\r\n..") + b".\r\n")
        wire.expect(answer)
        wire.expect(b"552" if size > 200_000 else b"250", after=b"MAIL FROM:<a@b.example> SIZE=%d" % size)


@pytest.mark.covers("SEC-85")
def test_a_size_that_was_not_kept(target: Target) -> None:
    with target.session() as wire:
        for declared, sent in ((10, 200_001), (200_000, 10)):
            wire.expect(b"250", after=b"MAIL FROM:<s@client.example> SIZE=%d" % declared)
            wire.expect(b"250", after=b"RCPT TO:<ann@here.example>")
            wire.expect(b"354", after=b"DATA")
            wire.send(b"Subject: x\r\n\r\n" + b"x\r\n" * (sent // 3) + b".\r\n")
            wire.expect(b"552" if sent > 200_000 else b"250")


@pytest.mark.covers("SEC-86")
def test_a_recipient_named_often_gets_it_once(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.send(b"RCPT TO:<often@open.example>\r\n" * 500 + b"RCPT TO:<often@OPEN.example>\r\n" * 100)
        assert set(wire.replies(600)) == {b"250"}
        wire.expect(b"354", after=b"DATA")
        wire.expect(b"250", after=b"Subject: named often\r\n\r\nx\r\n.")
    target.arrival(b"Subject: named often")
    assert sum(len(one.recipients) for one in target.sink.arrivals if b"named often" in one.content) == 1


@pytest.mark.covers("SEC-87")
def test_too_many_of_everything(tight: Target) -> None:
    with tight.session() as wire:
        answers = [wire.command(b"WHAT")[:3] for _ in range(5)]
        assert answers == [b"500"] * 5
        wire.expect(b"421 4.7.0 ")
        assert wire.until_closed() == b""
    with tight.session() as wire:
        answers = [wire.command(line)[:3] for line in (b"NOOP", b"RSET") * 6]
        assert answers == [b"250"] * 10 + [b"421", b""]
    with tight.session() as wire:
        for _ in range(3):
            wire.begin()
            wire.expect(b"250", after=b"Subject: x\r\n\r\nx\r\n.")
        wire.expect(b"421 4.7.0 ", after=b"MAIL FROM:<s@client.example>")


def drip_command(wire: Wire) -> None:
    """One octet now and then, of a command that would have no end."""
    dripped(wire, b"N")


def drip_data(wire: Wire) -> None:
    """The same in DATA."""
    wire.ehlo()
    wire.begin()
    dripped(wire, b"x")


def drip_chunk(wire: Wire) -> None:
    """The same in a chunk."""
    wire.ehlo()
    wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
    wire.expect(b"250", after=b"RCPT TO:<ann@here.example>")
    wire.send(b"BDAT 100000\r\n")
    dripped(wire, b"x")


def drip_handshake(wire: Wire) -> None:
    """The same in a handshake."""
    wire.ehlo()
    wire.expect(b"220", after=b"STARTTLS")
    wire.send(b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03")
    dripped(wire, b"x")


def say_nothing(wire: Wire) -> None:
    """Not a word."""
    wire.until_closed()


def dripped(wire: Wire, octet: bytes) -> None:
    """Send an octet every 200 ms; the server ends it, long before PATIENCE_S."""
    wire.socket.settimeout(0.2)
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            if not wire.socket.recv(4096):
                return
        try:
            wire.send(octet)
        except ConnectionError:
            return
    pytest.fail("the server let a client drip for 15 s")


@pytest.mark.covers("SEC-88", "SEC-39")
def test_slow_writers_all_at_once(tight: Target) -> None:
    ways: list[Callable[[Wire], None]] = [drip_command, drip_data, drip_chunk, drip_handshake, say_nothing]

    def attempt(way: Callable[[Wire], None]) -> None:
        with tight.connect() as wire:
            way(wire)

    with ThreadPoolExecutor(len(ways)) as pool:
        list(pool.map(attempt, ways))


@pytest.mark.covers("SEC-88")
def test_silence_instead_of_implicit_tls(tight: Target) -> None:
    with tight.connect(SMTPS, greet=False) as wire:
        dripped(wire, b"")


@pytest.mark.covers("SEC-90")
def test_connections_from_one_address(tight: Target) -> None:
    source = loopback_address()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(tight.connect(source=source))
        one_more = stack.enter_context(tight.connect(source=source, greet=False))
        one_more.expect(b"421 4.3.2 ")
        assert one_more.until_closed() == b""
        # Others are served meanwhile.
        tight.serves()
        stack.enter_context(tight.connect(source=loopback_address()))

    def admitted() -> bool:
        with tight.connect(source=source, greet=False) as wire:
            return wire.reply().startswith(b"220")

    wait_until(admitted, "the address to be let in again")


@pytest.mark.covers("SEC-91")
def test_connections_cut_at_every_step(target: Target) -> None:
    target.serves()
    settled = target.descriptors()
    steps = [
        b"",
        b"EHLO x.example\r\n",
        b"MAIL FROM:<s@client.example>\r\n",
        b"RCPT TO:<ann@here.example>\r\n",
    ]
    steps += [b"DATA\r\n", b"Subject: x\r\n\r\n" + b"x" * 40_000, b"\r\n.\r\n"]

    def cut(number: int) -> None:
        with target.connect(greet=number % 2 == 0) as wire:
            for step in steps[: number % (len(steps) + 1)]:
                wire.send(step)
                if step.endswith(b"\r\n") and number % 2 == 0 and step != steps[-1]:
                    wire.reply()
            # RST instead of FIN.
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def try_cut(number: int) -> None:
        with contextlib.suppress(AssertionError, ConnectionError):
            cut(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(try_cut, range(1_000)))
    wait_until(lambda: target.descriptors() <= settled + 3, "descriptors to be given back")


@pytest.mark.covers("SEC-93")
def test_no_descriptor_left(tmp_path: Path) -> None:
    with Target(tmp_path, before=("prlimit", "--nofile=120:120"), limits={"connections": 1000}) as target:
        target.serves()
        with contextlib.ExitStack() as stack:
            early = stack.enter_context(target.session())
            for _ in range(200):
                with contextlib.suppress(OSError):
                    stack.enter_context(target.connect(greet=False))
            time.sleep(0.5)
            used = cpu_seconds(target.server.pid)
            time.sleep(1.5)
            assert cpu_seconds(target.server.pid) - used < 0.75, "accepting goes round and round"
            early.begin()
            early.expect(b"250", b"451", b"452", after=b"Subject: x\r\n\r\nx\r\n.")
        wait_until(lambda: can_be_served(target), "the server to take connections again")
        target.stands()


def can_be_served(target: Target) -> bool:
    """Whether a client gets its greeting."""
    try:
        with target.connect(greet=False) as wire:
            return wire.reply().startswith(b"220")
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
