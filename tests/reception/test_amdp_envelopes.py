"""Envelopes in the session: what is refused at once, what is stored, and for whom (AMDP-5a, AMDP-7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.config.amdp_schema import AmdpIncoming
from outrider.config.schema import Rule
from outrider.holding.incoming.holders import REPEATS
from outrider.model.address import parse_address, parse_domain
from outrider.protocols.amdp.envelope import read_envelope
from outrider.protocols.amdp.mail_class import parse_class, parse_pattern
from outrider.protocols.amdp.report import AcceptClass, HourRange, PolicyReport
from outrider.reception.amdp_envelopes import LARGEST
from outrider.tables.database import StoreUnavailable
from tests.reception.envelope_rig import SENDER, EnvelopeRig, envelope_rig, held, octets
from tests.reception.rig import CLIENT, FRIEND, MESSAGE, NOW

Make = Callable[..., EnvelopeRig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as opened:

        def made(**chosen: Any) -> EnvelopeRig:
            return opened.enter_context(envelope_rig(tmp_path, **chosen))

        yield made


@pytest.mark.covers("AMDP-5a", "AMDP-7")
async def test_an_envelope_is_stored_for_the_call_back(make: Make) -> None:
    rig = make()
    reply = await rig.envelope(held(), "ann@a.example")
    assert reply.code == 250, reply
    (message,) = rig.spool.given
    assert [one.route for one in message.envelope.recipients] == ["amdp-callback:"]
    assert [item.destination for item in message.items] == ["amdp-callback:"]
    assert any(fact.name == "client.address" for fact in message.facts), "what the call-back goes by"


@pytest.mark.covers("AMDP-5a")
async def test_without_the_keyword_it_is_ordinary_mail(make: Make) -> None:
    rig = make(incoming=AmdpIncoming(denied=("b.example",)))
    reply = await rig.mail(await rig.session(), octets(held(expires=int(NOW) - 10, timestamp=1)))
    assert reply.code == 250
    assert rig.spool.given[0].envelope.recipients[0].route == ""


@pytest.mark.covers("AMDP-7")
async def test_an_alias_is_followed_after_the_comparison(make: Make) -> None:
    rig = make()
    envelope = held(recipient=parse_address("all@a.example"))
    assert (await rig.envelope(envelope, "all@a.example")).code == 250
    (message,) = rig.spool.given
    assert [str(one.address) for one in message.envelope.recipients] == ["ann@a.example", "bob@a.example"]
    assert {one.route for one in message.envelope.recipients} == {"amdp-callback:"}


def without(name: str) -> bytes:
    lines = octets(held()).split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(name.encode().lower() + b":"))


def with_line(line: str) -> bytes:
    return line.encode() + b"\r\n" + octets(held())


WRONG: dict[str, tuple[Any, int, str]] = {
    "no envelope": (MESSAGE, 550, "AMDP-"),
    "a field missing": (without("AMDP-Digest"), 550, "AMDP-Digest is missing"),
    "a field twice": (with_line("AMDP-To: <ann@a.example>"), 550, "twice"),
    "two From": (with_line("From: <ceo@b.example>"), 550, "twice"),
    "From of another domain": (
        octets(held()).replace(b"From: <news@b.example>", b"From: <news@bank.example>", 1),
        550,
        "domain",
    ),
    "our own word": (with_line("AMDP-Verified-From: <news@b.example>"), 550, "AMDP-Verified"),
    "for somebody else": (
        held(recipient=parse_address("bob@a.example")),
        550,
        "AMDP-To is not the recipient",
    ),
    "expired": (held(timestamp=int(NOW) - 500, expires=int(NOW) - 1), 550, "expired"),
    "from the future": (
        held(timestamp=int(NOW) + 200_000, expires=int(NOW) + 300_000),
        550,
        "made in the future",
    ),
    "a holder elsewhere": (held(holder=parse_domain("mhf-1.c.example")), 550, "AMDP-MHF-Name"),
    "a holder below": (held(holder=parse_domain("mhf-1.x.b.example")), 550, "AMDP-MHF-Name"),
    "a holder without number": (held(holder=parse_domain("mhf-x.b.example")), 550, "AMDP-MHF-Name"),
    "too long": (octets(held()) + b"x" * LARGEST, 552, "at most"),
}


@pytest.mark.covers("AMDP-7", "AMDP-8")
@pytest.mark.parametrize("case", WRONG)
async def test_what_is_known_to_be_wrong_is_refused_in_the_session(make: Make, case: str) -> None:
    rig = make()
    content, code, words = WRONG[case]
    reply = await rig.envelope(content)
    assert (reply.code, words in reply.text) == (code, True), reply
    assert not rig.spool.given
    assert not rig.holders.has_passed(CLIENT)
    assert (await rig.envelope(held())).code == 250, "and nothing waits for it"


@pytest.mark.covers("AMDP-8")
async def test_a_holder_with_an_id_may_have_any_name(make: Make) -> None:
    named = held(holder=parse_domain("hold.far.example"), holder_id="farm-7")
    assert (await make().envelope(named)).code == 250


@pytest.mark.covers("AMDP-4a", "AMDP-7")
async def test_one_recipient_each_and_ours_alone(make: Make) -> None:
    rig = make()
    for client in (CLIENT, FRIEND):
        transaction, reply = await rig.sender(await rig.session(client), amdp=True)
        assert transaction is not None
        assert reply.is_positive
        assert (await rig.recipient(transaction, "ann@far.example")).code == 550
        assert (await rig.recipient(transaction, "nobody@a.example")).code == 550
        assert (await rig.recipient(transaction, "ann@a.example")).code == 250
        assert (await rig.recipient(transaction, "bob@a.example")).code == 452
    transaction, _ = await rig.sender(await rig.session(), amdp=True)
    assert transaction is not None
    assert (await rig.recipient(transaction, "any@backup.example")).code == 250


@pytest.mark.covers("AMDP-7")
async def test_a_declared_size_is_refused_at_mail(make: Make) -> None:
    rig = make()
    _, reply = await rig.sender(await rig.session(), amdp=True, size=LARGEST + 1)
    assert reply.code == 552


@pytest.mark.covers("AMDP-7", "AMDP-22")
async def test_denied_senders_and_what_the_policy_does_not_take(make: Make) -> None:
    report = PolicyReport(
        "a.example",
        pay=True,
        deny=(parse_pattern("*::Bulk::*"),),
        accept=(AcceptClass(parse_pattern("*::Commerce::*"), 5), AcceptClass(parse_pattern("*"))),
    )
    incoming = AmdpIncoming(denied=(".evil.example",), allowed=("friend.example",))
    rig = make(report=report, incoming=incoming)

    async def reply(mail_class: str, domain: str = "b.example", **more: object) -> tuple[int, str]:
        envelope = held(
            sender=parse_address(f"news@{domain}"),
            holder=parse_domain(f"mhf-1.{domain}"),
            mail_class=parse_class(mail_class),
            **more,
        )
        said = await rig.envelope(envelope)
        await rig.holders.passed(CLIENT)
        return said.code, said.text

    assert (await reply("Public::Business::letter"))[0] == 250
    assert (await reply("Public::Business::letter", "x.evil.example"))[0] == 550
    code, text = await reply("Agent::Bulk::newsletter")
    assert code == 550
    assert "DENY-CLASS *::Bulk::*" in text
    assert (await reply("Agent::Commerce::offer"))[0] == 550, "unpaid"
    assert (await reply("Agent::Commerce::offer", postage="a.b.c"))[0] == 250, "redeemed later"
    assert (await reply("Agent::Commerce::offer", "exempt.example"))[0] == 250
    assert (await reply("Agent::Bulk::newsletter", "friend.example"))[0] == 250


@pytest.mark.covers("AMDP-16")
async def test_outside_its_hours_unsolicited_mail_is_asked_to_come_back(make: Make) -> None:
    minute = int(NOW) % 86_400 // 60
    hours = HourRange((minute + 60) % 1440, (minute + 120) % 1440)
    rig = make(report=PolicyReport("a.example", unsolicited_hours=(hours,)))
    reply = await rig.envelope(held(mail_class=parse_class("Agent::Bulk::newsletter")))
    assert reply.code == 451
    assert "ACCEPT-NEXT-IN" in reply.text
    assert (await rig.envelope(held())).code == 250


@pytest.mark.covers("AMDP-7")
async def test_one_envelope_until_the_call_back_has_passed(make: Make) -> None:
    rig = make()
    assert (await rig.envelope(held())).code == 250
    second = await rig.envelope(held(id="b" * 26))
    assert (second.code, len(rig.spool.given)) == (450, 1), second
    other = await rig.mail(
        await rig.session(ip_address("198.51.100.8")), octets(held(id="c" * 26)), amdp=True
    )
    assert other.code == 250, "another address is another holder"
    await rig.holders.passed(CLIENT)
    assert [(await rig.envelope(held(id=name * 26))).code for name in "def"] == [250] * 3
    await rig.holders.failed(CLIENT)
    assert [(await rig.envelope(held(id=name * 26))).code for name in "ghi"] == [250, 450, 450]


@pytest.mark.covers("AMDP-7")
async def test_what_was_not_stored_keeps_nobody_waiting(make: Make) -> None:
    rig = make()

    async def full(*_: object) -> None:
        raise StoreUnavailable("no")

    stored, rig.spool._store = rig.spool._store, full  # type: ignore[method-assign, assignment]
    assert (await rig.envelope(held())).is_temporary
    rig.spool._store = stored  # type: ignore[method-assign]
    assert (await rig.envelope(held())).code == 250


@pytest.mark.covers("AMDP-7", "SEC-182")
async def test_the_same_envelope_may_come_again(make: Make) -> None:
    """Its holder never heard the 250, or a crash came between the table and the spool: nothing is locked."""
    rig = make()
    assert [(await rig.envelope(held())).code for _ in range(2)] == [250, 250]
    assert (await rig.envelope(held(id="b" * 26))).code == 450
    replayed = [(await rig.envelope(held())).code for _ in range(20)]
    assert replayed.count(250) == REPEATS - 1, "but a replay gains no more calls"


@pytest.mark.covers("AMDP-7")
async def test_without_its_table_an_envelope_is_deferred(make: Make) -> None:
    rig = make()
    rig.holders.close()
    rig.holders._thread = Away()  # type: ignore[assignment]
    assert (await rig.envelope(held())).code == 451
    assert (await rig.mail(await rig.session(), MESSAGE)).code == 250


class Away:
    """A table that cannot be had."""

    async def call(self, _work: object) -> None:
        raise StoreUnavailable("away")

    def close(self) -> None:
        """Nothing."""


@pytest.mark.covers("AMDP-16")
async def test_more_than_so_many_a_minute_come_back(make: Make) -> None:
    rig = make(report=PolicyReport("a.example", messages_per_minute=2))
    rig.now -= rig.now % 60
    await rig.holders.passed(CLIENT)
    envelope = held(timestamp=int(rig.now) - 1, date=int(rig.now) - 1)
    replies = [await rig.envelope(replace(envelope, id=name * 26)) for name in "abc"]
    assert [reply.code for reply in replies] == [250, 250, 451]
    assert "ACCEPT-NEXT-IN 1" in replies[2].text
    rig.now += 60
    assert (await rig.envelope(replace(envelope, id="d" * 26))).code == 250


@pytest.mark.covers("AMDP-5a", "ITP-4a")
async def test_a_rules_route_holds_for_what_comes_out_of_the_call_back(make: Make) -> None:
    rule = Rule(name="copy", stage="headers", action="route", value="maildir:/srv/all")
    rig = make(rules=(rule,))
    assert (await rig.envelope(held())).code == 250
    assert rig.spool.given[0].envelope.recipients[0].route == "amdp-callback:maildir:/srv/all"


@pytest.mark.covers("ITP-4a")
async def test_a_rule_can_tell_envelopes_from_other_mail(make: Make) -> None:
    rule = Rule(name="no envelopes", action="refuse", when={"amdp.envelope": True})
    rig = make(rules=(rule,))
    assert (await rig.envelope(held())).code == 550
    assert (await rig.mail(await rig.session(), MESSAGE)).code == 250


@pytest.mark.covers("AMDP-10")
async def test_a_stranger_does_not_say_that_something_was_verified(make: Make) -> None:
    rig = make()
    claimed = b"AMDP-Verified-From: <bank@bank.example>\r\nX-Kept: yes\r\n" + MESSAGE
    assert (await rig.mail(await rig.session(), claimed)).code == 250
    assert (await rig.mail(await rig.session(FRIEND), claimed)).code == 250
    stranger, friend = (message.content.headers for message in rig.spool.given)
    assert b"Verified" not in stranger
    assert stranger.startswith(b"X-Kept: yes\r\n")
    assert b"AMDP-Verified-From" in friend, "a first gateway of ours may"


_LINES = octets(held()).split(b"\r\n")


@pytest.mark.covers("AMDP-7", "SEC-116")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, len(_LINES) - 1),
    octets_instead=st.binary(max_size=60) | st.sampled_from(_LINES),
    keep_name=st.booleans(),
)
async def test_whatever_stands_in_a_field_there_is_an_answer(
    desk_rig: EnvelopeRig, which: int, octets_instead: bytes, keep_name: bool
) -> None:
    """A refusal, or an envelope that says the same as the one that was changed; never a fault of ours."""
    lines = list(_LINES)
    name = lines[which].partition(b":")[0] + b": " if keep_name else b""
    lines[which] = name + octets_instead
    headers = b"\r\n".join(lines).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    mail = await desk_rig.begun(await desk_rig.session(), SENDER, amdp=True)
    await desk_rig.recipient(mail, "ann@a.example")
    desk = desk_rig.parts.envelopes
    assert desk is not None
    reply = desk.header_refusal(mail, headers)
    if reply is not None:
        assert reply.code in (550, 451)
        assert reply.text.isprintable()
    else:
        envelope = read_envelope(headers)
        assert (envelope.recipient, envelope.domain) == (parse_address("ann@a.example"), "b.example")


@pytest.fixture
def desk_rig(make: Make) -> EnvelopeRig:
    return make()


# --- shares -------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-5b")
async def test_a_hundred_percent_amdp_refuses_the_smtp_mail_of_strangers(make: Make) -> None:
    rig = make(share=100)
    refused = await rig.mail(await rig.session(), MESSAGE)
    assert (refused.code, refused.status) == (550, "5.7.1")
    assert "AMDP" in refused.text
    assert (await rig.mail(await rig.session(), MESSAGE, sender="")).code == 550
    assert (await rig.mail(await rig.session(), MESSAGE, "postmaster@a.example")).code == 250
    assert (await rig.mail(await rig.session(FRIEND), MESSAGE)).code == 250
    own = await rig.session(login="ann", protocol="submission")
    assert (await rig.mail(own, MESSAGE, sender="ann@a.example")).code in (250, 553)
    assert (await rig.mail(await rig.session(protocol="qmtp"), MESSAGE)).code == 250
    assert (await rig.envelope(held())).code == 250
    rig.stressed = True
    assert (await rig.mail(await rig.session(), MESSAGE, "postmaster@a.example")).code == 250


@pytest.mark.covers("AMDP-5b")
async def test_under_stress_the_two_kinds_have_their_shares(make: Make) -> None:
    rig = make(share=90)
    rig.stressed = True
    session = await rig.session()
    begun = {True: 0, False: 0}
    for _ in range(90):
        for amdp in (True, False):
            _, reply = await rig.sender(session, amdp=amdp)
            assert reply.code in (250, 451)
            begun[amdp] += reply.is_positive
    assert begun[True] == 90
    assert 9 <= begun[False] <= 11
    for client, login in ((FRIEND, ""), (CLIENT, "ann")):
        known = await rig.session(client, login=login)
        _, reply = await rig.sender(known, "ann@a.example")
        assert reply.code == 250, "who is known is not weighed"
    rig.stressed = False
    assert (await rig.sender(session))[1].code == 250
