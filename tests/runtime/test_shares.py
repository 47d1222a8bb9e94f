"""Limits that each worker counts for itself are divided."""

from __future__ import annotations

import os

import pytest

from outrider.config.schema import Auth, Config, Limits
from outrider.runtime.shares import share_of, worker_count

CONFIG = Config(
    hostname="mx.alpha.example",
    data_dir="data",
    limits=Limits(memory=1001, connections=500),
    auth=Auth(failures_per_address=10, failures_per_user=0),
)


@pytest.mark.covers("SMTP-9")
def test_one_of_four_has_a_quarter_rounded_up() -> None:
    share = share_of(CONFIG, 4)
    assert share.limits.memory == 251
    assert share.auth.failures_per_address == 3
    assert share.auth.failures_per_user == 0, "no limit stays none"
    assert share.limits.connections == 500, "counted over all workers"


def test_the_only_worker_has_it_all() -> None:
    assert share_of(CONFIG, 1) is CONFIG


def test_nought_is_one_for_each_core() -> None:
    assert worker_count(CONFIG) == 1
    nought = Config(hostname="mx.alpha.example", data_dir="data", workers=0)
    assert worker_count(nought) == len(os.sched_getaffinity(0))
