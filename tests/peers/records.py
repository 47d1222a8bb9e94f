"""Logs of the peers, kept so that a failing test can show them.

Every running server registers a function that returns its log. `tests/conftest.py` asks for all of them when
a test fails; what a server wrote before the test began is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Enough to see what went wrong, not so much that the report drowns in it.
LONGEST_SHOWN = 20_000
_TROUBLE = ('"level":"error"', "Traceback (most recent call last)", "panic:", "fatal:")


@dataclass(slots=True)
class _Record:
    title: str
    read: Callable[[], str]
    already_seen: int = 0
    last_words: str | None = None
    """Of a server that has stopped: what is to be shown of it."""

    def text(self) -> str:
        """What it wrote since the test began, as far as it is shown."""
        if self.last_words is not None:
            return self.last_words
        return _shortened(self.read()[self.already_seen :])


_records: list[_Record] = []


def watch(title: str, read: Callable[[], str]) -> object:
    """Register a server's log; returns the handle to be given to `unwatch`."""
    record = _Record(title, read)
    _records.append(record)
    return record


def unwatch(handle: object) -> None:
    """Keep the server's last words for the running test and read its log no more (it is being stopped)."""
    assert isinstance(handle, _Record)
    if handle.last_words is None:
        handle.last_words = handle.text()


def begin_test() -> None:
    """Forget servers that have stopped; of the others show only what they write from now on."""
    _records[:] = [record for record in _records if record.last_words is None]
    for record in _records:
        record.already_seen = len(record.read())


def shown() -> list[tuple[str, str]]:
    """Return (title, text) for every server that wrote something since the test began."""
    texts = ((record.title, record.text()) for record in _records)
    return [(title, text) for title, text in texts if text.strip()]


def _shortened(text: str) -> str:
    """Its end; and before it, of what is left out, the lines that tell of trouble."""
    left_out, end = text[:-LONGEST_SHOWN], text[-LONGEST_SHOWN:]
    trouble = [line for line in left_out.split("\n") if any(sign in line for sign in _TROUBLE)]
    return "\n".join([*trouble, "[...]", end])[-2 * LONGEST_SHOWN :] if left_out else end
