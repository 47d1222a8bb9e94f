"""The command line beside a site that has been served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from outrider.cli.main import main
from tests.peers.outrider_server import to_toml
from tests.system.sites import site


def served_site(folder: Path, domain: str, user: str, more: Mapping[str, object] | None = None) -> Path:
    """A site of one domain, with one user's Maildir below `folder`; `more` settings beside that."""
    (folder / "data").mkdir()
    settings = site(domain, "127.0.0.1", users=[user])
    settings["domains"][domain]["deliver"] = f"maildir:{folder}/mail/{{user}}"
    path = folder / "outrider.toml"
    path.write_text(to_toml({**settings, **(more or {}), "data_dir": str(folder / "data")}))
    return path


def invoke(config: Path, *words: str, input_: str = "") -> Result:
    """`outrider WORDS --config ...`."""
    return CliRunner().invoke(main, [*words, "--config", str(config)], input=input_)


def rows(config: Path, *words: str) -> list[dict[str, Any]]:
    """What it says with `--json`."""
    done = invoke(config, *words, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.split("\n") if line]
