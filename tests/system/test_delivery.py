"""Where mail ends: Maildir, Dovecot by LMTP, pipes, aliases, detail, catch-all, other names of a domain."""

from __future__ import annotations

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.dovecot import DovecotServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks
from tests.system.sites import (
    CONTENT,
    body_of,
    headers_of,
    mailbox,
    queue_id,
    site,
    smtp_dialogue,
    wait_mailbox,
)
from tests.system.test_interop_sending import EIGHT_BIT


@pytest.mark.covers("SMTP-8")
@pytest.mark.parametrize("how", ["tcp", "unix"])
def test_dovecot_takes_by_lmtp_and_shows_by_imap(how: str, address: str, swaks_client: Swaks) -> None:
    with DovecotServer(loopback_address(), users=["ann", "bob"]) as dovecot:
        place = f"[{dovecot.address}]:{dovecot.lmtp_port}" if how == "tcp" else f"unix:{dovecot.lmtp_socket}"
        domains = {"alpha.example": {"deliver": f"lmtp:{place}"}}
        with OutriderServer(site("alpha.example", address, domains=domains)) as server:
            result = swaks_client.send(
                address, 25, recipients=["ann@alpha.example", "bob@alpha.example"], content=EIGHT_BIT
            )
            assert result.accepted, result.transcript
            server.wait_event("delivered", 2, id=queue_id(result))
        for user in ("ann", "bob"):
            [message] = dovecot.imap_fetch(user)
            assert body_of(message) == body_of(EIGHT_BIT)


@pytest.mark.covers("SMTP-8", "SMTP-6", "SEC-174")
def test_lmtp_answers_for_each_recipient(address: str, swaks_client: Swaks) -> None:
    with DovecotServer(loopback_address(), users=["ann"], full=["zoe"]) as dovecot:
        domains = {
            "alpha.example": {"deliver": f"lmtp:[{dovecot.address}]:{dovecot.lmtp_port}"},
            "client.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["eve"]},
        }
        with OutriderServer(site("alpha.example", address, domains=domains)) as server:
            result = swaks_client.send(
                address,
                25,
                sender="eve@client.example",
                recipients=["ann@alpha.example", "zoe@alpha.example", "nobody@alpha.example"],
                content=CONTENT,
            )
            assert result.accepted, result.transcript
            number = queue_id(result)
            server.wait_event("delivered", id=number, recipient="ann@alpha.example")
            [full] = server.wait_event("failed", id=number, recipient="zoe@alpha.example")
            server.wait_event("failed", id=number, recipient="nobody@alpha.example")
            # One report for both.
            [report] = wait_mailbox(server, "eve")
        assert len(dovecot.messages("ann")) == 1
        assert dovecot.messages("zoe") == []
    assert str(full["status"]).startswith("5.2.2")
    assert report.count(b"Action: failed") == 2


@pytest.mark.covers("SMTP-8")
def test_aliases_detail_catch_all_and_other_names(address: str, swaks_client: Swaks) -> None:
    domains = {
        "alpha.example": {
            "deliver": "maildir:{dir}/mail/{user}",
            "users": ["ann", "bob"],
            "aliases": {"staff": ["ann@alpha.example", "bob@alpha.example"], "postmaster": "ann"},
        },
        "alias.example": {"domain_alias_of": "alpha.example"},
        "open.example": {
            "deliver": "maildir:{dir}/open/{user}",
            "users": [],
            "catch_all": "bob@alpha.example",
        },
    }
    with OutriderServer(site("alpha.example", address, domains=domains)) as server:
        for recipient in (
            "staff@alpha.example",
            "ann+shop@alpha.example",
            "postmaster",
            "ann@alias.example",
            "anything@open.example",
        ):
            assert swaks_client.send(address, 25, recipients=[recipient], content=CONTENT).accepted, recipient
        ann = wait_mailbox(server, "ann", 4)
        wait_mailbox(server, "bob", 2)
        replies = smtp_dialogue(
            address, 25, b"EHLO c.example", b"MAIL FROM:<>", b"RCPT TO:<nobody@alias.example>"
        )
    assert any(b"Delivered-To: ann+shop@alpha.example" in headers_of(message) for message in ann)
    assert replies[-1].startswith(b"550 5.1.1 ")


@pytest.mark.covers("SMTP-8", "SMTP-6")
def test_a_pipe_takes_mail_and_its_exit_code_counts(address: str, swaks_client: Swaks) -> None:
    domains = {
        "alpha.example": {"deliver": "pipe:/bin/sh {dir}/taker {dir}/taken {user}"},
        "fail.example": {"deliver": "pipe:/bin/sh {dir}/failer"},
        "client.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["eve"]},
    }
    settings = site("alpha.example", address, domains=domains, delivery={"pipe_user": "nobody"})
    with _WithScripts(
        settings, {"taker": 'cat > "$1/$2"', "failer": "echo no such room here; exit 67"}
    ) as server:
        taken = swaks_client.send(
            address, 25, sender="eve@client.example", recipients=["ann@alpha.example"], content=CONTENT
        )
        server.wait_event("delivered", id=queue_id(taken), protocol="pipe")
        message = (server.folder / "taken/ann").read_bytes()
        swaks_client.send(
            address, 25, sender="eve@client.example", recipients=["ann@fail.example"], content=CONTENT
        )
        [report] = wait_mailbox(server, "eve")
    assert body_of(message) == body_of(CONTENT)
    # EX_NOUSER of sysexits.h.
    assert b"Status: 5.1.1" in report


class _WithScripts(OutriderServer):
    """A server with little programs in its folder."""

    def __init__(self, settings: dict[str, object], scripts: dict[str, str]) -> None:
        super().__init__(settings)
        self._scripts = scripts

    def start(self) -> None:
        for name, text in self._scripts.items():
            (self.folder / name).write_text(text)
        taken = self.folder / "taken"
        taken.mkdir(exist_ok=True)
        taken.chmod(0o777)
        super().start()


@pytest.mark.covers("SMTP-4", "SEC-169")
def test_a_message_that_goes_round_ends(address: str, swaks_client: Swaks) -> None:
    content = b"Received: by somewhere\r\n" * 4 + CONTENT
    with OutriderServer(site("alpha.example", address, limits={"hops": 3})) as server:
        result = swaks_client.send(address, 25, recipients=["ann@alpha.example"], content=content)
        assert mailbox(server, "ann") == []
    assert "554 5.4.6 Too many hops: this message goes round in a loop" in result.replies()
