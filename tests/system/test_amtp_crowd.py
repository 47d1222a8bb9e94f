"""A crowd at an AMTP server: 10,000 connections of 1,000 hosts with certificates of their own."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.identity.openssl import Made
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.system.amtp_callers import Caller, World

HOSTS = 1_000
CONNECTIONS = 10_000
AT_ONCE = 8
MOST_GROWTH = 64 * 1024 * 1024
"""For what is remembered of the hosts: chains (about a kilobyte each), names, counters."""


@dataclass(frozen=True, slots=True)
class _Host:
    name: str
    caller: Caller


@pytest.mark.long
@pytest.mark.covers("AMTP-2a", "SEC-155")
def test_ten_thousand_connections_of_a_thousand_hosts_stay_within_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    authority = CertificateAuthority(tmp_path / "authority")
    hosts = [_host(world, authority, f"h{number}.crowd.example") for number in range(HOSTS)]
    with world.name_server() as dns:
        ca = [str(world.public.certificate), str(authority.authority)]
        settings = world.settings(dns, tls={"public_ca": ca}, limits={"connections": 500})
        with OutriderServer(settings) as server:
            before = _resident(server.pid)
            _call_all(world.address, hosts)
            known = _resident(server.pid)
            later = []
            for _ in range(CONNECTIONS // HOSTS - 1):
                _call_all(world.address, hosts)
                later.append(_resident(server.pid))
            assert server.log_events("amtp_refused") == []
    with capsys.disabled():
        shown = ", ".join(str(one >> 20) for one in (known, *later))
        print(f"\n{before >> 20} MiB resident at first; after each further {HOSTS} connections: {shown}")
    assert known - before < MOST_GROWTH
    assert later[-1] - known < MOST_GROWTH // 4


def _host(world: World, authority: CertificateAuthority, name: str) -> _Host:
    files = authority.issue(name)
    caller = Caller(loopback_address(), Made(files.certificate, files.key))
    world.know(caller.address, name)
    return _Host(name, caller)


def _call_all(address: str, hosts: Iterable[_Host]) -> None:
    def call(host: _Host) -> int:
        with host.caller.connect(address) as link:
            code = link.code(f"EHLO {host.name}")
            link.code("QUIT")
            return code

    with ThreadPoolExecutor(AT_ONCE) as callers:
        assert set(callers.map(call, hosts)) == {250}


def _resident(pid: int) -> int:
    """Octets that the process has in memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096
