"""What the choice of a host depends on besides the message; exchanged as a whole by a reload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from outrider.config.schema import Net
from outrider.delivery.lookup import MailLookup
from outrider.routing.mail_exchangers import Ourselves
from outrider.routing.private_addresses import AddressGuard


@dataclass(frozen=True, slots=True)
class Surroundings:
    """DNS, where connections may go, who we are, and chance in [0, 1)."""

    lookup: MailLookup
    net: Net
    guard: AddressGuard
    ourselves: Ourselves
    chance: Callable[[], float]
