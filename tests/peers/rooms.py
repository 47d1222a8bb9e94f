"""A room: the private root directory of one peer server, and the processes that live in it.

The room is a copy of an image made of hard links, so it is there in a few milliseconds and costs no space.
Files are therefore never changed in place: `write` always makes a new one. What a server writes to the
system log arrives in `log`, because the room has a /dev/log of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers import records
from tests.peers.images import STORE, PeerSetupError, image, require_root
from tests.peers.warden import WARDEN, end_all, processes_below

# Machines that run the tests are small and shared; a peer that is not up by then will not be.
PATIENCE_S = 60.0

# Users of the peer servers, known only inside the rooms. Names and homes are the distribution's.
USERS = {
    "root": (0, "/root"),
    "mail": (8, "/var/mail"),
    "nobody": (65534, "/nonexistent"),
    "postfix": (201, "/var/spool/postfix"),
    "postdrop": (202, "/nonexistent"),
    "Debian-exim": (203, "/var/spool/exim4"),
    "opensmtpd": (204, "/run/opensmtpd/empty"),
    "opensmtpq": (205, "/run/opensmtpd/empty"),
    "smmta": (206, "/var/lib/sendmail"),
    "smmsp": (207, "/var/lib/sendmail"),
    "dovecot": (208, "/usr/lib/dovecot"),
    "dovenull": (209, "/nonexistent"),
    "postgres": (210, "/var/lib/postgresql"),
    "bind": (211, "/var/cache/bind"),
    "news": (9, "/var/spool/news"),
    "vmail": (212, "/mail"),
    "sasl": (213, "/nonexistent"),
}
MAIL_USER = "vmail"

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; raise TimeoutError that names `what` otherwise."""
    end = time.monotonic() + patience_s
    pause_s = 0.005
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience_s:g} s in vain: {what}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)


