"""Commands over several workers: real control sockets, scripted workers behind them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from outrider.maillog.metrics import Metrics
from outrider.runtime.control import CommandRefused, Handler, Row
from outrider.runtime.control_server import ControlServer, open_control
from outrider.runtime.group import GroupCommands

Answer = list[Row] | Callable[[dict[str, Any]], list[Row]]


class Worker:
    """Answers each command with the rows that the script has for it, and notes what it was asked."""

    def __init__(self, script: Mapping[str, Answer | str]) -> None:
        self.script = {"server.status": [{"ready": "yes"}], **script}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.given = 0

    async def handle(self, command: str, arguments: dict[str, Any]) -> AsyncIterator[Row]:
        """The handler of its control socket."""
        self.asked.append((command, arguments))
        answer = self.script.get(command, f"no command {command}")
        if isinstance(answer, str):
            raise CommandRefused(answer)
        for row in answer(arguments) if callable(answer) else answer:
            self.given += 1
            yield row

    def was_asked(self, command: str) -> list[dict[str, Any]]:
        """The arguments of each time."""
        return [arguments for name, arguments in self.asked if name == command]


class Group:
    """Workers from 1; the first is asked."""

    def __init__(self, folder: Path, *workers: Worker, absence: Mapping[int, str] | None = None) -> None:
        self.workers = workers
        paths = {number: folder / f"control-{number}.sock" for number in range(1, len(workers) + 1)}
        self.paths = paths
        self.servers: list[ControlServer] = []
        self.commands = GroupCommands(
            paths, 1, workers[0].handle, absence=lambda n: (absence or {}).get(n, ""), patience_s=0.2
        )

    async def __aenter__(self) -> Group:
        for number, worker in enumerate(self.workers, 1):
            self.serve(number, worker.handle)
        return self

    def serve(self, number: int, handler: Handler) -> None:
        """Answer at a worker's socket."""
        server = ControlServer(open_control(self.paths[number]), handler)
        server.start()
        self.servers.append(server)

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers:
            with contextlib.suppress(ValueError, OSError):
                await server.stop()

    async def ask(self, command: str, **arguments: object) -> list[Row]:
        """All rows."""
        return [row async for row in self.commands.run(command, arguments)]

    async def refused(self, command: str, **arguments: object) -> tuple[list[Row], str]:
        """The rows that came, and why it was refused."""
        rows: list[Row] = []
        try:
            async for row in self.commands.run(command, arguments):
                rows += [row]
        except CommandRefused as refusal:
            return rows, str(refusal)
        raise AssertionError(f"{command} was not refused: {rows}")


def listed(*moments: int) -> list[Row]:
    """Rows of `queue list`."""
    return [
        {"id": f"M{moment:03d}", "received": f"2026-01-01T00:00:00.{moment:03d}+00:00"} for moment in moments
    ]


def names(rows: list[Row]) -> list[str]:
    """Their ids."""
    return [row["id"] for row in rows]


async def test_lists_are_merged_by_age_and_then_cut(tmp_path: Path) -> None:
    workers = [Worker({"queue.list": listed(*range(start, 60, 3))}) for start in (1, 0, 2)]
    async with Group(tmp_path, *workers) as group:
        assert names(await group.ask("queue.list")) == names(listed(*range(60)))
        assert names(await group.ask("queue.list", limit=7, sender="x")) == names(listed(*range(7)))
        assert workers[2].was_asked("queue.list")[1] == {"limit": 7, "sender": "x"}


async def test_a_long_list_is_not_gathered_first(tmp_path: Path) -> None:
    many = [{**row, "recipients": ["x" * 1000]} for row in listed(*range(1, 1000))] * 20
    workers = Worker({"queue.list": listed(0)}), Worker({"queue.list": many})
    async with Group(tmp_path, *workers) as group:
        rows = group.commands.run("queue.list", {})
        assert (await anext(rows))["id"] == "M000"
        assert (await anext(rows))["id"] == "M001"
        await asyncio.sleep(0.1)
        assert workers[1].given < len(many) / 2  # it waits until its rows are wanted
        await rows.aclose()  # type: ignore[attr-defined]


async def test_counts_are_summed_and_the_oldest_counts(tmp_path: Path) -> None:
    workers = [
        Worker({"queue.count": [{"ready": n, "active": 1, "held": 0, "oldest_s": 10 * n}]}) for n in (1, 2, 3)
    ]
    async with Group(tmp_path, *workers) as group:
        assert await group.ask("queue.count") == [{"ready": 6, "active": 3, "held": 0, "oldest_s": 30}]


@pytest.mark.parametrize("command", ["explain", "queue.show", "queue.content"])
async def test_the_worker_that_knows_a_message_answers(tmp_path: Path, command: str) -> None:
    unknown = "M1: no such message"
    workers = (
        Worker({command: unknown}),
        Worker({command: unknown}),
        Worker({command: [{"id": "M1"}, {"n": 2}]}),
    )
    async with Group(tmp_path, *workers) as group:
        assert await group.ask(command, id="M1") == [{"id": "M1"}, {"n": 2}]
        workers[2].script[command] = "the content is gone"
        assert await group.refused(command, id="M1") == ([], "the content is gone")
        workers[2].script[command] = unknown
        assert await group.refused(command, id="M1") == ([], unknown)


