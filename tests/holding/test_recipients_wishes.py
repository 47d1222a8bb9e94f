"""What a recipient has said about whose mail he wants decides on his envelopes (AMDP-19, AMDP-22)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.holding.subscriptions.wishes import Standing
from outrider.model.address import Address
from outrider.model.result import Kind
from outrider.protocols.amdp.mail_class import parse_class
from tests.holding.incoming_support import octets_of, rig

BULK = parse_class("Agent::Bulk::newsletter")


class Said:
    """One person's word on all mail."""

    def __init__(self, standing: Standing | None) -> None:
        self._standing = standing
        self.asked: list[tuple[str, str, str, bool]] = []

    async def standing(
        self, recipient: Address, sender: Address, mail_class: str, *, vouched: bool
    ) -> Standing | None:
        self.asked.append((str(recipient), str(sender), mail_class, vouched))
        return self._standing


@pytest.mark.covers("AMDP-19", "AMDP-22")
async def test_a_newsletter_that_somebody_has_subscribed_to_is_fetched_for_him(tmp_path: Path) -> None:
    wishes = Said(Standing.ACCEPT)
    async with rig(tmp_path, wishes=wishes) as site:
        envelope = site.envelope(mail_class=BULK)
        site.arrive(mail_class=BULK)
        await site.run()
        site.now += 120.0  # bulk mail is fetched within the window
        await site.run()
        assert wishes.asked[0] == (str(envelope.recipient), str(envelope.sender), str(BULK), False)
        [message] = site.fetched()
        assert not octets_of(message).startswith(b"AMDP-")
        assert site.delivered == []


@pytest.mark.covers("AMDP-19", "AMDP-10")
async def test_what_he_does_not_want_is_dropped_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    async with rig(tmp_path, wishes=Said(Standing.DENY)) as site:
        site.arrive()
        await site.run()
        assert site.last.kind is Kind.DROPPED
        assert "not wanted" in site.last.text
        assert (site.delivered, site.fetched(), site.holder.calls) == ([], [], [])


@pytest.mark.covers("AMDP-19")
async def test_where_he_has_said_nothing_the_rules_of_the_site_decide(tmp_path: Path) -> None:
    async with rig(tmp_path, wishes=Said(None)) as site:
        site.arrive(mail_class=BULK)
        await site.run()
        assert (len(site.delivered), site.fetched()) == (1, [])


@pytest.mark.covers("AMDP-19", "AMDP-22")
async def test_a_wish_does_not_lift_what_the_site_denies(tmp_path: Path) -> None:
    async with rig(tmp_path, denied=("alpha.example",), wishes=Said(Standing.ACCEPT)) as site:
        site.arrive()
        await site.run()
        assert site.last.kind is Kind.DROPPED
