"""Trust brokers are asked like lists: bounded in time, remembered, and their failure is silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from outrider.config.schema import Trust, TrustList
from outrider.reception.trust_lookups import SILENCE_REST_S, SILENCES_BEFORE_REST, TrustParts, TrustSource
from outrider.trust.brokers import MAX_DETAIL, BrokerAnswer
from outrider.trust.lists import TrustError, compile_lists
from outrider.trust.observer import NullTrustObserver
from outrider.trust.questions import Said
from outrider.trust.subjects import Role, Subject
from tests.reception.test_trust_lookups import Zones

CLIENT = Subject(Role.CLIENT, "192.0.2.1", True)
CLAIMED = Subject(Role.DOMAIN, "bank.example", False)


class Register:
    """A broker that does as it is told."""

    def __init__(self, answer: Callable[[Subject], BrokerAnswer]) -> None:
        self.answer = answer
        self.asked: list[Subject] = []
        self.hangs = False

    async def ask(self, subject: Subject) -> BrokerAnswer:
        self.asked.append(subject)
        if self.hangs:
            await asyncio.Event().wait()
        return self.answer(subject)


class Rig:
    """A source with one broker, and a clock that stands still."""

    def __init__(self, kind: str, answer: Callable[[Subject], BrokerAnswer]) -> None:
        self.register = Register(answer)
        self.now = 1000.0
        one = TrustList(kind=kind, source="chamber", weight=3, timeout=0.05)  # type: ignore[arg-type]
        lists = compile_lists(Trust(lists={"chamber": one}))
        self.source = TrustSource(
            TrustParts(
                lists,
                {},
                Zones({}),
                NullTrustObserver(),
                lambda: self.now,
                900.0,
                brokers={"chamber": self.register},
            )
        )

    async def said(self, subject: Subject = CLIENT) -> list[Said]:
        return [one.answer.said for one in (await self.source.assess([subject])).findings]


@pytest.mark.covers("ITP-3")
async def test_a_broker_blocks_and_is_remembered_for_as_long_as_it_says() -> None:
    rig = Rig("block-broker", lambda subject: BrokerAnswer(True, f"{subject.name} owes us", 30.0))
    assessment = await rig.source.assess([CLIENT])
    assert assessment.score == 3
    assert [str(one) for one in assessment.findings] == ["chamber 192.0.2.1 owes us (client 192.0.2.1)"]
    await rig.said()
    assert len(rig.register.asked) == 1
    rig.now += 31
    await rig.said()
    assert len(rig.register.asked) == 2


@pytest.mark.covers("ITP-3")
async def test_a_broker_vouches_for_what_is_proven_and_is_not_asked_about_claims() -> None:
    rig = Rig("vouch-broker", lambda _: BrokerAnswer(True))
    assert (await rig.source.assess([CLIENT])).score == -3
    assert await rig.said(CLAIMED) == []
    assert rig.register.asked == [CLIENT]


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize("failure", ["raises", "hangs"])
async def test_a_broker_that_fails_is_silent_and_rests(failure: str) -> None:
    def broken(_: Subject) -> BrokerAnswer:
        raise RuntimeError("the register is closed")

    rig = Rig("block-broker", broken)
    rig.register.hangs = failure == "hangs"
    for _ in range(SILENCES_BEFORE_REST + 2):
        assert await rig.said() == [Said.SILENT]
    assert len(rig.register.asked) == SILENCES_BEFORE_REST, "it was not left to rest"
    rig.now += SILENCE_REST_S + 1
    rig.register.hangs, rig.register.answer = False, lambda _: BrokerAnswer(False)
    assert await rig.said() == [Said.MISS]


async def test_what_a_broker_says_is_made_one_short_line() -> None:
    rig = Rig("block-broker", lambda _: BrokerAnswer(True, "a\r\nb\x1b" + "x" * 1000))
    [finding] = (await rig.source.assess([CLIENT])).findings
    assert finding.answer.detail == "ab" + "x" * (MAX_DETAIL - 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "block-broker", "source": ""}, "name of a broker"),
        ({"kind": "block-broker", "source": "x", "codes": ("127.0.0.2",)}, "a broker has options"),
        ({"kind": "dnsbl", "source": "bl.example", "options": {"a": 1}}, "options: are for brokers"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(TrustError, match=words):
        compile_lists(Trust(lists={"one": TrustList(**settings)}))  # type: ignore[arg-type]
