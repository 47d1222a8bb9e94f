"""Connecting to an address and port, or to a unix socket, in bounded time and from the configured source."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

Destination = IPv4Address | IPv6Address | str
"""An IP address, or the path of a unix socket."""

_P = TypeVar("_P", bound=asyncio.Protocol)


class DialFailed(Exception):
    """There is no connection; the text says why, for the operator and the sender."""


@dataclass(frozen=True, slots=True)
class Dialling:
    """How connections are made."""

    timeout_s: float = 30.0
    source_address: str = ""
    """Local IPv4 address; "" = the system chooses."""
    source_address6: str = ""
    """Local IPv6 address."""

    async def dial(self, address: Destination, port: int, factory: Callable[[], _P]) -> _P:
        """Connect; the protocol that `factory` made has been called `connection_made`. Raises DialFailed."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._connect(address, port, factory)
        except TimeoutError:
            raise DialFailed(f"no connection within {self.timeout_s:g} s") from None
        except OSError as error:
            raise DialFailed(f"cannot connect: {_words(error)}") from None

    async def _connect(self, address: Destination, port: int, factory: Callable[[], _P]) -> _P:
        loop = asyncio.get_running_loop()
        if isinstance(address, str):
            _, protocol = await loop.create_unix_connection(factory, address)
        else:
            source = self.source_address6 if address.version == 6 else self.source_address
            local = (source, 0) if source else None
            _, protocol = await loop.create_connection(factory, str(address), port, local_addr=local)
        return protocol


def _words(error: OSError) -> str:
    """The system's words, without addresses and paths in them."""
    return os.strerror(error.errno).lower() if error.errno else "the system gives no reason"


def name_of(host: str, address: Destination, port: int) -> str:
    """A destination as results and logs have it: ``mx.example [192.0.2.1]:25``."""
    if isinstance(address, str):
        return f"{host or 'unix'} [{address}]"
    return f"{host} [{address}]:{port}"
