"""How MT2 extensions are joined to the rest (MT2-20)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from outrider.delivery.interface import FreshMail, LocalTransport
from outrider.extension_state.choices import ExtensionStoreThread, StoredChoices, open_extension_store
from outrider.extension_state.office import ExtensionOffice, OfficeRefused
from outrider.extension_state.outbox import Outbox, Post
from outrider.extension_state.transport import ExtendingTransport, ListCommandReader
from outrider.extension_state.transport import Parts as TransportParts
from outrider.extensions.desk import Desk
from outrider.extensions.observer import ExtensionObserver
from outrider.extensions.postage_office import PostageOffice
from outrider.lists.mailing import Mailing
from outrider.model.address import AddressError
from outrider.runtime.assembly import Assembly
from outrider.runtime.control import CommandRefused, Row
from outrider.runtime.extension_finding import find_extensions, place_of
from outrider.spool.interface import Spool

_EXTENDED = ("maildir", "pipe", "discard")
"""Transports behind which users are: their messages' extensions are worked through."""
Rows = AsyncIterator[Row]


@dataclass(frozen=True, slots=True)
class ExtensionParts:
    """What a server works with; made anew by a reload."""

    desk: Desk
    choices: StoredChoices


class Extensions:
    """Lives as long as the server: the store, and what the present settings make of it."""

    def __init__(self, assembly: Assembly, observer: ExtensionObserver) -> None:
        config, data_dir = assembly.config, assembly.data_dir
        self._store = ExtensionStoreThread(lambda: open_extension_store(config, data_dir), "extensions")
        self._observer = observer
        self.postage: Callable[[Assembly], PostageOffice | None] = lambda _: None
        """Finds the site's postage (MT2-21d); set before `of` is called."""
        self._present: tuple[Assembly, ExtensionParts] | None = None

    def of(self, assembly: Assembly) -> ExtensionParts:
        """What belongs to these settings, which `check_extensions` has passed; the same each time."""
        if self._present is None or self._present[0] is not assembly:
            self._present = assembly, self._make(assembly)
        return self._present[1]

    def _make(self, assembly: Assembly) -> ExtensionParts:
        settings = assembly.config.mt2.extensions
        from_start = frozenset(settings.enabled)
        choices = StoredChoices(self._store, time.time, from_start)
        desk = Desk(find_extensions(), choices, self._observer, from_start)
        place = replace(place_of(assembly.config), postage=self.postage(assembly))
        desk.set_up(place, settings.options)
        return ExtensionParts(desk, choices)

    def close(self) -> None:
        """Wait for what is being done, and give the database up."""
        self._store.close()


def with_extensions(
    transports: Mapping[str, LocalTransport],
    assembly: Assembly,
    parts: ExtensionParts,
    mailing: Mailing,
    observer: ExtensionObserver,
) -> dict[str, LocalTransport]:
    """The local transports, those with users behind them working extensions through."""
    own = TransportParts(
        parts.desk, Outbox(mailing), assembly.recipients, observer, time.time, assembly.config.hostname
    )
    return {
        name: ExtendingTransport(one, own) if name in _EXTENDED else one for name, one in transports.items()
    }


def list_commands(parts: ExtensionParts, observer: ExtensionObserver) -> ListCommandReader:
    """What finds the commands that MT2 messages have for mailing lists (MT2-21c)."""
    return ListCommandReader(parts.desk, observer, time.time)


def make_post(mailing: Mailing, spool: Spool, fresh: FreshMail | None) -> Post:
    """What stores messages that extensions want sent; None: nothing is delivered now, they wait."""
    return Post(Outbox(mailing), spool, fresh, time.time)


class OfficeSource(Protocol):
    """Gives the office that is in use, after a reload too."""

    def __call__(self) -> ExtensionOffice:
        """The present one."""
        ...


def make_office(assembly: Assembly, parts: ExtensionParts, post: Post) -> ExtensionOffice:
    """What users and operators ask of a running server."""
    return ExtensionOffice(parts.desk, parts.choices, post, assembly.recipients, time.time)


def extension_commands(office: OfficeSource) -> dict[str, Callable[[dict[str, Any]], Rows]]:
    """For the control socket."""

    async def allow(arguments: dict[str, Any]) -> Rows:
        try:
            yield {"result": await office().allow(int(arguments["number"]))}
        except (OfficeRefused, AddressError) as error:
            raise CommandRefused(str(error)) from error

    async def send(arguments: dict[str, Any]) -> Rows:
        try:
            sent = await office().send(
                str(arguments["extension"]),
                str(arguments["to"]),
                str(arguments["sender"]),
                str(arguments.get("data", "")),
                critical=bool(arguments.get("critical")),
            )
        except (OfficeRefused, AddressError) as error:
            raise CommandRefused(str(error)) from error
        yield {"id": sent}

    return {"extension.allow": allow, "extension.send": send}
