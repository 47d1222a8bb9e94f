"""Reads `[domains]` into a `RecipientTable`, and says of every mistake where it stands (SMTP-8).

All mistakes are found in one go, loops and dead alias targets included, so that `check-config` shows them
before anything is exchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from outrider.config.schema import Config
from outrider.config.schema import Domain as DomainSettings
from outrider.model.address import Address, AddressError, Domain, parse_address, parse_domain
from outrider.routing.list_addresses import MAX_NAME, Purpose, is_list_name, list_address, list_local
from outrider.routing.local_users import (
    POSTMASTER,
    AliasLoop,
    DomainTable,
    RecipientTable,
    UnknownUser,
    folded,
    is_mailbox_name,
)

ReadFile = Callable[[str], str]
"""Gives a file's text; raises OSError, or UnicodeDecodeError where it is not UTF-8."""

MAX_LINE = 65_536
"""Characters of one logical line of a table."""

_NOT_AN_ADDRESS = re.compile(r'"?\s*(\||/|:include:)', re.IGNORECASE)


class TableError(ValueError):
    """The tables cannot be used; `problems` has one line each, beginning with a key or ``file:line``."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(slots=True)
class _Reader:
    """Reads tables and collects what is wrong with them."""

    read_file: ReadFile
    problems: list[str] = field(default_factory=list)

    def lines(self, key: str, path: str) -> Iterator[tuple[str, str]]:
        """(``file:line``, text) for each logical line: comments gone, continuations joined."""
        try:
            text = self.read_file(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            self.problems.append(f"{key}: cannot read {path}: {reason}")
            return
        yield from _logical_lines(path, text)

    def users(self, key: str, users: tuple[str, ...] | str, domain: Domain) -> frozenset[str]:
        """The local parts of a list or a file, folded."""
        entries = self.lines(key, users) if isinstance(users, str) else ((key, user) for user in users)
        return frozenset(filter(None, (self._user(where, text, domain) for where, text in entries)))

    def _user(self, where: str, text: str, domain: Domain) -> str:
        local, at, rest = text.rpartition("@")
        name = folded(local if at and rest.casefold() == domain else text)
        if is_mailbox_name(name):
            return name
        self.problems.append(f"{where}: {text!r} cannot be a mailbox name")
        return ""

    def aliases(
        self, key: str, aliases: dict[str, tuple[str, ...] | str] | str, domain: Domain
    ) -> dict[str, tuple[Address, ...]]:
        """Alias name to targets, from a table or a file."""
        found: dict[str, tuple[Address, ...]] = {}
        for where, name, targets in self._alias_entries(key, aliases):
            name = folded(name)
            if name in found:
                self.problems.append(f"{where}: alias {name!r} is given twice")
            addresses = [self.target(where, target, domain) for target in targets]
            found[name] = tuple(one for one in addresses if one is not None)
        return found

    def _alias_entries(
        self, key: str, aliases: dict[str, tuple[str, ...] | str] | str
    ) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        if not isinstance(aliases, str):
            for name, targets in aliases.items():
                yield f"{key}.{name}", name, (targets,) if isinstance(targets, str) else targets
            return
        for where, text in self.lines(key, aliases):
            name, colon, rest = text.partition(":")
            targets = tuple(one.strip() for one in _split_targets(rest) if one.strip())
            if colon and name.strip() and targets:
                yield where, name.strip().strip('"'), targets
            else:
                self.problems.append(f"{where}: expected 'name: address, address'")

    def lists(self, key: str, settings: DomainSettings, taken: set[str]) -> frozenset[str]:
        """The names of a domain's mailing lists: usable ones, whose addresses nobody else has."""
        if settings.lists and settings.domain_alias_of:
            self.problems.append(f"{key}: a domain that is an alias has no lists of its own")
        found: list[str] = []
        for name, settings_of_list in settings.lists.items():
            if not is_list_name(name):
                self.problems.append(
                    f'{key}."{name}": a name of lower-case letters is wanted, at most {MAX_NAME}'
                )
            elif not settings_of_list.owners:
                self.problems.append(f'{key}."{name}".owners: somebody must own the list')
            else:
                found.append(name)
        for local in sorted(one for one in taken if list_address(one, found) is not None):
            self.problems.append(f"{key}: {local!r} is a user or an alias, and an address of a list")
        return frozenset(found)

    def target(self, where: str, text: str, domain: Domain) -> Address | None:
        """One alias target; a bare local part is of the same domain."""
        if _NOT_AN_ADDRESS.match(text):
            # SEC-69: what a table names can be written to by whoever writes the table; a pipe is set up in
            # the configuration, as the way of a domain or a route.
            self.problems.append(f"{where}: {text!r}: programs, files and includes are not addresses")
            return None
        try:
            return parse_address(text if "@" in text else f"{text}@{domain}")
        except AddressError as error:
            self.problems.append(f"{where}: {text!r} is no address: {error}")
            return None


