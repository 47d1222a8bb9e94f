"""Pages of several processes as one, made from real registries."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from outrider.maillog.merging import merge_pages
from outrider.maillog.metrics import Metrics


def page(number: int) -> bytes:
    """What worker `number` has counted: the number of everything."""
    metrics = Metrics()
    metrics.received.labels("smtp").inc(number)
    metrics.attempt_seconds.observe(0.003 if number == 1 else 0.3)
    metrics.rules.labels('odd "rule"\n\\', "refuse").inc(number)
    if number == 2:
        metrics.logins.labels("PLAIN", "failed").inc(7)
    metrics.watch_queue(lambda what: {"ready": 10, "active": 1, "held": 0, "oldest_s": 100}[what] * number)
    metrics.spool_available.set(number - 1)
    metrics.connections_open.labels("smtp").set(number)
    metrics.certificate_expiry.labels("a.pem").set(1000 * number)
    return metrics.page()


def samples(text: bytes) -> dict[str, float]:
    """Each series with its value."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_one_page_stays_as_it_is() -> None:
    alone = page(1)
    assert merge_pages([alone]) == alone


def test_counters_and_histograms_are_sums() -> None:
    merged = samples(merge_pages([page(1), page(2)]))
    assert merged["outrider_messages_received_total[('protocol', 'smtp')]"] == 3
    assert merged["outrider_delivery_attempt_seconds_count[]"] == 2
    assert merged["outrider_delivery_attempt_seconds_sum[]"] == pytest.approx(0.303)
    assert merged["outrider_delivery_attempt_seconds_bucket[('le', '0.005')]"] == 1
    assert merged["outrider_delivery_attempt_seconds_bucket[('le', '+Inf')]"] == 2
    assert merged["outrider_logins_total[('mechanism', 'PLAIN'), ('result', 'failed')]"] == 7


def test_gauges_are_sums_or_what_the_worst_off_says() -> None:
    merged = samples(merge_pages([page(1), page(2)]))
    assert merged["outrider_queue_items[('state', 'ready')]"] == 30
    shared = samples(merge_pages([page(1), page(1)], one_queue=True))
    assert shared["outrider_queue_items[('state', 'ready')]"] == 10
    assert merged["outrider_connections_open[('listener', 'smtp')]"] == 3
    assert merged["outrider_queue_oldest_seconds[]"] == 200
    assert merged["outrider_spool_available[]"] == 0
    assert merged["outrider_certificate_not_after_seconds[('certificate', 'a.pem')]"] == 1000


def test_process_figures_tell_of_the_whole() -> None:
    one = samples(first := page(1))
    merged = samples(merge_pages([first, first, first]))
    assert merged["process_resident_memory_bytes[]"] == 3 * one["process_resident_memory_bytes[]"]
    assert merged["process_cpu_seconds_total[]"] == pytest.approx(3 * one["process_cpu_seconds_total[]"])
    for same in ("process_start_time_seconds[]", "process_max_fds[]"):
        assert merged[same] == one[same]
    created = "outrider_messages_received_created[('protocol', 'smtp')]"
    assert merged[created] == one[created]


def test_help_and_types_stay_and_labels_are_escaped() -> None:
    merged = merge_pages([page(1), page(2)]).decode()
    for line in page(1).decode().split("\n"):
        if line.startswith("#"):
            assert line in merged
    assert r'outrider_policy_verdicts_total{action="refuse",rule="odd \"rule\"\n\\"} 3.0' in merged


def test_each_histogram_stays_together_and_in_order() -> None:
    lines = merge_pages([page(1), page(2)]).decode().split("\n")
    name = "outrider_delivery_attempt_seconds_"
    parts = (f"{name}bucket", f"{name}count", f"{name}sum")
    found = [number for number, line in enumerate(lines) if line.startswith(parts)]
    assert found == list(range(found[0], found[0] + 17))
    buckets = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}bucket")]
    assert buckets == sorted(buckets)


def test_what_is_no_page_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"."):
        merge_pages([page(1), b'outrider_x{label="unfinished'])
