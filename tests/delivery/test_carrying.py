"""One job by one way: hosts in order, reuse, what is never done, and a result for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from outrider.config.schema import Delivery
from outrider.delivery.carrying import Carrier, Feedback, Outcome
from outrider.delivery.connections import Connections
from outrider.delivery.interface import Job
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.results import deferred, failed
from outrider.model.message import StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import ErrorWay, HostWay, LocalWay, MxWay, Way, parse_way
from tests.delivery.support import (
    FakeClock,
    FakeLookup,
    Observer,
    ScriptedConnection,
    ScriptedDialler,
    delivered,
    leased,
    mx,
    new_message,
    refused,
    settle_down,
    surroundings,
)


class Desk:
    """A carrier and what it works with."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.dialler = ScriptedDialler()
        self.lookup = FakeLookup()
        self.observer = Observer()
        self.connections = Connections(self.dialler, self.observer)
        planner = HopPlanner(surroundings(self.lookup))
        self.carrier = Carrier(planner, self.connections, {}, Delivery(**settings), self.clock, self.observer)

    async def carry(self, recipients: int = 1, way: Way | None = None, domain: str = "b.example") -> Outcome:
        return await self.carrier.carry(job(recipients), way or MxWay(), domain)


def stored(recipients: int = 1) -> StoredMessage:
    return leased(new_message("m", *(f"u{n}@b.example" for n in range(recipients)))).message


def job(recipients: int = 1) -> Job:
    return Job(stored(recipients), tuple(range(recipients)))


def only(outcome: Outcome) -> DeliveryResult:
    (result,) = set(outcome.results.values())
    return result


