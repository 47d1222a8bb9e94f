"""From settings to a spool: the one place that knows which back ends there are."""

from __future__ import annotations

from pathlib import Path

from outrider.config.schema import Config
from outrider.spool.interface import Spool
from outrider.spool.observer import SpoolObserver
from outrider.spool.sqlite.spool import SqliteSpool


def open_spool(
    config: Config, owner: str, *, observer: SpoolObserver | None = None, shard: str = ""
) -> Spool:
    """The spool that the settings name; it still has to be started.

    `owner` names this node among those that share a PostgreSQL spool, the same after every restart.
    `shard` names one of several SQLite spools beside each other (one for each worker process). The command
    line opens the spool of a server that is not running in the same way; the lock tells if one is.
    """
    settings = config.spool
    if settings.backend == "postgresql":
        # Imported here: the driver is an extra and slow to import.
        from outrider.spool.postgresql.spool import PostgresSpool

        return PostgresSpool(
            settings.dsn,
            owner=owner,
            scratch=Path(config.data_dir) / "scratch",
            inline_limit=settings.inline_limit,
            reserve=settings.reserve,
            poison_after=config.delivery.poison_after,
            observer=observer,
        )
    return SqliteSpool(
        Path(config.data_dir) / "spool" / shard,
        inline_limit=settings.inline_limit,
        reserve=settings.reserve,
        poison_after=config.delivery.poison_after,
        observer=observer,
    )
