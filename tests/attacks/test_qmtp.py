"""SEC-175 to SEC-180, SEC-88: lengths that lie, lists that do not end, clients that do not listen."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.attacks.target import Target
from tests.attacks.wire import Wire
from tests.netstring_lengths import MALFORMED_LENGTHS

QMTP = 2209


@pytest.fixture(scope="module")
def module_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for this module, with a QMTP listener and little patience."""
    target = Target(tmp_path_factory.mktemp("target"))
    target.listen({"protocol": "qmtp", "address": target.address, "port": QMTP})
    target.change(limits={"data_timeout": 2, "command_timeout": 2, "recipients": 1000})
    with target:
        yield target


def netstring(octets: bytes) -> bytes:
    """As D. J. Bernstein wrote them."""
    return b"%d:%s," % (len(octets), octets)


def package(content: bytes, *recipients: bytes, sender: bytes = b"s@client.example") -> bytes:
    """One message: content with LF, sender, recipients."""
    return (
        netstring(b"\n" + content)
        + netstring(sender)
        + netstring(b"".join(netstring(recipient) for recipient in recipients))
    )


def connect(target: Target) -> Wire:
    """There is no greeting."""
    return target.connect(QMTP, greet=False)


def answers(wire: Wire, count: int) -> list[bytes]:
    """The first octet of each of so many netstrings; b"" once the server has closed."""
    found: list[bytes] = []
    octets = b""
    for _ in range(count):
        while b":" not in octets or len(octets) < end_of(octets):
            more = wire.socket.recv(65536)
            if not more:
                return [*found, b""]
            octets += more
        start, end = octets.index(b":") + 1, end_of(octets)
        found.append(octets[start : start + 1])
        octets = octets[end:]
    return found


def end_of(octets: bytes) -> int:
    """Where the first netstring ends."""
    length, _, _ = octets.partition(b":")
    return len(length) + 1 + int(length) + 1


@pytest.mark.covers("SEC-175")
def test_one_answer_for_each_recipient(target: Target) -> None:
    with connect(target) as wire:
        wire.send(package(b"Subject: x\n\nx\n", b"ann@here.example", b"no@here.example", b"x@far.example"))
        assert answers(wire, 3) == [b"K", b"D", b"D"]


LENGTHS = [*MALFORMED_LENGTHS, b"no colon", b"6;", b"0x6:", b"6.0:"]


@pytest.mark.covers("SEC-176")
@pytest.mark.parametrize("length", LENGTHS, ids=lambda octets: repr(octets[:14]))
def test_lengths_that_are_none(target: Target, length: bytes) -> None:
    target.serves()
    before = target.resident_octets()
    with connect(target) as wire:
        wire.send(length + b"\ntest\n," + netstring(b"") + netstring(netstring(b"ann@here.example")))
        assert b"K" not in wire.until_closed()
    assert target.resident_octets() < before + 8 * 1024 * 1024


INNER = [
    netstring(b"\nx\n")[:-1] + b";" + netstring(b"") + netstring(netstring(b"ann@here.example")),
    netstring(b"\nx\n") + netstring(b"") + netstring(b"99:ann@here.example,"),
    netstring(b"\nx\n") + netstring(b"") + netstring(b"16:ann@here.example"),
    netstring(b"\nx\n") + netstring(b"") + netstring(b""),
    netstring(b"xx") + netstring(b"") + netstring(netstring(b"ann@here.example")),
    netstring(b"") + netstring(b"") + netstring(netstring(b"ann@here.example")),
]


@pytest.mark.covers("SEC-177", "SEC-178")
@pytest.mark.parametrize("octets", INNER, ids=lambda octets: repr(octets[:40]))
def test_packages_that_are_wrong_inside(target: Target, octets: bytes) -> None:
    with connect(target) as wire:
        wire.send(octets)
        assert b"K" not in wire.until_closed()


@pytest.mark.covers("SEC-177")
@pytest.mark.parametrize(
    "sender", [b"a\nb@client.example", b"a\x00b@client.example", b"a\r\nRCPT@client.example"]
)
def test_control_octets_in_the_sender(target: Target, sender: bytes) -> None:
    with connect(target) as wire:
        wire.send(package(b"Subject: x\n\nx\n", b"ann@here.example", sender=sender))
        wire.socket.settimeout(5)
        assert answers(wire, 1) in ([b"D"], [b"Z"], [b""])


@pytest.mark.covers("SEC-178", "SEC-26")
def test_dots_are_content(target: Target) -> None:
    token = b"Subject: qmtp dots"
    with connect(target) as wire:
        wire.send(package(token + b"\n\n.\n..\nMAIL FROM:<a@b.example>\n", b"ann@open.example"))
        assert answers(wire, 1) == [b"K"]
    assert target.arrival(token).endswith(token + b"\r\n\r\n.\r\n..\r\nMAIL FROM:<a@b.example>\r\n")


@pytest.mark.covers("SEC-178", "SEC-26")
@pytest.mark.parametrize("content", [b"a\rb\n", b"a\r\nb\n", b"a\x00b\n", b"a\r\n.\r\nRSET\n"])
def test_stray_octets_are_refused_or_made_harmless(target: Target, content: bytes) -> None:
    token = b"Subject: qmtp-" + content.hex().encode() + b"-"
    with connect(target) as wire:
        wire.send(package(token + b"\n\n" + content, b"ann@open.example"))
        (answer,) = answers(wire, 1)
    if answer == b"K":
        arrived = target.arrival(token)
        assert b"\x00" not in arrived
        assert arrived.count(b"\r") == arrived.count(b"\n") == arrived.count(b"\r\n")


@pytest.mark.covers("SEC-179")
def test_a_package_without_its_last_comma_is_none(target: Target) -> None:
    target.new_log()
    with connect(target) as wire:
        wire.send(package(b"Subject: x\n\nx\n", b"ann@here.example", sender=b"cut@client.example")[:-1])
    with connect(target) as wire:
        wire.send(netstring(b"\nSubject: x\n\nx\n"))
    assert b"cut@client.example" not in target.new_log()


@pytest.mark.covers("SEC-179")
def test_closing_before_the_answer_is_read(target: Target) -> None:
    token = b"Subject: deaf"
    with connect(target) as wire:
        wire.send(package(token + b"\n\nx\n", b"ann@open.example"))
    target.arrival(token)


@pytest.mark.covers("SEC-180")
def test_a_thousand_packages_in_one_go(target: Target) -> None:
    target.serves()
    before = target.resident_octets()
    with connect(target) as wire:
        wire.send(package(b"Subject: many\n\nx\n", b"ann@here.example") * 1000)
        assert answers(wire, 1000) == [b"K"] * 1000
    assert target.resident_octets() < before + 32 * 1024 * 1024


@pytest.mark.covers("SEC-88")
@pytest.mark.parametrize("octets", [b"1", b"100:x", b""])
def test_slow_writers(target: Target, octets: bytes) -> None:
    with connect(target) as wire:
        wire.send(octets)
        end = time.monotonic() + 15
        wire.socket.settimeout(0.3)
        while time.monotonic() < end:
            try:
                if not wire.socket.recv(4096):
                    return
                wire.send(b"1" if octets == b"1" else b"x")
            except TimeoutError:
                pass
            except ConnectionError:
                return
        pytest.fail("the server let a client drip for 15 s")
