"""What MT2 extensions tell log and metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.extensions.observer import ExtensionObserver
from outrider.maillog.emitter import Emitter
from outrider.maillog.extensions_log import ExtensionsLog
from outrider.maillog.metrics import Metrics


@pytest.mark.covers("MT2-19", "SEC-210")
def test_every_fact_is_one_line_and_moves_its_counter(tmp_path: Path) -> None:
    metrics, emitter = Metrics(), Emitter(file=str(tmp_path / "log"))
    log: ExtensionObserver = ExtensionsLog(emitter, metrics)
    log.extension_spoke("hashcash", "m1@a.example", "2.25.1.5.2", "spent")
    log.extension_ignored("2.25.9", "m1\r\n@a.example", "unknown")
    log.consent_asked("vcard", "ben@b.example", "ann@a.example", "m1@a.example")
    log.extension_acted("vcard", "ben@b.example", "ann@a.example", "m1@a.example")
    log.extension_failed("chess", "acting", RuntimeError("a bug"), "m1@a.example")
    emitter.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().split("\n") if line]
    assert [line["event"] for line in lines] == [
        "extension_spoke",
        "extension_ignored",
        "consent_asked",
        "extension_acted",
        "extension_failed",
    ]
    page = metrics.page().decode()
    for wanted in (
        'outrider_extensions_total{extension="hashcash",what="spoke"} 1.0',
        'outrider_extensions_total{extension="vcard",what="asked"} 1.0',
        'outrider_extensions_total{extension="vcard",what="acted"} 1.0',
        'outrider_internal_failures_total{where="extensions"} 1.0',
    ):
        assert wanted in page
