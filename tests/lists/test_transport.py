"""Mail to a list's addresses, and what is made of it: subscriptions, posts, moderation, bounces."""

from __future__ import annotations

import pytest

from outrider.lists.transport import HELP_INTERVAL_S
from outrider.model.envelope import Arrival
from outrider.model.message import ItemState
from outrider.model.mpc import parse_mpc
from outrider.model.result import Kind
from outrider.routing.list_addresses import Purpose
from tests.lists.conftest import MakeRig
from tests.lists.support import DAY, HEADERS, Rig, again, code, field_of, octets, reply_to, stored, to

REPORT = (
    'From: <>\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="x"\r\n'
    "Auto-Submitted: auto-replied\r\n"
)


async def subscribe(rig: Rig, address: str, name: str = "SUBSCRIBE000001") -> None:
    """The whole exchange."""
    asked = await rig.send("staff-subscribe", sender=address, name=name)
    confirmed = await rig.send(reply_to(asked.letter), sender=address, name=f"{name[:-1]}9")
    assert "is subscribed" in confirmed.result.text


# --- subscriptions --------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-8", "AMTP-16")
async def test_nobody_is_a_member_before_he_has_confirmed(rig: Rig) -> None:
    asked = await rig.send("staff-subscribe")
    assert asked.result.kind is Kind.DELIVERED
    assert await rig.members() == []
    letter = asked.letter
    assert letter.envelope.sender is None
    assert to([letter]) == ["eve@far.example"]
    assert code(letter) == parse_mpc("ngo/autoresponse")
    assert field_of(letter, "Auto-Submitted") == "auto-replied"
    assert reply_to(letter).startswith("staff-confirm+")

    welcome = await rig.send(reply_to(letter), name="CONFIRM00000001")
    assert await rig.members() == ["eve@far.example"]
    assert b"subscribed to the list" in octets(welcome.letter)
    assert rig.observer.named("member_joined") == [
        ("staff@alpha.example", "eve@far.example", "confirmed by mail")
    ]


async def test_the_answer_may_come_from_another_address_but_subscribes_the_one_asked(rig: Rig) -> None:
    asked = await rig.send("staff-subscribe")
    await rig.send(reply_to(asked.letter), sender="eve.other@far.example", name="CONFIRM00000001")
    assert await rig.members() == ["eve@far.example"]


@pytest.mark.covers("SMTP-8")
async def test_forged_and_used_confirmations_do_nothing(rig: Rig) -> None:
    asked = await rig.send("staff-subscribe")
    token = reply_to(asked.letter).removeprefix("staff-confirm+")
    for guess in ("a" * 24, token[:-1] + ("a" if token[-1] != "a" else "b"), "1-" + "a" * 12):
        handled = await rig.send(f"staff-confirm+{guess}")
        assert (handled.made, handled.result.text[:8]) == ([], "ignored:")
    assert await rig.members() == []
    # Another list's confirmation is none of this one's.
    assert (await rig.send(f"other-confirm+{token}")).made == []
    await rig.send(f"staff-confirm+{token}", name="CONFIRM00000001")
    await rig.send("staff-unsubscribe", name="LEAVE0000000001")
    assert (await rig.send(f"staff-confirm+{token}", name="CONFIRM00000002")).made == []


@pytest.mark.covers("SEC-172")
async def test_a_responder_that_answers_the_question_subscribes_nobody(rig: Rig) -> None:
    asked = await rig.send("staff-subscribe")
    local = reply_to(asked.letter)
    for headers in ("Auto-Submitted: auto-replied\r\n", "Precedence: bulk\r\n"):
        assert (await rig.send(local, headers=HEADERS + headers)).made == []
    assert (await rig.send(local, sender=None)).made == []
    assert await rig.members() == []


@pytest.mark.covers("SMTP-9", "SEC-172")
async def test_an_address_that_is_bombed_gets_few_letters(rig: Rig) -> None:
    letters = [
        letter for n in range(50) for letter in (await rig.send("staff-subscribe", name=f"BOMB{n:011d}")).made
    ]
    assert len(letters) == 3


@pytest.mark.covers("SEC-172")
@pytest.mark.parametrize(
    "sender", [None, "mailer-daemon@far.example", "news-request@far.example", "x-bounces+1@l.example"]
)
async def test_programs_are_not_asked(rig: Rig, sender: str | None) -> None:
    for local in ("staff-subscribe", "staff-unsubscribe", "staff-request"):
        assert (await rig.send(local, sender=sender)).made == []


async def test_who_is_a_member_is_told_so_and_not_asked(rig: Rig) -> None:
    await rig.join("eve@far.example")
    told = await rig.send("staff-subscribe")
    assert b"subscribed already" in octets(told.letter)
    assert (await rig.send("staff-subscribe", name="ANOTHER00000001")).made == []  # once an hour