@pytest.mark.covers("SMTP-6", "ITP-7")
async def test_a_network_failure_leads_to_the_next_address_and_host_and_is_told() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.lookup.address_answers["mx1"] = ("8.8.1.1", "8.8.1.2")
    desk.dialler.down = {"mx1"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DELIVERED
    assert [address for _, _, address in desk.dialler.dialled] == ["8.8.1.1", "8.8.1.2", "8.8.8.8"]
    assert outcome.notes == [
        "smtp mx1 [8.8.1.1]:25: deferred: 4.4.1 connection refused",
        "smtp mx1 [8.8.1.2]:25: deferred: 4.4.1 connection refused",
        "fell back to mx2 [8.8.8.8]:25 by smtp",
    ]
    assert desk.observer.named("fell_back")


@pytest.mark.covers("SMTP-6")
async def test_when_nobody_answers_mail_waits_with_the_last_reason() -> None:
    desk = Desk()
    desk.dialler.down = {"b.example"}
    outcome = await desk.carry(3)
    assert set(outcome.results) == {0, 1, 2}
    assert only(outcome) == deferred("4.4.1", "connection refused")
    assert outcome.feedback is Feedback.BAD


async def test_only_hosts_that_all_refuse_for_good_make_a_failure() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.dialler.down = {"mx1", "mx2"}
    desk.dialler.failure = failed("5.3.2", "554 no mail here")
    assert only(await desk.carry()).kind is Kind.FAILED


@pytest.mark.covers("TLS-4a", "ITP-7")
async def test_an_unmet_requirement_waits_with_its_reason_and_is_never_weakened() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.dialler.unmet = {"mx1", "mx2"}
    outcome = await desk.carry(way=MxWay(TlsRequirement("verify")))
    assert (only(outcome).kind, only(outcome).status) == (Kind.DEFERRED, "4.7.5")
    assert "offers no TLS" in only(outcome).text
    assert desk.dialler.sent == []
    assert len(desk.observer.named("requirement_unmet")) == 2


@pytest.mark.covers("TLS-4a")
async def test_the_unmet_requirement_is_what_is_told_even_when_other_hosts_were_down() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.dialler.unmet, desk.dialler.down = {"mx1"}, {"mx2"}
    assert only(await desk.carry(way=MxWay(TlsRequirement("verify")))).status == "4.7.5"


@pytest.mark.covers("SMTP-6", "SEC-174")
async def test_what_a_host_says_about_recipients_stays_and_no_other_host_is_asked() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.dialler.results = {"u1@b.example": refused(450, "4.2.0", "later"), "u2@b.example": refused()}
    outcome = await desk.carry(3)
    assert [outcome.results[n].kind for n in range(3)] == [Kind.DELIVERED, Kind.DEFERRED, Kind.FAILED]
    assert [host for _, host, _ in desk.dialler.dialled] == ["mx1"]
    assert outcome.feedback is Feedback.GOOD


# --- reuse (SMTP-3) ---------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-3")
async def test_a_connection_is_used_again_within_its_time() -> None:
    desk = Desk(idle_reuse=5.0)
    await desk.carry()
    await desk.clock.advance(4)
    await desk.carry()
    assert len(desk.dialler.connections) == 1
    assert len(desk.observer.named("connection_reused")) == 1
    await desk.clock.advance(5)
    await desk.carry()
    assert len(desk.dialler.connections) == 2
    await settle_down()
    assert desk.dialler.connections[0].closed


@pytest.mark.covers("SMTP-3")
async def test_idle_connections_are_closed_in_time() -> None:
    desk = Desk(idle_reuse=5.0)
    await desk.carry()
    assert desk.connections.deadline() == desk.clock.now() + 5.0
    desk.connections.close_idle(desk.clock.now() + 5.0)
    await settle_down()
    assert desk.dialler.connections[0].closed
    assert desk.connections.deadline() is None


@pytest.mark.covers("SMTP-3", "TLS-4a")
async def test_a_connection_under_weaker_terms_is_not_used_for_stronger_ones() -> None:
    desk = Desk()
    await desk.carry(way=MxWay(TlsRequirement("opportunistic")))
    await desk.carry(way=MxWay(TlsRequirement("verify")))
    assert [connection.hop.tls.level for connection in desk.dialler.connections] == [
        "opportunistic",
        "verify",
    ]


@pytest.mark.covers("SMTP-3")
async def test_a_connection_is_shared_by_domains_with_the_same_exchanger() -> None:
    desk = Desk()
    for domain in ("b.example", "c.example"):
        desk.lookup.mx_answers[domain] = mx((10, "shared"))
        await desk.carry(domain=domain)
    assert len(desk.dialler.connections) == 1


@pytest.mark.covers("SMTP-3")
async def test_an_open_connection_to_a_second_choice_spares_the_dead_first_one() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.dialler.down = {"mx1"}
    await desk.carry()
    await desk.carry()
    assert [host for _, host, _ in desk.dialler.dialled] == ["mx1", "mx2"]


async def test_an_address_that_just_failed_is_tried_after_the_others_for_a_while() -> None:
    desk = Desk(idle_reuse=0.0)
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.lookup.address_answers = {"mx1": ("8.8.1.1",), "mx2": ("8.8.2.2",)}
    desk.dialler.down = {"mx1"}
    await desk.carry()
    await desk.carry()
    assert [host for _, host, _ in desk.dialler.dialled] == ["mx1", "mx2", "mx2"]
    desk.dialler.down = set()
    await desk.clock.advance(61)
    await desk.carry()
    assert desk.dialler.dialled[-1][1] == "mx1"


@pytest.mark.covers("SMTP-3")
async def test_a_worn_connection_is_replaced() -> None:
    desk = Desk(messages_per_connection=2)
    for _ in range(5):
        await desk.carry()
    assert [len(connection.jobs) for connection in desk.dialler.connections] == [2, 2, 1]


def breaks(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
    connection.usable = False
    return dict.fromkeys(job.recipients, deferred("4.4.2", "connection lost"))


@pytest.mark.covers("SMTP-3")
async def test_a_kept_connection_that_the_peer_has_closed_is_replaced_at_once() -> None:
    desk = Desk()
    await desk.carry()
    first = desk.dialler.connections[0]
    desk.dialler.on_send = lambda connection, job: breaks(connection, job) if connection is first else None
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DELIVERED
    assert len(desk.dialler.connections) == 2


async def test_a_fresh_connection_that_breaks_leaves_the_mail_waiting() -> None:
    desk = Desk(recipients_per_message=2)
    desk.lookup.mx_answers["b.example"] = mx((10, "mx1"), (20, "mx2"))
    desk.dialler.on_send = breaks
    outcome = await desk.carry(5)
    assert set(outcome.results) == {0, 1, 2, 3, 4}
    assert only(outcome).text == "connection lost"
    assert outcome.feedback is Feedback.BAD
    assert len(desk.dialler.sent) == 1


# --- QMTP (QMTP-2) ----------------------------------------------------------------------------------


@pytest.mark.covers("QMTP-2")
async def test_qmtp_then_smtp_at_the_same_host_when_no_qmtp_connection_can_be_made() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((12801, "q"))
    desk.dialler.down = {"qmtp:q"}
    assert only(await desk.carry()).kind is Kind.DELIVERED
    assert [protocol for protocol, _, _ in desk.dialler.dialled] == ["qmtp", "smtp"]


@pytest.mark.covers("QMTP-2")
@pytest.mark.parametrize("how", ["breaks", "defers", "refuses"])
async def test_what_fails_through_a_qmtp_connection_is_not_retried_by_smtp(how: str) -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((12801, "q"))
    answers = {"defers": refused(450, "4.0.0", "Z later"), "refuses": refused(550, "5.0.0", "D no")}

    def answer(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
        return breaks(connection, job) if how == "breaks" else dict.fromkeys(job.recipients, answers[how])

    desk.dialler.on_send = answer
    await desk.carry()
    assert [protocol for protocol, _, _ in desk.dialler.dialled] == ["qmtp"]


@pytest.mark.covers("QMTP-2")
async def test_nor_when_the_qmtp_connection_was_a_kept_one() -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = mx((12801, "q"))
    await desk.carry()
    desk.dialler.on_send = breaks
    desk.dialler.down = {"qmtp:q"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DEFERRED
    assert "smtp" not in [protocol for protocol, _, _ in desk.dialler.dialled]


# --- many recipients --------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-3")
async def test_many_recipients_go_in_several_transactions_on_one_connection() -> None:
    desk = Desk(recipients_per_message=100)
    outcome = await desk.carry(250)
    assert [len(job.recipients) for _, job in desk.dialler.sent] == [100, 100, 50]
    assert len(desk.dialler.connections) == 1
    assert len(outcome.results) == 250


@pytest.mark.covers("SEC-174")
async def test_too_many_recipients_means_a_further_transaction_for_the_rest() -> None:
    desk = Desk()

    def at_most_three(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
        many = DeliveryResult(Kind.DEFERRED, "4.5.3", "too many recipients", 452)
        return {index: delivered() if n < 3 else many for n, index in enumerate(job.recipients)}

    desk.dialler.on_send = at_most_three
    outcome = await desk.carry(8)
    assert only(outcome).kind is Kind.DELIVERED
    assert [job.recipients for _, job in desk.dialler.sent] == [
        tuple(range(8)),
        (3, 4, 5, 6, 7),
        (6, 7),
    ]


@pytest.mark.covers("SEC-174")
async def test_too_many_for_everyone_is_a_deferral_and_no_endless_loop() -> None:
    desk = Desk()
    many = DeliveryResult(Kind.DEFERRED, "4.5.3", "too many recipients", 452)
    desk.dialler.on_send = lambda _, job: dict.fromkeys(job.recipients, many)
    assert only(await desk.carry(4)) == many
    assert len(desk.dialler.sent) == 1


# --- faults of our own ------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-6")
async def test_a_carrier_that_raises_makes_mail_wait_and_is_reported() -> None:
    desk = Desk()

    def fault(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
        raise KeyError("secret detail")

    desk.dialler.on_send = fault
    outcome = await desk.carry(2)
    assert only(outcome).kind is Kind.DEFERRED
    assert "secret" not in only(outcome).text
    assert desk.observer.named("own_failure")
    assert desk.dialler.connections[0].aborted


async def test_a_carrier_that_forgets_somebody() -> None:
    desk = Desk()
    desk.dialler.on_send = lambda _, job: {job.recipients[0]: delivered()}
    outcome = await desk.carry(2)
    assert [outcome.results[n].kind for n in range(2)] == [Kind.DELIVERED, Kind.DEFERRED]


@pytest.mark.parametrize(
    ("way", "kind", "status"),
    [
        (ErrorWay("5.1.1", "gone"), Kind.FAILED, "5.1.1"),
        (ErrorWay("4.3.0", "closed today"), Kind.DEFERRED, "4.3.0"),
        (LocalWay("pigeon", ""), Kind.DEFERRED, "4.3.5"),
    ],
)
async def test_ways_without_a_host(way: Way, kind: Kind, status: str) -> None:
    outcome = await Desk().carry(2, way)
    assert (only(outcome).kind, only(outcome).status) == (kind, status)
    assert outcome.feedback is Feedback.NONE


@pytest.mark.covers("SMTP-8")
async def test_lmtp_goes_through_the_dialler() -> None:
    desk = Desk()
    way = parse_way("lmtp:unix:/run/lmtp")
    assert isinstance(way, HostWay)
    await desk.carry(way=way)
    assert desk.dialler.dialled == [("lmtp", "localhost", "/run/lmtp")]
