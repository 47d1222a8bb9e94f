"""What `outrider trace` looks at: a message of the queue, a mail in a file, or objects in files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from outrider.cli.asking import ask, load_or_fail
from outrider.cli.output import fail
from outrider.gateway.ride_along import Plain, RideAlong, open_ride_along, recover
from outrider.identity.header_encryption import HEADERS_TYPE
from outrider.identity.trace import ObjectCounter, ObjectDigest
from outrider.message.objects.envelope import Part

_PIECE = 1_048_576
_ENVELOPE = b"<envelope"
_EMPTY_LINE = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class TraceTarget:
    """A message with seals."""

    envelope: bytes = field(repr=False)
    headers: bytes | None = field(default=None, repr=False)
    """None: not at hand."""
    headers_type: str = ""
    """"" where only the envelope tells it."""
    body: ObjectDigest | None = None
    received: float | None = None
    """When this host has taken it, seconds since the epoch; None: not known."""
    peer: tuple[str, ...] | None = None
    """The proven name of the host that brought it; None: not known."""
    receiver: tuple[str, ...] | None = None


def find_target(config_path: Path, target: str, headers: Path | None, body: Path | None) -> TraceTarget:
    """The message; ends the program where there is none, or it has no objects."""
    path = Path(target)
    if not path.is_file():
        if headers is not None or body is not None:
            fail("--headers and --body belong to a file that holds an envelope object", 2)
        return _from_queue(config_path, target)
    octets = _read(path)
    if octets.startswith(_ENVELOPE):
        parts = _read(headers) if headers is not None else None
        return TraceTarget(octets, parts, body=_digest_of(body) if body is not None else None)
    if headers is not None or body is not None:
        fail("--headers and --body belong to a file that holds an envelope object", 2)
    return _from_mail(octets)


def _from_queue(config_path: Path, message: str) -> TraceTarget:
    hostname = load_or_fail(config_path).config.hostname.lower()
    rows = ask(config_path, "queue.objects", {"id": message})
    first = next(rows)
    counter = ObjectCounter()
    for row in rows:
        counter.add(base64.b64decode(row["octets"]))
    headers = base64.b64decode(first["headers"])
    return TraceTarget(
        base64.b64decode(first["envelope"]),
        headers or None,
        first["headers_type"],
        counter.digest() if first["has_body"] else None,
        first["received"],
        tuple(first["peer"]),
        (hostname,),
    )


def _from_mail(octets: bytes) -> TraceTarget:
    """A mail that carries its objects in fields of its own (MT2-28b), with CRLF or as a Maildir has it."""
    if b"\r\n" not in octets[:2_000]:
        octets = octets.replace(b"\n", b"\r\n")
    end = octets.find(_EMPTY_LINE)
    section, body = (octets[: end + 4], octets[end + 4 :]) if end >= 0 else (octets, b"")
    carried = open_ride_along(section)
    if isinstance(carried, Plain):
        if carried.reason:
            fail(f"the mail carries objects that are not what it shows, or not whole: {carried.reason}")
        fail("the file is neither an envelope object nor a mail that carries one")
    digest = _body_digest(carried, section, body)
    objects = carried.objects
    return TraceTarget(objects.envelope, objects.headers or None, objects.headers_type, digest)


def _body_digest(carried: RideAlong, section: bytes, body: bytes) -> ObjectDigest | None:
    """Of the body object: as it was sealed, or, if the mail's body is another one, of what there is."""
    entry = carried.envelope.object(Part.BODY)
    if entry is None:
        return None
    if not isinstance(recover(section, (body,)), Plain):
        return ObjectDigest(entry.sha256, entry.length)
    return ObjectCounter(carried.objects.body_prefix + body).digest()


def is_encrypted(headers_type: str) -> bool:
    """Whether a headers object of that type has to be decrypted first."""
    return headers_type.lower() != HEADERS_TYPE


def _digest_of(path: Path) -> ObjectDigest:
    counter = ObjectCounter()
    for piece in _pieces(path):
        counter.add(piece)
    return counter.digest()


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def _read(path: Path) -> bytes:
    return b"".join(_pieces(path))
