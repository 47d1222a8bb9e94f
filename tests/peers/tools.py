"""Small SMTP programs as peers: swaks (scripted client), smtp-source (load) and smtp-sink (black hole)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.peers.certificates import TlsFiles
from tests.peers.rooms import Room
from tests.peers.tenant import Tenant


@dataclass(frozen=True, slots=True)
class SwaksResult:
    """What swaks did: its exit status (0 = message accepted), and the dialogue it printed."""

    status: int
    transcript: str

    @property
    def accepted(self) -> bool:
        """Tell whether the server took the message."""
        return self.status == 0

    def sent(self) -> list[str]:
        """Return the lines that swaks sent outside the message's content."""
        return re.findall(r"^ (?:->|~>) (.*?)\r?$", self.transcript, re.MULTILINE)

    def replies(self) -> list[str]:
        """Return the server's reply lines, in clear and within TLS, errors included."""
        return re.findall(r"^(?:<-|<~|<\*\*|<~\*) +(.*)$", self.transcript, re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What smtp-source did; the times are for information only."""

    status: int
    output: str
    duration_s: float
    began: float
    """When it was started, by `time.monotonic`."""


class Swaks(Tenant):
    """swaks in a room of its own, for as many calls as one likes."""

    def make_room(self) -> Room:
        return Room("swaks", "swaks")

    def move_in(self) -> None:
        """Nothing runs between the calls."""

    def send(
        self,
        address: str,
        port: int,
        *options: str,
        sender: str = "ann@client.example",
        recipients: Sequence[str] = ("ann@peer.example",),
        helo: str = "client.example",
        content: bytes | None = None,
        tls: TlsFiles | None = None,
    ) -> SwaksResult:
        """Send one message and return the dialogue; `options` are swaks' own (`--tls`, `--quit-after RCPT`).

        `tls` gives a client certificate and the authority to check the server by; it does not ask for TLS.
        """
        arguments = ["--server", address, "--port", str(port), "--from", sender, "--to", ",".join(recipients)]
        arguments += ["--helo", helo, "--timeout", "30", *options]
        if content is not None:
            # swaks ends the last line itself.
            self.room.write("tmp/content", content.replace(b"\r\n", b"\n").removesuffix(b"\n"))
            arguments += ["--data", "@/tmp/content"]
        if tls is not None:
            certificate = self.room.copy_in(tls.certificate, "tls/certificate.pem")
            key = self.room.copy_in(tls.key, "tls/key.pem")
            authority = self.room.copy_in(tls.authority, "tls/authority.pem")
            arguments += ["--tls-cert", certificate, "--tls-key", key, "--tls-ca-path", authority]
        done = self.room.run("swaks", *arguments, check=False)
        return SwaksResult(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def swaks(address: str, port: int, *options: str, **arguments: object) -> SwaksResult:
    """Send one message by swaks; see `Swaks.send`."""
    with Swaks() as program:
        return program.send(address, port, *options, **arguments)  # type: ignore[arg-type]


def smtp_source(
    address: str,
    port: int,
    *,
    messages: int = 1,
    sessions: int = 1,
    size_bytes: int = 1024,
    recipients_per_message: int = 1,
    sender: str = "ann@client.example",
    recipient: str = "ann@peer.example",
    helo: str = "client.example",
    one_connection: bool = True,
    options: Sequence[str] = (),
) -> SourceResult:
    """Send generated messages by Postfix's load generator over `sessions` connections at a time.

    With `one_connection` each session sends all of its messages over one connection, else one each.
    With more than one recipient per message the addresses are numbered: 1ann@..., 2ann@...
    """
    with Room("postfix", "smtp-source") as room:
        connection = ["-d"] if one_connection else []
        counts = ["-m", str(messages), "-s", str(sessions), "-l", str(size_bytes)]
        names = ["-r", str(recipients_per_message), "-f", sender, "-t", recipient, "-M", helo]
        began = time.monotonic()
        done = room.run(
            *("smtp-source", *connection, *counts, *names, *options, f"inet:{address}:{port}"), check=False
        )
        text = (done.stdout + done.stderr).decode(errors="replace")
        return SourceResult(done.returncode, text, time.monotonic() - began, began)


class SmtpSink(Tenant):
    """Postfix's smtp-sink on an address: takes everything, or refuses by the options given.

    With `keep` every transaction is kept as a file. `options` are smtp-sink's own, such as `-q DATA`
    (disconnect at a command) or `-r RCPT` (answer it 4yz), `-f RCPT` (answer it 5yz).
    """

    def __init__(self, address: str, port: int = 25, *options: str, keep: bool = True) -> None:
        self.address = address
        self.port = port
        self._options = options
        self._keep = ["-d", "/dump/%M."] if keep else []

    def make_room(self) -> Room:
        return Room("postfix", f"smtp-sink {self.address}:{self.port}")

    def move_in(self) -> None:
        self.room.folder("dump", owner="nobody")
        # -u: it refuses to stay root. The number is the length of the listen queue.
        self.room.start(
            *(
                "smtp-sink",
                "-u",
                "nobody",
                *self._keep,
                *self._options,
                f"inet:{self.address}:{self.port}",
                "200",
            )
        )
        self.room.wait_listening(self.address, self.port)

    def transactions(self) -> list[bytes]:
        """Return what was taken, each message after X- lines for its client, sender and recipients."""
        files = sorted((self.room.path / "dump").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_bytes() for path in files if path.stat().st_size]

    def stop(self) -> None:
        """Stop listening; what was taken stays readable until the block ends."""
        self.room.stop()
