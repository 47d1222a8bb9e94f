"""Packages with extensions that the sites find without anybody having installed them."""

from __future__ import annotations

import tomllib
from pathlib import Path

CHESS = Path(__file__).resolve().parents[3] / "examples" / "outrider-chess"
"""The example of an extension, in a checkout; an installed Outrider does not have it."""
_LIST = "packages"


def lay_down_chess(folder: Path) -> None:
    """Make the example a package: its metadata in the playground's folder, its modules where they are."""
    if not CHESS.is_dir():
        return
    project = tomllib.loads((CHESS / "pyproject.toml").read_text("utf-8"))["project"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (about / "METADATA").write_text(metadata, "utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / _LIST).write_text(f"{folder}\n{CHESS / 'src'}", "utf-8")


def packages(folder: Path) -> list[str]:
    """Where Python has to look for them: for PYTHONPATH."""
    listed = folder / _LIST
    return listed.read_text("utf-8").split("\n") if listed.exists() else []
