"""What the incoming gateway remembers of envelopes whose holders have answered (AMDP-9, AMDP-10).

A row is an *arrival*: holder and message id, which queue entry of ours has it, the confirmation number, the
digest, and how far it has come. It is durable before the holder is told to burn the id, and it is the only
thing that tells an attempt that is made again after a crash from a replay: the same queue id goes on where
it was, another one is dropped (SEC-182). Beside it stands why envelopes were dropped, which nobody is told.

Numbers open messages: they stand here, in messages to the mailbox they are for, and in no log.
"""

# ruff: noqa: S608 - what is put into statements are our own names of columns

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import TypeVar

from outrider.config.schema import Config
from outrider.model.message import MessageId
from outrider.tables.database import Database, Row, open_store

R = TypeVar("R")
FILE = Path("amdp") / "arrivals.sqlite"
"""Below data_dir."""
KEPT_S = 2 * 86_400.0
"""How long an arrival is remembered beyond its expiry: clocks differ, and people ask."""
DROPS_KEPT_S = 30 * 86_400.0
MOST_KEPT_S = 366 * 86_400.0
"""A holder may name any day as the last; nothing is remembered longer than this."""
REPORT_EVERY_S = 86_400.0
"""One report on one domain and fault within this time."""
PURGE_EVERY_S = 600.0
PURGE = 1000
"""Rows at once."""


class ArrivalState(Enum):
    """How far an envelope has come since its holder answered."""

    DELIVERED = "delivered"
    """The envelope goes to its mailbox; the reader fetches."""
    FETCHING = "fetching"
    """This server fetches the message."""
    STORED = "stored"
    """The message is in the spool under `Arrival.fetched_as`."""
    RECEIVED = "received"
    """The holder knows that we have it."""
    LOST = "lost"
    """It could not be had; its reader was told so."""


class Why(Enum):
    """Why an envelope was dropped (AMDP-10): a closed list, for counters."""

    MALFORMED = "malformed"
    NO_ADDRESS = "no-address"
    """It did not come over the network."""
    EXPIRED = "expired"
    TIME = "time"
    """Dated far ahead."""
    NOT_GENUINE = "not-genuine"
    UNKNOWN = "unknown"
    """The holder does not know it, or knows it otherwise than it came."""
    RECIPIENT = "recipient"
    """The holder meant another recipient."""
    REPLAYED = "replayed"
    POLICY = "policy"
    DENIED = "denied"
    CLASS = "class"
    """Nobody vouches for the class."""
    POSTAGE = "postage"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An envelope whose holder has confirmed it."""

    holder: str
    """AMDP-MHF-Name."""
    port: int
    id: str
    """AMDP-Msg-Id."""
    message: MessageId
    """Our queue id for the envelope."""
    domain: str
    """The sender's, authenticated."""
    recipient: str
    """As the holder named it."""
    confirmation: str = field(repr=False)
    digest: str
    """AMDP-Digest."""
    how: str
    """By what the holder was found genuine: for facts and the trail."""
    fetched_as: MessageId
    """The queue id under which the message will be, or is, stored."""
    state: ArrivalState
    expires: float
    at: float
    thread: tuple[str, ...] = ()
    """Keys that the holder handed over (AMDP-21)."""


@dataclass(frozen=True, slots=True)
class DroppedEnvelope:
    """An envelope that ended here."""

    message: MessageId
    why: Why
    words: str
    domain: str
    """The sender's, as claimed; "" where it could not be read."""
    holder: str
    at: float