def _logical_lines(path: str, text: str) -> Iterator[tuple[str, str]]:
    start, parts = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        content = "" if line.lstrip().startswith("#") else line.split(" #", 1)[0].rstrip("\r \t")
        if content[:1] in (" ", "\t") and parts:
            parts = f"{parts} {content.strip()}"[:MAX_LINE]
            continue
        if parts:
            yield f"{path}:{start}", parts
        start, parts = number, content.strip()[:MAX_LINE]
    if parts:
        yield f"{path}:{start}", parts


def _split_targets(text: str) -> Iterator[str]:
    """At commas outside quotes."""
    return (match[0] for match in re.finditer(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', text))


def load_tables(config: Config, read_file: ReadFile) -> RecipientTable:
    """The table for the configuration's domains. Raises TableError with every problem found."""
    reader = _Reader(read_file)
    tables: dict[str, DomainTable] = {}
    for key, settings in config.domains.items():
        read = _domain_table(reader, f'domains."{key}"', key, settings)
        if read is not None:
            tables[read.name] = read
    postmaster = None
    if config.delivery.postmaster:
        postmaster = reader.target("delivery.postmaster", config.delivery.postmaster, Domain(config.hostname))
    _check_domain_aliases(reader, tables)
    table = RecipientTable(tables, hostname=config.hostname, postmaster=postmaster)
    if not reader.problems:
        _check_targets(reader, tables, table)
    if reader.problems:
        raise TableError(tuple(reader.problems))
    return table


def _domain_table(reader: _Reader, key: str, name: str, settings: DomainSettings) -> DomainTable | None:
    try:
        domain = parse_domain(name)
        alias_of = parse_domain(settings.domain_alias_of) if settings.domain_alias_of else None
    except AddressError as error:
        reader.problems.append(f"{key}: no domain: {error}")
        return None
    has_mailboxes = settings.deliver is not None
    if not (has_mailboxes or alias_of or settings.aliases or settings.catch_all or settings.lists):
        reader.problems.append(f"{key}: needs deliver, aliases, lists, catch_all or domain_alias_of")
    any_user = settings.users == "*"
    catch_all = settings.catch_all
    users = frozenset[str]() if any_user else reader.users(f"{key}.users", settings.users, domain)
    aliases = reader.aliases(f"{key}.aliases", settings.aliases, domain)
    lists = reader.lists(f"{key}.lists", settings, {*users, *aliases})
    for list_name in lists:
        owners = settings.lists[list_name].owners
        found = [reader.target(f'{key}.lists."{list_name}".owners', owner, domain) for owner in owners]
        aliases[list_local(list_name, Purpose.OWNER)] = tuple(one for one in found if one is not None)
    return DomainTable(
        name=domain,
        users=users,
        any_user=any_user,
        has_mailboxes=has_mailboxes,
        aliases=aliases,
        catch_all=reader.target(f"{key}.catch_all", catch_all, domain) if catch_all else None,
        separator=settings.separator,
        alias_of=alias_of,
        lists=lists,
    )


def _check_domain_aliases(reader: _Reader, tables: dict[str, DomainTable]) -> None:
    for name, table in tables.items():
        if table.alias_of is None:
            continue
        target = tables.get(table.alias_of)
        if target is None:
            reader.problems.append(f'domains."{name}".domain_alias_of: {table.alias_of} is not in [domains]')
        elif target.alias_of is not None:
            reader.problems.append(
                f'domains."{name}".domain_alias_of: {table.alias_of} is itself an alias; name the last one'
            )


def _check_targets(reader: _Reader, tables: dict[str, DomainTable], table: RecipientTable) -> None:
    """Every alias must lead to somebody, and none in a circle; every domain must have a postmaster."""
    for name, domain in tables.items():
        if domain.alias_of is not None:
            continue
        key = f'domains."{name}"'
        _check_one(reader, table, f"{key}: postmaster (RFC 5321 4.5.1)", Address(POSTMASTER, domain.name))
        if domain.catch_all is not None:
            _check_one(reader, table, f"{key}.catch_all", domain.catch_all)
        for alias, targets in domain.aliases.items():
            here = Address(alias, domain.name)
            for target in targets:
                if target.key != here.key:
                    _check_one(reader, table, f"{key}.aliases.{alias}", target)
            _check_one(reader, table, f"{key}.aliases.{alias}", here)


def _check_one(reader: _Reader, table: RecipientTable, where: str, address: Address) -> None:
    match table.resolve(address):
        case AliasLoop(trail):
            problem = f"{where}: leads in a circle or too far: {' -> '.join(trail)}"
        case UnknownUser():
            problem = f"{where}: {address} is no user and leads to none"
        case _:
            return
    if problem not in reader.problems:
        reader.problems.append(problem)
