"""An Outrider of our own to measure: started in a folder that goes away with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from outrider.benchmark import explained
from outrider.benchmark.mutual import CLIENT_NAME, Credentials, NameServer, lay_down
from outrider.runtime.control import CommandRefused, NoServer, Row, call

RECIPIENT = "ann@bench.example"
_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 60.0
_EMPTY_WITHIN_S = 600.0


class ServerFailed(Exception):
    """It did not start, or did not do what is asked of it; the argument says more."""


class OwnServer:
    """`outrider serve` as it is by default, with mail thrown away once it is stored and queued.

    `folder` says on which disk the spool lies; the system's folder for temporary files is often memory.
    """

    def __init__(
        self, folder: Path | None = None, workers: int = 1, tls: bool = False, *, amtp: bool = False
    ) -> None:
        self._parent = folder
        self._workers = workers
        self._tls = tls or amtp
        self._amtp = amtp
        self._name_servers = ""
        """As `[dns] servers` has them."""
        self.credentials: Credentials | None = None
        """For AMTP: what the client is to present, and to find."""
        self.host = "127.0.0.1"
        self.port = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="outrider-bench-", dir=self._parent))
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the process whose family does the work."""
        assert self._process is not None
        return self._process.pid

    def ask(self, command: str, **arguments: object) -> Row:
        """The one row that a command of the control socket answers. Raises ServerFailed."""
        try:
            return next(iter(call(self._folder / "data", command, arguments)))
        except (NoServer, CommandRefused, StopIteration) as error:
            raise ServerFailed(f"{command}: {error}") from error

    def wait_empty(self) -> None:
        """Until no message waits. Raises ServerFailed after ten minutes."""
        limit = time.monotonic() + _EMPTY_WITHIN_S
        while (counts := self.ask("queue.count"))["ready"] or counts["active"]:
            if time.monotonic() > limit:
                raise ServerFailed("the queue does not empty")
            time.sleep(0.05)

    def explain_one(self) -> str:
        """What `explain` knows of a random message of the run, in one line. Raises NotExplained."""
        return explained.check(self.ask("explain", id=explained.random_message(self._log)))

    @property
    def folder(self) -> Path:
        """Where it keeps everything."""
        return self._folder

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _start(self) -> None:
        self.port = _free_port(self.host)
        if self._tls:
            self.credentials = lay_down(self._folder)
        if self._amtp:
            name_server = self._stack.enter_context(NameServer(self._folder, CLIENT_NAME, self.host))
            self._name_servers = f'"{name_server.endpoint}"'
        config = self._folder / "outrider.toml"
        config.write_text(self._configuration(), "utf-8")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outrider.cli.main", "serve", "--config", os.fspath(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        limit = time.monotonic() + _READY_WITHIN_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > limit:
                said = self._log.read_text("utf-8", "replace")[-2000:]
                raise ServerFailed(f"the server did not become ready:\n{said}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        return b'"event":"ready"' in self._log.read_bytes().replace(b" ", b"")

    def _configuration(self) -> str:
        return f"""
hostname = "mx.bench.example"
data_dir = "data"
workers = {self._workers}
[[listeners]]
protocol = "{"amtp" if self._amtp else "smtp"}"
address = "{self.host}"
port = {self.port}
[dns]
servers = [{self._name_servers}]
[domains."bench.example"]
deliver = "discard:"
[relay]
networks = ["127.0.0.0/8"]
[limits]
connections = 20_000
connections_per_address = 20_000
messages_per_session = 1_000_000_000
{explained.POLICY}{self._tls_section()}"""

    def _tls_section(self) -> str:
        if self.credentials is None:
            return ""
        authority = f'"{self.credentials.authority.name}"' if self._amtp else ""
        port = f"[amtp]\nport = {self.port}\n" if self._amtp else ""
        return f"""[tls]
certificate = "{self.credentials.certificate.name}"
key = "{self.credentials.key.name}"
public_ca = [{authority}]
{port}"""

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_WITHIN_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
