"""Copies: what is changed in a post and what is not, and that each member gets exactly one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.lists import distribution
from outrider.lists.distribution import kept_fields, rest_of, rest_route
from outrider.message.header_fields import field_names, field_values
from outrider.model.envelope import Notify, Return
from outrider.routing.ways import LocalWay, parse_way
from tests.lists.conftest import MakeRig
from tests.lists.support import TRACE, Rig, again, field_of, octets, to


@pytest.mark.covers("SMTP-8")
async def test_a_copy_names_list_and_member_and_keeps_the_rest(make_rig: MakeRig) -> None:
    rig = make_rig(description='The "staff"')
    await rig.join("zoe@far.example")
    headers = (
        "DKIM-Signature: v=1; d=far.example;\r\n\tb=abc\r\nFrom: Eve <eve@far.example>\r\n"
        "To: staff@alpha.example\r\nSubject: [x] hello\r\nList-Id: <old.example>\r\n"
        "list-unsubscribe:\r\n <mailto:x@old.example>\r\nMPC: com/individual\r\nPrecedence: bulk\r\n"
        "Disposition-Notification-To: eve@far.example\r\nReturn-Path: <x@y.example>\r\nX-Own: kept\r\n"
    )
    [copy] = (await rig.send("staff", headers=headers, body=b"\xff body\r\n.dot\r\n")).made
    content = octets(copy)
    assert content.endswith(b"\r\n\r\n\xff body\r\n.dot\r\n")
    assert TRACE in content
    assert b"DKIM-Signature: v=1; d=far.example;\r\n\tb=abc\r\nFrom: Eve <eve@far.example>\r\n" in content
    assert b"X-Own: kept\r\n" in content
    assert field_of(copy, "List-Id") == '"The  staff " <staff.alpha.example>'
    assert field_of(copy, "List-Post") == "<mailto:staff@alpha.example>"
    assert field_of(copy, "List-Help") == "<mailto:staff-request@alpha.example?subject=help>"
    assert field_of(copy, "List-Subscribe") == "<mailto:staff-subscribe@alpha.example>"
    assert field_of(copy, "List-Owner") == "<mailto:staff-owner@alpha.example>"
    assert field_of(copy, "List-Unsubscribe").startswith("<mailto:staff-unsubscribe+")
    assert field_of(copy, "Precedence") == "list"
    assert field_of(copy, "Delivered-To") == "staff@alpha.example"
    gone = {b"mpc", b"disposition-notification-to", b"return-path"}
    assert not gone & field_names(copy.content.headers)
    assert not copy.content.is_ascii
    [recipient] = copy.envelope.recipients
    assert (recipient.notify, copy.envelope.ret, copy.priority) == (Notify.FAILURE, Return.HEADERS, -1)
    assert str(copy.envelope.sender).startswith("staff-bounces+")


async def test_a_list_of_announcements_takes_no_posts_and_a_closed_one_no_wishes(make_rig: MakeRig) -> None:
    rig = make_rig(posting="moderators", moderators=("eve@far.example",), subscription="closed")
    await rig.join("zoe@far.example")
    [copy] = (await rig.send("staff", login="eve")).made
    assert field_of(copy, "List-Post") == "NO"
    assert field_values(copy.content.headers, b"list-subscribe") == ()


@pytest.mark.covers("SMTP-8")
@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 10])
async def test_a_long_list_is_served_in_steps_each_member_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(distribution, "COPIES", 3)
    members = [f"m{number}@far.example" for number in range(count)]
    await rig.join(*members)
    first = await rig.send("staff")
    assert len(first.made) <= 4
    copies = await rig.drain(first)
    assert to(copies) == members
    assert len({octets(copy).partition(b"\r\n\r\n")[2] for copy in copies}) == min(count, 1)
    assert len({field_of(copy, "List-Unsubscribe") for copy in copies}) == count


async def test_large_posts_go_out_a_few_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "OCTETS", 5000)
    await rig.join(*(f"m{number}@far.example" for number in range(7)))
    first = await rig.send("staff", body=b"x" * 78 + b"\r\n" + b"y" * 2000 + b"\r\n")
    assert len(first.made) == 3
    assert len(await rig.drain(first)) == 7


@pytest.mark.covers("SMTP-8")
async def test_who_joins_or_leaves_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "COPIES", 1)
    await rig.join("a@far.example", "b@far.example", "c@far.example")
    first = await rig.send("staff")
    await rig.join("late@far.example")
    await rig.store.call(
        lambda store: store.leave("staff@alpha.example", first.made[0].envelope.recipients[0].address)
    )
    copies = await rig.drain(first)
    assert to(copies) == ["a@far.example", "b@far.example", "c@far.example"]


@pytest.mark.covers("SMTP-8")
async def test_a_step_that_is_made_again_makes_the_same_copies(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool stores a step's messages with its end, so a crash before that leaves nothing of it."""
    monkeypatch.setattr(distribution, "COPIES", 2)
    await rig.join(*(f"m{number}@far.example" for number in range(5)))
    first, repeated = await rig.send("staff"), await rig.send("staff")
    assert to(first.made) == to(repeated.made)
    assert to(await rig.drain(repeated)) == [f"m{number}@far.example" for number in range(5)]


async def test_the_rest_keeps_what_the_post_was(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "COPIES", 1)
    await rig.join("a@far.example", "b@far.example")
    _, rest = (await rig.send("staff", mpc="com/individual", login="eve")).made
    assert rest.envelope.recipients[0].route.startswith("list:members ")
    assert (str(rest.envelope.sender), rest.envelope.authenticated_as) == ("eve@far.example", "eve")
    assert str(rest.envelope.mpc) == "com/individual"
    assert (rest.trace, again(rest).content) == (TRACE, rest.content)


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_the_way_of_the_rest_is_read_back(after: int, up_to: int) -> None:
    way = parse_way(rest_route(after, up_to))
    assert isinstance(way, LocalWay)
    assert rest_of(way.instruction) == (after, up_to)


@pytest.mark.parametrize(
    "text", ["", "approved", "members 1", "members -1 2", "members 1 2 3", "members x y"]
)
def test_other_ways_are_no_rest(text: str) -> None:
    assert rest_of(text) is None


_FIELDS = st.lists(
    st.sampled_from(
        [
            b"From: a@b.example\r\n",
            b"List-Id: x\r\n",
            b"LIST-X:\r\n folded\r\n",
            b"MPC: a/b\r\n",
            b"junk\r\n",
            b"X: 1\r\n\t2\r\n",
        ]
    )
)


@pytest.mark.covers("SEC-80")
@given(_FIELDS, st.binary(max_size=40))
def test_only_the_fields_meant_are_taken_out(fields: list[bytes], tail: bytes) -> None:
    section = b"".join(fields) + b"\r\n" + tail
    kept = [field for field in fields if not field.lower().startswith((b"list-", b"mpc"))]
    assert kept_fields(section) == b"".join(kept) + b"\r\n" + tail


@given(st.binary(max_size=300))
def test_any_octets_are_a_header_section_to_us(section: bytes) -> None:
    kept = kept_fields(section)
    assert len(kept) <= len(section)
    assert not any(name.startswith(b"list-") for name in field_names(kept))
