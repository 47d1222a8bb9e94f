"""MT2 connections cut behind every frame, on either side: no message is lost, none is taken twice."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable

import pytest
from tests.net.mt2_harness import CLIENT, SERVER, Site, hop, message, results, running
from tests.peers.certificates import CertificateAuthority

from outrider.delivery.interface import ConnectFailed, Job
from outrider.model.result import Kind
from outrider.net import mt2_opening, mt2_server
from outrider.net.mt2_connection import DrivenPeer
from outrider.protocols.mt2.events import BODY_TYPE
from outrider.protocols.mt2.options import Offer

_FRAME = re.compile(rb"\[[^\r\n]*\]\r\n|\{[0-9]+ ([0-9]+)\}\r\n")
PIECE = 65_536
BODY = b"0123456789abcde\n" * (4 * PIECE // 16 + 100)
MOST_FRAMES = 400


def frames_of(octets: bytes) -> list[bytes]:
    """The stream cut into its frames; a data frame in two, its head and its octets."""
    found: list[bytes] = []
    position = 0
    while position < len(octets):
        match = _FRAME.match(octets, position)
        if match is None:
            raise AssertionError(f"no frame at {octets[position : position + 40]!r}")
        found.append(match[0])
        position = match.end()
        if match[1] is not None:
            end = position + int(match[1])
            found.append(octets[position:end])
            position = end
    return found


class Cutting(DrivenPeer):
    """A core that falls silent behind a number of frames, and whose connection is closed then."""

    whole = b""
    cut_behind = MOST_FRAMES
    said = 0
    rest = 0

    def bytes_to_send(self) -> bytes:
        if self.cut_behind < 0:
            return b""
        octets = super().bytes_to_send()
        if self.rest:
            # Large data may come in pieces: its head has told how much.
            passed, self.rest = octets[: self.rest], self.rest - len(octets[: self.rest])
            return passed + self._counted(octets[len(passed) :])
        return self._counted(octets)

    def _counted(self, octets: bytes) -> bytes:
        kept: list[bytes] = []
        for frame in frames_of(octets):
            if self.said == self.cut_behind:
                self.cut_behind = -1
                self.is_closed = True
                break
            self.said += 1
            kept.append(frame)
        passed = b"".join(kept)
        head = _FRAME.match(kept[-2]) if len(kept) > 1 else None
        if head is not None and head[1] is not None:
            self.rest = int(head[1]) - len(kept[-1])
        return passed


def cutting(behind: int) -> Callable[..., type[Cutting]]:
    """The first connection is cut behind that many frames, later ones are whole."""
    left = [behind]

    class First(Cutting):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[arg-type]
            if left:
                self.cut_behind = left.pop()

    return lambda: First


async def carried(client: Site, where: str, jobs: list[Job]) -> int:
    """Send until everything is there; how many connections that took."""
    waiting = list(jobs)
    for tries in range(1, 6):
        try:
            connection = await client.connect(hop(where))
        except ConnectFailed:
            continue
        done = await asyncio.gather(*(connection.send(one) for one in waiting))
        waiting = [
            one for one, sent in zip(waiting, done, strict=True) if results(sent)[0].kind is Kind.DEFERRED
        ]
        if not waiting:
            await connection.close()
            return tries
        connection.abort()
    raise AssertionError("it did not come through")


async def all_cuts(
    server: Site, client: Site, monkeypatch: pytest.MonkeyPatch, module: object
) -> tuple[int, set[int]]:
    """Cut behind each frame in turn, until there is none to cut behind; how many there were."""
    offsets: set[int] = set()
    for behind in range(MOST_FRAMES):
        monkeypatch.setattr(module, "DrivenPeer", cutting(behind)())
        before = len(server.reception.committed)
        jobs = [message(f"{behind}-{number}") for number in range(3)] + [message(f"{behind}-large", BODY)]
        tries = await carried(client, server.address, jobs)
        taken = server.reception.committed[before:]
        assert Counter(one.transfer for one in taken) == {f"{one.message.id}@{CLIENT}": 1 for one in jobs}
        large = next(one for one in taken if "large" in one.transfer)
        assert bytes(large.objects[BODY_TYPE].octets).endswith(BODY)
        if tries == 1:
            return behind, offsets
    raise AssertionError("more frames than anybody expects")


@pytest.fixture
def server(address: str, authority: CertificateAuthority) -> Site:
    return Site(SERVER, address, authority)


@pytest.fixture
def client(authority: CertificateAuthority) -> Site:
    return Site(CLIENT, "", authority, wanted=Offer(pipe=True, window=4 * PIECE, maxpart=PIECE, inflight=96))


@pytest.mark.covers("MT2-18a", "MT2-18b")
@pytest.mark.parametrize("module", [mt2_opening, mt2_server], ids=["client", "server"])
async def test_no_message_is_lost_and_none_taken_twice(
    server: Site, client: Site, monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    async with running(server):
        frames, _ = await all_cuts(server, client, monkeypatch, module)
    assert frames > 20
    assert any(line.startswith("status ") for line in server.reception.log)
