"""What all peer mail servers have in common: how they are described, started, asked and stopped."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.peers.certificates import TlsFiles
from tests.peers.rooms import PATIENCE_S, Room, wait_until
from tests.peers.tenant import Tenant

ClientTls = Literal["none", "may", "encrypt", "verify"]


@dataclass(frozen=True, slots=True)
class MailServerSettings:
    """How a peer mail server is to behave. Users exist in every local domain; others are refused at RCPT.
    The host is called `mx.<first local domain>` unless it is given a name.

    `relay_to` maps recipient domains to the address and port of their next hop; `"*"` takes all others.
    Hosts on loopback may send to any of them. `client_tls` is what the server asks of its next hops.
    `relay_to_tls_name` gives the name to verify for a domain when `client_tls` is "verify".
    `accounts` are user names and passwords for SMTP AUTH; `credentials` those it uses towards next hops.
    """

    hostname: str = ""
    local_domains: Sequence[str] = ("peer.example",)
    users: Sequence[str] = ("ann", "bob")
    relay_to: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    relay_to_tls_name: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    require_tls: bool = False
    client_tls: ClientTls = "none"
    accounts: Mapping[str, str] = field(default_factory=dict)
    credentials: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that waits in a peer's queue."""

    queue_id: str
    sender: str
    recipients: tuple[str, ...]
    reason: str


class MailServer(Tenant):
    """A real mail server on a loopback address of its own; use it by `with`.

    Subclasses say which image they run from, write the configuration, and know the server's commands.
    """

    image_name: str
    # What listens in the foreground, as the room sees it.
    foreground: tuple[str, ...]

    def __init__(self, address: str, port: int = 25, **settings: object) -> None:
        self.address = address
        self.port = port
        self.settings = MailServerSettings(**settings)  # type: ignore[arg-type]

    @property
    def hostname(self) -> str:
        """The name it greets with."""
        return self.settings.hostname or f"mx.{self.settings.local_domains[0]}"

    def make_room(self) -> Room:
        return Room(self.image_name, f"{self.image_name} {self.address}:{self.port}")

    def move_in(self) -> None:
        self.configure()
        self.start()

    def start(self) -> None:
        """Start the server (again, after `stop`) and wait until it accepts connections."""
        self.room.start(*self.foreground)
        self.room.wait_listening(self.address, self.port)

    def stop(self) -> None:
        """Stop the server, keeping queue and mailboxes for another `start`."""
        self.room.stop()

    @abc.abstractmethod
    def configure(self) -> None:
        """Write the configuration into the room."""

    @abc.abstractmethod
    def queue(self) -> list[QueuedMessage]:
        """List the messages that wait."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Have every waiting message tried now."""

    def send(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        """Hand a message (lines ending CRLF or LF) to the server as its own local users do."""
        text = content.replace(b"\r\n", b"\n")
        self.room.run("/usr/sbin/sendmail", "-i", "-f", sender, "--", *recipients, stdin=text)

    def messages(self, user: str) -> list[bytes]:
        """Return what was delivered to a user's mailbox, oldest first, with line ends as stored (LF)."""
        return self.room.maildir(f"mail/{user}")

    def wait_messages(self, user: str, count: int = 1, patience_s: float = PATIENCE_S) -> list[bytes]:
        """Wait until at least `count` messages have arrived and return them."""
        try:
            wait_until(lambda: len(self.messages(user)) >= count, f"{count} messages for {user}", patience_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.image_name} has {len(self.messages(user))}") from error
        return self.messages(user)

    def wait_queue(self, count: int, patience_s: float = PATIENCE_S) -> list[QueuedMessage]:
        """Wait until the queue holds `count` messages and return them: a server reads it after its start."""
        wait_until(
            lambda: len(self.queue()) == count,
            f"{count} messages in the queue of {self.image_name}",
            patience_s,
        )
        return self.queue()

    def wait_queue_empty(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until no message waits in the queue."""
        wait_until(lambda: not self.queue(), f"the queue of {self.image_name} to empty", patience_s)

    def wait_log(self, pattern: str, patience_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait until the log matches the regular expression and return the first match."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found.extend(re.finditer(pattern, self.log()))
            return bool(found)

        wait_until(seen, f"{pattern!r} in the log of {self.image_name}", patience_s)
        return found[0]

    def log(self) -> str:
        """Return all that the server has logged."""
        return self.room.log()

    def name_next_hops(self) -> None:
        """Make the names of next hops known, for servers that verify a certificate against the route."""
        settings = self.settings
        names = {name: settings.relay_to[domain][0] for domain, name in settings.relay_to_tls_name.items()}
        self.room.write("etc/hosts", "".join(f"{host} {name}\n" for name, host in names.items()))

    def tls_paths(self, owner: str | None = None) -> tuple[str, str, str]:
        """Copy the TLS files in; return certificate, key and authority as the server sees them."""
        files = self.settings.tls
        assert files is not None
        certificate = self.room.copy_in(files.certificate, "tls/certificate.pem")
        key = self.room.copy_in(files.key, "tls/key.pem", mode=0o600, owner=owner)
        authority = self.room.copy_in(files.authority, "tls/authority.pem")
        return certificate, key, authority


def lines(*parts: str | None) -> str:
    """Join configuration lines, leaving out those that are None."""
    return "".join(f"{part}\n" for part in parts if part is not None)
