"""A stored message's content on its way out: surveyed, encoded anew where the peer needs it, cut into pieces.

What is in memory and small is handled at once; files are read, and large messages worked on, in a thread, so
that the loop is never held up (SMTP-3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from outrider.message.mime_conversion import CannotConvert, encode_for_transport
from outrider.message.mpc_field import mpc_fields, read_mpc_field, with_mpc, without_mpc
from outrider.model.content import Body, Content, InlineBody
from outrider.model.message import StoredMessage
from outrider.model.mpc import Mpc, MpcError
from outrider.protocols.smtp.client_content import Survey, Unsendable, survey

PIECE: Final = 262_144
"""Octets sent between two looks at the connection."""
SMALL: Final = 65_536
"""Octets that are sent in one piece with, or right behind, the envelope."""

_FOREIGN_CODE: Final = Unsendable(
    "5.6.0", "the message has an MPC field that is not its Mail Policy Code, and amtp carries none"
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class OutgoingContent:
    """Header section (trace fields on top) and body in the form in which they go, and what is in them."""

    headers: bytes
    body: Body
    binary: bool
    survey: Survey

    def whole(self) -> bytes | None:
        """Everything, where it is small and at hand."""
        if isinstance(self.body, InlineBody) and self.survey.size <= SMALL:
            return self.headers + self.body.octets
        return None

    def pieces(self) -> Pieces:
        """To be sent piece by piece."""
        return Pieces(self.headers, self.body)


class Pieces:
    """The content cut into pieces of about `PIECE` octets; the header section goes with the first."""

    def __init__(self, headers: bytes, body: Body) -> None:
        self._body = body
        self._parts = _parts(headers, body)
        self.rest = len(headers) + body.size

    async def next(self) -> tuple[bytes, bool]:
        """The next piece, and whether it is the last. Raises OSError where a body cannot be read or is not of
        the size that it was."""
        octets = await _in_its_place(self._body, lambda: next(self._parts, b""))
        self.rest -= len(octets)
        if self.rest < 0 or (self.rest and not octets):
            raise OSError("the stored body has another size than before")
        return octets, not self.rest


def _parts(headers: bytes, body: Body) -> Iterator[bytes]:
    held = headers
    for chunk in _chunks(body):
        yield held + chunk if held else chunk
        held = b""
    if held:
        yield held


def _chunks(body: Body) -> Iterator[bytes]:
    if not isinstance(body, InlineBody):
        yield from body.chunks(PIECE)
        return
    for start in range(0, len(body.octets), PIECE):
        yield body.octets[start : start + PIECE]


async def prepare(message: StoredMessage) -> OutgoingContent | Unsendable | None:
    """The content as it is stored, the message's Mail Policy Code on top (AMTP-14); None when the message has
    no content any more. Raises OSError."""
    content = message.content
    if content is None:
        return None
    code = message.envelope.mpc
    headers = message.trace + content.headers
    return await _surveyed(content, headers if code is None else with_mpc(headers, code))


async def prepare_for_amtp(message: StoredMessage) -> OutgoingContent | Unsendable | None:
    """The content without any MPC field: over AMTP the code is a parameter only (AMTP-14). Raises OSError.

    A field that says the same as the envelope goes; one that does not may not be rewritten, and every AMTP
    server would refuse it at the end of the data.
    """
    content = message.content
    if content is None:
        return None
    headers = content.headers
    if mpc_fields(headers):
        if not _says(headers, message.envelope.mpc):
            return _FOREIGN_CODE
        headers = without_mpc(headers)
    return await _surveyed(content, message.trace + headers)


def _says(headers: bytes, code: Mpc | None) -> bool:
    try:
        return read_mpc_field(headers) == code
    except MpcError:
        return False


async def _surveyed(content: Content, headers: bytes) -> OutgoingContent:
    body = content.body
    found = await _in_its_place(body, lambda: survey(_parts(headers, body), len(headers)))
    return OutgoingContent(headers, body, content.is_binary, found)


async def encode(content: OutgoingContent, *, eight_bit: bool) -> OutgoingContent | Unsendable:
    """The content encoded anew for a peer that cannot take it as it is. Raises OSError."""

    def work() -> OutgoingContent | Unsendable:
        body = b"".join(content.body.chunks(PIECE))
        made = encode_for_transport(content.headers, body, eight_bit=eight_bit)
        if isinstance(made, CannotConvert):
            # SMTP-1: binary content that cannot be encoded is a medium that the peer does not support.
            return Unsendable("5.6.1" if content.binary else "5.6.3", f"cannot be converted: {made.reason}")
        new_body = InlineBody(made.body)
        found = survey((made.headers, made.body), len(made.headers))
        if found.stray:
            return Unsendable("5.6.0", "message holds a stray CR, LF or NUL and cannot be sent safely")
        return OutgoingContent(made.headers, new_body, False, found)

    if content.survey.size <= PIECE:
        return await _in_its_place(content.body, work)
    return await asyncio.to_thread(work)


async def _in_its_place(body: Body, work: Callable[[], _T]) -> _T:
    """Work on memory at once, on files in a thread."""
    return work() if isinstance(body, InlineBody) else await asyncio.to_thread(work)
