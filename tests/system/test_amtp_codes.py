"""Mail Policy Codes at a running server: announced, enforced, bound, moved from fields, never rewritten."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path

import pytest

from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S
from tests.system.amtp_callers import Caller, Dialogue, World, rule
from tests.system.sites import CONTENT as PLAIN_CONTENT
from tests.system.sites import headers_of, read_reply, smtp_dialogue, wait_mailbox

NAME = "mail.beta.example"
CONTENT = PLAIN_CONTENT.replace(b"\r\n.", b"\r\n..")
VIOLATION = b"550 5.7.1 MPC policy violation"
MAILBOX = "maildir:{dir}/mail/{user}"
BEATLES = ("john", "paul", "george", "ringo")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Authorities and the server's certificate."""
    return World(tmp_path)


@pytest.fixture
def caller(world: World) -> Caller:
    """A public host that may speak."""
    return world.host(NAME)


def begun(link: Dialogue, code: str = "net/individual") -> None:
    """EHLO and MAIL."""
    assert link.code(f"EHLO {NAME}") == 250
    assert link.code(f"MAIL FROM:<ann@beta.example> MPC={code}") == 250


@pytest.mark.covers("AMTP-10", "AMTP-11", "ITP-4b")
def test_what_is_announced_is_refused_at_mail(world: World, caller: Caller) -> None:
    rules = [rule("no politics", "refuse", {"mpc": "pol/*"})]
    with (
        world.name_server() as dns,
        OutriderServer(world.settings(dns, policy={"rules": rules})),
        caller.connect(world.address) as link,
    ):
        assert link.declarations(NAME) == ["DENY=pol/*"]
        assert link.say("MAIL FROM:<a@beta.example> MPC=pol/optout").startswith(VIOLATION)
        assert link.code("MAIL FROM:<a@beta.example> MPC=pol/nothing") == 550
        assert link.code("MAIL FROM:<a@beta.example> MPC=pol") == 501
        assert link.code("MAIL FROM:<a@beta.example> MPC=mpc/individual") == 250


@pytest.mark.covers("AMTP-11", "ITP-4a")
def test_four_recipients_of_whom_one_wants_it(world: World, caller: Caller) -> None:
    fans = {"recipient": ["@beatles.example"], "mpc": "com/optin"}
    rules = [rule("fans", "refuse", fans, unless={"recipient": "ringo@beatles.example"})]
    domains = {"beatles.example": {"deliver": MAILBOX, "users": list(BEATLES)}}
    settings = world.settings(None, policy={"rules": rules}, domains=domains)
    with world.name_server() as dns:
        settings["dns"] = {"servers": [f"{dns.address}:{dns.port}"]}
        with OutriderServer(settings) as server:
            with caller.connect(world.address) as link:
                assert link.declarations(NAME) == []
                assert link.code("MAIL FROM:<offers@beta.example> MPC=com/optin") == 250
                replies = [link.say(f"RCPT TO:<{name}@beatles.example>") for name in BEATLES]
                assert link.content(CONTENT).startswith(b"250 ")
            wait_mailbox(server, "ringo")
    assert [reply[:3] for reply in replies] == [b"550", b"550", b"550", b"250"]
    assert all(reply.startswith(VIOLATION) for reply in replies[:3])


@pytest.mark.covers("AMTP-14")
def test_a_message_with_an_mpc_field_is_refused_at_its_end(world: World, caller: Caller) -> None:
    with (
        world.name_server() as dns,
        OutriderServer(world.settings(dns)),
        caller.connect(world.address) as link,
    ):
        begun(link)
        assert link.code("RCPT TO:<bob@alpha.example>") == 250
        assert link.content(b"mpc: com/optin\r\n" + CONTENT).startswith(b"550 5.6.0 ")
        begun(link)
        assert link.code("RCPT TO:<bob@alpha.example>") == 250
        large = b"MPC: com/optin\r\n" + CONTENT + b"x" * 70 + b"\r\n"
        assert link.content(large + b"line\r\n" * 40_000).startswith(b"550 5.6.0 ")


@pytest.mark.covers("AMTP-18")
def test_what_came_over_a_public_connection_goes_over_no_other(world: World, caller: Caller) -> None:
    aliases = {"away": ["ann@far.example"], "near": ["ann@inside.example"]}
    domains = {"alpha.example": {"deliver": MAILBOX, "users": ["ann"], "aliases": aliases}}
    settings = world.settings(
        None,
        domains=domains,
        listeners=[
            {"protocol": "amtp", "address": world.address},
            {"protocol": "smtp", "address": world.address, "port": 25},
        ],
        routes=dict.fromkeys(("inside.example", "backup.example"), f"smtp:[{world.address}]:2525"),
        relay={"domains": ["backup.example"], "networks": []},
    )
    with world.name_server() as dns:
        settings["dns"] = {"servers": [f"{dns.address}:{dns.port}"]}
        with OutriderServer(settings):
            with caller.connect(world.address) as link:
                begun(link)
                refused = link.say("RCPT TO:<away@alpha.example>")
                assert refused.startswith(b"550 5.7.1 ")
                assert b"public AMTP connection" in refused
                assert link.code("RCPT TO:<near@alpha.example>") == 250
                assert link.code("RCPT TO:<x@backup.example>") == 250
                assert link.code("RCPT TO:<x@elsewhere.example>") == 550
            lines = ["EHLO c.example", "MAIL FROM:<eve@c.example>", "RCPT TO:<away@alpha.example>"]
            replies = smtp_dialogue(world.address, 25, *map(str.encode, lines))
            assert replies[-1].startswith(b"250 ")


