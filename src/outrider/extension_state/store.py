"""The tables: who has chosen what, what waits for a word, and what extensions remember.

Every method is one short transaction, durable when it returns, and may be repeated. Times are seconds since
the epoch and come from the caller. All of it is bounded: by count, and by time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from outrider.extensions.choices import ANYBODY, Chosen, Waiting
from outrider.extensions.interface import Consent
from outrider.tables.database import Database, Row, StoreUnavailable, make_missing

DAY_S = 86_400.0
SCHEMA: Final = "1"
"""Version of the tables: raised with every change of them, which `_MIGRATIONS` then knows how to make."""
WAITS_S = 30 * DAY_S
"""How long a request waits for a user's word; answered ones are remembered as long, so that a message that is
handled again after a crash is not put before him again."""
WAITING_PER_USER = 200
WAITING_PER_SENDER = 20
"""Requests of one sender to one user."""
MEMORY_ENTRIES = 1_000_000
"""Of one extension."""
MEMORY_KEY, MEMORY_VALUE = 512, 65_536
"""Characters."""
COUNT_EVERY = 256
"""Insertions between two counts of the entries: the bound is kept to that."""
PURGE = 50
"""Outdated rows that go with each insertion: more than it adds."""

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS extension_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS extension_words (
        name TEXT NOT NULL, who TEXT NOT NULL, enabled BIGINT NOT NULL, PRIMARY KEY (name, who))""",
    """CREATE TABLE IF NOT EXISTS extension_grants (
        name TEXT NOT NULL, identity TEXT NOT NULL, PRIMARY KEY (name, identity))""",
    """CREATE TABLE IF NOT EXISTS extension_consents (
        name TEXT NOT NULL, who TEXT NOT NULL, sender TEXT NOT NULL, word TEXT NOT NULL,
        PRIMARY KEY (name, who, sender))""",
    """CREATE TABLE IF NOT EXISTS extension_errors (
        name TEXT NOT NULL, who TEXT NOT NULL, PRIMARY KEY (name, who))""",
    """CREATE TABLE IF NOT EXISTS extension_waiting (
        number {serial}, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, who TEXT NOT NULL,
        sender TEXT NOT NULL, message_id TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL,
        at DOUBLE PRECISION NOT NULL, proven BIGINT NOT NULL, answered TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS extension_waiting_by_who ON extension_waiting (who, sender)",
    "CREATE INDEX IF NOT EXISTS extension_waiting_by_time ON extension_waiting (at)",
    """CREATE TABLE IF NOT EXISTS extension_memory (
        oid TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (oid, key))""",
    "CREATE INDEX IF NOT EXISTS extension_memory_by_time ON extension_memory (expires)",
)
_MIGRATIONS: Final[Mapping[str, tuple[str, ...]]] = {}
"""From each older version: the statements that lead to the next."""


class ExtensionStore:
    """The tables of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable, also for tables of a later version."""
        self._database = database
        self._until_count: dict[str, int] = {}
        with database.transaction():
            make_missing(database, _TABLES)
            self._migrate()

    def _migrate(self) -> None:
        execute = self._database.execute
        execute("INSERT INTO extension_meta VALUES ('schema', ?) ON CONFLICT DO NOTHING", (SCHEMA,))
        found = str(execute("SELECT value FROM extension_meta WHERE name = 'schema'")[0][0])
        while found != SCHEMA:
            if found not in _MIGRATIONS:
                raise StoreUnavailable(f"the extensions' tables are of version {found}; this is {SCHEMA}")
            for statement in _MIGRATIONS[found]:
                execute(statement)
            found = str(int(found) + 1)
            execute("UPDATE extension_meta SET value = ? WHERE name = 'schema'", (found,))

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    # --- what was chosen ------------------------------------------------------------------------------------

    def chosen(self, allowed_from_start: frozenset[str]) -> Chosen:
        """All that holds for all."""
        enabled: dict[str, bool] = {}
        users: dict[tuple[str, str], bool] = {}
        for name, who, word in self._database.execute("SELECT name, who, enabled FROM extension_words"):
            if who:
                users[str(name), str(who)] = bool(word)
            else:
                enabled[str(name)] = bool(word)
        grants: dict[str, frozenset[str]] = {}
        for name, identity in self._database.execute("SELECT name, identity FROM extension_grants"):
            grants[str(name)] = grants.get(str(name), frozenset()) | {str(identity)}
        return Chosen(enabled, users, grants, allowed_from_start)

    def set_enabled(self, name: str, who: str, *, enabled: bool) -> None:
        """The operator's word (`who` ""), or a user's."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO extension_words VALUES (?, ?, ?) ON CONFLICT (name, who) DO UPDATE "
                "SET enabled = excluded.enabled",
                (name, who, int(enabled)),
            )

    def grant(self, name: str, identity: str) -> bool:
        """Let an identity use the extension; False when it might already."""
        with self._database.transaction():
            return bool(
                self._database.execute(
                    "INSERT INTO extension_grants VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1",
                    (name, identity),
                )
            )

    def revoke(self, name: str, identity: str) -> bool:
        """Take that back; False when there was nothing to take."""
        with self._database.transaction():
            return bool(
                self._database.execute(
                    "DELETE FROM extension_grants WHERE name = ? AND identity = ? RETURNING 1",
                    (name, identity),
                )
            )

    # --- consent --------------------------------------------------------------------------------------------

    def consent(self, name: str, who: str, sender: str) -> Consent:
        """What the user has said of the sender, else of anybody."""
        rows = self._database.execute(
            "SELECT sender, word FROM extension_consents WHERE name = ? AND who = ? AND sender IN (?, ?)",
            (name, who, sender, ANYBODY),
        )
        words = {str(one): str(word) for one, word in rows}
        return Consent(words.get(sender, words.get(ANYBODY, Consent.ASK.value)))

    def set_consent(self, name: str, who: str, sender: str, consent: Consent) -> None:
        """What the user says of the sender (or `ANYBODY`); ASK forgets what he said."""
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM extension_consents WHERE name = ? AND who = ? AND sender = ?",
                (name, who, sender),
            )
            if consent is not Consent.ASK:
                self._database.execute(
                    "INSERT INTO extension_consents VALUES (?, ?, ?, ?)", (name, who, sender, consent.value)
                )

    def consents(self, who: str = "") -> list[tuple[str, str, str, Consent]]:
        """All standing words, or one user's: (extension, user, sender, word)."""
        rows = self._database.execute(
            "SELECT name, who, sender, word FROM extension_consents WHERE ? IN ('', who) "
            "ORDER BY who, name, sender",
            (who,),
        )
        return [(str(name), str(one), str(sender), Consent(str(word))) for name, one, sender, word in rows]

    def wants_errors(self, name: str, who: str) -> bool:
        """Whether the user has asked to be told of errors."""
        return bool(
            self._database.execute("SELECT 1 FROM extension_errors WHERE name = ? AND who = ?", (name, who))
        )

    def set_errors(self, name: str, who: str, *, wanted: bool) -> None:
        """Tell the user of errors, or keep silent."""
        with self._database.transaction():
            if wanted:
                self._database.execute(
                    "INSERT INTO extension_errors VALUES (?, ?) ON CONFLICT DO NOTHING", (name, who)
                )
            else:
                self._database.execute("DELETE FROM extension_errors WHERE name = ? AND who = ?", (name, who))

    # --- requests that wait for a word ----------------------------------------------------------------------

    def ask(self, request: Waiting) -> bool:
        """Put it before the user; see `Choices.ask`."""
        parts = (request.extension, request.user, request.sender, request.message_id, request.data)
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM extension_waiting WHERE number IN "
                "(SELECT number FROM extension_waiting WHERE at < ? LIMIT ?)",
                (request.at - WAITS_S, PURGE),
            )
            waiting = "SELECT count(*) FROM extension_waiting WHERE answered = '' AND who = ?"
            if self._count(waiting, request.user) >= WAITING_PER_USER:
                return False
            if self._count(f"{waiting} AND sender = ?", request.user, request.sender) >= WAITING_PER_SENDER:
                return False
            return bool(
                self._database.execute(
                    "INSERT INTO extension_waiting "
                    "(digest, name, who, sender, message_id, text, data, at, proven, answered) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '') ON CONFLICT (digest) DO NOTHING RETURNING number",
                    (digest, *parts[:4], request.text, request.data, request.at, int(request.proven)),
                )
            )

    def _count(self, query: str, *values: str) -> int:
        return int(self._database.execute(query, values)[0][0] or 0)

    def waiting(self, now: float, who: str = "") -> list[Waiting]:
        """What waits, oldest first: everybody's, or one user's."""
        rows = self._database.execute(
            "SELECT name, who, sender, message_id, text, data, at, proven, number FROM extension_waiting "
            "WHERE answered = '' AND at >= ? AND ? IN ('', who) ORDER BY number",
            (now - WAITS_S, who),
        )
        return [_waiting(row) for row in rows]

    def waiting_one(self, number: int, now: float) -> Waiting | None:
        """One of them."""
        rows = self._database.execute(
            "SELECT name, who, sender, message_id, text, data, at, proven, number FROM extension_waiting "
            "WHERE number = ? AND answered = '' AND at >= ?",
            (number, now - WAITS_S),
        )
        return _waiting(rows[0]) if rows else None

    def answered(self, number: int, word: Consent) -> bool:
        """It waits no more; False when it did not."""
        with self._database.transaction():
            return bool(
                self._database.execute(
                    "UPDATE extension_waiting SET answered = ?, data = '' "
                    "WHERE number = ? AND answered = '' RETURNING 1",
                    (word.value, number),
                )
            )

    # --- what extensions remember ---------------------------------------------------------------------------

    def recall(self, oid: str, key: str, now: float) -> str | None:
        """See `Memory.get`."""
        rows = self._database.execute(
            "SELECT value FROM extension_memory WHERE oid = ? AND key = ? AND expires > ?", (oid, key, now)
        )
        return str(rows[0][0]) if rows else None

    def remember(self, oid: str, key: str, value: str, expires: float, now: float) -> None:
        """See `Memory.put`."""
        _check(key, value)
        with self._database.transaction():
            self._make_room(oid, now)
            self._database.execute(
                "INSERT INTO extension_memory VALUES (?, ?, ?, ?) ON CONFLICT (oid, key) DO UPDATE "
                "SET value = excluded.value, expires = excluded.expires",
                (oid, key, value, expires),
            )

    def remember_first(self, oid: str, key: str, value: str, expires: float, now: float) -> str:
        """See `Memory.add`."""
        _check(key, value)
        found = self.recall(oid, key, now)
        if found is not None:
            return found
        with self._database.transaction():
            self._make_room(oid, now)
            rows = self._database.execute(
                "INSERT INTO extension_memory VALUES (?, ?, ?, ?) ON CONFLICT (oid, key) DO UPDATE "
                "SET value = excluded.value, expires = excluded.expires "
                "WHERE extension_memory.expires <= ? RETURNING value",
                (oid, key, value, expires, now),
            )
            # Nothing comes back where another was faster.
            return value if rows else (self.recall(oid, key, now) or value)

    def exchange(self, oid: str, key: str, old: str, new: str, expires: float, now: float) -> bool:
        """See `Memory.replace`."""
        _check(key, new)
        with self._database.transaction():
            return bool(
                self._database.execute(
                    "UPDATE extension_memory SET value = ?, expires = ? "
                    "WHERE oid = ? AND key = ? AND value = ? AND expires > ? RETURNING 1",
                    (new, expires, oid, key, old, now),
                )
            )

    def forget(self, oid: str, key: str) -> bool:
        """See `Memory.drop`."""
        with self._database.transaction():
            return bool(
                self._database.execute(
                    "DELETE FROM extension_memory WHERE oid = ? AND key = ? RETURNING 1", (oid, key)
                )
            )

    def recall_all(self, oid: str, prefix: str, limit: int, now: float) -> list[tuple[str, str]]:
        """See `Memory.find`."""
        rows = self._database.execute(
            "SELECT key, value FROM extension_memory "
            "WHERE oid = ? AND substr(key, 1, ?) = ? AND key >= ? AND expires > ? ORDER BY key LIMIT ?",
            (oid, len(prefix), prefix, prefix, now, limit),
        )
        return [(str(key), str(value)) for key, value in rows]

    def _make_room(self, oid: str, now: float) -> None:
        """Let outdated entries go, and refuse one that is too many."""
        self._database.execute(
            "DELETE FROM extension_memory WHERE (oid, key) IN "
            "(SELECT oid, key FROM extension_memory WHERE expires <= ? LIMIT ?)",
            (now, PURGE),
        )
        left = self._until_count.get(oid, 0)
        if left <= 0:
            count = self._count("SELECT count(*) FROM extension_memory WHERE oid = ?", oid)
            if count >= MEMORY_ENTRIES:
                raise StoreUnavailable(f"the extension {oid} remembers {count} things, and no more")
            left = COUNT_EVERY
        self._until_count[oid] = left - 1


def _waiting(row: Row) -> Waiting:
    name, who, sender, message_id, text, data, at, proven, number = row
    return Waiting(
        str(name), str(who), str(sender), str(message_id), str(text), str(data),
        float(at or 0), bool(proven), int(number or 0),
    )  # fmt: skip


def _check(key: str, value: str) -> None:
    if len(key) > MEMORY_KEY or len(value) > MEMORY_VALUE:
        raise StoreUnavailable(f"a key has at most {MEMORY_KEY} characters, a value {MEMORY_VALUE}")
