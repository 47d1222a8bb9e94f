"""Who may speak AMTP to a running server: OpenSSL's certificates, a real DNS, one check at a time."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.identity.openssl import Made
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.amtp_callers import PORT, SERVER_NAME, Caller, World, metric
from tests.system.sites import CONTENT, body_of, headers_of, json_rows, wait_mailbox

NAME = "mail.beta.example"
CLIENT_TEXT = re.compile(r"from mail\.beta\.example \(mail\.beta\.example \[127\.[0-9.]+\]\)")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Authorities and the server's certificate; DNS is filled by each test."""
    return World(tmp_path)


@pytest.mark.covers("AMTP-1", "AMTP-2a", "AMTP-2b")
def test_a_host_whose_certificate_address_and_name_agree_delivers(world: World) -> None:
    caller = world.host(NAME)
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server:
        with caller.connect(world.address) as link:
            assert link.greeting.startswith(f"220 {SERVER_NAME} AMTP".encode())
            assert link.code(f"EHLO {NAME}") == 250
            assert link.code("MAIL FROM:<ann@beta.example> MPC=com/optin") == 250
            assert link.code("RCPT TO:<bob@alpha.example>") == 250
            assert link.content(CONTENT.replace(b"\r\n.", b"\r\n..")).startswith(b"250 2.0.0 Ok: queued as ")
            assert link.code("QUIT") == 221
        [message] = wait_mailbox(server, "bob")
        [received] = server.wait_event("received")
        shown = str(json_rows(server, "explain", str(received["id"])))
    assert body_of(message) == body_of(CONTENT)
    head = headers_of(message).decode()
    assert "with AMTP id" in head
    assert CLIENT_TEXT.search(head)
    assert f"client certificate of {NAME}" in head
    assert "MPC: com/optin" in head.split("\n")
    assert received["protocol"] == "AMTP"
    for fact in ("public CA, EHLO, PTR", "amtp.connection", "com/optin"):
        assert fact in shown


@pytest.mark.covers("AMTP-2a", "SEC-153")
def test_any_of_several_ptr_names_will_do(world: World) -> None:
    caller = world.host(NAME, pointers=["www.beta.example", NAME, "ftp.beta.example"])
    with (
        world.name_server() as dns,
        OutriderServer(world.settings(dns)),
        caller.connect(world.address) as link,
    ):
        assert link.code(f"EHLO {NAME.upper()}") == 250


def without_certificate(world: World) -> Caller:
    return Caller(world.host(NAME).address)


def of_an_unknown_authority(world: World) -> Caller:
    stranger = world.maker.root("Somebody")
    return world.host(NAME, certificate=world.maker.host(stranger, f"DNS:{NAME}"))


def self_signed(world: World) -> Caller:
    return world.host(NAME, certificate=world.maker.host(None, f"DNS:{NAME}"))


def for_clients_only(world: World) -> Caller:
    return world.host(NAME, certificate=world.maker.host(world.public, f"DNS:{NAME}", usage="clientAuth"))


def by_common_name_only(world: World) -> Caller:
    return world.host(NAME, certificate=world.maker.host(world.public, subject=f"/CN={NAME}"))


def for_a_wildcard(world: World) -> Caller:
    return world.host(NAME, certificate=world.maker.host(world.public, "DNS:*.beta.example"))


def of_another_name(world: World) -> Caller:
    return world.host(NAME, certificate=world.maker.host(world.public, "DNS:mail.gamma.example"))


def expired(world: World) -> Caller:
    made = world.maker.host(world.public, f"DNS:{NAME}", days=-1)
    return world.host(NAME, certificate=made)


def with_a_chain_of_fifty(world: World) -> Caller:
    issuer = world.public
    for number in range(49):
        issuer = world.maker.below(issuer, f"Intermediate {number}")
    made = world.maker.host(issuer, f"DNS:{NAME}")
    chain = world.folder / "chain.pem"
    chain.write_bytes(b"".join(one.certificate.read_bytes() for one in (made, *made.above[:-1])))
    return world.host(NAME, certificate=Made(chain, made.key))


def without_ptr(world: World) -> Caller:
    return world.host(NAME, pointers=[])


def with_another_ptr(world: World) -> Caller:
    caller = world.host(NAME, pointers=["other.beta.example"])
    world.records.append(f"other.beta A {caller.address}")
    return caller


def with_a_forged_ptr(world: World) -> Caller:
    return world.host(NAME, forward=loopback_address())


@pytest.mark.covers("AMTP-3", "AMTP-2a", "SEC-138")
@pytest.mark.parametrize(
    ("make", "check"),
    [
        (without_certificate, "no-certificate"),
        (of_an_unknown_authority, "unknown-ca"),
        (self_signed, "self-signed"),
        (for_clients_only, "purpose"),
        (by_common_name_only, "name"),
        (for_a_wildcard, "name"),
        (of_another_name, "name"),
        (expired, "expired"),
        (with_a_chain_of_fifty, "chain-too-long"),
        (without_ptr, "ptr-none"),
        (with_another_ptr, "ptr-mismatch"),
        (with_a_forged_ptr, "ptr-not-forward"),
    ],
)
def test_one_failed_check_is_504_and_nothing_more_is_served(
    make: Callable[[World], Caller], check: str, world: World
) -> None:
    caller = make(world)
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server:
        with caller.connect(world.address) as link:
            assert link.say(f"EHLO {NAME}") == b"504 5.7.8 Authentication failed\r\n"
            assert link.code("NOOP") == 250
            for line in ("MAIL FROM:<a@beta.example> MPC=com/optin", "RSET", "VRFY x", f"EHLO {NAME}"):
                assert link.code(line) == 503
            assert link.code("QUIT") == 221
        [refused] = server.wait_event("amtp_refused")
        assert metric(world.address, "outrider_amtp_refused_total", check=check) == 1
    assert refused["check"] == check
    assert refused["text"]
    assert refused["client"] == caller.address


