"""FAULT-F5, F6, F9, SEC-209: a start that would risk mail is refused and says why; damage is found."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.faults.load import make_mail
from tests.faults.sending import send
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.postgresql import PostgresServer
from tests.peers.rooms import body_files, wait_until


def linked(spool: Path) -> None:
    """The database is a link to elsewhere."""
    (spool / "spool.db").rename(spool.parent / "elsewhere")
    (spool / "spool.db").symlink_to(spool.parent / "elsewhere")


def linked_twice(spool: Path) -> None:
    """The database has a second name."""
    (spool.parent / "second").hardlink_to(spool / "spool.db")


def lock_linked(spool: Path) -> None:
    """The lock is a link."""
    (spool / "spool.lock").unlink(missing_ok=True)
    (spool / "spool.lock").symlink_to(spool.parent / "elsewhere")


def writable_by_others(spool: Path) -> None:
    """The directory is anybody's."""
    spool.chmod(0o777)


def of_somebody_else(spool: Path) -> None:
    """The directory is another user's."""
    os.chown(spool, 65534, 65534)


def from_the_future(spool: Path) -> None:
    """A newer release has used it."""
    with sqlite3.connect(spool / "spool.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()


def no_database(spool: Path) -> None:
    """Other octets."""
    (spool / "spool.db").write_bytes(os.urandom(100_000))
    (spool / "spool.db-wal").unlink(missing_ok=True)


UNSAFE: list[tuple[Callable[[Path], None], str]] = [
    (linked, "plain file"),
    (linked_twice, "plain file"),
    (lock_linked, "plain file"),
    (writable_by_others, "chmod 700"),
    (of_somebody_else, "belongs to user 65534"),
    (from_the_future, "newer release"),
    (no_database, "database"),
]


@pytest.mark.covers("SEC-209", "FAULT-F9")
@pytest.mark.parametrize(("change", "word"), UNSAFE, ids=[change.__name__ for change, _ in UNSAFE])
def test_an_unfit_spool_is_refused(change: Callable[[Path], None], word: str) -> None:
    with OutriderServer(relay(loopback_address(), loopback_address())) as server:
        server.stop()
        change(server.folder / "data" / "spool" / "1")
        with pytest.raises(RuntimeError, match=word) as refused:
            server.start()
        assert "Traceback" not in str(refused.value)


@pytest.mark.covers("FAULT-F5")
def test_the_settings_of_sqlite_are_those_that_keep_mail() -> None:
    with OutriderServer(relay(loopback_address(), loopback_address())) as server:
        (opened,) = server.log_events("spool_opened")
        assert "WAL, synchronous=FULL" in str(opened["text"])


@pytest.mark.covers("FAULT-F6")
@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_postgresql_that_forgets_is_refused(setting: str) -> None:
    with PostgresServer(loopback_address(), settings={setting: "off"}) as postgres:
        spool = {"backend": "postgresql", "dsn": postgres.dsn}
        server = OutriderServer(relay(loopback_address(), loopback_address(), spool=spool))
        with pytest.raises(RuntimeError, match=f"{setting}=off"):
            server.__enter__()


@pytest.mark.covers("FAULT-F6")
def test_the_password_of_the_database_is_not_shown() -> None:
    spool = {"backend": "postgresql", "dsn": f"postgresql://me:hunter2@{loopback_address()}:1/x"}
    server = OutriderServer(relay(loopback_address(), loopback_address(), spool=spool))
    with pytest.raises(RuntimeError, match="database") as refused:
        server.__enter__()
    assert "hunter2" not in str(refused.value)


@pytest.mark.covers("SEC-209")
def test_one_spool_has_one_server() -> None:
    with OutriderServer(relay(loopback_address(), loopback_address())) as server:
        data = str(server.folder / "data")
        second = OutriderServer(relay(loopback_address(), loopback_address(), data_dir=data))
        with pytest.raises(RuntimeError, match=f"in use by process {server.pid}"):
            second.__enter__()
        assert server.is_running()


@pytest.mark.covers("FAULT-F9")
def test_an_older_copy_is_noticed() -> None:
    with OutriderServer(relay(loopback_address(), loopback_address())) as server:
        spool = server.folder / "data" / "spool" / "1"
        server.stop()
        shutil.copy(spool / "spool.db", server.folder / "copy")
        server.start()
        server.stop()
        shutil.copy(server.folder / "copy", spool / "spool.db")
        server.start()
        (warning,) = server.log_events("spool_warning")
        assert "older than the spool" in str(warning["text"])


@pytest.mark.covers("FAULT-F9")
def test_a_log_that_has_gone_is_noticed() -> None:
    with OutriderServer(relay(loopback_address(), loopback_address())) as server:
        server.kill()
        (server.folder / "data" / "spool" / "1" / "spool.db-wal").unlink()
        server.start()
        (warning,) = server.log_events("spool_warning")
        assert "wal is gone" in str(warning["text"])


@pytest.mark.covers("FAULT-F9", "SEC-212")
def test_a_flipped_bit_holds_one_message_and_no_other() -> None:
    address, sink_address = loopback_address(), loopback_address()
    chance = random.Random(1)
    with OutriderServer(relay(address, sink_address, delivery={"retry": [2]})) as server:
        damaged = send(address, make_mail("damaged", chance, 50_000).content, "damaged@far.example")
        (body,) = body_files(server.folder / "data")
        send(address, make_mail("sound", chance, 50_000).content, "sound@far.example")
        with body.open("r+b") as file:
            file.seek(25_000)
            octet = file.read(1)
            file.seek(25_000)
            file.write(bytes([octet[0] ^ 4]))
        with Sink(sink_address, PORT) as sink:
            wait_until(lambda: ledger.counts(server)["held"] == 1, "the damaged message to be held")
            (held,) = [row for row in ledger.queue_list(server) if row["state"] == "held"]
            assert held["id"] in damaged.decode()
            wait_until(lambda: bool(sink.arrived_for("sound@far.example")), "the other message")
            assert not sink.arrived_for("damaged@far.example")


@pytest.mark.covers("SEC-212")
def test_a_malformed_row_is_set_aside() -> None:
    address, sink_address = loopback_address(), loopback_address()
    chance = random.Random(1)
    with OutriderServer(relay(address, sink_address)) as server:
        for name in ("bad", "good"):
            send(address, make_mail(name, chance, 500).content, f"{name}@far.example")
        server.stop()
        with sqlite3.connect(server.folder / "data" / "spool" / "1" / "spool.db") as database:
            first = database.execute("SELECT min(seq) FROM items").fetchone()[0]
            database.execute("UPDATE items SET data = x'ff00ff' WHERE seq = ?", (first,))
        database.close()
        with Sink(sink_address, PORT) as sink:
            server.start()
            wait_until(lambda: bool(sink.arrived_for("good@far.example")), "the good message")
            wait_until(lambda: bool(server.log_events("row_quarantined")), "the bad row to be reported")
            with Wire(address, PORT) as wire:
                wire.ehlo()


@pytest.mark.covers("FAULT-F5")
def test_check_config_says_the_same_without_starting() -> None:
    with OutriderServer(relay(loopback_address(), loopback_address())) as server:
        assert server.cli("check-config").returncode == 0
        server.config_path.write_text(server.config_path.read_text().replace("8192", "-1"))
        done = server.cli("check-config", check=False)
        assert done.returncode == 1
        assert b"inline_limit" in done.stderr
        assert isinstance(done, subprocess.CompletedProcess)