PASSWORD = "correct horse battery"


class _Site(OutriderServer):
    """A server with two logins, made by the command before it starts."""

    def start(self) -> None:
        if not (self.folder / "users").exists():
            for login in ("ann", "bob"):
                sender = ("--sender", f"{login}@alpha.example", "--sender", f"shop-{login}@alpha.example")
                self.cli("user", "add", login, *sender, stdin=f"{PASSWORD}\n".encode())
        super().start()


def submit(address: str, login: str, sender: str, content: bytes) -> list[bytes]:
    """A message by submission under TLS from the start; the replies from MAIL on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    response = base64.b64encode(f"\0{login}\0{PASSWORD}".encode()).decode()
    with (
        socket.create_connection((address, 465), PATIENCE_S) as plain,
        context.wrap_socket(plain) as link,
        link.makefile("rb") as wire,
    ):
        dialogue = Dialogue(link, wire, read_reply(wire))
        assert dialogue.code("EHLO me.example") == 250
        assert dialogue.code(f"AUTH PLAIN {response}") == 235
        mail = dialogue.say(f"MAIL FROM:<{sender}>")
        recipient = dialogue.say("RCPT TO:<carol@alpha.example>")
        return [mail, recipient, dialogue.content(content)]


@pytest.mark.covers("AMTP-15", "AMTP-9")
def test_an_account_submits_with_its_own_code_and_no_other(world: World) -> None:
    accounts = {"ann": "com/customer", "shop-bob@alpha.example": "com/optin"}
    settings = world.settings(
        None,
        listeners=[{"protocol": "submission", "address": world.address, "tls": "implicit"}],
        domains={"alpha.example": {"deliver": MAILBOX, "users": ["carol"]}},
        auth={"users_file": "{dir}/users"},
        mpc={"accounts": accounts},
    )
    tries = [
        ("ann", "ann@alpha.example", b"", b"com/customer"),
        ("ann", "ann@alpha.example", b"MPC: com/customer\r\n", b"com/customer"),
        ("ann", "ann@alpha.example", b"MPC: com/optin\r\n", None),
        ("bob", "shop-bob@alpha.example", b"", b"com/optin"),
        ("bob", "bob@alpha.example", b"", b""),
        ("bob", "bob@alpha.example", b"MPC: mpc/individual\r\n", None),
    ]
    with _Site(settings) as server:
        arrived = 0
        for login, sender, field, expected in tries:
            content = field + b"From: <" + sender.encode() + b">\r\nSubject: x\r\n\r\nbody\r\n"
            *_, end = submit(world.address, login, sender, content)
            if expected is None:
                assert end.startswith(VIOLATION), (sender, field, end)
                continue
            assert end.startswith(b"250 "), end
            arrived += 1
            message = wait_mailbox(server, "carol", arrived)[-1]
            found = [line for line in headers_of(message).split(b"\n") if line.startswith(b"MPC:")]
            assert found == ([b"MPC: " + expected] if expected else [])


@pytest.mark.covers("AMTP-14")
@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"MPC: com/optin\r\n" + CONTENT, [b"MPC: com/optin"]),
        (b"MPC: com/nonsense\r\n" + CONTENT, [b"MPC: com/nonsense"]),
        (b"MPC: com/optin\r\nMPC: com/optout\r\n" + CONTENT, [b"MPC: com/optin", b"MPC: com/optout"]),
        (CONTENT, [b"MPC: ngo/customer"]),
    ],
)
def test_a_trusted_peers_single_field_becomes_the_envelopes_code(
    content: bytes, fields: list[bytes], world: World
) -> None:
    mpc = {
        "field_from": ["127.0.0.0/8"],
        "assigned": [{"value": "ngo/customer", "sender_domains": ["beta.example"]}],
    }
    listeners = [{"protocol": "smtp", "address": world.address, "port": 25}]
    with OutriderServer(world.settings(None, listeners=listeners, mpc=mpc)) as server:
        sender = b"ann@beta.example" if fields == [b"MPC: ngo/customer"] else b"ann@gamma.example"
        lines = [b"EHLO c.example", b"MAIL FROM:<" + sender + b">", b"RCPT TO:<bob@alpha.example>"]
        replies = smtp_dialogue(world.address, 25, *lines, b"DATA", content + b".")
        assert replies[-1].startswith(b"250 ")
        [message] = wait_mailbox(server, "bob")
        [received] = server.wait_event("received")
        shown = server.cli("explain", str(received["id"])).stdout.decode()
    found = [line for line in headers_of(message).split(b"\n") if line.startswith(b"MPC")]
    assert found == fields
    assert ("mpc = " in shown) is (len(fields) == 1 and b"nonsense" not in fields[0])


@pytest.mark.covers("AMTP-14")
def test_a_field_of_anybody_else_is_content(world: World) -> None:
    listeners = [{"protocol": "smtp", "address": world.address, "port": 25}]
    settings = world.settings(None, listeners=listeners, mpc={"field_from": ["192.0.2.0/24"]})
    with OutriderServer(settings) as server:
        lines = [b"EHLO c.example", b"MAIL FROM:<a@b.example>", b"RCPT TO:<bob@alpha.example>"]
        smtp_dialogue(world.address, 25, *lines, b"DATA", b"MPC: com/optin\r\n" + CONTENT + b".")
        [message] = wait_mailbox(server, "bob")
        [received] = server.wait_event("received")
        shown = server.cli("explain", str(received["id"])).stdout.decode()
    assert headers_of(message).count(b"MPC: com/optin") == 1
    assert "mpc = " not in shown
