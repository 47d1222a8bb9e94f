"""The spool for tests keeps the contract too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from outrider.spool.interface import Spool
from outrider.testing.memory_spool import MemorySpool
from outrider.testing.spool_contract import SpoolContract
from outrider.testing.spool_samples import NOW


class TestMemorySpool(SpoolContract):
    """The contract."""

    @pytest.fixture
    async def spool(self) -> AsyncIterator[Spool]:
        """Fresh."""
        spool = MemorySpool()
        await spool.start(NOW)
        yield spool
        await spool.close()

    async def reopen(self, spool: Spool, now: float, *, crash: bool) -> Spool:
        """The same one."""
        assert isinstance(spool, MemorySpool)
        if crash:
            spool.crash()
        else:
            await spool.close()
        await spool.start(now)
        return spool
