"""Reload, certificate renewal, SNI, graceful stop: what an operator does to a server that is at work."""

from __future__ import annotations

import shutil
import smtplib
import ssl

import pytest
from cryptography import x509

from tests.peers.certificates import CertificateAuthority, TlsFiles
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.sites import CONTENT, Settings, body_of, mailbox, site, smtp_dialogue, wait_mailbox


def reload(server: OutriderServer, how: str) -> None:
    """By signal or by command."""
    if how == "SIGHUP":
        server.reload()
    else:
        assert server.cli("reload").stdout.startswith(b"reloaded")
    server.wait_event("reloaded")


@pytest.mark.covers("SMTP-5", "SMTP-8", "SEC-214")
@pytest.mark.parametrize("how", ["SIGHUP", "command"])
def test_a_reload_leaves_an_open_transaction_alone(how: str, address: str) -> None:
    settings = site("alpha.example", address, users=["ann"])
    with (
        OutriderServer(settings) as server,
        smtplib.SMTP(address, 25, "client.example", timeout=30) as client,
    ):
        client.ehlo()
        client.mail("eve@client.example")
        assert client.rcpt("ann@alpha.example")[0] == 250
        assert client.rcpt("zoe@alpha.example")[0] == 550
        settings["domains"]["alpha.example"]["users"] = ["ann", "zoe"]
        server.write_configuration(settings)
        reload(server, how)
        assert client.data(CONTENT.decode())[0] == 250
        # New transactions see the new tables.
        assert rcpt(address, "zoe@alpha.example") == 250
        [message] = wait_mailbox(server, "ann")
    assert body_of(message) == body_of(CONTENT)


def rcpt(address: str, recipient: str) -> int:
    """The code of RCPT in a session of its own."""
    replies = smtp_dialogue(
        address, 25, b"EHLO c.example", b"MAIL FROM:<>", f"RCPT TO:<{recipient}>".encode()
    )
    return int(replies[-1][:3])


@pytest.mark.covers("SMTP-9")
def test_a_reload_of_a_bad_file_changes_nothing_and_says_why(address: str) -> None:
    settings = site("alpha.example", address)
    with OutriderServer(settings) as server:
        server.write_configuration({**settings, "limits": {"mesage_size": 1}})
        done = server.cli("reload", check=False)
        assert done.returncode == 1
        assert b"limits.mesage_size" in done.stderr
        assert b"Traceback" not in done.stderr
        server.reload()
        [event, *_] = server.wait_event("reload_refused")
        assert "message_size" in str(event["text"])
        assert rcpt(address, "ann@alpha.example") == 250


@pytest.mark.covers("SMTP-9")
def test_what_needs_a_restart_is_said(address: str) -> None:
    settings = site("alpha.example", address)
    with OutriderServer(settings) as server:
        server.write_configuration({**settings, "spool": {"inline_limit": 1}})
        assert b"restart is needed for: spool" in server.cli("reload").stdout
        assert rcpt(address, "ann@alpha.example") == 250


def shown_name(address: str, asked: str = "") -> str:
    """The first name in the certificate that the server shows to a client that asks for `asked`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # smtplib names the host it was given in its ClientHello.
    with smtplib.SMTP(timeout=30, local_hostname="client.example") as client:
        client.connect(address, 25)
        client._host = asked or address  # type: ignore[attr-defined]
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True)
        assert shown is not None
        certificate = x509.load_der_x509_certificate(shown)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)[0]


@pytest.mark.covers("TLS-7")
@pytest.mark.parametrize("how", ["by itself", "SIGHUP"])
def test_a_renewed_certificate_is_shown_without_a_restart(
    how: str, address: str, authority: CertificateAuthority
) -> None:
    first, second = authority.issue("old.alpha.example"), authority.issue("new.alpha.example")
    live = TlsFiles(authority.folder / "live.pem", authority.folder / "live.key", authority.authority)
    _install(first, live)
    settings = site("alpha.example", address, tls=live)
    settings["tls"]["reload_interval"] = 1 if how == "by itself" else 3600
    with (
        OutriderServer(settings) as server,
        smtplib.SMTP(address, 25, "client.example", timeout=30) as client,
    ):
        client.ehlo()
        assert shown_name(address) == "old.alpha.example"
        _install(second, live)
        if how == "SIGHUP":
            reload(server, how)
        wait_until(lambda: shown_name(address) == "new.alpha.example", "the new certificate")
        assert client.noop()[0] == 250


def _install(files: TlsFiles, target: TlsFiles) -> None:
    shutil.copy(files.key, target.key)
    shutil.copy(files.certificate, target.certificate)


@pytest.mark.covers("TLS-7")
def test_tls_can_be_switched_on_by_a_reload(address: str, authority: CertificateAuthority) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        assert b"STARTTLS" not in smtp_dialogue(address, 25, b"EHLO c.example")[1]
        server.write_configuration(site("alpha.example", address, tls=authority.issue("mx.alpha.example")))
        reload(server, "command")
        assert shown_name(address) == "mx.alpha.example"


@pytest.mark.covers("TLS-7")
def test_the_name_that_is_asked_for_chooses_the_certificate(
    address: str, authority: CertificateAuthority
) -> None:
    settings = site("alpha.example", address, tls=authority.issue("mx.alpha.example"))
    for name in ("mx.beta.example", "*.gamma.example"):
        files = authority.issue(name)
        settings["tls"].setdefault("sni", []).append(
            {"names": [name], "certificate": str(files.certificate), "key": str(files.key)}
        )
    with OutriderServer(settings):
        assert shown_name(address, "mx.alpha.example") == "mx.alpha.example"
        assert shown_name(address, "mx.beta.example") == "mx.beta.example"
        assert shown_name(address, "any.gamma.example") == "*.gamma.example"
        assert shown_name(address, "unknown.example") == "mx.alpha.example"


@pytest.mark.covers("SMTP-5", "SMTP-9", "SEC-214")
def test_a_stop_lets_the_transaction_under_way_end(address: str) -> None:
    settings: Settings = site("alpha.example", address)
    with OutriderServer(settings) as server:
        idle = smtplib.SMTP(address, 25, "client.example", timeout=30)
        idle.ehlo()
        client = smtplib.SMTP(address, 25, "client.example", timeout=30)
        client.ehlo()
        client.mail("eve@client.example")
        client.rcpt("ann@alpha.example")
        assert client.docmd("DATA")[0] == 354
        server.cli("stop")
        server.wait_event("stopping")
        # The idle session is told; this one may finish.
        assert idle.getreply()[0] == 421
        client.send(CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        code, text = client.getreply()
        assert code == 250
        client.close()
        idle.close()
        wait_until(lambda: not server.is_running(), "the server to end")
        number = text.split()[-1].decode()
        # What was acknowledged is there after the next start, if it was not delivered before.
        server.start()
        wait_mailbox(server, "ann")
        server.wait_event("delivered", id=number)
        assert len(mailbox(server, "ann")) == 1
