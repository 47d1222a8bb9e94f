"""How mailing lists and the vacation responder are joined to the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from outrider.config.schema import Config
from outrider.delivery.interface import LocalTransport
from outrider.lists.mailing import Mailing
from outrider.lists.observer import ListsObserver
from outrider.lists.rcpt import ListGate
from outrider.lists.responding import Parts as ResponderParts
from outrider.lists.responding import Responder, RespondingTransport
from outrider.lists.settings import load_lists
from outrider.lists.store import ListStoreThread, open_list_store
from outrider.lists.transport import CommandReader, ListTransport, Moderate, NotNow
from outrider.lists.transport import Parts as ListParts
from outrider.lists.vacation import vacation_settings
from outrider.model.address import Domain
from outrider.model.message import MessageId
from outrider.runtime.assembly import Assembly
from outrider.runtime.control import CommandRefused, NoServer, call
from outrider.runtime.on_demand import speaks_amdp

NewId = Callable[[float], MessageId]
_ANSWERING = ("maildir", "pipe")
"""Transports whose users may have their mail answered."""


def make_list_store(assembly: Assembly) -> ListStoreThread:
    """Made once, at start; opened by whatever needs it first."""
    config, data_dir = assembly.config, assembly.data_dir
    return ListStoreThread(lambda: open_list_store(config, data_dir), "lists")


def make_list_gate(assembly: Assembly, store: ListStoreThread, observer: ListsObserver) -> ListGate | None:
    """What reception asks about mail for lists; None where there are none."""
    lists = load_lists(assembly.config)
    return ListGate(lists, store, observer) if lists else None


def with_lists(
    transports: dict[str, LocalTransport],
    assembly: Assembly,
    mailing: Mailing,
    store: ListStoreThread,
    observer: ListsObserver,
    commands: CommandReader | None = None,
) -> dict[str, LocalTransport]:
    """The local transports, with `list:`, and answering for users who are away where a domain lets them."""
    parts = ListParts(
        load_lists(assembly.config),
        store,
        mailing,
        moderation(assembly.data_dir),
        observer,
        time.time,
        commands,
    )
    joined: dict[str, LocalTransport] = {**transports, "list": ListTransport(parts)}
    settings = vacation_settings(assembly.config)
    if settings.by_domain:
        responder = Responder(
            ResponderParts(settings, assembly.recipients, store, mailing, observer, time.time)
        )
        for name in _ANSWERING:
            joined[name] = RespondingTransport(joined[name], responder)
    return joined


def make_mailing(assembly: Assembly, new_id: NewId, utc_offset: Callable[[float], int]) -> Mailing:
    """How messages of this server's own are made."""
    config = assembly.config
    return Mailing(
        config.hostname,
        assembly.recipients,
        assembly.routes,
        new_id,
        utc_offset,
        _subscription_roots(config),
    )


def _subscription_roots(config: Config) -> Callable[[Domain], str]:
    """For `Mailing.subscriptions`: below which address a domain's pages lie; "" where there are none."""
    if not speaks_amdp(config):
        return lambda _domain: ""
    from outrider.runtime.subscription_names import subscription_root

    return lambda domain: subscription_root(config, domain)


def moderation(data_dir: Path) -> Moderate:
    """Lets held posts go or drops them, by the control socket: whichever worker or node holds one does it."""

    def ask(message: str, approve: bool) -> bool:
        arguments = {
            "ids": [message],
            "states": ["held"],
            "change": "release" if approve else "drop",
            "by": "a moderator, by mail",
        }
        try:
            return any(row["changed"] for row in call(data_dir, "queue.change", arguments))
        except (CommandRefused, NoServer, OSError) as error:
            raise NotNow(f"the queue cannot be asked: {error}") from error

    return lambda message, approve: asyncio.to_thread(ask, message, approve)
