"""What MT2 connections tell log and metrics."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from outrider.identity.checks import Check
from outrider.identity.mt2_identity import Mt2Identity, Mt2IdentityFailure, Way
from outrider.maillog.emitter import Emitter
from outrider.maillog.metrics import Metrics
from outrider.maillog.mt2_log import Mt2Log
from outrider.model.facts import Provenance
from outrider.net.mt2_observer import Mt2Observer
from outrider.reception.interface import Session


@pytest.mark.covers("MT2-10b", "SEC-210")
def test_every_fact_is_one_line_and_moves_its_counter(tmp_path: Path) -> None:
    metrics, emitter = Metrics(), Emitter(file=str(tmp_path / "log"), level="debug")
    log: Mt2Observer = Mt2Log(emitter, metrics)
    session = Session(
        "s1",
        "mt2",
        ip_address("192.0.2.1"),
        4000,
        ip_address("192.0.2.2"),
        10_126,
        "mt2",
        "mx.a.example",
        0.0,
    )
    names = ("gate.b.example",)
    log.peer_identified(
        session,
        names[0],
        Mt2Identity("host", names[0], names, Way.PUBLIC, "public CA", Provenance.PROVEN),
    )
    log.peer_identified(session, "b\r\nx", Mt2IdentityFailure(Check.NO_CERTIFICATE, "nothing was shown"))
    log.peer_misbehaved(session, "a malformed line")
    log.peer_noticed(session, "OK 99.0.2.0")
    log.server_judged("gate", "claimed gate.b.example", False)
    log.not_believed("gate", "99.0.5.25 Host refused.")
    emitter.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().split("\n") if line]
    assert [line["event"] for line in lines] == [
        "host_identified",
        "host_not_identified",
        "peer_misbehaved",
        "peer_notice",
        "server_claimed",
        "not_believed",
    ]
    page = metrics.page().decode()
    for wanted in (
        'outrider_mt2_hosts_total{result="proven"} 1.0',
        'outrider_mt2_hosts_total{result="unproven"} 1.0',
        'outrider_mt2_servers_total{result="claimed"} 1.0',
        'outrider_mt2_servers_total{result="refused_us"} 1.0',
        'outrider_server_misbehaviour_total{stage="mt2"} 1.0',
    ):
        assert wanted in page
