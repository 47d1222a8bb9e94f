"""A list's settings: read, and every mistake named by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.lists.gate import class_refusal, posting_refusal, size_refusal, waits_for_moderator
from outrider.lists.settings import MailList, load_lists
from outrider.model.address import parse_address
from outrider.model.envelope import Arrival
from outrider.model.mpc import LEGAL, MailClass
from tests.lists.support import make_config

EVE = parse_address("eve@far.example")


def staff(**settings: Any) -> MailList:
    return load_lists(make_config(Path("/nonexistent"), **settings))["staff@alpha.example"]


def test_what_is_read() -> None:
    one = staff(mpc="COM/OptIn", owners=("ann", "x@far.example"), moderators=("Mod@far.example",))
    assert (one.name, one.list_id, str(one.mpc)) == (
        "staff@alpha.example",
        "staff.alpha.example",
        "com/optin",
    )
    assert [str(owner) for owner in one.owners] == ["ann@alpha.example", "x@far.example"]
    assert parse_address("mod@FAR.example").key in one.moderators
    assert str(one.answers_as) == "com/autoresponse"


@pytest.mark.covers("AMTP-16")
@pytest.mark.parametrize("mpc", LEGAL, ids=str)
def test_a_list_sends_as_one_of_four_classes(mpc: object) -> None:
    bulk = str(mpc).endswith(("/optin", "/optout", "/confirmed", "/customer"))
    if bulk:
        assert staff(mpc=str(mpc)).mpc == mpc
    else:
        with pytest.raises(ValueError, match=r'domains\."alpha\.example"\.lists\."staff"\.mpc: '):
            staff(mpc=str(mpc))


@pytest.mark.parametrize(
    "settings",
    [
        {"mpc": "nonsense"},
        {"mpc": "com/nonsense"},
        {"moderators": ("no address@",)},
        {"posting": "moderators"},
        {"moderated": True},
    ],
)
def test_mistakes_are_named_by_their_key(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r'^domains\."alpha\.example"\.lists\."staff"\.'):
        staff(**settings)


@pytest.mark.covers("AMTP-16")
@pytest.mark.parametrize("mpc", [None, *LEGAL], ids=str)
def test_the_class_of_a_post_counts_on_public_connections_alone(mpc: Any) -> None:
    individual = mpc is not None and mpc.mail_class is MailClass.INDIVIDUAL
    assert (class_refusal(mpc, Arrival.AMTP_PUBLIC) is None) is individual
    assert class_refusal(mpc, Arrival.AMTP_PRIVATE) is None
    assert class_refusal(mpc, Arrival.OTHER) is None


@pytest.mark.parametrize(
    ("posting", "is_member", "is_moderator", "taken"),
    [
        ("anyone", False, False, True),
        ("members", False, False, False),
        ("members", True, False, True),
        ("members", False, True, True),
        ("moderators", True, False, False),
        ("moderators", False, True, True),
    ],
)
def test_who_may_post(posting: str, is_member: bool, is_moderator: bool, taken: bool) -> None:
    one = staff(posting=posting, moderators=("eve@far.example",) if is_moderator else ("mod@far.example",))
    refusal = posting_refusal(one, EVE, is_member=is_member)
    assert (refusal is None) is taken
    if refusal is not None:
        assert str(refusal) == "550 5.7.2 You may not post to this list"


def test_size_and_moderation() -> None:
    assert size_refusal(staff(max_size=10), 10) is None
    assert size_refusal(staff(max_size=10), 0) is None
    assert str(size_refusal(staff(max_size=10), 11)).startswith("552 5.3.4 ")
    moderated = staff(moderated=True, moderators=("eve@far.example",))
    assert waits_for_moderator(moderated, parse_address("x@far.example"), is_proven=True)
    assert waits_for_moderator(moderated, EVE, is_proven=False)
    assert not waits_for_moderator(moderated, EVE, is_proven=True)
    assert not waits_for_moderator(staff(), EVE, is_proven=False)
