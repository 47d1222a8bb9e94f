"""What operators and users have chosen: which extensions are on, who may use them, who has consented
(MT2-20).

`outrider extension` and `outrider consent` change it; the store keeps it (`extension_state.store`). Here are
its values and the decisions taken from them, which are pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from outrider.extensions.interface import Consent, Extension, Memory, Rights
from outrider.model.address import Address

ANYBODY = "*"
"""In consents: every sender, as far as nothing else is said of him."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What holds for all at one moment; read again every few seconds."""

    enabled: Mapping[str, bool] = field(default_factory=dict)
    """By the extension's name: the operator's word. One that is missing: the setting, then its default."""
    users: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """By (extension's name, user as ``local@domain``): the user's own word on a recipient extension."""
    grants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By the extension's name: who may use it."""
    allowed_from_start: frozenset[str] = frozenset()
    """Names in ``[mt2.extensions] enabled``."""

    def is_enabled(self, extension: Extension) -> bool:
        """Whether the operator, or the setting, or its default has it on."""
        word = self.enabled.get(extension.name)
        if word is not None:
            return word
        return extension.name in self.allowed_from_start or extension.enabled_by_default

    def is_enabled_for(self, extension: Extension, user: Address) -> bool:
        """Whether a recipient extension is on for a user: the operator has it on, and the user as well."""
        return self.is_enabled(extension) and self.users.get((extension.name, user_key(user)), False)

    def may_use(self, extension: Extension, identities: frozenset[str]) -> bool:
        """Whether somebody with these proven names may use it: somebody who was named; where nobody was, as
        the extension itself has it."""
        granted = self.grants.get(extension.name, frozenset())
        if granted:
            return any(identity_matches(name, identity) for name in granted for identity in identities)
        if extension.rights is Rights.GRANTED:
            return False
        return extension.rights is Rights.EVERYBODY or bool(identities)


def identity_matches(granted: str, identity: str) -> bool:
    """``mx.example`` and ``ann@example`` grant to that host and that user, ``.example`` to everything at or
    below that domain, hosts and users."""
    if not granted.startswith("."):
        return granted == identity
    host = identity.rpartition("@")[2]
    return host == granted[1:] or host.endswith(granted)


def user_key(address: Address) -> str:
    """An address as it is compared and kept."""
    local, domain = address.key
    return f"{local}@{domain}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for the user's word."""

    extension: str
    """Its name."""
    user: str
    sender: str
    message_id: str
    text: str
    """What `describe` said."""
    data: str
    at: float
    proven: bool
    number: int = 0
    """By which the user names it; given by the store."""


class Choices(Protocol):
    """The store as the desk needs it. Every method raises ExtensionUnavailable."""

    async def chosen(self) -> Chosen:
        """All that holds for all."""
        ...

    async def consent(self, extension: str, user: str, sender: str) -> Consent:
        """What the user has said of the sender, else of anybody."""
        ...

    async def wants_errors(self, extension: str, user: str) -> bool:
        """Whether the user has asked to be told of errors."""
        ...

    async def ask(self, request: Waiting) -> bool:
        """Put it before the user; False where it waits already, was answered before, or too many wait."""
        ...

    def memory(self, oid: str) -> Memory:
        """What one extension remembers."""
        ...
