"""The incoming gateway killed between any two steps: each outcome whole, once, and nothing left locked."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.holding.web import CallFailed
from outrider.protocols.amdp.mail_class import parse_class
from tests.holding.incoming_support import BODY, octets_of, rig

FAR = 200
"""More than there are steps."""


@pytest.mark.covers("AMDP-9", "SEC-188")
async def test_killed_while_an_envelope_is_handed_over(tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        for kill_at in range(1, FAR):
            envelope = site.envelope(kill_at, mail_class=parse_class("Agent::Bulk::news"))
            site.arrive(kill_at, mail_class=envelope.mail_class)
            killed = await site.survive(kill_at)
            assert len(site.delivered) == kill_at, site.results[-1]
            assert envelope.id.encode() in octets_of(site.delivered[-1])
            assert site.holder.held[envelope.id].burnt
            if not killed:
                break
        assert 8 < kill_at < FAR


@pytest.mark.covers("AMDP-11", "AMDP-23", "SEC-188")
@pytest.mark.parametrize("size", [0, 200_000], ids=["small", "large"])
async def test_killed_while_a_message_is_fetched(tmp_path: Path, size: int) -> None:
    async with rig(tmp_path) as site:
        site.holder.piece = 65_536
        for kill_at in range(1, FAR):
            content = BODY + b"%d\r\n" % kill_at + b"0123456789\r\n" * (size // 12)
            envelope = site.envelope(kill_at, content)
            site.arrive(kill_at, content=content, digest=envelope.digest)
            killed = await site.survive(kill_at)
            stored = site.fetched()
            assert len(stored) == kill_at, site.results[-1]
            assert octets_of(stored[-1]) == content
            assert site.holder.held[envelope.id].receipts >= 1
            assert site.delivered == []
            if not killed:
                break
        assert 18 < kill_at < FAR


@pytest.mark.covers("SEC-188", "SEC-189")
async def test_the_holder_dies_between_any_two_calls(tmp_path: Path) -> None:
    """It answers so many calls, then is away for a while, or what it said last is lost on the way."""
    async with rig(tmp_path) as site:
        for lost_at in range(8):
            envelope = site.envelope(lost_at + 1)
            site.arrive(lost_at + 1)
            calls = 0

            def answers(path: str, body: bytes) -> bytes:
                nonlocal calls
                calls += 1
                if calls == lost_at:  # noqa: B023 - called within this round
                    raise CallFailed("the connection broke")
                return body

            site.holder.answers = answers
            for _ in range(5):
                await site.run()
                site.now += 3600
            assert site.queue == []
            assert len(site.fetched()) == lost_at + 1
            assert site.holder.held[envelope.id].receipts >= 1
        assert site.delivered == []
