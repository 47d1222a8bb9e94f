"""Which name servers to ask: from the configuration, or from the system's resolv.conf."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import dns.resolver

_DNS_PORT = 53
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}))?")
_IPV4 = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Server:
    """A name server's address. Never a name: looking that up would need a name server."""

    address: str
    port: int = _DNS_PORT

    @property
    def is_loopback(self) -> bool:
        """True if no network lies between the server and us, so that nobody could have changed its AD bit."""
        return ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_server(text: str) -> Server:
    """Read `127.0.0.1:5353`, `[::1]:53`, `9.9.9.9` or `2620:fe::fe`; raises ValueError with the reason."""
    match = _BRACKETED.fullmatch(text) or _IPV4.fullmatch(text)
    address, port_text = match.groups() if match else (text, None)
    port = int(port_text) if port_text else _DNS_PORT
    if not 0 < port < 65536:
        raise ValueError(f"{text!r}: the port must be between 1 and 65535")
    try:
        return Server(str(ip_address(address)), port)
    except ValueError:
        raise ValueError(f"{text!r} is not the address of a name server") from None


def system_servers(resolv_conf: str = "/etc/resolv.conf") -> tuple[Server, ...]:
    """Return the system's name servers, () if there are none. Reads a file: call it at start."""
    reader = dns.resolver.Resolver(configure=False)
    try:
        reader.read_resolv_conf(resolv_conf)
    except dns.resolver.NoResolverConfiguration:
        return ()
    return tuple(Server(str(entry), _DNS_PORT) for entry in reader.nameservers if isinstance(entry, str))


def servers_from_config(servers: Sequence[str] | None) -> tuple[Server, ...]:
    """Return the servers for `[dns] servers`: None = the system's, [] = no DNS at all. Raises ValueError."""
    return system_servers() if servers is None else tuple(parse_server(text) for text in servers)
