"""Small sites for system tests: the settings that most of them share, and what is read back from them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from tests.peers.certificates import TlsFiles
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, read_maildir, wait_until
from tests.peers.tools import SwaksResult

Settings = dict[str, Any]

CONTENT = (
    b"From: Ann <ann@alpha.example>\r\nTo: bob@beta.example\r\nSubject: system test\r\n"
    b"Message-ID: <1@alpha.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n"
    b".a line that begins with a dot\r\n\r\nFrom here on\r\n"
)


def body_of(content: bytes) -> bytes:
    """What follows the header section, with LF line ends."""
    return content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def headers_of(message: bytes) -> bytes:
    """The header section, with LF line ends."""
    return message.replace(b"\r\n", b"\n").partition(b"\n\n")[0]


def site(
    name: str,
    address: str,
    *,
    users: Sequence[str] = ("ann", "bob"),
    tls: TlsFiles | None = None,
    routes: Mapping[str, Any] | None = None,
    **tables: Any,
) -> Settings:
    """Settings of a host `mx.NAME` on `address`, port 25, that keeps its users' mail in Maildirs.

    Keywords are top-level tables; they are added to the ones made here, key by key. Retries are quick.
    """
    settings: Settings = {
        "hostname": f"mx.{name}",
        "listeners": [{"protocol": "smtp", "address": address, "port": 25}],
        "dns": {"servers": []},
        "domains": {name: {"deliver": "maildir:{dir}/mail/{user}", "users": list(users)}},
        "relay": {"networks": ["127.0.0.0/8"]},
        "net": {"private_destinations": ["127.0.0.0/8"], "source_address": address},
        "routes": dict(routes or {}),
        "delivery": {"retry": [0.5], "jitter": 0.0, "delay_warning": 0},
    }
    if tls is not None:
        settings["tls"] = tls_table(tls)
    for key, value in tables.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, Mapping) else value
    return settings


def tls_table(tls: TlsFiles) -> Settings:
    """The [tls] table that shows these files and trusts their authority."""
    return {
        "certificate": tls.certificate,
        "key": tls.key,
        "public_ca": [str(tls.authority)],
    }


def mailbox(server: OutriderServer, user: str) -> list[bytes]:
    """What lies in a user's Maildir, oldest first."""
    return read_maildir(server.folder / "mail" / user)


def wait_mailbox(
    server: OutriderServer, user: str, count: int = 1, patience_s: float = PATIENCE_S
) -> list[bytes]:
    """Wait for `count` messages in a user's Maildir and return them."""
    wait_until(lambda: len(mailbox(server, user)) >= count, f"{count} messages for {user}", patience_s)
    return mailbox(server, user)


def queued(server: OutriderServer, *filters: str) -> list[dict[str, Any]]:
    """The rows of `outrider queue list --json`."""
    return json_rows(server, "queue", "list", *filters)


def json_rows(server: OutriderServer, *words: str, check: bool = True) -> list[dict[str, Any]]:
    """The objects that a command prints with --json, one a line."""
    shown = server.cli(*words, "--json", check=check).stdout.decode()
    return [json.loads(line) for line in shown.split("\n") if line]


def queue_id(result: SwaksResult) -> str:
    """The message id in the 250 after the data."""
    [found] = [
        match for reply in result.replies() if (match := re.search(r"^250 2\.\S+ .*?(?:as|id) (\S+)", reply))
    ]
    return found[1]


def smtp_dialogue(address: str, port: int, *lines: bytes) -> list[bytes]:
    """Say lines one by one, each after the reply to the one before; the replies, the greeting first."""
    with socket.create_connection((address, port), timeout=PATIENCE_S) as link, link.makefile("rb") as wire:
        replies = [read_reply(wire)]
        for line in lines:
            link.sendall(line + b"\r\n")
            replies.append(read_reply(wire))
        return replies


def read_reply(wire: Any) -> bytes:
    """One whole reply; b"" when the server has closed."""
    reply = b""
    while line := wire.readline():
        reply += line
        if line[3:4] != b"-":
            break
    return reply


def utf8_transaction(address: str, sender: str, recipient: str, content: bytes) -> bytes:
    """Send one message with SMTPUTF8 to a server on port 25; the reply after the data."""
    replies = smtp_dialogue(
        address,
        25,
        b"EHLO client.example",
        f"MAIL FROM:<{sender}> SMTPUTF8 BODY=8BITMIME".encode(),
        f"RCPT TO:<{recipient}>".encode(),
        b"DATA",
        content.replace(b"\r\n.", b"\r\n..") + b".",
    )
    return replies[-1]
