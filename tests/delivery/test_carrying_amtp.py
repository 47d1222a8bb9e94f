"""From one protocol to the next: only when nobody can be reached, always told, never below a demand
(ITP-7)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.config.schema import Delivery
from outrider.delivery.carrying import Carrier, Feedback, Outcome
from outrider.delivery.connections import Connections
from outrider.delivery.interface import Job
from outrider.delivery.lookup import NoRecords
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.service_hops import ServiceSending
from outrider.model.mpc import parse_mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.channels import Channel
from outrider.routing.ways import MxWay
from tests.delivery.support import (
    FakeClock,
    FakeLookup,
    Observer,
    ScriptedConnection,
    ScriptedDialler,
    leased,
    mx,
    new_message,
    no_such_name,
    refused,
    srv,
    surroundings,
)
from tests.delivery.test_service_hops import Memory

ONLY = MxWay(channel=Channel(("amtp",), partner="bank"))
NO_FALLBACK = MxWay(channel=Channel(stays=frozenset({"amtp"})))
DENIAL = DeliveryResult(Kind.FAILED, "5.7.1", "the server's policy denies com/optin", 0, "x", "amtp")


class Desk:
    """A carrier for a domain with an AMTP server and, beside it, a mail exchanger."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.dialler = ScriptedDialler()
        self.lookup = FakeLookup()
        self.observer = Observer()
        self.lookup.service_answers["b.example"] = srv((10, "gate"))
        self.lookup.mx_answers["b.example"] = mx((10, "mx"))
        connections = Connections(self.dialler, self.observer)
        planner = HopPlanner(surroundings(self.lookup), [ServiceSending("amtp", 10_125, Memory())])
        self.carrier = Carrier(planner, connections, {}, Delivery(idle_reuse=0), self.clock, self.observer)

    async def carry(self, way: MxWay | None = None) -> Outcome:
        message = leased(new_message("m", "ann@b.example", mpc=parse_mpc("com/optin"))).message
        return await self.carrier.carry(Job(message, (0,)), way or MxWay(), "b.example")

    @property
    def tried(self) -> list[str]:
        return [f"{protocol}:{host}" for protocol, host, _ in self.dialler.dialled]


def only(outcome: Outcome) -> DeliveryResult:
    [result] = outcome.results.values()
    return result


@pytest.mark.covers("AMTP-7", "AMTP-8")
async def test_amtp_carries_the_mail_and_smtp_is_not_asked_for() -> None:
    desk = Desk()
    assert only(await desk.carry()).kind is Kind.DELIVERED
    assert desk.tried == ["amtp:gate"]
    assert "MX b.example" not in desk.lookup.asked
    assert desk.observer.named("fell_back") == []