_TABLES = (
    """CREATE TABLE IF NOT EXISTS arrivals (
        holder TEXT NOT NULL, id TEXT NOT NULL, port BIGINT NOT NULL, message TEXT NOT NULL,
        domain TEXT NOT NULL, recipient TEXT NOT NULL, confirmation TEXT NOT NULL, digest TEXT NOT NULL,
        how TEXT NOT NULL, fetched_as TEXT NOT NULL, state TEXT NOT NULL, expires DOUBLE PRECISION NOT NULL,
        at DOUBLE PRECISION NOT NULL, thread TEXT NOT NULL, PRIMARY KEY (holder, id))""",
    "CREATE INDEX IF NOT EXISTS arrivals_by_expiry ON arrivals (expires)",
    """CREATE TABLE IF NOT EXISTS arrivals_dropped (
        message TEXT PRIMARY KEY, why TEXT NOT NULL, words TEXT NOT NULL, domain TEXT NOT NULL,
        holder TEXT NOT NULL, at DOUBLE PRECISION NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS arrivals_dropped_by_time ON arrivals_dropped (at)",
    """CREATE TABLE IF NOT EXISTS arrivals_reported (
        domain TEXT NOT NULL, why TEXT NOT NULL, message TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (domain, why))""",
)
_NAMES = (
    *("holder", "id", "port", "message", "domain", "recipient", "confirmation", "digest", "how"),
    *("fetched_as", "state", "expires", "at", "thread"),
)
_COLUMNS = ", ".join(_NAMES)
MOST_ROWS = 64
"""In one statement: each lets go of the interpreter, and gets it back from a busy event loop late."""


class ArrivalStore:
    """The tables. Belongs to one thread; every method may be repeated. All raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        """Make what is missing."""
        self._database = database
        self._purged_at = 0.0
        with database.transaction():
            for statement in (*database.alone, *_TABLES):
                database.execute(statement)

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    def together(self, works: Sequence[Callable[[ArrivalStore], object]]) -> list[object]:
        """Do several things in one transaction: what each gives."""
        with self._database.transaction():
            return [work(self) for work in works]

    # --- inside a transaction of `together`, or alone -------------------------------------------------------

    def find(self, holder: str, message_id: str) -> Arrival | None:
        """What is remembered of that id of that holder."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM arrivals WHERE holder = ? AND id = ?", (holder, message_id)
        )
        return _arrival(rows[0]) if rows else None

    def find_all(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Arrival]:
        """What is remembered of several; those that are not known are left out."""
        found: dict[tuple[str, str], Arrival] = {}
        for part in _parts(keys):
            rows = self._database.execute(
                f"SELECT {_COLUMNS} FROM arrivals WHERE (holder, id) IN (VALUES {_table(2, part)})",
                list(chain.from_iterable(part)),
            )
            found |= {(one.holder, one.id): one for one in map(_arrival, rows)}
        return found

    def confirm(self, arrival: Arrival) -> Arrival:
        """See `confirm_all`."""
        return self.confirm_all([arrival])[0]

    def confirm_all(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Remember them. What is given back is what stands there, in their order: that of another queue entry
        where one was faster (the caller's envelope is a replay)."""
        if arrivals:
            self._purge(arrivals[0].at)
        inserted: set[Row] = set()
        for part in _parts(arrivals):
            inserted.update(
                self._database.execute(
                    f"INSERT INTO arrivals ({_COLUMNS}) VALUES {_table(len(_NAMES), part)}"
                    " ON CONFLICT (holder, id) DO NOTHING RETURNING holder, id, message",
                    list(chain.from_iterable(map(_row, part))),
                )
            )
        late = [one for one in arrivals if (one.holder, one.id, one.message) not in inserted]
        before = self.find_all([(one.holder, one.id) for one in late])
        return [before.get((one.holder, one.id), one) for one in arrivals]

    def move(self, holder: str, message_id: str, state: ArrivalState) -> None:
        """It has come that far."""
        self._database.execute(
            "UPDATE arrivals SET state = ? WHERE holder = ? AND id = ?", (state.value, holder, message_id)
        )

    def drop(self, dropped: DroppedEnvelope) -> None:
        """An envelope ended here (AMDP-10)."""
        self._database.execute(
            "INSERT INTO arrivals_dropped VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (message) DO NOTHING",
            (
                dropped.message, dropped.why.value, dropped.words[:500], dropped.domain, dropped.holder,
                dropped.at,
            ),
        )  # fmt: skip

    def dropped(self, message: MessageId) -> DroppedEnvelope | None:
        """Why the envelope of that queue id was dropped; None when it was not."""
        rows = self._database.execute(
            "SELECT message, why, words, domain, holder, at FROM arrivals_dropped WHERE message = ?",
            (message,),
        )
        if not rows:
            return None
        name, why, words, domain, holder, at = rows[0]
        return DroppedEnvelope(
            MessageId(str(name)), Why(why), str(words), str(domain), str(holder), float(at or 0)
        )

    def may_report(self, domain: str, why: str, message: MessageId, now: float) -> bool:
        """Whether a report on that domain and fault is due, which then counts as made for this message; the
        same message may ask again."""
        rows = self._database.execute(
            "INSERT INTO arrivals_reported VALUES (?, ?, ?, ?) ON CONFLICT (domain, why) DO UPDATE SET"
            " message = excluded.message, at = excluded.at WHERE arrivals_reported.at <= ?"
            " OR arrivals_reported.message = excluded.message RETURNING 1",
            (domain, why, message, now, now - REPORT_EVERY_S),
        )
        return bool(rows)

    def counts(self) -> dict[str, int]:
        """How many arrivals stand where, and how many envelopes were dropped for what."""
        rows = self._database.execute("SELECT state, count(*) FROM arrivals GROUP BY state")
        rows += self._database.execute("SELECT why, count(*) FROM arrivals_dropped GROUP BY why")
        return {str(word): int(count or 0) for word, count in rows}

    def _purge(self, now: float) -> None:
        """Let go what nobody asks for any more, a little at a time."""
        if now < self._purged_at + PURGE_EVERY_S:
            return
        self._purged_at = now
        self._database.execute(
            "DELETE FROM arrivals WHERE (holder, id) IN"
            " (SELECT holder, id FROM arrivals WHERE expires < ? LIMIT ?)",
            (now - KEPT_S, PURGE),
        )
        self._database.execute(
            "DELETE FROM arrivals_dropped WHERE message IN"
            " (SELECT message FROM arrivals_dropped WHERE at < ? LIMIT ?)",
            (now - DROPS_KEPT_S, PURGE),
        )
        self._database.execute("DELETE FROM arrivals_reported WHERE at < ?", (now - DROPS_KEPT_S,))


def _parts(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    """As many as one statement takes; the last is repeated up to a power of two, so that few texts have to be
    prepared."""
    for start in range(0, len(rows), MOST_ROWS):
        part = list(rows[start : start + MOST_ROWS])
        size = 1 << (len(part) - 1).bit_length()
        yield part + [part[-1]] * (size - len(part))


def _table(width: int, rows: Sequence[object]) -> str:
    return ", ".join([f"({', '.join('?' * width)})"] * len(rows))


def _row(arrival: Arrival) -> Row:
    return (
        arrival.holder, arrival.id, arrival.port, arrival.message, arrival.domain, arrival.recipient,
        arrival.confirmation, arrival.digest, arrival.how, arrival.fetched_as, arrival.state.value,
        min(arrival.expires, arrival.at + MOST_KEPT_S), arrival.at, "\n".join(arrival.thread),
    )  # fmt: skip


def _arrival(row: Row) -> Arrival:
    (
        holder, message_id, port, message, domain, recipient, confirmation, digest, how, fetched_as, state,
        expires, at, thread,
    ) = row  # fmt: skip
    return Arrival(
        str(holder), int(port or 0), str(message_id), MessageId(str(message)), str(domain), str(recipient),
        str(confirmation), str(digest), str(how), MessageId(str(fetched_as)), ArrivalState(state),
        float(expires or 0), float(at or 0), tuple(filter(None, str(thread).split("\n"))),
    )  # fmt: skip


def open_arrivals(config: Config, data_dir: Path) -> ArrivalStore:
    """The tables of this server or cluster. Raises StoreUnavailable."""
    return open_store(ArrivalStore, config, data_dir, FILE)
