"""Two cores joined without a network, and a driver simple enough to be read at a glance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, ok
from outrider.protocols.mt2.events import (
    BODY_TYPE,
    ENVELOPE_TYPE,
    HEADERS_TYPE,
    Answered,
    Greeted,
    IdentityOffered,
    Limits,
    Mt2Event,
    ObjectOctets,
    ObjectOffered,
    OctetsWanted,
    OutgoingObject,
    PeerSettings,
    SessionEnded,
    StatusAsked,
    Takes,
    TransferDropped,
    TransferEnded,
)
from outrider.protocols.mt2.options import Offer
from outrider.protocols.mt2.peer import Mt2Peer
from outrider.protocols.mt2.status import TransferState, TransferStatus

NOW = 1000.0
NO_NONCE = "dGhpcyBpcyBhIG5vbmNl"
GENEROUS = Offer(pipe=True, window=1 << 20, maxpart=1 << 18, inflight=128, trace=True)


def events(peer: Mt2Peer) -> Iterator[Mt2Event]:
    while (event := peer.next_event()) is not None:
        yield event


def message(transfer_id: str, headers: bytes, body: bytes, envelope: bytes = b"") -> list[OutgoingObject]:
    """A transfer whose envelope lists its other objects' lengths: ``id 12 345``."""
    envelope = envelope or f"{transfer_id} {len(headers)} {len(body)}".encode()
    objects = [(ENVELOPE_TYPE, envelope), (HEADERS_TYPE, headers), (BODY_TYPE, body)]
    return [OutgoingObject(name, len(octets), octets) for name, octets in objects]


def parts_of(envelope: bytes) -> list[tuple[str, int]]:
    words = envelope.split()
    if len(words) != 3 or not words[1].isdigit() or not words[2].isdigit():
        return []
    return [(HEADERS_TYPE, int(words[1])), (BODY_TYPE, int(words[2]))]


@dataclass
class Taker:
    """A driver that takes everything, for either end."""

    peer: Mt2Peer
    offer: Offer = GENEROUS
    objects: dict[tuple[str, str], bytearray] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    dropped: list[TransferDropped] = field(default_factory=list)
    ended: dict[str, TransferEnded] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    over: list[SessionEnded] = field(default_factory=list)
    log: list[Mt2Event] = field(default_factory=list)
    on_event: Callable[[Mt2Event], bool] = lambda event: False
    """Deals with an event first; True when nothing else is to be done with it."""
    streams: dict[str, bytes] = field(default_factory=dict)

    def work(self) -> None:
        for event in events(self.peer):
            self.log.append(event)
            if not self.on_event(event):
                self.deal(event)

    def deal(self, event: Mt2Event) -> None:
        peer = self.peer
        match event:
            case IdentityOffered():
                peer.welcome(event.tag, self.offer, NOW)
            case ObjectOffered():
                peer.grant(event.tag, NOW)
            case ObjectOctets():
                self.octets(event)
            case StatusAsked():
                peer.answer_status(event.tag, TransferStatus(TransferState.UNKNOWN), NOW)
            case OctetsWanted():
                whole = self.streams[event.transfer_id]
                for start in range(event.offset, event.offset + event.count, 1000):
                    end = min(start + 1000, event.offset + event.count)
                    peer.send_octets(event.tag, whole[start:end], NOW)
            case TransferDropped():
                self.dropped.append(event)
            case TransferEnded():
                assert event.transfer_id not in self.ended
                self.ended[event.transfer_id] = event
            case Answered():
                self.answers.append(event)
            case SessionEnded():
                self.over.append(event)
            case _:
                pass

    def octets(self, event: ObjectOctets) -> None:
        key = (event.transfer_id, event.media_type)
        self.objects.setdefault(key, bytearray()).extend(event.octets)
        if event.object_ended:
            self.whole(event, bytes(self.objects[key]))
        elif event.fragment_ended:
            self.peer.taken(event.tag, NOW)

    def whole(self, event: ObjectOctets, octets: bytes) -> None:
        if event.media_type == ENVELOPE_TYPE:
            parts = parts_of(octets)
            code = codes.ENVELOPE_ACCEPTED if parts else codes.MESSAGE_TAKEN
            self.peer.answer(event.tag, ok(code), NOW, parts=parts)
            if not parts:
                self.taken.append(event.transfer_id)
        elif event.media_type == BODY_TYPE:
            if self.peer.answer(event.tag, ok(codes.MESSAGE_TAKEN), NOW):
                self.taken.append(event.transfer_id)
        else:
            self.peer.answer(event.tag, ok(codes.OBJECT_ACCEPTED), NOW)

    def message(self, transfer_id: str) -> tuple[bytes, bytes]:
        return (
            bytes(self.objects.get((transfer_id, HEADERS_TYPE), b"")),
            bytes(self.objects.get((transfer_id, BODY_TYPE), b"")),
        )


