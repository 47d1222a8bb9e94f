"""What AMDP's services and their callers see of HTTP: requests, responses, calls; no sockets.

`net` implements the server that hands requests in and the caller that makes calls (HTTPS only; names resolved
once, every address checked against [net] private_destinations, no redirects, bounded in time and octets).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

IPAddress = IPv4Address | IPv6Address
JSON = "application/json"
MOST_ASKED = 1_048_576
"""Octets of a request's body; more is answered with 413 before a service sees it."""


@dataclass(frozen=True, slots=True)
class WebRequest:
    """One request, already bounded."""

    method: str
    """GET, HEAD or POST; others are answered with 405 before a service sees them."""
    host: str
    """The name in Host, lower case, without port; one of the names that this server serves."""
    path: str
    """As sent, percent-decoded once; without `..` and empty segments."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case; the first of several."""
    body: bytes
    client: IPAddress
    now: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class WebResponse:
    """What is answered; the server adds Date, Content-Length, nosniff, no-referrer, no-store."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    """Instead of `body`: read as fast as the client takes it, `length` octets. Closed by the server. May
    raise GoneMeanwhile."""
    length: int = 0


class GoneMeanwhile(LookupError):
    """What is being streamed is not to be had any more, by nobody's fault: the answer is broken off."""


class WebService(Protocol):
    """One of the services of a server."""

    def serves(self, host: str, path: str) -> bool:
        """Whether requests for this name and path are its own."""
        ...

    async def answer(self, request: WebRequest) -> WebResponse:
        """Never raises for reasons of the request."""
        ...


class CallFailed(Exception):
    """No answer: for now (`temporary`), or by what the other side is. The text is for log and trail."""

    def __init__(self, text: str, *, temporary: bool = True) -> None:
        super().__init__(text)
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """An answer, whole."""

    status: int
    body: bytes
    content_type: str
    address: IPAddress
    """Whom we talked to; the certificate was good for the name."""


class StreamedAnswer(Protocol):
    """An answer whose body is read piece by piece."""

    status: int
    length: int
    """Content-Length; -1 where none was said."""
    address: IPAddress

    def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises CallFailed when it breaks off, is too slow or longer than allowed."""
        ...


class WebCaller(Protocol):
    """Makes calls over HTTPS, on connections kept for each host."""

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        """`limit`: octets of the answer that are read; a longer one is a failure. Raises CallFailed."""
        ...

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        """A POST of JSON. Raises CallFailed."""
        ...

    def stream(
        self, host: str, port: int, path: str, body: bytes, *, limit: int
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        """A POST of JSON whose answer may be large. Raises CallFailed."""
        ...
