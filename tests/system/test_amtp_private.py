"""Private AMTP connections: an authority of our own, logins, and what is announced to whom and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.peers.outrider_server import OutriderServer
from tests.system.amtp_callers import Caller, World, rule
from tests.system.sites import CONTENT, Settings, headers_of, wait_mailbox

GATE = "gate.home.example"
PASSWORD = "correct horse battery"
MESSAGE = CONTENT.replace(b"\r\n.", b"\r\n..")
PRIVATE_PORT = 10126


class _Site(OutriderServer):
    """A server with logins that are made, by the command, before it starts."""

    def start(self) -> None:
        if not (self.folder / "users").exists():
            for login in (GATE, "ann"):
                self.cli("user", "add", login, "--sender", "*", stdin=f"{PASSWORD}\n".encode())
            self.cli("user", "add", "robot", "--no-password", "--certificate", "hub.home.example")
        super().start()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Authorities and the server's certificate."""
    return World(tmp_path)


def private_host(world: World, name: str = GATE, **more: Any) -> Caller:
    """A host of the private authority, whose address no DNS knows."""
    made = world.maker.host(world.private, f"DNS:{name}", **more)
    return Caller(world.host("unknown.example").address, made)


def private_settings(world: World, **tables: Any) -> Settings:
    tables.setdefault(
        "listeners",
        [{"protocol": "amtp", "address": world.address, "port": PRIVATE_PORT, "private": True}],
    )
    tls = {"private_ca": [str(world.private.certificate)]}
    return world.settings(None, tls=tls, auth={"users_file": "{dir}/users"}, **tables)


@pytest.mark.covers("AMTP-19", "AMTP-20", "AMTP-6")
def test_a_login_comes_before_mail_and_the_second_ehlo_hears_more(world: World) -> None:
    rules = [rule("gate", "refuse", {"mpc": "*/optout", "login": GATE})]
    caller = private_host(world)
    with _Site(private_settings(world, policy={"rules": rules})) as server:
        with caller.connect(world.address, PRIVATE_PORT) as link:
            reply = link.say(f"EHLO {GATE}").decode()
            assert "AUTH " in reply
            assert "PLAIN" in reply
            assert "MPC" not in reply
            assert link.code("MAIL FROM:<ann@home.example> MPC=com/optin") == 530
            assert link.plain_login(GATE, PASSWORD) == 235
            assert link.declarations(GATE) == ["DENY=*/optout"]
            assert link.code("MAIL FROM:<ann@home.example> MPC=com/optout") == 550
            assert link.code("MAIL FROM:<ann@home.example> MPC=com/optin") == 250
            assert link.code("RCPT TO:<bob@alpha.example>") == 250
            assert link.content(MESSAGE).startswith(b"250 ")
        [message] = wait_mailbox(server, "bob")
    assert b"with AMTPA id" in headers_of(message)


@pytest.mark.covers("AMTP-19")
def test_the_login_must_be_one_that_the_certificate_names(world: World) -> None:
    caller = private_host(world)
    with _Site(private_settings(world)) as server:
        with caller.connect(world.address, PRIVATE_PORT) as link:
            assert link.code(f"EHLO {GATE}") == 250
            assert link.plain_login("ann", PASSWORD) == 535
            assert link.code("MAIL FROM:<ann@home.example> MPC=com/optin") == 530
        [failed] = server.wait_event("login_failed")
        assert failed["login"] == "ann"
        server.write_configuration(private_settings(world, amtp={"private_auth_match": False}))
        server.reload()
        server.wait_event("reloaded")
        with caller.connect(world.address, PRIVATE_PORT) as link:
            assert link.code(f"EHLO {GATE}") == 250
            assert link.plain_login("ann", PASSWORD) == 235


