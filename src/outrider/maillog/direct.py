"""Log lines written at once by the process itself: for the supervisor, which may have no threads."""

from __future__ import annotations

import contextlib
import os
import time

from outrider.maillog.emitter import Level, Value, open_log, render_json, render_text, write_all


class DirectEmitter:
    """Takes an event and writes its line before it returns: for a few lines a day.

    The file is opened for each line, so that a rotated log needs no word of it. A log that cannot be written
    costs the line and nothing else.
    """

    def __init__(self, *, form: str = "json", file: str = "", level: str = "info") -> None:
        self._render = render_json if form == "json" else render_text
        self._path = file
        self._level = Level[level.upper()]

    def emit(self, level: Level, event: str, **fields: Value) -> None:
        """Record one event."""
        if level < self._level:
            return
        line = self._render(time.time(), level, event, fields).encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):
            descriptor = open_log(self._path)
            write_all(descriptor, line)
            if descriptor != 2:
                os.close(descriptor)
