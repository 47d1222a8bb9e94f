"""The tables of [amdp]: a value of the wrong form is told with its key and a remedy, before a start."""

from __future__ import annotations

import pytest

from outrider.config.amdp_schema import Amdp, AmdpHolding, AmdpIncoming, AmdpPostage
from outrider.config.schema import Config
from outrider.runtime.amdp_value_checks import amdp_value_faults

pytestmark = pytest.mark.covers("AMDP-2", "AMDP-16", "AMDP-22")


def config(
    holding: dict[str, object] | None = None,
    incoming: dict[str, object] | None = None,
    postage: dict[str, object] | None = None,
) -> Config:
    amdp = Amdp(
        roles=("mhf", "img"),
        holding=AmdpHolding(**(holding or {})),  # type: ignore[arg-type]
        incoming=AmdpIncoming(**(incoming or {})),  # type: ignore[arg-type]
        postage=AmdpPostage(**(postage or {})),  # type: ignore[arg-type]
    )
    return Config(hostname="mx.a.example", data_dir="/nowhere", amdp=amdp)


def test_what_is_as_it_should_be_is_not_told() -> None:
    right = config(
        {"names": {"a.example": "MHF-2.a.example"}, "hook": "/bin/cat -u", "keep": 60, "max_keep": 60},
        {"allowed": ("b.example", ".c.example"), "retry": (), "report_to": "abuse@a.example"},
        {"exempt": ("d.example",), "vouched_by": ("v.example", "v.example:8443")},
    )
    assert list(amdp_value_faults(right)) == []
    by_service: dict[str, object] = {"names": {"a.example": "holder.b.example"}, "id": "holder-7"}
    assert list(amdp_value_faults(config(by_service))) == []
    assert list(amdp_value_faults(config())) == []


@pytest.mark.parametrize(
    ("table", "settings", "key"),
    [
        ("holding", {"names": {"a.example": "holder.a.example"}}, ("names", "a.example")),
        ("holding", {"names": {"a.example": "mhf-17.a.example"}}, ("names", "a.example")),
        ("holding", {"names": {"a.example": "mhf-2.b.example"}}, ("names", "a.example")),
        ("holding", {"names": {"a b": "mhf-2.a.example"}}, ("names", "a b")),
        ("holding", {"names": {"a.example": "mhf 2"}, "id": "x"}, ("names", "a.example")),
        ("holding", {"id": "a b"}, ("id",)),
        ("holding", {"keep": 0}, ("keep",)),
        ("holding", {"max_keep": 0}, ("max_keep",)),
        ("holding", {"hook": "notify"}, ("hook",)),
        ("holding", {"hook": "/nowhere/notify --now"}, ("hook",)),
        ("incoming", {"allowed": ("b.example", "b example")}, ("allowed", 1)),
        ("incoming", {"denied": ("ann@b.example",)}, ("denied", 0)),
        ("incoming", {"fetch_classes": ("Bulk",)}, ("fetch_classes", 0)),
        ("incoming", {"retry": (5, 0)}, ("retry", 1)),
        ("incoming", {"report_to": "abuse"}, ("report_to",)),
        ("postage", {"exempt": ("..",)}, ("exempt", 0)),
        ("postage", {"vouched_by": ("https://v.example",)}, ("vouched_by", 0)),
        ("postage", {"vouched_by": ("v.example:0",)}, ("vouched_by", 0)),
        ("postage", {"vouched_by": ("v.example:65536",)}, ("vouched_by", 0)),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(
    table: str, settings: dict[str, object], key: tuple[object, ...]
) -> None:
    (fault,) = amdp_value_faults(config(**{table: settings}))
    assert fault.key == ("amdp", table, *key)
    assert fault.fault
    assert fault.remedy.startswith("write ")
