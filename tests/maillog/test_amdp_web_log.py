"""Web answers are counted, faults told with their traceback, and nothing that holds a secret is logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.maillog.amdp_web_log import AmdpWebLog
from outrider.maillog.emitter import Emitter
from outrider.maillog.metrics import Metrics


@pytest.mark.covers("SEC-215")
def test_what_is_counted_and_told(tmp_path: Path) -> None:
    file = tmp_path / "log"
    emitter, metrics = Emitter(form="json", file=str(file), level="info"), Metrics()
    log = AmdpWebLog(emitter, metrics)
    log.request_answered("GET", 200)
    log.policy_fetched("a.example", "stale", "no answer")
    log.web_tls_failed("192.0.2.1", "TLS failed")
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        log.service_broke(error)
    emitter.close()
    policy, failed, broke = [json.loads(line) for line in file.read_text().splitlines()]
    assert (policy["event"], policy["level"], policy["result"]) == ("policy_fetched", "warning", "stale")
    assert (failed["event"], failed["client"], failed["protocol"]) == ("tls_failed", "192.0.2.1", "amdp")
    assert (broke["event"], broke["where"]) == ("internal_failure", "web")
    assert "RuntimeError: broken" in broke["traceback"]
    page = metrics.page().decode()
    assert 'outrider_web_answers_total{method="GET",status="200"} 1.0' in page
    assert 'outrider_internal_failures_total{where="web"} 1.0' in page
