"""Dovecot as a peer: takes mail by LMTP, shows it by IMAP."""

from __future__ import annotations

import imaplib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.mailserver import lines
from tests.peers.rooms import MAIL_USER, PATIENCE_S, USERS, Room, wait_until
from tests.peers.warden import WARDEN

PASSWORD = "secret"
_MAIL_ID = USERS[MAIL_USER][0]


class DovecotServer:
    """A running Dovecot with LMTP on an address and on a socket, and IMAP.

    Users are known by the local part of their address, whatever the domain; others are refused at RCPT.
    Those in `full` are known but have no room left: LMTP refuses them, and only them, after the data.
    """

    def __init__(
        self,
        address: str,
        *,
        lmtp_port: int = 24,
        imap_port: int = 143,
        users: Sequence[str] = ("ann", "bob"),
        full: Sequence[str] = (),
    ) -> None:
        self.address = address
        self.lmtp_port = lmtp_port
        self.imap_port = imap_port
        self._users = users
        self._full = full

    def __enter__(self) -> Self:
        self.room = Room("dovecot", f"dovecot {self.address}")
        self._socket_folder = Path(tempfile.mkdtemp(prefix="outrider-lmtp-"))
        WARDEN.register(self._socket_folder)
        try:
            self._configure()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.room.close()
        shutil.rmtree(self._socket_folder, ignore_errors=True)
        WARDEN.forget(self._socket_folder)

    @property
    def lmtp_socket(self) -> str:
        """The path of the LMTP socket (a link, as socket paths must be short)."""
        return os.fspath(self._socket_folder / "lmtp")

    def start(self) -> None:
        """Start the server (again, after `stop`) and wait until it accepts connections."""
        self.room.start("/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/dovecot.conf")
        for port in (self.imap_port, self.lmtp_port):
            self.room.wait_listening(self.address, port)

    def stop(self) -> None:
        """Stop the server, keeping the mailboxes for another `start`."""
        self.room.stop()

    def log(self) -> str:
        """Return all that the server has logged."""
        return self.room.log()

    def messages(self, user: str) -> list[bytes]:
        """Return what lies in a user's mailbox, oldest first, as stored."""
        return self.room.maildir(f"mail/{user}")

    def wait_messages(self, user: str, count: int = 1, patience_s: float = PATIENCE_S) -> list[bytes]:
        """Wait until at least `count` messages have arrived and return them."""
        wait_until(lambda: len(self.messages(user)) >= count, f"{count} messages for {user}", patience_s)
        return self.messages(user)

    def imap_fetch(self, user: str) -> list[bytes]:
        """Log in as the user and fetch every message of the inbox, with CRLF line ends."""
        with imaplib.IMAP4(self.address, self.imap_port, timeout=PATIENCE_S) as client:
            client.login(user, PASSWORD)
            client.select("INBOX", readonly=True)
            _, [found] = client.search(None, "ALL")
            fetched = [client.fetch(number, "(BODY.PEEK[])")[1] for number in found.decode().split()]
        return [answer[0][1] for answer in fetched if isinstance(answer[0], tuple)]

    def _configure(self) -> None:
        self.room.write("etc/dovecot/users", "".join(self._user_line(user) for user in self._users))
        with (self.room.path / "etc/dovecot/users").open("a") as users:
            users.writelines(self._user_line(user, "userdb_quota_rule=*:bytes=1") for user in self._full)
        self.room.folder("run/dovecot")
        self.room.write("etc/dovecot/dovecot.conf", self._configuration())
        (self._socket_folder / "lmtp").symlink_to(self.room.path / "run/dovecot/lmtp")

    @staticmethod
    def _user_line(user: str, extra: str = "") -> str:
        return f"{user}:{{PLAIN}}{PASSWORD}:{_MAIL_ID}:{_MAIL_ID}::/mail/{user}::{extra}\n"

    def _configuration(self) -> str:
        return lines(
            "protocols = imap lmtp",
            f"listen = {self.address}",
            "base_dir = /run/dovecot",
            "state_dir = /run/dovecot",
            "log_path = /var/log/dovecot",
            "ssl = no",
            "disable_plaintext_auth = no",
            "auth_username_format = %n",
            "mail_location = maildir:~",
            "first_valid_uid = 1",
            "first_valid_gid = 1",
            "mail_plugins = quota",
            "quota_full_tempfail = no",
            "plugin {",
            "  quota = count:User",
            "  quota_vsizes = yes",
            "  quota_grace = 0",
            "}",
            "passdb {",
            "  driver = passwd-file",
            "  args = /etc/dovecot/users",
            "}",
            "userdb {",
            "  driver = passwd-file",
            "  args = /etc/dovecot/users",
            "}",
            "service imap-login {",
            "  inet_listener imap {",
            f"    port = {self.imap_port}",
            "  }",
            "  inet_listener imaps {",
            "    port = 0",
            "  }",
            "}",
            "service lmtp {",
            "  inet_listener lmtp {",
            f"    port = {self.lmtp_port}",
            "  }",
            "  unix_listener lmtp {",
            "    mode = 0666",
            "  }",
            "}",
        )
