"""What lists and the vacation responder remember: members, wishes that wait for a word, bounces, answers
given.

Every method is one short transaction, durable when it returns, and may be repeated: a message whose handling
was cut off by a crash is handled again from the start, under the same id (`cause`), and then finds what it
did before instead of doing it twice.

Times are seconds since the epoch and come from the caller. Lists go by ``name@domain``, addresses by
`key_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outrider.config.schema import Config
from outrider.model.address import Address, parse_address
from outrider.tables.database import Database, Row, make_missing, open_store
from outrider.tables.seal_key import keep_seal_key, seal_key
from outrider.tables.serial_thread import SerialThread

FILE = Path("lists") / "lists.sqlite"
"""Below data_dir."""

DAY_S = 86_400.0
WISH_LIFETIME_S = 7 * DAY_S
"""How long a confirmation may take."""
WISHES_PER_ADDRESS = 3
"""Confirmations that one address is sent within a day, by all lists together: who is bombed gets no more."""
WISHES_PER_LIST = 200
"""Confirmations that one list sends within an hour."""
ANSWERS_KEPT_S = 60 * DAY_S
"""Longer than any sensible interval between answers to one sender."""
BATCH = 500
"""Rows read or removed at a time."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS list_keys (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS list_members (
        id {serial}, list TEXT NOT NULL, key TEXT NOT NULL, address TEXT NOT NULL, state TEXT NOT NULL,
        joined_at DOUBLE PRECISION NOT NULL, how TEXT NOT NULL, UNIQUE (list, key))""",
    """CREATE TABLE IF NOT EXISTS list_wishes (
        token TEXT PRIMARY KEY, list TEXT NOT NULL, wish TEXT NOT NULL, key TEXT NOT NULL,
        address TEXT NOT NULL, made_at DOUBLE PRECISION NOT NULL, used_by TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS list_wishes_by_address ON list_wishes (key, made_at)",
    "CREATE INDEX IF NOT EXISTS list_wishes_by_list ON list_wishes (list, made_at)",
    """CREATE TABLE IF NOT EXISTS list_bounces (
        member BIGINT NOT NULL, day BIGINT NOT NULL, PRIMARY KEY (member, day))""",
    """CREATE TABLE IF NOT EXISTS answers (
        who TEXT NOT NULL, sender TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, cause TEXT NOT NULL,
        PRIMARY KEY (who, sender))""",
    "CREATE INDEX IF NOT EXISTS answers_by_time ON answers (at)",
    """CREATE TABLE IF NOT EXISTS vacations (
        who TEXT PRIMARY KEY, subject TEXT NOT NULL, text TEXT NOT NULL,
        begins DOUBLE PRECISION NOT NULL, ends DOUBLE PRECISION NOT NULL)""",
)


@dataclass(frozen=True, slots=True)
class Member:
    """One subscription."""

    id: int
    """Counts up, never used for another."""
    address: Address
    active: bool
    """False: suspended because of bounces."""
    joined_at: float
    how: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asked for and has to confirm."""

    wish: str
    """subscribe or unsubscribe."""
    address: Address


@dataclass(frozen=True, slots=True)
class Bounces:
    """What a report has led to."""

    address: Address
    days: int
    suspended: bool
    """By this report."""


@dataclass(frozen=True, slots=True)
class Away:
    """A user's answer; `begins` and `ends` may be 0 for "at once" and "until further notice"."""

    subject: str
    text: str
    begins: float = 0.0
    ends: float = 0.0

    def is_current(self, now: float) -> bool:
        """Whether it is to be given now."""
        return self.begins <= now and (not self.ends or now < self.ends)


def key_of(address: Address) -> str:
    """An address as it is compared."""
    local, domain = address.key
    return f"{local}@{domain}"


