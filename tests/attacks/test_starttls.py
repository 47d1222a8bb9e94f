"""SEC-32 to SEC-44: what is said in the clear is never taken for something said under TLS."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct

import pytest

from tests.attacks.target import SMTP, SMTPS, Target
from tests.attacks.wire import Wire

INJECTED = [
    b"EHLO inject.example\r\n",
    b"RSET\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n",
    b"QUIT\r\n",
    b"NOOP\r\n" * 10_923,
    b"EHL",
]


def insecure(*alpn: str, minimum: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that believes everything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if minimum is not None:
        context.minimum_version = minimum
    return context


@pytest.mark.covers("SEC-32", "SEC-33", "SEC-34")
@pytest.mark.parametrize("injected", INJECTED, ids=lambda octets: repr(octets[:12]))
def test_octets_behind_starttls_end_the_session(target: Target, injected: bytes) -> None:
    with target.session() as wire:
        wire.send(b"STARTTLS\r\n" + injected)
        assert wire.until_closed().startswith(b"554 5.5.0 ")


@pytest.mark.covers("SEC-34", "SEC-33", "TLS-1")
def test_octets_between_the_220_and_the_handshake_are_not_commands(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"220", after=b"STARTTLS")
        wire.send(b"EHLO inject.example\r\n")
        assert not wire.until_closed().startswith(b"250")  # not a record of TLS: the handshake has failed


@pytest.mark.covers("SEC-35")
def test_a_client_hello_in_the_segment_of_starttls(target: Target) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = insecure().wrap_bio(incoming, outgoing, server_hostname="mx.here.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with target.session() as wire:
        wire.send(b"STARTTLS\r\n" + outgoing.read())
        assert wire.until_closed().startswith(b"554 5.5.0 ")


@pytest.mark.covers("SEC-36", "SEC-37")
@pytest.mark.parametrize("transaction", [b"", b"MAIL FROM:<a@b.example>", b"RCPT TO:<ann@here.example>"])
def test_nothing_said_before_tls_survives(target: Target, transaction: bytes) -> None:
    with target.session() as wire:
        if transaction:
            wire.expect(b"250", after=b"MAIL FROM:<a@b.example>")
        if transaction.startswith(b"RCPT"):
            wire.expect(b"250", after=transaction)
        if wire.command(b"STARTTLS").startswith(b"503"):
            assert transaction
            return
        wire.start_tls()
        wire.expect(b"503", after=b"MAIL FROM:<a@b.example>")
        wire.expect(b"503", after=b"RCPT TO:<ann@here.example>")
        wire.expect(b"503", after=b"DATA")
        assert b"STARTTLS" not in wire.ehlo()
        wire.expect(b"503", after=b"RCPT TO:<ann@here.example>")


@pytest.mark.covers("SEC-38")
def test_starttls_once_and_without_argument(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"501", after=b"STARTTLS x")
        wire.expect(b"220", after=b"starttls")
        wire.start_tls()
        wire.ehlo()
        wire.expect(b"503", after=b"STARTTLS")
        wire.begin()
        wire.expect(b"250", after=b"Subject: under TLS\r\n\r\nx\r\n.")


OLD_HELLO = bytes.fromhex("16030100310100002d0301") + bytes(32) + bytes.fromhex("000006002f0035000a0100")
SSL2_HELLO = bytes.fromhex("802e0100020015000000100100800300800700c0060040020080040080") + bytes(19)


@pytest.mark.covers("SEC-39")
@pytest.mark.parametrize(
    "octets", [b"\xff" * 512, OLD_HELLO, SSL2_HELLO, os.urandom(2048), b"GET / HTTP/1.0\r\n\r\n"]
)
def test_a_failed_handshake_ends_the_connection(target: Target, octets: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"220", after=b"STARTTLS")
        wire.send(octets)
        said = wire.until_closed()
        assert said[:1] in (b"", b"\x15"), said  # an alert at most, nothing in the clear


@pytest.mark.covers("SEC-40")
def test_data_cut_by_the_end_of_tls_are_not_queued(target: Target) -> None:
    target.new_log()
    with target.session() as wire:
        wire.expect(b"220", after=b"STARTTLS")
        wire.start_tls()
        wire.ehlo()
        wire.begin(sender=b"cut@client.example")
        wire.send(b"Subject: cut\r\n\r\nx\r\n.")
        assert isinstance(wire.socket, ssl.SSLSocket)
        # The TCP connection goes on where TLS has not been closed.
        with socket.socket(fileno=wire.socket.detach()) as plain:
            plain.settimeout(20)
            plain.sendall(b"\r\n.\r\nMAIL FROM:<cut@client.example>\r\n")
            with contextlib.suppress(ConnectionResetError):
                while plain.recv(65536):
                    pass
    assert b"cut@client.example" not in target.new_log()


@pytest.mark.covers("SEC-40")
def test_endless_key_updates_and_empty_records(target: Target) -> None:
    with target.connect(SMTPS, greet=False) as wire:
        wire.start_tls(insecure())
        wire.expect(b"220")
        raw = socket.socket(fileno=os.dup(wire.socket.fileno()))
        # Records that no key of the session has made: the first bad one is the end of it.
        with raw:
            raw.sendall(struct.pack("!BHH", 23, 0x0303, 0) * 10_000)
            raw.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(65536):
                    pass


@pytest.mark.covers("SEC-41")
def test_the_word_starttls_elsewhere(target: Target) -> None:
    with target.session() as wire:
        wire.begin(b"starttls@open.example", b"starttls@client.example")
        wire.expect(b"250", after=b"STARTTLS: STARTTLS\r\n\r\nSTARTTLS\r\nSTARTTLS\r\n.")
    assert target.arrival(b"STARTTLS: STARTTLS").endswith(b"\r\n\r\nSTARTTLS\r\nSTARTTLS\r\n")


@pytest.mark.covers("SEC-42")
@pytest.mark.parametrize(
    "request_line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"CONNECT x:25 HTTP/1.1", b"PUT / HTTP/1.0"]
)
def test_a_web_browser_is_sent_away(target: Target, request_line: bytes) -> None:
    with target.connect() as wire:
        wire.send(request_line + b"\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n")
        said = wire.until_closed()
        assert said.startswith(b"554 5.5.1 ")
        assert said.count(b"\r\n") == 1


@pytest.mark.covers("SEC-43")
def test_another_protocol_by_alpn_is_refused(target: Target) -> None:
    for port, name in ((SMTPS, "http/1.1"), (SMTPS, "imap"), (SMTP, "http/1.1")):
        with target.connect(port, greet=False) as wire:
            if port == SMTP:
                wire.expect(b"220")
                wire.ehlo()
                wire.expect(b"220", after=b"STARTTLS")
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                # TLS 1.3 lets the client believe for a moment that all went well.
                _ = wire.start_tls(insecure(name)), wire.ehlo()
    with target.connect(SMTPS, greet=False) as wire:
        wire.start_tls(insecure("smtp"))
        wire.expect(b"220")


@pytest.mark.covers("SEC-43")
@pytest.mark.parametrize("name", [None, "other.example", "x" * 63 + ".example", "127.0.0.1"])
def test_any_name_gets_the_certificate(target: Target, name: str | None) -> None:
    with target.connect(SMTPS, greet=False) as wire:
        wire.socket = insecure().wrap_socket(wire.socket, server_hostname=name)
        wire.expect(b"220")


@pytest.mark.covers("SEC-44")
def test_tls_closed_within_a_chunk(target: Target) -> None:
    target.new_log()
    with target.session() as wire:
        wire.expect(b"220", after=b"STARTTLS")
        wire.start_tls()
        wire.ehlo()
        wire.expect(b"250", after=b"MAIL FROM:<cut@client.example>")
        wire.expect(b"250", after=b"RCPT TO:<ann@here.example>")
        wire.send(b"BDAT 1000 LAST\r\nSubject: cut\r\n\r\n")
        close_tls_go_on_in_clear(wire)
    assert b"cut@client.example" not in target.new_log()


def close_tls_go_on_in_clear(wire: Wire) -> None:
    """A proper close_notify, then commands on the bare connection; nothing may come back but TLS."""
    assert isinstance(wire.socket, ssl.SSLSocket)
    wire.socket.settimeout(20)
    try:
        plain = wire.socket.unwrap()
    except (ssl.SSLError, OSError):
        return  # closed from the other side at once
    try:
        plain.sendall(b"x" * 2000 + b"\r\nEHLO x\r\nMAIL FROM:<cut@client.example>\r\n")
        said = plain.recv(65536)
        assert not said.startswith((b"2", b"5"))
    except OSError:
        pass
