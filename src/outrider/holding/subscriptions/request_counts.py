"""How often who has asked, and which numbers used once were seen: the same for all workers and nodes.

Belongs to the store whose database it is given, and to its thread; each method is one short transaction.
"""

from __future__ import annotations

from outrider.tables.database import Database

HOUR_S, DAY_S = 3600.0, 86_400.0
BATCH = 500
"""Rows removed at a time."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS subscription_counts (
        who TEXT NOT NULL, period BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (who, period))""",
    """CREATE TABLE IF NOT EXISTS subscription_nonces (
        nonce TEXT PRIMARY KEY, until DOUBLE PRECISION NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS subscription_nonces_by_time ON subscription_nonces (until)",
)


class RequestCounts:
    """Counts by hour, day or another period."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, who: str, now: float, period_s: float) -> int:
        """Count one more of `who` in this period (an hour, a day); how many there are with it."""
        period = int(now // period_s)
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM subscription_counts WHERE who = ? AND period < ?", (who, period)
            )
            rows = self._database.execute(
                "INSERT INTO subscription_counts VALUES (?, ?, 1) ON CONFLICT (who, period) DO UPDATE "
                "SET n = subscription_counts.n + 1 RETURNING n",
                (who, period),
            )
            if rows[0][0] == 1:
                self._forget_counts(now)
        return int(rows[0][0] or 0)

    def of(self, who: str, now: float, period_s: float) -> int:
        """How many of `who` there are in this period."""
        rows = self._database.execute(
            "SELECT n FROM subscription_counts WHERE who = ? AND period = ?", (who, int(now // period_s))
        )
        return int(rows[0][0] or 0) if rows else 0

    def _forget_counts(self, now: float) -> None:
        """Those of hours and days that are over: numbers of days are small, numbers of hours large."""
        self._database.execute(
            "DELETE FROM subscription_counts WHERE (who, period) IN "
            "(SELECT who, period FROM subscription_counts "
            "WHERE period < ? OR (period > ? AND period < ?) LIMIT ?)",
            (int(now // DAY_S), int(now // DAY_S) + 1, int(now // HOUR_S), BATCH),
        )

    def is_first(self, nonce: str, now: float, until: float) -> bool:
        """Whether this number was never shown before; it is remembered until then."""
        with self._database.transaction():
            self._database.execute("DELETE FROM subscription_nonces WHERE until < ?", (now,))
            rows = self._database.execute(
                "INSERT INTO subscription_nonces VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1",
                (nonce, until),
            )
        return bool(rows)
