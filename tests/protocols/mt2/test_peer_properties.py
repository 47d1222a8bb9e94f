"""Any split of the octets, any mix of transfers, any damage: what must hold whatever comes (MT2-6,
MT2-18c)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.mt2.pair import GENEROUS, NO_NONCE, NOW, Pair, Taker, events, identified, message

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.events import (
    ENVELOPE_TYPE,
    Answered,
    Greeted,
    Mt2Event,
    ObjectOctets,
    OutgoingObject,
    PeerSettings,
    SessionEnded,
    Takes,
)
from outrider.protocols.mt2.options import Offer
from outrider.protocols.mt2.peer import Mt2Peer

SMALL = Offer(pipe=True, window=3000, maxpart=1000, inflight=24, trace=True)


def chooser(seed: int) -> Callable[[int], int]:
    """How many octets arrive together: mostly few, now and then all."""
    chance = random.Random(seed)

    def choose(available: int) -> int:
        return available if chance.random() < 0.1 else chance.randint(1, max(1, min(available, 700)))

    return choose


def joined(log: list[Mt2Event]) -> list[object]:
    """Events with neighbouring octets of one fragment put together: where they are cut is not said."""
    out: list[object] = []
    for event in log:
        last = out[-1] if out else None
        if (
            isinstance(event, ObjectOctets)
            and isinstance(last, ObjectOctets)
            and last.tag == event.tag
            and not last.fragment_ended
        ):
            out[-1] = ObjectOctets(
                event.tag,
                event.transfer_id,
                event.media_type,
                last.octets + event.octets,
                event.fragment_ended,
                event.object_ended,
            )
        else:
            out.append(event)
    return out


def conversation() -> Pair:
    """A connection with small and large messages, a question and an end."""
    both = identified(SMALL, server_offer=SMALL)
    for number in range(4):
        body = b"b" * 25_000 * number
        both.client.peer.transfer(f"c{number}", message(f"c{number}", b"h" * 300, body), NOW)
    both.run()
    both.client.peer.stat("c1", NOW)
    both.client.peer.quit(NOW)
    both.run()
    return both


@pytest.mark.covers("MT2-6", "MT2-7")
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_split_of_the_octets_gives_the_same_events(seed: int) -> None:
    whole = conversation()
    choose = chooser(seed)
    server = Mt2Peer.server(PeerSettings(Takes.IDENTIFIED), "mx.b.example", NO_NONCE, Offer(), NOW)
    taker = Taker(server, SMALL)
    written = b""
    for octets in whole.rounds:
        while octets:
            count = choose(len(octets))
            server.receive(octets[:count], NOW)
            octets = octets[count:]
        taker.work()
        written += server.bytes_to_send()
    assert joined(taker.log) == joined(whole.server.log)
    assert written == bytes(whole.to_client)


@pytest.mark.covers("MT2-18e", "MT2-18c", "MT2-14")
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(
        st.tuples(st.booleans(), st.integers(0, 2500), st.integers(0, 9000)), min_size=1, max_size=12
    ),
    window=st.integers(1, 4000),
    maxpart=st.integers(1, 4000),
    inflight=st.integers(1, 30),
    pipe=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_interleaved_transfers_both_ways_arrive_whole(
    seed: int, sizes: list[tuple[bool, int, int]], window: int, maxpart: int, inflight: int, pipe: bool
) -> None:
    chance = random.Random(seed)
    offer = Offer(pipe=pipe, window=max(window, 40), maxpart=max(maxpart, 40), inflight=inflight)
    both = identified(offer, server_offer=offer, client_offer=offer)
    if pipe:
        both.server.peer.opt_grant(offer, NOW)
        both.run()
    sent: dict[str, tuple[Taker, bytes, bytes]] = {}
    for number, (by_client, headers_size, body_size) in enumerate(sizes):
        source, target = (both.client, both.server) if by_client else (both.server, both.client)
        headers, body = chance.randbytes(headers_size), chance.randbytes(body_size)
        name = f"{number}@{'a' if by_client else 'b'}.example"
        objects = message(name, headers, body)
        if chance.random() < 0.5:
            source.streams[name] = body
            objects[2] = OutgoingObject(objects[2].media_type, len(body))
        source.peer.transfer(name, objects, NOW)
        sent[name] = (target, headers, body)
    watch(both)
    both.run(chooser(seed))
    for name, (target, headers, body) in sent.items():
        assert target.message(name) == (headers, body)
        assert target.taken.count(name) == 1
    assert len(both.client.ended) + len(both.server.ended) == len(sizes)
    assert all(end.result and end.result.is_ok for end in both.client.ended.values())
    assert both.client.peer.is_idle
    assert both.server.peer.is_idle


def watch(both: Pair) -> None:
    """At every event, what is held and what is granted stays within the window."""

    def within(taker: Taker) -> Callable[[Mt2Event], bool]:
        def check(_: Mt2Event) -> bool:
            peer = taker.peer
            assert peer.window_used <= peer.theirs.window
            assert peer.octets_held <= peer.window_used + 8192
            return False

        return check

    both.client.on_event = within(both.client)
    both.server.on_event = within(both.server)


PIECES = [b"[", b"]", b"{", b"}\r\n", b"9", b" ", b'"', b"\\", b"\x00", b"("]


def damaged(octets: bytes, chance: random.Random) -> bytes:
    """A few octets changed, taken out, put in, or a piece repeated; structure is hit more often than
    content."""
    harmed = bytearray(octets)
    for _ in range(chance.randint(1, 4)):
        marks = [at for at, octet in enumerate(harmed) if octet in b"[]{}\r\n() "] or [0]
        at = chance.choice(marks) if chance.random() < 0.6 else chance.randrange(max(1, len(harmed)))
        match chance.randrange(5):
            case 0:
                harmed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del harmed[at : at + chance.randint(1, 8)]
            case 2:
                harmed[at:at] = chance.choice(PIECES)
            case 3:
                piece = bytes(harmed[at : at + chance.randint(1, 60)])
                harmed[at:at] = piece
            case _:
                digits = [i for i, octet in enumerate(harmed) if 0x30 <= octet <= 0x39] or [0]
                harmed[chance.choice(digits) : chance.choice(digits) + 1] = b"%d" % chance.randrange(10**10)
    return bytes(harmed)


RECORDED: dict[str, bytes] = {}


def recorded() -> bytes:
    if not RECORDED:
        both = identified(SMALL, server_offer=SMALL)
        both.client.peer.transfer("m1", message("m1", b"h" * 90, b"b" * 1800), NOW)
        both.client.peer.transfer("m2", message("m2", b"", b"x" * 700), NOW)
        both.client.peer.stat("m1", NOW)
        both.run()
        both.client.peer.transfer("m3", [OutgoingObject(ENVELOPE_TYPE, 2, b"m3")], NOW)
        both.client.peer.transfer("m4", message("m4", b"h", b"b"), NOW)
        both.client.peer.abort("m4", NOW)
        both.run()
        both.client.peer.quit(NOW)
        both.run()
        RECORDED["client"] = bytes(both.to_server)
        RECORDED["server"] = bytes(both.to_client)
    return RECORDED["client"]


def one_damaged_case(seed: int) -> None:
    """Whatever comes: nothing is raised, the window holds, and an ended session stays ended."""
    chance = random.Random(seed)
    octets = damaged(recorded(), chance)
    server = Mt2Peer.server(PeerSettings(Takes.IDENTIFIED), "mx.b.example", "nonce", Offer(), NOW)
    taker = Taker(server, SMALL)
    step = chance.choice([len(octets), 500, 97])
    for start in range(0, len(octets), step):
        server.receive(octets[start : start + step], NOW)
        assert server.octets_held <= max(server.theirs.window, 65536) + 8192 + step
        taker.work()
        assert server.window_used <= max(server.theirs.window, 65536)
        server.bytes_to_send()
    server.receive_eof(NOW)
    taker.work()
    assert len(taker.over) == 1
    assert isinstance(taker.log[-1], SessionEnded)
    server.receive(b"[1 NOOP]\r\n", NOW)
    assert not list(events(server))
    for name in taker.taken:  # only what a sender had really sent whole
        assert (name, ENVELOPE_TYPE) in taker.objects


def one_damaged_answer(seed: int) -> None:
    """The same from the other side: what a server says is damaged, and every transfer still ends once."""
    recorded()
    chance = random.Random(seed)
    octets = damaged(RECORDED["server"], chance)
    client = Mt2Peer.client(PeerSettings(Takes.NOBODY), Offer(), NOW)
    taker = Taker(client, SMALL)
    begun: list[str] = []

    def go_on(event: Mt2Event) -> bool:
        match event:
            case Greeted():
                client.helo(b"certificate data", "mx.a.example", NOW)
            case Answered(verb="HELO"):
                client.opt_grant(SMALL, NOW)
            case Answered(verb="OPT") if not begun:
                names = ("m1", "m2")
                begun.extend(n for n in names if client.transfer(n, message(n, b"h" * 90, b"b" * 1800), NOW))
                client.stat("m1", NOW)
        return False

    taker.on_event = go_on
    step = chance.choice([len(octets), 500, 97])
    for start in range(0, len(octets), step):
        client.receive(octets[start : start + step], NOW)
        taker.work()
        client.bytes_to_send()
    client.receive_eof(NOW)
    taker.work()
    assert len(taker.over) == 1
    assert isinstance(taker.log[-1], SessionEnded)
    assert sorted(taker.ended) == begun


@pytest.mark.covers("MT2-7", "SEC-136")
@pytest.mark.parametrize("block", range(4))
def test_damaged_streams_never_raise_and_never_hold_more_than_granted(block: int) -> None:
    for seed in range(block * 250, (block + 1) * 250):
        one_damaged_case(seed)
        one_damaged_answer(seed)


@pytest.mark.long
@pytest.mark.covers("MT2-7")
@pytest.mark.parametrize("block", range(100))
def test_a_million_damaged_streams(block: int) -> None:
    for seed in range(1_000_000 + block * 5_000, 1_000_000 + (block + 1) * 5_000):
        one_damaged_case(seed)
        one_damaged_answer(seed)


@pytest.mark.covers("MT2-7")
@given(octets=st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_octets_give_events_or_an_end(octets: bytes) -> None:
    for peer in (
        Mt2Peer.server(PeerSettings(Takes.ANYBODY), "b", "n", GENEROUS, NOW),
        Mt2Peer.client(PeerSettings(), GENEROUS, NOW),
    ):
        peer.receive(octets, NOW)
        peer.receive_eof(NOW)
        log = list(events(peer))
        assert isinstance(log[-1], SessionEnded)
        if octets and octets[:1] not in b"[{":
            assert codes.MALFORMED.encode() in peer.bytes_to_send()
