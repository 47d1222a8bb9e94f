"""The extensions that come with Outrider (MT2-21a to MT2-21d). STAT is the core's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from outrider.extensions.allow_lists import AllowList
from outrider.extensions.challenge import Challenge
from outrider.extensions.disposition import Disposition
from outrider.extensions.hashcash import Hashcash
from outrider.extensions.interface import Extension
from outrider.extensions.list_commands import ListCommands
from outrider.extensions.notifications import Notification
from outrider.extensions.postage import Postage
from outrider.extensions.registry import Available
from outrider.extensions.spam_trap import SpamTrap
from outrider.extensions.trace import Trace
from outrider.extensions.vcard import VcardRequest

ORIGIN: Final = "outrider"
SHIPPED: Final[tuple[Callable[[], Extension], ...]] = (
    Trace,
    Hashcash,
    Postage,
    AllowList,
    Notification,
    SpamTrap,
    VcardRequest,
    Disposition,
    Challenge,
    ListCommands,
)


def shipped() -> list[Available]:
    """A new one of each."""
    return [Available(make(), ORIGIN) for make in SHIPPED]
