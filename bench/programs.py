"""Servers that are plain programs, and the npm packages some of them need."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.images import PROJECT, PeerSetupError, locked
from tests.peers.rooms import accepts_connections, wait_until
from tests.peers.warden import WARDEN

STORE = PROJECT / "var" / "bench"
_LOCKED = PROJECT / "bench" / "peers"


class Program:
    """A server in a folder of its own; both go away together."""

    def __init__(self, title: str, address: str, port: int, environment: Mapping[str, str]) -> None:
        self.title = title
        self._address = address
        self._port = port
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"outrider-{self.title}-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        WARDEN.forget(self.folder)

    def write(self, name: str, text: str) -> None:
        """Write a file in its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def start(self, *command: str) -> int:
        """Start it and wait until it listens; its process id. Raises RuntimeError with what it said."""
        log = self.folder / "log"
        with log.open("ab") as output:
            process = self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
        WARDEN.register(self.folder, group=process.pid)
        wait_until(
            lambda: process.poll() is not None or accepts_connections(self._address, self._port),
            f"{self.title} to listen",
        )
        if process.poll() is not None:
            raise RuntimeError(f"{self.title} ended:\n{log.read_text('utf-8', 'replace')}")
        return process.pid


@cache
def npm_folder() -> Path:
    """`node_modules` with the locked packages, installed below `var` if need be. Raises PeerSetupError."""
    lock = (_LOCKED / "package-lock.json").read_bytes()
    target = STORE / "npm"
    stamp = target / "installed.json"
    with locked(STORE / "npm.lock"):
        if not stamp.exists() or stamp.read_bytes() != lock:
            _install(target)
            stamp.write_bytes(lock)
    return target / "node_modules"


def _install(target: Path) -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise PeerSetupError("Haraka and smtp-server need node and npm: apt-get install nodejs npm")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_LOCKED / name, target / name)
    # Haraka's optional plugins are not used; nothing that a package brings along is run.
    options = ("--omit=dev", "--omit=optional", "--omit=peer", "--ignore-scripts", "--no-audit", "--no-fund")
    done = subprocess.run(["npm", "install", *options], cwd=target, capture_output=True, text=True)
    if done.returncode:
        raise PeerSetupError(f"npm install failed: {done.stderr.strip()[-500:]}")


def npm_version(package: str) -> str:
    """Of an installed package."""
    return str(json.loads((npm_folder() / package / "package.json").read_text())["version"])
