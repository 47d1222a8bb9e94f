"""JSON of the subscription service (docs/protocols/amdp.md section 8): bounded, typed, unknown members
ignored."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from outrider.holding.policies.host_documents import Signed

APPLY_PATH = "/amdp/v1/subscriptions/apply"
CONFIRM_PATH = "/amdp/v1/subscriptions/confirm"
LEAVE_PATH = "/amdp/v1/subscriptions/leave"
SYNCHRONISE_PATH = "/amdp/v1/subscriptions/synchronise"
CHANGES_PATH = "/amdp/v1/subscriptions/changes"
SYNCHRONISE_KIND = "amdp-synchronise+json"
CHANGES_KIND = "amdp-changes+json"
MOST_ADDRESSES = 10_000
"""In one submission."""
MOST_CHANGES = 500
"""In one answer."""
MOST_DOMAINS = 1000

_Address = Annotated[str, Meta(max_length=320)]
_Class = Annotated[str, Meta(max_length=255)]
_Token = Annotated[str, Meta(max_length=64)]
_Number = Annotated[int, Meta(ge=0, le=2**62)]


class Apply(Struct, frozen=True):
    """Ask in the name of an address; a letter asks it."""

    wish: Annotated[str, Meta(max_length=16)]
    address: _Address
    sender: _Address = ""
    mail_class: _Class = ""


class Token(Struct, frozen=True):
    """A link's token; `list` where it is one of a list's."""

    token: _Token
    list: _Address = ""


class Done(Struct, frozen=True):
    """Whether it was done; after `apply` always true."""

    done: bool


class Synchronise(Signed, frozen=True):
    """A sender's addresses: which of them accept its mail of this class?"""

    sender: _Address
    """An address or a domain, of the domain that signs."""
    mail_class: _Class
    addresses: Annotated[tuple[_Address, ...], Meta(max_length=MOST_ADDRESSES)]


class Accepting(Struct, frozen=True):
    """One address that does."""

    address: str
    leave: str = ""
    """The link that ends it, for List-Unsubscribe (RFC 8058)."""


class Synchronised(Struct, frozen=True):
    """The answer. `told` is false where too few have subscribed: then nothing is said of anybody."""

    told: bool
    accepting: tuple[Accepting, ...] = ()


class AskChanges(Signed, frozen=True):
    """A peer asks what has changed behind `after`, for domains that it serves."""

    after: _Number
    domains: Annotated[tuple[_Address, ...], Meta(max_length=MOST_DOMAINS)]


class OneChange(Struct, frozen=True):
    """A person's word, confirmed at the server that tells it."""

    address: _Address
    sender: _Address
    mail_class: _Class
    standing: Annotated[str, Meta(max_length=16)]
    at: Annotated[float, Meta(ge=0, le=253_402_300_799)]


class Changes(Struct, frozen=True):
    """In the order in which they happened; `seen` is the number to ask with the next time."""

    seen: _Number
    more: bool
    changes: Annotated[tuple[OneChange, ...], Meta(max_length=MOST_CHANGES)]
