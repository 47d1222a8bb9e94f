"""Queue commands without a server: the spools of all workers there ever were."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.minimal_site import HOSTNAME, make_minimal_site

from outrider.config.loader import Loaded, load
from outrider.model.message import ItemState, MessageId
from outrider.runtime.control import CommandRefused, Row
from outrider.runtime.offline import run_offline
from outrider.spool.factory import open_spool
from outrider.testing.spool_samples import NOW, message


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """A configuration with mail in the spools 1 and 3, by turns older and younger."""
    monkeypatch.chdir(tmp_path)
    loaded = load(make_minimal_site(tmp_path))
    asyncio.run(_fill(loaded, 1, "FIRST", "THIRD"))
    asyncio.run(_fill(loaded, 3, "SECOND", "FOURTH"))
    return loaded


async def _fill(loaded: Loaded, shard: int, *names: str) -> None:
    spool = open_spool(loaded.config, HOSTNAME, shard=shard)
    await spool.start(NOW)
    for name in names:
        at = NOW + ("FIRST", "SECOND", "THIRD", "FOURTH").index(name)
        await spool.store(message(id_=name, received_at=at))
    await spool.close()


async def _state(loaded: Loaded, shard: int, name: str) -> ItemState:
    spool = open_spool(loaded.config, HOSTNAME, shard=shard)
    await spool.start(NOW)
    (item,) = await spool.items(MessageId(name))
    await spool.close()
    return item.state


def run(loaded: Loaded, command: str, **arguments: Any) -> list[Row]:
    """The command's rows."""
    return list(run_offline(loaded, command, arguments))


@pytest.mark.covers("SMTP-6")
def test_commands_see_the_mail_of_all_workers(loaded: Loaded) -> None:
    assert [row["id"] for row in run(loaded, "queue.list")] == ["FIRST", "SECOND", "THIRD", "FOURTH"]
    assert [row["id"] for row in run(loaded, "queue.list", limit=2)] == ["FIRST", "SECOND"]
    assert run(loaded, "queue.count")[0]["ready"] == 4
    assert run(loaded, "explain", id="FOURTH")[0]["id"] == "FOURTH"
    with pytest.raises(CommandRefused, match="no such message"):
        run(loaded, "explain", id="NONE")


@pytest.mark.covers("SMTP-6")
def test_changes_reach_the_spool_of_each(loaded: Loaded) -> None:
    changed = run(loaded, "queue.change", change="hold", ids=["SECOND", "THIRD"], by="root")
    assert [(row["id"], row["changed"]) for row in changed] == [("SECOND", True), ("THIRD", True)]
    assert asyncio.run(_state(loaded, 3, "SECOND")) is ItemState.HELD
    assert asyncio.run(_state(loaded, 1, "THIRD")) is ItemState.HELD
    assert asyncio.run(_state(loaded, 1, "FIRST")) is ItemState.READY


@pytest.mark.covers("SEC-209")
def test_one_spool_in_use_refuses_the_command_and_leaves_the_others_free(loaded: Loaded) -> None:
    async def meanwhile() -> None:
        spool = open_spool(loaded.config, HOSTNAME, shard=3)
        await spool.start(NOW)
        with pytest.raises(CommandRefused, match="in use by process"):
            await asyncio.to_thread(run, loaded, "queue.list")
        await spool.close()

    asyncio.run(meanwhile())
    assert len(run(loaded, "queue.list")) == 4
