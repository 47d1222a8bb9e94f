"""The call-back (AMDP-9): JSON of `/amdp/v1/query` and `/amdp/v1/acknowledge`, and of the service that
vouches for facilities (docs/protocols/amdp.md sections 4 and 7).

Decode with `json_forms.decode(body, Queries)`, encode with `json_forms.encode`. Lists are bounded at 100
items; identifiers are *not* checked for their form here, since a wrong one is answered like an unknown one.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

QUERY_PATH = "/amdp/v1/query"
ACKNOWLEDGE_PATH = "/amdp/v1/acknowledge"
GENUINE_PATH = "/.well-known/amdp-mhf"
MOST_ITEMS = 100
MAX_ANSWER = 262_144
"""Octets of an answer that are read: 100 items of address, number and thread keys."""

_Text = Annotated[str, Meta(max_length=64)]
_Moment = Annotated[int, Meta(ge=0, le=253_402_300_799)]
_ThreadKey = Annotated[str, Meta(max_length=256)]


class Query(Struct, frozen=True):
    """Is this envelope yours, and to whom? Burns nothing."""

    id: _Text
    timestamp: _Moment
    expires: _Moment
    fields: Annotated[str, Meta(max_length=64)]
    """`fields_digest` of the envelope as it arrived: 64 hexadecimal digits."""
    keys: Annotated[str, Meta(max_length=998)] = ""
    """AMDP-Auth-Keys as it arrived."""


class Queries(Struct, frozen=True):
    """At most `MOST_ITEMS`."""

    queries: Annotated[tuple[Query, ...], Meta(max_length=MOST_ITEMS)]


class Answer(Struct, frozen=True, omit_defaults=True):
    """For one query. Where `known` is false, nothing else is said."""

    known: bool
    to: Annotated[str, Meta(max_length=512)] = ""
    confirmation: _Text = ""
    thread: Annotated[tuple[_ThreadKey, ...], Meta(max_length=100)] = ()
    """Message-IDs of the thread, oldest first (AMDP-21)."""

    def __repr__(self) -> str:
        return "Answer(...)"  # the confirmation number opens the message


class Answers(Struct, frozen=True):
    """In the order of the queries, as many."""

    answers: Annotated[tuple[Answer, ...], Meta(max_length=MOST_ITEMS)]


class Acknowledgement(Struct, frozen=True):
    """The answer is stored here: burn the id."""

    id: _Text
    confirmation: _Text

    def __repr__(self) -> str:
        return "Acknowledgement(...)"  # the confirmation number opens the message


class Acknowledgements(Struct, frozen=True):
    """At most `MOST_ITEMS`."""

    acknowledgements: Annotated[tuple[Acknowledgement, ...], Meta(max_length=MOST_ITEMS)]


class Done(Struct, frozen=True, omit_defaults=True):
    """For one acknowledgement; a repeated one is answered the same."""

    done: bool
    confirmation: _Text = ""

    def __repr__(self) -> str:
        return "Done(...)"  # the confirmation number opens the message


class AcknowledgementAnswers(Struct, frozen=True):
    """In the order of the acknowledgements, as many."""

    answers: Annotated[tuple[Done, ...], Meta(max_length=MOST_ITEMS)]


class Genuine(Struct, frozen=True):
    """What the information service says of a facility (AMDP-8)."""

    genuine: bool
