"""What certificate does that server present? For operators' questions: a blocking look, nothing believed."""

from __future__ import annotations

import socket
import time

from outrider.net.tls_context import ClientContext
from outrider.net.tls_engine import TlsEngine, TlsEngineError

_CHUNK = 16_384
_MAX_LINE = 2048
_MAX_LINES = 100


class NoPresentationError(Exception):
    """It did not come to a handshake; the text says why."""


def presented_chain(
    address: tuple[str, int], server_name: str, *, starttls: bool = False, timeout_s: float = 15.0
) -> tuple[bytes, ...]:
    """The chain (DER, leaf first) of the server there: TLS at once, or after SMTP's STARTTLS.

    Raises :class:`NoPresentationError`; takes `timeout_s` in all at most.
    """
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection(address, timeout=timeout_s) as wire:
            if starttls:
                _start_tls(wire, deadline)
            return _shake_hands(wire, server_name, deadline)
    except TimeoutError:
        raise NoPresentationError(f"no answer within {timeout_s:g} s") from None
    except TlsEngineError as error:
        raise NoPresentationError(str(error.failure)) from None
    except OSError as error:
        raise NoPresentationError(error.strerror or str(error)) from None


def _shake_hands(wire: socket.socket, server_name: str, deadline: float) -> tuple[bytes, ...]:
    engine: TlsEngine = ClientContext().engine(server_hostname=server_name)
    data = b""
    while not engine.handshake(data):
        wire.sendall(engine.outgoing())
        data = _read(wire, deadline)
    wire.sendall(engine.outgoing())
    chain = engine.info().peer_chain
    engine.close()
    wire.sendall(engine.outgoing())
    return chain


def _read(wire: socket.socket, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    wire.settimeout(left)
    data = wire.recv(_CHUNK)
    if not data:
        raise NoPresentationError("the server closed the connection")
    return data


def _start_tls(wire: socket.socket, deadline: float) -> None:
    """As much SMTP as it takes (RFC 3207 section 4)."""
    for command, wanted in ((b"", b"220"), (b"EHLO client.invalid\r\n", b"250"), (b"STARTTLS\r\n", b"220")):
        if command:
            wire.sendall(command)
        reply = _reply(wire, deadline)
        if not reply.startswith(wanted):
            said = command.split()[0].decode() if command else "the greeting"
            raise NoPresentationError(f"the answer to {said} is {reply[:3].decode('ascii', 'replace')!r}")


def _reply(wire: socket.socket, deadline: float) -> bytes:
    """The last line of a reply, read octet by octet: what follows it belongs to TLS."""
    for _ in range(_MAX_LINES):
        line = bytearray()
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            wire.settimeout(left)
            octet = wire.recv(1)
            if not octet or len(line) > _MAX_LINE:
                raise NoPresentationError("the server's reply is no SMTP")
            line += octet
        if line[3:4] != b"-":
            return bytes(line)
    raise NoPresentationError("the server's reply does not end")
