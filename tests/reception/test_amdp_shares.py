"""AMDP-5b: what `[90AMDP] [10SMTP]` does when the server is nearly full."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from outrider.reception.amdp_shares import WAITING_S, WorkShares

pytestmark = pytest.mark.covers("AMDP-5b")


@dataclass
class Crowd:
    """Clients of both kinds at one door."""

    share: int
    stressed: bool = True
    now: float = 1000.0
    shares: WorkShares = field(init=False)

    def __post_init__(self) -> None:
        self.shares = WorkShares(self.share, lambda: self.stressed, lambda: self.now)

    def ask(self, amdp: int, smtp: int, times: int = 1) -> tuple[int, int]:
        """So many of each ask, in turn; how many were let in."""
        entered = {True: 0, False: 0}
        for _ in range(times):
            for kind, count in ((True, amdp), (False, smtp)):
                for _ in range(count):
                    self.now += 0.001
                    entered[kind] += self.shares.admits(amdp=kind)
        return entered[True], entered[False]


@pytest.mark.parametrize("share", [90, 50, 10, 99, 1])
def test_two_kinds_that_both_want_more_have_their_shares(share: int) -> None:
    amdp, smtp = Crowd(share).ask(1, 1, times=5000)
    assert max(amdp, smtp) == 5000
    assert share - 1 <= 100 * amdp / (amdp + smtp) <= share + 1


@pytest.mark.parametrize(("amdp", "smtp"), [(1, 0), (0, 1)])
def test_a_kind_without_competition_has_everything(amdp: int, smtp: int) -> None:
    assert sum(Crowd(90).ask(amdp, smtp, times=500)) == 500


def test_without_stress_everybody_comes_in() -> None:
    crowd = Crowd(90, stressed=False)
    assert crowd.ask(1, 50, times=10) == (10, 500)


def test_who_has_gone_does_not_keep_his_place() -> None:
    crowd = Crowd(90)
    crowd.ask(100, 1)
    assert crowd.ask(0, 100)[1] < 100
    crowd.now += WAITING_S
    assert crowd.ask(0, 100) == (0, 100)


def test_who_comes_late_is_not_owed_the_past() -> None:
    """A newsletter that begins after an hour of ordinary mail does not shut that out for an hour."""
    crowd = Crowd(50)
    assert crowd.ask(0, 5000) == (0, 5000)
    amdp, smtp = crowd.ask(1, 1, times=200)
    assert amdp == 200
    assert smtp >= 198


def test_a_hundred_percent_is_the_end_of_the_other() -> None:
    assert Crowd(100).shares.only_amdp
    assert not Crowd(99).shares.only_amdp
