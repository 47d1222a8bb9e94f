"""HELO: who the other side is, and who we are (MT2-10a). What the certificate data holds is for others to
read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import err, tmp
from outrider.protocols.mt2.events import IdentityOffered, Limits
from outrider.protocols.mt2.frames import ProtocolViolation, Sink, data_head
from outrider.protocols.mt2.lines import Extension, Request, find
from outrider.protocols.mt2.wire_out import Wire

MAX_HOST: Final = 255
MAX_NONCE: Final = 128
_SEND: Final = tmp(codes.SEND_IDENTITY)


@dataclass(slots=True)
class _Helo:
    """Their HELO whose data comes, or has come."""

    tag: int
    size: int
    host: str
    nonce: str
    prove: bool


class TheirIdentity:
    """The other side's HELO."""

    def __init__(self, wire: Wire, limits: Limits) -> None:
        self.accepted = False
        self._wire = wire
        self._limits = limits
        self._attempts = 0
        self._helo: _Helo | None = None
        self._octets: list[bytes] = []
        self._missing = 0
        self.come = 0
        """Octets that came."""

    @property
    def pending_tag(self) -> int:
        """Of the HELO that has not been answered; 0 = none."""
        return self._helo.tag if self._helo else 0

    @property
    def due(self) -> int:
        """Octets of certificate data permitted and not here."""
        return self._missing if self._helo else 0

    def request(self, request: Request) -> str | None:
        """HELO; the code of its refusal, None when its data may come or its answer is our driver's."""
        if len(request.params) != 1 or not isinstance(request.params[0], int):
            return codes.WRONG_PARAMETERS
        size = request.params[0]
        host, nonce = _one_value(request, "HOST", MAX_HOST), _one_value(request, "NONCE", MAX_NONCE)
        if host is None or nonce is None:
            return codes.WRONG_PARAMETERS
        if self.accepted or self._helo is not None:
            return codes.WRONG_ORDER
        self._attempts += 1
        if self._attempts > self._limits.identity_attempts:
            raise ProtocolViolation("too many attempts to identify", codes.TOO_MANY_ERRORS)
        if size > self._limits.certificate_size:
            return codes.IDENTITY_TOO_LARGE
        prove = find(request.extensions, "PROVE") is not None
        self._helo = _Helo(request.tag, size, host, nonce, prove)
        self._missing = size
        if size:
            self._wire.respond(request.tag, _SEND)
        else:
            self._offer()
        return None

    def sink(self, length: int) -> Sink:
        """For the data of the pending HELO.

        Raises `ProtocolViolation`.
        """
        if length > self._missing:
            raise ProtocolViolation("data beyond what was granted")
        return self

    def take(self, octets: bytes) -> None:
        """Certificate data has come (`frames.Sink`)."""
        if self._helo is None:  # killed meanwhile
            return
        self._octets.append(octets)
        self.come += len(octets)
        self._missing -= len(octets)
        if not self._missing:
            self._offer()

    def _offer(self) -> None:
        assert self._helo is not None
        helo, data = self._helo, b"".join(self._octets)
        self._octets.clear()
        self._wire.events.append(IdentityOffered(helo.tag, helo.host, helo.nonce, helo.prove, data))

    def kill(self, abor_tag: int) -> int:
        """ABOR of the HELO: octets that may still be on their way; -1 when it was too late."""
        assert self._helo is not None
        if not self._missing:
            self._wire.respond(abor_tag, err(codes.TOO_LATE))
            return -1
        tag, missing = self._helo.tag, self._missing
        self._wire.respond(abor_tag, codes.ok(codes.KILLED))
        self._wire.respond(tag, err(codes.TRANSFER_KILLED))
        self.forget()
        return missing

    def forget(self) -> None:
        """The pending HELO has been answered."""
        self._helo = None
        self._missing = 0
        self._octets.clear()


def _one_value(request: Request, name: str, most: int) -> str | None:
    """The value of ``(NAME=value)``; "" without it; None when it is none."""
    extension = find(request.extensions, name)
    if extension is None:
        return ""
    if len(extension.values) != 1 or len(extension.values[0]) > most:
        return None
    return extension.values[0]


def helo_request(tag: int, size: int, host: str, nonce: str, *, prove: bool) -> Request:
    """Our HELO."""
    extensions = [Extension("HOST", (host,))] if host else []
    if nonce:
        extensions.append(Extension("NONCE", (nonce,)))
    if prove:
        extensions.append(Extension("PROVE"))
    return Request(tag, "HELO", (size,), tuple(extensions))


def certificate_frame(tag: int, certificate: bytes) -> bytes:
    """The data of our HELO."""
    return data_head(tag, len(certificate)) + certificate
