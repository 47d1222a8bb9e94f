"""How each worker stands, as another process wrote it."""

from __future__ import annotations

import os

import pytest

from outrider.runtime.roster import Roster, RosterEntry, Standing


def test_what_one_process_writes_another_reads() -> None:
    roster = Roster(3)
    assert roster.read(3) == RosterEntry(Standing.DOWN, 0, 0)
    child = os.fork()
    if child == 0:
        roster.write(1, RosterEntry(Standing.READY, 2**22, 7))
        roster.write(3, RosterEntry(Standing.GIVEN_UP, 0, 4))
        os._exit(0)
    os.waitpid(child, 0)
    assert roster.read(1) == RosterEntry(Standing.READY, 2**22, 7)
    assert roster.read(2) == RosterEntry(Standing.DOWN, 0, 0)
    assert roster.read(3) == RosterEntry(Standing.GIVEN_UP, 0, 4)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_there_are_no_other_workers(number: int) -> None:
    with pytest.raises(IndexError):
        Roster(2).read(number)
