"""A day of operation: log files that are rotated, a service manager, much mail at once, large mail."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.peers.tools import SmtpSink, Swaks, smtp_source
from tests.system.sites import (
    CONTENT,
    body_of,
    json_rows,
    mailbox,
    queue_id,
    site,
    smtp_dialogue,
    wait_mailbox,
)


@pytest.mark.covers("SMTP-9")
def test_a_rotated_log_is_opened_anew(address: str, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    settings = site("alpha.example", address, log={"file": str(log), "format": "text"})
    with _LogsToFile(settings, log) as server:
        assert " ready " in log.read_text()
        assert server.log() == ""
        log.rename(tmp_path / "mail.log.1")
        server.reload()
        wait_until(lambda: log.exists() and "reloaded" in log.read_text(), "the new log")
        smtp_dialogue(address, 25, b"EHLO c.example", b"MAIL FROM:<>", b"RCPT TO:<nobody@alpha.example>")
        wait_until(lambda: "550 5.1.1 No such user here: <nobody@alpha.example>" in log.read_text(), "a line")
        assert "nobody" not in (tmp_path / "mail.log.1").read_text()


class _LogsToFile(OutriderServer):
    """A server whose events are in a file of the settings."""

    def __init__(self, settings: dict[str, object], log: Path) -> None:
        super().__init__(settings)
        self._events = log

    def log_events(self, event: str | None = None) -> list[dict[str, object]]:
        text = self._events.read_text() if self._events.exists() else ""
        return [{"event": word} for word in ("ready",) if f" {word} " in text and event in (None, word)]


@contextlib.contextmanager
def notify_socket(folder: Path) -> Iterator[socket.socket]:
    """Where a service manager would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(30)
        yield listening


@pytest.mark.covers("SMTP-9")
def test_a_service_manager_is_told(address: str, tmp_path: Path) -> None:
    with notify_socket(tmp_path) as manager:
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with OutriderServer(site("alpha.example", address), environment=environment) as server:
            assert b"READY=1" in manager.recv(4096)
            server.stop()
            assert b"STOPPING=1" in manager.recv(4096)


@pytest.mark.covers("SMTP-3", "SMTP-5")
def test_one_message_for_many_is_sent_in_parts(address: str) -> None:
    with SmtpSink(loopback_address(), 25) as sink:
        routes = {"beta.example": f"smtp:[{sink.address}]:25"}
        delivery = {"recipients_per_message": 30}
        with OutriderServer(site("alpha.example", address, routes=routes, delivery=delivery)) as server:
            sent = smtp_source(address, 25, recipients_per_message=100, recipient="user@beta.example")
            assert sent.status == 0, sent.output
            delivered = server.wait_event("delivered", 100)
            assert len({event["recipient"] for event in delivered}) == 100
        parts = sink.transactions()
    assert sorted(part.count(b"\nX-Rcpt-Args: ") for part in parts) == [10, 30, 30, 30]


@pytest.mark.covers("SMTP-1", "SMTP-5")
def test_a_large_message_crosses_two_sites(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    line = bytes(range(33, 127)) * 8 + b"\r\n"
    content = CONTENT + line * (20_000_000 // len(line))
    far = loopback_address()
    route = {"to": f"smtp:[{far}]:25", "tls": "verify", "tls_name": "mx.beta.example"}
    with (
        OutriderServer(site("beta.example", far, tls=authority.issue("mx.beta.example"))) as beta,
        OutriderServer(
            site(
                "alpha.example",
                address,
                tls=authority.issue("mx.alpha.example"),
                routes={"beta.example": route},
            )
        ) as alpha,
    ):
        result = swaks_client.send(
            *(address, 25, "--suppress-data"), recipients=["bob@beta.example"], content=content
        )
        assert result.accepted
        alpha.wait_event("delivered", id=queue_id(result))
        [message] = wait_mailbox(beta, "bob")
    assert body_of(message) == body_of(content)


@pytest.mark.covers("SMTP-5")
def test_much_mail_at_once_is_all_there_and_only_once(address: str) -> None:
    far = loopback_address()
    with (
        OutriderServer(site("beta.example", far), title="beta") as beta,
        OutriderServer(
            site("alpha.example", address, routes={"beta.example": f"smtp:[{far}]:25"}), title="alpha"
        ) as alpha,
    ):
        sent = smtp_source(address, 25, messages=300, sessions=10, recipient="bob@beta.example")
        assert sent.status == 0, sent.output
        alpha.wait_event("delivered", 300)
        wait_mailbox(beta, "bob", 300)
        # A restart of both finds nothing left to do.
        alpha.restart()
        assert json_rows(alpha, "queue", "list") == []
        assert len(mailbox(beta, "bob")) == 300
