"""Asking lists: remembered, bounded in time, rested when silent, not believed when they list everything."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from outrider.config.schema import Trust, TrustList
from outrider.delivery.lookup import LookupTemporary, NoSuchName
from outrider.model.facts import Facts, Provenance
from outrider.reception import trust_lookups
from outrider.reception.trust_files import LOOK_EVERY_S, WatchedList, read_list
from outrider.reception.trust_lookups import (
    REFUSAL_REST_S,
    SILENCE_REST_S,
    SILENCES_BEFORE_REST,
    ListRecords,
    TrustParts,
    TrustSource,
)
from outrider.trust.lists import compile_lists
from outrider.trust.observer import NullTrustObserver
from outrider.trust.questions import Said
from outrider.trust.subjects import Role, Subject

CLIENT = Subject(Role.CLIENT, "192.0.2.1", True)
ON_ZEN = "1.2.0.192.zen.example"


class Recorder(NullTrustObserver):
    """Keeps what it is told, without times."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def list_answered(self, name: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(("answered", name, result))

    def answer_remembered(self, name: str) -> None:
        self.told.append(("remembered", name))

    def list_fell_silent(self, name: str, result: str, reason: str) -> None:
        assert reason
        self.told.append(("silent", name, result))

    def list_came_back(self, name: str) -> None:
        self.told.append(("back", name))

    def list_file_read(self, name: str, entries: int) -> None:
        self.told.append(("read", name, str(entries)))

    def list_file_unreadable(self, name: str, reason: str) -> None:
        self.told.append(("unreadable", name, reason))


class Zones:
    """DNS by a table: addresses by name; a name that is not there does not exist; None never answers."""

    def __init__(self, table: dict[str, str | None]) -> None:
        self.table = table
        self.asked: list[str] = []
        self.ttl_s = 300.0

    async def list_addresses(self, name: str) -> ListRecords:
        self.asked.append(name)
        return ListRecords(addresses=(await self._value(name),), ttl_s=self.ttl_s)

    async def list_texts(self, name: str) -> ListRecords:
        self.asked.append(name)
        return ListRecords(texts=((await self._value(name)).encode(),), ttl_s=self.ttl_s)

    async def _value(self, name: str) -> str:
        value = self.table.get(name, "")
        if value is None:
            await asyncio.Event().wait()
        if value == "SERVFAIL":
            raise LookupTemporary("SERVFAIL")
        if not value:
            raise NoSuchName("no such domain")
        return value


class Rig:
    """A source with its surroundings, and a clock that stands still."""

    def __init__(self, table: dict[str, str | None], **lists: TrustList) -> None:
        self.zones = Zones(table)
        self.now = 1000.0
        self.recorder = Recorder()
        named = compile_lists(Trust(lists=lists or {"zen": zen()}))
        parts = TrustParts(named, {}, self.zones, self.recorder, lambda: self.now, 900.0)
        self.source = TrustSource(parts)

    async def said(self, subject: Subject = CLIENT) -> list[Said]:
        assessment = await self.source.assess([subject])
        return [finding.answer.said for finding in assessment.findings]


def zen(**settings: object) -> TrustList:
    return TrustList(kind="dnsbl", source="zen.example", timeout=0.05, **settings)  # type: ignore[arg-type]


@pytest.mark.covers("ITP-3")
async def test_an_answer_is_remembered_for_its_time() -> None:
    rig = Rig({ON_ZEN: "127.0.0.2"})
    assert await rig.said() == [Said.HIT]
    assert await rig.said() == [Said.HIT]
    assert rig.zones.asked == [ON_ZEN, "1.0.0.127.zen.example"]
    assert rig.recorder.told == [("answered", "zen", "hit"), ("remembered", "zen")]
    rig.now += 301
    rig.zones.table = {}
    assert await rig.said() == [Said.MISS]
    rig.zones.table = {ON_ZEN: "127.0.0.2"}
    assert await rig.said() == [Said.MISS]
    rig.now += 61
    assert await rig.said() == [Said.HIT]


@pytest.mark.covers("ITP-3")
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_lookups, "MAX_REMEMBERED", 10)
    rig = Rig({})
    for number in range(50):
        await rig.said(Subject(Role.CLIENT, f"192.0.2.{number}", True))
    assert len(rig.source._memory.answers) == 10


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize("failure", [None, "SERVFAIL"])
async def test_a_list_that_stays_silent_is_rested_and_asked_again(failure: str | None) -> None:
    rig = Rig({ON_ZEN: failure})
    for _ in range(SILENCES_BEFORE_REST + 3):
        assert await rig.said() == [Said.SILENT]
    assert len(rig.zones.asked) == SILENCES_BEFORE_REST
    assert rig.recorder.told[-1] == ("silent", "zen", "silent")
    rig.now += SILENCE_REST_S + 1
    rig.zones.table = {}
    assert await rig.said() == [Said.MISS]
    assert rig.recorder.told[-1] == ("back", "zen")


