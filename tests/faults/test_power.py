"""FAULT-F4: the power is cut at random moments under load, and what was not synced is lost.

SIGKILL leaves the page cache; these tests do not. See `powerloss.py` for what a cut takes. The tests that
show that nothing is lost have sisters that show that they would have seen it: the same with a program, or a
disk, that does less than it should.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import careless
from tests.faults.account import account_of, check_account, drained
from tests.faults.figures import Case, blocks, publish, short_and_long
from tests.faults.load import DOMAIN, Load, is_whole
from tests.faults.powered import Powered, PoweredPostgres
from tests.faults.powerloss import Names
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import read_maildir, wait_until

pytestmark = pytest.mark.serial

BLOCK = 20
"""Rounds after which all mail is accounted for."""


@pytest.fixture
def powered(tmp_path: Path) -> Powered:
    """The folder `disk`, on which the power can be cut."""
    root = tmp_path / "disk"
    root.mkdir()
    return Powered(root, tmp_path / "journal", Names.STRICT)


def cut_rounds(server: OutriderServer, powered: Powered, rounds: int, chance: random.Random) -> int:
    """Cut the power at a random moment of the server's work, in one round of five once more while it starts;
    how often it was cut."""
    cuts = 0
    for number in range(rounds):
        time.sleep(chance.uniform(0.05, 0.4))
        server.kill()
        powered.cut(chance)
        cuts += 1
        if number % 5 == 4:
            server.start_and_kill(chance.uniform(0.3, 1.0))
            powered.cut(chance)
            cuts += 1
        server.start()
    return cuts


@pytest.mark.covers("FAULT-F4", "SMTP-5", "FAULT-F14")
@short_and_long(5, 100)
def test_a_power_cut_loses_nothing(powered: Powered, tmp_path: Path, rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, data_dir=str(tmp_path / "disk" / "data"))
    case = Case("F4", "power cut", "SQLite")
    for block in blocks(case, rounds, BLOCK):
        dropped = powered.disk.dropped
        with (
            Sink(sink_address, PORT, keeps_bodies=False) as sink,
            OutriderServer(configuration, environment=powered.environment) as server,
        ):
            with Load(address, PORT, pause_s=0.02, prefix=block.prefix) as load:
                cuts = cut_rounds(server, powered, block.rounds, random.Random(f"4 {block.done}"))
            account = check_account(server, load, sink, cuts)
        risk = powered.disk.dropped - dropped
        case.publish(account.figures(cuts) | {"octets at risk": risk})
        assert powered.disk.strays == 0
        assert risk > 0


@pytest.mark.covers("FAULT-F4")
def test_a_commit_without_a_sync_would_be_seen(powered: Powered, tmp_path: Path) -> None:
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, data_dir=str(tmp_path / "disk" / "data"))
    with OutriderServer(configuration, command=careless.COMMAND, environment=powered.environment) as server:
        with Load(address, PORT, sizes=(100, 1500)) as load:
            # There is no sink yet: what is lost cannot have gone on before.
            cuts = cut_rounds(server, powered, 4, random.Random(5))
        with Sink(sink_address, PORT) as sink:
            drained(server)
            account = account_of(load, sink)
    publish("F4", "power cut, synchronous=NORMAL put in by the test", "SQLite", account.figures(cuts))
    assert account.lost


@pytest.mark.covers("FAULT-F4", "SMTP-8")
@short_and_long(5, 100)
def test_a_power_cut_takes_nothing_from_a_mailbox(powered: Powered, tmp_path: Path, rounds: int) -> None:
    address = loopback_address()
    names = ["a", "b", "c"]
    disk = tmp_path / "disk"
    box = {"deliver": f"maildir:{disk}/mail/{{user}}", "users": names, "separator": "-"}
    configuration = relay(address, address, data_dir=str(disk / "data"), domains={DOMAIN: box})
    configuration["routes"] = {}
    with OutriderServer(configuration, environment=powered.environment) as server:
        with Load(address, PORT, refused=False, pause_s=0.02) as load:
            cuts = cut_rounds(server, powered, rounds, random.Random(6))
        drained(server, 120 + 5 * rounds)
        delivered = {
            name: [
                (token_of(mail), is_whole(mail.replace(b"\n", b"\r\n")))
                for mail in read_maildir(disk / "mail" / name)
            ]
            for name in names
        }
    found = Counter((name, token) for name, box in delivered.items() for token, _ in box)
    wanted = [(to[0], mail.token) for mail in load.acknowledged.values() for to in mail.recipients]
    lost = [entry for entry in wanted if not found[entry]]
    cut = [token for box in delivered.values() for token, whole in box if not whole]
    figures = {
        "rounds": cuts,
        "acknowledged": len(load.acknowledged),
        "lost": len(lost),
        "truncated": len(cut),
        "duplicates": found.total() - len(found),
    }
    publish("F4", "power cut, delivery to Maildirs", "SQLite", figures)
    assert not lost
    assert not cut


def token_of(mail: bytes) -> str:
    """By which the load knows it."""
    found = re.search(rb"(?m)^X-Token: (\w+)\r?$", mail)
    return found[1].decode() if found else ""


# --- PostgreSQL -----------------------------------------------------------------------------------------

SETTINGS = {"checkpoint_timeout": "30s", "max_wal_size": "32MB", "min_wal_size": "32MB"}
"""Checkpoints come often, so that cuts fall into them."""


def cut_database_rounds(
    server: OutriderServer, postgres: PoweredPostgres, rounds: int, chance: random.Random
) -> None:
    """Cut the power of the database's machine; in every other round ours is the same machine."""
    for number in range(rounds):
        time.sleep(chance.uniform(0.1, 0.6))
        if number % 3 == 2:
            threading.Thread(target=begin_checkpoint, args=(postgres,), daemon=True).start()
            time.sleep(chance.uniform(0.0, 0.1))
        together = number % 2 == 1
        if together:
            server.kill()
        postgres.cut(chance)
        postgres.start()
        if together:
            server.start()


