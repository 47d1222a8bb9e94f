"""Write `requirements/run.lock` and `requirements/dev.lock` from pyproject.toml (`make lock`).

run.lock holds what a server needs, with the extras `fast` and `postgresql` and the build backend (so that the
editable installation needs nothing that is not locked). dev.lock holds that and the group `dev`, in the same
versions. Both list the hashes of all published files of a version, so one lock serves every machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCKS = PROJECT / "requirements"
EXTRAS = ("fast", "postgresql")
# hatchling needs it for editable installations but does not declare it.
EDITABLE = "editables>=0.5"
# Where packages come from is the machine's affair, not the lock's.
OPTIONS = (
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-emit-trusted-host",
    "--no-emit-find-links",
    "--no-emit-options",
    "--quiet",
)


def wanted() -> tuple[list[str], list[str]]:
    """Return the requirements of run.lock, and those that dev.lock adds."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    extras = project["project"]["optional-dependencies"]
    run = [
        *project["project"]["dependencies"],
        *(requirement for name in EXTRAS for requirement in extras[name]),
        *project["build-system"]["requires"],
        EDITABLE,
    ]
    return run, project["dependency-groups"]["dev"]


def compile_lock(requirements: Sequence[str], target: Path, options: Sequence[str]) -> None:
    """Resolve the requirements into `target`; versions already there are kept where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "requirements.in"
        source.write_text("".join(f"{line}\n" for line in requirements))
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *options]
        subprocess.run(
            [*command, "--output-file", os.fspath(target), os.fspath(source)],
            check=True,
            env={**os.environ, "CUSTOM_COMPILE_COMMAND": "make lock"},
        )


def main() -> None:
    """Write both locks."""
    parser = argparse.ArgumentParser(description="Write the lock files from pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = ["--upgrade"] if parser.parse_args().upgrade else []
    run, development = wanted()
    compile_lock(run, LOCKS / "run.lock", options)
    compile_lock([f"-c {LOCKS / 'run.lock'}", *run, *development], LOCKS / "dev.lock", options)


if __name__ == "__main__":
    main()