@pytest.mark.covers("ITP-3")
async def test_a_list_that_refuses_us_lists_nobody() -> None:
    rig = Rig({ON_ZEN: "127.255.255.254"})
    assert await rig.said() == [Said.REFUSED]
    assert await rig.said() == [Said.SILENT]
    assert rig.recorder.told == [("answered", "zen", "refused"), ("silent", "zen", "refused")]
    rig.now += REFUSAL_REST_S + 1
    rig.zones.table = {ON_ZEN: "127.0.0.2"}
    assert await rig.said() == [Said.HIT]


@pytest.mark.covers("ITP-3")
async def test_a_dead_list_that_answers_to_everything_stops_no_mail() -> None:
    class Everything(Zones):
        async def _value(self, name: str) -> str:
            return "127.0.0.2"

    rig = Rig({})
    rig.zones = Everything({})
    object.__setattr__(rig.source._parts, "lookup", rig.zones)
    assert await rig.said() == [Said.LISTS_ALL]
    assert rig.recorder.told[-1] == ("silent", "zen", "lists-all")
    assert (await rig.source.assess([CLIENT])).score == 0


@pytest.mark.covers("ITP-3")
async def test_all_lists_are_asked_at_once() -> None:
    slow = {f"l{n}": TrustList(kind="dnsbl", source=f"l{n}.example", timeout=5.0) for n in range(20)}
    rig = Rig({}, **slow)
    running, most = 0, 0

    async def answer(name: str) -> ListRecords:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        raise NoSuchName(name)

    rig.zones.list_addresses = answer  # type: ignore[method-assign]
    assert set(await rig.said()) == {Said.MISS}
    assert most == 20


@pytest.mark.covers("ITP-3")
async def test_a_vouching_service_is_asked_about_proven_domains_only() -> None:
    name = "bank.example._vouch.service.example"
    rig = Rig({name: "all"}, v=TrustList(kind="vbr", source="service.example"))
    assert await rig.said(Subject(Role.DOMAIN, "bank.example", False)) == []
    assert rig.zones.asked == []
    assert await rig.said(Subject(Role.DOMAIN, "bank.example", True)) == [Said.HIT]
    assert rig.zones.asked == [name]


async def test_facts_of_the_client_go_to_the_session_and_others_to_the_message() -> None:
    rig = Rig({ON_ZEN: "127.0.0.2"}, zen=zen(weight=3), v=TrustList(kind="rhsbl", source="r.example"))
    session = Facts()
    session.prove("client.address", "192.0.2.1", "TCP")
    await rig.source.fetch({"client.listed"}, session, session, (), 7.0)
    assert session.value("client.listed") == ("zen",)
    assert session.get("trust.score") is None
    message = Facts(parent=session)
    message.claim("sender.domain", "a.example")
    await rig.source.fetch({"trust.score", "client.listed"}, session, message, (), 7.0)
    assert message.value("trust.score", Provenance.VOUCHED) == 3
    assert session.get("trust.score") is None
    assert sum(fact.name == "client.listed" for fact in message) == 1


async def test_whether_a_list_is_alive() -> None:
    alive: dict[str, str | None] = {"2.0.0.127.zen.example": "127.0.0.2"}
    cases: list[tuple[dict[str, str | None], str]] = [
        (alive, ""),
        ({}, "2.0.0.127.zen.example: is not listed"),
        ({"2.0.0.127.zen.example": None}, "2.0.0.127.zen.example: no answer in 0.05 s"),
        ({**alive, "1.0.0.127.zen.example": "127.0.0.2"}, "1.0.0.127.zen.example: 127.0.0.2"),
    ]
    for table, state in cases:
        rig = Rig(table)
        assert await rig.source.probe(rig.source._parts.lists[0]) == state


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.covers("ITP-3")
async def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_text("bad.example\n")
    recorder, now = Recorder(), [0.0]
    watched = WatchedList("mine", read_list(path), recorder, lambda: now[0])
    bad, worse = (Subject(Role.DOMAIN, name, True) for name in ("bad.example", "worse.example"))
    path.write_text("bad.example\nworse.example\n")
    assert not (await watched.entries()).entry_for(worse)
    now[0] += LOOK_EVERY_S
    assert (await watched.entries()).entry_for(worse)
    path.write_text("not a domain\n")
    now[0] += LOOK_EVERY_S
    assert (await watched.entries()).entry_for(worse)
    path.unlink()
    now[0] += LOOK_EVERY_S
    assert (await watched.entries()).entry_for(bad)
    path.write_text("bad.example\n")
    now[0] += LOOK_EVERY_S
    assert not (await watched.entries()).entry_for(worse)
    kinds = [told[0] for told in recorder.told]
    assert kinds == ["read", "unreadable", "unreadable", "read"]
    assert "line 1" in recorder.told[1][2]


async def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_text("bad.example\n")
    recorder, now = Recorder(), [0.0]
    watched = WatchedList("mine", read_list(path), recorder, lambda: now[0])
    for _ in range(3):
        now[0] += LOOK_EVERY_S
        await watched.entries()
    assert recorder.told == []
    os.utime(path, (1, 1))
    now[0] += LOOK_EVERY_S
    await watched.entries()
    assert recorder.told == [("read", "mine", "1")]
