"""`outrider amdp` as far as it needs no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outrider.cli.main import main

GOOD = b"DOMAIN a.example\nMAX-MAIL-SIZE 100 KB\nCONTACT-INFO x@a.example\nACCEPT-CLASS *::Bulk::*\n"
BAD = b"DOMAIN a.example\nMAX-MAIL-SIZE huge\nNEW-KEY x\nCONTACT-INFO \x1b[31m\n"
SETTINGS = """
hostname = "mx.a.example"
data_dir = "{dir}/data"
[tls]
public_ca = []
[[listeners]]
protocol = "smtp"
[domains."a.example"]
deliver = "discard:"
[domains."b.example"]
deliver = "discard:"
[amdp]
roles = ["img"]
[amdp.policy]
accept = {{"*::Personal::*" = ""}}
[[policy.rules]]
name = "no-bulk"
action = "refuse"
when = {{"amdp.class" = "*::Bulk::*"}}
"""


def run(*words: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["amdp", *words], input=stdin)


@pytest.mark.covers("AMDP-16")
def test_a_policy_is_linted_from_a_file_or_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "policy"
    file.write_bytes(GOOD)
    assert run("policy", "lint", str(file)).exit_code == 0
    linted = run("policy", "lint", stdin=BAD)
    assert linted.exit_code == 1
    assert "line 2: " in linted.stderr
    assert "\x1b" not in linted.output
    other = run("policy", "lint", "--domain", "b.example", str(file))
    assert other.exit_code == 1


@pytest.mark.covers("AMDP-16")
def test_what_was_read_is_shown_as_json() -> None:
    linted = run("policy", "lint", "--json", stdin=BAD)
    read = json.loads(linted.stdout)
    assert list(read["unknown"]) == ["NEW-KEY"]
    assert 2 in [one["line"] for one in read["problems"]]


@pytest.mark.covers("AMDP-16", "ITP-4c")
def test_ours_is_shown_for_each_domain(tmp_path: Path) -> None:
    config = tmp_path / "outrider.toml"
    config.write_text(SETTINGS.format(dir=tmp_path))
    shown = run("policy", "show", "--config", str(config))
    assert shown.exit_code == 0, shown.output
    assert [line for line in shown.stdout.splitlines() if line.startswith("DOMAIN")] == [
        "DOMAIN a.example",
        "DOMAIN b.example",
    ]
    assert shown.stdout.count("DENY-CLASS *::Bulk::*") == 2
    one = run("policy", "show", "b.example", "--json", "--config", str(config))
    assert json.loads(one.stdout)["accept"] == {"*::Personal::*": ""}
    none = run("policy", "show", "d.example", "--config", str(config))
    assert none.exit_code == 1
    assert "none of [domains]" in none.stderr


def test_nothing_is_checked_without_a_role_that_others_call(tmp_path: Path) -> None:
    config = tmp_path / "outrider.toml"
    config.write_text(SETTINGS.format(dir=tmp_path))
    checked = run("check", "--config", str(config))
    assert checked.exit_code == 1
    assert "neither" in checked.stderr
