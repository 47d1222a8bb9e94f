"""The lies of the playground: one for each field, and each ends where it should by the form alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider.playground.amdp_liar import envelope_of
from outrider.playground.amdp_lies import MALLORY, TRUTH, End, Lie, lies
from outrider.playground.held_pages import link_in
from outrider.protocols.amdp.envelope import EnvelopeError, read_envelope
from outrider.protocols.amdp.envelope_fields import FIELDS

NOW = 1_800_000_000
ID = "q" * 26
SERVED = b"From: <m@mallory.example>\r\n\r\nThis is true.\r\n"
TOLD = lies(NOW)


def _written(lie: Lie) -> bytes:
    return envelope_of(lie, ID, "An offer", SERVED, NOW)


@pytest.mark.covers("AMDP-4a", "AMDP-8")
def test_there_is_a_lie_for_every_field_of_an_envelope() -> None:
    lied_in = {field.strip() for lie in TOLD for field in lie.name.split(",")}
    assert {f"AMDP-{name}" for name in FIELDS} - lied_in == set()
    assert {"From", "AMDP-Verified-From", "the text", "the message's From"} <= lied_in


def test_there_is_a_lie_for_every_field_that_the_critic_asks_about() -> None:
    page = Path(__file__).parents[2] / "docs" / "protocols" / "amdp-fields.md"
    table = page.read_text("utf-8").partition("## The envelope")[2].partition("\n## ")[0]
    asked = set(re.findall(r"^\| `(AMDP-[A-Za-z-]+)`", table, re.MULTILINE))
    assert len(asked) > 20
    assert asked <= {field.strip() for lie in TOLD for field in lie.name.split(",")}


@pytest.mark.parametrize(
    "lie", [one for one in TOLD if one.end is not End.REFUSED], ids=lambda lie: f"{lie.name}: {lie.says}"
)
def test_what_is_not_refused_in_the_session_is_in_order(lie: Lie) -> None:
    headers = _written(lie).partition(b"\r\n\r\n")[0] + b"\r\n"
    assert read_envelope(headers).subject == "An offer"


def test_a_lie_by_hand_is_written() -> None:
    lie = next(one for one in TOLD if one.name == "AMDP-Version")
    octets = _written(lie)
    assert octets.count(b"AMDP-Version:") == octets.count(b"AMDP-Version: 2.0\r\n") == 1
    with pytest.raises(EnvelopeError):
        read_envelope(octets.partition(b"\r\n\r\n")[0] + b"\r\n")
    trust = next(one for one in TOLD if one.name == "AMDP-Trust")
    assert _written(trust).startswith(b"AMDP-Trust: all\r\n")


def test_the_truth_comes_first_and_the_link_is_found(tmp_path: Path) -> None:
    assert (TOLD[0].name, TOLD[0].end) == (TRUTH, End.FETCHED)
    path = tmp_path / "envelope"
    path.write_bytes(_written(TOLD[0]).replace(b"\r\n", b"\n"))
    assert MALLORY.encode() in path.read_bytes()
    assert link_in(path) == f"https://mhf-1.mallory.example:10443/m/{ID}"
    path.write_bytes(b"Subject: none\n\nnothing\n")
    assert link_in(path) == ""
