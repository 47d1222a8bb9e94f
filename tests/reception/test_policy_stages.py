"""Policy in the session: every stage, every verdict, in the same words everywhere."""

from __future__ import annotations

import asyncio

import pytest

from outrider.config.schema import Rule
from outrider.model.content import inline_content
from outrider.model.message import ItemState
from outrider.model.verdict import Stage
from outrider.reception.interface import Session
from outrider.reception.lookups import ClientNames
from tests.reception.rig import CLIENT, FRIEND, MESSAGE, NOW, SERVER, Rig, answer


def fresh(client: object = CLIENT) -> Session:
    return Session("S9", "smtp", client, 40_000, SERVER, 25, "smtp 192.0.2.25:25", "mx.a.example", NOW)  # type: ignore[arg-type]


@pytest.mark.covers("ITP-4a", "ITP-5")
async def test_a_refusal_comes_at_the_earliest_stage_and_says_what_the_log_says() -> None:
    rules = {
        Stage.CONNECT: Rule(name="r", action="refuse", when={"client.address": "198.51.100.0/24"}),
        Stage.HELLO: Rule(name="r", action="refuse", when={"client.name": "client.b.example"}),
        Stage.SENDER: Rule(name="r", action="refuse", when={"sender": "@b.example"}),
        Stage.RECIPIENT: Rule(name="r", action="refuse", when={"recipient": "bob@a.example"}),
        Stage.HEADERS: Rule(name="r", action="refuse", when={"header.subject": "hello"}),
        Stage.BODY: Rule(name="r", action="refuse", when={"message.size": {"min": 1}}),
    }
    for stage, rule in rules.items():
        rig = Rig(rules=(rule,))
        reply, reached = await until_refused(rig)
        assert reached is stage
        code = 554 if stage is Stage.CONNECT else 550
        assert str(reply) == f"{code} 5.7.1 Refused by local policy (rule r)"
        assert [(one[0], one[1], one[2]) for one in rig.observer.refusals] == [(stage.value, reply, "r")]
        assert rig.spool.given == []


async def until_refused(rig: Rig) -> tuple[object, Stage]:
    session = fresh()
    reply = await answer(rig.reception.connected(session))
    if not reply.is_positive:
        return reply, Stage.CONNECT
    reply = await answer(rig.reception.greeted(session, "EHLO", "client.b.example"))
    if not reply.is_positive:
        return reply, Stage.HELLO
    mail, reply = await rig.sender(session)
    if mail is None or not reply.is_positive:
        return reply, Stage.SENDER
    reply = await rig.recipient(mail, "bob@a.example")
    if not reply.is_positive:
        return reply, Stage.RECIPIENT
    reply = await rig.reception.finish(mail, inline_content(MESSAGE))
    return reply, Stage(rig.observer.refusals[-1][0])


@pytest.mark.covers("ITP-4a", "ITP-5")
async def test_hold_tag_and_label_reach_the_spool_with_their_reason() -> None:
    rig = Rig(
        rules=(
            Rule(name="mark", action="tag", when={"sender": "@b.example"}, value="X-Checked: yes"),
            Rule(name="label", action="tag", when={"recipient": "bob@a.example"}, value="bob"),
            Rule(name="wait", action="hold", when={"header.subject": "hello"}, reason="Look at this first"),
        )
    )
    reply = await rig.send(await rig.session())
    assert reply.code == 250
    (message,) = rig.spool.given
    assert message.trace.endswith(b"+0000\r\nX-Checked: yes\r\n")
    assert [(item.state, item.reason) for item in message.items] == [
        (ItemState.HELD, "Look at this first (rule wait)")
    ]
    assert rig.taker.taken == []
    texts = [event.text for event in message.events if event.kind == "verdict"]
    assert texts == ["Tagged (rule mark)", "Tagged (rule label)", "Look at this first (rule wait)"]


@pytest.mark.covers("ITP-4a")
async def test_route_overrides_the_way_of_one_recipient_or_of_all() -> None:
    rig = Rig(
        rules=(Rule(name="r", action="route", when={"recipient": "x@far.example"}, value="smtp:[192.0.2.1]"),)
    )
    await rig.send(await rig.session(FRIEND), "x@far.example", "y@far.example")
    (message,) = rig.spool.given
    assert [one.route for one in message.envelope.recipients] == ["smtp:[192.0.2.1]", ""]
    assert [item.destination for item in message.items] == ["smtp:[192.0.2.1]", "far.example"]
    whole = Rig(rules=(Rule(name="r", action="route", when={"header.subject": "hello"}, value="lmtp:h:24"),))
    await whole.send(await whole.session(FRIEND), "x@far.example", "y@far.example")
    assert {one.route for one in whole.spool.given[0].envelope.recipients} == {"lmtp:h:24"}
    assert [item.recipients for item in whole.spool.given[0].items] == [(0, 1)]


