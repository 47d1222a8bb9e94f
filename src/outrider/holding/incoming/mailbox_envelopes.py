"""Envelopes in a mailbox: told from other mail, and exchanged for the messages that they announce (AMDP-14,
AMDP-15).

What the incoming gateway has verified bears AMDP-Verified-*; its confirmation number opens the message. What
came by a server without AMDP is an envelope that nobody has called back about, with a link token in its
text; it is used only by who says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from outrider.holding.web import CallFailed, WebCaller
from outrider.message.header_fields import find_field, header_fields
from outrider.model.content import split_content
from outrider.protocols.amdp.digest import DigestCheck, DigestError
from outrider.protocols.amdp.envelope import MOST_REFERENCES, HeldEnvelope, read_envelope, retrieval_link
from outrider.protocols.amdp.identifiers import is_identifier
from outrider.protocols.amdp.json_forms import FormError, decode, encode
from outrider.protocols.amdp.retrieval import (
    MAX_ANSWER,
    MESSAGE_PATH,
    RECEIPT_PATH,
    MessageAsked,
    Receipt,
    ReceiptTaken,
)
from outrider.protocols.amdp.values import EnvelopeError

MAX_ENVELOPE: Final = 262_144
"""Octets; a larger message is none."""
_REFERENCE: Final = re.compile(rb"<([!-;=?-~]{1,250})>")
_VERIFIED: Final = b"AMDP-Verified-"
_OF_THE_MAILBOX: Final = frozenset({b"amdp-verified-confirmation", b"amdp-verified-link"})


@dataclass(frozen=True, slots=True)
class Announced:
    """A message that waits at its holder."""

    envelope: HeldEnvelope
    secret: str
    """Confirmation number or link token."""
    proven: bool
    """An incoming gateway has called the holder back."""
    thread: tuple[str, ...] = ()
    """Message-IDs of the thread that the message belongs to, as its holder told that gateway (AMDP-21)."""

    def __repr__(self) -> str:
        return f"Announced({self.envelope.holder}, proven={self.proven})"  # the secret opens the message


class NotHeldError(Exception):
    """The message is not to be had, now or ever; the text is for people."""


class HolderAwayError(Exception):
    """Not now; the text is for people."""


def read_announced(octets: bytes) -> Announced | None:
    """What a message in a mailbox announces; None for ordinary mail. Raises EnvelopeError for an envelope
    that cannot be used."""
    if len(octets) > MAX_ENVELOPE:
        return None
    headers, body = split_content(octets)
    if find_field(headers, b"AMDP-Verified-Msg-Id") is not None:
        number = find_field(headers, b"AMDP-Verified-Confirmation")
        secret = number.unfolded.decode("ascii", "replace") if number else ""
        return replace(_announced(_as_sent(headers), secret, proven=True), thread=_thread(headers))
    if find_field(headers, b"AMDP-Msg-Id") is None:
        return None
    envelope = read_envelope(headers)
    link = re.escape(retrieval_link(envelope).encode("ascii"))
    tokens = set(re.findall(rb"(?<![^\s<])%b/([a-z2-7]{26})(?![^\s>])" % link, body))
    if len(tokens) != 1:
        raise EnvelopeError("its text holds no link that opens the message")
    return _announced(headers, tokens.pop().decode("ascii"), proven=False)


def _announced(headers: bytes, secret: str, *, proven: bool) -> Announced:
    if not is_identifier(secret):
        raise EnvelopeError("it has no confirmation number")
    return Announced(read_envelope(headers), secret, proven)


def _thread(headers: bytes) -> tuple[str, ...]:
    field = find_field(headers, b"References")
    found = _REFERENCE.findall(field.unfolded) if field else []
    return tuple(one.decode("ascii") for one in found[:MOST_REFERENCES])


def _as_sent(headers: bytes) -> bytes:
    """AMDP-Verified-X as AMDP-X again; what else says AMDP was not verified and goes."""
    kept: list[bytes] = []
    for field in header_fields(headers):
        name = field.name.lower()
        written = headers[field.start : field.end]
        if name in _OF_THE_MAILBOX:
            continue
        if name.startswith(_VERIFIED.lower()):
            kept.append(b"AMDP-" + written[len(_VERIFIED) :])
        elif not name.startswith(b"amdp-"):
            kept.append(written)
    return b"".join(kept) + b"\r\n"


async def retrieve(caller: WebCaller, announced: Announced, write: Callable[[bytes], object]) -> None:
    """Pull the message; `write` gets its octets, all of which are nothing before this returns: then length
    and digest are those that the envelope told (AMDP-22). Raises NotHeldError, HolderAwayError; what `write`
    raises."""
    envelope = announced.envelope
    asked = encode(MessageAsked(envelope.id, announced.secret))
    check = DigestCheck(envelope.digest)
    holder, port = envelope.holder, envelope.port
    try:
        async with caller.stream(holder, port, MESSAGE_PATH, asked, limit=envelope.size) as answer:
            _check_status(answer.status, holder)
            async for octets in answer.pieces():
                check.feed(octets)
                write(octets)
        check.finish()
    except DigestError as error:
        raise NotHeldError(f"{holder} gave another message than was announced: {error}") from error
    except CallFailed as error:
        raise _for_failed(error) from error


async def confirm(caller: WebCaller, announced: Announced) -> None:
    """Tell the holder that the message is stored: it may delete it. Repeatable. Raises HolderAwayError, and
    NotHeldError where the holder knows nothing of it (any more), which leaves nothing to be done."""
    envelope = announced.envelope
    receipt = encode(Receipt(envelope.id, announced.secret, str(envelope.digest)))
    try:
        answer = await caller.post(envelope.holder, envelope.port, RECEIPT_PATH, receipt, limit=MAX_ANSWER)
        _check_status(answer.status, envelope.holder)
        if not decode(answer.body, ReceiptTaken).done:
            raise HolderAwayError(f"{envelope.holder} has not taken the receipt")
    except CallFailed as error:
        raise _for_failed(error) from error
    except FormError as error:
        raise HolderAwayError(f"{envelope.holder} gave no answer that is one: {error}") from error


def _check_status(status: int, holder: str) -> None:
    if status == 404:
        raise NotHeldError(f"{holder} does not have it: fetched, expired, withdrawn, or never there")
    if status != 200:
        raise HolderAwayError(f"{holder} answers {status}")


def _for_failed(error: CallFailed) -> Exception:
    return HolderAwayError(str(error)) if error.temporary else NotHeldError(str(error))


# -- the message in place of the envelope ------------------------------------------------------------------


def replacing_headers(envelope_headers: bytes, announced: Announced, host: str, date: str) -> bytes:
    """What goes on top of the fetched message in a mailbox: what the delivery of the envelope put on top of
    it, and how the message came (RFC 5321 section 4.4)."""
    kept = b"".join(
        envelope_headers[field.start : field.end]
        for field in header_fields(envelope_headers)
        if field.name.lower() in (b"return-path", b"delivered-to")
    )
    envelope = announced.envelope
    proof = "its holder called back" if announced.proven else "nobody has called its holder back"
    received = f"Received: from {envelope.holder} by {host} with HTTPS\r\n (AMDP; {proof});\r\n {date}\r\n"
    return kept + received.encode("ascii", "replace")
