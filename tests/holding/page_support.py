"""A holder of messages in memory, as the retrieval page sees one, and requests for it."""

from __future__ import annotations

import hashlib
from base64 import b64encode, encodebytes
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from outrider.holding.pages.source import HeldDescription, ListedAttachment, PageBusy, Proof
from outrider.holding.web import IPAddress, WebRequest, WebResponse

ID = "abcdefghijklmnopqrstuvwx23"
SECRET = "zyxwvutsrqponmlkjihgfedc76"
PATH = f"/m/{ID}/{SECRET}"
HOST = "mhf-1.alpha.example"
CLIENT = ip_address("192.0.2.7")
NOW = 1_795_358_100.0
"""22 November 2026, 14:35 UTC."""
PDF = bytes(range(256)) * 4096
LETTER = (
    b"From: Ann Archer <ann@alpha.example>\r\nTo: bob@beta.example\r\n"
    b"Subject: Figures for the third quarter\r\n"
    b"Date: Sun, 22 Nov 2026 09:12:00 +0100\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b1"\r\n\r\nFor old readers.\r\n'
    b"--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + "Dear Bob,\r\n\r\nhere are the figures that you asked for. The growth in Köln is real; "
    "I have checked it twice.\r\n\r\nAnn\r\n".encode()
    + b"\r\n--b1\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="figures-q3.pdf"\r\n\r\n'
    + encodebytes(PDF).replace(b"\n", b"\r\n")
    + b"--b1--\r\n"
)


def digest_of(octets: bytes) -> str:
    return f"sha-256={b64encode(hashlib.sha256(octets).digest()).decode()}; length={len(octets)}"


def described(octets: bytes = LETTER, **changes: object) -> HeldDescription:
    """What is told of a message unless a test says otherwise."""
    held = HeldDescription(
        id=ID,
        sender="ann@alpha.example",
        recipient="bob@beta.example",
        subject="Figures for the third quarter",
        mail_class="Direct::Business::Report",
        language="en",
        attachments=(ListedAttachment("figures-q3.pdf", "application/pdf", len(PDF)),),
        size=len(octets),
        digest=digest_of(octets),
        date=NOW - 23_000,
        expires=NOW + 14 * 86_400,
        proof=Proof.CALLED_BACK,
        proven_at=NOW - 22_000,
        proven_by="mx.beta.example",
    )
    return replace(held, **changes)  # type: ignore[arg-type]


@dataclass
class Holder:
    """Implements `PageSource`; remembers what it was asked to do."""

    octets: bytes = LETTER
    held: HeldDescription = field(default_factory=described)
    busy: PageBusy | None = None
    piece: int = 262_144
    done: list[str] = field(default_factory=list)
    open_readers: int = 0
    gone: bool = False

    def _is_it(self, msg_id: str, secret: str) -> bool:
        if self.busy is not None:
            raise self.busy
        return (msg_id, secret) == (ID, SECRET) and not self.gone

    async def describe(self, msg_id: str, secret: str, client: IPAddress) -> HeldDescription | None:
        return self.held if self._is_it(msg_id, secret) else None

    async def open(self, msg_id: str, secret: str, client: IPAddress) -> HeldDescription | None:
        if not self._is_it(msg_id, secret):
            return None
        self.done.append("opened")
        self.held = replace(self.held, opened_at=self.held.opened_at or NOW)
        return self.held

    async def content(self, msg_id: str, secret: str, start: int = 0) -> AsyncIterator[bytes]:
        if not (self._is_it(msg_id, secret) and self.held.opened_at):
            raise LookupError(msg_id)
        self.open_readers += 1
        try:
            for at in range(start, len(self.octets), self.piece):
                if self.gone:
                    raise LookupError(msg_id)
                yield self.octets[at : at + self.piece]
        finally:
            self.open_readers -= 1

    async def received(self, msg_id: str, secret: str, client: IPAddress) -> bool:
        if not (self._is_it(msg_id, secret) and self.held.opened_at):
            return False
        self.done.append("received")
        self.held = replace(self.held, received_at=NOW)
        return True


def asked(method: str = "GET", path: str = PATH, body: bytes = b"", **headers: str) -> WebRequest:
    """A request as the server hands it in; header names with underlines for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body:
        given = {"content-type": "application/x-www-form-urlencoded", "host": HOST, **given}
    return WebRequest(method, HOST, path, {}, given, body, CLIENT, NOW)


def pressed(action: str, path: str = PATH, **headers: str) -> WebRequest:
    """A button of the page."""
    return asked("POST", path, f"do={action}".encode(), **{"sec_fetch_site": "same-origin", **headers})


async def body_of(response: WebResponse) -> bytes:
    """All of an answer, streamed or not."""
    if response.stream is None:
        return response.body
    return b"".join([piece async for piece in response.stream])
