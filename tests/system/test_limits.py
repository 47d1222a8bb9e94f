"""Limits, as a client meets them: each with a clear reply, and none that stops the others (SMTP-9)."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.sites import CONTENT, mailbox, read_reply, site, smtp_dialogue

EHLO, MAIL, RCPT = b"EHLO c.example", b"MAIL FROM:<eve@c.example>", b"RCPT TO:<ann@alpha.example>"


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize(
    ("tables", "lines", "last"),
    [
        ({"limits": {"message_size": 1000}}, [EHLO, MAIL + b" SIZE=1001"], b"552 5.3.4 "),
        (
            {"limits": {"message_size": 1000}},
            [EHLO, MAIL, RCPT, b"DATA", b"x" * 2000 + b"\r\n."],
            b"552 5.3.4 ",
        ),
        (
            {"limits": {"header_size": 500}},
            [EHLO, MAIL, RCPT, b"DATA", b"A: " + b"x" * 900 + b"\r\n."],
            b"552 5.3.4 ",
        ),
        ({"limits": {"recipients": 1}}, [EHLO, MAIL, RCPT, b"RCPT TO:<bob@alpha.example>"], b"452 4.5.3 "),
        ({"limits": {"errors": 3}}, [EHLO, *[b"WHAT"] * 4], b"421 4.7.0 "),
        ({"limits": {"junk_commands": 3}}, [EHLO, b"NOOP", b"NOOP", b"NOOP", b"NOOP"], b"421 4.7.0 "),
        ({"limits": {"line_length": 600}}, [b"NOOP " + b"x" * 700], b"500 5.5.2 "),
        ({"spool": {"reserve": 2**60}}, [EHLO, MAIL], b"452 4.3.1 "),
        ({"limits": {"memory": 1}}, [EHLO, MAIL], b"452 4.3.1 "),
        ({"limits": {"messages_per_session": 1}}, [EHLO, MAIL, RCPT, b"DATA", b".", MAIL], b"421 4.7.0 "),
    ],
    ids=["size", "content", "header", "recipients", "errors", "junk", "line", "disk", "memory", "messages"],
)
def test_a_limit(tables: dict[str, Any], lines: list[bytes], last: bytes, address: str) -> None:
    with OutriderServer(site("alpha.example", address, **tables)) as server:
        assert smtp_dialogue(address, 25, *lines)[-1].startswith(last)
        assert smtp_dialogue(address, 25, b"QUIT")[-1].startswith(b"221 ")
        assert server.is_running()


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize("which", ["connections_per_address", "max_connections"])
def test_more_connections_than_allowed_are_turned_away_until_one_ends(which: str, address: str) -> None:
    settings = site("alpha.example", address, relay={"networks": []})
    if which == "max_connections":
        settings["listeners"][0]["max_connections"] = 2
    else:
        settings["limits"] = {which: 2}
    with OutriderServer(settings), contextlib.ExitStack() as open_links:

        def greeting() -> bytes:
            link = open_links.enter_context(socket.create_connection((address, 25), timeout=PATIENCE_S))
            return read_reply(open_links.enter_context(link.makefile("rb")))

        assert [greeting()[:3] for _ in range(3)] == [b"220", b"220", b"421"]
        open_links.close()
        wait_until(
            lambda: smtp_dialogue(address, 25, b"QUIT")[0].startswith(b"220 "), "room for another connection"
        )


@pytest.mark.covers("SMTP-9")
def test_a_silent_client_is_sent_away(address: str) -> None:
    with (
        OutriderServer(site("alpha.example", address, limits={"command_timeout": 1})),
        socket.create_connection((address, 25), timeout=PATIENCE_S) as link,
        link.makefile("rb") as wire,
    ):
        assert read_reply(wire).startswith(b"220 ")
        assert read_reply(wire).startswith(b"421 4.4.2 ")
        assert wire.read() == b""


@pytest.mark.covers("SMTP-1")
def test_no_smuggling_and_no_stray_line_ends(address: str) -> None:
    smuggled = CONTENT + b"\n.\r\nMAIL FROM:<evil@c.example>\r\n."
    with OutriderServer(site("alpha.example", address)) as server:
        replies = smtp_dialogue(address, 25, EHLO, MAIL, RCPT, b"DATA", smuggled, b"NOOP")
        assert [reply[:9] for reply in replies[-2:]] == [b"550 5.6.0", b"250 2.0.0"]
        assert mailbox(server, "ann") == []


@pytest.mark.covers("SEC-210", "SEC-80")
def test_what_a_peer_says_stays_on_its_line_of_the_log(address: str) -> None:
    hello = b'EHLO [203.0.113.7]\x0b\x1b[2J\xe2\x80\xa8{"event":"ready"}'
    strange = "eve\u2028\u202eready@c.example"
    with OutriderServer(site("alpha.example", address)) as server:
        before = len(server.log_events())
        smtp_dialogue(
            *(address, 25),
            *(
                hello,
                EHLO,
                f"MAIL FROM:<{strange}> SMTPUTF8".encode(),
                b"RCPT TO:<nobody\x1b[2J@alpha.example>",
            ),
        )
        smtp_dialogue(address, 25, EHLO, MAIL, b"RCPT TO:<nobody@alpha.example>")
        server.wait_event("refused", about="nobody@alpha.example")
        # Every line is one event, and nothing in it can move a terminal's cursor.
        lines = server.log().rstrip("\n").split("\n")
        assert len(server.log_events()) == len(lines) > before
        assert len(server.log_events("ready")) == 1
        assert "\x1b" not in server.log()
        assert "\u2028" not in server.log()
