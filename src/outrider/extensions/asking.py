"""How an extension is asked: only one that is on, by those who may, and so that its failure costs nothing
else (MT2-19, MT2-20)."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

from outrider.extensions.choices import Choices, Chosen, user_key
from outrider.extensions.interface import MAX_TEXT, EnvelopeFacts, Extension, ExtensionUnavailable
from outrider.extensions.observer import ExtensionObserver
from outrider.extensions.registry import Registry, is_recipient
from outrider.extensions.setting_up import Place, set_up
from outrider.model.address import Address

T = TypeVar("T")

FRESH_S = 5.0
"""How long what was chosen is gone by: an ordinary message costs no look at the store."""
MAX_MESSAGES = 8
"""That one message may cause, however many extensions it carries."""
MAX_CARRIED = 64
"""Extensions of one message that are looked at."""


class Asking:
    """What every part of the desk stands on."""

    def __init__(
        self,
        registry: Registry,
        choices: Choices,
        observer: ExtensionObserver,
        allowed_from_start: frozenset[str] = frozenset(),
    ) -> None:
        self.registry = registry
        self._choices = choices
        self._observer = observer
        self._from_start = allowed_from_start
        self._chosen = Chosen(allowed_from_start=allowed_from_start)
        self._read_at = float("-inf")

    def set_up(self, place: Place, options: Mapping[str, Mapping[str, object]]) -> None:
        """Give every extension its options; see `set_up`."""
        set_up(self.registry, place, options, self._from_start, self._choices.memory)

    async def refresh(self, now: float) -> None:
        """Read what was chosen, if that was long ago. Raises ExtensionUnavailable."""
        if not 0 <= now - self._read_at < FRESH_S:
            self._chosen = await self._choices.chosen()
            self._read_at = now

    def _is_on(self, oid: str) -> bool:
        extension = self.registry.by_oid(oid)
        return extension is not None and not is_recipient(extension) and self._chosen.is_enabled(extension)

    def _may_use(self, extension: Extension, facts: EnvelopeFacts) -> bool:
        return self._chosen.is_enabled(extension) and self._chosen.may_use(extension, facts.identities)

    async def _guarded(
        self,
        extension: Extension,
        doing: str,
        message_id: str,
        call: Awaitable[T],
        otherwise: T,
        *,
        passes: type[Exception] = ExtensionUnavailable,
    ) -> T:
        """What the call gives; `otherwise` where the extension fails. Passes on ExtensionUnavailable and
        `passes`."""
        try:
            return await call
        except (ExtensionUnavailable, passes):
            raise
        except Exception as error:  # a stranger's program: it must not cost more than itself
            self._observer.extension_failed(extension.name, doing, error, message_id)
            return otherwise


def sender_is_proven(sender: Address, facts: EnvelopeFacts) -> bool:
    """Whether one of the proven names is the sender's address, or a host of the sender's own domain that
    does not say itself that the sender was only claimed (MT2-22, MT2-28c)."""
    domain = sender.domain
    hosts = (one for one in facts.identities if "@" not in one)
    of_domain = any(one == domain or one.endswith(f".{domain}") for one in hosts)
    return user_key(sender) in facts.identities or (of_domain and not facts.sender_is_claimed)


def plain(text: str) -> str:
    """One short line: extensions pass on what others wrote."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:MAX_TEXT]
