"""SRV records: order, weights, ports that are hearsay, and ourselves among the targets (RFC 2782, AMTP-7)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.routing.mail_exchangers import MAX_EXCHANGERS, NoWay, Ourselves
from outrider.routing.services import Service, believable_port, candidates, order_of

PORT = 10_125
US = Ourselves(frozenset({"mx.us.example"}))


def services(*records: tuple[int, int, str]) -> list[Service]:
    return [Service(priority, weight, PORT, target) for priority, weight, target in records]


def chosen(records: Sequence[Service], ourselves: Ourselves = US) -> list[str] | NoWay:
    found = candidates("b.example", records, ourselves, lambda: 0.5, protocol="amtp", own_port=PORT)
    return found if isinstance(found, NoWay) else [one.target for one in found]


@given(
    st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 65_535), st.integers(0, 9)), max_size=30),
    st.randoms(use_true_random=False),
)
@pytest.mark.covers("AMTP-7", "SEC-162")
def test_every_server_has_one_place_and_priorities_ascend(
    records: list[tuple[int, int, int]], chance: random.Random
) -> None:
    given_ones = services(*((priority, weight, f"h{name}") for priority, weight, name in records))
    ordered = order_of(given_ones, chance.random)
    assert Counter(ordered) == Counter(given_ones)
    assert all(one.priority <= other.priority for one, other in pairwise(ordered))


@pytest.mark.covers("AMTP-7")
def test_weights_decide_how_often_a_server_comes_first() -> None:
    chance = random.Random(2782)
    records = services((10, 60, "big"), (10, 30, "middle"), (10, 10, "small"), (20, 1000, "backup"))
    firsts = Counter(order_of(records, chance.random)[0].target for _ in range(20_000))
    assert set(firsts) == {"big", "middle", "small"}
    for name, share in (("big", 0.6), ("middle", 0.3), ("small", 0.1)):
        assert abs(firsts[name] / 20_000 - share) < 0.02, firsts


@pytest.mark.covers("AMTP-7")
def test_weight_zero_comes_first_now_and_then_beside_others_and_equally_among_its_like() -> None:
    chance = random.Random(1)
    beside = Counter(
        order_of(services((0, 0, "zero"), (0, 9, "nine")), chance.random)[0].target for _ in range(5000)
    )
    assert 0 < beside["zero"] < 1000
    alike = Counter(
        order_of(services((0, 0, "one"), (0, 0, "two")), chance.random)[0].target for _ in range(5000)
    )
    assert min(alike.values()) > 2000


@pytest.mark.covers("SEC-162")
@pytest.mark.parametrize(
    ("port", "believed"),
    [(0, False), (25, False), (22, False), (443, False), (1023, False), (1024, True), (65_535, True)],
)
def test_a_port_below_1024_is_believed_only_if_it_is_the_services_own(port: int, believed: bool) -> None:
    assert believable_port(port, PORT) is believed
    assert believable_port(port, own=port)


@pytest.mark.covers("SEC-162", "AMTP-7")
def test_records_that_name_only_such_ports_lead_nowhere_and_say_so() -> None:
    found = chosen([Service(0, 0, 25, "victim.example"), Service(0, 0, 22, "victim.example")])
    assert isinstance(found, NoWay)
    assert found.status == "4.4.4"
    mixed = chosen([Service(0, 0, 25, "victim.example"), Service(5, 0, PORT, "mx.b.example")])
    assert mixed == ["mx.b.example"]


@pytest.mark.covers("SEC-159", "AMTP-7")
def test_a_thousand_servers_are_cut_to_a_few() -> None:
    found = chosen(services(*((number, 1, f"h{number}") for number in range(1000))))
    assert found == [f"h{number}" for number in range(MAX_EXCHANGERS)]


@pytest.mark.covers("AMTP-7", "AMTP-21")
def test_a_backup_sends_only_to_those_better_than_itself() -> None:
    records = services((10, 1, "best"), (20, 1, "MX.us.example"), (20, 1, "equal"), (30, 1, "worse"))
    assert chosen(records) == ["best"]


@pytest.mark.covers("AMTP-7", "SEC-168")
def test_the_best_server_of_a_domain_that_we_do_not_serve_is_a_loop() -> None:
    found = chosen(services((10, 1, "mx.us.example"), (20, 1, "other")))
    assert isinstance(found, NoWay)
    assert found.status == "5.4.6"
