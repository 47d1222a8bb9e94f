"""The Received field that we put on top (RFC 5321 section 4.4, RFC 3848; SMTP-4).

Two halves: what a session says is the same for all its messages and is written once (`trace_origin`), the
rest by message. Whatever a peer chose goes in through a filter that leaves only characters that mean
nothing in a header (SEC-80), and is cut to a length.
"""

from __future__ import annotations

import re

_NOT_NAME = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_COMMENT = re.compile(r"[^A-Za-z0-9._:\[\] ;,=@/+-]")
MAX_NAME = 255
_MAX_COMMENT = 400


def trace_origin(
    *, helo: str, address: str, client_name: str = "", tls: str = "", certificate_name: str = "", host: str
) -> str:
    """From whom, by whom, under which TLS: the half that a session's messages share.

    `client_name` is the forward-confirmed PTR name ("" = none known), `certificate_name` the name that a
    configured CA vouches for, `tls` version and cipher ("" in the clear), `address` "" for a unix socket.
    """
    said = inert_name(helo) or "unknown"
    seen = f"{inert_name(client_name) or 'unknown'} [{_literal(address)}]" if address else "local"
    secured = ""
    if tls:
        proven = f"; client certificate of {inert_name(certificate_name)}" if certificate_name else ""
        secured = f"\r\n\t({inert_comment(tls)}{proven})"
    return f"Received: from {said} ({seen}){secured}\r\n\tby {inert_name(host)} (Outrider)"


def received_field(origin: str, *, protocol: str, message_id: str, recipient: str = "", date: str) -> bytes:
    """The whole field, folded, with its CRLF. `recipient` ("" = several, or not to be told) is a mailbox as
    :class:`outrider.model.address.Address` writes it; it is left out when it is not ASCII."""
    to = f"\r\n\tfor <{recipient}>" if recipient and recipient.isascii() and recipient.isprintable() else ""
    return f"{origin} with {protocol} id {message_id}{to};\r\n\t{date}\r\n".encode("ascii", "replace")


def inert_name(text: str) -> str:
    """A host name or literal with everything else replaced by ``_``, at most 255 long."""
    return _NOT_NAME.sub("_", text[:MAX_NAME])


def inert_comment(text: str) -> str:
    """Text fit to stand inside a comment: no parentheses, backslashes, line ends or 8-bit."""
    return _NOT_COMMENT.sub("_", text[:_MAX_COMMENT])


def _literal(address: str) -> str:
    return inert_name(f"IPv6:{address}" if ":" in address else address)
