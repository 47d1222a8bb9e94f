"""Nodes with a share of the CPU each: it is kept, figures make sense; where none can be set, that is said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bench.measuring import MeasurementFailed
from bench.nodes import measure_cluster
from bench.quota import CpuQuota, Mount, NoQuota, find_mount
from bench.report import tables
from bench.report_cluster import costs
from bench.run import Run
from bench.sheet import Sheet
from bench.spools import measure_spool
from bench.subjects import OutriderNode, OutriderNodes, OutriderOne, SpoolNode, SpoolNodes
from bench.work import KIB, MIB, SHAPES, Figure, Kind

from bench import quota
from outrider.benchmark.processes import cpu_s
from tests.bench.test_report import record

SHAPE = replace(next(shape for shape in SHAPES if shape.kind is Kind.CLUSTER), sessions=4, fewest=10, most=40)
SPIN = "while True: pass"


def test_a_process_gets_its_share_and_no_more() -> None:
    with CpuQuota(0.2) as group:
        process = subprocess.Popen([sys.executable, "-c", SPIN])
        try:
            group.take(process.pid)
            began, before = time.monotonic(), cpu_s(process.pid)
            time.sleep(1.5)
            used = (cpu_s(process.pid) - before) / (time.monotonic() - began)
        finally:
            process.kill()
            process.wait()
    assert used < 0.4  # without a quota it is a core, or what others leave of one


@pytest.mark.parametrize("kind", [OutriderNode, OutriderNodes])
def test_nodes_accept_and_relay(kind: type[OutriderNode]) -> None:
    figure = measure_cluster(SHAPE, kind, 1, 40)
    assert figure.messages == 40
    assert figure.rate > 0
    assert figure.cpu_ms > 0
    assert figure.extra["database_ms"] > 0
    assert figure.extra["commits_s"] > 0
    assert 0 < figure.extra["share_used"] < 1.5
    assert "the rule" in figure.note


def test_one_that_is_no_cluster_is_refused() -> None:
    with pytest.raises(MeasurementFailed, match="not a cluster"):
        measure_cluster(SHAPE, OutriderOne, 1, 10)


def test_without_control_groups_it_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    monkeypatch.setattr(quota, "MOUNTS", tmp_path / "mounts")
    run = Run(1, 0.01)
    run.measure([SHAPE], [OutriderNode])
    assert run.figures == []
    words = "not measured: no control group for CPU that may be written to is mounted"
    assert run.failures == [(SHAPE.name, f"{OutriderNode.name}, {SHAPE.name}: {words}")]


@pytest.mark.parametrize("size", [4 * KIB, MIB])
@pytest.mark.parametrize("kind", [SpoolNode, SpoolNodes])
def test_spools_alone_are_measured(kind: type[SpoolNode], size: int) -> None:
    shape = next(shape for shape in SHAPES if shape.kind is Kind.SPOOL and shape.size == size)
    figure = measure_spool(replace(shape, sessions=2), kind, 1, 8)
    assert figure.messages == 8
    assert figure.rate > 0
    assert figure.extra["log_kib"] > size / KIB / 2


def test_version_1_is_preferred_where_it_has_the_controller(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder in (one, two, other):
        folder.mkdir()
    (two / "cgroup.controllers").write_text("cpuset cpu io\n")
    lines = [
        f"cgroup {other} cgroup rw,relatime,cpuacct 0 0",
        f"cgroup2 {two} cgroup2 rw,relatime 0 0",
        f"cgroup {one} cgroup rw,relatime,cpu,cpuset 0 0",
    ]
    assert find_mount("\n".join(lines)) == Mount(one, 1)
    assert find_mount("\n".join(lines[:2])) == Mount(two, 2)
    (two / "cgroup.controllers").write_text("memory\n")
    with pytest.raises(NoQuota):
        find_mount("\n".join(lines[:2]))


def test_version_2_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("")
    with CpuQuota(0.3, Mount(tmp_path, 2)) as group:
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
        assert (folder / "cpu.max").read_text() == "6000 20000"
        assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
        group.take(os.getpid())
        assert (folder / "cgroup.procs").read_text()
        for file in folder.iterdir():  # the kernel's vanish by themselves
            file.unlink()
    assert not folder.exists()


def test_the_table_says_what_a_second_node_adds() -> None:
    extra = {"database_ms": 0.4, "commits_s": 50.0, "share_used": 0.97}
    figures = [
        Figure(SHAPE.name, kind.name, number, 1000, seconds, 1.0, 60.0, extra)
        for kind, seconds in ((OutriderNode, 4.0), (OutriderNodes, 2.0))
        for number in (1, 2, 3)
    ]
    text = tables(record(*figures))
    assert f"| {OutriderNode.name} | 250 (250-250) | - | 1.00 | 0.40 | 50 | 97 % |" in text
    assert f"| {OutriderNodes.name} | 500 (500-500) | 2.00 (target 1.6) | 1.00 | 0.40 | 50 | 97 % |" in text
    assert f"| {SHAPE.name} | {OutriderNode.name} | 1.00 | 0.40 | - |" in costs(Sheet(record(*figures)))
