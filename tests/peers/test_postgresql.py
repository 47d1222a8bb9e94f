"""PostgreSQL through the harness."""

from __future__ import annotations

import psycopg
import pytest

from tests.peers.postgresql import PostgresServer


def test_commits_survive_a_kill(address: str) -> None:
    with PostgresServer(address) as server:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE kept (number int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn)
        server.start()
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_parameters_change_with_a_restart(address: str) -> None:
    with PostgresServer(address, settings={"max_connections": "17"}) as server:
        assert server.sql("SHOW max_connections") == "17"
        assert server.sql("SHOW fsync") == "on"
        server.set("synchronous_commit", "off")
        assert server.sql("SHOW synchronous_commit") == "off"


def test_every_test_has_an_empty_database(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        count = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert count == (0,)