async def test_changes_go_to_all(tmp_path: Path) -> None:
    workers = [Worker({"queue.change": [{"id": f"M{n}", "changed": True}]}) for n in (1, 2)]
    async with Group(tmp_path, *workers) as group:
        assert names(await group.ask("queue.change", change="hold")) == ["M1", "M2"]
        assert workers[1].was_asked("queue.change") == [{"change": "hold", "limit": 0}]


async def test_a_limited_change_takes_the_oldest_of_all(tmp_path: Path) -> None:
    def worker(*moments: int) -> Worker:
        def change(arguments: dict[str, Any]) -> list[Row]:
            return listed(*moments)[: arguments["limit"]]

        return Worker({"queue.list": listed(*moments), "queue.change": change})

    workers = worker(3, 4, 9), worker(1, 2, 5), worker(7, 8)
    async with Group(tmp_path, *workers) as group:
        changed = await group.ask("queue.change", change="drop", limit=5)
        assert sorted(names(changed)) == names(listed(1, 2, 3, 4, 5))
        assert not workers[2].was_asked("queue.change")


async def test_pauses_reach_all_and_are_answered_once(tmp_path: Path) -> None:
    workers = [Worker({"queue.pause": [{"result": "paused"}]}) for _ in range(3)]
    async with Group(tmp_path, *workers) as group:
        assert await group.ask("queue.pause", destination="b.example") == [{"result": "paused"}]
        assert all(worker.was_asked("queue.pause") for worker in workers)


async def test_destinations_are_merged_by_name(tmp_path: Path) -> None:
    def lane(name: str, active: int, window: int, backoff: float, error: str) -> Row:
        return {
            "destination": name, "active": active, "waiting": 2 * active, "concurrency": window,
            "paused": False, "backoff_s": backoff, "last_error": error,
        }  # fmt: skip

    workers = (
        Worker({"queue.destinations": [lane("b.example", 1, 5, 0.0, ""), lane("c.example", 1, 1, 0.0, "")]}),
        Worker({"queue.destinations": [lane("b.example", 2, 7, 9.5, "no route")]}),
    )
    async with Group(tmp_path, *workers) as group:
        assert await group.ask("queue.destinations") == [
            lane("b.example", 3, 7, 9.5, "no route"),
            lane("c.example", 1, 1, 0.0, ""),
        ]


def status(number: int, ready: str = "yes") -> Row:
    """What a worker says of itself."""
    return {
        "worker": number, "pid": 100 + number, "restarts": 0, "adopted": [], "hostname": "mx.a.example",
        "up_s": 10 * number, "connections": number, "ready": ready,
        "listeners": [{"name": "smtp", "connections": number}],
    }  # fmt: skip


async def test_the_status_is_the_groups_with_a_list_of_workers(tmp_path: Path) -> None:
    workers = [Worker({"server.status": [status(n)]}) for n in (1, 2)]
    async with Group(tmp_path, *workers) as group:
        (row,) = await group.ask("server.status")
        assert (row["up_s"], row["connections"], row["ready"]) == (20, 3, "yes")
        assert row["listeners"] == [{"name": "smtp", "connections": 3}]
        assert [one["pid"] for one in row["workers"]] == [101, 102]
        workers[1].script["server.status"] = [status(2, "no room")]
        (row,) = await group.ask("server.status")
        assert row["ready"] == "worker 2: no room"


async def test_a_worker_known_to_be_away_is_named(tmp_path: Path) -> None:
    scripts: list[Mapping[str, Answer | str]] = [
        {"server.status": [status(n)], "queue.list": listed(n)} for n in (1, 2)
    ]
    workers = [Worker(script) for script in scripts]
    async with Group(tmp_path, *workers, absence={2: "being restarted"}) as group:
        (row,) = await group.ask("server.status")
        assert row["ready"] == "worker 2: being restarted"
        assert row["workers"][1] == {"worker": 2, "ready": "being restarted"}
        rows, why = await group.refused("queue.list")
        assert names(rows) == ["M001"]
        assert why.startswith("worker 2: being restarted: ")
        assert not workers[1].asked


async def test_a_reload_is_refused_whole(tmp_path: Path) -> None:
    workers = [Worker({"server.reload": [{"result": "reloaded"}]}) for _ in range(3)]
    async with Group(tmp_path, *workers) as group:
        assert await group.ask("server.reload") == [{"result": "reloaded"}]
        assert [len(worker.was_asked("server.reload")) for worker in workers] == [1, 1, 1]
        workers[0].script["server.reload"] = "nothing was changed:\nline 3"
        assert await group.refused("server.reload") == ([], "nothing was changed:\nline 3")
        assert [len(worker.was_asked("server.reload")) for worker in workers] == [2, 1, 1]


