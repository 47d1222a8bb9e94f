"""What is held for whom: from the moment that a message is held until the last of its copies is done with.

Every change is a compare-and-set on the state of a copy, so that of a withdrawal, an expiry and a retrieval
at one moment exactly one happens. Methods that change something are called within `transaction()`, several
of them in one where many ask at once (`held_thread.py`); what only looks needs none. All may be repeated.

Bodies are rows of `PART` octets, each written on its own: a message of any size passes with little memory. A
body that belongs to no message stands in `held_bodies` until it does, or until it is swept away.

Message ids are looked up by their SHA-256, and secrets compared in constant time: what an answer costs says
nothing about ids that exist, are used up, or never were (AMDP-12).
"""

# ruff: noqa: S608 - what is put into statements are our own names of columns and states, and placeholders

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from outrider.config.schema import Config
from outrider.holding.facility.held_records import (
    CopyState,
    HeldCopy,
    HeldMessage,
    Known,
    NewCopy,
    Question,
)
from outrider.holding.facility.held_tables import (
    COPY,
    MESSAGE,
    copy_of,
    filled,
    hash_of,
    make_tables,
    message_of,
    octets_of,
)
from outrider.holding.facility.threads import bounded, shared_threads, thread_for, thread_keys
from outrider.tables.database import Database, Row, Value, open_store

FILE = Path("amdp") / "held.sqlite"
"""Below data_dir."""
PART = 262_144
"""Octets of a body in one row."""
RATE_S = 60.0
"""MSG-PER-MIN counts envelopes within so long."""
_NOBODY = "-" * 26
"""What a secret is compared with where there is none: the work is the same."""
_WAITING = "('held', 'notified')"
_OPEN = "('prepared', 'held', 'notified', 'authenticated')"


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A message that may be handed out for one of its copies."""

    key: bytes
    """SHA-256 of the copy's id."""
    body: str
    size: int
    digest: str
    first: bytes
    """Its first part."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A copy that went into another state just now, with what is known of its message."""

    copy: HeldCopy
    message: HeldMessage
    first: bool = True
    """False: it was so before, and nothing happened."""


