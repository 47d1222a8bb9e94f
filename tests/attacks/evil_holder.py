"""A holder that answers as its owner likes: well where it is asked whether it knows an envelope, so that it
is believed, and octet for octet as a test says where the message is fetched."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from outrider.protocols.amdp.callback import ACKNOWLEDGE_PATH, QUERY_PATH
from outrider.protocols.amdp.retrieval import MESSAGE_PATH
from tests.peers.certificates import TlsFiles

Speak = Callable[[ssl.SSLSocket], None]
CONFIRMATION = "b" * 26


def says(octets: bytes) -> Speak:
    """Those octets, and the end of the connection."""
    return lambda link: link.sendall(octets)


def serves(message: bytes) -> Speak:
    """The message, as it should be."""
    return says(head(f"Content-Length: {len(message)}") + message)


def head(*fields: str, status: str = "200 OK") -> bytes:
    """The head of an answer."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: message/rfc822", "Connection: close", *fields)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@dataclass
class Held:
    """What it says of one id."""

    recipient: str
    speaks: Speak


@dataclass
class EvilHolder:
    """Listens on port 443 of its address for the time of a `with`."""

    address: str
    tls: TlsFiles
    holds: dict[str, Held] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and id of all that was asked."""
    knows: bool = True
    acknowledges: bool = True
    away: bool = False
    """It answers 503 to everything."""

    def __enter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        self._socket = socket.create_server((self.address, 443), backlog=200)
        threading.Thread(target=self._accept, args=(context,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def count(self, path: str, message_id: str) -> int:
        """How often that was asked."""
        return self.asked.count((path, message_id))

    def _accept(self, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(context, raw), daemon=True).start()

    def _serve(self, context: ssl.SSLContext, raw: socket.socket) -> None:
        raw.settimeout(60)
        with contextlib.suppress(OSError), raw, context.wrap_socket(raw, server_side=True) as link:
            while (asked := _request(link)) is not None:
                if not self._answer(link, *asked):
                    return

    def _answer(self, link: ssl.SSLSocket, path: str, body: Any) -> bool:
        """Whether the connection goes on."""
        if self.away:
            self.asked.append((path, ""))
            link.sendall(head("Content-Length: 0", status="503 Not now"))
            return False
        if path == QUERY_PATH:
            return _tell(link, {"answers": [self._known(one["id"]) for one in body["queries"]]})
        if path == ACKNOWLEDGE_PATH:
            ids = [one["id"] for one in body["acknowledgements"]]
            self.asked += [(path, one) for one in ids]
            done = {"done": self.acknowledges, "confirmation": CONFIRMATION}
            return _tell(link, {"answers": [done] * len(ids)})
        if path == MESSAGE_PATH:
            self._speak(link, body["id"])
            return False
        self.asked.append((path, body["id"] if isinstance(body, dict) else ""))
        return _tell(link, {"done": True})

    def _speak(self, link: ssl.SSLSocket, message_id: str) -> None:
        self.asked.append((MESSAGE_PATH, message_id))
        self.holds[message_id].speaks(link)
        with contextlib.suppress(OSError):
            link.unwrap()

    def _known(self, message_id: str) -> dict[str, Any]:
        self.asked.append((QUERY_PATH, message_id))
        held = self.holds.get(message_id)
        if held is None or not self.knows:
            return {"known": False}
        return {"known": True, "to": held.recipient, "confirmation": CONFIRMATION, "thread": []}


def drips(octets: bytes, every_s: float) -> Speak:
    """One octet at a time."""

    def speak(link: ssl.SSLSocket) -> None:
        for at in range(len(octets)):
            link.sendall(octets[at : at + 1])
            time.sleep(every_s)

    return speak


def endless(octets: bytes, most: int) -> Speak:
    """Again and again, until nobody listens; an octet counter against a test that hangs."""

    def speak(link: ssl.SSLSocket) -> None:
        link.sendall(head("Transfer-Encoding: chunked"))
        piece = b"%x\r\n%b\r\n" % (len(octets), octets)
        for _ in range(most // len(octets)):
            link.sendall(piece)

    return speak


def _request(link: ssl.SSLSocket) -> tuple[str, Any] | None:
    """Path and JSON of the next request; None at the end."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        more = link.recv(65_536)
        if not more:
            return None
        octets += more
    top, _, body = octets.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", top)
    while length and len(body) < int(length[1]):
        body += link.recv(65_536)
    return top.split(b" ")[1].decode(), json.loads(body) if body else None


def _tell(link: ssl.SSLSocket, answer: dict[str, Any]) -> bool:
    octets = json.dumps(answer).encode()
    link.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(octets) + octets
    )
    return True
