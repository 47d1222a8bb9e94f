"""The smallest site that a server accepts, for what works beside a server or before it."""

from __future__ import annotations

from pathlib import Path

HOSTNAME = "mx.alpha.example"
MINIMAL = f"""
hostname = "{HOSTNAME}"
data_dir = "data"
[[listeners]]
protocol = "smtp"
address = "127.0.0.1"
port = 2525
[spool]
reserve = 0
[dns]
servers = []
"""


def make_minimal_site(folder: Path, more: str = "") -> Path:
    """Write the configuration, with `more` at its end, and make the data folder; the configuration's path."""
    (folder / "data").mkdir(mode=0o700, exist_ok=True)
    file = folder / "outrider.toml"
    file.write_text(MINIMAL + more)
    return file
