"""What the subscription service remembers (AMDP-19): people's rules, wishes that wait for a confirmation, how
often who has asked, what was seen of other servers.

Every method is one short transaction, durable when it returns. Times are seconds since the epoch and come
from the caller. Each change of a rule made here gets the next number, in the order in which changes become
visible, so that other servers can ask for what is new.
"""

# ruff: noqa: S608 - what is put into statements is placeholders

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outrider.config.schema import Config
from outrider.holding.subscriptions.request_counts import DAY_S, RequestCounts
from outrider.holding.subscriptions.request_counts import TABLES as COUNT_TABLES
from outrider.holding.subscriptions.wishes import ANYBODY, Rule, Standing, Subject
from outrider.lists.store import key_of
from outrider.model.address import Address, parse_address
from outrider.tables.database import Database, Row, Value, make_missing, open_store
from outrider.tables.seal_key import keep_seal_key, seal_key
from outrider.tables.serial_thread import SerialThread

FILE = Path("holding") / "subscriptions.sqlite"
"""Below data_dir."""

WISH_LIFETIME_S = 7 * DAY_S
"""How long a confirmation may take."""
LETTERS_PER_ADDRESS = 3
"""That one address is sent within a day, whoever applies: who is bombed gets no more."""
LETTER_LEASE_S = 300.0
"""For which a worker has taken a letter that is to be written."""
RULES_PER_ADDRESS = 1000
"""More nobody has; it bounds what one person costs."""
BATCH = 500
"""Rows read or removed at a time."""
ENGLISH = "en"
HERE = ""
"""The origin of what was confirmed at this server."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS subscription_keys (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS subscription_numbers (
        name TEXT PRIMARY KEY, value BIGINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS subscription_rules (
        id {serial}, key TEXT NOT NULL, address TEXT NOT NULL, sender TEXT NOT NULL, pattern TEXT NOT NULL,
        standing TEXT NOT NULL, changed_at DOUBLE PRECISION NOT NULL, how TEXT NOT NULL, origin TEXT NOT NULL,
        change BIGINT NOT NULL, UNIQUE (key, sender, pattern))""",
    "CREATE INDEX IF NOT EXISTS subscription_rules_by_change ON subscription_rules (origin, change)",
    """CREATE TABLE IF NOT EXISTS subscription_wishes (
        token TEXT PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, address TEXT NOT NULL,
        sender TEXT NOT NULL, pattern TEXT NOT NULL, made_at DOUBLE PRECISION NOT NULL,
        letter_at DOUBLE PRECISION NOT NULL, leased_until DOUBLE PRECISION NOT NULL,
        used_at DOUBLE PRECISION NOT NULL)""",
    # Of letters that are written in another language than English.
    "CREATE TABLE IF NOT EXISTS subscription_languages (token TEXT PRIMARY KEY, language TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS subscription_wishes_by_address ON subscription_wishes (key, made_at)",
    "CREATE INDEX IF NOT EXISTS subscription_wishes_by_letter ON subscription_wishes (letter_at, made_at)",
    *COUNT_TABLES,
)
_RULE = "id, address, sender, pattern, standing, changed_at, how"
_NO_LETTER = -1.0
"""In `letter_at`: there will be none."""


@dataclass(frozen=True, slots=True)
class Application:
    """What somebody asks for in the name of an address."""

    kind: str
    """accept, deny, leave, subscribe, unsubscribe (both of a list here), show."""
    address: Address
    subject: Subject
    language: str = ENGLISH
    """What its letter is written in; one of `letter_texts.LETTERS`."""


@dataclass(frozen=True, slots=True)
class PendingWish:
    """An application that waits for its letter or for its confirmation."""

    token: str
    application: Application
    used: bool = False
    """It was confirmed before."""


@dataclass(frozen=True, slots=True)
class Change:
    """A rule, and the number of its last change here."""

    number: int
    rule: Rule


