"""The contract on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outrider.spool.interface import Spool
from outrider.spool.postgresql.spool import PostgresSpool
from outrider.testing.spool_contract import SpoolContract
from outrider.testing.spool_samples import NOW


class TestPostgresSpool(SpoolContract):
    """The contract."""

    windows = ("outrider.spool.postgresql.leasing.WINDOW",)
    pages = ("outrider.spool.postgresql.listing.STEP",)

    @pytest.fixture
    async def spool(self, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Spool]:
        """On a database of its own."""
        self.dsn, self.scratch = postgres_dsn, tmp_path / "scratch"
        spool = PostgresSpool(postgres_dsn, owner="node", scratch=self.scratch)
        self.open = [spool]
        await spool.start(NOW)
        yield spool
        for one in self.open:
            await one.close()

    async def reopen(self, spool: Spool, now: float, *, crash: bool) -> Spool:
        """A further one under the same name; a crash leaves the old one's leases in the database."""
        assert isinstance(spool, PostgresSpool)
        if crash:
            spool._settling.leases._leases.clear()  # what is left when the process is gone
        await spool.close()
        again = PostgresSpool(self.dsn, owner="node", scratch=self.scratch)
        self.open.append(again)
        await again.start(now)
        return again
