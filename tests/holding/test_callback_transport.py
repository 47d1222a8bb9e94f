"""An envelope, from its reception to what becomes of it (AMDP-8 to AMDP-11)."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from outrider.holding.incoming.arrival_store import ArrivalState, Why
from outrider.holding.web import CallFailed
from outrider.model.address import Domain
from outrider.model.envelope import Notify
from outrider.model.facts import Facts, Provenance
from outrider.model.result import Kind
from outrider.protocols.amdp.callback import ACKNOWLEDGE_PATH, QUERY_PATH
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.report import PolicyReport
from tests.holding.incoming_support import (
    BODY,
    DAY,
    HOLDER,
    START,
    denies,
    octets_of,
    rig,
    swapped,
    wrong_digest,
)
from tests.holding.scripted_holder import ADDRESS

BULK = parse_class("Agent::Bulk::newsletter")


@pytest.mark.covers("AMDP-9", "AMDP-10", "AMDP-14")
async def test_an_envelope_of_a_stranger_goes_to_its_reader(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope(mail_class=BULK)
        arrived = site.arrive(mail_class=BULK)
        await site.run()
        held = site.holder.held[envelope.id]
        assert site.holder.calls == [(QUERY_PATH, 1), (ACKNOWLEDGE_PATH, 1)]
        assert held.burnt
        [made] = site.delivered
        octets = octets_of(made)
        assert b"\r\nAMDP-Verified-From: " in octets
        assert b"\r\nAMDP-From: " not in octets
        assert b"\r\nReferences: <a@alpha.example>\r\n" in octets, "AMDP-21: where it belongs"
        assert f"https://{HOLDER}:8443/m/{envelope.id}/{held.confirmation}".encode() in octets
        assert made.envelope.recipients[0].route == ""
        assert made.envelope.recipients[0].notify is Notify.NEVER
        assert made.trace.startswith(b"Received: ")
        facts = Facts(made.facts)
        assert facts.value("amdp.domain", Provenance.PROVEN) == "alpha.example"
        assert facts.value("amdp.holder", Provenance.PROVEN) == HOLDER
        assert facts.get("amdp.class", Provenance.VOUCHED) is None
        [arrival] = (await site.arrivals.recall([(HOLDER, envelope.id)])).values()
        assert (arrival.message, arrival.state) == (arrived, ArrivalState.DELIVERED)
        assert arrival.thread == ("a@alpha.example",)
        assert held.confirmation not in repr(arrival)
        assert site.holders.has_passed(None) is False


@pytest.mark.covers("AMDP-11", "AMDP-22", "AMDP-23")
async def test_what_the_policy_takes_is_fetched(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope()
        site.arrive()
        await site.run()
        assert site.delivered == []
        [message] = site.fetched()
        assert octets_of(message) == BODY
        assert message.envelope.recipients[0].address.local == "bob"
        assert b"with AMDP" in message.trace
        facts = Facts(message.facts)
        assert facts.value("protocol") == "amdp"
        assert facts.value("amdp.domain", Provenance.PROVEN) == "alpha.example"
        assert facts.value("amdp.standing", Provenance.PROVEN) == "unclassified"
        assert site.holder.held[envelope.id].receipts == 1
        assert site.queue == []
        [arrival] = (await site.arrivals.recall([(HOLDER, envelope.id)])).values()
        assert (arrival.state, arrival.fetched_as) == (ArrivalState.RECEIVED, message.id)


@pytest.mark.covers("AMDP-22")
@pytest.mark.parametrize(
    ("settings", "changes", "fetched"),
    [
        ({"fetch": "never", "allowed": ("alpha.example",)}, {}, False),
        ({"fetch": "allowed"}, {}, False),
        ({"fetch": "allowed", "allowed": ("alpha.example",)}, {"mail_class": BULK}, True),
        ({"fetch": "policy", "allowed": (".example",)}, {"mail_class": BULK}, True),
        ({"fetch": "policy"}, {"mail_class": BULK}, False),
        ({"fetch": "policy", "unvouched": "hold"}, {}, False),
    ],
)
async def test_who_fetches(
    tmp_path: Path, settings: dict[str, object], changes: dict[str, object], fetched: bool
) -> None:
    async with rig(tmp_path, window=0.0, **settings) as site:
        site.arrive(**changes)
        await site.run()
        assert (len(site.fetched()), len(site.delivered)) == ((1, 0) if fetched else (0, 1))


@pytest.mark.covers("AMDP-11")
async def test_what_is_too_large_is_not_fetched(tmp_path: Path) -> None:
    report = PolicyReport("beta.example", max_mail_size=len(BODY) + 10)
    async with rig(tmp_path, report=report, allowed=("alpha.example",)) as site:
        large = BODY + b"x" * 80 + b"\r\n"
        site.arrive(content=large, digest=digest_of([large]))
        await site.run()
        assert (len(site.fetched()), len(site.delivered)) == (0, 1)


LIES = [
    (b"AMDP-MHF-Name", b"mhf-1.beta.example", Why.NOT_GENUINE),
    (b"AMDP-MHF-Name", b"www.alpha.example", Why.NOT_GENUINE),
    (b"AMDP-MHF-Name", b"mhf-3.alpha.example", Why.NOT_GENUINE),
    (b"AMDP-Msg-Id", b"a" * 26, Why.UNKNOWN),
    (b"AMDP-Subject", b"money", Why.MALFORMED),
    (b"AMDP-To", b"<cat@beta.example>", Why.MALFORMED),
    (b"AMDP-To-Name", b"Bob", Why.UNKNOWN),
    (b"AMDP-Digest", str(wrong_digest()).encode(), Why.UNKNOWN),
    (b"AMDP-Auth-Port", b"443", Why.UNKNOWN),
    (b"AMDP-Auth-Port", b"25", Why.MALFORMED),
    (b"AMDP-About", b"You have won.", Why.UNKNOWN),
    (b"AMDP-Mail-Class", b"Public::Personal::letter", Why.UNKNOWN),
    (b"AMDP-Expire-On", b"Tue, 05 Jan 2027 08:00:00 +0000", Why.MALFORMED),
    (b"AMDP-From-Name", b"The Bank", Why.UNKNOWN),
    (b"AMDP-Language", b"de", Why.UNKNOWN),
    (b"From", b"<ceo@bank.example>", Why.MALFORMED),
]


@pytest.mark.covers("AMDP-8", "AMDP-10", "SEC-182")
@pytest.mark.parametrize(("field", "value", "why"), LIES, ids=lambda one: str(one)[:24])
async def test_a_lie_in_a_field_ends_the_envelope(
    tmp_path: Path, field: bytes, value: bytes, why: Why
) -> None:
    """The holder knows the envelope as it wrote it: whatever is changed on the way makes it another."""
    async with rig(tmp_path, report_to="abuse@watch.example") as site:
        site.envelope(mail_class=BULK, language="en", recipient_name="Robert")
        changed = swapped(field, value)(site.octets)
        assert changed != site.octets
        arrived = site.arrive(octets=changed)
        await site.run()
        assert site.last.kind is Kind.DROPPED
        assert site.delivered == site.queue == []
        dropped = await site.arrivals.dropped(arrived)
        assert dropped is not None
        assert dropped.why in (why, Why.EXPIRED) if field == b"AMDP-Expire-On" else dropped.why is why
        [told] = site.observer.named("envelope_dropped")
        assert told[1] == dropped.why.value
        assert not any(held.burnt for held in site.holder.held.values())


@pytest.mark.covers("AMDP-8")
async def test_an_envelope_from_elsewhere_is_dropped(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.arrive(address="203.0.113.66")
        await site.run()
        assert site.last.kind is Kind.DROPPED
        assert site.holder.calls == []
        site.arrive(address="")
        await site.run()
        assert site.last.text.startswith("it did not come over the network")


@pytest.mark.covers("AMDP-9")
async def test_another_recipient_at_the_holder_ends_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope()
        site.arrive()
        site.holder.held[envelope.id].to = "cat@beta.example"
        await site.run()
        dropped = site.observer.named("envelope_dropped")
        assert dropped[0][1] == "recipient"
        assert not site.holder.held[envelope.id].burnt


@pytest.mark.covers("SEC-182")
async def test_a_replay_comes_to_nothing(tmp_path: Path) -> None:
    """A thousand times, at once and later, after a restart too: the reader has one."""
    async with rig(tmp_path) as site:
        site.envelope(mail_class=BULK)
        octets = site.octets
        for _ in range(50):
            site.arrive(octets=octets)
        await site.run()
        assert len(site.delivered) == 1
        await site.restart()
        site.arrive(octets=octets)
        await site.run()
        assert len(site.delivered) == 1
        assert {one[1] for one in site.observer.named("envelope_dropped")} <= {"replayed", "unknown"}
        assert len(site.observer.named("envelope_dropped")) == 50
        assert site.holders.has_passed(ip_address(ADDRESS))


@pytest.mark.covers("AMDP-10")
async def test_a_withdrawn_message_is_dropped(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        envelope = site.envelope()
        site.arrive()
        site.holder.held[envelope.id].withdrawn = True
        await site.run()
        assert site.last.kind is Kind.DROPPED
        assert site.delivered == []


@pytest.mark.covers("SEC-189", "SEC-207")
async def test_a_holder_that_is_away_is_asked_until_the_envelope_expires(tmp_path: Path) -> None:
    async with rig(tmp_path, retry=(60.0, 3600.0)) as site:
        site.arrive()
        site.holder.away = CallFailed("no route")
        for _ in range(400):
            await site.run()
            if not site.queue:
                break
            assert site.last.kind is Kind.DEFERRED
            site.now = max(site.now, site.queue[0].due)
        assert site.queue == []
        assert site.last.kind is Kind.DROPPED
        assert "expired" in site.last.text
        assert START + 7 * DAY <= site.now <= START + 7 * DAY + 3600
        assert len(site.results) < 180  # the waits of [amdp.incoming] retry, not a loop
        assert site.delivered == []


@pytest.mark.covers("SEC-184", "SEC-207")
@pytest.mark.parametrize("status", [206, 302, 304, 401, 404, 429, 500, 503])
async def test_http_alone_proves_nothing(tmp_path: Path, status: int) -> None:
    async with rig(tmp_path) as site:
        site.arrive(mail_class=BULK)
        site.holder.status = status
        await site.run()
        assert site.last.kind is Kind.DEFERRED
        site.holder.status = 200
        site.now += 3600
        await site.run()
        assert len(site.delivered) == 1


NONSENSE = (
    b"",
    b"{}",
    b"[]",
    b'{"answers":[]}',
    b'{"answers":[{"known":true}]}',
    b'{"answers":' + b"[" * 9000,
    b"\xff",
    b'{"answers":[{"known":true,"to":"bob@beta.example","confirmation":"../../etc"}]}',
    b'{"answers":[{"known":false},{"known":false}]}',
)


@pytest.mark.covers("SEC-184", "SEC-207")
@pytest.mark.parametrize("answer", NONSENSE)
async def test_nonsense_of_a_holder_waits_or_ends(tmp_path: Path, answer: bytes) -> None:
    async with rig(tmp_path) as site:
        site.arrive(mail_class=BULK)
        site.holder.answers = lambda path, body: answer
        await site.run()
        assert site.last.kind in (Kind.DEFERRED, Kind.DROPPED)
        assert site.delivered == []


@pytest.mark.covers("AMDP-10")
async def test_a_holder_that_can_never_be_called_is_none(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.arrive()
        site.holder.away = CallFailed("the address is private", temporary=False)
        await site.run()
        assert site.last.kind is Kind.DROPPED


@pytest.mark.covers("AMDP-10", "AMDP-18")
async def test_a_broken_policy_is_reported_once_a_day(tmp_path: Path) -> None:
    async with rig(tmp_path, report=denies("*::Bulk::*"), report_to="abuse@watch.example") as site:
        for number in (1, 2):
            site.arrive(number, mail_class=BULK)
            await site.run()
            assert site.last.kind is Kind.DROPPED
        assert site.holder.calls == []
        [report] = site.delivered
        assert str(report.envelope.recipients[0].address) == "abuse@watch.example"
        assert report.envelope.sender is None
        site.now += 2 * DAY
        site.arrive(3, mail_class=BULK)
        await site.run()
        assert len(site.delivered) == 2


@pytest.mark.covers("AMDP-18")
async def test_no_report_goes_to_the_reported(tmp_path: Path) -> None:
    async with rig(tmp_path, report=denies("*::Bulk::*"), report_to="abuse@desk.alpha.example") as site:
        site.arrive(mail_class=BULK)
        await site.run()
        assert site.last.kind is Kind.DROPPED
        assert site.delivered == []


@pytest.mark.covers("AMDP-22")
async def test_fetches_of_mass_mail_are_spread(tmp_path: Path) -> None:
    """The holder does not meet all of its readers at once."""
    async with rig(tmp_path, allowed=("alpha.example",), window=100.0) as site:
        for number in range(1, 31):
            site.arrive(number, mail_class=BULK)
        site.chance = 0.25
        await site.run()
        assert site.fetched() == []
        assert {one.due for one in site.queue} == {START + 25.0}
        site.now += 25.0
        await site.run()
        assert len(site.fetched()) == 30
        assert site.queue == []


@pytest.mark.covers("AMDP-22")
async def test_a_burst_is_spread_too(tmp_path: Path) -> None:
    async with rig(tmp_path, window=100.0) as site:
        for number in range(1, 31):
            site.arrive(number)
        await site.run()
        assert len(site.fetched()) == 20
        assert {one.due for one in site.queue} == {START + 50.0}


async def test_a_route_of_a_rule_holds_for_what_comes_out(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.arrive(mail_class=BULK, route="smtp:inner.beta.example:25")
        site.arrive(2, route="smtp:inner.beta.example:25")
        await site.run()
        [made] = site.delivered
        assert made.envelope.recipients[0].route == "smtp:inner.beta.example:25"
        [message] = site.fetched()
        assert message.envelope.recipients[0].route == "smtp:inner.beta.example:25"


async def test_an_alias_is_followed_once(tmp_path: Path) -> None:
    """The envelope is to the alias; its recipients were found at RCPT."""
    async with rig(tmp_path) as site:
        team = site.envelope().recipient.__class__("team", Domain("beta.example"))
        site.arrive(recipients=("bob@beta.example", "cat@beta.example"), recipient=team, mail_class=BULK)
        site.arrive(2, recipients=("bob@beta.example", "cat@beta.example"), recipient=team)
        await site.run()
        [made] = site.delivered
        assert [one.address.local for one in made.envelope.recipients] == ["bob", "cat"]
        [message] = site.fetched()
        assert [one.address.local for one in message.envelope.recipients] == ["bob", "cat"]


@pytest.mark.covers("AMDP-10")
async def test_a_ledger_that_is_away_makes_envelopes_wait(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        blocked = tmp_path / "amdp"
        await site.arrivals.recall([])
        await site.restart()
        for file in blocked.glob("arrivals*"):
            file.unlink()
        (blocked / "arrivals.sqlite").mkdir()
        site.arrive()
        await site.run()
        assert site.last.kind is Kind.DEFERRED
        (blocked / "arrivals.sqlite").rmdir()
        site.now += 3600
        await site.run()
        assert len(site.fetched()) == 1


@pytest.mark.covers("AMDP-10")
@pytest.mark.parametrize(
    ("timestamp", "expires", "why"),
    [
        (0.0, -200.0, ""),  # expired by our clock, which may be fast
        (0.0, -400.0, "expired"),
        (0.9 * DAY, 2 * DAY, ""),
        (1.1 * DAY, 2 * DAY, "time"),
    ],
)
async def test_clocks_differ(tmp_path: Path, timestamp: float, expires: float, why: str) -> None:
    async with rig(tmp_path) as site:
        stamped, ends = int(START + timestamp) - 1000, int(START + expires)
        stamped += 1000 if timestamp else 0
        site.arrive(mail_class=BULK, timestamp=stamped, expires=ends)
        await site.run()
        told = site.observer.named("envelope_dropped")
        assert [one[1] for one in told] == ([why] if why else [])
        assert len(site.delivered) == (0 if why else 1)