class SubscriptionStore:
    """The tables of one server or cluster. Belongs to one thread."""

    def __init__(self, database: Database) -> None:
        """Make what is missing. Raises StoreUnavailable."""
        self._database = database
        with database.transaction():
            make_missing(database, _TABLES)
            keep_seal_key(database, "subscription_keys")
            database.execute("INSERT INTO subscription_numbers VALUES ('change', 0) ON CONFLICT DO NOTHING")
        self.counts = RequestCounts(database)
        self.key = seal_key(database, "subscription_keys")

    def close(self) -> None:
        """Give the database up."""
        self._database.close()

    # --- wishes that wait -----------------------------------------------------------------------------------

    def apply(self, token: str, application: Application, now: float, *, letter: bool) -> bool:
        """Remember an application until it is confirmed; whether a letter is to be written.

        Without `letter` (nobody is to be asked) the same is done, so that it takes the same time; no token of
        such a one is ever told.
        """
        one = application
        key = key_of(one.address)
        with self._database.transaction():
            self._forget_wishes(now)
            told = self._number(
                "SELECT count(*) FROM subscription_wishes WHERE key = ? AND made_at > ? AND letter_at >= 0",
                key,
                now - DAY_S,
            )
            asks = letter and told < LETTERS_PER_ADDRESS
            self._database.execute(
                "INSERT INTO subscription_wishes VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                (
                    token,
                    one.kind,
                    key,
                    str(one.address),
                    one.subject.sender,
                    one.subject.pattern,
                    now,
                    0.0 if asks else _NO_LETTER,
                ),
            )
            if one.language != ENGLISH:
                self._database.execute(
                    "INSERT INTO subscription_languages VALUES (?, ?)", (token, one.language)
                )
        return asks

    def _forget_wishes(self, now: float) -> None:
        self._database.execute(
            "DELETE FROM subscription_wishes WHERE token IN (SELECT token FROM subscription_wishes "
            "WHERE made_at < ? LIMIT ?)",
            (now - WISH_LIFETIME_S, BATCH),
        )
        self._database.execute(
            "DELETE FROM subscription_languages WHERE token IN (SELECT l.token FROM subscription_languages l "
            "WHERE NOT EXISTS (SELECT 1 FROM subscription_wishes w WHERE w.token = l.token) LIMIT ?)",
            (BATCH,),
        )

    def letters_due(self, now: float, limit: int) -> list[PendingWish]:
        """Wishes whose letters are to be written now, each for one worker: he has it for LETTER_LEASE_S."""
        with self._database.transaction():
            rows = self._database.execute(
                "UPDATE subscription_wishes SET leased_until = ? WHERE token IN ("
                "SELECT token FROM subscription_wishes WHERE letter_at = 0 AND leased_until <= ? "
                "AND made_at > ? ORDER BY made_at LIMIT ?) AND leased_until <= ? "
                "RETURNING token, kind, address, sender, pattern, used_at",
                (now + LETTER_LEASE_S, now, now - WISH_LIFETIME_S, limit, now),
            )
            return self._pending(rows)

    def _pending(self, rows: Sequence[Row]) -> list[PendingWish]:
        """With their languages."""
        languages = self._languages([str(row[0]) for row in rows])
        return [_pending(row, languages.get(str(row[0]), ENGLISH)) for row in rows]

    def _languages(self, tokens: Sequence[str]) -> dict[str, str]:
        """Of those that are not in English."""
        if not tokens:
            return {}
        marks = ", ".join("?" * len(tokens))
        rows = self._database.execute(
            f"SELECT token, language FROM subscription_languages WHERE token IN ({marks})", tokens
        )
        return {str(token): str(language) for token, language in rows}

    def letter_written(self, token: str, now: float) -> None:
        """It is in the spool."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE subscription_wishes SET letter_at = ? WHERE token = ?", (now, token)
            )

    def pending(self, token: str, now: float) -> PendingWish | None:
        """What a confirmation is for; None for a token unknown or expired, or one that was never told."""
        rows = self._database.execute(
            "SELECT token, kind, address, sender, pattern, used_at FROM subscription_wishes "
            "WHERE token = ? AND made_at > ? AND letter_at >= 0",
            (token, now - WISH_LIFETIME_S),
        )
        return next(iter(self._pending(rows)), None)

    def confirm(self, token: str, now: float) -> PendingWish | None:
        """Do what the wish was, once. A token may be shown again and then changes nothing (`used`)."""
        with self._database.transaction():
            rows = self._database.execute(
                "UPDATE subscription_wishes SET used_at = ? WHERE token = ? AND made_at > ? "
                "AND letter_at >= 0 AND used_at = 0 RETURNING token, kind, address, sender, pattern, 0",
                (now, token, now - WISH_LIFETIME_S),
            )
            if not rows:
                return self.pending(token, now)
            [found] = self._pending(rows)
            one = found.application
            if one.kind == "leave":
                self._leave_all(one.address, one.subject, now)
            elif one.kind in _STANDINGS:
                self._set(one.address, one.subject, _STANDINGS[one.kind], _BY_LETTER, now)
        return found

    def _leave_all(self, address: Address, subject: Subject, now: float) -> None:
        """Every class of a sender, or the one."""
        for one in self.rules_of(address):
            if one.subject.sender == subject.sender and subject.pattern in (ANYBODY, one.subject.pattern):
                self._set(address, one.subject, Standing.LEFT, _BY_LETTER, now)

    # --- rules ----------------------------------------------------------------------------------------------

    def set(self, address: Address, subject: Subject, standing: Standing, how: str, now: float) -> bool:
        """The person's word from now on; False when it was his word already, or he has too many rules."""
        with self._database.transaction():
            return self._set(address, subject, standing, how, now)

    def leave(self, rule: int, now: float, how: str) -> Rule | None:
        """End one rule by its number: the rule as it was; None when there is none (any more)."""
        with self._database.transaction():
            found = self.rule(rule)
            if found is None or found.standing is Standing.LEFT:
                return None
            self._set(found.address, found.subject, Standing.LEFT, how, now)
        return found

    def rule(self, rule: int) -> Rule | None:
        """A rule by its number, one that was left too."""
        rows = self._database.execute(
            f"SELECT {_RULE} FROM subscription_rules WHERE id = ?",
            (rule,),
        )
        return _rule(rows[0]) if rows else None

    def rules_of(self, address: Address) -> list[Rule]:
        """What a person wishes now, at most RULES_PER_ADDRESS."""
        rows = self._database.execute(
            f"SELECT {_RULE} FROM subscription_rules WHERE key = ? AND standing <> 'left' "
            "ORDER BY sender, pattern LIMIT ?",
            (key_of(address), RULES_PER_ADDRESS),
        )
        return [_rule(row) for row in rows]

    def rules_towards(self, addresses: Sequence[Address], senders: Sequence[str]) -> dict[str, list[Rule]]:
        """By address (`key_of`), what these people wish of mail from any of these senders (as in Subject)."""
        found: dict[str, list[Rule]] = {}
        keys = [key_of(one) for one in addresses]
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            rows = self._database.execute(
                f"SELECT {_RULE} FROM subscription_rules WHERE key IN ({_marks(some)}) "
                f"AND sender IN ({_marks(senders)}) AND standing <> 'left'",
                (*some, *senders),
            )
            for row in rows:
                rule = _rule(row)
                found.setdefault(key_of(rule.address), []).append(rule)
        return found

    def rules(self, after: int, limit: int = BATCH) -> list[Rule]:
        """Up to `limit` rules that were not left, in the order of their numbers, from the one behind
        `after`."""
        rows = self._database.execute(
            f"SELECT {_RULE} FROM subscription_rules WHERE id > ? AND standing <> 'left' ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [_rule(row) for row in rows]

    def _set(self, address: Address, subject: Subject, standing: Standing, how: str, now: float) -> bool:
        key = key_of(address)
        # Taken first: whoever has the next number has it until his change is visible.
        change = self._next_change()
        if not self._has_room(key, subject):
            return False
        return self._write(Rule(0, address, subject, standing, now, how), HERE, change)

    def _write(self, one: Rule, origin: str, change: int) -> bool:
        rows = self._database.execute(
            "INSERT INTO subscription_rules "
            "(key, address, sender, pattern, standing, changed_at, how, origin, change) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, sender, pattern) DO UPDATE SET "
            "standing = excluded.standing, changed_at = excluded.changed_at, how = excluded.how, "
            "origin = excluded.origin, change = excluded.change "
            "WHERE subscription_rules.standing <> excluded.standing RETURNING 1",
            (
                key_of(one.address),
                str(one.address),
                one.subject.sender,
                one.subject.pattern,
                one.standing.value,
                one.changed_at,
                one.how,
                origin,
                change,
            ),
        )
        return bool(rows)

    def _has_room(self, key: str, subject: Subject) -> bool:
        others = self._number(
            "SELECT count(*) FROM subscription_rules WHERE key = ? AND NOT (sender = ? AND pattern = ?)",
            key,
            subject.sender,
            subject.pattern,
        )
        return others < RULES_PER_ADDRESS

    def _next_change(self) -> int:
        rows = self._database.execute(
            "UPDATE subscription_numbers SET value = value + 1 WHERE name = 'change' RETURNING value"
        )
        return int(rows[0][0] or 0)

    # --- other servers --------------------------------------------------------------------------------------

    def changes(self, after: int, limit: int = BATCH) -> list[Change]:
        """What was confirmed or left here, in the order of its numbers, from the one behind `after`; from the
        first when there never was such a number: this database was restored from a backup, and the peer hears
        all again."""
        if after > self._number("SELECT value FROM subscription_numbers WHERE name = 'change'"):
            after = 0
        rows = self._database.execute(
            f"SELECT {_RULE}, change FROM subscription_rules WHERE origin = ? AND change > ? "
            "ORDER BY change LIMIT ?",
            (HERE, after, limit),
        )
        return [Change(int(row[7] or 0), _rule(row[:7])) for row in rows]

    def take_over(self, peer: str, changes: Iterable[Rule], seen: int) -> list[Rule]:
        """Another server's changes, up to its number `seen`; what of them was new here.

        The later word counts, at the same moment the one that wants less mail.
        """
        new: list[Rule] = []
        with self._database.transaction():
            for one in changes:
                if self._is_newer(one) and self._has_room(key_of(one.address), one.subject):
                    self._write(replace(one, how=f"from {peer}"), peer, 0)
                    new.append(one)
            self._database.execute(
                "INSERT INTO subscription_numbers VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
                "SET value = excluded.value",
                (f"peer {peer}", seen),
            )
        return new

    def seen_of(self, peer: str) -> int:
        """The number up to which a peer's changes were taken over."""
        return self._number("SELECT value FROM subscription_numbers WHERE name = ?", f"peer {peer}")

    def _is_newer(self, one: Rule) -> bool:
        rows = self._database.execute(
            "SELECT standing, changed_at FROM subscription_rules "
            "WHERE key = ? AND sender = ? AND pattern = ?",
            (key_of(one.address), one.subject.sender, one.subject.pattern),
        )
        if not rows:
            return True
        standing, changed_at = Standing(str(rows[0][0])), float(rows[0][1] or 0)
        if standing is one.standing:
            return False
        return (one.changed_at, _CAUTION[one.standing]) > (changed_at, _CAUTION[standing])

    def _number(self, query: str, *values: Value) -> int:
        rows = self._database.execute(query, values)
        return int(rows[0][0] or 0) if rows else 0


_STANDINGS = {"accept": Standing.ACCEPT, "deny": Standing.DENY}
_BY_LETTER = "confirmed by letter"
_CAUTION = {Standing.ACCEPT: 0, Standing.LEFT: 1, Standing.DENY: 2}


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _pending(row: Row, language: str) -> PendingWish:
    token, kind, address, sender, pattern, used_at = row
    subject = Subject(str(sender), str(pattern))
    application = Application(str(kind), parse_address(str(address)), subject, language)
    return PendingWish(str(token), application, float(used_at or 0) > 0)


def _rule(row: Row) -> Rule:
    number, address, sender, pattern, standing, changed_at, how = row
    return Rule(
        int(number or 0),
        parse_address(str(address)),
        Subject(str(sender), str(pattern)),
        Standing(str(standing)),
        float(changed_at or 0),
        str(how),
    )


SubscriptionStoreThread = SerialThread[SubscriptionStore]


def open_subscription_store(config: Config, data_dir: Path) -> SubscriptionStore:
    """The store that the settings mean. Raises StoreUnavailable."""
    return open_store(SubscriptionStore, config, data_dir, FILE)