async def test_a_closed_list_subscribes_nobody_by_mail(make_rig: MakeRig) -> None:
    rig = make_rig(subscription="closed")
    told = await rig.send("staff-subscribe")
    assert b"owners subscribe" in octets(told.letter)


async def test_leaving_by_mail_is_confirmed_too(rig: Rig) -> None:
    """Anybody can write a sender's address."""
    await rig.join("eve@far.example")
    asked = await rig.send("staff-unsubscribe")
    assert await rig.members() == ["eve@far.example"]
    goodbye = await rig.send(reply_to(asked.letter), name="CONFIRM00000001")
    assert await rig.members() == []
    assert b"no longer subscribed" in octets(goodbye.letter)


@pytest.mark.covers("SMTP-8")
async def test_the_address_in_list_unsubscribe_needs_no_confirmation(rig: Rig) -> None:
    await rig.join("eve@far.example", "zoe@far.example")
    copies = (await rig.send("staff")).made
    leave = field_of(copies[0], "List-Unsubscribe").removeprefix("<mailto:").partition("@")[0]
    gone = await rig.send(leave, sender=None, name="LEAVE0000000001")
    assert await rig.members() == ["zoe@far.example"]
    assert to([gone.letter]) == ["eve@far.example"]
    assert (await rig.send(leave, name="LEAVE0000000002")).made == []
    number, _, seal = leave.removeprefix("staff-unsubscribe+").partition("-")
    assert (await rig.send(f"staff-unsubscribe+{int(number) + 1}-{seal}")).made == []
    assert await rig.members() == ["zoe@far.example"]


async def test_commands_in_a_subject(rig: Rig) -> None:
    def with_subject(text: str) -> str:
        return f"From: eve@far.example\r\nSubject: {text}\r\n"

    asked = await rig.send("staff-request", headers=with_subject(" SUBSCRIBE please"))
    assert reply_to(asked.letter).startswith("staff-confirm+")
    helped = await rig.send("staff-request", headers=with_subject("what is this"), name="HELP00000000001")
    assert b"staff-subscribe@alpha.example" in octets(helped.letter)
    assert (await rig.send("staff-request", headers=with_subject("help"), name="HELP00000000002")).made == []
    rig.now += HELP_INTERVAL_S + 1
    later = await rig.send("staff-request", headers="From: eve@far.example\r\n", name="HELP00000000003")
    assert later.made


@pytest.mark.covers("SMTP-8", "SEC-172")
async def test_a_message_that_is_handled_again_after_a_crash_comes_to_the_same(rig: Rig) -> None:
    """Between what the store is told and the settlement a server may die; then the attempt is made again."""
    asked = [(await rig.send("staff-subscribe", name="SUBSCRIBE000001")).letter for _ in range(3)]
    assert len({reply_to(one) for one in asked}) == 1
    welcomes = [(await rig.send(reply_to(asked[0]), name="CONFIRM00000001")).letter for _ in range(3)]
    assert len(welcomes) == 3
    assert await rig.members() == ["eve@far.example"]
    helped = [await rig.send("staff-request", name="HELP00000000001") for _ in range(3)]
    assert all(one.made for one in helped)


# --- posts ----------------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-8", "AMTP-16")
async def test_a_post_becomes_a_copy_for_each_member_of_the_lists_own_class(make_rig: MakeRig) -> None:
    rig = make_rig(mpc="com/optin")
    await rig.join("eve@far.example", "zoe@far.example", "boss@alpha.example", "all@alpha.example")
    handled = await rig.send("staff", mpc="net/individual", arrival=Arrival.AMTP_PUBLIC)
    assert to(handled.made) == [
        "eve@far.example",
        "zoe@far.example",
        "ann@alpha.example",  # aliases are followed
        "ann@alpha.example",
        "bob@alpha.example",
    ]
    assert {code(one) for one in handled.made} == {parse_mpc("com/optin")}
    assert {one.envelope.arrival for one in handled.made} == {Arrival.OTHER}
    assert len({one.envelope.sender for one in handled.made}) == len(handled.made)
    assert handled.result.text == "copies for 4 members are queued"


@pytest.mark.covers("AMTP-16")
@pytest.mark.parametrize("mpc", ["", "com/optin", "net/autoresponse", "com/confirmed"])
async def test_from_public_connections_only_posts_of_class_individual_are_taken(rig: Rig, mpc: str) -> None:
    await rig.join("zoe@far.example")
    handled = await rig.send("staff", mpc=mpc, arrival=Arrival.AMTP_PUBLIC)
    assert (handled.result.kind, handled.result.status) == (Kind.FAILED, "5.7.1")
    assert handled.result.text == "MPC policy violation"
    assert handled.made == []
    private = await rig.send("staff", mpc=mpc, arrival=Arrival.AMTP_PRIVATE)
    assert len(private.made) == 1