@dataclass
class Pair:
    """A client and a server, both ready to send and to take."""

    client: Taker
    server: Taker
    to_server: bytearray = field(default_factory=bytearray)
    """Everything that the client wrote, and likewise."""
    to_client: bytearray = field(default_factory=bytearray)
    rounds: list[bytes] = field(default_factory=list)
    """What the server was given, a round at a time."""

    def run(self, cut: Callable[[int], int] | None = None) -> None:
        """Carry octets both ways until nothing moves; `cut` says how many of so many octets go at a time."""
        waiting = {id(self.client): b"", id(self.server): b""}
        while True:
            moved = False
            for source, target, record in (
                (self.client, self.server, self.to_server),
                (self.server, self.client, self.to_client),
            ):
                source.work()
                fresh = source.peer.bytes_to_send()
                record += fresh
                octets = waiting[id(source)] + fresh
                count = min(len(octets), cut(len(octets))) if cut and octets else len(octets)
                if count:
                    moved = True
                    target.peer.receive(octets[:count], NOW)
                    if target is self.server:
                        self.rounds.append(octets[:count])
                waiting[id(source)] = octets[count:]
                target.work()
            if not moved and not any(waiting.values()):
                return


def pair(
    *,
    takes: Takes = Takes.IDENTIFIED,
    server_offer: Offer = GENEROUS,
    client_offer: Offer = GENEROUS,
    limits: Limits | None = None,
    first_offer: Offer | None = None,
) -> Pair:
    limits = limits or Limits()
    server = Mt2Peer.server(
        PeerSettings(takes, limits=limits), "mx.b.example", NO_NONCE, first_offer or Offer(), NOW
    )
    client = Mt2Peer.client(PeerSettings(Takes.ANYBODY, limits=limits), client_offer, NOW)
    return Pair(Taker(client, client_offer), Taker(server, server_offer))


def greeted(**settings: object) -> Pair:
    """A pair whose client has been greeted."""
    both = pair(**settings)  # type: ignore[arg-type]
    both.run()
    assert any(isinstance(event, Greeted) for event in both.client.log)
    return both


def identified(wanted: Offer | None = GENEROUS, **settings: object) -> Pair:
    """A pair whose client is known, and has the options `wanted`."""
    both = greeted(**settings)
    both.client.peer.helo(b"certificate data", "mx.a.example", NOW)
    both.run()
    if wanted is not None:
        both.client.peer.opt_grant(wanted, NOW)
        both.run()
    assert all(answer.result.is_ok for answer in both.client.answers)
    return both


class Wire:
    """One core fed by hand, for tests that say every octet."""

    def __init__(
        self,
        *,
        is_server: bool = True,
        takes: Takes = Takes.ANYBODY,
        offer: Offer = GENEROUS,
        limits: Limits | None = None,
        over_tls: bool = True,
        verbs: frozenset[str] = frozenset(),
    ) -> None:
        settings = PeerSettings(takes, over_tls, limits or Limits(), verbs)
        if is_server:
            self.peer = Mt2Peer.server(settings, "mx.b.example", NO_NONCE, offer, NOW)
            self.peer.bytes_to_send()
        else:
            self.peer = Mt2Peer.client(settings, offer, NOW)
            self.say("[* TMP 99.0.3.1 (VER=1.0) (HOST=mx.b.example) (NONCE=abc) Hi there.]")

    def give(self, octets: bytes) -> list[Mt2Event]:
        self.peer.receive(octets, NOW)
        return list(events(self.peer))

    def say(self, *lines: str) -> list[Mt2Event]:
        return self.give("".join(line + "\r\n" for line in lines).encode())

    def data(self, tag: int, octets: bytes) -> list[Mt2Event]:
        return self.give(b"{%d %d}\r\n%b" % (tag, len(octets), octets))

    @property
    def heard(self) -> list[str]:
        """The lines it has written since the last time, without their text."""
        return [bare(line) for line in self.peer.bytes_to_send().decode().split("\r\n") if line]

    def begin(self, tag: int, transfer_id: str = "m1", size: int = 5) -> list[Mt2Event]:
        """An envelope asked for and granted."""
        said = self.say(f"[{tag} XFER {transfer_id} message/envelope {{{size}}} {{0}}]")
        self.peer.grant(tag, NOW)
        return said

    def accept_envelope(
        self, tag: int, parts: Sequence[tuple[str, int]], transfer_id: str = "m1", size: int = 5
    ) -> None:
        self.begin(tag, transfer_id, size)
        self.data(tag, b"e" * size)
        self.peer.answer(tag, Result(codes.Word.OK, codes.ENVELOPE_ACCEPTED), NOW, parts=parts)


_SAID = re.compile(r"((?:OK|ERR|TMP) [0-9.]+)(?: [^()]*)?\)")


def bare(line: str) -> str:
    """``[1 OK 99.0.2.2 (A OK 99.0.2.2 Set.) Done.]`` without its texts: ``[1 OK 99.0.2.2 (A OK
    99.0.2.2)]``."""
    words = line.split(" ")
    if len(words) <= 2 or words[1] not in ("OK", "ERR", "TMP"):
        return line
    kept = words[:3]
    rest = " ".join(words[3:])
    while rest.startswith("("):
        end = rest.index(")") + 1
        kept.append(_SAID.sub(r"\1)", rest[:end]))
        rest = rest[end:].lstrip(" ")
    return " ".join(kept).rstrip("]") + "]"
