"""Resolvers for tests: patient unless told otherwise, and closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from outrider.dns.resolver import DnsResolver, ResolverSettings


class Clock:
    """Stands still until a test moves it. Seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def resolver_for(
    *servers: str, clock: Callable[[], float] | None = None, **changes: object
) -> AsyncIterator[DnsResolver]:
    """A resolver that asks `servers`; `changes` are fields of `ResolverSettings`."""
    settings = replace(
        ResolverSettings.from_config(list(servers)),
        **{"try_timeout_s": 5.0, "total_timeout_s": 20.0, **changes},  # type: ignore[arg-type]
    )
    resolver = DnsResolver(settings, clock or Clock())
    try:
        yield resolver
    finally:
        await resolver.aclose()
