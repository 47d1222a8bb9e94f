"""A server and a PostgreSQL whose power can be cut: they run with `powerloss.c` preloaded."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults.powerloss import Disk, Names
from tests.peers.images import PROJECT, PeerSetupError, locked
from tests.peers.postgresql import DATA, PostgresServer

_FOLDER = PROJECT / "var" / "faults"


def preloaded(name: str) -> Path:
    """The library made of the C file of that name beside this one; it is compiled when it has changed."""
    source = Path(__file__).with_name(f"{name}.c")
    library = _FOLDER / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    with locked(_FOLDER / f"{name}.lock"):
        if not library.exists():
            _compile(source, library)
    return library


def _compile(source: Path, library: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise PeerSetupError("these tests need a C compiler on the PATH: install the packages gcc, libc6-dev")
    scratch = library.with_suffix(".new")
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(scratch), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PeerSetupError(f"{source.name} could not be compiled: {done.stderr}")
    scratch.rename(library)


class Powered:
    """A folder on an imagined disk, and the environment in which programs use it."""

    def __init__(
        self, root: Path, journal: Path, names: Names, *, lies: Callable[[str], bool] | None = None
    ) -> None:
        self._journal = journal
        self._journal.touch()
        self._journal.chmod(0o666)  # the database runs as a user of its own
        self.disk = Disk(root, names, lies=lies)
        self.environment = environment(preloaded("powerloss"), root, journal)

    def replay(self) -> None:
        """Take what was done since the last time into account; no program may be running."""
        self.disk.replay(self._journal.read_bytes())
        os.truncate(self._journal, 0)

    def cut(self, chance: random.Random) -> None:
        """What the power cut leaves is there; the programs have ended already."""
        self.replay()
        self.disk.cut(chance)


def environment(library: Path, root: Path, journal: Path) -> dict[str, str]:
    """What a program needs in its environment, with the paths as it sees them."""
    return {
        "LD_PRELOAD": os.fspath(library),
        "OUTRIDER_POWER_ROOT": os.fspath(root),
        "OUTRIDER_POWER_JOURNAL": os.fspath(journal),
    }


class PoweredPostgres(PostgresServer):
    """A PostgreSQL whose machine can lose its power."""

    def __init__(
        self,
        address: str,
        *,
        settings: Mapping[str, str] | None = None,
        lies: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(address, settings=settings)
        self._lies = lies
        self.powered: Powered | None = None

    def start(self) -> None:
        """Start the server, on a disk that is watched from its first start on."""
        if self.powered is None:
            self._install()
        super().start()

    def _install(self) -> None:
        library, journal = Path("/tmp/powerloss.so"), Path("/tmp/journal")
        self.room.copy_in(preloaded("powerloss"), "tmp/powerloss.so", mode=0o755)
        self.powered = Powered(
            self.room.path / DATA, self.room.path / "tmp/journal", Names.ORDERED, lies=self._lies
        )
        self.environment = environment(library, Path("/") / DATA, journal)

    def cut(self, chance: random.Random) -> None:
        """The machine loses its power: every process is gone, and so is what chance takes of the unsynced."""
        assert self.powered is not None
        self.kill()
        self.powered.cut(chance)
        # The number of a process that is gone; an administrator removes it, and systemd's unit for it does.
        (self.room.path / DATA / "postmaster.pid").unlink(missing_ok=True)
