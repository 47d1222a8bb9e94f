"""What the reference classification service remembers (AMDP-18): reports of lies about a class, and the
classes that were withdrawn because of them. Every method is one short transaction; times come from the
caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outrider.config.schema import Config
from outrider.tables.database import Database, Row, make_missing, open_store
from outrider.tables.serial_thread import SerialThread

FILE = Path("holding") / "classification.sqlite"
"""Below data_dir."""
REPORTERS = 3
"""So many sites that the service vouches for must say that a class is a lie until it is withdrawn."""
MEMORY_S = 30 * 86_400.0
"""Reports older than this are forgotten."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS class_reports (
        domain TEXT NOT NULL, pattern TEXT NOT NULL, reporter TEXT NOT NULL, mail_class TEXT NOT NULL,
        report {octets} NOT NULL, made_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (domain, pattern, reporter))""",
    "CREATE INDEX IF NOT EXISTS class_reports_by_time ON class_reports (made_at)",
    """CREATE TABLE IF NOT EXISTS class_withdrawn (
        domain TEXT NOT NULL, pattern TEXT NOT NULL, made_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (domain, pattern))""",
)


@dataclass(frozen=True, slots=True)
class KeptReport:
    """One site's last word on one class of a domain."""

    domain: str
    pattern: str
    reporter: str
    mail_class: str
    """As it stood in the envelope."""
    made_at: float
    report: bytes = b""
    """The report of abuse, where it was asked for."""


class ClassificationStore:
    """The tables of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self._database = database
        with database.transaction():
            make_missing(database, _TABLES)

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    def report(self, one: KeptReport, now: float) -> bool:
        """Keep a report, one of each reporter and class; whether the class is withdrawn by it."""
        with self._database.transaction():
            self._database.execute("DELETE FROM class_reports WHERE made_at < ?", (now - MEMORY_S,))
            self._database.execute(
                "INSERT INTO class_reports VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (domain, pattern, reporter) DO UPDATE SET mail_class = excluded.mail_class, "
                "report = excluded.report, made_at = excluded.made_at",
                (one.domain, one.pattern, one.reporter, one.mail_class, one.report, one.made_at),
            )
            rows = self._database.execute(
                "SELECT count(*) FROM class_reports WHERE domain = ? AND pattern = ?",
                (one.domain, one.pattern),
            )
            if int(rows[0][0] or 0) < REPORTERS:
                return False
            return bool(
                self._database.execute(
                    "INSERT INTO class_withdrawn VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
                    (one.domain, one.pattern, now),
                )
            )

    def withdrawn(self, domain: str) -> frozenset[str]:
        """The patterns of a domain that are not vouched for any more."""
        rows = self._database.execute("SELECT pattern FROM class_withdrawn WHERE domain = ?", (domain,))
        return frozenset(str(row[0]) for row in rows)

    def restore(self, domain: str, pattern: str) -> bool:
        """The operator has looked at it: vouched for again, its reports forgotten; False when it was not
        withdrawn."""
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM class_reports WHERE domain = ? AND pattern = ?", (domain, pattern)
            )
            return bool(
                self._database.execute(
                    "DELETE FROM class_withdrawn WHERE domain = ? AND pattern = ? RETURNING 1",
                    (domain, pattern),
                )
            )

    def reports(self, domain: str = "") -> list[KeptReport]:
        """All that are kept, or those on one domain, with their contents."""
        rows = self._database.execute(
            "SELECT domain, pattern, reporter, mail_class, made_at, report FROM class_reports "
            "WHERE domain = ? OR ? = '' ORDER BY domain, pattern, made_at",
            (domain, domain),
        )
        return [_kept(row) for row in rows]


def _kept(row: Row) -> KeptReport:
    domain, pattern, reporter, mail_class, made_at, report = row
    octets = report if isinstance(report, bytes) else b""
    return KeptReport(str(domain), str(pattern), str(reporter), str(mail_class), float(made_at or 0), octets)


ClassificationStoreThread = SerialThread[ClassificationStore]


def open_classification_store(config: Config, data_dir: Path) -> ClassificationStore:
    """The store that the settings mean. Raises StoreUnavailable."""
    return open_store(ClassificationStore, config, data_dir, FILE)
