"""Which spools there are, by number."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from outrider.config.schema import Config
from outrider.spool.factory import open_spool, shards_on_disk
from outrider.testing.spool_samples import NOW


def config(folder: Path, **spool: str) -> Config:
    """The settings that matter here."""
    return msgspec.convert(
        {"hostname": "mx.a.example", "data_dir": str(folder), "spool": {"reserve": 0, **spool}}, Config
    )


async def test_each_number_has_its_own_spool(tmp_path: Path) -> None:
    assert shards_on_disk(config(tmp_path)) == ()
    for shard in (10, 1, 2):
        spool = open_spool(config(tmp_path), "mx.a.example", shard=shard)
        await spool.start(NOW)
        assert str(tmp_path / "spool" / str(shard)) in repr(spool)
        await spool.close()
    assert shards_on_disk(config(tmp_path)) == (1, 2, 10)
    assert str(tmp_path / "spool" / "1'") in repr(open_spool(config(tmp_path), "mx.a.example"))


@pytest.mark.parametrize("name", ["0", "01", "-1", "x", "1x", "\u00b2", "\u0661", "12345", "1.old"])
def test_other_folders_are_nobodys_spool(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "spool" / name
    folder.mkdir(parents=True)
    (folder / "spool.db").touch()
    (tmp_path / "spool" / "3").mkdir()
    assert shards_on_disk(config(tmp_path)) == ()


def test_postgresql_has_no_shards(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "1"
    folder.mkdir(parents=True)
    (folder / "spool.db").touch()
    assert shards_on_disk(config(tmp_path)) == (1,)
    assert shards_on_disk(config(tmp_path, backend="postgresql", dsn="postgresql://x")) == ()
