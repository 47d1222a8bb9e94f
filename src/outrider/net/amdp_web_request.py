"""From aiohttp's request to the house's own: bounded, in one form, or refused with a constant answer.

aiohttp's parser (llhttp) has refused by now what has two readings: Content-Length beside Transfer-Encoding,
two lengths, folded lines, bare LF, a space before the colon (SEC-203), and bounded the line, each field and
their number (SEC-204).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from outrider.holding.web import MOST_ASKED, IPAddress, WebRequest

METHODS: Final = frozenset({"GET", "HEAD", "POST"})
MAX_PARAMETERS: Final = 20
"""Of a query; our own links have at most four."""

_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class RequestRefused(Exception):
    """Answered at once; the words are constants and tell nothing of what is here."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


NOT_FOUND: Final = "not found"
BAD_REQUEST: Final = "bad request"


def read_host(request: web.BaseRequest) -> str:
    """The name in Host, lower case, without port. Raises RequestRefused."""
    fields = request.headers.getall("Host", [])
    match = _HOST.fullmatch(fields[0]) if len(fields) == 1 else None
    if match is None:
        raise RequestRefused(400, BAD_REQUEST)
    return match[1].lower()


def read_path(target: str) -> tuple[str, str]:
    """The decoded path of a request target, and its query as sent. Raises RequestRefused (SEC-186).

    What could lead elsewhere once decoded, or means one place in two ways, is no place that we know.
    """
    if not target.startswith("/"):
        raise RequestRefused(400, BAD_REQUEST)
    raw, _, query = target.partition("?")
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise RequestRefused(404, NOT_FOUND) from None
    if path.count("/") != raw.count("/") or _CONTROL.search(path):
        raise RequestRefused(404, NOT_FOUND)
    if path != "/" and any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise RequestRefused(404, NOT_FOUND)
    return path, query


def read_query(query: str) -> Mapping[str, str]:
    """The parameters, the first of several. Raises RequestRefused."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError:
        raise RequestRefused(400, BAD_REQUEST) from None
    return dict(reversed(pairs))


async def read_body(request: web.BaseRequest, limit_s: float) -> bytes:
    """The whole body. Raises RequestRefused when it is too large or does not come (SEC-204)."""
    if (request.content_length or 0) > MOST_ASKED:
        raise RequestRefused(413, "too large")
    content = request.content
    if content.is_eof():
        return _bounded(content.read_nowait())
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(limit_s):
            body = bytearray()
            while piece := await content.readany():
                body += piece
                _bounded(body)
            return bytes(body)
    except TimeoutError:
        raise RequestRefused(408, "the body did not come in time") from None
    except web.RequestPayloadError:
        raise RequestRefused(400, BAD_REQUEST) from None


def _bounded(body: bytes | bytearray) -> bytes:
    if len(body) > MOST_ASKED:
        raise RequestRefused(413, "too large")
    return bytes(body)


async def read_request(
    request: web.BaseRequest, host: str, path: str, query: str, client: IPAddress, now: float, limit_s: float
) -> WebRequest:
    """The request as a service sees it. Raises RequestRefused."""
    parameters = read_query(query)
    body = await read_body(request, limit_s)
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), value)
    return WebRequest(request.method, host, path, parameters, headers, body, client, now)
