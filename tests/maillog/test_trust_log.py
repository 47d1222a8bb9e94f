"""What lists do, in log and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.maillog.emitter import Emitter
from outrider.maillog.metrics import Metrics
from outrider.maillog.trust_log import TrustLog


@pytest.mark.covers("ITP-3")
def test_answers_times_and_troubles_of_a_list(tmp_path: Path) -> None:
    metrics = Metrics()
    emitter = Emitter(form="json", file=str(tmp_path / "log"))
    log = TrustLog(emitter, metrics)
    log.list_answered("zen", "hit", 0.003)
    log.list_answered("zen", "silent", 3.0)
    log.answer_remembered("zen")
    log.list_fell_silent("zen", "refused", "127.255.255.254\r\nX: y")
    log.list_came_back("zen")
    log.list_file_read("mine", 7)
    log.list_file_unreadable("mine", "line 3: no domain")
    emitter.close()
    page = metrics.page().decode()
    for result in ("hit", "silent", "remembered"):
        assert f'outrider_trust_list_answers_total{{list="zen",result="{result}"}} 1.0' in page
    assert 'outrider_trust_list_seconds_count{list="zen"} 2.0' in page
    lines = (tmp_path / "log").read_text().split("\n")
    events = ["trust_list_silent", "trust_list_back", "trust_file_read", "trust_file_unreadable"]
    assert [event for event, line in zip(events, lines, strict=False) if f'"{event}"' in line] == events