@pytest.mark.covers("ITP-4a")
async def test_a_recipient_refused_by_policy_leaves_the_others() -> None:
    rig = Rig(rules=(Rule(name="r", action="defer", when={"recipient": "bob@a.example"}),))
    mail = await rig.begun(await rig.session())
    assert (await rig.recipient(mail, "bob@a.example")).code == 451
    assert (await rig.recipient(mail, "ann@a.example")).code == 250
    assert [str(one.address) for one in mail.recipients] == ["ann@a.example"]


@pytest.mark.covers("ITP-4a", "SEC-153")
async def test_a_rule_waits_for_its_look_up_and_demands_confirmation() -> None:
    rule = Rule(
        name="r", action="refuse", unless={"client.ptr": {"is": "*.b.example", "provenance": "proven"}}
    )
    for names, expected in (
        (ClientNames(("mx.b.example",)), 220),
        (ClientNames((), ("mx.b.example",)), 554),
        (ClientNames(), 554),
    ):
        rig = Rig(rules=(rule,))
        rig.lookup.names[str(CLIENT)] = names
        decision = rig.reception.connected(fresh())
        assert (await answer(decision)).code == expected
        assert rig.lookup.asked == [f"PTR {CLIENT}"]


@pytest.mark.covers("SEC-154", "ITP-4a")
async def test_a_look_up_without_an_answer_defers() -> None:
    rig = Rig(
        rules=(Rule(name="r", action="refuse", unless={"client.ptr": {"present": True}}, stage="recipient"),)
    )
    rig.lookup.silent.add(str(CLIENT))
    session = await rig.session()
    mail = await rig.begun(session)
    for _ in range(2):
        reply = await rig.recipient(mail, "bob@a.example")
        assert (reply.code, reply.status) == (451, "4.4.3")
    assert rig.observer.lookups_failed == ["client.ptr"]
    assert rig.lookup.asked == [f"PTR {CLIENT}"], "asked once for the session"


@pytest.mark.covers("ITP-4a")
async def test_who_needs_no_look_up_does_not_wait_for_one() -> None:
    rig = Rig(
        rules=(Rule(name="r", action="refuse", when={"client.ptr": "*.evil.example"}, stage="recipient"),)
    )
    hanging = asyncio.Event()

    async def never(address: object) -> ClientNames:
        await hanging.wait()
        return ClientNames()

    rig.lookup.client_names = never  # type: ignore[method-assign]
    session = await rig.session()
    mail = await rig.begun(session)
    waiting = asyncio.ensure_future(rig.recipient(mail, "bob@a.example"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    hanging.set()
    assert (await waiting).is_positive


@pytest.mark.covers("ITP-4a")
async def test_the_sender_domain_can_be_asked_for_a_way() -> None:
    rig = Rig(rules=(Rule(name="r", action="refuse", when={"sender.domain.takes-mail": False}),))
    rig.lookup.mx_hosts["b.example"] = ["mx.b.example"]
    rig.lookup.hosts["c.example"] = ["192.0.2.3"]
    rig.lookup.silent.add("e.example")
    session = await rig.session()
    codes = {
        sender: (await rig.sender(session, sender))[1].code
        for sender in ("x@b.example", "x@c.example", "x@d.example", "x@e.example", "")
    }
    assert codes == {"x@b.example": 250, "x@c.example": 250, "x@d.example": 550, "x@e.example": 451, "": 250}


@pytest.mark.covers("ITP-4a")
async def test_header_facts_are_there_for_body_rules_of_streamed_messages() -> None:
    rule = Rule(name="r", action="refuse", when={"header.subject": "hello", "body.size": {"min": 1}})
    rig = Rig(rules=(rule,))
    mail = await rig.begun(await rig.session())
    await rig.recipient(mail, "bob@a.example")
    content = inline_content(MESSAGE)
    assert (await answer(rig.reception.headers(mail, content.headers))).is_positive
    assert (await rig.reception.finish(mail, content)).code == 550


@pytest.mark.covers("ITP-4a")
async def test_a_header_rule_may_refuse_before_the_body_has_come() -> None:
    rig = Rig(rules=(Rule(name="r", action="refuse", when={"from.domain": "b.example"}),))
    mail = await rig.begun(await rig.session())
    await rig.recipient(mail, "bob@a.example")
    assert (await answer(rig.reception.headers(mail, inline_content(MESSAGE).headers))).code == 550


@pytest.mark.covers("ITP-4a")
async def test_rules_on_login_and_tls_let_a_client_log_in_first() -> None:
    rig = Rig(rules=(Rule(name="r", action="refuse", when={"login": {"present": False}}),))
    session = await rig.session()
    assert (await rig.sender(session))[1].code == 550
    session.login, session.login_mechanism = "ann", "PLAIN"
    assert (await rig.sender(session, "ann@a.example"))[1].code == 250


@pytest.mark.covers("ITP-4a")
async def test_the_hour_and_the_listener_are_facts() -> None:
    rig = Rig(
        rules=(Rule(name="night", action="defer", when={"time.hour": {"max": 5}, "time.weekday": "sat"}),)
    )
    reply = await answer(rig.reception.connected(fresh()))
    assert reply.code == 421
