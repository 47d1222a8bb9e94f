"""Whose word on a class counts: services asked in their order, signed answers, reports that classify anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from outrider.holding.classification.directory import ClassDirectory, DirectoryParts, Vouched
from outrider.holding.classification.forms import CLASS_KIND, CLASS_PATH, ClassAnswer, ClassReport
from outrider.holding.classification.service import (
    ClassificationService,
    ReportError,
    ServiceParts,
    check_evidence,
    read_vouched,
)
from outrider.holding.classification.store import (
    MEMORY_S,
    REPORTERS,
    ClassificationStore,
    ClassificationStoreThread,
    KeptReport,
)
from outrider.holding.incoming.reports import Evidence, abuse_report
from outrider.holding.policies.host_documents import HostKey, read_signed
from outrider.holding.policies.peers import Peer
from outrider.identity.signed_document import DocumentError
from outrider.model.address import Domain, parse_address
from outrider.model.message import MessageId
from outrider.protocols.amdp.mail_class import parse_pattern
from outrider.tables.database import PostgresDatabase, SqliteDatabase
from tests.holding.subscription_peers import CHECK, STRANGER, LocalCaller, host
from tests.lists.support import START, Observer

NEWS, UNI = Domain("news.example"), Domain("uni.example")
LETTER = "Agent::Bulk::letter"
FILE = """\
# who            what
news.example     Agent::Bulk::*  agent::commerce::*
uni.example      *::EDU::*  *::Government::*  *::Business::*   # the reviewer's university
one.example      *::Personal::*
two.example      *::Personal::*
three.example    *::Personal::*
"""


class World:
    """Two services and a directory that has chosen both; `now` is everybody's clock."""

    def __init__(self, folder: Path, names: tuple[str, ...], files: tuple[str, ...]) -> None:
        self.now = START
        self.caller, self.observer = LocalCaller(), Observer()
        self.stores: list[ClassificationStoreThread] = []
        self.services: dict[str, ClassificationService] = {}
        for name, text in zip(names, files, strict=True):
            file = folder / f"{name}.classes"
            file.write_text(text)
            self.services[name] = self._service(name, file, folder / f"{name}.sqlite")
            self.caller.services[name] = (self.services[name],)
        self.directory = self.directory_of(names)

    def _service(self, name: str, file: Path, database: Path) -> ClassificationService:
        store = ClassificationStoreThread(lambda: ClassificationStore(SqliteDatabase(database)), "classes")
        self.stores.append(store)
        parts = ServiceParts(read_vouched(file), store, host(name), CHECK, self.observer, lambda: self.now)
        return ClassificationService(parts)

    def directory_of(self, names: tuple[str, ...], key: HostKey | None = None) -> ClassDirectory:
        return ClassDirectory(
            DirectoryParts(
                tuple(Peer(name) for name in names),
                self.caller,
                CHECK,
                self.observer,
                lambda: self.now,
                lambda octets: bytes(octets),
                key=key,
            )
        )

    def close(self) -> None:
        for one in self.stores:
            one.close()


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    worlds: list[World] = []

    def make(
        names: tuple[str, ...] = ("classes.first.example", "classes.second.example"),
        files: tuple[str, ...] = ("", FILE),
    ) -> World:
        worlds.append(World(tmp_path, names, files))
        return worlds[-1]

    yield make
    for one in worlds:
        one.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


# --- asking -------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-18")
async def test_services_are_asked_in_their_order_until_one_knows_the_domain(world: World) -> None:
    found = await world.directory.vouched(UNI)
    assert found.service == "classes.second.example"
    assert found.answered
    for mail_class in ("Direct::Educational::lecture", "direct::gov::notice", "Agent::Business::x::offer"):
        assert found.covers(mail_class)
    for mail_class in ("Direct::Bulk::offer", "nonsense", ""):
        assert not found.covers(mail_class)
    assert [name for name, _ in world.caller.calls] == ["classes.first.example", "classes.second.example"]


@pytest.mark.covers("AMDP-18")
async def test_an_answer_is_remembered_and_asked_for_once_by_many(world: World) -> None:
    answers = await asyncio.gather(*(world.directory.vouched(NEWS) for _ in range(20)))
    assert len(set(answers)) == 1
    await world.directory.vouched(NEWS)
    assert len(world.caller.calls) == 2
    world.now += 3601
    await world.directory.vouched(NEWS)
    assert len(world.caller.calls) == 4


@pytest.mark.covers("AMDP-18", "SEC-207")
@pytest.mark.parametrize("answer", [b"", b"nonsense", b"{}", b"x" * 70_000])
async def test_a_service_that_talks_nonsense_or_is_away_leaves_the_class_claimed(
    world: World, answer: bytes
) -> None:
    """A list that does not answer never blocks mail; the next one is asked, and soon this one again."""
    world.caller.changed["classes.first.example"] = answer
    assert (await world.directory.vouched(NEWS)).service == "classes.second.example"
    del world.caller.services["classes.second.example"]
    unknown = await world.directory.vouched(UNI)
    assert unknown == Vouched(answered=False)
    assert not unknown.covers(LETTER)
    world.caller.changed.clear()
    world.caller.services["classes.second.example"] = (world.services["classes.second.example"],)
    world.now += 61
    assert (await world.directory.vouched(UNI)).service == "classes.second.example"


