"""Outrider as it is, but that its process dies at a transaction that is chosen from outside.

    python tests/faults/mortal.py serve ...

While the file that OUTRIDER_DIES names is there, every COMMIT of any database counts the number in it down;
the one that reaches nought is not carried out: the process is dead.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

_FILE = Path(os.environ["OUTRIDER_DIES"])
_LOCK = threading.Lock()
_connect = sqlite3.connect


def _watched(*args: Any, **named: Any) -> sqlite3.Connection:
    made: sqlite3.Connection = _connect(*args, **named)
    made.set_trace_callback(_traced)
    return made


def _traced(statement: str) -> None:
    if not statement.lstrip().upper().startswith("COMMIT"):
        return
    with _LOCK:
        try:
            left = int(_FILE.read_text()) - 1
        except (FileNotFoundError, ValueError):
            return
        if left == 0:
            _FILE.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        _FILE.write_text(str(left))


sqlite3.connect = _watched  # type: ignore[assignment]

from outrider.cli.main import main  # noqa: E402

sys.argv[0] = "outrider"
main()