async def test_a_reload_that_one_worker_did_not_follow_says_so(tmp_path: Path) -> None:
    workers = [Worker({"server.reload": [{"result": "reloaded"}]}) for _ in range(3)]
    workers[1].script["server.reload"] = "nothing was changed:\nline 3"
    async with Group(tmp_path, *workers) as group:
        rows, why = await group.refused("server.reload")
        assert rows == [{"result": "reloaded"}]
        assert why.startswith("worker 2: nothing was changed")
        assert workers[2].was_asked("server.reload")


async def test_stop_is_the_own_workers_business(tmp_path: Path) -> None:
    workers = [Worker({"server.stop": [{"result": "stopping"}]}) for _ in range(2)]
    async with Group(tmp_path, *workers) as group:
        assert await group.ask("server.stop") == [{"result": "stopping"}]
        assert not workers[1].asked
        assert (await group.refused("server.dance"))[1] == "no command server.dance"


async def test_metrics_are_merged_and_tell_who_is_missing(tmp_path: Path) -> None:
    workers = []
    for number in (1, 2):
        metrics = Metrics()
        metrics.received.labels("smtp").inc(number)
        workers.append(Worker({"server.metrics": [{"page": metrics.page().decode()}]}))
    async with Group(tmp_path, *workers) as group:
        (row,) = await group.ask("server.metrics")
        assert 'outrider_messages_received_total{protocol="smtp"} 3.0\n' in row["page"]
        assert 'outrider_workers{state="answering"} 2\n' in row["page"]
        await group.servers[1].stop()
        (row,) = await group.ask("server.metrics")
        assert 'outrider_messages_received_total{protocol="smtp"} 1.0\n' in row["page"]
        assert 'outrider_workers{state="silent"} 1\n' in row["page"]


# --- workers that do not answer -------------------------------------------------------------------------

COMMANDS: dict[str, list[Row]] = {
    "queue.list": listed(1),
    "queue.count": [{"ready": 1, "active": 0, "held": 0, "oldest_s": 3}],
    "queue.change": [{"id": "M1", "changed": True}],
    "queue.pause": [{"result": "paused"}],
    "queue.destinations": [],
    "server.reload": [{"result": "reloaded"}],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", ["nobody", "mute", "cut", "refusing"])
async def test_a_silent_worker_is_named_after_what_the_others_have(
    tmp_path: Path, command: str, fault: str
) -> None:
    workers = Worker({command: COMMANDS[command]}), Worker({command: "its disk is full"})
    async with Group(tmp_path, *workers) as group:
        if fault != "refusing":
            await group.servers[1].stop()
        with _broken(group.paths[2], fault):
            rows, why = await group.refused(command, change="hold", destination="b.example")
        assert rows == COMMANDS[command]
        assert why.startswith("worker 2: ")


@contextlib.contextmanager
def _broken(path: Path, fault: str) -> Any:
    """A socket that takes connections and says nothing, or hangs up; or none."""
    if fault not in ("mute", "cut"):
        yield
        return
    loop = asyncio.get_running_loop()
    listening = open_control(path)
    taken: list[socket.socket] = []

    def accept() -> None:
        connection, _ = listening.accept()
        if fault == "cut":
            connection.send(b'{"row": {"received"')
            connection.close()
        taken.append(connection)

    loop.add_reader(listening, accept)
    try:
        yield
    finally:
        loop.remove_reader(listening)
        for one in (*taken, listening):
            one.close()


async def test_an_unknown_message_may_be_with_the_silent_worker(tmp_path: Path) -> None:
    workers = Worker({"explain": "M1: no such message"}), Worker({})
    async with Group(tmp_path, *workers) as group:
        await group.servers[1].stop()
        group.paths[2].unlink()
        _, why = await group.refused("explain", id="M1")
        assert why.startswith("worker 2: nobody is at its socket")
        assert "may be there" in why


async def test_a_limited_change_is_not_begun_without_knowing_all(tmp_path: Path) -> None:
    workers = Worker({"queue.list": listed(1), "queue.change": listed(1)}), Worker({})
    async with Group(tmp_path, *workers) as group:
        await group.servers[1].stop()
        _, why = await group.refused("queue.change", change="drop", limit=1)
        assert "nothing was changed" in why
        assert not workers[0].was_asked("queue.change")


async def test_a_worker_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    async def slowly(command: str, _: dict[str, Any]) -> AsyncIterator[Row]:
        if command == "queue.list":
            await asyncio.sleep(1.0)  # several times our patience, while it answers others
        yield listed(2)[0]

    workers = Worker({"queue.list": listed(1)}), Worker({})
    async with Group(tmp_path, *workers) as group:
        await group.servers[1].stop()
        group.serve(2, slowly)
        assert names(await group.ask("queue.list")) == ["M001", "M002"]
