"""Where a SQLite spool may live, under which settings, and how its schema grows."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from outrider.spool.interface import SpoolError, SpoolUnavailable, UnsafeSettings
from outrider.spool.sqlite import connection as connection_module
from outrider.spool.sqlite import operations, place, reading, rows, schema
from outrider.spool.sqlite.connection import assert_safe, open_database, spool_error
from outrider.spool.sqlite.spool import SqliteSpool
from outrider.testing.spool_samples import NOW, message


@pytest.mark.covers("FAULT-F5")
def test_settings_are_read_back(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "spool.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    for weaker in ("NORMAL", "OFF"):
        connection.execute(f"PRAGMA synchronous = {weaker}")
        with pytest.raises(UnsafeSettings, match="synchronous"):
            assert_safe(connection)
    connection.close()


@pytest.mark.covers("FAULT-F5")
def test_a_database_that_cannot_keep_a_log_is_refused() -> None:
    with pytest.raises(UnsafeSettings, match="journal_mode 'memory'"):
        open_database(Path(":memory:"))


@pytest.mark.covers("FAULT-F5")
async def test_every_connection_of_a_running_spool_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    safe = connection_module.assert_safe

    def noted(connection: sqlite3.Connection) -> None:
        safe(connection)
        row = connection.execute("SELECT * FROM pragma_journal_mode, pragma_synchronous").fetchone()
        asked.append((row[0], row[1]))

    monkeypatch.setattr(connection_module, "assert_safe", noted)
    spool = SqliteSpool(tmp_path / "spool", reserve=0)
    await spool.start(NOW)
    await spool.store(message())
    await spool.close()
    assert len(asked) >= 2
    assert set(asked) == {("wal", 2)}


@pytest.mark.covers("FAULT-F5")
async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "file_system_of", lambda _: "nfs4")
    with pytest.raises(UnsafeSettings, match="nfs4"):
        await SqliteSpool(tmp_path / "spool").start(NOW)


def test_the_file_system_is_found() -> None:
    assert place.file_system_of(Path("/proc")) == "proc"


@pytest.mark.covers("SEC-209")
async def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    directory.chmod(0o770)
    with pytest.raises(UnsafeSettings, match="chmod 700"):
        await SqliteSpool(directory).start(NOW)


@pytest.mark.covers("SEC-209")
@pytest.mark.parametrize("name", [place.DATABASE, f"{place.DATABASE}-wal", place.LOCK])
@pytest.mark.parametrize("kind", ["symbolic", "hard", "directory"])
async def test_a_planted_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    if kind == "symbolic":
        (directory / name).symlink_to(target)
    elif kind == "hard":
        (directory / name).hardlink_to(target)
    else:
        (directory / name).mkdir()
    with pytest.raises(UnsafeSettings, match="plain file"):
        await SqliteSpool(directory).start(NOW)
    assert target.read_bytes() == b"precious"


@pytest.mark.covers("SEC-209")
async def test_a_foreign_owner_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    os.chown(directory, 12_345, 12_345)
    with pytest.raises(UnsafeSettings, match="belongs to user 12345"):
        await SqliteSpool(directory).start(NOW)


async def test_a_start_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    (directory / place.DATABASE).write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(SpoolUnavailable, match="NOTADB"):
            await SqliteSpool(directory).start(NOW)


# --- schema -------------------------------------------------------------------------------------------

ADDED = "CREATE TABLE added (one INTEGER);\nINSERT INTO added VALUES (7);\n"


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "spool.db")
    assert schema.migrate(connection) == 0
    steps = (*schema.MIGRATIONS, ADDED, lambda c: c.execute("INSERT INTO added VALUES (8)") and None)
    assert schema.migrate(connection, steps) == len(schema.MIGRATIONS)
    assert connection.execute("SELECT one FROM added").fetchall() == [(7,), (8,)]
    assert schema.migrate(connection, steps) == len(steps)
    assert connection.execute("SELECT count(*) FROM added").fetchone() == (2,)
    connection.close()


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "spool.db")
    schema.migrate(connection)
    with pytest.raises(sqlite3.Error):
        schema.migrate(connection, (*schema.MIGRATIONS, ADDED + "INSERT INTO nothing VALUES (1);"))
    assert schema.version(connection) == len(schema.MIGRATIONS)
    assert connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'added'").fetchone() is None
    connection.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    await (first := SqliteSpool(directory)).start(NOW)
    await first.close()
    connection = sqlite3.connect(directory / place.DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolError, match="newer release"):
        await SqliteSpool(directory).start(NOW)


# --- plans --------------------------------------------------------------------------------------------

STATEMENTS = [
    operations._DUE,
    operations._WINDOW_IS_FULL,
    operations._NEXT_DESTINATION,
    operations._DUE_AT,
    operations._SUSPECT,
    operations._BY_ID,
    operations._POSTPONE_READY,
    *operations._PURGE,
    reading._MESSAGE,
    reading._ITEMS,
    reading._TRAIL,
    reading._OLDEST,
    reading._NEXT_DUE,
    *(bulk._texts[size] for bulk in (rows._ENDED, rows._FINISHED, rows._EMPTIED) for size in (1, 4)),
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_statement_reads_the_whole_queue(tmp_path: Path, statement: str) -> None:
    """With a million waiting items a scan of a table would stop the server: each must seek."""
    connection = open_database(tmp_path / "spool.db")
    schema.migrate(connection)
    numbered = [int(part[0]) for part in statement.split("?")[1:] if part[:1].isdigit()]
    values = [0] * (max(numbered) if numbered else statement.count("?"))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    tables = ("items", "messages", "contents", "trail", "finished", "i", "m", "c", "t", "f")
    assert not [line for line in plan if line.startswith("SCAN") and line.split(" ")[1] in tables], plan
    connection.close()


@pytest.mark.parametrize("count", [1, 2, 3, 100, rows.Bulk.LARGEST, rows.Bulk.LARGEST + 1, 1500])
def test_bulk_statements_write_every_row_once(tmp_path: Path, count: int) -> None:
    connection = open_database(tmp_path / "spool.db")
    schema.migrate(connection)
    wanted = [(seq, seq + 7, b"x") for seq in range(count)]
    rows._TRAIL.run(connection, wanted)
    assert connection.execute("SELECT * FROM trail ORDER BY seq").fetchall() == wanted
    connection.close()


@pytest.mark.covers("SEC-94")
def test_errors_are_told_without_rows() -> None:
    error = sqlite3.OperationalError("near secret")
    assert "secret" not in str(spool_error(error))
