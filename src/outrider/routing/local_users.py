"""Who has a mailbox here, and where aliases lead (SMTP-8): asked at RCPT, so that an unknown user is refused
in the session and never bounced later (SEC-166).

An alias's target is an address and nothing else: programs, files and includes are never addresses (SEC-69).
Local parts are compared without regard to case. What follows the separator (ann+shop) is the detail.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from outrider.model.address import Address, Domain
from outrider.routing.list_addresses import ListAddress, Purpose, list_address

MAX_DEPTH = 16
"""Aliases followed one after the other; sendmail stops at 10, nobody means more."""
MAX_RECIPIENTS = 1000
"""Recipients that one address may become: as many as one message may name."""

POSTMASTER = "postmaster"

_MAILBOX_NAME = re.compile(r"(?![.-])[A-Za-z0-9!#$%&'*+=?^_`{|}~.\u0080-\U0010ffff-]{1,64}")


def folded(local: str) -> str:
    """The local part as it is compared and as a mailbox is named."""
    return unicodedata.normalize("NFC", local).casefold()


def is_mailbox_name(name: str) -> bool:
    """Whether the name may stand in a path or an argument: no slash, no control or quoting character, no
    leading dot (`..`, hidden files) or hyphen (options)."""
    return _MAILBOX_NAME.fullmatch(name) is not None and name.isprintable()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where a final local address is delivered."""

    user: str
    """Folded."""
    detail: str
    """What stood behind the separator, as written; "" for none."""
    domain: Domain
    """The domain itself, never an alias of it."""


@dataclass(frozen=True, slots=True)
class ResolvedRecipient:
    """One final recipient. `user` is "" for an address that is not ours."""

    address: Address
    user: str = ""
    detail: str = ""
    list_address: ListAddress | None = None
    """Set for an address of a mailing list here."""

    @property
    def domain(self) -> Domain:
        """Of the address."""
        return self.address.domain

    @property
    def is_local(self) -> bool:
        """Whether it is a mailbox here."""
        return bool(self.user)


@dataclass(frozen=True, slots=True)
class Deliverable:
    """The address is good; these are its final recipients, each once."""

    recipients: tuple[ResolvedRecipient, ...]
    via: tuple[str, ...] = ()
    """The alias names followed, in order; () when the address was final itself."""


@dataclass(frozen=True, slots=True)
class UnknownUser:
    """The domain is ours and has no such user (550 5.1.1)."""

    address: Address


@dataclass(frozen=True, slots=True)
class NotLocal:
    """The domain is not ours."""

    address: Address


@dataclass(frozen=True, slots=True)
class AliasLoop:
    """The aliases lead in a circle, or too far (5.4.6): `trail` shows how."""

    trail: tuple[str, ...]


Resolution = Deliverable | UnknownUser | NotLocal | AliasLoop


@dataclass(frozen=True, slots=True)
class DomainTable:
    """One domain's users and aliases, as read; keys folded."""

    name: Domain
    users: frozenset[str] = frozenset()
    any_user: bool = False
    """`users = "*"`."""
    has_mailboxes: bool = True
    """False for a domain of aliases only (no `deliver`)."""
    aliases: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    catch_all: Address | None = None
    separator: str = "+"
    alias_of: Domain | None = None
    lists: frozenset[str] = frozenset()
    """Mailing lists; their owners' addresses stand among the aliases."""


class _Loop(Exception):
    def __init__(self, trail: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(trail))
        self.trail = trail


