"""SEC-96 to SEC-103: a chunk is swallowed to its last octet or the session ends; never is it run."""

from __future__ import annotations

import pytest

from tests.attacks.target import Target
from tests.attacks.wire import Wire

COMMANDS = b"\r\n.\r\nQUIT\r\nMAIL FROM:<smuggled@a.example>\r\n"


def envelope(wire: Wire, recipient: bytes = b"ann@here.example") -> None:
    """MAIL and RCPT."""
    wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
    wire.expect(b"250", after=b"RCPT TO:<" + recipient + b">")


def chunk(content: bytes, last: bool = False) -> bytes:
    """BDAT and its octets."""
    return b"BDAT %d%s\r\n" % (len(content), b" LAST" if last else b"") + content


@pytest.mark.covers("SEC-96")
@pytest.mark.parametrize(
    "octets", [b"BDAT 5\r\nab", b"BDAT 5 LAST\r\nab", b"BDAT 5\r\nabcde", b"BDAT 5 LAST"]
)
def test_a_chunk_that_never_ends_is_no_message(target: Target, octets: bytes) -> None:
    target.new_log()
    with target.session() as wire:
        envelope(wire)
        wire.send(octets)
    assert b'"sender":"s@client.example","recipients":["ann@here.example"]' not in target.new_log()


@pytest.mark.covers("SEC-97")
@pytest.mark.parametrize(
    "argument",
    [
        *(b"-1", b"99999999999999999999 LAST", b"0x10", b"1 2", b"", b"10 LASTT", b"+5", b"1_0 LAST"),
        *(b"\xef\xbc\x95", b"5.0", b"1e1", b"5\x00", b"LAST", b"\xd9\xa5 LAST", b"5 " + b"x" * 5000),
    ],
)
def test_a_chunk_without_a_size_ends_the_session(target: Target, argument: bytes) -> None:
    with target.session() as wire:
        envelope(wire)
        wire.send(b"BDAT " + argument + b"\r\nNOOP\r\nNOOP\r\n")
        said = wire.until_closed()
        assert said.startswith((b"501 ", b"500 ")), said
        assert said.count(b"\r\n") == 1


@pytest.mark.covers("SEC-98")
def test_chunks_of_nothing(target: Target) -> None:
    with target.session() as wire:
        envelope(wire)
        wire.expect(b"250", after=b"BDAT 0")
        wire.send(chunk(b"Subject: x\r\n\r\nx\r\n"))
        wire.expect(b"250")
        wire.expect(b"250", after=b"BDAT 0 LAST")
        envelope(wire)
        assert wire.command(b"BDAT 0 LAST")[:3] in (b"250", b"554", b"550")
        assert wire.is_in_step()


@pytest.mark.covers("SEC-99")
def test_a_chunk_out_of_place_is_swallowed(target: Target) -> None:
    with target.session() as wire:
        wire.send(chunk(COMMANDS))
        wire.expect(b"503")
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.send(chunk(COMMANDS))
        wire.expect(b"503", b"554")
        wire.expect(b"250", after=b"RSET")
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.expect(b"550", after=b"RCPT TO:<x@elsewhere.example>")
        wire.send(chunk(COMMANDS, last=True))
        wire.expect(b"503", b"554")
        assert wire.is_in_step()


@pytest.mark.covers("SEC-99", "SEC-103")
def test_a_chunk_over_the_limit_is_swallowed_with_those_that_follow(target: Target) -> None:
    with target.session() as wire:
        envelope(wire)
        wire.send(chunk(b"x" * 200_001) + chunk(COMMANDS) + chunk(COMMANDS, last=True))
        assert wire.replies(3) == [b"552"] * 3
        assert wire.is_in_step()
        wire.begin()
        wire.expect(b"250", after=b"Subject: still good\r\n\r\nx\r\n.")


@pytest.mark.covers("SEC-103")
def test_stray_octets_in_the_first_chunk_refuse_all(target: Target) -> None:
    with target.session() as wire:
        envelope(wire)
        wire.send(chunk(b"Subject: x\r\n\r\na\nb\r\n") + chunk(COMMANDS, last=True))
        assert wire.replies(2) == [b"550"] * 2
        assert wire.is_in_step()
        wire.expect(b"503", after=b"RCPT TO:<ann@here.example>")


@pytest.mark.covers("SEC-100")
def test_dots_in_chunks_are_octets(target: Target) -> None:
    token = b"Subject: chunked dots"
    content = token + b"\r\n\r\nx\r\n.\r\nQUIT\r\n..\r\n.y\r\n"
    with target.session() as wire:
        envelope(wire, b"ann@open.example")
        cut = content.index(b"\r\n.\r\n") + 1  # within a CRLF
        wire.send(chunk(content[:cut]) + chunk(content[cut:], last=True))
        assert wire.replies(2) == [b"250", b"250"]
    assert target.arrival(token).endswith(content)


@pytest.mark.covers("SEC-100")
def test_chunks_of_one_octet(target: Target) -> None:
    token = b"Subject: one by one"
    content = token + b"\r\n\r\n" + b"0123456789abcdef\r\n" * 200
    with target.session() as wire:
        envelope(wire, b"ann@open.example")
        wire.send(b"".join(chunk(content[at : at + 1]) for at in range(len(content))))
        wire.send(b"BDAT 0 LAST\r\n")
        assert set(wire.replies(len(content) + 1)) == {b"250"}
    assert target.arrival(token).endswith(content)


@pytest.mark.covers("SEC-100")
def test_an_enormous_chunk_is_not_kept(target: Target) -> None:
    target.serves()
    before = target.resident_octets()
    with target.session() as wire:
        envelope(wire)
        wire.send(b"BDAT 2147483648 LAST\r\n")
        for _ in range(640):
            wire.send(b"x" * 100_000)
        assert target.resident_octets() < before + 16 * 1024 * 1024


@pytest.mark.covers("SEC-101")
def test_a_chunk_after_the_last(target: Target) -> None:
    with target.session() as wire:
        envelope(wire)
        wire.send(chunk(b"Subject: x\r\n\r\nx\r\n", last=True) + chunk(COMMANDS) + chunk(COMMANDS, last=True))
        assert wire.replies(3) == [b"250", b"503", b"503"]
        assert wire.is_in_step()


@pytest.mark.covers("SEC-102")
def test_other_commands_between_chunks(target: Target) -> None:
    with target.session() as wire:
        envelope(wire)
        wire.send(chunk(b"Subject: x\r\n"))
        wire.expect(b"250")
        wire.expect(b"503", after=b"STARTTLS")
        wire.expect(b"503", b"502", b"538", after=b"AUTH PLAIN")
        wire.expect(b"250", b"503", after=b"NOOP")
        wire.expect(b"250", after=b"RSET")
        wire.send(chunk(b"\r\nx\r\n", last=True))
        wire.expect(b"503")
        assert wire.is_in_step()
