"""Fixtures that hand peers to tests: `from tests.peers...` classes serve where more than one is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.postgresql import PostgresServer
from tests.peers.tools import Swaks


@pytest.fixture
def address() -> str:
    """A loopback address that nothing else uses."""
    return loopback_address()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """A certificate authority of the test's own."""
    return CertificateAuthority(tmp_path / "authority")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of a worker that do not restart it; see `postgres_dsn`."""
    with PostgresServer(loopback_address()) as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The connection string of an empty database of the test's own, dropped afterwards."""
    name = f"test_{abs(hash(request.node.nodeid)):x}"
    yield postgres_server.create_database(name)
    postgres_server.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def swaks_client() -> Iterator[Swaks]:
    """swaks, unpacked once per worker."""
    with Swaks() as program:
        yield program
