"""What postage tells log and metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.holding.postage.observer import PostageObserver
from outrider.maillog.emitter import Emitter
from outrider.maillog.metrics import Metrics
from outrider.maillog.postage_log import PostageLog


@pytest.mark.covers("AMDP-20", "SEC-210")
def test_every_fact_of_postage_is_one_line_and_moves_its_counter(tmp_path: Path) -> None:
    metrics, emitter = Metrics(), Emitter(file=str(tmp_path / "log"))
    log: PostageObserver = PostageLog(emitter, metrics)
    log.postage_sold("alpha", "a.example", "b.example", 5)
    log.postage_redeemed("s" * 26, "a.example", 5, "mt2:mx.a.example/\r\nX#1")
    log.postage_refused("spent", "it was", "a.example", "E1")
    log.postage_returned("s" * 26, "alpha", 5, "expired")
    log.postage_asked_in_vain("192.0.2.7", "\x1b[2J", "wrong")
    log.postage_bought("b.example", 5)
    log.postage_failed("sweeping", RuntimeError("away"))
    emitter.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().split("\n") if line]
    assert [line["event"] for line in lines] == [
        "postage_sold",
        "postage_redeemed",
        "postage_refused",
        "postage_returned",
        "postage_asked_in_vain",
        "postage_bought",
        "postage_failed",
    ]
    page = metrics.page().decode()
    for what in ("sold", "redeemed", "refused", "returned", "not_proven", "bought"):
        assert f'outrider_postage_total{{what="{what}"}} 1.0' in page
    assert 'outrider_internal_failures_total{where="postage"} 1.0' in page