def accepts_connections(address: str, port: int) -> bool:
    """Tell whether something accepts TCP connections there now."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
        return True
    return False


class Room:
    """The root directory of one peer, with its processes; removed with all that is in it by `close`."""

    def __init__(self, image_name: str, title: str) -> None:
        require_root(f"running {image_name} in a directory of its own")
        source = image(image_name)
        (STORE / "rooms").mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{image_name}-", dir=STORE / "rooms"))
        self.title = title
        WARDEN.register(self.path, root=self.path)
        subprocess.run(["cp", "-al", f"{source}/.", self.path], check=True)
        # The image is root's alone while being built; servers drop to users that must be able to look in.
        self.path.chmod(0o755)
        self._furnish()
        self._process: subprocess.Popen[bytes] | None = None
        self._syslog = _SystemLog(self.path / "dev")
        self._record = records.watch(title, self.log)

    def _furnish(self) -> None:
        (self.path / "dev").mkdir(exist_ok=True)
        for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
            try:
                os.mknod(self.path / "dev" / name, 0o666 | 0o020000, os.makedev(1, minor))
            except PermissionError as error:
                raise PeerSetupError("this container may not make device nodes (CAP_MKNOD)") from error
            (self.path / "dev" / name).chmod(0o666)
        for folder in ("tmp", "var/tmp", "dev/shm"):
            self.folder(folder, mode=0o1777)
        for folder in ("run", "root", "var/log", "var/mail", "mail", "tls"):
            self.folder(folder)
        self.folder("mail", owner=MAIL_USER)
        self.write("etc/passwd", "".join(_passwd_line(name, *entry) for name, entry in USERS.items()))
        self.write("etc/group", "".join(f"{name}:x:{number}:\n" for name, (number, _) in USERS.items()))
        self.write("etc/hosts", "127.0.0.1 localhost\n")
        # No name server: every route that the tests use is a number, and a stray look-up fails at once.
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")

    def folder(self, name: str, *, mode: int = 0o755, owner: str | None = None) -> Path:
        """Make a folder in the room, with the stated mode and owner (a name of `USERS`)."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        self._give(path, owner)
        path.chmod(mode)  # last: a change of owner clears the set-group bit
        return path

    def write(self, name: str, content: str | bytes, *, mode: int = 0o644, owner: str | None = None) -> Path:
        """Write a file in the room; an existing one is replaced, never changed (others share it)."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._give(path, owner)
        path.chmod(mode)  # last: a change of owner clears the set-group bit
        # Postfix waits while a file is only seconds old, in case an editor is still at it.
        os.utime(path, (0, 0))
        return path

    def copy_in(self, source: Path, name: str, *, mode: int = 0o644, owner: str | None = None) -> str:
        """Copy a file into the room and return its path as the room's processes see it."""
        self.write(name, source.read_bytes(), mode=mode, owner=owner)
        return f"/{name}"

    @staticmethod
    def _give(path: Path, owner: str | None) -> None:
        if owner is not None:
            number = USERS[owner][0]
            os.chown(path, number, number)

    def run(
        self,
        *command: str,
        stdin: bytes = b"",
        user: str | None = None,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the room to its end; with `check` raise RuntimeError when it fails."""
        done = subprocess.run(
            self.command(*command, user=user),
            input=stdin,
            env={**_ENVIRONMENT, **(environment or {})},
            capture_output=True,
            timeout=120,
        )
        if check and done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise RuntimeError(f"{self.title}: {' '.join(command)} ended with {done.returncode}: {said}")
        return done

    def command(self, *command: str, user: str | None = None) -> list[str]:
        """Return the argument vector that runs `command` in the room, as root or as the named user."""
        as_user = [f"--userspec={USERS[user][0]}:{USERS[user][0]}"] if user else []
        return ["chroot", *as_user, os.fspath(self.path), *command]

    def start(
        self, *command: str, user: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the room's server, in the foreground; its output goes to `var/log/server`."""
        with (self.path / "var/log/server").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(*command, user=user),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_ENVIRONMENT, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the server that was started is still there."""
        return self._process is not None and self._process.poll() is None

    def wait_listening(self, address: str, port: int) -> None:
        """Wait until the server accepts connections; raise RuntimeError with its log if it ends first."""

        def up_or_dead() -> bool:
            return not self.is_running() or accepts_connections(address, port)

        try:
            wait_until(up_or_dead, f"{self.title} listening on {address}:{port}")
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{self.log()}") from error
        if not self.is_running():
            raise RuntimeError(f"{self.title} ended before it listened on {address}:{port}\n{self.log()}")

    def stop(self, request: signal.Signals = signal.SIGTERM, patience_s: float = 10.0) -> None:
        """Ask the server to stop, then end whatever is left of it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(request)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: not processes_below(self.path), "its helpers to end", patience_s=0.5)
        self.kill()

    def kill(self) -> None:
        """End every process of the room at once, as a power cut would."""
        group = self._process.pid if self._process is not None else None
        end_all(self.path, group)
        if self._process is not None:
            self._process.wait()
            self._process = None
        wait_until(lambda: not processes_below(self.path), f"the processes of {self.title} to end")

    def log(self) -> str:
        """Return what the server has written: its output, its log files, and its system log."""
        files = sorted(path for path in (self.path / "var/log").rglob("*") if path.is_file())
        texts = [path.read_bytes().decode(errors="replace") for path in files]
        return "".join([*texts, self._syslog.text()])

    def close(self) -> None:
        """End the server without ceremony (its data goes too) and remove the room."""
        try:
            self.kill()
        finally:
            records.unwatch(self._record)
            self._syslog.close()
            shutil.rmtree(self.path, ignore_errors=True)
            WARDEN.forget(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def maildir(self, name: str) -> list[bytes]:
        """Read the messages of a Maildir of the room in order of arrival."""
        return read_maildir(self.path / name)


def read_maildir(folder: Path) -> list[bytes]:
    """Return the contents of `new` and `cur` of a Maildir in order of arrival, as stored."""
    files = [path for part in ("new", "cur") for path in _listing(folder / part)]
    return [
        path.read_bytes() for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))
    ]


def body_files(data: Path) -> list[Path]:
    """The large bodies below an Outrider's data_dir; not the empty files that it has made ahead."""
    return [path for path in data.rglob("bodies/*/*") if path.is_file() and path.stat().st_size]


def _listing(folder: Path) -> Sequence[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except FileNotFoundError:
        return []


def _passwd_line(name: str, number: int, home: str) -> str:
    return f"{name}:*:{number}:{number}:{name}:{home}:/bin/sh\n"


class _SystemLog:
    """The room's /dev/log: a datagram socket whose lines are collected by a thread."""

    def __init__(self, dev: Path) -> None:
        self._lines: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Socket names are limited to 108 octets, paths are not: bind by way of a descriptor of the folder.
        folder = os.open(dev, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._socket.bind(f"/proc/self/fd/{folder}/log")
        finally:
            os.close(folder)
        (dev / "log").chmod(0o666)
        self._thread = threading.Thread(target=self._collect, name="peer-syslog", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        # As little as can be: a benchmark's servers log some ten thousand lines a second.
        while data := self._socket.recv(65536):
            self._lines.append(data)

    def text(self) -> str:
        return "".join(map(_log_line, list(self._lines)))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)  # ends the waiting read
        self._thread.join(timeout=5)
        self._socket.close()


def _log_line(data: bytes) -> str:
    """`<22>Jan  1 00:00:00 postfix/smtpd[12]: text`; the priority says nothing to a reader."""
    return re.sub(r"^<\d+>", "", data.decode(errors="replace")).rstrip("\n\0") + "\n"