def begin_checkpoint(postgres: PoweredPostgres) -> None:
    """One that may not come to its end."""
    with contextlib.suppress(RuntimeError):
        postgres.sql("CHECKPOINT")


@pytest.mark.covers("FAULT-F4", "SMTP-5", "FAULT-F14")
@short_and_long(4, 100)
def test_a_power_cut_of_the_database_loses_nothing(rounds: int) -> None:
    sink_address, address = loopback_address(), loopback_address()
    case = Case("F4", "power cut", "PostgreSQL")
    with PoweredPostgres(loopback_address(), settings=SETTINGS) as postgres:
        disk = postgres.powered.disk
        spool = {"backend": "postgresql", "dsn": postgres.dsn}
        for block in blocks(case, rounds, BLOCK):
            dropped = disk.dropped
            with (
                Sink(sink_address, PORT, keeps_bodies=False) as sink,
                OutriderServer(relay(address, sink_address, spool=spool)) as server,
            ):
                with Load(address, PORT, prefix=block.prefix) as load:
                    chance = random.Random(f"7 {block.done}")
                    cut_database_rounds(server, postgres, block.rounds, chance)
                    taken = len(load.acknowledged)
                    wait_until(
                        lambda load=load, taken=taken: len(load.acknowledged) > taken,
                        "mail after the last cut",
                    )
                account = check_account(server, load, sink, block.rounds)
            risk = disk.dropped - dropped
            case.publish(account.figures(block.rounds) | {"octets at risk": risk})
            assert risk > 0


@pytest.mark.covers("FAULT-F4")
def test_a_database_on_a_lying_disk_would_be_seen() -> None:
    sink_address, address = loopback_address(), loopback_address()
    log = re.compile(r"[0-9A-F]{24}|xlogtemp.*")
    with PoweredPostgres(
        loopback_address(), settings=SETTINGS, lies=lambda name: log.fullmatch(name) is not None
    ) as postgres:
        spool = {"backend": "postgresql", "dsn": postgres.dsn}
        with OutriderServer(relay(address, sink_address, spool=spool)) as server:
            with Load(address, PORT, sizes=(100, 1500)) as load:
                wait_until(lambda: len(load.acknowledged) > 200, "some mail")
                server.kill()
            postgres.cut(random.Random(8))
            try:
                postgres.start()
                server.start()
            except RuntimeError:
                return  # without its log the cluster does not even start
            with Sink(sink_address, PORT) as sink:
                drained(server)
                assert account_of(load, sink).lost


# --- the instrument ---------------------------------------------------------------------------------------


def test_the_journal_misses_nothing(powered: Powered, tmp_path: Path) -> None:
    sink_address, address = loopback_address(), loopback_address()
    configuration = relay(address, sink_address, data_dir=str(tmp_path / "disk" / "data"))
    with Sink(sink_address, PORT), OutriderServer(configuration, environment=powered.environment) as server:
        with Load(address, PORT) as load:
            wait_until(lambda: len(load.acknowledged) > 100, "some mail")
        server.restart()
        server.stop()
        powered.replay()
        assert powered.disk.writes > 0
        assert powered.disk.strays == 0
        assert powered.disk.differences() == []


def test_the_journal_misses_nothing_of_a_database(tmp_path: Path) -> None:
    sink_address, address = loopback_address(), loopback_address()
    with Sink(sink_address, PORT), PoweredPostgres(loopback_address()) as postgres:
        spool = {"backend": "postgresql", "dsn": postgres.dsn}
        with (
            OutriderServer(relay(address, sink_address, spool=spool)),
            Load(address, PORT) as load,
        ):
            wait_until(lambda: len(load.acknowledged) > 100, "some mail")
        postgres.stop()
        powered = postgres.powered
        powered.replay()
        assert powered.disk.writes > 0
        # Written by stdio, which is not seen: caches and statistics, which a crash discards anyhow.
        by_stdio = re.compile(
            r"(.*/)?(pg_internal\.init|postmaster\.opts|postmaster\.pid|outrider\.conf|pgstat\.stat)|pg_dynshmem/.*"
        )
        assert [name for name in powered.disk.differences() if not by_stdio.fullmatch(name)] == []