class RecipientTable:
    """All local domains; immutable, exchanged as a whole by a reload."""

    def __init__(
        self,
        domains: Mapping[str, DomainTable],
        *,
        hostname: str = "",
        postmaster: Address | None = None,
    ) -> None:
        """`postmaster` is [delivery] postmaster: who gets postmaster's mail of domains that name nobody."""
        self._domains = dict(domains)
        self._postmaster = postmaster
        self._main = self._main_domain(hostname)

    def _main_domain(self, hostname: str) -> Domain | None:
        """Where a bare <postmaster> (RFC 5321 4.5.1) belongs: our own name's domain, or the first one."""
        own = self._domains.get(hostname.lower())
        if own is not None:
            return own.name
        first = next((one for one in self._domains.values() if one.alias_of is None), None)
        return None if first is None else first.name

    def is_local(self, domain: str) -> bool:
        """Whether the domain's mail ends here (an alias of a domain counts)."""
        return domain in self._domains

    @property
    def domains(self) -> tuple[str, ...]:
        """All of them, in the configuration's order."""
        return tuple(self._domains)

    def resolve(self, address: Address) -> Resolution:
        """What an address named at RCPT stands for."""
        table = self._table(address)
        if table is None:
            return self._bare_postmaster(address)
        found: dict[tuple[str, str], ResolvedRecipient] = {}
        via: dict[str, None] = {}
        try:
            for recipient in self._expand(address, (), via):
                found.setdefault(recipient.address.key, recipient)
                if len(found) > MAX_RECIPIENTS:
                    return AliasLoop((str(address), f"more than {MAX_RECIPIENTS} recipients"))
        except _Loop as loop:
            return AliasLoop(loop.trail)
        if not found:
            return UnknownUser(address)
        return Deliverable(tuple(found.values()), tuple(via))

    def mailbox_of(self, address: Address) -> Mailbox | None:
        """The mailbox of a *final* recipient: aliases are not followed again. None when it has gone.

        An address elsewhere that a route brings to a local transport (an archive, `queue reroute`) is named
        by its own local part, or None where that cannot be a name.
        """
        table = self._table(address)
        if table is None:
            name = folded(address.local)
            return Mailbox(name, "", address.domain) if is_mailbox_name(name) else None
        mailbox = _user_of(table, address.local)
        if mailbox is not None or not table.has_mailboxes:
            return mailbox
        if folded(address.local) == POSTMASTER:
            return Mailbox(POSTMASTER, "", table.name)
        return None

    def _table(self, address: Address) -> DomainTable | None:
        table = self._domains.get(address.domain or self._main or "")
        if table is not None and table.alias_of is not None:
            return self._domains.get(table.alias_of)
        return table

    def _bare_postmaster(self, address: Address) -> Resolution:
        if address.domain or self._postmaster is None:
            return NotLocal(address)
        return Deliverable((ResolvedRecipient(self._postmaster),), (str(address),))

    def _expand(
        self, address: Address, trail: tuple[str, ...], via: dict[str, None]
    ) -> Iterator[ResolvedRecipient]:
        """Every final recipient of an address, depth first; nothing for an unknown user.

        `via` collects the aliases expanded, each once, so that the work is bounded by the tables' size.
        """
        table = self._table(address)
        if table is None:
            yield ResolvedRecipient(address)
            return
        here = Address(address.local, table.name)
        label = f"{folded(here.local)}@{here.domain}"
        targets = self._targets(table, here)
        if targets is None or trail[-1:] == (label,):
            # An alias that names itself means its own mailbox: "ann: ann, bob" keeps a copy.
            yield from self._final(table, here)
            return
        if label in trail or len(trail) >= MAX_DEPTH:
            raise _Loop((*trail, label))
        if label in via:
            return
        via[label] = None
        for target in targets:
            yield from self._expand(target, (*trail, label), via)

    def _targets(self, table: DomainTable, address: Address) -> tuple[Address, ...] | None:
        """Where the address leads on to; None when it is a mailbox of its own (or nobody's)."""
        local = folded(address.local)
        if local in table.aliases:
            return table.aliases[local]
        if _of_list(table, local) is not None:
            return None
        if local in table.users:
            return None
        base = _split(local, table.separator)[0]
        if base in table.aliases:
            return table.aliases[base]
        if _user_of(table, address.local) is not None:
            return None
        if table.catch_all is not None and table.catch_all.key != address.key:
            return (table.catch_all,)
        if local == POSTMASTER and self._postmaster is not None and self._postmaster.key != address.key:
            return (self._postmaster,)
        return None

    def _final(self, table: DomainTable, address: Address) -> Iterator[ResolvedRecipient]:
        of_list = _of_list(table, folded(address.local))
        if of_list is not None:
            yield ResolvedRecipient(address, list_address=of_list)
            return
        mailbox = self.mailbox_of(address)
        if mailbox is not None:
            yield ResolvedRecipient(address, mailbox.user, mailbox.detail)


def _of_list(table: DomainTable, local: str) -> ListAddress | None:
    found = list_address(local, table.lists) if table.lists else None
    return None if found is None or found.purpose is Purpose.OWNER else found


def _user_of(table: DomainTable, local: str) -> Mailbox | None:
    if not table.has_mailboxes:
        return None
    whole = folded(local)
    if whole in table.users:
        return Mailbox(whole, "", table.name)
    base, detail = _split(unicodedata.normalize("NFC", local), table.separator)
    user = base.casefold()
    known = user in table.users or (table.any_user and is_mailbox_name(user))
    if not known or (detail and not is_mailbox_name(detail)):
        return None
    return Mailbox(user, detail, table.name)


def _split(local: str, separator: str) -> tuple[str, str]:
    """User and detail; a local part that begins with the separator has no detail."""
    if separator:
        base, found, detail = local.partition(separator)
        if found and base:
            return base, detail
    return local, ""
