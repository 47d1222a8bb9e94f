"""An Outrider of our own to measure: started in a folder that goes away with it."""

from __future__ import annotations

import contextlib
import datetime
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
from outrider.identity.certificate_authority import CertificateAuthority
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

    def __init__(self, folder: Path | None = None, workers: int = 1, tls: bool = False) -> None:
        self._parent = folder
        self._workers = workers
        self._tls = tls
        self.host = "127.0.0.1"
        self.port = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="outrider-bench-", dir=self._parent))
        self._process: subprocess.Popen[bytes] | None = None
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
protocol = "smtp"
address = "{self.host}"
port = {self.port}
[dns]
servers = []
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
        if not self._tls:
            return ""
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        issued = CertificateAuthority.create("bench", now, 7).issue_host(["mx.bench.example"], now, 7)
        (self._folder / "certificate.pem").write_bytes(issued.certificate_pem)
        key = self._folder / "key.pem"
        key.touch(mode=0o600)
        key.write_bytes(issued.key_pem)
        return '[tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\npublic_ca = []\n'

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_WITHIN_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
