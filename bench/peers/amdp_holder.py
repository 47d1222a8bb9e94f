"""A holder that costs as little as can be: it knows every envelope, and answers queries and acknowledgements.

What it says stands in the protocol's order and nothing is kept: an id read backwards is its confirmation
number. Run with one argument, JSON: address, port, certificate, key, recipient.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import cast

import msgspec
import uvloop

from outrider.protocols.amdp.callback import (
    ACKNOWLEDGE_PATH,
    QUERY_PATH,
    AcknowledgementAnswers,
    Acknowledgements,
    Answer,
    Answers,
    Done,
    Queries,
)

_END = b"\r\n\r\n"


def answer(path: str, body: bytes, recipient: str) -> bytes | None:
    """The body of an answer; None for what a holder is not asked."""
    if path == QUERY_PATH:
        asked = msgspec.json.decode(body, type=Queries).queries
        return msgspec.json.encode(Answers(tuple(Answer(True, recipient, one.id[::-1]) for one in asked)))
    if path == ACKNOWLEDGE_PATH:
        told = msgspec.json.decode(body, type=Acknowledgements).acknowledgements
        return msgspec.json.encode(
            AcknowledgementAnswers(tuple(Done(True, one.confirmation) for one in told))
        )
    return None


class Connection(asyncio.Protocol):
    """HTTP/1.1, kept, as far as the gateway speaks it."""

    def __init__(self, recipient: str) -> None:
        self._recipient = recipient
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._rest += data
        while _END in self._rest:
            head, _, rest = self._rest.partition(_END)
            length = _length(head)
            if len(rest) < length:
                return
            body, self._rest = rest[:length], rest[length:]
            self._say(answer(head.split(b" ", 2)[1].decode("ascii"), body, self._recipient))

    def _say(self, body: bytes | None) -> None:
        status = b"200 OK" if body is not None else b"404 Not Found"
        body = body or b""
        fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(body)
        self._transport.write(b"HTTP/1.1 %b\r\n%b%b%b" % (status, fields, _END, body))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(settings: dict[str, str]) -> None:
    """For ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["certificate"], settings["key"])
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(settings["recipient"]),
        settings["address"],
        int(settings["port"]),
        ssl=context,
        backlog=512,
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
