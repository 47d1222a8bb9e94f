"""One event is one line, whatever is in it; nothing is lost in order or at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.maillog.emitter import Emitter, Level, render_json, render_text

HOSTILE = 'a\r\nb\x1b[2J\x00\u2028\u202e{"event":"forged"}%s' + "x" * 1_000_000


@pytest.mark.covers("SEC-210")
@pytest.mark.parametrize("render", [render_json, render_text])
def test_hostile_values_stay_on_one_bounded_line(render: object) -> None:
    assert callable(render)
    line = render(0.0, Level.INFO, "refused", {"hello": HOSTILE, "to": [HOSTILE]})
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert len(line) < 10_000
    assert not any(ch in line for ch in "\x00\x1b\r\u2028\u202e")


def test_json_lines_keep_their_order_and_all_arrive(tmp_path: Path) -> None:
    log = Emitter(file=str(tmp_path / "log"), clock=lambda: 1.5)
    for number in range(5000):
        log.emit(Level.INFO, "delivered", number=number)
    log.emit(Level.DEBUG, "unseen")
    log.close()
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [record["number"] for record in records] == list(range(5000))
    assert records[0]["time"] == "1970-01-01T00:00:01.500Z"


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Emitter(file=str(path), form="text")
    log.emit(Level.WARNING, "first")
    path.rename(tmp_path / "log.1")
    log.reopen()
    log.emit(Level.WARNING, "second", why="two words")
    log.close()
    assert 'second why="two words"' in path.read_text()
    assert "first" in (tmp_path / "log.1").read_text() + path.read_text()
