"""What lists and the vacation responder tell log and metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.lists.observer import ListsObserver
from outrider.maillog.emitter import Emitter
from outrider.maillog.lists_log import ListsLog
from outrider.maillog.metrics import Metrics
from outrider.model.message import MessageId

ONE, TWO = MessageId("ID1"), MessageId("ID2")


@pytest.mark.covers("SMTP-8", "SEC-210")
def test_every_fact_is_one_line_and_moves_its_counter(tmp_path: Path) -> None:
    metrics, emitter = Metrics(), Emitter(file=str(tmp_path / "log"))
    log: ListsObserver = ListsLog(emitter, metrics)
    log.post_expanded("staff@a.example", ONE, 7, complete=False)
    log.post_held("staff@a.example", ONE, TWO, "eve@b.example")
    log.mail_ignored("staff@a.example", ONE, "eve\r\n@b.example", "why")
    log.confirmation_asked("staff@a.example", ONE, "eve@b.example", "subscribe")
    log.member_joined("staff@a.example", "eve@b.example", "how")
    log.member_bounced("staff@a.example", "eve@b.example", 5, suspended=True)
    log.member_left("staff@a.example", "eve@b.example", "how")
    log.vacation_answered("ann@a.example", ONE, TWO, "eve@b.example")
    log.vacation_withheld("ann@a.example", ONE, "why")
    log.lists_failed("looking", OSError("gone"), None)
    emitter.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().split("\n") if line]
    assert [line["event"] for line in lines] == [
        "list_expanded",
        "list_held",
        "list_ignored",
        "list_asked",
        "list_joined",
        "list_bounced",
        "list_left",
        "vacation_answered",
        "vacation_withheld",
        "lists_failed",
    ]
    page = metrics.page().decode()
    for wanted in (
        'outrider_list_copies_total{list="staff@a.example"} 7.0',
        'outrider_list_members_total{list="staff@a.example",what="suspended"} 1.0',
        'outrider_vacation_total{result="withheld"} 1.0',
        'outrider_internal_failures_total{where="lists"} 1.0',
    ):
        assert wanted in page
