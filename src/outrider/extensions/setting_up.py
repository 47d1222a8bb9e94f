"""Extensions get their options, and what all of a server are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from outrider.extensions.interface import Context, Memory
from outrider.extensions.postage_office import PostageOffice
from outrider.extensions.registry import Registry


@dataclass(frozen=True, slots=True)
class Place:
    """What all extensions of a server are given; see `Context`."""

    hostname: str
    domains: frozenset[str]
    new_token: Callable[[], str]
    in_thread: Callable[[Callable[[], str]], Awaitable[str]]
    postage: PostageOffice | None = None


def set_up(
    registry: Registry,
    place: Place,
    options: Mapping[str, Mapping[str, object]],
    named: frozenset[str],
    memory: Callable[[str], Memory],
) -> None:
    """Give every extension its options. Raises ValueError that begins with ``NAME.OPTION``, or that tells
    which of the names in `options` or `named` is no extension's."""
    unknown = set(options) | named
    for one in registry:
        extension = one.extension
        unknown.discard(extension.name)
        own = options.get(extension.name, {})
        context = Context(
            place.hostname,
            place.domains,
            own,
            memory(extension.oid),
            place.new_token,
            place.in_thread,
            place.postage,
        )
        try:
            extension.set_up(context)
        except ValueError as error:
            raise ValueError(f"{extension.name}.{error}") from error
    if unknown:
        raise ValueError(f"{min(unknown)}: there is no such extension; see `outrider extension list`")
