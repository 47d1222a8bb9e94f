"""What the holding facility tells log and metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.holding.facility.observer import FacilityObserver
from outrider.maillog.emitter import Emitter
from outrider.maillog.holding_log import HoldingLog
from outrider.maillog.metrics import Metrics
from outrider.model.message import MessageId


@pytest.mark.covers("AMDP-6", "AMDP-12", "SEC-210")
def test_every_fact_is_one_line_and_moves_its_counter(tmp_path: Path) -> None:
    metrics, emitter = Metrics(), Emitter(file=str(tmp_path / "log"))
    log: FacilityObserver = HoldingLog(emitter, metrics)
    log.copies_held(MessageId("ID1"), "ann@a.example", "Direct::Business::x", 7000, 3)
    log.holding_refused(MessageId("ID1"), "b.example", "DENY-CLASS: *", "why\r\nnot")
    log.copy_changed("ID1", 2, "eve@b.example", "retrieved", "fetched")
    log.questions_answered("query", "192.0.2.1", 99, 1)
    log.guessing_stopped("192.0.2.1")
    log.errand_done("receipt", "ID1", 2)
    log.errand_failed("hook", "ID1", 2, "exit status 3", given_up=True)
    log.facility_swept(5, 1, 2)
    log.facility_failed("sweeping", OSError("gone"))
    emitter.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().split("\n") if line]
    assert [line["event"] for line in lines] == [
        "amdp_held",
        "amdp_not_taken",
        "amdp_copy",
        "amdp_answered",
        "amdp_guessing",
        "amdp_errand_done",
        "amdp_errand_failed",
        "amdp_swept",
        "amdp_holding_failed",
    ]
    page = metrics.page().decode()
    for wanted in (
        'outrider_held_copies_total{state="held"} 3.0',
        'outrider_held_copies_total{state="retrieved"} 1.0',
        'outrider_held_questions_total{answer="known",what="query"} 99.0',
        "outrider_held_guessers_total 1.0",
        'outrider_held_errands_total{kind="hook",result="given_up"} 1.0',
        'outrider_internal_failures_total{where="holding"} 1.0',
    ):
        assert wanted in page
