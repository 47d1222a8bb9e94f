"""PostgreSQL as it fails: killed, cut off, misconfigured, shared, and with rows that a stranger wrote."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from outrider.model.content import Content
from outrider.model.message import ItemKey, ItemState, MessageId
from outrider.spool.interface import (
    Change,
    CommitUnknown,
    ContentDamaged,
    Filter,
    LeaseLost,
    NotFound,
    SpoolError,
    SpoolUnavailable,
    UnsafeSettings,
)
from outrider.spool.observer import NullObserver
from outrider.spool.postgresql import database as database_module
from outrider.spool.postgresql import marks, presence, schema
from outrider.spool.postgresql.spool import PostgresSpool
from outrider.testing.spool_samples import DEFERRED, DELIVERED, NOW, item_of, message, one_leased, outcome
from tests.peers.addresses import loopback_address
from tests.peers.postgresql import PostgresServer


class Notes(NullObserver):
    """Keeps what the spool had to say."""

    def __init__(self) -> None:
        self.quarantined: list[str] = []
        self.unavailable: list[str] = []
        self.opened: list[str] = []
        self.warnings: list[str] = []

    def spool_opened(self, where: str, found: str) -> None:
        """Kept."""
        self.opened.append(found)

    def spool_warned(self, what: str) -> None:
        """Kept."""
        self.warnings.append(what)

    def row_quarantined(self, table: str, name: str, why: str) -> None:
        """Kept."""
        self.quarantined.append(name)

    def became_unavailable(self, why: str) -> None:
        """Kept."""
        self.unavailable.append(why)


class Nodes:
    """Spools on one database, closed by the fixture."""

    def __init__(self, dsn: str, directory: Path) -> None:
        self.dsn = dsn
        self.directory = directory
        self.notes = Notes()
        self.opened: list[PostgresSpool] = []

    async def open(self, owner: str = "one", dsn: str = "") -> PostgresSpool:
        """A node, started."""
        spool = PostgresSpool(
            dsn or self.dsn, owner=owner, scratch=self.directory / owner, observer=self.notes
        )
        self.opened.append(spool)
        await spool.start(NOW)
        return spool

    def sql(self, statement: str) -> None:
        """What a stranger does."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def value(self, query: str) -> object:
        """One value."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def cut(self) -> None:
        """End every other session."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
