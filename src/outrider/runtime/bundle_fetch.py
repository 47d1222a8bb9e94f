"""Fetching a trust bundle by https: from public addresses only, no further than one answer, within bounds.

What arrives is believed for its signature, not for where it came from; TLS keeps a listener from learning
what we follow, and an attacker from holding a newer edition back unnoticed for as long as the old one lasts.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from outrider.dns.answers import DnsError
from outrider.dns.resolver import DnsResolver, ResolverSettings
from outrider.identity.signed_document import MAX_OCTETS
from outrider.routing.private_addresses import AddressGuard, IPAddress

TIMEOUT_S = 30.0


class FetchFailed(Exception):
    """There is no answer to use; the text says why."""


def fetch(url: str, dns: ResolverSettings, guard: AddressGuard, ca_files: Sequence[Path] = ()) -> bytes:
    """What lies at an https URL. Raises FetchFailed.

    `ca_files` replace the system's CAs. Loopback and private addresses are refused (SSRF) unless `guard`
    allows them; redirections are not followed.
    """
    try:
        return asyncio.run(_fetch(url, dns, guard, _context(ca_files)))
    except TimeoutError as error:
        raise FetchFailed(f"{url}: no whole answer within {TIMEOUT_S:.0f} s") from error
    except aiohttp.ClientConnectorError as error:
        raise FetchFailed(f"{url}: {error.os_error}") from error  # our resolver's own words among them
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchFailed(f"{url}: {error or type(error).__name__}") from error


def _context(ca_files: Sequence[Path]) -> ssl.SSLContext:
    context = ssl.create_default_context() if not ca_files else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in ca_files:
        context.load_verify_locations(path)
    return context


async def _fetch(url: str, dns: ResolverSettings, guard: AddressGuard, context: ssl.SSLContext) -> bytes:
    target = URL(url)
    if target.scheme != "https" or not target.host:
        raise ValueError("only https is fetched")
    _refuse_literal(target.host, guard)
    resolver = _GuardedResolver(dns, guard)
    connector = aiohttp.TCPConnector(resolver=resolver, ssl=context, use_dns_cache=False)
    settings = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(
            connector=connector, timeout=settings, trust_env=False, auto_decompress=False
        ) as session:
            return await _answer(session, target)
    finally:
        await resolver.close()


async def _answer(session: aiohttp.ClientSession, url: URL) -> bytes:
    headers = {"Accept-Encoding": "identity"}
    async with session.get(url, allow_redirects=False, headers=headers) as response:
        if response.status != 200:
            raise ValueError(f"the answer is {response.status}")
        octets = await response.content.read(MAX_OCTETS + 1)
        while len(octets) <= MAX_OCTETS and (more := await response.content.read(MAX_OCTETS)):
            octets += more
    if len(octets) > MAX_OCTETS:
        raise ValueError(f"the answer is larger than {MAX_OCTETS} octets")
    return octets


def _refuse_literal(host: str, guard: AddressGuard) -> None:
    """An address in the URL is connected to without the resolver being asked."""
    try:
        address = ip_address(host)
    except ValueError:
        return
    _check(host, [address], guard)


def _check(host: str, addresses: Sequence[IPAddress], guard: AddressGuard) -> list[IPAddress]:
    refusals = [guard.refusal(one) for one in addresses]
    allowed = [one for one, refusal in zip(addresses, refusals, strict=True) if not refusal]
    if not allowed:
        raise ValueError(f"{host} {refusals[0] if refusals else 'has no address'}")
    return allowed


class _GuardedResolver(AbstractResolver):
    """aiohttp's view of our resolver: names lead to addresses that may be connected to, and to no others."""

    def __init__(self, settings: ResolverSettings, guard: AddressGuard) -> None:
        self._dns = DnsResolver(settings)
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        try:
            answer = await self._dns.addresses(host)
            allowed = _check(host, answer.addresses, self._guard)
        except (DnsError, ValueError) as error:
            raise OSError(str(error)) from error
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            ResolveResult(
                hostname=host,
                host=str(one),
                port=port,
                family=families[one.version],
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in allowed
            if family in (socket.AF_UNSPEC, families[one.version])
        ]

    async def close(self) -> None:
        """Stop what is under way."""
        await self._dns.aclose()
