"""A standby of a PostgreSQL peer: it follows the primary, and is promoted when that is gone."""

from __future__ import annotations

import subprocess

from tests.peers.postgresql import DATABASE, PostgresServer
from tests.peers.rooms import Room, wait_until

_USER = "postgres"
_DATA = "var/lib/postgresql/data"


class PostgresStandby(PostgresServer):
    """Copies a running primary when entered, then streams from it. Stop it before the primary goes."""

    def __init__(self, address: str, primary: PostgresServer) -> None:
        super().__init__(address)
        self._primary = primary

    def make_room(self) -> Room:
        return Room("postgresql", f"postgresql standby {self.address}:{self.port}")

    def move_in(self) -> None:
        self.room.folder("var/lib/postgresql", owner=_USER)
        self._copy()
        self.start()

    def _copy(self) -> None:
        source = ("-h", self._primary.address, "-p", str(self._primary.port), "-U", _USER)
        options = ("-R", "-X", "stream", "-c", "fast", "-D", f"/{_DATA}")
        program = ("/bin/sh", "-c", 'exec /usr/lib/postgresql/*/bin/pg_basebackup "$@"', "pg_basebackup")
        self.room.run(*program, *source, *options, user=_USER)
        subprocess.run(["chmod", "0700", self.room.path / _DATA], check=True)

    def wait_streaming(self) -> None:
        """Wait until the primary sees it following."""
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(lambda: self._primary.sql(query) == "1", f"{self.room.title} to follow")

    def promote(self) -> None:
        """Become a primary; returns when it takes writes."""
        self.sql("SELECT pg_promote(true, 60)", "postgres")
        wait_until(lambda: self.sql("SELECT pg_is_in_recovery()") == "f", f"{self.room.title} to be promoted")


def dsn_of(*servers: PostgresServer) -> str:
    """A connection string that names several servers; the client finds the primary among them."""
    hosts = ",".join(f"{server.address}:{server.port}" for server in servers)
    return f"postgresql://{_USER}@{hosts}/{DATABASE}"
