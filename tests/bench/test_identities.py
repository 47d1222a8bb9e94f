"""Hosts that come again are known: nothing is looked up twice, and memory does not follow the connections."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.identities import measure, numbered


@pytest.mark.covers("AMTP-2a")
async def test_hosts_that_come_again_cost_no_question_to_dns(tmp_path: Path) -> None:
    before, first, second, third = await measure(hosts=6, rounds=3, folder=tmp_path)
    assert before.questions == 0
    # A name for the address, and an address for the name.
    assert first.questions >= 12
    assert first.questions == second.questions == third.questions
    assert [one.connections for one in (first, second, third)] == [6, 12, 18]
    assert third.memory_mib > 0


def test_every_host_has_an_address_of_its_own() -> None:
    hosts = list(numbered(1000))
    assert len({name for name, _ in hosts}) == len({address for _, address in hosts}) == 1000
    assert hosts[250] == ("host250.client.example", "127.8.1.1")
