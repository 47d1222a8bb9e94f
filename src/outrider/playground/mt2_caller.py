"""A host that speaks MT2 by hand: it sends what no honest site would, or stops where none would stop.

Blocking, one thing at a time; the protocol is that of `protocols.mt2`. Its identity is its TLS certificate
(`HELO {0}`).
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from outrider.gateway.mapping import smtp_to_mt2
from outrider.identity.seals import Handover, Sealer
from outrider.message.objects.envelope import LayeredEnvelope, ObjectEntry, Part, write_envelope
from outrider.message.objects.headers import write_headers
from outrider.model.address import parse_address
from outrider.model.transaction import RecipientRequest
from outrider.playground.site import MT2_PORT
from outrider.protocols.mt2.codes import Result
from outrider.protocols.mt2.events import (
    BODY_TYPE,
    ENVELOPE_TYPE,
    HEADERS_TYPE,
    Answered,
    Greeted,
    Mt2Event,
    OctetsWanted,
    OutgoingObject,
    PeerSettings,
    SessionEnded,
    Takes,
    TransferEnded,
)
from outrider.protocols.mt2.options import Offer
from outrider.protocols.mt2.peer import Mt2Peer
from outrider.protocols.mt2.status import TransferStatus, read_status

WANTED = Offer(pipe=True, window=4_194_304, maxpart=1_048_576, inflight=16)
_PIECE = 262_144
_LIMIT_S = 60.0
E = TypeVar("E", bound=Mt2Event)


class CallFailed(Exception):
    """The other side did not play along; the argument says how."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message as it goes over the wire."""

    id: str
    """Of the transfer."""
    envelope: bytes = field(repr=False)
    headers: bytes = field(repr=False)
    body: bytes = field(repr=False)

    def objects(self, held: int = 0) -> list[OutgoingObject]:
        """As the core wants them; of the body `held` octets are there already. It asks for every one of
        them."""
        headers = len(self.headers) if held else 0
        return [
            OutgoingObject(ENVELOPE_TYPE, len(self.envelope)),
            OutgoingObject(HEADERS_TYPE, len(self.headers), offset=headers),
            OutgoingObject(BODY_TYPE, len(self.body), offset=held),
        ]

    def octets(self, media_type: str) -> bytes:
        """Of one object."""
        return {ENVELOPE_TYPE: self.envelope, HEADERS_TYPE: self.headers, BODY_TYPE: self.body}[media_type]


def entries_of(headers: bytes, body: bytes) -> tuple[ObjectEntry, ObjectEntry]:
    """What an envelope says of its objects."""
    return (
        ObjectEntry(Part.HEADERS, HEADERS_TYPE, hashlib.sha256(headers).digest(), len(headers)),
        ObjectEntry(Part.BODY, BODY_TYPE, hashlib.sha256(body).digest(), len(body)),
    )


def sealed(
    sealer: Sealer, to: str, people: tuple[str, str], message: tuple[bytes, bytes], name: str
) -> Parcel:
    """A message for the host `to`, sealed by its sender's host. `people`: sender and recipient; `message`:
    header section (with its empty line) and body."""
    form = smtp_to_mt2(message[0])
    headers, body = write_headers(form.headers), form.body_prefix + message[1]
    sender, recipient = map(parse_address, people)
    now = time.time()
    by = sealer.names[0]
    envelope = LayeredEnvelope(
        f"{name}@{by}", sender, (RecipientRequest(recipient),), int(now), objects=entries_of(headers, body)
    )
    whole = sealer.seal_core(envelope, Handover(by, to), now)
    return Parcel(envelope.id, write_envelope(whole), headers, body)


class Mt2Caller:
    """One connection, greeted and identified."""

    def __init__(self, stream: ssl.SSLSocket, name: str) -> None:
        """Raises CallFailed, OSError."""
        self._stream = stream
        self._core = Mt2Peer.client(PeerSettings(Takes.NOBODY), Offer(), time.monotonic())
        self.sent: Counter[str] = Counter()
        """Octets by media type: only what was permitted goes out."""
        self._expect(Greeted)
        known = self._answer(self._core.helo(b"", name, time.monotonic()))
        if not known.is_ok:
            raise CallFailed(f"{known.code} {known.text}")
        self._answer(self._core.opt_grant(WANTED, time.monotonic()))

    def carry(self, parcel: Parcel, held: int = 0, until: int | None = None) -> Result | None:
        """Send it, all three objects asked for at once; the last answer. With `until`, stop when so many
        octets of the body have gone: None."""
        self._core.transfer(parcel.id, parcel.objects(held), time.monotonic())
        while True:
            event = self._next()
            if isinstance(event, TransferEnded):
                if event.result is None:
                    raise CallFailed("the session ended")
                return event.result
            if isinstance(event, OctetsWanted) and not self._give(event, parcel, until):
                return None

    def _give(self, wanted: OctetsWanted, parcel: Parcel, until: int | None) -> bool:
        octets = memoryview(parcel.octets(wanted.media_type))
        end = wanted.offset + wanted.count
        stop = min(end, until) if until is not None and wanted.media_type == BODY_TYPE else end
        for start in range(wanted.offset, stop, _PIECE):
            piece = bytes(octets[start : min(start + _PIECE, stop)])
            self._core.send_octets(wanted.tag, piece, time.monotonic())
            self.sent[wanted.media_type] += len(piece)
            self._flush()
        return stop == end

    def abort(self, parcel: Parcel) -> Result:
        """Kill a transfer; its own last answer."""
        if not self._core.abort(parcel.id, time.monotonic()):
            raise CallFailed("there is nothing to kill")
        ended = self._expect(TransferEnded)
        if ended.result is None:
            raise CallFailed("the session ended")
        return ended.result

    def is_alive(self) -> bool:
        """Whether NOOP is answered."""
        return self._answer(self._core.noop(time.monotonic())).is_ok

    def status(self, parcel: Parcel) -> TransferStatus | None:
        """What the other side has of a transfer."""
        return read_status(self._answer(self._core.stat(parcel.id, time.monotonic())))

    def _answer(self, tag: int) -> Result:
        return self._expect(Answered, lambda one: one.tag == tag).result

    def _expect(self, kind: type[E], fits: Callable[[E], bool] = lambda _: True) -> E:
        while True:
            event = self._next()
            if isinstance(event, kind) and fits(event):
                return event

    def _next(self) -> Mt2Event:
        while (event := self._core.next_event()) is None:
            self._flush()
            octets = self._stream.recv(_PIECE)
            if octets:
                self._core.receive(octets, time.monotonic())
            else:
                self._core.receive_eof(time.monotonic())
        if isinstance(event, SessionEnded):
            raise CallFailed(event.reason)
        return event

    def _flush(self) -> None:
        while octets := self._core.bytes_to_send():
            self._stream.sendall(octets)


@contextmanager
def calling(server: str, source: str, name: str, files: tuple[Path, Path], ca: Path) -> Iterator[Mt2Caller]:
    """A connection to the site at an address. Closing it is not polite: that is the point of some calls."""
    trust = ssl.create_default_context(cafile=str(ca))
    trust.check_hostname = False  # the visitor's resolver does not know these names; the CA does
    trust.minimum_version = ssl.TLSVersion.TLSv1_3
    trust.set_alpn_protocols(["mt2"])
    trust.load_cert_chain(*files)
    with (
        socket.create_connection((server, MT2_PORT), _LIMIT_S, source_address=(source, 0)) as plain,
        trust.wrap_socket(plain) as stream,
    ):
        yield Mt2Caller(stream, name)
