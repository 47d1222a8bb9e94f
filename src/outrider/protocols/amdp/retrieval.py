"""Retrieval (AMDP-13): JSON of `/amdp/v1/message` and `/amdp/v1/receipt`, and the link for people
(docs/protocols/amdp.md sections 5 and 6).

Decode with `json_forms.decode(body, MessageAsked)`, encode with `json_forms.encode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from outrider.protocols.amdp.identifiers import is_identifier

MESSAGE_PATH = "/amdp/v1/message"
RECEIPT_PATH = "/amdp/v1/receipt"
PAGE_PATH = "/m/"
MAX_ANSWER = 4096
"""Octets of the answer to a receipt that are read."""

_Text = Annotated[str, Meta(max_length=64)]


class MessageAsked(Struct, frozen=True):
    """Please hand out the message."""

    id: _Text
    confirmation: _Text

    def __repr__(self) -> str:
        return "MessageAsked(...)"  # the confirmation number opens the message


class Receipt(Struct, frozen=True):
    """The message is stored here, verified: the holder may delete it."""

    id: _Text
    confirmation: _Text
    digest: Annotated[str, Meta(max_length=100)]
    """AMDP-Digest of what was fetched."""

    def __repr__(self) -> str:
        return "Receipt(...)"


class ReceiptTaken(Struct, frozen=True):
    """Answer to a receipt, to a repeated one too."""

    done: bool


@dataclass(frozen=True, slots=True)
class PageAsked:
    """What the path of a retrieval page names."""

    id: str
    secret: str
    """Confirmation number or link token; "" where the path has none."""
    action: str = ""
    """What follows: a word of `a-z`, "" for the page itself."""

    def __repr__(self) -> str:
        return "PageAsked(...)"


def page_path(message_id: str, secret: str) -> str:
    """``/m/ID/SECRET``; ``/m/ID`` where there is no secret (yet)."""
    return f"{PAGE_PATH}{message_id}/{secret}" if secret else f"{PAGE_PATH}{message_id}"


def read_page_path(path: str) -> PageAsked | None:
    """What a path asks for: ``/m/ID[/SECRET[/ACTION]]``; None for every other form (SEC-186)."""
    if not path.startswith(PAGE_PATH) or len(path) > 128:
        return None
    message_id, _, rest = path[len(PAGE_PATH) :].partition("/")
    secret, slash, action = rest.partition("/")
    if not is_identifier(message_id) or (secret and not is_identifier(secret)):
        return None
    if slash and not (action.isascii() and action.isalpha() and action.islower()):
        return None
    return PageAsked(message_id, secret, action)
