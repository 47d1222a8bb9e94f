"""Queue ids: short, sortable, of one alphabet."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from outrider.reception.ids import id_maker, make_id


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.integers(0, 2**30 - 1), st.integers(0, 2**30 - 1))
def test_order_of_ids_is_order_of_time(earlier: float, later: float, chance: int, other: int) -> None:
    one, two = make_id(earlier, chance), make_id(later, other)
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{15}", one)
    if int(earlier * 1000) < int(later * 1000):
        assert one < two


def test_chance_fills_the_end() -> None:
    make = id_maker(lambda bits: (1 << bits) - 1)
    assert make(0.0) == "000000000ZZZZZZ"
    assert make_id(1.0, 5) != make_id(1.0, 6)
