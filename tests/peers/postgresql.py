"""PostgreSQL as a peer: a cluster of its own per server, reached over TCP on loopback."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.peers.images import STORE, PeerSetupError, locked
from tests.peers.rooms import Room, wait_until
from tests.peers.tenant import Tenant

DATABASE = "outrider"
_USER = "postgres"
DATA = "var/lib/postgresql/data"
"""The cluster's folder, within the room."""


class PostgresServer(Tenant):
    """A running PostgreSQL with the empty database `outrider`; any loopback client is the superuser.

    `settings` are server parameters. Unless they say otherwise, commits are as durable as in production
    (fsync, synchronous_commit and full_page_writes are on): the spool refuses to start on anything less.
    """

    def __init__(self, address: str, port: int = 5432, *, settings: Mapping[str, str] | None = None) -> None:
        self.address = address
        self.port = port
        self._settings = dict(settings or {})
        self.environment: Mapping[str, str] = {}
        """What the server has in its environment beside the room's own."""

    @property
    def dsn(self) -> str:
        """The connection string of the database."""
        return f"postgresql://{_USER}@{self.address}:{self.port}/{DATABASE}"

    def make_room(self) -> Room:
        return Room("postgresql", f"postgresql {self.address}:{self.port}")

    def move_in(self) -> None:
        self.room.folder("var/lib/postgresql", owner=_USER)
        template = _template_cluster(self.room)
        # Not by hard links: the server writes into these files.
        subprocess.run(["cp", "-a", "--reflink=auto", template, self.room.path / DATA], check=True)
        self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.room.stop(signal.SIGQUIT)  # "immediate": the data is about to be removed
        super().__exit__(kind, value, trace)

    def start(self) -> None:
        """Start the server and wait until it answers queries."""
        self.room.write(f"{DATA}/outrider.conf", self._configuration(), owner=_USER)
        self.room.start(*_program("postgres"), "-D", f"/{DATA}", user=_USER, environment=self.environment)
        self.room.wait_listening(self.address, self.port)
        wait_until(self._answers, f"{self.room.title} answering queries")

    def stop(self) -> None:
        """Shut down as an administrator does: sessions are ended, everything is written out."""
        self.room.stop(signal.SIGINT)

    def kill(self) -> None:
        """End every process of the server at once; the next `start` recovers from the log."""
        self.room.kill()
        (self.room.path / DATA / "postmaster.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def set(self, parameter: str, value: str) -> None:
        """Change a server parameter and restart."""
        self._settings[parameter] = value
        self.restart()

    def sql(self, statement: str, database: str = DATABASE) -> str:
        """Run a statement by psql; returns unaligned tuples, raises RuntimeError when it fails."""
        arguments = ("-h", self.address, "-p", str(self.port), "-U", _USER, "-d", database)
        options = ("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1")
        done = self.room.run(*_program("psql"), *arguments, *options, "-c", statement)
        return done.stdout.decode().strip()

    def create_database(self, name: str) -> str:
        """Create another empty database; returns its connection string."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.dsn.removesuffix(DATABASE) + name

    def log(self) -> str:
        """Return all that the server has logged."""
        return self.room.log()

    def _configuration(self) -> str:
        settings = {
            "listen_addresses": self.address,
            "port": str(self.port),
            "unix_socket_directories": "/tmp",
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "32MB",
            "max_connections": "60",
            "log_min_messages": "warning",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
            **self._settings,
        }
        return "".join(f"{name} = '{value}'\n" for name, value in settings.items())

    def _answers(self) -> bool:
        arguments = ("-h", self.address, "-p", str(self.port), "-U", _USER, "-d", DATABASE, "-q")
        return self.room.run(*_program("pg_isready"), *arguments, check=False).returncode == 0


def _program(name: str) -> tuple[str, ...]:
    # The release in the path is the distribution's; the room has exactly one.
    return ("/bin/sh", "-c", f'exec /usr/lib/postgresql/*/bin/{name} "$@"', name)


def _template_cluster(room: Room) -> Path:
    """Return a freshly initialised cluster to copy; making one takes longer than all the rest."""
    template = STORE / "images" / "postgresql-cluster"
    with locked(STORE / "images" / "postgresql-cluster.lock"):
        if not (template / "PG_VERSION").is_file():
            _initialise(room, template)
    return template


def _initialise(room: Room, template: Path) -> None:
    data = room.path / DATA
    options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={_USER}")
    room.run(*_program("initdb"), *options, "-D", f"/{DATA}", user=_USER)
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("include_if_exists = 'outrider.conf'\n")
    with (data / "pg_hba.conf").open("a") as access:
        access.write("host all all 127.0.0.0/8 trust\n")
    created = room.run(
        *(*_program("postgres"), "--single", "-D", f"/{DATA}", "postgres"),
        stdin=f"CREATE DATABASE {DATABASE};\n".encode(),
        user=_USER,
        check=False,
    )
    if created.returncode:
        raise PeerSetupError(f"could not create a database: {created.stderr.decode(errors='replace')}")
    scratch = template.with_suffix(".new")
    subprocess.run(["rm", "-rf", scratch, template], check=True)
    subprocess.run(["cp", "-a", data, scratch], check=True)
    scratch.rename(template)
    subprocess.run(["rm", "-rf", data], check=True)
