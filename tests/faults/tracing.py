"""strace on a running server: what it asked of the kernel in which order, and answers that we make up."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call by the places in the order of events where it began and where it had returned."""

    name: str
    text: str
    """Arguments as strace shows them: descriptors with their paths."""
    began: int
    ended: int

    @property
    def failed(self) -> bool:
        """Whether it gave an error."""
        return " = -1 " in self.text


class Strace:
    """strace on all threads of a server, from the beginning of the block to its end."""

    def __init__(self, server: OutriderServer, *options: str) -> None:
        program = shutil.which("strace")
        assert program is not None, "these tests need strace on the PATH: install the package strace"
        self._command = [program, "-f", "-y", "-p", str(server.pid), *options]

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="outrider-strace-"))
        self._output, errors = self._folder / "output", self._folder / "errors"
        with errors.open("wb") as file:
            self._process = subprocess.Popen([*self._command, "-o", str(self._output)], stderr=file)
        wait_until(lambda: "attached" in errors.read_text(), "strace to attach")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detach()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _detach(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def calls(self) -> list[Call]:
        """Detach, and give all calls in the order in which they began."""
        self._detach()
        lines = self._output.read_text(errors="replace").split("\n")
        return sorted(_calls(lines), key=lambda call: call.began)


def failing(name: str, error: str, paths: Sequence[Path]) -> tuple[str, ...]:
    """Options: every call of that name on one of the files fails with that error, and does nothing."""
    files = [option for path in paths for option in ("-P", str(path))]
    return (*files, "-e", f"trace={name}", "-e", f"inject={name}:error={error}")


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    begun: dict[str, tuple[str, str, int]] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, resumed, name, rest = match.groups()
        if resumed is not None:
            before = begun.pop(thread, None)
            if before is not None:
                yield Call(before[0], before[1] + rest, before[2], number)
        elif rest.endswith("<unfinished ...>"):
            begun[thread] = (name, rest.removesuffix("<unfinished ...>"), number)
        else:
            yield Call(name, rest, number, number)
