"""AUTH on the submission port: who may log in, by what, and what nobody may see."""

from __future__ import annotations

import base64
import re
import smtplib
import ssl

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority, TlsFiles
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.tools import SmtpSink, Swaks
from tests.system.sites import CONTENT, Settings, body_of, json_rows, site, smtp_dialogue, wait_mailbox

PASSWORD = "correct horse battery"
PLAIN = base64.b64encode(f"\0ann\0{PASSWORD}".encode())


def submission_site(address: str, authority: CertificateAuthority, **auth: object) -> Settings:
    """A site with a submission port (587, and 465 with TLS from the start), and one login, ann."""
    settings = site(
        "alpha.example",
        address,
        tls=authority.issue("mx.alpha.example"),
        auth={"users_file": "{dir}/users", **auth},
        log={"level": "debug"},
    )
    settings["listeners"] += [
        {"protocol": "submission", "address": address},
        {"protocol": "submission", "address": address, "tls": "implicit"},
    ]
    settings["relay"] = {}
    return settings


class _Site(OutriderServer):
    """A server whose login is made, by the command, before it starts."""

    def start(self) -> None:
        if not (self.folder / "users").exists():
            self.cli("user", "add", "ann", "--sender", "ann@alpha.example", stdin=f"{PASSWORD}\n".encode())
        super().start()