@pytest.mark.covers("AMDP-18", "SEC-207")
async def test_only_the_services_own_fresh_word_on_the_domain_asked_about_is_believed(world: World) -> None:
    name = "classes.first.example"
    key = host(name)
    members: dict[str, Any] = {
        "signer": name,
        "audience": "",
        "at": int(START),
        "domain": "news.example",
        "classes": ("Agent::Bulk::*",),
        "expires": int(START) + 600,
    }

    async def said(key: HostKey = key, kind: str = CLASS_KIND, **more: Any) -> str:
        world.caller.changed[name] = key.sign(ClassAnswer(**{**members, **more}), kind)
        return (await world.directory_of((name,)).vouched(NEWS)).service

    assert await said() == name
    assert await said(domain="uni.example") == ""
    assert await said(expires=int(START)) == ""
    assert await said(at=int(START) - 100_000) == ""
    assert await said(at=int(START) + 1000) == ""
    assert await said(audience="somebody.example") == ""
    assert await said(kind="amdp-class-report+json") == ""
    assert await said(classes=("a::b",)) == ""
    assert await said(key=host("other.example"), signer="other.example") == ""
    assert await said(key=host("other.example")) == ""
    assert await said(key=host(name, STRANGER)) == ""


@pytest.mark.covers("AMDP-18")
async def test_nobody_vouches_for_himself(make_world: MakeWorld) -> None:
    world = make_world(("classes.news.example", "classes.second.example"), (FILE, ""))
    assert await world.directory.vouched(NEWS) == Vouched()
    assert [name for name, _ in world.caller.calls] == ["classes.second.example"]
    assert (await world.directory.vouched(UNI)).service == "classes.news.example"


@pytest.mark.covers("AMDP-18")
async def test_an_answer_is_signed_so_that_others_can_check_it(world: World) -> None:
    name = "classes.second.example"
    answer = await world.caller.get(name, 443, f"{CLASS_PATH}?domain=NEWS.example", limit=65_536)
    said = read_signed(answer.body, CLASS_KIND, ClassAnswer, CHECK, audience="", now=START, age_s=60)
    assert (said.signer, said.domain, said.classes) == (
        name,
        "news.example",
        ("Agent::Bulk::*", "Agent::Commerce::*"),
    )
    again = await world.caller.get(name, 443, f"{CLASS_PATH}?domain=news.example", limit=65_536)
    assert again.body == answer.body
    unknown = await world.caller.get(name, 443, f"{CLASS_PATH}?domain=nowhere.example", limit=65_536)
    said = read_signed(unknown.body, CLASS_KIND, ClassAnswer, CHECK, audience="", now=START, age_s=60)
    assert said.classes == ()
    wrong = await world.caller.get(name, 443, f"{CLASS_PATH}?domain=%00", limit=65_536)
    assert wrong.status == 400


def test_the_operators_file_is_read_or_its_faulty_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "vouched"
    file.write_text(FILE + "UNI.example *::Personal::*\n")
    vouched = read_vouched(file)
    assert vouched[UNI] == ("*::Educational::*", "*::Government::*", "*::Business::*", "*::Personal::*")
    for text in ("a b\n", "news.example\n", "news.example a::b\n", "bad domain::x *\n"):
        file.write_text(f"# first\n{text}")
        with pytest.raises(ValueError, match="line 2"):
            read_vouched(file)


# --- reports ------------------------------------------------------------------------------------------------


def report(domain: str = "news.example", mail_class: str = LETTER, sender: str = "") -> bytes:
    """A report of abuse as the gateway makes it, about an envelope with these fields."""
    sender = sender or f"offers@{domain}"
    headers = f"AMDP-From: <{sender}>\r\nAMDP-Mail-Class: {mail_class}\r\nSubject: x\r\n\r\n"
    evidence = Evidence(
        MessageId("M1"), domain, "a lie", "mhf-1", headers.encode(), None, sender, "ann@alpha.example", START
    )
    to = parse_address("abuse@classes.example")
    content = abuse_report(evidence, to, hostname="mx.one.example", message_id="1@mx", now=START)
    return b"".join(content.chunks())


async def reported(
    world: World, by: str, domain: Domain = NEWS, mail_class: str = LETTER, **more: Any
) -> bool:
    directory = world.directory_of(tuple(world.services), host(by))
    return await directory.report(domain, mail_class, more.pop("report", report(str(domain), mail_class)))


