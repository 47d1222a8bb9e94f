"""One metrics page for a server of several processes: what each of them counted, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

Join = Callable[[float, float], float]

_GAUGES: Final[dict[str, Join]] = {
    "outrider_queue_oldest_seconds": max,
    "outrider_spool_available": min,
    "outrider_certificate_not_after_seconds": min,
    "process_start_time_seconds": max,
    "process_max_fds": max,
    "python_info": max,
}
"""Gauges of which a sum would say nothing. The worker that is worst off speaks for all; of process starts the
last, which tells of restarts. All others are added, as counters and histograms are."""
_QUEUE: Final = "outrider_queue_items"
_CREATED: Final = "_created"
"""When a series began: the first of them."""


def merge_pages(pages: Sequence[bytes], *, one_queue: bool = False) -> bytes:
    """The page for all processes, in the order of the first; every family keeps its help and type.

    With `one_queue` all of them see the same queue, which counts once. Raises ValueError for what is not a
    page of metrics.
    """
    gauges = dict(_GAUGES)
    if one_queue:
        gauges[_QUEUE] = max
    registry = CollectorRegistry()
    registry.register(_Families(_merged(pages, gauges)))
    return generate_latest(registry)


class _Families(Collector):
    """Families that stand already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        """As they are."""
        return iter(self._families)


def _merged(pages: Sequence[bytes], gauges: Mapping[str, Join]) -> list[Metric]:
    families: dict[str, _Family] = {}
    for page in pages:
        for metric in text_string_to_metric_families(page.decode()):
            families.setdefault(metric.name, _Family(metric, gauges)).add(metric)
    return [family.metric() for family in families.values()]


class _Family:
    """One family while it is being added up; series keep the order in which they came."""

    def __init__(self, first: Metric, gauges: Mapping[str, Join]) -> None:
        self._first = first
        self._join = _join_of(first, gauges)
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, metric: Metric) -> None:
        """Join one process's samples to those there are."""
        for sample in metric.samples:
            key = sample.name, tuple(sample.labels.items())
            known = self._values.get(key)
            self._values[key] = sample.value if known is None else self._join(known, sample.value)

    def metric(self) -> Metric:
        """The family as it stands."""
        result = Metric(self._first.name, self._first.documentation, self._first.type)
        for (name, labels), value in self._values.items():
            result.add_sample(name, dict(labels), value)
        return result


def _join_of(metric: Metric, gauges: Mapping[str, Join]) -> Join:
    if metric.type != "gauge":
        return _sum
    return min if metric.name.endswith(_CREATED) else gauges.get(metric.name, _sum)


def _sum(one: float, other: float) -> float:
    return one + other
