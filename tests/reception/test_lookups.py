"""Look-ups in advance: bounded in number and time, given up at the end, faults reported."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from outrider.reception import lookups
from outrider.reception.lookups import ClientNames, FactSource
from outrider.reception.settings import Networks, ReceptionSettingsError
from tests.reception.rig import FRIEND, Recorder, Rig, SetLookup
from tests.reception.test_policy_stages import fresh


class Hanging(SetLookup):
    """Never answers about clients."""

    async def client_names(self, address: object) -> ClientNames:
        self.asked.append(f"PTR {address}")
        await asyncio.Event().wait()
        return ClientNames()


async def test_what_is_begun_is_given_up_at_the_end() -> None:
    source = FactSource(Hanging(), Recorder(), lambda: 0.0, 60.0)
    source.begin(fresh())
    await asyncio.sleep(0)
    await asyncio.wait_for(source.close(), 5)
    assert not source._pending


@pytest.mark.covers("SMTP-9")
async def test_a_flood_of_clients_does_not_become_a_flood_of_look_ups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "MAX_PENDING", 5)
    lookup = Hanging()
    source = FactSource(lookup, Recorder(), lambda: 0.0, 60.0)
    for number in range(20):
        session = fresh()
        session.id = f"S{number}"
        source.begin(session)
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert len(lookup.asked) == 5
    await source.close()


@pytest.mark.covers("SEC-154")
async def test_silence_is_bounded_in_time() -> None:
    recorder = Recorder()
    session = fresh()
    await FactSource(Hanging(), recorder, lambda: 0.0, 0.01).fetch(["client.ptr"], session, session.facts)
    assert recorder.lookups_failed == ["client.ptr"]
    assert session.facts.value("lookup.failed") == ("client.ptr",)


async def test_a_fault_in_a_look_up_is_reported() -> None:
    rig = Rig()

    async def fault(address: object) -> ClientNames:
        raise ZeroDivisionError

    rig.lookup.client_names = fault  # type: ignore[method-assign]
    await rig.session()
    await asyncio.sleep(0.01)
    assert [stage for stage, _ in rig.observer.failures] == ["connect"]


async def test_nobody_looks_trusted_clients_up() -> None:
    rig = Rig()
    assert (await rig.send(await rig.session(FRIEND))).code == 250
    await asyncio.sleep(0)
    assert rig.lookup.asked == []


def test_networks() -> None:
    networks = Networks.of("relay.networks", ["192.0.2.0/24", "2001:db8::/32"])
    assert ip_address("192.0.2.1") in networks
    assert ip_address("::ffff:192.0.2.1") in networks
    assert ip_address("2001:db8::1") in networks
    assert ip_address("198.51.100.1") not in networks
    assert None not in networks
    with pytest.raises(ReceptionSettingsError, match=r"relay\.networks"):
        Networks.of("relay.networks", ["192.0.2.1/24"])
