"""What is done with held mail beside holding it and handing it out: withdrawal, extension, expiry, errands,
clearing away; and what operators see of it.

Functions on a `HeldStore`; those that change something are called within its transaction.
"""

# ruff: noqa: S608 - what is put into statements are our own names of columns and states, and placeholders

from __future__ import annotations

from collections.abc import Callable, Sequence

from outrider.holding.facility.held_records import CopyState, Errand, HeldCopy, Listed
from outrider.holding.facility.held_store import Changed, HeldStore
from outrider.holding.facility.held_tables import COPY, MESSAGE, copy_of, message_of
from outrider.holding.facility.threads import forget_threads

_OPEN = "('prepared', 'held', 'notified', 'authenticated')"
HISTORY_S = 30 * 86_400.0
"""How long it is remembered what became of a message when the last of its copies is done with."""
UNFINISHED_S = 3600.0
"""A body that nobody has written to for so long belongs to an attempt that is no more."""

# --- by the operator, and by the queue ----------------------------------------------------------------------


def withdraw(store: HeldStore, message: str, numbers: Sequence[int] | None, now: float) -> list[HeldCopy]:
    """Take copies back that have not been retrieved; those that were taken back now. None: all of them."""
    return _end(store, message, numbers, CopyState.WITHDRAWN, _OPEN, now)


def refuse(store: HeldStore, message: str, number: int, now: float) -> list[HeldCopy]:
    """The envelope of a copy could not be delivered. One that was authenticated all the same stays."""
    return _end(store, message, (number,), CopyState.REFUSED, "('prepared', 'held', 'notified')", now)


def _end(
    store: HeldStore,
    message: str,
    numbers: Sequence[int] | None,
    state: CopyState,
    allowed: str,
    now: float,
) -> list[HeldCopy]:
    which = "" if numbers is None else f" AND number IN ({', '.join('?' * len(numbers))})"
    rows = store.database.execute(
        f"UPDATE held_copies SET state = ?, ended_at = ? WHERE message = ? AND state IN {allowed}{which} "
        f"RETURNING {COPY}",
        [state.value, now, message, *(numbers or ())],
    )
    if rows:
        store.release(message)
    return sorted(map(copy_of, rows), key=lambda copy: copy.number)


def notified(store: HeldStore, message: str, number: int, now: float) -> HeldCopy | None:
    """The receiver's exchanger has taken the envelope of a copy; None where it was known, or is past that."""
    rows = store.database.execute(
        "UPDATE held_copies SET notified_at = ?, state = CASE state WHEN 'held' THEN 'notified' "
        "ELSE state END WHERE message = ? AND number = ? AND notified_at = 0 RETURNING " + COPY,
        (now, message, number),
    )
    return copy_of(rows[0]) if rows else None


def extend(store: HeldStore, message: str, until: float, now: float) -> list[HeldCopy]:
    """Let what can still be had be had until then; the copies for which that is later than before."""
    rows = store.database.execute(
        f"UPDATE held_copies SET expires = ? WHERE message = ? AND state IN {_OPEN} AND expires > ? "
        f"AND expires < ? RETURNING {COPY}",
        (until, message, now, until),
    )
    return sorted(map(copy_of, rows), key=lambda copy: copy.number)


def listed(
    store: HeldStore, *, after: tuple[float, str] = (0.0, ""), limit: int = 500, past: bool = False
) -> list[Listed]:
    """Messages in the order in which they were held, from the one behind `after` (time and queue id); with
    `past` those too of which nothing can be had any more."""
    only = "" if past else "AND body <> '' "
    rows = store.database.execute(
        f"SELECT {MESSAGE}, body FROM held_messages WHERE (held_at, id) > (?, ?) {only}"
        "ORDER BY held_at, id LIMIT ?",
        (*after, limit),
    )
    return [_listed(store, row) for row in rows]


def one_listed(store: HeldStore, message: str) -> Listed | None:
    """One of them, past or not."""
    rows = store.database.execute(f"SELECT {MESSAGE}, body FROM held_messages WHERE id = ?", (message,))
    return _listed(store, rows[0]) if rows else None


def _listed(store: HeldStore, row: Sequence[str | int | float | bytes | None]) -> Listed:
    message = message_of(tuple(row[:-1]))
    states = store.database.execute(
        "SELECT state, count(*), max(CASE WHEN ended_at = 0 THEN expires ELSE 0 END) FROM held_copies "
        "WHERE message = ? GROUP BY state ORDER BY state",
        (message.id,),
    )
    counts = tuple((str(state), int(count or 0)) for state, count, _ in states)
    expires = max((float(until or 0) for _, _, until in states), default=0.0)
    return Listed(message, counts, expires, has_content=bool(row[-1]))


def copies(store: HeldStore, message: str, after: int = -1, limit: int = 500) -> list[HeldCopy]:
    """The copies of a message, in the order of their numbers, from the one behind `after`."""
    rows = store.database.execute(
        f"SELECT {COPY} FROM held_copies WHERE message = ? AND number > ? ORDER BY number LIMIT ?",
        (message, after, limit),
    )
    return [copy_of(row) for row in rows]


def on_their_way(store: HeldStore, after: tuple[str, int], limit: int) -> list[HeldCopy]:
    """Copies whose envelopes nobody is known to have taken, in order, from the one behind `after`."""
    rows = store.database.execute(
        f"SELECT {COPY} FROM held_copies WHERE (message, number) > (?, ?) AND state = 'held' "
        "AND notified_at = 0 ORDER BY message, number LIMIT ?",
        (*after, limit),
    )
    return [copy_of(row) for row in rows]


