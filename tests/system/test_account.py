"""Started as root, with `user`: ports below 1024 are open, everything else is done as that account."""

from __future__ import annotations

import pwd
import re
from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.system.sites import Settings, queued, site, smtp_dialogue
from tests.system.test_configuration import assert_one_line, run, write

NOBODY = pwd.getpwnam("nobody")


def as_nobody(address: str, **tables: object) -> Settings:
    """A site that runs as nobody and keeps mail where nobody may write."""
    settings = {**site("alpha.example", address, **tables), "user": "nobody"}  # type: ignore[arg-type]
    settings["domains"]["alpha.example"]["deliver"] = "maildir:{dir}/data/mail/{user}"
    return settings


def transaction(address: str, recipient: str) -> None:
    """Send a small message."""
    replies = smtp_dialogue(
        address,
        25,
        b"EHLO c.example",
        b"MAIL FROM:<>",
        f"RCPT TO:<{recipient}>".encode(),
        b"DATA",
        b"Subject: x\r\n\r\nx\r\n.",
    )
    assert replies[-1].startswith(b"250 "), replies


@pytest.mark.covers("SMTP-8", "SMTP-9")
def test_the_server_runs_and_delivers_as_the_account_and_reloads(address: str) -> None:
    with OutriderServer(as_nobody(address)) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        for word in ("Uid", "Gid"):
            found = re.search(rf"^{word}:(.*)$", status, re.MULTILINE)
            assert found is not None
            assert {int(number) for number in found[1].split()} == {65534}
        transaction(address, "ann@alpha.example")
        [event] = server.wait_event("delivered")
        assert event["protocol"] == "maildir"
        mail = server.folder / "data/mail/ann"
        assert mail.stat().st_uid == NOBODY.pw_uid
        server.cli("reload")
        transaction(address, "bob@alpha.example")
        server.wait_event("delivered", 2)


@pytest.mark.covers("SMTP-6")
def test_commands_of_root_leave_nothing_of_root_in_the_spool(address: str) -> None:
    routes = {"beta.example": f"smtp:[{loopback_address()}]:25"}
    with OutriderServer(as_nobody(address, routes=routes)) as server:
        transaction(address, "bob@beta.example")
        server.stop()
        server.cli("queue", "hold", "--all")
        owners = {path.lstat().st_uid for path in (server.folder / "data/spool").rglob("*")}
        assert owners == {NOBODY.pw_uid}
        server.start()
        [row] = queued(server)
        assert row["state"] == "held"
        server.cli("queue", "reroute", row["id"], "--to", "discard:")
        server.cli("queue", "release", row["id"])
        server.wait_event("delivered", id=row["id"])


@pytest.mark.covers("TLS-7")
def test_a_key_that_the_account_cannot_read_is_found_at_the_start(
    tmp_path: Path, address: str, authority: CertificateAuthority
) -> None:
    path = write(tmp_path, as_nobody(address, tls=authority.issue("mx.alpha.example")))
    assert_one_line(run(path, "serve"), path, "tls.key", "cannot be read by the account nobody", "chown")
