"""What subscription services say to senders and to each other, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from outrider.holding.policies.host_documents import HostKey
from outrider.holding.policies.peers import Peer, parse_peer
from outrider.holding.subscriptions.exchange import REFUSALS_PER_DAY, read_change, speaks_for
from outrider.holding.subscriptions.forms import (
    CHANGES_KIND,
    CHANGES_PATH,
    MOST_ADDRESSES,
    SYNCHRONISE_KIND,
    SYNCHRONISE_PATH,
    AskChanges,
    Changes,
    OneChange,
    Synchronise,
    Synchronised,
)
from outrider.holding.subscriptions.wishes import Standing, parse_subject
from outrider.holding.web import CallFailed
from outrider.model.address import Domain, parse_address
from tests.holding.subscription_peers import CHECK, STRANGER, LocalCaller, host
from tests.holding.subscription_support import HOST, ServiceRig
from tests.lists.support import START

NEWS = Domain("news.example")
SENDER = host("mhf-1.news.example")
OTHER = host("mhf-1.other.example")
LETTER = "Agent::Bulk::letter"
PEER = "peer.alpha.example"
MakeService = Callable[..., ServiceRig]
nonces = itertools.count(1)


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[MakeService]:
    rigs: list[ServiceRig] = []

    def make(**more: Any) -> ServiceRig:
        folder = tmp_path / f"service{len(rigs)}"
        folder.mkdir()
        rigs.append(ServiceRig(folder, check=CHECK, **{"synch_clients": frozenset({NEWS}), **more}))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


@pytest.fixture
def service(make_service: MakeService) -> ServiceRig:
    return make_service()


async def accept(
    service: ServiceRig, *addresses: str, sender: str = "news.example", pattern: str = ""
) -> None:
    for one in addresses:
        await service.store.call(
            lambda store, one=one: store.set(  # type: ignore[misc]
                parse_address(one), parse_subject(sender, pattern), Standing.ACCEPT, "test", service.now
            )
        )


def submission(
    service: ServiceRig,
    addresses: list[str],
    key: HostKey = SENDER,
    kind: str = SYNCHRONISE_KIND,
    **more: Any,
) -> bytes:
    members = {
        "signer": key.host,
        "audience": HOST,
        "at": int(service.now),
        "nonce": str(next(nonces)),
        "sender": "news.example",
        "mail_class": LETTER,
        **more,
    }
    return key.sign(Synchronise(addresses=tuple(addresses), **members), kind)


async def synchronise(service: ServiceRig, document: bytes) -> tuple[int, Synchronised | None]:
    answer = await service.json(SYNCHRONISE_PATH, document)
    return answer.status, msgspec.json.decode(
        answer.body, type=Synchronised
    ) if answer.status == 200 else None


def people(count: int, start: int = 0) -> list[str]:
    return [f"p{number}@alpha.example" for number in range(start, start + count)]


# --- senders ----------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-19")
async def test_a_sender_learns_which_of_its_addresses_accept_with_a_link_that_ends_it(
    service: ServiceRig,
) -> None:
    await accept(service, "p1@alpha.example", "p2@alpha.example")
    await accept(service, "p3@alpha.example", sender="other.example")
    await accept(service, "p4@alpha.example", pattern="Agent::Personal::*")
    submitted = ["P1@alpha.example", "p1@alpha.example", "p2@alpha.example", *people(6, 3), "no address"]
    status, answer = await synchronise(service, submission(service, submitted))
    assert status == 200
    assert answer is not None
    assert answer.told
    assert [one.address for one in answer.accepting] == ["P1@alpha.example", "p2@alpha.example"]
    path = answer.accepting[0].leave.removeprefix(f"https://{HOST}")
    assert (await service.post(path, {"List-Unsubscribe": "One-Click"})).status == 200
    _, answer = await synchronise(service, submission(service, submitted))
    assert answer is not None
    assert [one.address for one in answer.accepting] == ["p2@alpha.example"]


@pytest.mark.covers("AMDP-19")
async def test_a_harvesters_list_teaches_nothing_and_he_is_turned_away(service: ServiceRig) -> None:
    """Nine of a hundred is less than the tenth that is asked for; ten is not."""
    await accept(service, *people(10))
    for _ in range(REFUSALS_PER_DAY):
        status, answer = await synchronise(service, submission(service, [*people(9), *people(91, 1000)]))
        assert (status, answer) == (200, Synchronised(told=False))
    status, _ = await synchronise(service, submission(service, people(10)))
    assert status == 429
    service.now += 86_400
    status, answer = await synchronise(service, submission(service, [*people(10), *people(90, 1000)]))
    assert answer is not None
    assert (status, answer.told, len(answer.accepting)) == (200, True, 10)


@pytest.mark.covers("AMDP-19")
async def test_users_who_said_nothing_and_addresses_that_do_not_exist_look_the_same(
    service: ServiceRig,
) -> None:
    await accept(service, "bob@alpha.example")
    answers = []
    for other in ("ann@alpha.example", "nobody@alpha.example", "x@elsewhere.example"):
        _, answer = await synchronise(service, submission(service, ["bob@alpha.example", other]))
        answers.append(answer)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] is not None
    assert len(answers[0].accepting) == 1


@pytest.mark.covers("AMDP-19", "AMDP-18")
async def test_a_wish_for_a_class_from_anybody_is_told_only_to_those_who_are_vouched_for(
    make_service: MakeService,
) -> None:
    class Directory:
        covered = False

        async def vouched(self, domain: Domain) -> Any:
            return self

        def covers(self, mail_class: str) -> bool:
            return self.covered and mail_class == LETTER

        async def report(self, domain: Domain, mail_class: str, report: bytes) -> bool:
            return False

    directory = Directory()
    service = make_service(classes=directory)
    await accept(service, "ann@alpha.example", sender="*", pattern="*::Bulk::*")
    _, answer = await synchronise(service, submission(service, ["ann@alpha.example"]))
    assert answer == Synchronised(told=False)
    directory.covered = True
    _, answer = await synchronise(service, submission(service, ["ann@alpha.example"]))
    assert answer is not None
    assert [(one.address, one.leave) for one in answer.accepting] == [("ann@alpha.example", "")]


@pytest.mark.covers("AMDP-19", "SEC-207")
async def test_only_a_named_sender_with_its_own_certificate_is_heard(service: ServiceRig) -> None:
    await accept(service, *people(3))
    good = submission(service, people(3))
    altered = msgspec.json.decode(good)
    altered["payload"] = altered["payload"][:-4] + "AAAA"
    wrong = [
        (submission(service, people(3), OTHER), 403),
        (submission(service, people(3), OTHER, sender="other.example"), 403),
        (submission(service, people(3), host("www.news.example")), 403),
        (submission(service, people(3), host("mhf-1.news.example", STRANGER)), 400),
        (submission(service, people(3), signer="mhf-2.news.example"), 400),
        (submission(service, people(3), audience="other.example"), 400),
        (submission(service, people(3), at=int(START) - 1000), 400),
        (submission(service, people(3), at=int(START) + 1000), 400),
        (submission(service, people(3), sender="*"), 400),
        (
            SENDER.sign(
                Synchronise(
                    signer=SENDER.host,
                    audience=HOST,
                    at=int(START),
                    sender="news.example",
                    mail_class=LETTER,
                    addresses=(),
                ),
                CHANGES_KIND,
            ),
            400,
        ),
        (msgspec.json.encode(altered), 400),
        (b"{}", 400),
        (b"", 400),
    ]
    for document, status in wrong:
        answer = await service.json(SYNCHRONISE_PATH, document)
        assert (answer.status, b"alpha.example" in answer.body) == (status, False), document[:300]
    assert (await synchronise(service, good))[0] == 200
    assert (await synchronise(service, good))[0] == 403, "shown again"


@pytest.mark.covers("AMDP-19", "SEC-204")
async def test_a_submission_is_bounded(service: ServiceRig) -> None:
    many = submission(service, ["a@b.example"] * (MOST_ADDRESSES + 1))
    assert (await synchronise(service, many))[0] == 400


@pytest.mark.parametrize(
    ("name", "speaks"),
    [
        ("news.example", True),
        ("amdp-mis.news.example", True),
        ("mhf-1.news.example", True),
        ("mhf-16.news.example", True),
        ("mhf-17.news.example", False),
        ("mhf-01.news.example", False),
        ("mhf-1.evil.news.example", False),
        ("mhf-1.evilnews.example", False),
        ("www.news.example", False),
        ("mhf-1", False),
    ],
)
def test_hosts_that_speak_for_a_domain(name: str, speaks: bool) -> None:
    assert speaks_for(name, NEWS) is speaks


# --- peers ------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(make_service: MakeService) -> tuple[ServiceRig, ServiceRig]:
    """Two services that name each other."""
    caller = LocalCaller()
    peers = {HOST: Peer(PEER), PEER: Peer(HOST)}
    both = [
        make_service(host=name, peers=(peers[name],), key=host(name), caller=caller) for name in (HOST, PEER)
    ]
    for one in both:
        caller.services[one.host] = (one.api,)
    return both[0], both[1]


@pytest.mark.covers("AMDP-19")
async def test_what_is_confirmed_at_one_server_is_known_at_its_peer_and_so_is_leaving(
    pair: tuple[ServiceRig, ServiceRig],
) -> None:
    one, other = pair
    await accept(one, "ann@alpha.example", "bob@alpha.example")
    assert await other.exchange.pull(Peer(HOST)) == 2
    assert await other.wishes("ann@alpha.example") == [("accept", "news.example", "*")]
    assert await other.exchange.pull(Peer(HOST)) == 0
    [rule] = await other.store.call(lambda store: store.rules_of(parse_address("ann@alpha.example")))
    other.now += 10
    await other.post(await other.office.leave_path(rule))
    assert await one.exchange.pull(Peer(PEER)) == 1
    assert await one.wishes("ann@alpha.example") == []
    assert await one.wishes("bob@alpha.example") == [("accept", "news.example", "*")]


@pytest.mark.covers("AMDP-19")
async def test_a_subscription_confirmed_at_a_peer_joins_a_list_here(
    pair: tuple[ServiceRig, ServiceRig],
) -> None:
    """A list is syndicated: people subscribe where they are, the list's server hears of it."""
    one, other = pair
    other.lists.lists = {}
    await accept(other, "eve@far.example", sender="staff@alpha.example")
    assert await one.exchange.pull(Peer(PEER)) == 1
    assert await one.lists.members() == ["eve@far.example"]
    [rule] = await other.store.call(lambda store: store.rules_of(parse_address("eve@far.example")))
    await other.post(await other.office.leave_path(rule))
    assert await one.exchange.pull(Peer(PEER)) == 1
    assert await one.lists.members() == []