@pytest.mark.covers("AMTP-3", "SEC-152")
def test_a_name_that_is_not_the_certificates_is_504(world: World) -> None:
    caller = world.host(NAME)
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server:
        with caller.connect(world.address) as link:
            assert link.say("EHLO dastardly.example.org") == b"504 5.7.8 Authentication failed\r\n"
        [refused] = server.wait_event("amtp_refused")
    assert refused["check"] == "ehlo-mismatch"
    assert refused["helo"] == "dastardly.example.org"


@pytest.mark.covers("AMTP-3", "SEC-154")
def test_dns_that_does_not_answer_is_451_and_may_be_tried_again(world: World) -> None:
    caller = world.host(NAME)
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server:
        dns.stop()
        with caller.connect(world.address) as link:
            assert link.say(f"EHLO {NAME}").startswith(b"451 4.")
            assert link.code("MAIL FROM:<a@beta.example> MPC=com/optin") == 503
        [refused] = server.wait_event("amtp_refused")
        dns.start()

        def welcome() -> bool:
            """The resolver asks a server that has failed again after a moment."""
            with caller.connect(world.address) as link:
                return link.code(f"EHLO {NAME}") == 250

        wait_until(welcome, "a host to be believed once DNS answers")
    assert refused["check"] == "ptr-timeout"


@pytest.mark.covers("AMTP-4")
def test_helo_is_refused_and_ehlo_may_follow(world: World) -> None:
    caller = world.host(NAME)
    with (
        world.name_server() as dns,
        OutriderServer(world.settings(dns)),
        caller.connect(world.address) as link,
    ):
        assert link.code(f"HELO {NAME}") == 504
        assert link.code(f"EHLO {NAME}") == 250
        assert link.code("STARTTLS") == 502
        assert link.code("MAIL FROM:<a@beta.example>") == 501
        assert link.code("MAIL FROM:<a@beta.example> MPC=com/optin MPC=com/optin") == 501


@pytest.mark.covers("AMTP-1")
def test_openssls_client_completes_a_transaction_by_typed_lines(world: World) -> None:
    caller = world.host(NAME)
    assert caller.certificate is not None
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server:
        with TypedClient(caller.address, world.address, caller.certificate, world.public) as typed:
            assert typed.expect("220")
            assert "250" in typed.say(f"EHLO {NAME}")
            assert "250" in typed.say("MAIL FROM:<ann@beta.example> MPC=net/individual")
            assert "250" in typed.say("RCPT TO:<bob@alpha.example>")
            assert "354" in typed.say("DATA")
            assert "250" in typed.say("Subject: typed\r\n\r\nby hand\r\n.")
            assert "221" in typed.say("QUIT")
        [message] = wait_mailbox(server, "bob")
    assert body_of(message) == b"by hand\n"


class TypedClient:
    """`openssl s_client` with lines typed into it."""

    def __init__(self, source: str, address: str, certificate: Made, root: Made) -> None:
        self._words = [
            *(
                "openssl",
                "s_client",
                "-quiet",
                "-crlf",
                "-connect",
                f"{address}:{PORT}",
                "-bind",
                f"{source}:0",
            ),
            *("-cert", str(certificate.certificate), "-key", str(certificate.key)),
            *("-CAfile", str(root.certificate), "-verify_return_error", "-verify_hostname", SERVER_NAME),
        ]

    def __enter__(self) -> TypedClient:
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def expect(self, code: str) -> str:
        """The next reply, which must begin so."""
        assert self._process.stdout is not None
        lines = []
        while True:
            line = self._process.stdout.readline().decode()
            lines.append(line)
            if line[3:4] != "-":
                break
        assert lines[0].startswith(code), lines
        return "".join(lines)

    def say(self, line: str) -> str:
        """Type a line; the reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.replace("\r\n", "\n").encode() + b"\n")
        self._process.stdin.flush()
        return self.expect("")


@pytest.mark.covers("AMTP-2a", "SEC-155")
def test_a_second_connection_of_a_peer_asks_dns_nothing(world: World) -> None:
    caller = world.host(NAME)
    logged = "querylog yes;"
    with world.name_server(options=logged) as dns, OutriderServer(world.settings(dns)):
        with caller.connect(world.address) as link:
            assert link.code(f"EHLO {NAME}") == 250
        asked = dns.log().count("query:")
        assert asked > 0
        with caller.connect(world.address) as link:
            assert link.code(f"EHLO {NAME}") == 250
        assert dns.log().count("query:") == asked


@pytest.mark.covers("AMTP-1", "SEC-147")
def test_a_client_without_tls_gets_nothing(world: World) -> None:
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server:
        with socket.create_connection((world.address, PORT), PATIENCE_S) as plain:
            plain.sendall(b"EHLO x.example\r\n")
            plain.settimeout(PATIENCE_S)
            answer = plain.recv(1000)
            assert not answer.startswith((b"220", b"250"))
        server.wait_event("tls_failed")