@pytest.mark.covers("SEC-172", "SEC-168")
async def test_what_is_no_post_is_ignored_and_never_bounced(rig: Rig) -> None:
    await rig.join("zoe@far.example")
    copy = (await rig.send("staff")).made[0]
    back = stored("staff@alpha.example", headers=copy.content.headers.decode().rstrip("\r\n") + "\r\n")
    cases = [
        back,
        stored("staff@alpha.example", sender=None),
        stored("staff@alpha.example", headers=HEADERS + "Auto-Submitted: auto-replied; x=y\r\n"),
        stored("staff@alpha.example", headers=HEADERS + "List-Id: Staff <STAFF.alpha.example>\r\n"),
        stored("staff@alpha.example", headers=HEADERS + "Delivered-To: staff@alpha.example\r\n"),
    ]
    for message in cases:
        handled = await rig.handle(message)
        assert (handled.result.kind, handled.made) == (Kind.DELIVERED, []), message
        assert handled.result.text.startswith("ignored: ")
    generated = await rig.send("staff", headers=HEADERS + "Auto-Submitted: auto-generated\r\n")
    assert len(generated.made) == 1


async def test_a_post_that_is_too_large_is_returned(make_rig: MakeRig) -> None:
    rig = make_rig(max_size=500)
    handled = await rig.send("staff", body=b"x" * 600 + b"\r\n")
    assert (handled.result.kind, handled.result.status) == (Kind.FAILED, "5.3.4")


async def test_a_list_that_is_gone_is_no_user(rig: Rig) -> None:
    handled = await rig.send("gone")
    assert (handled.result.kind, handled.result.status) == (Kind.FAILED, "5.1.1")


@pytest.mark.covers("SMTP-6")
async def test_a_store_that_cannot_be_used_makes_mail_wait(rig: Rig) -> None:
    await rig.join("zoe@far.example")
    await rig.store.call(lambda store: store._database.execute("ALTER TABLE list_members RENAME TO away"))
    handled = await rig.send("staff")
    assert (handled.result.kind, handled.made) == (Kind.DEFERRED, [])
    # The next one opens it anew, and finds the tables that are missing made.
    assert (await rig.send("staff")).result.kind is Kind.DELIVERED


async def test_several_addresses_of_lists_in_one_message_are_handled_each(rig: Rig) -> None:
    await rig.join("zoe@far.example")
    message = stored("staff@alpha.example", "staff-request@alpha.example", "other@alpha.example")
    handled = await rig.handle(message)
    assert [one.kind for one in handled.expansion.results.values()] == [Kind.DELIVERED] * 3
    assert sorted(to(handled.made)) == ["eve@far.example", "zoe@far.example"]


# --- moderation -----------------------------------------------------------------------------------------


MODERATED = {"moderated": True, "moderators": ("bob", "mod@far.example")}


@pytest.mark.covers("SMTP-8")
async def test_a_post_waits_until_a_moderator_answers(make_rig: MakeRig) -> None:
    rig = make_rig(**MODERATED)
    await rig.join("zoe@far.example")
    handled = await rig.send("staff", mpc="com/individual", login="eve")
    held, *letters = handled.made
    [item] = held.items
    assert item.state is ItemState.HELD
    assert item.reason == "list staff@alpha.example: waits for a moderator"
    assert to(letters) == ["bob@alpha.example", "mod@far.example"]
    assert octets(held) == octets(again(held))  # type: ignore[arg-type]
    assert held.envelope.authenticated_as == "eve"
    assert held.envelope.mpc == parse_mpc("com/individual")

    approved = await rig.send(reply_to(letters[0]), sender="mod@far.example")
    assert rig.moderated == [(held.id, True)]
    assert "goes out" in approved.result.text
    released = await rig.handle(again(held), held.envelope.recipients[0].route.removeprefix("list:"))
    assert to(released.made) == ["zoe@far.example"]


async def test_a_moderator_can_have_a_post_dropped(make_rig: MakeRig) -> None:
    rig = make_rig(**MODERATED)
    held, letter, _ = (await rig.send("staff")).made
    text = octets(letter).decode()
    [reject] = [line.strip() for line in text.split("\r\n") if line.strip().startswith("staff-reject+")]
    await rig.send(reject.partition("@")[0])
    assert rig.moderated == [(held.id, False)]


