"""Fetching the certificate that a server presents, also from servers that will not show one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority, TlsFiles

from outrider.net.presented_chain import NoPresentationError, presented_chain

NAME = "mx.bank.example"
Script = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return CertificateAuthority(tmp_path_factory.mktemp("ca")).issue(NAME)


@contextmanager
def serving(script: Script) -> Iterator[tuple[str, int]]:
    """One connection, in which the script has its say."""
    with socket.create_server((loopback_address(), 0)) as listener:

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                script(link)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            thread.join()


def shake(link: socket.socket, files: TlsFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with contextlib.suppress(OSError):  # the client may have what it wanted, and be gone
        context.wrap_socket(link, server_side=True).close()


def smtp(files: TlsFiles, *replies: bytes) -> Script:
    def script(link: socket.socket) -> None:
        wire = link.makefile("rb")
        for number, reply in enumerate(replies):
            if number:
                wire.readline()
            link.sendall(reply)
        shake(link, files)

    return script


def leaf(files: TlsFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(files.certificate).read_text())


def test_tls_at_once(files: TlsFiles) -> None:
    with serving(lambda link: shake(link, files)) as address:
        assert presented_chain(address, NAME) == (leaf(files),)


def test_tls_after_starttls(files: TlsFiles) -> None:
    replies = (b"220-mx greets\r\n220 you\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go ahead\r\n")
    with serving(smtp(files, *replies)) as address:
        assert presented_chain(address, NAME, starttls=True) == (leaf(files),)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"554 no\r\n", "the greeting is '554'"),
        (b"", "no SMTP"),
        (b"x" * 5000, "no SMTP"),
        (b"220-on\r\n" * 200, "does not end"),
    ],
)
def test_a_server_that_does_not_offer_it(said: bytes, words: str) -> None:
    def script(link: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            link.sendall(said)
            link.shutdown(socket.SHUT_WR)
            link.recv(1000)

    with serving(script) as address, pytest.raises(NoPresentationError, match=words):
        presented_chain(address, NAME, starttls=True)


def test_plain_text_where_tls_should_begin() -> None:
    said = b"220 plain text\r\n"
    with (
        serving(lambda link: link.sendall(said)) as address,
        pytest.raises(NoPresentationError, match="not_tls"),
    ):
        presented_chain(address, NAME)


def test_nobody_there() -> None:
    with pytest.raises(NoPresentationError, match="refused"):
        presented_chain((loopback_address(), 10_125), NAME)


def test_a_server_that_closes() -> None:
    def script(link: socket.socket) -> None:
        link.recv(100_000)

    with serving(script) as address, pytest.raises(NoPresentationError, match="closed"):
        presented_chain(address, NAME)


def test_a_server_that_says_nothing() -> None:
    told = threading.Event()

    def script(_link: socket.socket) -> None:
        told.wait(30)

    with serving(script) as address:
        with pytest.raises(NoPresentationError, match="no answer within"):
            presented_chain(address, NAME, timeout_s=0.2)
        told.set()