class HeldStore:
    """The tables of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self.database = database
        make_tables(database)

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, durable at its end. Raises StoreUnavailable."""
        return self.database.transaction()

    def close(self) -> None:
        """Give the database up."""
        self.database.close()

    # --- bodies ---------------------------------------------------------------------------------------------

    def begin_body(self, body: str, now: float) -> None:
        """A large body is about to be written, or goes on being: it is not swept away for a while."""
        self.database.execute(
            "INSERT INTO held_bodies VALUES (?, ?) ON CONFLICT (body) DO UPDATE "
            "SET touched_at = excluded.touched_at",
            (body, now),
        )

    def add_part(self, body: str, number: int, octets: bytes) -> None:
        """The next `PART` octets of it; the last may be fewer."""
        self.database.execute("INSERT INTO held_parts VALUES (?, ?, ?)", (body, number, octets))

    def drop_body(self, body: str) -> None:
        """No message will have it: it is swept away at the next occasion."""
        self.begin_body(body, 0.0)

    # --- holding --------------------------------------------------------------------------------------------

    def is_held(self, message: str) -> bool:
        """Whether the message is here, with its body."""
        return bool(
            self.database.execute("SELECT 1 FROM held_messages WHERE id = ? AND body <> ''", (message,))
        )

    def hold_message(self, message: HeldMessage, body: str) -> bool:
        """Remember a message whose body is written; False where it is remembered already, with a body of its
        own: this one goes. (The body may be gone again when the last of its recipients get their turn.)"""
        references = bounded(message.references)
        thread = thread_for(self.database, message.message_id, references)
        values: tuple[Value, ...] = (
            message.id, body, message.sender, message.reports_to, message.subject, message.mail_class,
            message.language, message.attachments, message.date, message.size, message.digest,
            message.held_at, message.message_id, json.dumps(references), message.envelope_id, thread,
        )  # fmt: skip
        marks = ", ".join("?" * len(values))
        fresh = self.database.execute(
            f"INSERT INTO held_messages VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET body = excluded.body "
            "WHERE held_messages.body = '' RETURNING 1",
            values,
        )
        if fresh:
            self.database.execute("DELETE FROM held_bodies WHERE body = ?", (body,))
        else:
            self.drop_body(body)
        return bool(fresh)

    def add_copies(
        self, message: str, copies: Sequence[NewCopy], state: CopyState = CopyState.HELD
    ) -> dict[int, HeldCopy]:
        """Remember copies. Those that were remembered before, by an attempt that a crash cut off, stay as
        they are and come back."""
        known: dict[int, HeldCopy] = {}
        for one in copies:
            values: tuple[Value, ...] = (
                hash_of(one.ids.id), message, one.number, one.ids.id, one.ids.confirmation, one.ids.token,
                one.recipient, state.value, one.timestamp, one.stated, float(one.stated), one.fields,
                one.keys, one.envelope, int(one.wants_receipt), one.original,
            )  # fmt: skip
            fresh = self.database.execute(
                "INSERT INTO held_copies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                "'', 0, 0, 0, '', 0, 0, 0) ON CONFLICT (message, number) DO NOTHING RETURNING 1",
                values,
            )
            if not fresh:
                found = self.copy(message, one.number)
                assert found is not None, "it is there"
                known[one.number] = found
        return known

    def announce(self, message: str, number: int, fields: str, postage: str = "") -> bool:
        """The envelope of a copy is written, anew or at last: its fields are what the call-back must tell.
        False where the copy is not waiting (any more)."""
        return bool(
            self.database.execute(
                "UPDATE held_copies SET state = CASE state WHEN 'prepared' THEN 'held' ELSE state END, "
                "fields = ?, postage = ? WHERE message = ? AND number = ? "
                "AND state IN ('prepared', 'held', 'notified') RETURNING 1",
                (fields, postage, message, number),
            )
        )

    def take_turns(self, domain: str, wanted: int, limit: int, now: float) -> int:
        """How many of `wanted` envelopes may go to a domain that takes `limit` a minute; they are counted."""
        self.database.execute(
            "INSERT INTO held_rates VALUES (?, ?, 0) ON CONFLICT (domain) DO UPDATE SET "
            "since = CASE WHEN held_rates.since <= ? THEN excluded.since ELSE held_rates.since END, "
            "granted = CASE WHEN held_rates.since <= ? THEN 0 ELSE held_rates.granted END",
            (domain, now, now - RATE_S, now - RATE_S),
        )
        rows = self.database.execute("SELECT granted FROM held_rates WHERE domain = ?", (domain,))
        granted = max(min(wanted, limit - int(rows[0][0] or 0)), 0)
        self.database.execute(
            "UPDATE held_rates SET granted = granted + ? WHERE domain = ?", (granted, domain)
        )
        return granted

    def octets_held(self) -> int:
        """Of all messages that are here."""
        rows = self.database.execute("SELECT sum(size) FROM held_messages WHERE body <> ''")
        return int(rows[0][0] or 0)

    # --- the call-back --------------------------------------------------------------------------------------

    def query(self, questions: Sequence[Question], now: float) -> list[Known | None]:
        """Answer questions (AMDP-9); changes nothing. None for all that is not known, whatever the reason."""
        hashes = [hash_of(one.id) for one in questions]
        marks, values = filled(hashes)
        rows = self.database.execute(
            "SELECT c.hash, c.recipient, c.confirmation, c.timestamp, c.stated, c.fields, c.keys, m.thread "
            f"FROM held_copies c JOIN held_messages m ON m.id = c.message WHERE c.hash IN ({marks}) "
            f"AND c.state IN {_WAITING} AND c.expires > ?",
            [*values, now],
        )
        found = {octets_of(row[0]): row for row in rows}
        shared = shared_threads(self.database, (str(row[7]) for row in rows))
        return [self._answer(one, found.get(key), shared) for one, key in zip(questions, hashes, strict=True)]

    def _answer(self, question: Question, row: Row | None, shared: frozenset[str]) -> Known | None:
        recipient, confirmation, timestamp, stated, fields, keys, thread = map(str, (row or _NO_COPY)[1:])
        told = f"{question.timestamp} {question.expires} {question.fields.lower()} {question.keys}"
        ours = f"{timestamp} {stated} {fields} {keys}"
        if not _same(told, ours) or row is None:
            return None
        known = thread_keys(self.database, thread, recipient) if thread in shared else ()
        return Known(recipient, confirmation, known)

    def acknowledge(self, pairs: Sequence[tuple[str, str]], by: str, now: float) -> list[bool]:
        """Burn the ids of (id, confirmation number) and unlock their messages; False where that cannot be. An
        acknowledgement that is repeated succeeds again (AMDP-9)."""
        hashes = [hash_of(one) for one, _ in pairs]
        marks, values = filled(hashes)
        rows = self.database.execute(
            f"SELECT hash, confirmation, state FROM held_copies WHERE hash IN ({marks}) AND expires > ? "
            f"AND (state IN {_WAITING} OR state IN ('authenticated', 'retrieved') AND by_link = 0)",
            [*values, now],
        )
        found = {octets_of(key): (str(number), str(state)) for key, number, state in rows}
        right = [
            _same(told, found.get(key, (_NOBODY, ""))[0]) and key in found
            for (_, told), key in zip(pairs, hashes, strict=True)
        ]
        burnt = {one for one, (_, state) in found.items() if state in ("authenticated", "retrieved")}
        fresh = [key for key, is_right in zip(hashes, right, strict=True) if is_right and key not in burnt]
        if fresh:
            burnt |= self._burn(fresh, by, now)
        return [is_right and key in burnt for is_right, key in zip(right, hashes, strict=True)]

    def _burn(self, hashes: Sequence[bytes], by: str, now: float) -> set[bytes]:
        marks, values = filled(hashes)
        rows = self.database.execute(
            "UPDATE held_copies SET state = 'authenticated', proven_at = ?, proven_by = ? "
            f"WHERE hash IN ({marks}) AND state IN {_WAITING} RETURNING hash",
            [now, by, *values],
        )
        burnt = {octets_of(key) for (key,) in rows}
        if len(burnt) < len(set(hashes)):
            # Another connection was faster, with the same acknowledgement or with something else.
            rows = self.database.execute(
                f"SELECT hash FROM held_copies WHERE hash IN ({marks}) AND state = 'authenticated' "
                "AND by_link = 0",
                values,
            )
            burnt |= {octets_of(key) for (key,) in rows}
        return burnt

    # --- retrieval ------------------------------------------------------------------------------------------

    def find(self, msg_id: str, secret: str, now: float) -> Changed | None:
        """What is held for one recipient, for whoever has the secret that opens it: the confirmation number
        where his server has acknowledged, else the token of his link. Done with, it is shown until it
        expires."""
        rows = self.database.execute(
            f"SELECT {COPY} FROM held_copies WHERE hash = ? AND expires > ? AND state IN "
            "('held', 'notified', 'authenticated', 'retrieved')",
            (hash_of(msg_id), now),
        )
        copy = copy_of(rows[0]) if rows else None
        if not _same(secret, _NOBODY if copy is None else secret_of(copy)) or copy is None:
            return None
        message = self.message(copy.message)
        return None if message is None else Changed(copy, message, first=False)

    def unlocked(self, msg_id: str, secret: str, now: float) -> Unlocked | None:
        """The message, where it may be handed out: authenticated, not expired, withdrawn or confirmed."""
        key = hash_of(msg_id)
        rows = self.database.execute(
            "SELECT c.confirmation, c.token, c.by_link, m.body, m.size, m.digest, p.octets "
            "FROM held_copies c JOIN held_messages m ON m.id = c.message "
            "LEFT JOIN held_parts p ON p.body = m.body AND p.number = 0 "
            "WHERE c.hash = ? AND c.state = 'authenticated' AND c.expires > ?",
            (key, now),
        )
        confirmation, token, by_link, body, size, digest, first = rows[0] if rows else _NO_MESSAGE
        if not _same(secret, str(token if by_link else confirmation)) or not rows or first is None:
            return None
        return Unlocked(key, str(body), int(size or 0), str(digest), octets_of(first))

    def part(self, unlocked: Unlocked, number: int, now: float) -> bytes | None:
        """A part of a message that is being handed out; None when that has ended: confirmed, withdrawn,
        expired. What was handed out so far is then a piece of a message, and nothing."""
        rows = self.database.execute(
            "SELECT p.octets FROM held_parts p WHERE p.body = ? AND p.number = ? AND EXISTS (SELECT 1 FROM "
            "held_copies c WHERE c.hash = ? AND c.state = 'authenticated' AND c.expires > ?)",
            (unlocked.body, number, unlocked.key, now),
        )
        return octets_of(rows[0][0]) if rows else None

    def open(self, msg_id: str, secret: str, now: float) -> Changed | None:
        """A person wants the message: by a link it is unlocked (AMDP-5a). The first time counts."""
        found = self.find(msg_id, secret, now)
        if found is None or found.copy.state is CopyState.RETRIEVED:
            return found
        by_link = found.copy.state is not CopyState.AUTHENTICATED
        rows = self.database.execute(
            "UPDATE held_copies SET state = 'authenticated', by_link = ?, opened_at = ? "
            f"WHERE hash = ? AND opened_at = 0 AND state IN {_WAITING[:-1]}, 'authenticated') "
            f"AND state = ? RETURNING {COPY}",
            (int(by_link or found.copy.by_link), now, hash_of(msg_id), found.copy.state.value),
        )
        if rows:
            return Changed(copy_of(rows[0]), found.message)
        return self.find(msg_id, secret, now)

    def receive(self, msg_id: str, secret: str, digest: str | None, now: float) -> Changed | None:
        """The receiver has it, whole: the copy is done with (AMDP-13). `digest`: what a program says it
        fetched; None for a person, who must have opened it. Repeatable."""
        found = self.find(msg_id, secret, now)
        if found is None or found.copy.state in (CopyState.HELD, CopyState.NOTIFIED):
            return None
        if digest is not None and not _same(digest, found.message.digest):
            return None
        if digest is None and not found.copy.opened_at and found.copy.state is not CopyState.RETRIEVED:
            return None
        rows = self.database.execute(
            "UPDATE held_copies SET state = 'retrieved', received_at = ?, ended_at = ? "
            f"WHERE hash = ? AND state = 'authenticated' RETURNING {COPY}",
            (now, now, hash_of(msg_id)),
        )
        if not rows:
            return self.find(msg_id, secret, now)
        self.release(found.message.id)
        return Changed(copy_of(rows[0]), found.message)

    def release(self, message: str) -> bool:
        """Give the body of a message up when the last of its copies is done with (AMDP-6)."""
        # Written to, so that of two copies that end at one moment one sees that it is the last.
        rows = self.database.execute(
            "UPDATE held_messages SET body = body WHERE id = ? AND body <> '' RETURNING body, size",
            (message,),
        )
        if not rows or self.database.execute(
            "SELECT 1 FROM held_copies WHERE message = ? AND ended_at = 0 LIMIT 1", (message,)
        ):
            return False
        body, size = str(rows[0][0]), int(rows[0][1] or 0)
        self.database.execute("UPDATE held_messages SET body = '' WHERE id = ?", (message,))
        if size <= PART:
            self.database.execute("DELETE FROM held_parts WHERE body = ?", (body,))
        else:
            self.drop_body(body)
        return True

    # --- the rest -------------------------------------------------------------------------------------------

    def message(self, message: str) -> HeldMessage | None:
        """A message by its queue id."""
        rows = self.database.execute(f"SELECT {MESSAGE} FROM held_messages WHERE id = ?", (message,))
        return message_of(rows[0]) if rows else None

    def copy(self, message: str, number: int) -> HeldCopy | None:
        """One recipient's copy."""
        rows = self.database.execute(
            f"SELECT {COPY} FROM held_copies WHERE message = ? AND number = ?", (message, number)
        )
        return copy_of(rows[0]) if rows else None


def secret_of(copy: HeldCopy) -> str:
    """What opens a copy now."""
    called_back = copy.state in (CopyState.AUTHENTICATED, CopyState.RETRIEVED) and not copy.by_link
    return copy.ids.confirmation if called_back else copy.ids.token


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


_NO_COPY: Row = (b"", "", _NOBODY, 0, 0, "0" * 64, "", "")
_NO_MESSAGE: Row = (_NOBODY, _NOBODY, 0, "", 0, "", None)


def open_held_store(config: Config, data_dir: Path) -> HeldStore:
    """The store that the settings mean. Raises StoreUnavailable."""
    return open_store(HeldStore, config, data_dir, FILE)
