"""How many messages each account has submitted within the hour, over all workers and nodes (AMDP-1)."""

from __future__ import annotations

from pathlib import Path

from outrider.config.schema import Config
from outrider.tables.database import Database, open_store
from outrider.tables.serial_thread import SerialThread

FILE = Path("amdp") / "accounts.sqlite"
"""Below data_dir."""
HOUR_S = 3600

_TABLE = """CREATE TABLE IF NOT EXISTS amdp_accounts (
    account TEXT PRIMARY KEY, hour BIGINT NOT NULL, count BIGINT NOT NULL)"""


class AccountStore:
    """The table. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self._database = database
        with database.transaction():
            for statement in (*database.alone, _TABLE):
                database.execute(statement)

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    def count(self, account: str, now: float, limit: int) -> float:
        """Count one message more and give 0; where there have been `limit` in this hour, the seconds until
        the next begins."""
        hour = int(now // HOUR_S)
        with self._database.transaction():
            rows = self._database.execute(
                "INSERT INTO amdp_accounts VALUES (?, ?, 1) ON CONFLICT (account) DO UPDATE SET"
                " count = CASE amdp_accounts.hour WHEN excluded.hour THEN amdp_accounts.count + 1 ELSE 1 END,"
                " hour = excluded.hour RETURNING count",
                (account, hour),
            )
            if int(rows[0][0] or 0) <= limit:
                return 0.0
            self._database.execute("UPDATE amdp_accounts SET count = ? WHERE account = ?", (limit, account))
        return (hour + 1) * HOUR_S - now


AccountThread = SerialThread[AccountStore]


def open_accounts(config: Config, data_dir: Path) -> AccountStore:
    """The table of this server or cluster. Raises StoreUnavailable."""
    return open_store(AccountStore, config, data_dir, FILE)
