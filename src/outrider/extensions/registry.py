"""Extensions by OID and by name (MT2-20): those that come with Outrider, and those of installed packages.

Being here means *available*. Whether one is enabled, and who may use it, is the desk's business (`desk.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from outrider.extensions.interface import (
    DeliveryExtension,
    Extension,
    GuardingExtension,
    RecipientExtension,
    TransferExtension,
)
from outrider.extensions.oids import STAT, is_oid

CORE_BRANCH = "99.0"
"""The core's result codes; no extension's branch."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ORDER = ("transfer", "delivery", "recipient")


class RegistryError(Exception):
    """An extension that cannot be registered; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Available:
    """One extension and where it came from."""

    extension: Extension
    origin: str
    """``outrider``, or the distribution that declares the entry point."""

    @property
    def kind(self) -> str:
        """transfer, delivery or recipient."""
        if is_transfer(self.extension):
            return "transfer"
        return "delivery" if is_delivery(self.extension) else "recipient"


def is_transfer(extension: Extension) -> TypeGuard[TransferExtension]:
    """Whether it works hop by hop."""
    return hasattr(extension, "final_part")


def is_delivery(extension: Extension) -> TypeGuard[DeliveryExtension]:
    """Whether it is processed for a domain."""
    return hasattr(extension, "check")


def is_recipient(extension: Extension) -> TypeGuard[RecipientExtension]:
    """Whether it is processed for a user."""
    return hasattr(extension, "act")


def is_guarding(extension: Extension) -> TypeGuard[GuardingExtension]:
    """Whether it looks at a user's mail before that is delivered."""
    return hasattr(extension, "guard")


class Registry:
    """All available extensions; names, OIDs, options and verbs are each one extension's own."""

    def __init__(self, available: Iterable[Available] = ()) -> None:
        self._by_oid: dict[str, Available] = {}
        self._by_name: dict[str, Available] = {}
        self._by_word: dict[str, TransferExtension] = {}
        self._in_order: tuple[Available, ...] = ()
        for one in available:
            self.add(one)

    def add(self, one: Available) -> None:
        """Register it. Raises RegistryError for a name, branch, option or verb that is malformed or taken."""
        extension = one.extension
        if not _NAME.fullmatch(extension.name) or not is_oid(extension.oid):
            raise RegistryError(f"{extension.name!r}: a name is like allow-list, an OID like 2.25.1234")
        if extension.name in self._by_name or self._branch_is_taken(extension.oid):
            raise RegistryError(f"{extension.name}: its name or its branch {extension.oid} is another's")
        if [is_transfer(extension), is_delivery(extension), is_recipient(extension)].count(True) != 1:
            raise RegistryError(f"{extension.name}: an extension is of exactly one of the three kinds")
        if is_transfer(extension):
            self._add_words(extension)
        self._by_name[extension.name] = self._by_oid[extension.oid] = one
        self._in_order = tuple(
            sorted(self._by_name.values(), key=lambda one: (_ORDER.index(one.kind), one.extension.name))
        )

    def _branch_is_taken(self, oid: str) -> bool:
        taken = [*self._by_oid, STAT, CORE_BRANCH]
        return any(f"{oid}.".startswith(f"{other}.") or f"{other}.".startswith(f"{oid}.") for other in taken)

    def _add_words(self, extension: TransferExtension) -> None:
        words = (*extension.options, *extension.verbs)
        for word in words:
            if word in CORE_WORDS or word in self._by_word:
                raise RegistryError(f"{extension.name}: {word} is another's option or verb")
        self._by_word.update(dict.fromkeys(words, extension))

    def by_oid(self, oid: str) -> Extension | None:
        """The extension whose branch this is."""
        found = self._by_oid.get(oid)
        return found.extension if found else None

    def by_name(self, name: str) -> Extension | None:
        """The extension of that name."""
        found = self._by_name.get(name)
        return found.extension if found else None

    def by_word(self, word: str) -> TransferExtension | None:
        """The transfer extension whose option or verb (upper case) this is."""
        return self._by_word.get(word)

    def __iter__(self) -> Iterator[Available]:
        """By kind, then by name."""
        return iter(self._in_order)


CORE_WORDS = frozenset(
    [
        "HELO",
        "OPT",
        "XFER",
        "ABOR",
        "NOOP",
        "QUIT",
        "STAT",
        "PIPE",
        "URG",
        "WINDOW",
        "MAXPART",
        "INFLIGHT",
        "TLS",
        "VER",
        "LAST",
        "OFFSET",
        "OK",
        "ERR",
        "TMP",
    ]
)
"""Verbs, options and reserved words of the core, none of which an extension may take."""