class ListStore:
    """The tables of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self._database = database
        with database.transaction():
            make_missing(database, _TABLES)
            keep_seal_key(database, "list_keys")
        self.key = seal_key(database, "list_keys")

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    # --- members --------------------------------------------------------------------------------------------

    def member(self, name: str, address: Address) -> Member | None:
        """An address's subscription."""
        rows = self._database.execute(
            "SELECT id, address, state, joined_at, how FROM list_members WHERE list = ? AND key = ?",
            (name, key_of(address)),
        )
        return _member(rows[0]) if rows else None

    def member_by_id(self, name: str, member: int) -> Member | None:
        """A subscription by its number."""
        rows = self._database.execute(
            "SELECT id, address, state, joined_at, how FROM list_members WHERE list = ? AND id = ?",
            (name, member),
        )
        return _member(rows[0]) if rows else None

    def members(self, name: str, after: int = 0, limit: int = BATCH) -> list[Member]:
        """Up to `limit` members, in the order of their numbers, from the one behind `after`."""
        rows = self._database.execute(
            "SELECT id, address, state, joined_at, how FROM list_members "
            "WHERE list = ? AND id > ? ORDER BY id LIMIT ?",
            (name, after, limit),
        )
        return [_member(row) for row in rows]

    def active_members(self, name: str, after: int, up_to: int, limit: int) -> list[Member]:
        """Up to `limit` members that get mail, numbers above `after`, not above `up_to`."""
        rows = self._database.execute(
            "SELECT id, address, state, joined_at, how FROM list_members "
            "WHERE list = ? AND state = 'active' AND id > ? AND id <= ? ORDER BY id LIMIT ?",
            (name, after, up_to, limit),
        )
        return [_member(row) for row in rows]

    def last_member(self, name: str) -> int:
        """The highest number that a member has; 0 for an empty list."""
        rows = self._database.execute("SELECT max(id) FROM list_members WHERE list = ?", (name,))
        return int(rows[0][0] or 0)

    def counts(self, name: str) -> tuple[int, int]:
        """(active, suspended)."""
        rows = self._database.execute(
            "SELECT state, count(*) FROM list_members WHERE list = ? GROUP BY state", (name,)
        )
        found = {str(state): int(count or 0) for state, count in rows}
        return found.get("active", 0), found.get("suspended", 0)

    def join(self, name: str, address: Address, how: str, now: float) -> bool:
        """Make the address a member that gets mail; False when it was one."""
        with self._database.transaction():
            return self._join(name, address, how, now)

    def _join(self, name: str, address: Address, how: str, now: float) -> bool:
        key = key_of(address)
        changed = self._database.execute(
            "INSERT INTO list_members (list, key, address, state, joined_at, how) "
            "VALUES (?, ?, ?, 'active', ?, ?) ON CONFLICT (list, key) DO UPDATE "
            "SET state = 'active', joined_at = excluded.joined_at, how = excluded.how "
            "WHERE list_members.state <> 'active' RETURNING id",
            (name, key, str(address), now, how),
        )
        if changed:
            self._database.execute("DELETE FROM list_bounces WHERE member = ?", (changed[0][0],))
        return bool(changed)

    def leave(self, name: str, address: Address) -> bool:
        """End an address's subscription; False when it had none."""
        with self._database.transaction():
            return self._leave(name, address)

    def _leave(self, name: str, address: Address) -> bool:
        gone = self._database.execute(
            "DELETE FROM list_members WHERE list = ? AND key = ? RETURNING id", (name, key_of(address))
        )
        for row in gone:
            self._database.execute("DELETE FROM list_bounces WHERE member = ?", row)
        return bool(gone)

    # --- wishes that wait for a word ------------------------------------------------------------------------

    def wish(self, name: str, wish: Wish, token: str, now: float) -> str:
        """Remember a wish until it is confirmed; why it is not, "" when it is. Repeatable by its token."""
        key = key_of(wish.address)
        with self._database.transaction():
            if self._database.execute("SELECT 1 FROM list_wishes WHERE token = ?", (token,)):
                return ""
            self._forget_wishes(now)
            recent = "SELECT count(*) FROM list_wishes WHERE {} = ? AND made_at > ?"
            if self._count(recent.format("key"), key, now - DAY_S) >= WISHES_PER_ADDRESS:
                return "this address has been asked often enough today"
            if self._count(recent.format("list"), name, now - 3600) >= WISHES_PER_LIST:
                return "this list has asked often enough within the hour"
            self._database.execute(
                "INSERT INTO list_wishes VALUES (?, ?, ?, ?, ?, ?, '')",
                (token, name, wish.wish, key, str(wish.address), now),
            )
        return ""

    def _count(self, query: str, *values: str | float) -> int:
        return int(self._database.execute(query, values)[0][0] or 0)

    def _forget_wishes(self, now: float) -> None:
        self._database.execute(
            "DELETE FROM list_wishes WHERE token IN "
            "(SELECT token FROM list_wishes WHERE made_at < ? LIMIT ?)",
            (now - WISH_LIFETIME_S, BATCH),
        )

    def confirm(self, name: str, token: str, cause: str, now: float) -> Wish | None:
        """Do what the token's wish was; None for a token unknown, expired, or used by another message."""
        with self._database.transaction():
            rows = self._database.execute(
                "UPDATE list_wishes SET used_by = ? WHERE token = ? AND list = ? AND made_at > ? "
                "AND used_by IN ('', ?) RETURNING wish, address",
                (cause, token, name, now - WISH_LIFETIME_S, cause),
            )
            if not rows:
                return None
            wish = Wish(str(rows[0][0]), parse_address(str(rows[0][1])))
            if wish.wish == "subscribe":
                self._join(name, wish.address, "confirmed by mail", now)
            else:
                self._leave(name, wish.address)
            return wish

    # --- bounces --------------------------------------------------------------------------------------------

    def bounced(self, name: str, member: int, now: float, *, limit: int, memory_s: float) -> Bounces | None:
        """A report on a member's copy: at most one counts a day, so that one bad day suspends nobody.

        None when there is no such member, or he is suspended already.
        """
        today = int(now // DAY_S)
        with self._database.transaction():
            found = self.member_by_id(name, member)
            if found is None or not found.active:
                return None
            self._database.execute(
                "DELETE FROM list_bounces WHERE member = ? AND day < ?",
                (member, int((now - memory_s) // DAY_S)),
            )
            self._database.execute(
                "INSERT INTO list_bounces VALUES (?, ?) ON CONFLICT DO NOTHING", (member, today)
            )
            days = self._count("SELECT count(*) FROM list_bounces WHERE member = ?", member)
            suspended = 0 < limit <= days
            if suspended:
                self._database.execute("UPDATE list_members SET state = 'suspended' WHERE id = ?", (member,))
        return Bounces(found.address, days, suspended)

    # --- answers --------------------------------------------------------------------------------------------

    def answer(self, who: str, sender: str, cause: str, now: float, interval_s: float) -> bool:
        """Whether `who` may answer this sender now: once in an interval, except that the same message
        (`cause`) may be answered again, as its first answer was lost with a crash. It is remembered when it
        is."""
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM answers WHERE (who, sender) IN "
                "(SELECT who, sender FROM answers WHERE at < ? LIMIT ?)",
                (now - max(interval_s, ANSWERS_KEPT_S), BATCH),
            )
            rows = self._database.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (who, sender) DO UPDATE "
                "SET at = excluded.at, cause = excluded.cause "
                "WHERE answers.cause = excluded.cause OR answers.at <= ? RETURNING 1",
                (who, sender, now, cause, now - interval_s),
            )
        return bool(rows)

    # --- users who are away ---------------------------------------------------------------------------------

    def set_away(self, who: str, away: Away) -> None:
        """From now on this is the user's answer; whoever had the last one gets the new one too."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO vacations VALUES (?, ?, ?, ?, ?) ON CONFLICT (who) DO UPDATE SET "
                "subject = excluded.subject, text = excluded.text, "
                "begins = excluded.begins, ends = excluded.ends",
                (who, away.subject, away.text, away.begins, away.ends),
            )
            self._database.execute("DELETE FROM answers WHERE who = ?", (who,))

    def end_away(self, who: str) -> bool:
        """The user is back; False when he was not away."""
        with self._database.transaction():
            return bool(self._database.execute("DELETE FROM vacations WHERE who = ? RETURNING who", (who,)))

    def away(self) -> dict[str, Away]:
        """All that are set, by ``user@domain``."""
        rows = self._database.execute("SELECT who, subject, text, begins, ends FROM vacations ORDER BY who")
        return {
            str(who): Away(str(subject), str(text), float(begins or 0), float(ends or 0))
            for who, subject, text, begins, ends in rows
        }


def _member(row: Row) -> Member:
    number, address, state, joined_at, how = row
    return Member(
        int(number or 0), parse_address(str(address)), state == "active", float(joined_at or 0), str(how)
    )


ListStoreThread = SerialThread[ListStore]


def open_list_store(config: Config, data_dir: Path) -> ListStore:
    """The store that the settings mean. Raises StoreUnavailable."""
    return open_store(ListStore, config, data_dir, FILE)