@pytest.mark.covers("AMDP-18")
async def test_a_class_that_several_sites_call_a_lie_is_not_vouched_for_any_more(world: World) -> None:
    reporters = ["mx.one.example", "mx.two.example", "mx.three.example"]
    assert len(reporters) == REPORTERS
    for name in (*reporters[:2], "amdp-mis.one.example", "two.example"):
        assert await reported(world, name)
    world.now += 1
    assert (await world.directory_of(tuple(world.services)).vouched(NEWS)).covers(LETTER)
    assert await reported(world, reporters[2])
    found = await world.directory_of(tuple(world.services)).vouched(NEWS)
    assert found.patterns == {parse_pattern("Agent::Commerce::*")}
    assert [one[-1] for one in world.observer.named("class_reported")] == [False, False, False, False, True]
    [store] = [one for one, name in zip(world.stores, world.services, strict=True) if "second" in name]
    assert await store.call(lambda tables: tables.restore("news.example", "Agent::Bulk::*"))
    assert (await world.directory_of(tuple(world.services)).vouched(NEWS)).covers(LETTER)


@pytest.mark.covers("AMDP-18")
async def test_reports_of_strangers_and_of_the_reported_itself_change_nothing(world: World) -> None:
    for name in ("mx.a.example", "mx.b.example", "mx.c.example", "mx.d.example", "mx.news.example"):
        assert not await reported(world, name)
    assert not await reported(world, "mx.one.example", NEWS, "Agent::Personal::note")
    assert await world.stores[1].call(lambda tables: tables.reports()) == []
    assert (await world.directory.vouched(NEWS)).covers(LETTER)


@pytest.mark.covers("AMDP-18")
async def test_a_report_is_never_sent_to_whom_it_is_about_nor_without_a_key(make_world: MakeWorld) -> None:
    world = make_world(("classes.news.example", "classes.second.example"), (FILE, ""))
    assert not await reported(world, "mx.one.example")
    assert ("classes.news.example", "/amdp/v1/class/report") not in world.caller.calls
    assert not await world.directory.report(UNI, "Direct::Educational::x", report("uni.example"))


@pytest.mark.covers("AMDP-18")
@pytest.mark.parametrize(
    "evidence",
    [
        b"",
        b"From: x\r\n\r\nhello\r\n",
        report("uni.example"),
        report(mail_class="Agent::Commerce::x"),
        report(sender="offers@other.example"),
        report().replace(b"AMDP-Mail-Class", b"AMDP-Mail-Claim"),
        report().replace(b"message/feedback-report", b"text/plain"),
        report().replace(b"AMDP-From: ", b"AMDP-From: <a@news.example>\r\nAMDP-From: "),
        b"x" * 300_000,
    ],
)
def test_a_report_without_the_evidence_is_refused(evidence: bytes) -> None:
    check_evidence(report(), NEWS, LETTER)
    check_evidence(report().replace(b"AMDP-", b"AMDP-Verified-"), NEWS, LETTER.upper())
    with pytest.raises(ReportError):
        check_evidence(evidence, NEWS, LETTER)


@pytest.mark.covers("AMDP-18", "SEC-207")
async def test_a_report_is_believed_with_its_signature_alone(world: World) -> None:
    service = world.services["classes.second.example"]
    directory = world.directory_of(tuple(world.services))
    peer = Peer("classes.second.example")
    for key in (host("mx.one.example", STRANGER), HostKey("mx.two.example", host("mx.one.example").read)):
        document = directory._signed_report(key, peer, NEWS, LETTER, report())
        answer = await world.caller.post(peer.host, 443, "/amdp/v1/class/report", document, limit=65_536)
        assert answer.status == 400
    one = ClassReport(
        signer="x",
        audience="",
        at=0,
        domain="news.example",
        mail_class="nonsense",
        report=report(mail_class="nonsense"),
    )
    with pytest.raises(ReportError):
        await service.take(one, "mx.one.example")

    def unreadable() -> tuple[bytes, bytes]:
        raise FileNotFoundError(2, "no such file")

    with pytest.raises(DocumentError):
        HostKey("mx.one.example", unreadable).sign(one, CLASS_KIND)


@pytest.mark.covers("AMDP-18")
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_reports_are_kept_one_of_each_reporter_and_forgotten(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    database = (
        PostgresDatabase(request.getfixturevalue("postgres_dsn"))
        if backend == "postgresql"
        else SqliteDatabase(tmp_path / "classes.sqlite")
    )
    store = ClassificationStore(database)

    def say(reporter: str, now: float) -> bool:
        return store.report(KeptReport("news.example", "*", reporter, LETTER, now, b"report\x00"), now)

    assert not say("one.example", START)
    assert not say("one.example", START)
    assert not say("two.example", START + 1)
    assert not say("three.example", START + MEMORY_S + 2), "the first two are forgotten"
    assert not say("four.example", START + MEMORY_S + 3)
    assert say("five.example", START + MEMORY_S + 4)
    assert not say("six.example", START + MEMORY_S + 5), "it is withdrawn already"
    assert store.withdrawn("news.example") == {"*"}
    first = store.reports("news.example")[0]
    assert (first.reporter, first.report) == ("three.example", b"report\x00")
    assert store.reports("other.example") == []
    assert store.restore("news.example", "*")
    assert not store.restore("news.example", "*")
    assert (store.withdrawn("news.example"), store.reports()) == (frozenset(), [])
    store.close()


def test_what_services_say_is_bounded() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(
            msgspec.json.encode(
                ClassAnswer(signer="x", audience="", at=0, domain="x", classes=("*",) * 65, expires=1)
            ),
            type=ClassAnswer,
        )