@pytest.mark.covers("SMTP-8")
async def test_a_moderators_word_is_not_forged(make_rig: MakeRig) -> None:
    rig = make_rig(**MODERATED)
    _, letter, _ = (await rig.send("staff")).made
    token = reply_to(letter).removeprefix("staff-approve+")
    number, _, seal = token.rpartition("-")
    forged = [f"staff-approve+{number}-{'a' * 12}", f"staff-reject+{token}", f"other-approve+{token}"]
    forged.append(f"staff-approve+{number[:-1]}0-{seal}")
    for local in forged:
        await rig.send(local)
    await rig.send(f"staff-approve+{token}", headers=HEADERS + "Auto-Submitted: auto-replied\r\n")
    assert rig.moderated == []
    rig.waits = False
    assert "does not wait any more" in (await rig.send(f"staff-approve+{token}")).result.text
    rig.queue_is_away = True
    assert (await rig.send(f"staff-approve+{token}")).result.kind is Kind.DEFERRED


@pytest.mark.covers("SMTP-8", "ITP-1")
@pytest.mark.parametrize(
    ("proof", "waits"),
    [
        ({}, True),
        ({"arrival": Arrival.AMTP_PUBLIC, "mpc": "com/individual"}, True),
        ({"arrival": Arrival.AMTP_PRIVATE}, False),
        ({"login": "mod"}, False),
    ],
)
async def test_the_address_of_a_moderator_proves_nothing(
    make_rig: MakeRig, proof: dict[str, object], waits: bool
) -> None:
    rig = make_rig(posting="moderators", moderators=("mod@far.example",))
    handled = await rig.send("staff", sender="mod@far.example", **proof)
    held = [one for one in handled.made if one.items[0].state is ItemState.HELD]
    assert bool(held) is waits


# --- bounces --------------------------------------------------------------------------------------------


async def bounce_address(rig: Rig) -> str:
    copy = (await rig.send("staff")).made[0]
    assert copy.envelope.sender is not None
    return copy.envelope.sender.local


def report(action: str) -> bytes:
    return f"--x\r\n\r\nFinal-Recipient: rfc822; e@f.example\r\nAction: {action}\r\n--x--\r\n".encode()


@pytest.mark.covers("SMTP-8", "SEC-167")
async def test_bounces_are_counted_by_day_and_suspend_in_the_end(make_rig: MakeRig) -> None:
    rig = make_rig(suspend_after=3)
    await rig.join("eve@far.example")
    local = await bounce_address(rig)
    for day in range(3):
        assert await rig.members() == ["eve@far.example"]
        for _ in range(4):
            handled = await rig.send(local, sender=None, headers=REPORT, body=report("failed"))
            if day < 2:
                assert handled.made == []
        rig.now += DAY
    assert await rig.members() == []
    [notice] = [fact for fact in rig.observer.named("member_bounced") if fact[-1]]
    assert notice[:3] == ("staff@alpha.example", "eve@far.example", 3)


async def test_the_owners_are_told_once(make_rig: MakeRig) -> None:
    rig = make_rig(suspend_after=1)
    await rig.join("eve@far.example")
    local = await bounce_address(rig)
    told = await rig.send(local, sender=None, headers=REPORT, body=report("failed"))
    assert to(told.made) == ["ann@alpha.example"]
    assert (await rig.send(local, sender=None, headers=REPORT, body=report("failed"))).made == []
    await subscribe(rig, "eve@far.example")
    assert await rig.members() == ["eve@far.example"]


@pytest.mark.covers("SMTP-8")
async def test_what_is_no_report_of_a_failure_counts_for_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(suspend_after=1)
    await rig.join("eve@far.example")
    local = await bounce_address(rig)
    cases: list[dict[str, object]] = [
        {"sender": None, "headers": REPORT, "body": report("delayed")},
        {"sender": None, "headers": REPORT, "body": b"no fields\r\n"},
        {"sender": None, "headers": "Auto-Submitted: auto-replied (vacation)\r\n"},
        {"sender": "eve@far.example"},
    ]
    for case in cases:
        await rig.send(local, **case)
    number, _, _ = local.removeprefix("staff-bounces+").partition("-")
    for forged in ("staff-bounces", f"staff-bounces+{number}-{'a' * 12}", local.replace("staff", "other")):
        await rig.send(forged, sender=None, headers=REPORT, body=report("failed"))
    assert await rig.members() == ["eve@far.example"]
    # An old system's bounce: the null sender, and no fields.
    await rig.send(local, sender=None, headers="Subject: failure notice\r\n", body=b"Hi. Sorry.\r\n")
    assert await rig.members() == []


def test_the_lists_addresses_are_what_they_are_called(rig: Rig) -> None:
    assert str(rig.staff.at(Purpose.BOUNCES, "1-x")) == "staff-bounces+1-x@alpha.example"
