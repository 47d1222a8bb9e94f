"""A message as MT2 has it: envelope, headers and body as objects of their own (MT2-1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MessageObjects:
    """What is kept of the MT2 form of a message beside its `Content`, so that it goes on octet for octet.

    The body object is ``body_prefix`` followed by the octets of ``Content.body``: no second copy of a body is
    kept. `Content.headers` is the same message's header section as SMTP and mailboxes want it.
    """

    envelope: bytes
    """``message/envelope``, the XML as it came."""
    headers: bytes
    """``message/headers``, as it came: XML, or a JWE where its sender encrypted it (MT2-4); empty where the
    message has no such object."""
    body_prefix: bytes
    """The body object's first octets: its MIME fields and the empty line."""
    headers_type: str = "message/headers"
    """The media type under which the headers object came."""
    has_body: bool = True
    """False for a message that is an envelope only, or envelope and headers (MT2-2)."""


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What was answered for one recipient of an MT2 envelope, where it was not taken (MT2-16)."""

    position: int
    """In the envelope's list, from 1."""
    word: str
    """OK, ERR or TMP."""
    code: str
    """The result code, dotted."""
    text: str
    status: str = ""
    """The enhanced status code, where it is not the one that the result code stands for."""


@dataclass(frozen=True, slots=True)
class TakenTransfer:
    """What is remembered of a transfer that was taken, so that its repeat is known for one (MT2-18a)."""

    peer: str
    """The proven identity that sent it."""
    transfer: str
    """The transfer id, unique per envelope and sending host."""
    digest: bytes
    """SHA-256 of the envelope as it came."""
    message: str
    """The queue id it was stored under."""
    taken_at: float
    until: float
    """It is remembered until then at least; longer than a sender keeps on trying."""
    recipients: tuple[RecipientResult, ...] = ()