async def nodes(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Nodes]:
    """On an empty database."""
    nodes = Nodes(postgres_dsn, tmp_path)
    yield nodes
    for spool in nodes.opened:
        await spool.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that these tests may kill and misconfigure."""
    with PostgresServer(loopback_address()) as server:
        yield server


async def is_stored(spool: PostgresSpool, name: MessageId) -> bool:
    """Whether there is such a message."""
    try:
        await spool.read(name)
    except NotFound:
        return False
    return True


# --- settings and secrets -----------------------------------------------------------------------------


@pytest.mark.covers("FAULT-F6")
@pytest.mark.parametrize("parameter", ["fsync", "full_page_writes", "synchronous_commit"])
async def test_a_server_that_may_lose_commits_is_refused(
    own_server: PostgresServer, tmp_path: Path, parameter: str
) -> None:
    own_server.set(parameter, "off")
    try:
        spool = PostgresSpool(own_server.dsn, owner="one", scratch=tmp_path)
        with pytest.raises(UnsafeSettings, match=f"{parameter}=off"):
            await spool.start(NOW)
    finally:
        own_server.set(parameter, "on")


@pytest.mark.covers("FAULT-F6")
async def test_the_settings_are_checked_again_after_a_reconnection(nodes: Nodes) -> None:
    spool = await nodes.open()
    assert "fsync=on" in nodes.notes.opened[0]
    database = str(nodes.value("SELECT current_database()"))
    nodes.sql(f'ALTER DATABASE "{database}" SET synchronous_commit = off')
    nodes.cut()
    new = message()
    with pytest.raises(SpoolUnavailable, match="synchronous_commit=off"):
        await spool.store(new)
    nodes.sql(f'ALTER DATABASE "{database}" RESET synchronous_commit')
    await until_stored(spool)
    assert not await is_stored(spool, new.id)


async def until_stored(spool: PostgresSpool) -> None:
    """Until the spool has recovered."""
    for _ in range(100):
        with contextlib.suppress(SpoolUnavailable):
            await spool.store(message())
            return
    pytest.fail("the spool does not recover")


async def test_the_connection_string_is_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    for dsn in (
        "postgresql://user:hush%ZZ@127.0.0.1:1/nothing",
        "postgres//user:hush@127.0.0.1/nothing",
        "postgresql://user:hush@127.0.0.1:port/nothing",
        f"postgresql://user:hush@{loopback_address()}:1/nothing",
    ):
        with pytest.raises(SpoolError) as caught:
            await PostgresSpool(dsn, owner="one", scratch=tmp_path).start(NOW)
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
            if isinstance(error, psycopg.ProgrammingError):
                break  # suppressed by `from None`
    good = PostgresSpool("postgresql://user:hush@127.0.0.1:1/nothing", owner="one", scratch=tmp_path)
    texts += [repr(good), repr(good._database), caplog.text]
    assert not [text for text in texts if "hush" in text]


# --- failing connections ------------------------------------------------------------------------------


@pytest.mark.covers("FAULT-F3", "SEC-94")
async def test_sessions_that_are_ended_lose_nothing(nodes: Nodes) -> None:
    spool = await nodes.open()
    acknowledged, refused, unknown = await under_load(spool, [nodes.cut] * 12)
    assert acknowledged
    for name in acknowledged:
        assert await is_stored(spool, name)
    for name in refused:
        assert not await is_stored(spool, name)
    assert not unknown, "the server was there to be asked"


@pytest.mark.covers("FAULT-F3", "SEC-94")
async def test_a_server_killed_amid_commits_loses_nothing(own_server: PostgresServer, tmp_path: Path) -> None:
    dsn = own_server.create_database("killed")
    spool = PostgresSpool(dsn, owner="one", scratch=tmp_path)
    await spool.start(NOW)

    def kill() -> None:
        own_server.kill()
        own_server.start()

    acknowledged, refused, _ = await under_load(spool, [kill] * 5)
    await until_stored(spool)
    for name in acknowledged:
        assert await is_stored(spool, name)
    for name in refused:
        assert not await is_stored(spool, name)
    await spool.close()


async def under_load(
    spool: PostgresSpool, blows: list[Callable[[], None]]
) -> tuple[list[MessageId], list[MessageId], list[MessageId]]:
    """Stores from several callers while blows fall; who was acknowledged, refused, left unknown."""
    acknowledged: list[MessageId] = []
    refused: list[MessageId] = []
    unknown: list[MessageId] = []
    over = False

    async def caller() -> None:
        while not over:
            new = message()
            try:
                await spool.store(new)
                acknowledged.append(new.id)
            except CommitUnknown:
                unknown.append(new.id)
            except SpoolUnavailable:
                refused.append(new.id)

    callers = [asyncio.create_task(caller()) for _ in range(10)]
    for number, blow in enumerate(blows):
        before = len(acknowledged)
        while len(acknowledged) < before + 20 + number * 3:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(blow)
    over = True
    await asyncio.gather(*callers)
    return acknowledged, refused, unknown


class Proxy:
    """Between node and server; once armed, it breaks every connection at the next COMMIT.

    `deliver`: the server gets the COMMIT and answers, but the node never hears of it. `late`: it gets it, but
    only then. `refusing`: no new connection is let through from then on.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.address = loopback_address()
        self.armed = False
        self.deliver = True
        self.refusing = False
        self.late: asyncio.Event | None = None
        """When it is set, the server gets what was held back."""
        self.heard = b""
        """All that the server has said, whether or not the node heard it."""
        self._listener: asyncio.Server | None = None
        self._streams: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._accept, self.address, 5432)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self._break()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing and not self.armed:
            writer.close()
            return
        from_server, to_server = await asyncio.open_connection(self._server.address, self._server.port)
        self._streams += [writer, to_server]
        back = asyncio.create_task(self._copy(from_server, writer))
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65_536):
                if self.armed and b"COMMIT" in octets:
                    await self._strike(writer, to_server, octets)
                    break
                to_server.write(octets)
        writer.close()
        to_server.close()
        await back

    async def _strike(
        self, writer: asyncio.StreamWriter, to_server: asyncio.StreamWriter, octets: bytes
    ) -> None:
        self.armed = False
        writer.transport.abort()
        if self.deliver:
            to_server.write(octets)
            await to_server.drain()
            await asyncio.sleep(0.2)
        if self.late is not None:
            self._streams.remove(to_server)
            self._break()
            await self.late.wait()
            to_server.write(octets)
            await asyncio.sleep(0.2)
        self._break()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65_536):
                self.heard += octets
                writer.write(octets)
        writer.close()

    def _break(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams.clear()


@pytest.mark.covers("SEC-94")
@pytest.mark.parametrize("delivered", [True, False])
async def test_what_became_of_a_commit_is_asked_before_the_answer(
    nodes: Nodes, postgres_server: PostgresServer, delivered: bool
) -> None:
    """Committed: it is not done again, which would be refused as a second message of that id. Not committed:
    it is done again."""
    async with Proxy(postgres_server) as proxy:
        proxy.deliver = delivered
        dsn = nodes.dsn.replace(postgres_server.address, proxy.address)
        spool = await nodes.open(dsn=dsn)
        await spool.store(message())
        new = message()
        proxy.armed = True
        (leased,) = await spool.store(new, lease_until=NOW + 300)
        assert not proxy.armed
        await spool.settle(outcome(leased, DELIVERED))
        assert await is_stored(spool, new.id)
        fenced = nodes.value(f"SELECT count(*) FROM outrider.commits WHERE count = {marks.FENCE}")
        assert fenced == (0 if delivered else 1)
        await spool.close()


@pytest.mark.covers("SEC-94")
async def test_a_transaction_that_arrives_late_finds_a_fence(
    nodes: Nodes, postgres_server: PostgresServer
) -> None:
    """The server gets what was sent only after its sender has asked, heard no, and done it again."""
    async with Proxy(postgres_server) as proxy:
        proxy.deliver, proxy.late = False, asyncio.Event()
        spool = await nodes.open(dsn=nodes.dsn.replace(postgres_server.address, proxy.address))
        (leased,) = await spool.store(message(), lease_until=NOW + 300)
        proxy.armed = True
        await spool.settle(outcome(leased, DEFERRED))
        before = await spool.events(leased.message.id)
        proxy.late.set()
        async with asyncio.timeout(60):
            while b"null value in column" not in proxy.heard:
                await asyncio.sleep(0.01)
        assert await spool.events(leased.message.id) == before
        await spool.close()


@pytest.mark.covers("SEC-94")
async def test_a_commit_that_cannot_be_asked_about_stays_unknown(
    nodes: Nodes, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "RESOLVE_SECONDS", 0.5)
    monkeypatch.setattr(database_module, "WAIT_SECONDS", 0.2)
    async with Proxy(postgres_server) as proxy:
        spool = await nodes.open(dsn=nodes.dsn.replace(postgres_server.address, proxy.address))
        await spool.store(message())
        proxy.deliver, proxy.refusing, proxy.armed = False, True, True
        with pytest.raises(CommitUnknown):
            await spool.store(message())
        proxy.refusing = False
        await until_stored(spool)
        await spool.close()


# --- several nodes ------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-213")
async def test_two_nodes_never_hold_one_item(nodes: Nodes) -> None:
    one, two = await nodes.open("one"), await nodes.open("two")
    for _ in range(60):
        await one.store(message())
    rounds = await asyncio.gather(
        *(node.lease_due(NOW, NOW + 300, 7) for node in (one, two, one, two, one, two) * 3)
    )
    keys = [leased.item.key for taken in rounds for leased in taken]
    assert len(keys) == len(set(keys)) == 60


@pytest.mark.covers("SEC-213")
async def test_a_node_that_slept_through_its_lease_is_fenced(nodes: Nodes) -> None:
    one, two = await nodes.open("one"), await nodes.open("two")
    old = await one_leased(one, message())
    assert await two.lease_due(NOW + 299, NOW + 600, 10) == ()
    (new,) = await two.lease_due(NOW + 300, NOW + 900, 10)
    assert new.item.lease > old.item.lease
    report = message(sender=None)
    with pytest.raises(LeaseLost):
        await one.settle(outcome(old, DELIVERED, new_messages=(report,)))
    assert not await is_stored(one, report.id)
    await two.settle(outcome(new, DEFERRED))
    with pytest.raises(LeaseLost):
        await one.settle(outcome(old, DELIVERED))
    item = await item_of(one, old.item.key)
    assert (item.state, item.recipients[0].last) == (ItemState.READY, DEFERRED)


@pytest.mark.covers("FAULT-F14", "FAULT-F3")
async def test_a_node_cut_off_amid_a_transaction_does_not_keep_its_mail(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has the first statements of a piece and waits for the rest; none of its timeouts runs."""
    monkeypatch.setattr(presence, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(presence, "STUCK_SECONDS", 1.0)
    spool = await nodes.open("two")
    new = message()
    await spool.store(new)
    with contextlib.closing(psycopg.connect(nodes.dsn, application_name="outrider")) as cut_off:
        wire = cut_off.pgconn
        wire.enter_pipeline_mode()
        for text in (b"BEGIN", b"SELECT 1 FROM outrider.items FOR UPDATE", b"SELECT pg_current_xact_id()"):
            wire.send_query_params(text, None)
        wire.send_flush_request()
        wire.flush()
        leased = await spool.lease_due(NOW, NOW + 60, 10)
        assert not leased, "the row is not locked: this test shows nothing"
        end = time.monotonic() + 30
        while not leased and time.monotonic() < end:
            await asyncio.sleep(0.1)
            leased = await spool.lease_due(NOW, NOW + 60, 10)
        assert [one.message.id for one in leased] == [new.id]


@pytest.mark.covers("FAULT-F11")
async def test_one_suspect_at_a_time_on_all_nodes(nodes: Nodes) -> None:
    one, two = await nodes.open("one"), await nodes.open("two")
    for _ in range(2):
        await one.store(message(), lease_until=NOW + 300)
    for at in (300, 600):
        assert len(await two.lease_due(NOW + at, NOW + at + 300, 10)) == (2 if at == 300 else 0)
    (suspect,) = await one.lease_due(NOW + 900, NOW + 1200, 10, solo=True)
    assert await two.lease_due(NOW + 900, NOW + 1200, 10, solo=True) == ()
    await one.settle(outcome(suspect, DELIVERED))
    assert len(await two.lease_due(NOW + 900, NOW + 1200, 10, solo=True)) == 1


async def test_the_last_two_items_may_end_on_two_nodes_at_once(nodes: Nodes) -> None:
    one, two = await nodes.open("one"), await nodes.open("two")
    for _ in range(20):
        new = message("a@b.example", "b@c.example")
        await one.store(new)
        first = await one.lease_one(ItemKey(new.id, 0), NOW, NOW + 300)
        second = await two.lease_one(ItemKey(new.id, 1), NOW, NOW + 300)
        await asyncio.gather(one.settle(outcome(first, DELIVERED)), two.settle(outcome(second, DELIVERED)))
        stored = await one.read(new.id)
        assert stored.content is None
        assert stored.finished_at


async def test_other_nodes_are_woken(nodes: Nodes) -> None:
    woken = asyncio.Event()
    listening = PostgresSpool(nodes.dsn, owner="listener", scratch=nodes.directory / "listener")
    listening.on_wake(woken.set)
    nodes.opened.append(listening)
    await listening.start(NOW)
    storing = await nodes.open("storing")
    for _ in range(200):
        await storing.store(message())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), 0.05)
            break
    assert woken.is_set()


async def test_a_large_body_is_read_by_another_node(nodes: Nodes) -> None:
    one, two = await nodes.open("one"), await nodes.open("two")
    body = bytes(range(256)) * 4096
    new = message()
    writer = one.body_writer(new.id)
    await writer.write(body)
    await one.store(replace(new, content=Content(b"Subject: x\r\n\r\n", await writer.finish())))
    (leased,) = await two.lease_due(NOW, NOW + 300, 10)
    assert leased.message.content is not None
    assert b"".join(leased.message.content.body.chunks()) == body
    await two.settle(outcome(leased, DELIVERED))
    assert nodes.value("SELECT count(*) FROM outrider.pieces") == 0
    del leased
    assert list((nodes.directory / "two").glob("*.body")) == []


@pytest.mark.covers("FAULT-F9")
@pytest.mark.parametrize("damage", ["flip", "missing"])
async def test_a_damaged_piece_is_not_sent(nodes: Nodes, damage: str) -> None:
    spool = await nodes.open()
    new = message()
    writer = spool.body_writer(new.id)
    await writer.write(b"x" * 600_000)
    await spool.store(replace(new, content=Content(b"Subject: x\r\n\r\n", await writer.finish())))
    if damage == "flip":
        nodes.sql("UPDATE outrider.pieces SET octets = set_byte(octets, 77, 1) WHERE number = 1")
    else:
        nodes.sql("DELETE FROM outrider.pieces WHERE number = 1")
    (leased,) = await spool.lease_due(NOW, NOW + 300, 10)
    content = leased.message.content
    assert content is not None
    with pytest.raises(ContentDamaged):
        list(content.chunks())
    await spool.settle(outcome(leased, DEFERRED))
    assert (await item_of(spool, leased.item.key)).state is ItemState.HELD


async def test_bodies_that_nobody_named_go_at_the_owners_next_start(nodes: Nodes) -> None:
    spool = await nodes.open("one")
    await spool.body_writer(MessageId("ORPHAN")).write(b"x" * 600_000)
    await (await nodes.open("two")).close()
    assert nodes.value("SELECT count(*) FROM outrider.bodies") == 1
    await spool.close()
    again = PostgresSpool(nodes.dsn, owner="one", scratch=nodes.directory / "one")
    assert (await again.start(NOW)).orphans_removed == 1
    await again.close()


@pytest.mark.covers("SEC-208")
async def test_operators_of_two_nodes_and_a_lease_never_both_win(nodes: Nodes) -> None:
    one, two = await nodes.open("one"), await nodes.open("two")
    for _ in range(25):
        new = message()
        await one.store(new)
        key = ItemKey(new.id, 0)
        leased, held, dropped = await asyncio.gather(
            two.lease_due(NOW, NOW + 300, 10),
            one.change([key], Change.HOLD, now=NOW, by="ann"),
            two.change([key], Change.DROP, now=NOW, by="bob"),
        )
        item = await item_of(one, key)
        state = item.state
        if leased:
            # Whoever came second was told no; a hold that came first was followed by nothing.
            assert (state, key in held, key in dropped) == (ItemState.ACTIVE, True, True)
            await two.settle(outcome(leased[0], DELIVERED))
        else:
            assert key not in dropped
            assert state is ItemState.DONE
        assert [event.kind for event in await one.events(new.id)].count("dropped") == (0 if leased else 1)


async def test_a_clock_that_is_wrong_is_told_of(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await nodes.open()).close()
    assert nodes.notes.warnings == []
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 100)
    await nodes.open()
    assert "100 s ahead of" in nodes.notes.warnings[0]


# --- rows and schema ----------------------------------------------------------------------------------


@pytest.mark.covers("SEC-212")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outrider.items SET data = '\\x00'",
        "UPDATE outrider.items SET data = substr(data, 1, 9)",
        "UPDATE outrider.items SET destination = '\\xfffe'",
        "UPDATE outrider.items SET number = 7, data = '\\xc1'",
        "UPDATE outrider.messages SET data = substr(data, 1, 40)",
        "UPDATE outrider.messages SET id = 'OTHER'",
    ],
)
async def test_a_malformed_row_is_set_aside_and_the_rest_goes_on(nodes: Nodes, statement: str) -> None:
    spool = await nodes.open()
    await spool.store(message())
    nodes.sql(statement)
    await spool.store(good := message())
    leased = await spool.lease_due(NOW, NOW + 300, 10)
    assert [one.message.id for one in leased] == [good.id]
    assert len(nodes.notes.quarantined) == 1
    assert nodes.value("SELECT count(*) FROM outrider.quarantine") == 1
    await spool.find(Filter())
    await spool.settle(outcome(leased[0], DELIVERED))


@pytest.mark.covers("FAULT-F9")
async def test_changed_content_holds_the_message(nodes: Nodes) -> None:
    spool = await nodes.open()
    await spool.store(bad := message())
    nodes.sql("UPDATE outrider.contents SET body = set_byte(body, 1, 0)")
    assert await spool.lease_due(NOW, NOW + 300, 10) == ()
    item = await item_of(spool, ItemKey(bad.id, 0))
    assert item.state is ItemState.HELD
    assert "damaged" in item.reason


async def test_a_newer_schema_is_refused(nodes: Nodes) -> None:
    await (await nodes.open()).close()
    nodes.sql("UPDATE outrider.version SET version = 99")
    with pytest.raises(SpoolError, match="schema 99"):
        await nodes.open()


async def test_nodes_that_start_together_migrate_once(nodes: Nodes) -> None:
    await asyncio.gather(*(nodes.open(f"node{number}") for number in range(4)))
    assert nodes.value("SELECT count(*) FROM outrider.version") == 1


async def test_an_older_schema_is_brought_up_to_date(nodes: Nodes) -> None:
    steps = (*schema.MIGRATIONS, "CREATE TABLE outrider.added (one integer)")
    connection = await psycopg.AsyncConnection.connect(nodes.dsn, autocommit=True)
    async with connection:
        assert await schema.migrate(connection) == 0
        assert await schema.migrate(connection, steps) == len(schema.MIGRATIONS)
        assert await schema.version(connection) == len(steps)
        with pytest.raises(psycopg.Error):
            await schema.migrate(connection, (*steps, "CREATE TABLE outrider.half (one integer); SELECT 1/0"))
        assert await schema.version(connection) == len(steps)
    assert nodes.value("SELECT to_regclass('outrider.half') IS NULL")


async def test_counts_agree_with_the_queue_after_many_sessions(nodes: Nodes) -> None:
    spool = await nodes.open()
    for number in range(10):
        await spool.store(message())
        if number % 3 == 0:
            nodes.cut()
            await spool.lease_due(NOW, NOW + 300, 1)
    await spool.close()
    spool = await nodes.open()
    counts = await spool.counts()
    assert (counts.ready, counts.active) == (10, 0)
    assert nodes.value("SELECT count(*) FROM outrider.items WHERE state IN (0, 4)") == 10