@pytest.mark.covers("AMDP-19")
async def test_a_server_restored_from_a_backup_is_heard_again_from_the_start(
    pair: tuple[ServiceRig, ServiceRig],
) -> None:
    one, other = pair
    await other.store.call(lambda store: store.take_over(HOST, [], 1000))
    await accept(one, "ann@alpha.example")
    assert await other.exchange.pull(Peer(HOST)) == 1
    assert await other.store.call(lambda store: store.seen_of(HOST)) == 1


@pytest.mark.covers("AMDP-19")
async def test_one_of_all_workers_asks_a_peer_in_each_period(pair: tuple[ServiceRig, ServiceRig]) -> None:
    one, other = pair
    caller = other.exchange._parts.caller
    assert isinstance(caller, LocalCaller)
    await accept(one, "ann@alpha.example")
    workers = [asyncio.create_task(other.exchange.run()) for _ in range(3)]
    async with asyncio.timeout(60):
        while not await other.wishes("ann@alpha.example"):
            await asyncio.sleep(0.01)
    await other.store.call(lambda store: None)  # what the others have asked for is done
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert len(caller.calls) == 1


@pytest.mark.covers("AMDP-19")
async def test_a_peer_is_told_of_its_own_domains_and_believed_about_ours(
    pair: tuple[ServiceRig, ServiceRig],
) -> None:
    one, other = pair
    await accept(one, "x@elsewhere.example")
    await accept(one, "nobody@alpha.example")
    asked = AskChanges(
        signer=PEER,
        audience=HOST,
        at=int(one.now),
        nonce=str(next(nonces)),
        after=0,
        domains=("alpha.example",),
    )
    answer = await one.json(CHANGES_PATH, host(PEER).sign(asked, CHANGES_KIND))
    told = msgspec.json.decode(answer.body, type=Changes)
    assert [each.address for each in told.changes] == ["nobody@alpha.example"]
    assert told.seen == 2
    # No mailbox there has that name: nothing is kept of it.
    assert await other.exchange.pull(Peer(HOST)) == 0
    assert await other.wishes("nobody@alpha.example") == []


