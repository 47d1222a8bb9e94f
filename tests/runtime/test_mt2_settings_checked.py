"""Faults in [mt2] that only reception sees are told by check-config, not by a server that dies of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from outrider.cli.main import main

SITE = 'hostname = "mx.example.org"\ndata_dir = "{folder}"\n[[listeners]]\nprotocol = "smtp"\nport = 2525\n'


@pytest.mark.covers("MT2-18b", "MT2-18d")
@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('pipe = ["not a host"]', "mt2.pipe: "),
        ("resume_for = 60", "mt2.resume_for: "),
        ("max_part = 200000\nwindow = 100000", "mt2.max_part: "),
    ],
)
def test_a_fault_is_found_before_the_start(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "outrider.toml"
    path.write_text(SITE.format(folder=tmp_path) + f"[mt2]\n{line}\n")
    result = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert result.exit_code == 1
    assert key in result.output, result.output
    path.write_text(SITE.format(folder=tmp_path))
    assert CliRunner().invoke(main, ["check-config", "--config", str(path)]).exit_code == 0
