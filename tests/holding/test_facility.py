"""The endpoints of the holding facility: call-back, retrieval, receipt; and what they never tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest

from outrider.config.amdp_schema import AmdpHolding
from outrider.delivery.lookup import HostAddresses, LookupTemporary, MxRecords, NoRecords, ServiceRecords
from outrider.holding.facility.exchangers import DnsExchangers, ExchangersUnknown
from outrider.holding.facility.held_errands import ErrandRunner
from outrider.holding.facility.held_store import FILE, PART, HeldStore
from outrider.holding.facility.held_upkeep import claim_errands, withdraw
from outrider.holding.pages.source import PageBusy, Proof
from outrider.holding.web import IPAddress, WebResponse
from outrider.message.header_fields import field_values
from outrider.model.content import inline_content
from outrider.model.envelope import Notify
from outrider.model.message import Leased, NewMessage, RecipientState, RecipientStatus, Settlement
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.amdp.envelope import with_link_token
from outrider.routing.mail_exchangers import Exchanger
from outrider.tables.database import Row, SqliteDatabase, StoreUnavailable, Value
from tests.holding.facility_rig import (
    CLIENT,
    HEADERS,
    FacilityRig,
    Sent,
    in_spool,
    joined,
    octets_of,
    submitted,
)
from tests.holding.held_support import DAY, draw

MakeRig = Callable[..., FacilityRig]
READER = ip_address("203.0.113.9")


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    rigs: list[FacilityRig] = []

    def make(**settings: Any) -> FacilityRig:
        rigs.append(FacilityRig(tmp_path, **settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
async def rig(make_rig: MakeRig) -> FacilityRig:
    made = make_rig(holding=AmdpHolding(guesses_per_minute=0))
    await made.spool.start(made.now)
    return made


async def held_one(rig: FacilityRig, **changes: Any) -> Sent:
    [sent] = await rig.hold(submitted("bob@beta.example", **changes))
    return sent


def plain(answer: WebResponse) -> tuple[int, bytes, str, dict[str, str]]:
    """Everything that a client sees."""
    return answer.status, answer.body, answer.content_type, dict(answer.headers)


@pytest.mark.covers("AMDP-9", "AMDP-13", "AMDP-22")
async def test_the_whole_exchange(rig: FacilityRig) -> None:
    sent = await held_one(rig)
    number = await rig.authenticate(sent)
    assert await rig.query(sent.query) == [{"known": False}]
    assert await rig.acknowledge((sent.held.id, number)) == [{"done": True, "confirmation": number}]
    octets = await rig.fetch(sent, number)
    assert octets == octets_of(submitted("bob@beta.example"))
    assert len(octets) == sent.held.size
    assert await rig.receipt(sent, number, "sha-256=" + "A" * 43 + "=; length=1") == 404
    assert await rig.receipt(sent, number) == 200
    assert await rig.receipt(sent, number) == 200, "it may be repeated"
    assert await rig.fetch(sent, number) is None
    changed = [one[3] for one in rig.observer.named("copy_changed")]
    assert changed == ["retrieved"]


@pytest.mark.covers("AMDP-12", "SEC-181")
async def test_all_that_is_not_to_be_had_is_answered_alike(rig: FacilityRig) -> None:
    message = submitted(*(f"r{number}@beta.example" for number in range(4)), headers=HEADERS)
    used, taken_back, locked, other = await rig.hold(message)
    number = await rig.authenticate(used)
    assert await rig.receipt(used, number) == 200
    await rig.store.write(lambda store: withdraw(store, message.id, [1], rig.now))
    other_number = await rig.authenticate(other)
    locked_number = (await rig.query(locked.query))[0]["confirmation"]
    cases = [
        (used.held.id, number),
        (taken_back.held.id, "a" * 26),
        (locked.held.id, locked_number),
        (locked.held.id, other_number),
        (other.held.id, number),
        (draw().id, draw().id),
        ("a" * 26, ""),
        ("../../etc/passwd", "%00"),
        ("", "\u0660" * 26),
    ]
    fetches, receipts = [], []
    for msg_id, secret in cases:
        told = {"id": msg_id, "confirmation": secret}
        fetches.append(plain(await rig.post("/amdp/v1/message", told)))
        digest = {"digest": str(used.held.digest)[:-1]}
        receipts.append(plain(await rig.post("/amdp/v1/receipt", told | digest)))
    assert fetches == receipts == [fetches[0]] * len(cases)
    assert fetches[0][0] == 404
    rig.now += 15 * DAY
    late = await rig.post("/amdp/v1/message", {"id": other.held.id, "confirmation": other_number})
    assert plain(late) == fetches[0]
    assert await rig.query(other.query, locked.query, used.query) == [{"known": False}] * 3


class Recording(SqliteDatabase):
    """Notes statements, with how many rows each gave."""

    noted: ClassVar[list[tuple[str, int]]] = []

    def execute(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        rows = super().execute(statement, values)
        self.noted.append((statement, len(rows)))
        return rows


class RecordingRig(FacilityRig):
    def open_store(self) -> HeldStore:
        return HeldStore(Recording(self.folder / FILE))


@pytest.mark.covers("AMDP-12", "SEC-181")
async def test_a_wrong_id_costs_the_same_work_as_a_used_one(tmp_path: Path) -> None:
    """Not timed, counted: the same statements, each with as many rows."""
    rig = RecordingRig(tmp_path, holding=AmdpHolding(guesses_per_minute=0))
    message = submitted(*(f"r{number}@beta.example" for number in range(3)))
    used, taken_back, gone = await rig.hold(message)
    number = await rig.authenticate(used)
    assert await rig.receipt(used, number) == 200
    await rig.store.write(lambda store: withdraw(store, message.id, [1, 2], rig.now))
    work = []
    for query in (used.query, taken_back.query, gone.query, dict(used.query, id=draw().id)):
        told = {"id": query["id"], "confirmation": draw().id, "digest": str(used.held.digest)}
        await rig.query(query)  # the reading connection has its statements prepared
        Recording.noted.clear()
        await rig.query(query)
        await rig.acknowledge((query["id"], told["confirmation"]))
        await rig.post("/amdp/v1/message", told)
        await rig.post("/amdp/v1/receipt", told)
        work.append([(statement, rows) for statement, rows in Recording.noted])
        assert await rig.pages.describe(query["id"], told["confirmation"], READER) is None
    rig.close()
    wrong = work.pop()
    assert wrong
    assert [one for one, _ in wrong] == [one for one, _ in work[0]]
    assert work[1:] == [wrong, wrong]


@pytest.mark.covers("SEC-204", "AMDP-9")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"queries": 1}',
        b'{"queries": [1]}',
        b'{"queries": [{"id": "a"}]}',
        b"\xff\xfe",
        b'{"queries": ' + b"[" * 100_000,
        json.dumps({"queries": [{"id": "a", "timestamp": 1, "expires": 1, "fields": ""}] * 101}).encode(),
        b'{"queries": [{"id": "a", "timestamp": 1e400, "expires": 1, "fields": ""}]}',
        b'{"queries": [{"id": "a", "timestamp": -1, "expires": 1, "fields": ""}]}',
    ],
)
async def test_nonsense_is_refused_in_one_line(rig: FacilityRig, body: bytes) -> None:
    answer = await rig.post("/amdp/v1/query", body)
    assert answer.status == 400
    assert answer.body.count(b"\n") == 1
    assert b"Traceback" not in answer.body


@pytest.mark.covers("AMDP-13", "SEC-195")
async def test_only_post_and_only_our_paths_and_names(rig: FacilityRig) -> None:
    sent = await held_one(rig)
    for method in ("GET", "HEAD"):
        for path in ("/amdp/v1/query", "/amdp/v1/acknowledge", "/amdp/v1/message", "/amdp/v1/receipt"):
            assert (await rig.facility.answer(rig.request(path, method=method))).status == 405
    assert (await rig.query(sent.query))[0]["known"]
    assert rig.facility.serves("mhf-1.alpha.example", "/amdp/v1/query")
    assert not rig.facility.serves("mhf-1.alpha.example", "/amdp/v1/query/")
    assert not rig.facility.serves("mhf-1.alpha.example", "/m/x")
    assert not rig.facility.serves("other.example", "/amdp/v1/query")


@pytest.mark.covers("AMDP-12", "SEC-181")
async def test_guesses_of_one_address_end_soon_and_others_do_not_suffer(make_rig: MakeRig) -> None:
    rig = make_rig(holding=AmdpHolding(guesses_per_minute=5))
    sent = await held_one(rig)
    wrong = dict(sent.query, id=draw().id)
    assert await rig.query(*[wrong] * 4) == [{"known": False}] * 4
    assert (await rig.query(sent.query))[0]["known"]
    await rig.post("/amdp/v1/message", {"id": draw().id, "confirmation": draw().id})
    for path in ("/amdp/v1/query", "/amdp/v1/message", "/amdp/v1/receipt", "/amdp/v1/acknowledge"):
        stopped = await rig.post(path, {"queries": [sent.query]})
        assert stopped.status == 429
        assert 0 < int(stopped.headers["Retry-After"]) <= 61
    with pytest.raises(PageBusy) as busy:
        await rig.pages.describe(sent.held.id, draw().id, ip_address(CLIENT))
    assert busy.value.guessing
    assert (await rig.query(sent.query, client="192.0.2.77"))[0]["known"]
    assert rig.observer.named("guessing_stopped") == [(CLIENT,)]
    rig.now += 61
    assert (await rig.query(sent.query))[0]["known"]


@pytest.mark.covers("AMDP-12")
async def test_an_ipv6_network_guesses_as_one_address(make_rig: MakeRig) -> None:
    rig = make_rig(holding=AmdpHolding(guesses_per_minute=5))
    sent = await held_one(rig)
    wrong = dict(sent.query, id=draw().id)
    for number in range(5):
        await rig.query(wrong, client=f"2001:db8::{number:x}")
    for client, status in (("2001:db8::99", 429), ("2001:db8:0:1::1", 200)):
        answer = await rig.post("/amdp/v1/query", {"queries": [sent.query]}, client)
        assert answer.status == status


class Known:
    """Knows the exchangers of one domain."""

    away = False

    async def addresses(self, domain: str) -> frozenset[IPAddress]:
        if self.away:
            raise ExchangersUnknown("no DNS")
        return frozenset({ip_address("192.0.2.25")} if domain == "beta.example" else ())


@pytest.mark.covers("AMDP-12")
async def test_only_who_was_sent_the_envelope_is_answered_where_that_is_wanted(make_rig: MakeRig) -> None:
    exchangers = Known()
    rig = make_rig(exchangers=exchangers)
    sent = await held_one(rig)
    assert await rig.query(sent.query) == [{"known": False}]
    assert (await rig.query(sent.query, client="192.0.2.25"))[0]["known"]
    exchangers.away = True
    assert (await rig.post("/amdp/v1/query", {"queries": [sent.query]})).status == 503


async def test_a_store_that_is_away_is_said_so(rig: FacilityRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: object) -> None:
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(rig.store, "read", away)
    answer = await rig.post("/amdp/v1/query", {"queries": []})
    assert (answer.status, answer.body, answer.headers) == (503, b"not now\n", {"Retry-After": "30"})


@pytest.mark.covers("SEC-188", "AMDP-13")
async def test_a_large_message_is_streamed_whole_or_not_at_all(rig: FacilityRig) -> None:
    message = submitted("bob@beta.example", "carl@beta.example", body=b"0123456789abcdef\r\n" * 60_000)
    one, two = await rig.hold(message)
    number, other = await rig.authenticate(one), await rig.authenticate(two)
    whole, twice = await asyncio.gather(rig.fetch(one, number), rig.fetch(one, number))
    assert whole == twice == octets_of(message)
    answer = await rig.post("/amdp/v1/message", {"id": one.held.id, "confirmation": number})
    assert answer.stream is not None
    assert answer.length == len(octets_of(message))
    assert len(await anext(answer.stream)) == PART
    await rig.store.write(lambda store: withdraw(store, message.id, [0], rig.now))
    with pytest.raises(LookupError):
        await joined(answer.stream)
    assert await rig.fetch(one, number) is None
    assert await rig.fetch(two, other) == octets_of(message)
    answer = await rig.post("/amdp/v1/message", {"id": two.held.id, "confirmation": other})
    assert answer.stream is not None
    assert len(await anext(answer.stream)) == PART
    rig.now = two.held.expires
    with pytest.raises(LookupError):
        await joined(answer.stream)


@pytest.mark.covers("AMDP-9")
async def test_many_requests_at_once_are_answered_each_with_its_own(rig: FacilityRig) -> None:
    sent = await rig.hold(submitted(*(f"r{number}@beta.example" for number in range(60))))
    answers = await asyncio.gather(*(rig.query(one.query) for one in sent))
    pairs = [(one.held.id, answer[0]["confirmation"]) for one, answer in zip(sent, answers, strict=True)]
    assert [answer[0]["to"] for answer in answers] == [str(one.held.recipient) for one in sent]
    done = await asyncio.gather(*(rig.acknowledge(pair) for pair in pairs))
    assert [one[0]["confirmation"] for one in done] == [number for _, number in pairs]
    octets = await asyncio.gather(*(rig.fetch(one, pair[1]) for one, pair in zip(sent, pairs, strict=True)))
    assert all(octets)


@pytest.mark.covers("AMDP-5a", "AMDP-15")
async def test_a_program_with_the_token_of_a_link_gets_the_message(rig: FacilityRig) -> None:
    sent = await held_one(rig, body=b"x" * (2 * PART))
    token = sent.message.envelope.link_token
    assert token.encode() in b"".join(
        with_link_token(inline_content(b"".join(sent.message.content.chunks())), token).chunks()
    )
    octets = await rig.fetch(sent, token)
    assert octets is not None
    assert len(octets) == sent.held.size
    assert await rig.query(sent.query) == [{"known": False}]
    copy = await rig.store.read(lambda store: store.copy("0123456789ABCDE", 0))
    assert copy is not None
    assert copy.by_link
    assert await rig.receipt(sent, token) == 200
    assert await rig.fetch(sent, token) is None


# --- the page -----------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-13", "AMDP-5a")
async def test_the_page_shows_opens_and_confirms(rig: FacilityRig) -> None:
    sent = await held_one(rig)
    msg_id, token = sent.held.id, sent.message.envelope.link_token
    for _ in range(3):
        seen = await rig.pages.describe(msg_id, token, READER)
    assert seen is not None
    assert (seen.sender, seen.recipient, seen.subject) == ("ann@alpha.example", "bob@beta.example", "Grüße")
    assert (seen.size, seen.digest, seen.proof) == (sent.held.size, str(sent.held.digest), Proof.LINK)
    assert (seen.opened_at, seen.received_at, int(seen.expires)) == (0.0, 0.0, sent.held.expires)
    with pytest.raises(LookupError):
        await joined(rig.pages.content(msg_id, token))
    assert not await rig.pages.received(msg_id, token, READER), "nothing was opened"
    opened = await rig.pages.open(msg_id, token, READER)
    assert opened is not None
    assert opened.opened_at == rig.now
    assert await joined(rig.pages.content(msg_id, token)) == octets_of(submitted("bob@beta.example"))
    assert await joined(rig.pages.content(msg_id, token, 10)) == octets_of(submitted("bob@beta.example"))[10:]
    assert await rig.pages.received(msg_id, token, READER)
    assert await rig.pages.received(msg_id, token, READER)
    gone = await rig.pages.describe(msg_id, token, READER)
    assert gone is not None
    assert gone.received_at == rig.now
    with pytest.raises(LookupError):
        await joined(rig.pages.content(msg_id, token))
    assert [(one[3], one[4]) for one in rig.observer.named("copy_changed")] == [
        ("authenticated", "opened: unauthenticated receiver"),
        ("retrieved", "receipt confirmed by a person"),
    ]


@pytest.mark.covers("AMDP-13", "AMDP-14")
async def test_after_a_call_back_the_page_says_by_whom(rig: FacilityRig) -> None:
    sent = await held_one(rig, body=b"y" * (2 * PART))
    number = await rig.authenticate(sent)
    assert await rig.pages.describe(sent.held.id, sent.message.envelope.link_token, READER) is None
    seen = await rig.pages.describe(sent.held.id, number, READER)
    assert seen is not None
    assert (seen.proof, seen.proven_by, seen.proven_at) == (Proof.CALLED_BACK, CLIENT, rig.now)
    assert await rig.pages.open(sent.held.id, number, READER) is not None
    for start in (0, 5, PART - 1, PART, PART + 1, sent.held.size - 1, sent.held.size):
        octets = await joined(rig.pages.content(sent.held.id, number, start))
        assert octets == octets_of(submitted("bob@beta.example", body=b"y" * (2 * PART)))[start:]
    assert await rig.pages.describe("a" * 26, number, READER) is None
    assert await rig.pages.open(sent.held.id, "a" * 26, READER) is None


# --- what follows -------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-6")
async def test_the_sender_who_asked_gets_one_receipt(rig: FacilityRig) -> None:
    message = submitted("bob@beta.example", "carl@beta.example", notify=Notify.SUCCESS, envelope_id="E-1")
    one, two = await rig.hold(message)
    number = await rig.authenticate(one)
    assert await rig.receipt(one, number) == 200
    assert await rig.receipt(one, number) == 200
    assert await rig.runner.run_due() == 1
    assert await rig.runner.run_due() == 0
    [told] = await in_spool(rig)
    assert [str(each.address) for each in told.envelope.recipients] == ["ann@alpha.example"]
    assert told.envelope.sender is None
    text = octets_of(told)
    assert b"Action: delivered" in text
    assert b"Original-Envelope-Id: E-1" in text
    assert b"bob@beta.example" in text
    assert number.encode() not in text
    assert one.held.id.encode() not in text
    # The other never comes for it.
    rig.now += 15 * DAY
    await rig.caretaker.sweep()
    assert await rig.runner.run_due() == 1
    everything = await in_spool(rig)
    assert len(everything) == 2
    [late] = [one for one in everything if one.id != told.id]
    assert b"Action: failed" in octets_of(late)
    assert b"Status: 5.4.7" in octets_of(late)
    assert b"carl@beta.example" in octets_of(late)
    assert await rig.store.read(lambda store: store.copy(message.id, 1)) is not None
    assert two.held.id


@pytest.mark.covers("AMDP-6")
async def test_who_did_not_ask_hears_nothing(rig: FacilityRig) -> None:
    sent = await held_one(rig)
    assert await rig.receipt(sent, await rig.authenticate(sent)) == 200
    assert await rig.runner.run_due() == 0
    assert await in_spool(rig) == []


@pytest.mark.covers("AMDP-6")
async def test_a_receipt_is_stored_once_though_a_crash_hides_that_it_was(rig: FacilityRig) -> None:
    sent = await held_one(rig, notify=Notify.SUCCESS)
    assert await rig.receipt(sent, await rig.authenticate(sent)) == 200
    rows = await rig.store.read(lambda store: store.database.execute("SELECT * FROM held_errands"))
    assert await rig.runner.run_due() == 1
    again = "INSERT INTO held_errands VALUES (?, ?, ?, ?, ?, ?, ?)"
    await rig.store.write(lambda store: store.database.execute(again, rows[0]))
    assert await rig.runner.run_due() == 1
    assert len(await in_spool(rig)) == 1
    assert rig.observer.named("errand_failed") == []


@pytest.mark.covers("AMDP-6")
async def test_an_errand_that_its_worker_let_lie_is_done_by_another(rig: FacilityRig) -> None:
    sent = await held_one(rig, notify=Notify.SUCCESS)
    assert await rig.receipt(sent, await rig.authenticate(sent)) == 200
    other = ErrandRunner(replace(rig.parts, owner="w2"))
    rig.now += rig.parts.lost_s - 1
    assert await other.run_due() == 0
    rig.now += 1
    assert await other.run_due() == 1
    assert len(await in_spool(rig)) == 1
    assert await rig.runner.run_due() == 0


@pytest.mark.covers("AMDP-6")
async def test_what_another_stored_before_it_died_is_not_stored_again(rig: FacilityRig) -> None:
    """Its spool has been adopted: there the receipt is, under its id."""
    sent = await held_one(rig, notify=Notify.SUCCESS)
    assert await rig.receipt(sent, await rig.authenticate(sent)) == 200
    rows = await rig.store.read(lambda store: store.database.execute("SELECT * FROM held_errands"))
    assert await rig.runner.run_due() == 1
    again = "INSERT INTO held_errands VALUES (?, ?, ?, ?, ?, ?, 1)"
    await rig.store.write(lambda store: store.database.execute(again, rows[0][:-1]))
    stored, rig.spool.store = rig.spool.store, None  # type: ignore[method-assign, assignment]
    rig.now += rig.parts.lost_s
    assert await ErrandRunner(replace(rig.parts, owner="w2")).run_due() == 1
    rig.spool.store = stored  # type: ignore[method-assign]
    assert rig.observer.named("errand_failed") == []
    assert len(await in_spool(rig)) == 1


@pytest.mark.covers("AMDP-6")
async def test_a_worker_that_is_started_anew_goes_on_at_once(rig: FacilityRig) -> None:
    sent = await held_one(rig, notify=Notify.SUCCESS)
    assert await rig.receipt(sent, await rig.authenticate(sent)) == 200
    await rig.store.write(lambda store: claim_errands(store, "w1", rig.now, lambda _: 60.0, 20, 300.0))
    assert await rig.runner.run_due() == 0
    await ErrandRunner(replace(rig.parts, owner="w2")).resume()
    assert await rig.runner.run_due() == 0
    await rig.runner.resume()
    assert await rig.runner.run_due() == 1
    assert len(await in_spool(rig)) == 1


@pytest.mark.covers("AMDP-6")
async def test_errands_behind_a_slow_one_are_done_by_one_worker(rig: FacilityRig) -> None:
    for name in ("0123456789ABCDE", "0123456789ABCDF"):
        [sent] = await rig.hold(submitted("bob@beta.example", name=name, notify=Notify.SUCCESS))
        assert await rig.receipt(sent, await rig.authenticate(sent)) == 200
    other = ErrandRunner(replace(rig.parts, owner="w2"))
    store = rig.spool.store
    taken: list[int] = []

    async def slow(made: NewMessage, *, lease_until: float = 0.0) -> tuple[Leased, ...]:
        rig.spool.store = store  # type: ignore[method-assign]
        rig.now += rig.parts.lost_s + 60
        taken.append(await other.run_due())
        return await store(made, lease_until=lease_until)

    rig.spool.store = slow  # type: ignore[method-assign, assignment]
    await rig.runner.run_due()
    assert taken == [2]
    assert len(await in_spool(rig)) == 2
    assert len(rig.observer.named("errand_done")) == 3


@pytest.mark.covers("AMDP-6")
async def test_the_hook_is_told_of_each_retrieval_and_again_when_it_fails(
    make_rig: MakeRig, tmp_path: Path
) -> None:
    script, log = tmp_path / "hook", tmp_path / "log"
    script.write_text(f"#!/bin/sh\ncat >> {log}\n[ -e {tmp_path}/good ] || {{ echo no >&2; exit 3; }}\n")
    script.chmod(0o755)
    rig = make_rig(holding=AmdpHolding(hook=str(script)))
    sent = await held_one(rig)
    number = await rig.authenticate(sent)
    assert await rig.receipt(sent, number) == 200
    await rig.runner.run_due()
    [failed] = rig.observer.named("errand_failed")
    assert "exit status 3: no" in failed[3]
    (tmp_path / "good").touch()
    assert await rig.runner.run_due() == 0
    rig.now += 61
    assert await rig.runner.run_due() == 1
    rig.now += DAY
    assert await rig.runner.run_due() == 0
    told = [json.loads(line) for line in log.read_text().split("\n") if line]
    assert told[0] == told[1]
    assert (told[0]["recipient"], told[0]["receiver"]) == ("bob@beta.example", "called back")
    assert number not in log.read_text()
    assert sent.held.id not in log.read_text()


@pytest.mark.covers("AMDP-6")
async def test_what_became_of_an_envelope_is_noted(rig: FacilityRig) -> None:
    one, two, three = await rig.hold(submitted(*(f"r{number}@beta.example" for number in range(3))))
    await rig.settled(one, DeliveryResult(Kind.RELAYED, "2.0.0", "taken"))
    await rig.settled(two, DeliveryResult(Kind.FAILED, "5.1.1", "no such user"))
    await rig.settled(three, DeliveryResult(Kind.DEFERRED, "4.4.1", "later"))
    assert [one[1:4:2] for one in rig.observer.named("copy_changed")] == [(0, "notified"), (1, "refused")]
    assert [each["known"] for each in await rig.query(one.query, two.query, three.query)] == [
        True,
        False,
        True,
    ]


@pytest.mark.covers("AMDP-6")
async def test_what_a_crash_kept_from_being_noted_is_looked_for(rig: FacilityRig) -> None:
    """The settlements are in the spool, and nobody was told."""
    sent = await rig.hold(submitted(*(f"r{number}@beta.example" for number in range(4))))
    ends = (
        DeliveryResult(Kind.RELAYED, "2.0.0", "taken"),
        DeliveryResult(Kind.FAILED, "5.1.1", "no such user"),
        DeliveryResult(Kind.DEFERRED, "4.4.1", "later"),
    )
    states = (RecipientState.RELAYED, RecipientState.FAILED, RecipientState.PENDING)
    for one, end, state in zip(sent, ends, states, strict=False):  # of the fourth this spool knows nothing
        (leased,) = await rig.spool.store(one.message, lease_until=rig.now + 300)
        after = (RecipientStatus(0, state, 1, end),)
        await rig.spool.settle(Settlement(leased.item.key, leased.item.lease, after, at=rig.now))
    rig.caretaker.start()
    for _ in range(2000):
        if len(rig.observer.named("copy_changed")) == 2:
            break
        await asyncio.sleep(0.01)
    await rig.caretaker.stop()
    assert [one[1:4:2] for one in rig.observer.named("copy_changed")] == [(0, "notified"), (1, "refused")]
    assert await rig.watch.review(rig.spool) == 0


@pytest.mark.covers("AMDP-6", "AMDP-23")
async def test_the_caretaker_ends_what_is_over_and_does_what_is_due(rig: FacilityRig) -> None:
    message = submitted("bob@beta.example", notify=Notify.SUCCESS, body=b"z" * (20 * PART))
    await rig.hold(message)
    rig.caretaker.start()
    rig.now += 15 * DAY
    for _ in range(2000):
        if rig.observer.named("errand_done") and rig.observer.named("facility_swept"):
            break
        await asyncio.sleep(0.01)
    await rig.caretaker.stop()
    assert rig.observer.named("facility_swept") == [(1, 1, 0)]
    assert [one[0] for one in rig.observer.named("errand_done")] == ["receipt"]
    rows = await rig.store.read(lambda store: store.database.execute("SELECT count(*) FROM held_parts"))
    assert rows == [(0,)]


# --- threads ------------------------------------------------------------------------------------------------


def in_thread(message_id: str, *references: str) -> bytes:
    headers = HEADERS.replace(b"first@alpha.example", message_id.encode())
    if references:
        headers += b"References: " + b" ".join(f"<{one}>".encode() for one in references) + b"\r\n"
    return headers


@pytest.mark.covers("AMDP-21")
async def test_the_call_back_tells_the_thread_as_far_as_its_recipient_has_part_in_it(
    rig: FacilityRig,
) -> None:
    async def held(name: str, headers: bytes, *to: str) -> Sent:
        return (await rig.hold(submitted(*to, name=f"{name:0<15}", headers=headers)))[0]

    async def told(sent: Sent) -> list[str]:
        keys: list[str] = (await rig.query(sent.query))[0].get("thread", [])
        return keys

    root = await held("R", in_thread("root@a"), "bob@beta.example")
    assert await told(root) == []
    reply = await held("S", in_thread("reply@a", "root@a"), "bob@beta.example")
    rig.now += 1
    secret = await held("T", in_thread("secret@a", "root@a", "reply@a"), "eve@gamma.example")
    assert await told(reply) == ["root@a", "reply@a"]
    assert await told(root) == ["root@a", "reply@a"], "an updated key: root was held before"
    assert await told(secret) == ["root@a", "reply@a", "secret@a"]
    # Two halves that nobody knew to be one, until a message names both.
    rig.now += 1
    await held("U", in_thread("other@x", "lost@x"), "bob@beta.example")
    rig.now += 1
    both = await held("V", in_thread("both@a", "lost@x", "reply@a"), "bob@beta.example")
    assert await told(both) == ["root@a", "reply@a", "lost@x", "other@x", "both@a"]
    assert set(await told(root)) == set(await told(both))


@pytest.mark.covers("AMDP-21", "SEC-116")
async def test_threads_are_bounded(rig: FacilityRig) -> None:
    many = [f"{number}@{'x' * 200}" for number in range(400)]
    for number in range(4):
        sent = await held_one(
            rig, name=f"M{number:014d}", headers=in_thread(f"m{number}@a", *many[number * 60 :])
        )
    [answer] = await rig.query(sent.query)
    assert answer["known"]
    assert len(answer.get("thread", [])) <= 100
    assert len(field_values(in_thread("x@a", *many), b"references")[0]) > 16_384


@pytest.mark.covers("AMDP-12")
async def test_exchangers_come_from_dns() -> None:
    class Lookup:
        async def mx(self, domain: str) -> MxRecords:
            match domain:
                case "beta.example":
                    return MxRecords((Exchanger(10, "mx1.beta.example"), Exchanger(20, "mx2.beta.example")))
                case "away.example":
                    raise LookupTemporary("no answer")
            raise NoRecords("none")

        async def addresses(self, host: str) -> HostAddresses:
            known = {
                "mx1.beta.example": "192.0.2.25",
                "mx2.beta.example": "192.0.2.26",
                "plain.example": "::1",
            }
            if host not in known:
                raise NoRecords("none")
            return HostAddresses((ip_address(known[host]),))

        async def services(self, protocol: object, domain: str) -> ServiceRecords:
            raise NotImplementedError

    exchangers = DnsExchangers(Lookup())
    assert await exchangers.addresses("beta.example") == {ip_address("192.0.2.25"), ip_address("192.0.2.26")}
    assert await exchangers.addresses("plain.example") == {ip_address("::1")}
    assert await exchangers.addresses("nothing.example") == frozenset()
    with pytest.raises(ExchangersUnknown):
        await exchangers.addresses("away.example")
