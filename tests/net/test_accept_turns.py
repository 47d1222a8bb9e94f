"""Who of several workers takes the next connection."""

from __future__ import annotations

import asyncio
import socket

import pytest

from outrider.net.accept_turns import AcceptTurns
from outrider.net.listener import AcceptedConnection, Listener, ListenerSettings
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.listener_sockets import open_socket


@pytest.mark.parametrize(
    ("own", "everybody", "workers", "is_others"),
    [
        (0, 0, 2, False),
        (1, 1, 2, False),
        (2, 2, 2, False),
        (3, 3, 2, True),
        (10, 19, 2, False),
        (11, 20, 2, False),
        (12, 21, 2, True),
        (5, 12, 3, False),
        (6, 12, 3, True),
        (0, 100, 4, False),
    ],
)
def test_a_worker_with_more_than_its_share_leaves_the_next(
    own: int, everybody: int, workers: int, is_others: bool
) -> None:
    assert AcceptTurns(lambda: own, lambda: everybody, workers).is_others() is is_others


@pytest.mark.parametrize(
    ("own", "everybody", "may_rest"),
    [(0, 0, True), (0, 1, True), (1, 1, False), (0, 2, False), (1, 2, False)],
)
def test_an_idle_worker_rests_while_one_will_do(own: int, everybody: int, may_rest: bool) -> None:
    assert AcceptTurns(lambda: own, lambda: everybody, 2).may_rest() is may_rest


class Greeter(asyncio.Protocol):
    """Says who took the connection."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name)


def listener(shared: socket.socket, name: bytes, turns: AcceptTurns) -> Listener:
    """One that accepts at a socket which others have too."""

    def greeter(_: AcceptedConnection) -> Greeter:
        return Greeter(name)

    limits = ConnectionLimits(total=0, per_address=0)
    return Listener(shared.dup(), greeter, ListenerSettings(name.decode()), limits, turns=turns)


async def test_what_is_left_to_others_is_taken_by_them_or_else_after_all(address: str) -> None:
    shared = open_socket(address, 0)
    port = shared.getsockname()[1]
    full = listener(shared, b"full", AcceptTurns(lambda: 10, lambda: 10, 2))
    idle = listener(shared, b"idle", AcceptTurns(lambda: 0, lambda: 10, 2))
    full.start()
    reader, writer = await asyncio.open_connection(address, port)
    assert await reader.readexactly(4) == b"full", "nobody else was there"
    writer.close()
    idle.start()
    for _ in range(20):
        reader, writer = await asyncio.open_connection(address, port)
        assert await reader.readexactly(4) == b"idle"
        writer.close()
    await idle.stop(5)
    reader, writer = await asyncio.open_connection(address, port)
    assert await reader.readexactly(4) == b"full"
    writer.close()
    await full.stop(5)
    shared.close()


async def greetings(address: str, port: int, number: int) -> list[bytes]:
    """Who answers, connection after connection, each closed before the next."""
    heard = []
    for _ in range(number):
        reader, writer = await asyncio.open_connection(address, port)
        heard.append(await reader.readexactly(4))
        writer.close()
        await writer.wait_closed()
    return heard


async def test_a_worker_that_rests_accepts_again_when_the_other_is_gone(address: str) -> None:
    shared = open_socket(address, 0)
    port = shared.getsockname()[1]
    # In one loop both are woken for each connection, and one of them comes too late.
    one = listener(shared, b"one ", AcceptTurns(lambda: 0, lambda: 0, 2))
    two = listener(shared, b"two ", AcceptTurns(lambda: 0, lambda: 0, 2))
    one.start()
    two.start()
    assert set(await greetings(address, port, 20)) <= {b"one ", b"two "}
    await one.stop(5)
    assert set(await greetings(address, port, 5)) == {b"two "}
    await two.stop(5)
    shared.close()
