from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import served_site


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A site that has been served."""
    return served_site(tmp_path, "b.example", "ben")
