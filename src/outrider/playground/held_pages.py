"""The retrieval page as a browser asks for it: HTTPS to a holding facility, whose name the visitor's resolver
does not know."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from outrider.playground.stage import Stage

_LIMIT_S = 60.0
_LINK = re.compile(r"^https://\S+/m/\S+$", re.MULTILINE)
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    body: bytes


class HeldPage:
    """The page of one message, by the link in its envelope."""

    def __init__(self, stage: Stage, link: str) -> None:
        self._link = urlsplit(link)
        self._address = stage.site("alpha").plan.address
        self._trust = ssl.create_default_context(cafile=str(stage.internet.ca_file))

    def ask(self, method: str = "GET") -> Page:
        """What a visitor sees, or a scanner of links; blocks."""
        return self._answer(method, None)

    def press(self, button: str) -> Page:
        """A button of the page: `open`, `message` or `received`; blocks."""
        return self._answer("POST", f"do={button}".encode())

    def _answer(self, method: str, body: bytes | None) -> Page:
        host, port = self._link.hostname or "", self._link.port or 443
        connection = http.client.HTTPConnection(host, port, timeout=_LIMIT_S)
        with (
            socket.create_connection((self._address, port), _LIMIT_S) as plain,
            self._trust.wrap_socket(plain, server_hostname=host) as stream,
        ):
            connection.sock = stream
            connection.request(method, self._link.path, body, {"Content-Type": _FORM} if body else {})
            answer = connection.getresponse()
            return Page(answer.status, answer.read())


def link_in(envelope: Path) -> str:
    """The link in an envelope's text, which stands on a line of its own; "" for none."""
    found = _LINK.search(envelope.read_text("utf-8"))
    return found[0] if found else ""
