"""Log lines, off the path of the mail.

An event is a fixed word and its fields. It becomes one line - a JSON object or readable text, control
characters escaped, values bounded (SEC-210) - and lines are written in batches by a thread of their own, so
that a slow disk or a stuck pipe delays no session. What is pending is bounded: beyond it lines are counted as
lost and the count is logged, rather than memory growing without end.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

import msgspec

Value = str | int | float | bool | None | list[str]

MAX_VALUE = 2000
"""Characters of one value: a reply of the longest legal kind fits, a hostile megabyte does not."""
MAX_PENDING = 100_000
"""Lines not yet written; about 30 MiB."""
FLUSH_INTERVAL_S = 0.05
"""A batch every 50 ms costs nothing; what a crash can lose of the log is that much."""

PIPE_ATOMIC = 4096
"""PIPE_BUF: what a pipe takes in one piece, however many processes write into it."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Level(IntEnum):
    """How serious."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Emitter:
    """Takes events from any thread, writes them in order."""

    def __init__(
        self,
        *,
        form: str = "json",
        file: str = "",
        level: str = "info",
        clock: Callable[[], float] = time.time,
        marks: Mapping[str, Value] | None = None,
    ) -> None:
        """`marks` are fields of every line: which of several processes wrote it."""
        self._marks = dict(marks or {})
        self._render = render_json if form == "json" else render_text
        self._path = file
        self._level = Level[level.upper()]
        self._clock = clock
        self._pending: deque[tuple[float, Level, str, dict[str, Value]]] = deque()
        self._lost = 0
        self._wake = threading.Event()
        self._closing = False
        self._fd = open_log(file)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, level: Level, event: str, **fields: Value) -> None:
        """Record one event; never blocks and never raises for reasons of the disk."""
        if level < self._level:
            return
        if len(self._pending) >= MAX_PENDING:
            self._lost += 1
            return
        self._pending.append((self._clock(), level, event, fields))
        if level >= Level.WARNING:
            self._wake.set()

    def reopen(self) -> None:
        """After log rotation (SIGHUP): go on in a new file of the same name."""
        old, self._fd = self._fd, open_log(self._path)
        if old != 2:
            os.close(old)

    def close(self) -> None:
        """Write what is pending and stop."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=5)
        if self._fd != 2:
            os.close(self._fd)

    def _run(self) -> None:
        while True:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            closing = self._closing
            self._write_pending()
            if closing:
                return

    def _write_pending(self) -> None:
        lines = []
        if self._lost:
            lost, self._lost = self._lost, 0
            lines.append(self._line(self._clock(), Level.ERROR, "log_lines_lost", {"count": lost}))
        while self._pending:
            lines.append(self._line(*self._pending.popleft()))
        if lines:
            self._write(lines)

    def _line(self, at: float, level: Level, event: str, fields: dict[str, Value]) -> str:
        return self._render(at, level, event, {**fields, **self._marks} if self._marks else fields)

    def _write(self, lines: list[str]) -> None:
        encoded = [line.encode("utf-8", "backslashreplace") for line in lines]
        shared_stream = bool(self._marks) and not stat.S_ISREG(os.fstat(self._fd).st_mode)
        for piece in _atomic_pieces(encoded) if shared_stream else [b"".join(encoded)]:
            write_all(self._fd, piece)


def _atomic_pieces(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines together, as many as other writers into the same pipe cannot come between."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > PIPE_ATOMIC:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


def open_log(file: str) -> int:
    """The descriptor to write lines to: the file's, which is made if missing; standard error for "".

    Raises OSError.
    """
    if not file:
        return 2
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def write_all(fd: int, octets: bytes) -> None:
    """Write it all, or what goes: a full disk must not end the server; the loss shows as a gap."""
    view = memoryview(octets)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError:
            return


def render_json(at: float, level: Level, event: str, fields: Mapping[str, Value]) -> str:
    """One JSON object on one line."""
    record: dict[str, Value] = {"time": _moment(at), "level": level.name.lower(), "event": event}
    for name, value in fields.items():
        if value is None or value == "":
            continue
        record[name] = _bounded(value)
    return msgspec.json.encode(record).decode() + "\n"


def render_text(at: float, level: Level, event: str, fields: Mapping[str, Value]) -> str:
    """One readable line: time, level, event, name=value; values with blanks are quoted."""
    parts = [_moment(at), level.name.lower(), event]
    for name, value in fields.items():
        if value is None or value == "":
            continue
        text = _bounded(value)
        shown = ",".join(text) if isinstance(text, list) else str(text)
        if not shown or re.search(r'[\s"=]', shown):
            shown = json.dumps(shown, ensure_ascii=False)
        parts.append(f"{name}={shown}")
    return " ".join(parts) + "\n"


def escape(text: str) -> str:
    """Control characters, line separators and direction marks made visible; bounded."""
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "..."
    if text.isprintable():
        return text  # nearly always
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _bounded(value: Value) -> Value:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return [escape(part) for part in value[:100]]
    return value


def _moment(at: float) -> str:
    second = int(at)
    return f"{_second(second)}.{int((at - second) * 1000):03d}Z"


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def check_writable(file: str) -> str:
    """Why the log file cannot be used, "" when it can."""
    parent = Path(file).parent
    if not parent.is_dir():
        return f"the folder {parent} does not exist"
    target = Path(file) if Path(file).exists() else parent
    return "" if os.access(target, os.W_OK) else f"{target} is not writable"
