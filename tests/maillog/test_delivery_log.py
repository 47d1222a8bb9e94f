"""What delivery tells the metrics."""

import pytest

from outrider.maillog.client_log import ClientLog
from outrider.maillog.delivery_log import DeliveryLog, counted_status
from outrider.maillog.emitter import Emitter
from outrider.maillog.metrics import Metrics
from outrider.model.message import MessageId
from outrider.model.result import DeliveryResult, Kind


@pytest.mark.parametrize("status", ["2.0.0", "4.4.1", "5.7.30"])
def test_a_known_status_is_counted_as_such(status: str) -> None:
    assert counted_status(status) == status


@pytest.mark.parametrize("status", ["", "5.9.1", "5.7.100", "6.1.1", "5.1.1\n", "5.1", "５.1.1"])
def test_what_another_host_made_up_is_one_label(status: str) -> None:
    assert counted_status(status) == "other"


def test_a_host_cannot_fill_the_metrics_with_labels() -> None:
    metrics, emitter = Metrics(), Emitter(level="error")
    log = DeliveryLog(emitter, metrics)
    for number in range(500):
        result = DeliveryResult(Kind.FAILED, f"5.7.{number}", "no", 550, protocol="smtp")
        log.recipient_settled(MessageId("ID"), "ann@example.org", result, "no", 1.0, 1)
    emitter.close()
    lines = [line for line in metrics.page().decode().split("\n") if "recipient_results_total{" in line]
    assert len(lines) == 101
    assert 'outrider_recipient_results_total{protocol="smtp",result="failed",status="other"} 400.0' in lines


@pytest.mark.covers("ITP-7", "AMTP-8")
def test_a_fallback_is_counted_by_protocols_and_reason() -> None:
    metrics, emitter = Metrics(), Emitter(level="error")
    log = DeliveryLog(emitter, metrics)
    for why in ("unreachable", "unreachable", "dns"):
        log.fell_back(MessageId("ID"), "amtp", "smtp", why, "smtp is used instead of amtp")
    emitter.close()
    page = metrics.page().decode()
    assert 'outrider_delivery_fallback_total{from="amtp",to="smtp",why="unreachable"} 2.0' in page
    assert 'outrider_delivery_fallback_total{from="amtp",to="smtp",why="dns"} 1.0' in page


@pytest.mark.covers("AMTP-8", "AMTP-5")
def test_what_amtp_servers_proved_and_refused_is_counted() -> None:
    metrics, emitter = Metrics(), Emitter(level="error")
    log = ClientLog(emitter, metrics)
    log.amtp_server_judged("mx", "verified beta.example", True)
    log.amtp_server_judged("mx", "claimed mx.beta.example", False)
    log.not_believed("mx", "504 Authentication failed")
    emitter.close()
    page = metrics.page().decode()
    for result in ("proven", "claimed", "refused_us"):
        assert f'outrider_amtp_servers_total{{result="{result}"}} 1.0' in page
