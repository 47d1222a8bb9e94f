"""Extensions at work on a real store, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from outrider.extension_state.choices import ExtensionStoreThread, StoredChoices
from outrider.extension_state.store import ExtensionStore
from outrider.extensions.desk import Desk
from outrider.extensions.interface import Carried, EnvelopeFacts, Extension, ObjectFacts
from outrider.extensions.mailbox_desk import DeliveredMail
from outrider.extensions.registry import Available, Registry
from outrider.extensions.setting_up import Place
from outrider.model.address import Address, parse_address
from outrider.tables.database import SqliteDatabase

NOW = 1_800_000_000.0
ANN, BEN = parse_address("ann@a.example"), parse_address("ben@b.example")


class Told:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def extension_spoke(self, name: str, message_id: str, code: str, text: str) -> None:
        self.heard.append(("spoke", name, code, text))

    def extension_ignored(self, name: str, message_id: str, why: str) -> None:
        self.heard.append(("ignored", name, why))

    def consent_asked(self, name: str, user: str, sender: str, message_id: str) -> None:
        self.heard.append(("asked", name, user, sender))

    def extension_acted(self, name: str, user: str, sender: str, message_id: str) -> None:
        self.heard.append(("acted", name, user, sender))

    def extension_failed(self, name: str, doing: str, error: BaseException, message_id: str) -> None:
        self.heard.append(("failed", name, doing, str(error)))


class Site:
    """A desk with some extensions, its store, and its clock."""

    def __init__(self, thread: ExtensionStoreThread, extensions: tuple[Extension, ...]) -> None:
        self.thread = thread
        self.now = NOW
        self.told = Told()
        self.numbers = 0
        self.choices = StoredChoices(thread, lambda: self.now, frozenset())
        self.desk = Desk(Registry(Available(one, "here") for one in extensions), self.choices, self.told)

    def set_up(self, **options: dict[str, object]) -> None:
        named = {name.replace("_", "-"): value for name, value in options.items()}
        domains = frozenset({"b.example"})
        self.desk.set_up(Place("mx.b.example", domains, self.new_token, self.in_thread), named)

    def new_token(self) -> str:
        self.numbers += 1
        return f"{self.numbers:026d}"

    async def in_thread(self, work: Callable[[], str]) -> str:
        return await asyncio.to_thread(work)

    async def enable(self, name: str, *users: Address) -> None:
        def work(store: ExtensionStore) -> None:
            store.set_enabled(name, "", enabled=True)
            for user in users:
                store.set_enabled(name, str(user), enabled=True)

        await self.thread.call(work)
        self.later()

    def later(self, seconds: float = 6.0) -> None:
        """So much that the desk looks at its store again."""
        self.now += seconds

    def facts(
        self,
        transfer: str = "mx.a.example/1",
        sender: Address | None = ANN,
        recipients: tuple[Address, ...] = (BEN,),
        identities: frozenset[str] = frozenset({"mx.a.example", "ann@a.example"}),
        objects: tuple[ObjectFacts, ...] = (),
        report: bool = False,
        sender_is_claimed: bool = False,
    ) -> EnvelopeFacts:
        return EnvelopeFacts(
            "m1@mx.a.example", transfer, sender, recipients, self.now, self.now, peer="mx.a.example",
            identities=identities, objects=objects, report=report, sender_is_claimed=sender_is_claimed,
        )  # fmt: skip

    def mail(self, *recipient: Carried, delivery: tuple[Carried, ...] = (), **facts: object) -> DeliveredMail:
        return DeliveredMail(self.facts(**facts), BEN, delivery, recipient)  # type: ignore[arg-type]


@asynccontextmanager
async def site(tmp_path: Path, *extensions: Extension) -> AsyncIterator[Site]:
    """Extensions that are all set up without options; `set_up` may be called again."""
    thread = ExtensionStoreThread(
        lambda: ExtensionStore(SqliteDatabase(tmp_path / "extensions.sqlite")), "extensions"
    )
    made = Site(thread, extensions)
    made.set_up()
    try:
        yield made
    finally:
        await asyncio.to_thread(thread.close)