@pytest.mark.covers("AMTP-8", "ITP-7")
async def test_unreachable_servers_lead_to_smtp_which_is_an_event_and_a_line_in_the_trail() -> None:
    desk = Desk()
    desk.dialler.down = {"gate"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DELIVERED
    assert desk.tried == ["amtp:gate", "smtp:mx"]
    [(_, first, used, why, text)] = desk.observer.named("fell_back")
    assert (first, used, why) == ("amtp", "smtp", "unreachable")
    assert "connection refused" in text
    assert text in outcome.notes


@pytest.mark.covers("AMTP-8", "ITP-7")
async def test_a_second_message_does_not_wait_for_the_same_silence_again_and_is_told_too() -> None:
    desk = Desk()
    desk.dialler.down = {"gate"}
    await desk.carry()
    await desk.carry()
    assert desk.tried == ["amtp:gate", "smtp:mx", "smtp:mx"]
    assert len(desk.observer.named("fell_back")) == 2
    desk.dialler.down = set()
    await desk.clock.advance(61)
    await desk.carry()
    assert desk.tried[-1] == "amtp:gate"


@pytest.mark.covers("AMTP-8", "ITP-7")
@pytest.mark.parametrize(("way", "feedback"), [(ONLY, Feedback.BAD), (NO_FALLBACK, Feedback.NONE)])
async def test_without_fallback_mail_waits_for_the_server_to_come_back(
    way: MxWay, feedback: Feedback
) -> None:
    """Where other mail for the domain may go by SMTP, that mail is not kept back with it."""
    desk = Desk()
    desk.dialler.down = {"gate"}
    outcome = await desk.carry(way)
    assert only(outcome).kind is Kind.DEFERRED
    assert outcome.feedback is feedback
    assert desk.tried == ["amtp:gate"]
    assert "MX b.example" not in desk.lookup.asked


@pytest.mark.covers("ITP-7", "AMTP-8", "AMTP-5")
async def test_an_unmet_requirement_504_or_a_wrong_name_leads_to_no_other_protocol() -> None:
    desk = Desk()
    desk.dialler.unmet = {"gate"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DEFERRED
    assert only(outcome).status[:3] == "4.7"
    assert desk.tried == ["amtp:gate"]


@pytest.mark.covers("ITP-7", "AMTP-8")
async def test_who_answers_and_refuses_has_answered_for_every_protocol() -> None:
    desk = Desk()
    desk.dialler.down, desk.dialler.answering = {"gate"}, {"gate"}
    assert only(await desk.carry()).kind is Kind.DEFERRED
    assert desk.tried == ["amtp:gate"]
    await desk.carry()
    assert "smtp:mx" not in desk.tried, "nor is it taken for silence a moment later"


@pytest.mark.covers("ITP-7")
async def test_one_silent_server_and_one_that_refuses_make_no_silence() -> None:
    desk = Desk()
    desk.lookup.service_answers["b.example"] = srv((10, "gate"), (20, "other"))
    desk.lookup.address_answers["other"] = ("8.8.4.4",)
    desk.dialler.down, desk.dialler.unmet = {"gate"}, {"other"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DEFERRED
    assert desk.tried == ["amtp:gate", "amtp:other"]


@pytest.mark.covers("AMTP-12", "ITP-7")
async def test_a_denial_is_the_end_of_it() -> None:
    desk = Desk()
    desk.dialler.results = {"ann@b.example": DENIAL}
    outcome = await desk.carry()
    assert only(outcome) == DENIAL
    assert desk.tried == ["amtp:gate"]


@pytest.mark.covers("AMTP-21")
async def test_a_backups_denial_that_is_not_the_last_word_is_not_taken_for_a_broken_connection() -> None:
    desk = Desk()
    later = replace(DENIAL, kind=Kind.DEFERRED, status="4.7.1")

    def deny(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
        connection.usable = False
        return dict.fromkeys(job.recipients, later)

    desk.dialler.on_send = deny
    outcome = await desk.carry()
    assert only(outcome) == later
    assert outcome.feedback is Feedback.GOOD
    assert len(desk.dialler.sent) == 1


@pytest.mark.covers("AMTP-21")
async def test_what_a_backup_denies_is_asked_of_its_primary_although_that_was_silent_a_moment_ago() -> None:
    desk = Desk()
    desk.lookup.service_answers["b.example"] = srv((10, "gate"), (20, "backup"))
    desk.lookup.address_answers["backup"] = ("8.8.4.4",)
    later = replace(DENIAL, kind=Kind.DEFERRED, status="4.7.1")

    def answer(connection: ScriptedConnection, job: Job) -> Mapping[int, DeliveryResult]:
        taken = DeliveryResult(Kind.RELAYED, "2.0.0", "ok", 250)
        return dict.fromkeys(job.recipients, later if "backup" in connection.description else taken)

    desk.dialler.on_send = answer
    desk.dialler.down = {"gate"}
    assert only(await desk.carry()) == later
    assert desk.tried == ["amtp:gate", "amtp:backup"]
    # Still away: it is asked once more, and the denial stays the reason for which the mail waits.
    assert only(await desk.carry()) == later
    assert desk.tried[2:] == ["amtp:backup", "amtp:gate"]
    desk.dialler.down = set()
    assert only(await desk.carry()).kind is Kind.RELAYED
    assert desk.tried[4:] == ["amtp:backup", "amtp:gate"]


class BackupDesk(Desk):
    """Beside the primary `gate` there is `backup`, which is stricter: it denies everything for now."""

    def __init__(self) -> None:
        super().__init__()
        self.lookup.service_answers["b.example"] = srv((10, "gate"), (20, "backup"))
        self.lookup.address_answers["backup"] = ("8.8.4.4",)
        self.dialler.on_send = self._deny_at_the_backup

    @staticmethod
    def _deny_at_the_backup(connection: ScriptedConnection, job: Job) -> dict[int, DeliveryResult] | None:
        if connection.hop.host != "backup":
            return None
        connection.usable = False
        return dict.fromkeys(job.recipients, replace(DENIAL, kind=Kind.DEFERRED, status="4.7.1"))


@pytest.mark.covers("AMTP-21")
async def test_what_a_backup_denies_is_asked_of_a_primary_that_was_passed_over_for_its_silence() -> None:
    desk = BackupDesk()
    desk.dialler.down = {"gate"}
    first = only(await desk.carry())
    assert (first.kind, first.status) == (Kind.DEFERRED, "4.7.1")
    assert desk.tried == ["amtp:gate", "amtp:backup"]
    desk.dialler.down = set()
    assert only(await desk.carry()).kind is Kind.DELIVERED
    assert desk.tried[2:] == ["amtp:backup", "amtp:gate"]


@pytest.mark.covers("AMTP-21")
async def test_while_the_primary_stays_silent_the_backups_words_are_what_is_told() -> None:
    desk = BackupDesk()
    desk.dialler.down = {"gate"}
    for _ in range(2):
        outcome = await desk.carry()
        assert (only(outcome).kind, only(outcome).status) == (Kind.DEFERRED, "4.7.1")
        assert outcome.feedback is Feedback.GOOD
    assert all(not host.startswith("smtp:") for host in desk.tried)


@pytest.mark.covers("AMTP-21", "AMTP-12")
async def test_the_primarys_denial_is_the_last_word() -> None:
    desk = BackupDesk()
    desk.dialler.down = {"gate"}
    await desk.carry()
    desk.dialler.down = set()
    desk.dialler.results = {"ann@b.example": DENIAL}
    assert only(await desk.carry()) == DENIAL


@pytest.mark.covers("SMTP-6", "ITP-7")
async def test_a_temporary_refusal_by_amtp_waits() -> None:
    desk = Desk()
    desk.dialler.results = {"ann@b.example": refused(451, "4.7.1", "MPC temporary failure, try again later")}
    assert only(await desk.carry()).kind is Kind.DEFERRED
    assert desk.tried == ["amtp:gate"]


@pytest.mark.covers("ITP-7", "SMTP-6")
@pytest.mark.parametrize("exchangers", [no_such_name(), NoRecords("none")])
async def test_a_domain_with_amtp_servers_only_is_not_given_up_while_they_are_away(
    exchangers: NoRecords,
) -> None:
    desk = Desk()
    desk.lookup.mx_answers["b.example"] = exchangers  # type: ignore[assignment]
    desk.lookup.address_answers["b.example"] = NoRecords("none")
    desk.dialler.down = {"gate"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DEFERRED
    assert "connection refused" in only(outcome).text
    assert desk.observer.named("fell_back") == []


@pytest.mark.covers("ITP-7")
async def test_when_smtp_is_away_too_the_mail_waits() -> None:
    desk = Desk()
    desk.dialler.down = {"gate", "mx"}
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DEFERRED
    assert desk.tried == ["amtp:gate", "smtp:mx"]


@pytest.mark.covers("AMTP-8", "SEC-163")
async def test_servers_whose_address_dns_will_not_tell_are_out_of_reach() -> None:
    desk = Desk()
    desk.lookup.address_answers["gate"] = NoRecords("none")
    outcome = await desk.carry()
    assert only(outcome).kind is Kind.DELIVERED
    assert desk.tried == ["smtp:mx"]
    [(_, first, used, why, _)] = desk.observer.named("fell_back")
    assert (first, used, why) == ("amtp", "smtp", "unreachable")


@pytest.mark.covers("AMTP-5", "SMTP-3")
async def test_connections_are_shared_within_a_domain_and_not_across() -> None:
    desk = Desk()
    desk.carrier = Carrier(
        HopPlanner(surroundings(desk.lookup), [ServiceSending("amtp", 10_125, Memory())]),
        Connections(desk.dialler, desk.observer),
        {},
        Delivery(idle_reuse=5.0),
        desk.clock,
        desk.observer,
    )
    desk.lookup.service_answers["c.example"] = srv((10, "gate"))
    for domain in ("b.example", "b.example", "c.example"):
        message = leased(new_message("m", f"ann@{domain}", mpc=parse_mpc("com/optin"))).message
        await desk.carrier.carry(Job(message, (0,)), MxWay(), domain)
    assert desk.tried == ["amtp:gate", "amtp:gate"]


STATES = ("up", "silent", "answers", "unmet")


@given(
    states=st.lists(st.sampled_from(STATES), min_size=1, max_size=4),
    way=st.sampled_from([MxWay(), ONLY, NO_FALLBACK, MxWay(channel=Channel(("smtp",)))]),
    again=st.booleans(),
)
@settings(max_examples=150, deadline=None)
@pytest.mark.covers("ITP-7", "AMTP-8")
def test_smtp_is_used_exactly_when_it_may_be_and_nobody_spoke(
    states: list[str], way: MxWay, again: bool
) -> None:
    """Whatever the servers do, and whether they were tried a moment ago or not."""

    async def run() -> Desk:
        desk = Desk()
        hosts = [f"gate{number}" for number in range(len(states))]
        desk.lookup.service_answers["b.example"] = srv(*enumerate(hosts))
        for number, (host, state) in enumerate(zip(hosts, states, strict=True)):
            desk.lookup.address_answers[host] = (f"8.8.4.{number}",)
            desk.dialler.down |= {host} if state in ("silent", "answers") else set()
            desk.dialler.answering |= {host} if state == "answers" else set()
            desk.dialler.unmet |= {host} if state == "unmet" else set()
        for _ in range(2 if again else 1):
            outcome = await desk.carry(way)
            reached = "amtp" in way.channel.protocols and "up" in states
            assert (only(outcome).kind is Kind.DELIVERED) is (reached or uses_smtp(way, states))
        return desk

    desk = asyncio.run(run())
    by_smtp = [host for host in desk.tried if host.startswith("smtp:")]
    assert bool(by_smtp) is uses_smtp(way, states)
    if by_smtp and "amtp" in way.channel.protocols:
        assert len(desk.observer.named("fell_back")) == len(by_smtp)


def uses_smtp(way: MxWay, states: list[str]) -> bool:
    """What ITP-7 says, in one line."""
    may_follow = "smtp" in way.channel.protocols and "amtp" not in way.channel.stays
    return way.channel.protocols == ("smtp",) or (may_follow and set(states) == {"silent"})
