"""The thread index (AMDP-21): which held messages belong together, seen from Message-ID and References.

A thread has no single authority: another server sees other messages of it, and each keeps its own view. What
is handed out in the call-back is merged by the receiver with what it has, as a union; nothing is ever
believed because of it. A receiver is told only of messages that were held for the same recipient, and of
what they name themselves: nobody learns from a thread who else takes part in it.
"""

# ruff: noqa: S608 - what is put into statements are our own names of columns and states, and placeholders

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from outrider.tables.database import Database

MOST_KEYS = 100
"""Message-IDs told of one thread."""
MOST_REFERENCES = 50
"""Of one message: its first, and its last."""
KEY_LENGTH = 250
"""Characters of a Message-ID; longer ones are left out."""
MOST_MESSAGES = 50
"""Of a thread, looked at for one answer: the latest."""


def bounded(references: Sequence[str]) -> tuple[str, ...]:
    """The references that are remembered, oldest first: the root and the latest say most."""
    fit = list(dict.fromkeys(one for one in references if 0 < len(one) <= KEY_LENGTH))
    if len(fit) > MOST_REFERENCES:
        fit = [fit[0], *fit[1 - MOST_REFERENCES :]]
    return tuple(fit)


def thread_for(database: Database, message_id: str, references: Sequence[str]) -> str:
    """The name of the thread that a message belongs to; threads that it joins become one. Within a
    transaction."""
    keys = [*references, *([message_id] if 0 < len(message_id) <= KEY_LENGTH else ())]
    if not keys:
        return ""
    if not references:
        return _present_name(database, message_id)
    marks = ", ".join("?" * len(keys))
    rows = database.execute(f"SELECT DISTINCT thread FROM held_messages WHERE message_id IN ({marks})", keys)
    found = {str(thread) for (thread,) in rows if thread}
    found.add(_present_name(database, keys[0]))
    chosen = min(found)
    for other in found - {chosen}:
        _merge(database, other, chosen)
    return chosen


def _present_name(database: Database, name: str) -> str:
    """What a thread is called since it was merged with another."""
    rows = database.execute("SELECT thread FROM held_threads WHERE name = ?", (name,))
    return str(rows[0][0]) if rows else name


def _merge(database: Database, other: str, chosen: str) -> None:
    database.execute("UPDATE held_messages SET thread = ? WHERE thread = ?", (chosen, other))
    database.execute("UPDATE held_threads SET thread = ? WHERE thread = ?", (chosen, other))
    database.execute("INSERT INTO held_threads VALUES (?, ?) ON CONFLICT DO NOTHING", (other, chosen))


def shared_threads(database: Database, threads: Iterable[str]) -> frozenset[str]:
    """Those with more than one message here."""
    names = sorted({one for one in threads if one})
    if not names:
        return frozenset()
    # Two rows of each are looked at, however many there are.
    listed = " UNION ALL ".join(["SELECT CAST(? AS TEXT) AS name", *["SELECT ?"] * (len(names) - 1)])
    rows = database.execute(
        f"SELECT name FROM ({listed}) AS n WHERE (SELECT count(*) FROM "
        "(SELECT 1 FROM held_messages m WHERE m.thread = n.name LIMIT 2) AS two) > 1",
        names,
    )
    return frozenset(str(thread) for (thread,) in rows)


def thread_keys(database: Database, thread: str, recipient: str) -> tuple[str, ...]:
    """Message-IDs of a thread that a recipient may know of, oldest first."""
    rows = database.execute(
        "SELECT m.message_id, m.refs FROM (SELECT id, message_id, refs, held_at FROM held_messages "
        "WHERE thread = ? ORDER BY held_at DESC LIMIT ?) AS m WHERE EXISTS "
        "(SELECT 1 FROM held_copies c WHERE c.message = m.id AND c.recipient = ?) ORDER BY m.held_at DESC",
        (thread, MOST_MESSAGES, recipient),
    )
    keys: dict[str, None] = {}
    for message_id, references in reversed(rows):
        for key in (*json.loads(str(references)), str(message_id)):
            if 0 < len(key) <= KEY_LENGTH:
                keys.setdefault(key)
    return tuple(keys)[-MOST_KEYS:]


def forget_threads(database: Database, limit: int) -> int:
    """Let names go whose thread has no message any more; how many."""
    rows = database.execute(
        "DELETE FROM held_threads WHERE name IN (SELECT name FROM held_threads t WHERE NOT EXISTS "
        "(SELECT 1 FROM held_messages m WHERE m.thread = t.thread) LIMIT ?) RETURNING 1",
        (limit,),
    )
    return len(rows)
