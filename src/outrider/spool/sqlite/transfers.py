"""Which MT2 transfers were taken already (MT2-18a): asked at every envelope, so answered on the event loop.

What is asked within one tick is one statement, a seek for each; a thread would cost more in waiting for the
interpreter than the seeks do (see `writer`). The connection is its own: one that another statement is reading
on would go on seeing the database as it was when that began.

With several workers each has a spool of its own, and a peer that was cut off may come back to another worker:
so the spools beside this one are asked too, before the answer is no.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from outrider.model.layered import TakenTransfer
from outrider.spool import codec
from outrider.spool.codec import Malformed
from outrider.spool.interface import SpoolError, SpoolUnavailable
from outrider.spool.sqlite.connection import open_database, spool_error
from outrider.spool.sqlite.place import DATABASE

_FIND = """
SELECT t.peer, t.transfer, t.data FROM json_each(?) AS asked CROSS JOIN transfers t
ON t.peer = json_extract(asked.value, '$[0]') AND t.transfer = json_extract(asked.value, '$[1]')
"""

Key = tuple[str, str]
Found = asyncio.Future[TakenTransfer | None]


class TransferLookups:
    """Answers `Spool.find_transfer` for a SQLite spool. Belongs to the event loop."""

    def __init__(self, database: Path, *, has_siblings: bool) -> None:
        """`has_siblings`: the folder above the spool's holds spools of other workers. Raises sqlite3.Error,
        SpoolError."""
        self._own = open_database(database, read_only=True, busy_s=0.0)
        self._siblings = Siblings(database) if has_siblings else None
        self._asked: dict[Key, list[Found]] = {}

    def find(self, peer: str, transfer: str) -> Found:
        """See `Spool.find_transfer`."""
        loop = asyncio.get_running_loop()
        found: Found = loop.create_future()
        if not self._asked:
            loop.call_soon(self._answer)
        self._asked.setdefault((peer, transfer), []).append(found)
        return found

    def _answer(self) -> None:
        asked, self._asked = self._asked, {}
        try:
            known = self._look_up(list(asked))
        except SpoolError as error:
            for future in (one for futures in asked.values() for one in futures):
                if not future.done():
                    future.set_exception(type(error)(str(error)))
            return
        for key, futures in asked.items():
            for future in futures:
                if not future.done():
                    future.set_result(known.get(key))

    def _look_up(self, keys: Sequence[Key]) -> dict[Key, TakenTransfer]:
        known = find_transfers(self._own, keys)
        left = [key for key in keys if key not in known]
        if left and self._siblings is not None:
            for connection in self._siblings.connections():
                known |= find_transfers(connection, left)
        return known

    def close(self) -> None:
        """Let go of the databases; what is asked afterwards fails."""
        self._own.close()
        if self._siblings is not None:
            self._siblings.close()


class Siblings:
    """The databases of the spools beside one, opened to be read."""

    def __init__(self, database: Path, opened: Callable[[Path], sqlite3.Connection] | None = None) -> None:
        self._own = database.parent.name
        self._folder = database.parent.parent
        self._open = opened or (lambda path: open_database(path, read_only=True, busy_s=0.0))
        self._connections: dict[str, sqlite3.Connection] = {}
        self._seen_ns = -1

    def connections(self) -> Sequence[sqlite3.Connection]:
        """One for each spool there is. Raises SpoolUnavailable: a spool that cannot be asked may know."""
        try:
            changed_ns = self._folder.stat().st_mtime_ns
            names = {path.parent.name for path in self._folder.glob(f"*/{DATABASE}")}
        except OSError as error:
            raise SpoolUnavailable(f"{self._folder}: {error.strerror}") from error
        if changed_ns != self._seen_ns:
            self.close()  # a spool may have been put in another's place
            self._seen_ns = changed_ns
        for name in sorted(names - {self._own} - self._connections.keys()):
            try:
                self._connections[name] = self._open(self._folder / name / DATABASE)
            except sqlite3.Error as error:
                raise spool_error(error) from error
        return [connection for name, connection in self._connections.items() if name in names]

    def close(self) -> None:
        """Close all."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()


def find_transfers(connection: sqlite3.Connection, keys: Sequence[Key]) -> dict[Key, TakenTransfer]:
    """Those of the transfers that this database knows. Raises SpoolError.

    One whose row cannot be read is an error too: to say that it is not known would take its mail twice.
    """
    try:
        rows = connection.execute(_FIND, (json.dumps(keys),)).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return {}  # of an older release, and not started since: it has taken none
        raise spool_error(error) from error
    except sqlite3.Error as error:
        raise spool_error(error) from error
    known = {}
    for peer, transfer, data in rows:
        try:
            known[peer, transfer] = codec.decode_transfer(peer, transfer, data)
        except Malformed as error:
            raise SpoolUnavailable(f"the record of transfer {transfer!r} is damaged: {error}") from None
    return known
