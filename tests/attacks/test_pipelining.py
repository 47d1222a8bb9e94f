"""SEC-56 to SEC-64: what may be sent ahead, and what may not."""

from __future__ import annotations

import socket

import pytest

from tests.attacks.target import Target

HEAD = b"MAIL FROM:<s@client.example>\r\nRCPT TO:<ann@here.example>\r\n"
CONTENT = b"Subject: x\r\n\r\nbody\r\n.\r\n"


@pytest.mark.covers("SEC-56")
def test_talking_before_the_banner(target: Target) -> None:
    # Whether the server sees it before its greeting is a matter of chance, so it is tried often.
    for _ in range(20):
        with target.connect(greet=False) as wire:
            wire.send(b"EHLO early.example\r\nMAIL FROM:<a@b.example>\r\n")
            said = wire.until_closed()
            assert b"554 5.5.0 " in said
            assert b"250 2.1.0" not in said


@pytest.mark.covers("SEC-57", "SEC-58")
@pytest.mark.parametrize("hello", [b"HELO", b"EHLO"])
def test_commands_in_the_segment_of_the_hello(target: Target, hello: bytes) -> None:
    with target.connect() as wire:
        wire.send(hello + b" x.example\r\n" + HEAD)
        assert wire.until_closed().startswith(b"554 5.5.0 ")


@pytest.mark.covers("SEC-59")
def test_content_sent_before_the_354_is_never_run(target: Target) -> None:
    with target.session() as wire:
        wire.send(b"RSET\r\n" + HEAD + b"DATA\r\nMAIL FROM:<x@y.example>\r\nRSET\r\n.\r\nNOOP\r\n")
        assert wire.replies(3) == [b"250"] * 3
        # Either it was content after all, or the end of the session; commands it was not.
        codes = wire.replies(3)
        assert codes[0] in (b"354", b"554", b"421")
        assert codes in ([b"354", codes[1], b"250"], [codes[0], b"", b""])


@pytest.mark.covers("SEC-60")
def test_a_transaction_in_the_segment_that_ends_another(target: Target) -> None:
    with target.session() as wire:
        wire.send(HEAD + b"DATA\r\n")
        assert wire.replies(3) == [b"250", b"250", b"354"]
        wire.send(CONTENT + HEAD + b"DATA\r\n")
        assert wire.replies(4) == [b"250", b"250", b"250", b"354"]
        wire.send(CONTENT + b"QUIT\r\n")
        assert wire.replies(3) == [b"250", b"221", b""]


@pytest.mark.covers("SEC-61", "SEC-86")
def test_ten_thousand_recipients_in_one_go(target: Target) -> None:
    target.serves()
    before = target.resident_octets()
    with target.session() as wire:
        names = b"".join(b"RCPT TO:<r%d@open.example>\r\n" % number for number in range(10_000))
        wire.send(b"MAIL FROM:<s@client.example>\r\n" + names)
        codes = wire.replies(10_001)
        assert codes == [b"250"] * 1001 + [b"452"] * 9_000
        wire.expect(b"250", after=b"RSET")
    assert target.resident_octets() < before + 64 * 1024 * 1024


@pytest.mark.covers("SEC-61", "SEC-89")
def test_a_client_that_never_reads_fills_nothing(target: Target) -> None:
    target.serves()
    before = target.resident_octets()
    with target.session() as wire:
        wire.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            wire.send(b"NOOP\r\n" * 30_000_000)
        assert target.resident_octets() < before + 32 * 1024 * 1024
        target.serves()


@pytest.mark.covers("SEC-62")
def test_half_close_after_the_end(target: Target) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(CONTENT)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.until_closed().startswith(b"250 2.0.0 Ok: queued")


@pytest.mark.covers("SEC-63")
def test_data_although_every_recipient_was_refused(target: Target) -> None:
    with target.session() as wire:
        wire.send(b"MAIL FROM:<s@client.example>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n")
        codes = wire.replies(3)
        assert codes[:2] == [b"250", b"550"]
        if codes[2] == b"354":
            wire.send(b"RSET\r\nNOOP\r\n.\r\n")
            wire.expect(b"554")
        else:
            assert codes[2] in (b"503", b"554")
        assert wire.is_in_step()


@pytest.mark.covers("SEC-64")
def test_data_and_bdat_do_not_mix(target: Target) -> None:
    with target.session() as wire:
        wire.send(HEAD + b"BDAT 5\r\nSubj:")
        assert wire.replies(3) == [b"250"] * 3
        wire.expect(b"503", after=b"DATA")
        wire.expect(b"250", after=b"RSET")
        wire.begin()
        wire.send(b"BDAT 5 LAST\r\nab\r\n.\r\n")  # content by now, whatever it looks like
        assert wire.reply()[:3] in (b"250", b"550")
        assert wire.is_in_step()
