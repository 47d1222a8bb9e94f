"""Loopback addresses that no other test uses at the same time.

Every peer and every server under test gets an address of its own in 127.0.0.0/8, so fixed port numbers
(25, 2525, 53) are free on it and logs tell the hosts apart.
"""

from __future__ import annotations

import itertools
import socket

# 127.0 to 127.9 are left to hand-written tests and the playground; 127.255 is the broadcast end.
_FIRST_NET, _LAST_NET = 10, 250
_counter = itertools.count(1)
_PORTS_EACH = 90
_ports = itertools.count()
# Held while this process lives.
_lease: socket.socket | None = None
_net = 0


def loopback_address() -> str:
    """Return a fresh address 127.x.y.z; x belongs to this process alone, so parallel runs never meet."""
    if _lease is None:
        _take_net()
    number = next(_counter)
    if number >= 250 * 250:
        raise RuntimeError("this process has used all of its loopback addresses")
    return f"127.{_net}.{number // 250}.{number % 250 + 1}"


def shared_address_port() -> int:
    """Return a port that no other test uses on 127.0.0.1, for servers that can listen on no other address.

    Below the ephemeral range, so no client's connection holds it by chance.
    """
    if _lease is None:
        _take_net()
    return 10_000 + (_net - _FIRST_NET) * _PORTS_EACH + next(_ports) % _PORTS_EACH


def _take_net() -> None:
    """Lease the second number of our addresses by the name of a socket, freed by the system when we end."""
    global _lease, _net
    for net in range(_FIRST_NET, _LAST_NET):
        lease = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lease.bind(f"\0outrider-test-addresses-{net}")
        except OSError:
            lease.close()
            continue
        _lease, _net = lease, net
        return
    raise RuntimeError("all loopback nets are in use by other test runs")
