"""Lines of several processes in one log: whole, marked, and the supervisor's without a thread."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from outrider.maillog.direct import DirectEmitter
from outrider.maillog.emitter import PIPE_ATOMIC, Emitter, Level, open_log


def test_every_line_of_a_worker_has_its_mark(tmp_path: Path) -> None:
    emitter = Emitter(file=str(tmp_path / "log"), marks={"worker": 2})
    emitter.emit(Level.INFO, "received", id="1")
    emitter.close()
    assert json.loads((tmp_path / "log").read_text())["worker"] == 2


@pytest.mark.covers("SEC-210")
def test_writers_into_one_pipe_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = bytearray()

    def read() -> None:
        with pipe.open("rb") as file:
            while octets := file.read1(8192):
                found.extend(octets)

    reader = threading.Thread(target=read)
    reader.start()
    holder = open_log(str(pipe))
    emitters = [Emitter(file=str(pipe), marks={"worker": number}) for number in (1, 2, 3)]
    for count in range(400):
        for emitter in emitters:
            emitter.emit(Level.INFO, "received", text="x" * 700, count=count)
    for emitter in emitters:
        emitter.close()
    os.close(holder)
    reader.join(30)
    lines = [json.loads(line) for line in bytes(found).split(b"\n") if line]
    assert len(lines) == 1200
    assert all(len(line["text"]) == 700 for line in lines)
    assert PIPE_ATOMIC < 700 * 6, "a batch is longer than what a pipe takes in one piece"


def test_the_supervisors_lines_are_there_at_once_and_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    threads = threading.active_count()
    emitter = DirectEmitter(form="text", file=str(log), level="info")
    emitter.emit(Level.DEBUG, "not_wanted")
    emitter.emit(Level.ERROR, "worker_died", worker=1, text="a\nb")
    assert "error worker_died worker=1 text=a\\x0ab\n" in log.read_text()
    assert len(log.read_text().split("\n")) == 2
    log.rename(tmp_path / "log.1")
    emitter.emit(Level.INFO, "ready")
    assert "ready" in log.read_text()
    assert threading.active_count() == threads


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    emitter = DirectEmitter(file=str(tmp_path / "missing" / "log"))
    emitter.emit(Level.ERROR, "worker_died")