@pytest.mark.covers("AMDP-19", "SEC-207")
async def test_nobody_but_a_peer_is_told_changes(pair: tuple[ServiceRig, ServiceRig]) -> None:
    one, _ = pair
    await accept(one, "ann@alpha.example")
    stranger = host("mhf-1.news.example")
    members: dict[str, Any] = {
        "audience": HOST,
        "at": int(one.now),
        "after": 0,
        "domains": ("alpha.example",),
    }
    documents = [
        (stranger, {"signer": stranger.host}),
        (stranger, {"signer": PEER}),
        (host(PEER, STRANGER), {"signer": PEER}),
    ]
    for key, more in documents:
        asked = AskChanges(nonce=str(next(nonces)), **{**members, **more})
        answer = await one.json(CHANGES_PATH, key.sign(asked, CHANGES_KIND))
        assert answer.status in (400, 403)
        assert b"ann" not in answer.body


@pytest.mark.covers("AMDP-19", "SEC-207")
@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense",
        b'{"seen": -1, "more": false, "changes": []}',
        b'{"seen": 1, "more": false, "changes": [{}]}',
        b"[" * 1000,
    ],
)
async def test_a_peer_that_talks_nonsense_changes_nothing(
    pair: tuple[ServiceRig, ServiceRig], answer: bytes
) -> None:
    one, other = pair
    await accept(one, "ann@alpha.example")
    caller = other.exchange._parts.caller
    assert isinstance(caller, LocalCaller)
    caller.changed[HOST] = answer
    with pytest.raises(ValueError):
        await other.exchange.pull(Peer(HOST))
    caller.changed.clear()
    assert await other.exchange.pull(Peer(HOST)) == 1
    caller.services.clear()
    with pytest.raises(CallFailed):
        await other.exchange.pull(Peer(HOST))


@pytest.mark.covers("AMDP-19")
def test_a_peers_clock_does_not_make_its_word_the_last() -> None:
    change = OneChange("ann@alpha.example", "news.example", "*", "accept", START + 1e6)
    rule = read_change(change, START)
    assert rule is not None
    assert rule.changed_at == START
    for wrong in (
        msgspec.structs.replace(change, address="x"),
        msgspec.structs.replace(change, sender="", mail_class=""),
        msgspec.structs.replace(change, standing="maybe"),
    ):
        assert read_change(wrong, START) is None


def test_servers_are_named_by_https_addresses() -> None:
    assert parse_peer("https://Peer.example") == Peer("peer.example", 443)
    assert parse_peer("https://peer.example:8443/") == Peer("peer.example", 8443)
    for wrong in (
        "http://peer.example",
        "https://",
        "https://peer.example/x",
        "https://peer.example:x",
        "https://a b",
    ):
        with pytest.raises(ValueError):
            parse_peer(wrong)
