"""Kills a holding facility after every statement of its database in turn, and looks what is left.

python -m tests.holding.held_crash_child DIRECTORY

For each statement of the whole exchange - holding, query, acknowledgement, message, receipt - a process is
forked that dies right after it; another goes on where the callers of the first were. Prints "N ok" or "N
reason" for each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outrider.holding.facility import held_bodies
from outrider.holding.facility.held_store import FILE, PART, HeldStore
from outrider.holding.facility.held_upkeep import UNFINISHED_S, delete_parts, doomed_bodies
from outrider.model.content import inline_content
from outrider.model.envelope import Envelope, Notify
from outrider.model.message import MessageId, NewMessage
from outrider.tables.database import Row, SqliteDatabase, Value
from tests.holding.facility_rig import FacilityRig, Sent, octets_of, submitted

BODY = b"begin" * 100 + bytes(range(33, 123)) * (2 * PART // 90)
MESSAGE = submitted("bob@beta.example", "carl@beta.example", body=BODY, notify=Notify.SUCCESS)
DIED = -1
held_bodies.PARTS_AT_ONCE = 2  # so that this body takes more than one transaction


class MortalDatabase(SqliteDatabase):
    """Counts statements; after the chosen one the process is dead."""

    executed = 0
    dies_after = 0
    on = False

    def execute(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        rows = super().execute(statement, values)
        if MortalDatabase.on:
            MortalDatabase.executed += 1
            if MortalDatabase.executed == MortalDatabase.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
        return rows


class MortalRig(FacilityRig):
    """A facility over it."""

    def open_store(self) -> HeldStore:
        MortalDatabase.on = False  # making the tables is not part of it
        try:
            return HeldStore(MortalDatabase(self.folder / FILE))
        finally:
            MortalDatabase.on = True


@dataclass
class Callers:
    """What the queue and the receivers' servers remember, which do not die with the facility: files."""

    folder: Path

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def note(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def noted(self, name: str) -> str:
        return (self.folder / name).read_text()


async def hold(rig: FacilityRig, callers: Callers) -> None:
    """An attempt of the queue, repeated until its outcome is stored."""
    sent = [Sent(one) for one in (await rig.deliver(MESSAGE)).messages]
    ids = " ".join(one.held.id for one in sent)
    if not callers.has("ids"):
        callers.note("ids", ids)
    assert callers.noted("ids") == ids
    for at, one in enumerate(sent):
        (callers.folder / f"envelope{at}").write_bytes(b"".join(one.message.content.chunks()))
    callers.note("settled")


async def ask(rig: FacilityRig, callers: Callers, at: int, sent: Sent) -> None:
    """What one receiver's server does, one durable step after the other."""
    if not callers.has(f"number{at}"):
        [answer] = await rig.query(sent.query)
        assert answer["known"], "an unacknowledged query burns nothing"
        callers.note(f"number{at}", answer["confirmation"])
    number = callers.noted(f"number{at}")
    if not callers.has(f"done{at}"):
        [done] = await rig.acknowledge((sent.held.id, number))
        assert done == {"done": True, "confirmation": number}
        callers.note(f"done{at}")
    assert await rig.query(sent.query) == [{"known": False}]
    if not callers.has(f"fetched{at}"):
        assert await rig.fetch(sent, number) == octets_of(MESSAGE)
        callers.note(f"fetched{at}")
    if not callers.has(f"confirmed{at}"):
        assert await rig.receipt(sent, number) == 200
        callers.note(f"confirmed{at}")


async def run(folder: Path) -> None:
    """As far as it goes."""
    rig, callers = MortalRig(folder), Callers(folder)
    try:
        if not callers.has("settled"):
            await hold(rig, callers)
        for at, sent in enumerate(recall(folder)):
            await ask(rig, callers, at, sent)
    finally:
        rig.close()


def recall(folder: Path) -> list[Sent]:
    """The envelopes as they arrived."""
    blank = NewMessage(MessageId("X"), 0.0, Envelope(None, ()), b"", inline_content(b""), ())
    contents = [inline_content((folder / f"envelope{at}").read_bytes()) for at in range(2)]
    return [Sent(replace(blank, content=content)) for content in contents]


def check(folder: Path) -> None:
    """Nothing lost, doubled, or left over."""
    store = HeldStore(SqliteDatabase(folder / FILE))
    try:
        later = MESSAGE.received_at + 2 * UNFINISHED_S
        for body in doomed_bodies(store, later, 100):
            with store.transaction():
                while not delete_parts(store, body, later, 4):
                    pass
        counts = {
            table: store.database.execute(f"SELECT count(*) FROM {table}")[0][0]
            for table in ("held_messages", "held_copies", "held_parts", "held_bodies", "held_errands")
        }
        assert counts == {
            "held_messages": 1,
            "held_copies": 2,
            "held_parts": 0,
            "held_bodies": 0,
            "held_errands": 2,
        }, counts
        states = store.database.execute("SELECT DISTINCT state FROM held_copies")
        assert states == [("retrieved",)], states
    finally:
        store.close()


def forked(work: int, folder: Path) -> int:
    """The exit status of a process that dies after so many statements (0: it lives); `DIED` for dead."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            MortalDatabase.executed, MortalDatabase.dies_after = 0, work
            asyncio.run(run(folder))
            (folder / "count").write_text(str(MortalDatabase.executed))
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return DIED if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def main(directory: Path) -> None:
    """Every statement in turn."""
    first = directory / "0"
    first.mkdir()
    assert forked(0, first) == 0
    check(first)
    total = int((first / "count").read_text())
    print(f"total {total}", flush=True)
    for number in range(1, total + 1):
        folder = directory / str(number)
        folder.mkdir()
        try:
            assert forked(number, folder) == DIED
            assert forked(0, folder) == 0
            check(folder)
        except AssertionError as error:
            print(f"{number} {error!r}", flush=True)
        else:
            print(f"{number} ok", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
