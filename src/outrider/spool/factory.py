"""From settings to a spool: the one place that knows which back ends there are, and where shards lie."""

from __future__ import annotations

from pathlib import Path

from outrider.config.schema import Config
from outrider.spool.interface import Spool
from outrider.spool.observer import SpoolObserver
from outrider.spool.sqlite.place import DATABASE
from outrider.spool.sqlite.spool import SqliteSpool

MAX_SHARD_DIGITS = 4
"""A directory with a longer name is nothing of ours."""


def open_spool(
    config: Config,
    owner: str,
    *,
    observer: SpoolObserver | None = None,
    shard: int = 1,
    processes: int = 1,
) -> Spool:
    """The spool that the settings name; it still has to be started.

    `owner` names this process among those that share a PostgreSQL spool, the same after every restart.
    `shard` is the number of one of the SQLite spools beside each other, one for each worker process; each is
    whole in itself, and its lock tells if a living process has it. PostgreSQL knows no shards; there it is
    the number of the process, of as many as `processes` on this machine.
    """
    settings = config.spool
    if settings.backend == "postgresql":
        # Imported here: the driver is an extra and slow to import.
        from outrider.spool.postgresql.spool import PostgresSpool

        return PostgresSpool(
            settings.dsn,
            owner=owner,
            scratch=Path(config.data_dir) / "scratch" / str(shard),
            inline_limit=settings.inline_limit,
            reserve=settings.reserve,
            poison_after=config.delivery.poison_after,
            processes=processes,
            observer=observer,
        )
    return SqliteSpool(
        shard_directory(config, shard),
        inline_limit=settings.inline_limit,
        reserve=settings.reserve,
        poison_after=config.delivery.poison_after,
        has_siblings=processes > 1,
        observer=observer,
    )


def shard_directory(config: Config, shard: int) -> Path:
    """Where the SQLite spool with that number lies."""
    return Path(config.data_dir) / "spool" / str(shard)


def shards_on_disk(config: Config) -> tuple[int, ...]:
    """Numbers of the SQLite spools that exist, in order; none for PostgreSQL.

    After a start with fewer workers than before there are more of them than workers: what is in them is to
    be delivered by whoever adopts them.
    """
    if config.spool.backend == "postgresql":
        return ()
    found = (path.parent.name for path in (Path(config.data_dir) / "spool").glob(f"*/{DATABASE}"))
    return tuple(sorted(int(name) for name in found if _is_shard(name)))


def _is_shard(name: str) -> bool:
    is_number = name.isascii() and name.isdecimal() and len(name) <= MAX_SHARD_DIGITS
    return is_number and not name.startswith("0")