@pytest.mark.covers("AMTP-19", "SMTP-2b")
def test_a_certificate_logs_in_by_external(world: World) -> None:
    caller = private_host(world, "hub.home.example")
    with _Site(private_settings(world)), caller.connect(world.address, PRIVATE_PORT) as link:
        assert b"EXTERNAL" in link.say("EHLO hub.home.example")
        assert link.code("AUTH EXTERNAL =") == 235


@pytest.mark.covers("AMTP-19", "AMTP-3")
def test_the_name_still_has_to_be_the_certificates(world: World) -> None:
    caller = private_host(world)
    with _Site(private_settings(world)) as server:
        with caller.connect(world.address, PRIVATE_PORT) as link:
            assert link.say("EHLO other.home.example") == b"504 5.7.8 Authentication failed\r\n"
        [refused] = server.wait_event("amtp_refused")
    assert refused["check"] == "ehlo-mismatch"


@pytest.mark.covers("AMTP-6")
def test_a_private_listener_takes_no_public_host(world: World) -> None:
    caller = world.host("mail.beta.example")
    with _Site(private_settings(world)) as server:
        with caller.connect(world.address, PRIVATE_PORT) as link:
            assert link.say("EHLO mail.beta.example") == b"504 5.7.8 Authentication failed\r\n"
        [refused] = server.wait_event("amtp_refused")
    assert refused["check"] == "not-private"


@pytest.mark.covers("AMTP-19")
def test_a_pinned_self_signed_certificate_is_private(world: World) -> None:
    made = world.maker.host(None, "DNS:home.customer.example")
    stranger = world.maker.host(None, "DNS:home.customer.example")
    pin = made.parsed.fingerprint(made.parsed.signature_hash_algorithm).hex()  # type: ignore[arg-type]
    amtp = {"private_fingerprints": [pin], "private_auth": "none"}
    listeners = [{"protocol": "amtp", "address": world.address, "port": PRIVATE_PORT, "private": True}]
    address = world.host("unknown.example").address
    with OutriderServer(world.settings(None, amtp=amtp, listeners=listeners)) as server:
        with Caller(address, made).connect(world.address, PRIVATE_PORT) as link:
            reply = link.say("EHLO home.customer.example")
            assert reply.startswith(b"250")
            assert b"AUTH" not in reply
            assert link.code("MAIL FROM:<a@customer.example> MPC=net/individual") == 250
        with Caller(address, stranger).connect(world.address, PRIVATE_PORT) as link:
            assert link.code("EHLO home.customer.example") == 504
        [refused] = server.wait_event("amtp_refused")
    assert refused["check"] == "self-signed"


@pytest.mark.covers("AMTP-20")
def test_each_certificate_identity_has_its_own_list(world: World) -> None:
    rules = [
        rule("shop sells", "accept", {"host": "shop.home.example"}),
        rule("nobody else does", "refuse", {"mpc": "com/*"}),
    ]
    shop, gate = private_host(world, "shop.home.example"), private_host(world)
    settings = private_settings(world, policy={"rules": rules}, amtp={"private_auth": "none"})
    with _Site(settings):
        with shop.connect(world.address, PRIVATE_PORT) as link:
            assert link.declarations("shop.home.example") == []
            assert link.code("MAIL FROM:<a@home.example> MPC=com/optin") == 250
        with gate.connect(world.address, PRIVATE_PORT) as link:
            assert link.declarations(GATE) == ["DENY=com/*"]
            assert link.code("MAIL FROM:<a@home.example> MPC=com/optin") == 550


@pytest.mark.covers("AMTP-18", "AMTP-19")
def test_what_came_over_a_private_connection_may_leave(world: World) -> None:
    caller = private_host(world)
    with _Site(private_settings(world)), caller.connect(world.address, PRIVATE_PORT) as link:
        assert link.code(f"EHLO {GATE}") == 250
        assert link.plain_login(GATE, PASSWORD) == 235
        assert link.code("MAIL FROM:<ann@home.example> MPC=com/optin") == 250
        assert link.code("RCPT TO:<x@elsewhere.example>") == 250