@pytest.mark.covers("SMTP-2b", "TLS-6", "SEC-211")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("port", "tls"), [(587, "--tls"), (465, "--tls-on-connect")])
def test_a_password_is_taken_under_tls(
    mechanism: str, port: int, tls: str, address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    login = ("--auth", mechanism, "--auth-user", "ann", "--auth-password", PASSWORD)
    with _Site(submission_site(address, authority)) as server:
        result = swaks_client.send(
            address,
            port,
            tls,
            *login,
            sender="ann@alpha.example",
            recipients=["bob@alpha.example"],
            content=CONTENT,
        )
        assert result.accepted, result.transcript
        [message] = wait_mailbox(server, "bob")
        [event] = server.wait_event("login")
        log = server.log()
    assert b"with ESMTPSA id" in message
    assert (event["login"], event["mechanism"]) == ("ann", mechanism)
    for secret in (PASSWORD, PLAIN.decode(), base64.b64encode(PASSWORD.encode()).decode()):
        assert secret not in log


@pytest.mark.covers("SMTP-2b", "TLS-2b")
def test_a_login_may_relay_and_nobody_else(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    login = ("--auth", "PLAIN", "--auth-user", "ann", "--auth-password", PASSWORD)
    elsewhere = {"sender": "ann@alpha.example", "recipients": ["bob@beta.example"]}
    with SmtpSink(loopback_address(), 25) as sink:
        settings = submission_site(address, authority)
        settings["routes"] = {"beta.example": f"smtp:[{sink.address}]:25"}
        with _Site(settings) as server:
            known = swaks_client.send(address, 587, "--tls", *login, **elsewhere)  # type: ignore[arg-type]
            assert known.accepted, known.transcript
            server.wait_event("delivered", recipient="bob@beta.example")
            stranger = swaks_client.send(address, 25, "--tls", **elsewhere)  # type: ignore[arg-type]
    assert any(reply.startswith("550 5.7.1 ") for reply in stranger.replies()), stranger.transcript


@pytest.mark.covers("SMTP-2b")
def test_no_password_goes_in_clear(address: str, authority: CertificateAuthority) -> None:
    with _Site(submission_site(address, authority)) as server:
        _, hello, login, mail = smtp_dialogue(
            address, 587, b"EHLO client.example", b"AUTH PLAIN " + PLAIN, b"MAIL FROM:<ann@alpha.example>"
        )
        log = server.log()
    # SCRAM shows no password, so it may be offered before TLS; these may not.
    assert not {b"PLAIN", b"LOGIN"} & set(re.findall(rb"\w+", hello))
    assert login.startswith(b"538 5.7.11 ")
    assert mail.startswith(b"530 5.7.0 ")
    assert PLAIN.decode() not in log


@pytest.mark.covers("SMTP-2b", "SEC-211")
def test_a_wrong_password_is_refused_and_no_mail_goes_without(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with _Site(submission_site(address, authority)) as server:
        wrong = swaks_client.send(
            address, 587, "--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", "wrong guess"
        )
        without = swaks_client.send(address, 587, "--tls", sender="ann@alpha.example")
        server.wait_event("login_failed", login="ann", mechanism="PLAIN")
        log = server.log()
    assert not wrong.accepted
    assert any(reply.startswith("535 5.7.8 ") for reply in wrong.replies()), wrong.transcript
    assert any(reply.startswith("530 5.7.0 ") for reply in without.replies()), without.transcript
    assert "wrong guess" not in log


@pytest.mark.covers("SMTP-2b")
def test_postfix_logs_in_by_scram(address: str, authority: CertificateAuthority) -> None:
    with (
        _Site(submission_site(address, authority)) as server,
        PostfixServer(
            loopback_address(),
            local_domains=["beta.example"],
            relay_to={"alpha.example": (address, 587)},
            client_tls="encrypt",
            tls=authority.issue("mx.beta.example"),
            credentials=("ann", PASSWORD),
            main_cf={"smtp_sasl_mechanism_filter": "scram-sha-256", "smtp_sasl_tls_security_options": ""},
        ) as beta,
    ):
        beta.send("ann@alpha.example", ["bob@alpha.example"], CONTENT)
        [message] = wait_mailbox(server, "bob")
        [event] = server.wait_event("login")
        beta.wait_queue_empty()
    assert (event["login"], event["mechanism"]) == ("ann", "SCRAM-SHA-256")
    assert body_of(message) == body_of(CONTENT)


@pytest.mark.covers("SMTP-2b", "TLS-2b")
def test_a_client_certificate_logs_in_by_external(address: str, authority: CertificateAuthority) -> None:
    with _Site(submission_site(address, authority)) as server:
        server.cli(
            *("user", "add", "robot", "--no-password"),
            *("--certificate", "robot.client.example", "--sender", "@alpha.example"),
        )
        server.restart()
        assert external(address, authority.issue("robot.client.example")) == 235
        # Of no use to others, so not offered to them (RFC 4954 section 4).
        assert external(address, authority.issue("mx.stranger.example")) == 504
        server.wait_event("login", login="robot", mechanism="EXTERNAL")


def external(address: str, shown: TlsFiles) -> int:
    """The code that AUTH EXTERNAL gets from a client with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(shown.authority)
    context.load_cert_chain(shown.certificate, shown.key)
    with smtplib.SMTP(address, 587, "client.example", timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        return client.docmd("AUTH", "EXTERNAL =")[0]


@pytest.mark.covers("SMTP-2b", "SEC-110")
def test_a_login_sends_only_as_itself(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    login = ("--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", PASSWORD)
    forged = CONTENT.replace(b"ann@alpha.example", b"boss@alpha.example")
    with _Site(submission_site(address, authority)):
        envelope = swaks_client.send(address, 587, *login, sender="boss@alpha.example")
        header = swaks_client.send(
            address,
            587,
            *login,
            sender="ann@alpha.example",
            recipients=["bob@alpha.example"],
            content=forged,
        )
    assert "553 5.7.1 The login ann may not send as <boss@alpha.example>" in envelope.replies()
    assert "553 5.7.1 Neither From nor Sender is an address of your login" in header.replies()


@pytest.mark.covers("SMTP-2b")
def test_logins_are_changed_listed_and_removed_while_the_server_runs(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    def may_log_in(password: str) -> bool:
        login = ("--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", password)
        return swaks_client.send(address, 587, *login, "--quit-after", "AUTH").accepted

    with _Site(submission_site(address, authority)) as server:
        assert may_log_in(PASSWORD)
        server.cli("user", "password", "ann", stdin=b"another one\n")
        server.cli("reload")
        assert may_log_in("another one")
        assert not may_log_in(PASSWORD)
        assert [row["name"] for row in json_rows(server, "user", "list")] == ["ann"]
        users = (server.folder / "users").read_text()
        server.cli("user", "remove", "ann")
        server.cli("reload")
        assert not may_log_in("another one")
        assert (server.folder / "users").stat().st_mode & 0o777 == 0o600
    assert "another one" not in users


@pytest.mark.covers("SMTP-2b", "SMTP-9", "SEC-106")
def test_guessing_is_slowed_down(address: str, authority: CertificateAuthority, swaks_client: Swaks) -> None:
    guess = ("--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password")
    with _Site(submission_site(address, authority, failures_per_address=2)):
        for _ in range(2):
            assert not swaks_client.send(address, 587, *guess, "wrong").accepted
        # Now even the right one must wait.
        result = swaks_client.send(address, 587, *guess, PASSWORD, sender="ann@alpha.example")
    assert not result.accepted
    assert any(reply.startswith("454 4.7.0 ") for reply in result.replies()), result.transcript
