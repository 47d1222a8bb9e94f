"""The server that is attacked, and what must hold of it afterwards whatever was done to it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from outrider.identity.credentials import format_user, make_user
from tests.attacks.wire import Wire
from tests.faults.sink import Sink
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER, OutriderServer
from tests.peers.rooms import body_files, read_maildir, wait_until

SMTP, SUBMISSION, SMTPS, NEXT_HOP = 2525, 2587, 2465, 2526
INLINE_LIMIT = 16_384
"""Octets: larger bodies go to files."""

Table = dict[str, object]


def settings(address: str, next_hop: str, friend: str, files: Mapping[str, object]) -> Table:
    """`here.example` has mailboxes, `open.example` is relayed to `next_hop` for anybody, `friend` may relay
    everywhere. Limits on mistakes are far away, so that one session can carry a thousand of them."""
    return {
        "hostname": "mx.here.example",
        "listeners": [
            {"protocol": "smtp", "address": address, "port": SMTP},
            {"protocol": "submission", "address": address, "port": SUBMISSION},
            {"protocol": "submission", "address": address, "port": SMTPS, "tls": "implicit"},
        ],
        "dns": {"servers": []},
        "tls": {"public_ca": [], **files},
        "relay": {"networks": [f"{friend}/32"], "domains": ["open.example"]},
        "net": {"private_destinations": ["127.0.0.0/8"]},
        "domains": {"here.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["ann", "bob"]}},
        "routes": {"*": f"smtp:[{next_hop}]:{NEXT_HOP}"},
        "delivery": {"retry": [1]},
        "spool": {"reserve": 0, "inline_limit": INLINE_LIMIT},
        "limits": {
            "message_size": 200_000,
            "header_size": 30_000,
            "errors": 1_000_000,
            "junk_commands": 1_000_000,
            "messages_per_session": 1_000_000,
            "connections_per_address": 1_000,
        },
    }


LOGINS = {name: f"{name}'s secret" for name in ("ann", "bob", "carl", "dora", "eva", "fred")}


def write_users(path: Path) -> Path:
    """The users file; each login may send as its own name at here.example."""
    path.touch(mode=0o600)
    users = [
        make_user(name, password, salt=bytes(16), scram_salt=bytes(16), senders=(f"{name}@here.example",))
        for name, password in LOGINS.items()
    ]
    path.write_text("".join(format_user(user) + "\n" for user in users))
    return path


class Target:
    """A server, its next hop, and the checks that follow every attack (`stands`)."""

    def __init__(self, folder: Path, *, before: Sequence[str] = (), **changes: Mapping[str, object]) -> None:
        """`changes` are merged into the sections of the settings; `before` is put before the command."""
        self.address, self.friend = loopback_address(), loopback_address()
        next_hop = loopback_address()
        self.authority = CertificateAuthority(folder / "authority")
        files = self.authority.issue("mx.here.example")
        tls = {"certificate": str(files.certificate), "key": str(files.key)}
        tables = settings(self.address, next_hop, self.friend, tls)
        tables["auth"] = {"users_file": str(write_users(folder / "users"))}
        self._tables = tables
        self.sink = Sink(next_hop, NEXT_HOP)
        self.change(**changes)
        self.server = OutriderServer(tables, command=(*before, str(OUTRIDER)))
        self._seen = 0
        self._numbers = itertools.count(1)

    def change(self, **changes: Mapping[str, object]) -> None:
        """Merge changes into the sections of the settings; before the start only."""
        for name, change in changes.items():
            present = self._tables.get(name)
            self._tables[name] = {**present, **change} if isinstance(present, Mapping) else change

    def listen(self, listener: Mapping[str, object]) -> None:
        """One more listener; before the start only."""
        listeners = self._tables["listeners"]
        assert isinstance(listeners, list)
        listeners.append(listener)

    def __enter__(self) -> Self:
        self.sink.__enter__()
        try:
            self.server.__enter__()
        except BaseException:
            self.sink.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.server.stop()
                self.went_well()  # the log is whole now
        finally:
            self.server.__exit__(kind, value, trace)
            self.sink.__exit__(kind, value, trace)

    def connect(self, port: int = SMTP, *, source: str = "", greet: bool = True) -> Wire:
        """A connection before EHLO."""
        return Wire(self.address, port, source=source, greet=greet)

    def session(self, port: int = SMTP, *, source: str = "") -> Wire:
        """A connection after EHLO."""
        wire = self.connect(port, source=source)
        wire.ehlo()
        return wire

    # -- what the server did ---------------------------------------------------------------------------

    def new_log(self) -> bytes:
        """What was logged since the last call, up to now: an ordinary message marks where now is."""
        mark = self.serves()
        wait_until(lambda: mark in self._log(), "the log to come so far")
        lines = self._log()[self._seen :]
        self._seen += len(lines)
        return lines

    def _log(self) -> bytes:
        text = (self.server.folder / "log").read_bytes()
        return text[: text.rfind(b"\n") + 1]

    def mailbox(self, user: str = "ann") -> list[bytes]:
        """What lies in a mailbox."""
        return read_maildir(self.server.folder / "mail" / user)

    def arrival(self, token: bytes) -> bytes:
        """The content of the message with the token in it, as the next hop got it."""

        def found() -> list[bytes]:
            return [one.content for one in list(self.sink.arrivals) if token in one.content]

        wait_until(lambda: bool(found()), f"a message with {token!r} at the next hop")
        (content,) = found()
        return content

    def resident_octets(self) -> int:
        """The memory that the server holds."""
        pages = int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))  # noqa: PTH208 - names only

    # -- what must hold --------------------------------------------------------------------------------

    def stands(self) -> None:
        """The standing conditions: it lives, delivers the next ordinary message, has left nothing over in
        its spool, and nothing went wrong inside."""
        assert self.server.is_running()
        self.serves()
        self.went_well()
        # The files of large messages that were delivered are kept for the next ones; no others are left.
        wait_until(self._keeps_no_more, "the spool to be free of bodies that belong to nothing")

    def went_well(self) -> None:
        """Nothing in the log is a fault of the server's own."""
        log = self._log()
        assert b'"internal_failure"' not in log, log[log.index(b'"internal_failure"') - 200 :][:3000]
        assert b"Traceback" not in log

    def serves(self) -> bytes:
        """The next ordinary message is delivered; its sender's address, which nothing else has."""
        mark = b"ordinary-%d-%d" % (os.getpid(), next(self._numbers))
        with self.session(source=self.friend) as wire:
            wire.begin(b"bob@open.example", mark + b"@client.example")
            wire.expect(b"250", after=b"Subject: " + mark + b".\r\n\r\nhello\r\n.")
            wire.expect(b"221", after=b"QUIT")
        self.arrival(mark + b".")
        return mark + b"@client.example"

    def _keeps_no_more(self) -> bool:
        """Whether there are no more files of bodies than there were messages whose bodies went to files."""
        files = len(self.bodies())
        return not files or files <= self._large_messages()

    def _large_messages(self) -> int:
        return sum(cast(int, one["size"]) > INLINE_LIMIT for one in self.server.log_events("received"))

    def bodies(self) -> list[Path]:
        """The files of bodies in the spool, but for the empty ones that it has made ahead."""
        return body_files(self.server.folder / "data")
