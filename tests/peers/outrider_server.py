"""Outrider itself as a process: `outrider serve` with a configuration of the test's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers import records
from tests.peers.images import PROJECT
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.peers.warden import WARDEN

OUTRIDER = Path(sys.executable).with_name("outrider")

Table = Mapping[str, object]

LAST_WORDS = 5_000
"""Characters of the log that an error shows."""


class OutriderServer:
    """A running `outrider serve`; its folder (configuration, data, log) goes away with it.

    The configuration is TOML text or nested tables. `{dir}` in it stands for the server's folder, and
    `data_dir` is set to `{dir}/data` when tables do not say otherwise. `command` is what runs Outrider (with
    a tracer in front, say), and `environment` is added to that of the test run.
    """

    def __init__(
        self,
        configuration: str | Table,
        *,
        title: str = "outrider",
        command: Sequence[str] = (os.fspath(OUTRIDER),),
        environment: Mapping[str, str] | None = None,
        ready_within_s: float = PATIENCE_S,
    ) -> None:
        self._configuration = configuration
        self.title = title
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._ready_within_s = ready_within_s
        self._process: subprocess.Popen[bytes] | None = None
        self._read: dict[Path, int] = {}
        """Octets of each log that are in `_logged` already: it is read once, however often it is asked."""
        self._logged: list[dict[str, object]] = []

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="outrider-server-"))
        # Delivery agents and peers that run as other users may have to look in.
        self.folder.chmod(0o755)
        self.config_path = self.folder / "outrider.toml"
        self._log_path = self.folder / "log"
        self._log_path.touch()
        self.write_configuration(self._configuration)
        self._record = records.watch(self.title, self.log)
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # A test that fails has something better to say than how the server ended.
            if self.is_running() and kind is None:
                self.stop()
        finally:
            self._remove()

    def _remove(self) -> None:
        self.kill()
        records.unwatch(self._record)
        shutil.rmtree(self.folder, ignore_errors=True)
        WARDEN.forget(self.folder)

    def write_configuration(self, configuration: str | Table) -> None:
        """Write outrider.toml; a running server takes it at its next start or SIGHUP."""
        if isinstance(configuration, str):
            text = configuration
        else:
            text = to_toml({"data_dir": "{dir}/data", **configuration})
        self.config_path.write_text(text.replace("{dir}", os.fspath(self.folder)), encoding="utf-8")

    def start(self) -> None:
        """Start the server and wait for its event `ready`; raise RuntimeError, with its log, without one."""
        already_ready = len(self.log_events("ready"))
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "serve", "--config", os.fspath(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
        WARDEN.register(self.folder, group=self._process.pid)

        def ready_or_dead() -> bool:
            return len(self.log_events("ready")) > already_ready or not self.is_running()

        try:
            wait_until(ready_or_dead, f"{self.title} to log `ready`", self._ready_within_s)
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{self.log()[-LAST_WORDS:]}") from error
        if len(self.log_events("ready")) <= already_ready:
            raise RuntimeError(f"{self.title} ended before it was ready\n{self.log()[-LAST_WORDS:]}")

    @property
    def pid(self) -> int:
        """The process id of the running server (of its supervisor, if it has workers)."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the server is there."""
        return self._process is not None and self._process.poll() is None

    def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Ask it to stop by SIGTERM; raise RuntimeError unless it ends with exit code 0."""
        assert self._process is not None, "the server has not been started"
        self._process.terminate()
        try:
            status = self._process.wait(patience_s)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{self.title} did not stop within {patience_s:g} s\n{self.log()}") from error
        if status != 0:
            raise RuntimeError(f"{self.title} ended with {status} instead of 0\n{self.log()}")

    def kill(self) -> None:
        """End it and its workers at once by SIGKILL."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def start_and_kill(self, after_s: float) -> None:
        """Start it and kill it so long after its process was made, whether it is ready by then or not."""
        before = self._process

        def kill() -> None:
            wait_until(lambda: self._process is not before, "the process")
            time.sleep(after_s)
            self.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with contextlib.suppress(RuntimeError):  # it came no further
            self.start()
        killer.join()

    def restart(self) -> None:
        """Stop (which must succeed) and start again on the same data."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Ask it to read its configuration again."""
        os.kill(self.pid, signal.SIGHUP)

    @property
    def logs(self) -> list[Path]:
        """Where it writes: what it says on standard output and error."""
        return [self._log_path]

    def log(self) -> str:
        """Return all that it has written."""
        return "".join(one.read_bytes().decode(errors="replace") for one in self.logs if one.exists())

    def log_events(self, event: str | None = None) -> list[dict[str, object]]:
        """Return the logged events, or those of one name; lines that are no JSON object are left out."""
        self._read_on()
        return [entry for entry in self._logged if event in (None, entry.get("event"))]

    def _read_on(self) -> None:
        for path in self.logs:
            with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
                log.seek(self._read.get(path, 0))
                octets, ended, _ = log.read().rpartition(b"\n")
                self._read[path] = self._read.get(path, 0) + len(octets) + len(ended)
                self._logged += _entries(octets)

    def wait_event(
        self, event: str, count: int = 1, patience_s: float = PATIENCE_S, **fields: object
    ) -> list[dict[str, object]]:
        """Wait until `count` events of that name with those fields are logged, and return them."""

        def matching() -> list[dict[str, object]]:
            return [entry for entry in self.log_events(event) if entry.items() >= fields.items()]

        wait_until(
            lambda: len(matching()) >= count, f"{count} events {event} {fields} of {self.title}", patience_s
        )
        return matching()

    def cli(self, *words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run an `outrider` command with this server's configuration; `--config` follows the given words."""
        done = subprocess.run(
            [*self._command, *words, "--config", os.fspath(self.config_path)],
            input=stdin,
            capture_output=True,
            cwd=PROJECT,
            env=self._environment,
            timeout=120,
        )
        if check and done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise RuntimeError(f"outrider {' '.join(words)} ended with {done.returncode}: {said}")
        return done

    def cli_json(self, *words: str) -> object:
        """Run an `outrider` command with `--json` and return what it prints."""
        return json.loads(self.cli(*words, "--json").stdout)


def to_toml(table: Table) -> str:
    """Write nested tables, lists of tables and plain values as TOML."""
    return "".join(f"{line}\n" for line in _toml_lines(table, ()))


def _entries(octets: bytes) -> Iterator[dict[str, object]]:
    for line in octets.split(b"\n"):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def _toml_lines(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    # TOML wants the plain values of a table before the tables in it.
    nested = {name: _inner_tables(value) for name, value in table.items()}
    for name, value in table.items():
        if not nested[name]:
            yield f"{_toml_value(name)} = {_toml_value(value)}"
    for name, inner in nested.items():
        title = ".".join(_toml_value(part) for part in (*path, name))
        for entry in inner:
            yield f"[[{title}]]" if isinstance(table[name], list) else f"[{title}]"
            yield from _toml_lines(entry, (*path, name))


def _inner_tables(value: object) -> list[Table]:
    """Return the tables that a value is or consists of; none if it is a plain value."""
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list):
        return [entry for entry in value if isinstance(entry, Mapping)]
    return []


def _toml_value(value: object) -> str:
    # JSON's strings, numbers, booleans and arrays of them are written the same way in TOML.
    return json.dumps(os.fspath(value) if isinstance(value, Path) else value, ensure_ascii=False)
