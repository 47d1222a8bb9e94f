"""The contract on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outrider.spool.interface import Spool
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_contract import SpoolContract
from outrider.testing.spool_samples import NOW


class TestSqliteSpool(SpoolContract):
    """The contract."""

    windows = ("outrider.spool.sqlite.operations.WINDOW",)
    pages = ("outrider.spool.sqlite.spool.PAGE",)

    @pytest.fixture
    async def spool(self, tmp_path: Path) -> AsyncIterator[Spool]:
        """In a directory of its own."""
        self.directory = tmp_path / "spool"
        spool = SqliteSpool(self.directory)
        self.open = [spool]
        await spool.start(NOW)
        yield spool
        for one in self.open:
            await one.close()

    async def reopen(self, spool: Spool, now: float, *, crash: bool) -> Spool:
        """A further one on the same directory; a crash leaves the old one's leases in the database."""
        assert isinstance(spool, SqliteSpool)
        if crash:
            spool._leases._leases.clear()  # what is left when the process is gone
        await spool.close()
        again = SqliteSpool(self.directory)
        self.open.append(again)
        await again.start(now)
        return again