def copies_in_states(store: HeldStore) -> dict[str, int]:
    """How many copies are in each state that is not final."""
    rows = store.database.execute("SELECT state, count(*) FROM held_copies WHERE ended_at = 0 GROUP BY state")
    return {str(state): int(count or 0) for state, count in rows}


# --- clearing away ------------------------------------------------------------------------------------------


def expire(store: HeldStore, now: float, limit: int) -> list[Changed]:
    """End copies whose time is over, at most `limit`. What a person has opened counts as retrieved; what was
    never announced as refused: its sender hears of that from the queue."""
    rows = store.database.execute(
        "UPDATE held_copies SET ended_at = ?, state = CASE WHEN opened_at > 0 THEN 'retrieved' "
        "WHEN state = 'prepared' THEN 'refused' ELSE 'expired' END WHERE hash IN "
        "(SELECT hash FROM held_copies WHERE ended_at = 0 "
        f"AND expires <= ? LIMIT ?) AND ended_at = 0 RETURNING {COPY}",
        (now, now, limit),
    )
    changed: list[Changed] = []
    for copy in map(copy_of, rows):
        message = store.message(copy.message)
        if message is not None:
            store.release(copy.message)
            changed.append(Changed(copy, message))
    return changed


def doomed_bodies(store: HeldStore, now: float, limit: int) -> list[str]:
    """Bodies that no message has: given up, or left by a crash."""
    rows = store.database.execute(
        "SELECT body FROM held_bodies WHERE touched_at < ? ORDER BY touched_at LIMIT ?",
        (now - UNFINISHED_S, limit),
    )
    return [str(body) for (body,) in rows]


def delete_parts(store: HeldStore, body: str, now: float, limit: int) -> bool:
    """Delete some of the parts of a doomed body; True when it is gone. One that is being written to again is
    left alone."""
    alive = store.database.execute(
        "SELECT 1 FROM held_bodies WHERE body = ? AND touched_at < ?", (body, now - UNFINISHED_S)
    )
    if not alive:
        return True
    gone = store.database.execute(
        "DELETE FROM held_parts WHERE body = ? AND number IN "
        "(SELECT number FROM held_parts WHERE body = ? LIMIT ?) RETURNING 1",
        (body, body, limit),
    )
    if len(gone) == limit:
        return False
    store.database.execute("DELETE FROM held_bodies WHERE body = ?", (body,))
    return True


def forget(store: HeldStore, now: float, limit: int) -> int:
    """Forget messages of which nothing can be had any more, when that is long ago; how many."""
    rows = store.database.execute(
        "SELECT id FROM held_messages m WHERE held_at < ? AND body = '' AND NOT EXISTS (SELECT 1 FROM "
        "held_copies c WHERE c.message = m.id AND (c.ended_at = 0 OR c.ended_at >= ? OR c.expires >= ?)) "
        "LIMIT ?",
        (now - HISTORY_S, now - HISTORY_S, now, limit),
    )
    for (message,) in rows:
        for table in ("held_copies", "held_errands"):
            store.database.execute(f"DELETE FROM {table} WHERE message = ?", (message,))
        store.database.execute("DELETE FROM held_messages WHERE id = ?", (message,))
    forget_threads(store.database, limit)
    return len(rows)


# --- errands ------------------------------------------------------------------------------------------------


def add_errand(store: HeldStore, copy: HeldCopy, kind: str, mail: str, owner: str, now: float) -> None:
    """Something is to be done about a copy, once; `owner` is the worker that begins with it."""
    store.database.execute(
        "INSERT INTO held_errands VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
        (copy.message, copy.number, kind, mail, owner, now),
    )


def claim_errands(
    store: HeldStore, owner: str, now: float, again: Callable[[int], float], limit: int, lost_s: float
) -> list[Errand]:
    """Errands that are due; each is due again after `again(tries)` seconds unless it is done by then. One
    that its worker has let lie for `lost_s` is anybody's."""
    rows = store.database.execute(
        "SELECT message, number, kind, mail, tries FROM held_errands WHERE due <= ? "
        "AND (owner IN (?, '') OR due <= ?) ORDER BY due LIMIT ?",
        (now, owner, now - lost_s, limit),
    )
    claimed: list[Errand] = []
    for message, number, kind, mail, tries in rows:
        count = int(tries or 0) + 1
        mine = store.database.execute(
            "UPDATE held_errands SET due = ?, tries = ?, owner = ? WHERE message = ? AND number = ? "
            "AND kind = ? AND tries = ? RETURNING 1",
            (now + again(count), count, owner, message, number, kind, tries),
        )
        if mine:
            claimed.append(Errand(str(message), int(number or 0), str(kind), str(mail), count))
    return claimed


def keep_errand(store: HeldStore, errand: Errand, owner: str, due: float) -> bool:
    """Put off when a claimed errand is due again; False where another has taken it over, or it is done."""
    rows = store.database.execute(
        "UPDATE held_errands SET due = ? WHERE message = ? AND number = ? AND kind = ? AND tries = ? "
        "AND owner = ? RETURNING 1",
        (due, errand.message, errand.number, errand.kind, errand.tries, owner),
    )
    return bool(rows)


def resume_errands(store: HeldStore, owner: str, now: float) -> None:
    """A worker has been started anew: what it had claimed when it died, or put off, is due."""
    store.database.execute("UPDATE held_errands SET due = ? WHERE owner = ? AND due > ?", (now, owner, now))


def errand_done(store: HeldStore, errand: Errand) -> None:
    """It is done, or given up."""
    store.database.execute(
        "DELETE FROM held_errands WHERE message = ? AND number = ? AND kind = ?",
        (errand.message, errand.number, errand.kind),
    )
