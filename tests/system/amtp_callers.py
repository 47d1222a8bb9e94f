"""An AMTP site, hosts that call it with certificates of OpenSSL's making, and a real DNS that knows them."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.identity.openssl import Made, OpenSsl
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.rooms import PATIENCE_S
from tests.system.sites import Settings, read_reply, site

PORT = 10125
SERVER_NAME = "mx.alpha.example"


@dataclass(frozen=True, slots=True)
class Caller:
    """A host that connects: from an address, with a certificate or none."""

    address: str
    certificate: Made | None = None

    def context(self) -> ssl.SSLContext:
        """TLS as this host speaks it; it believes any server, that is not what these tests are about."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        return context

    @contextlib.contextmanager
    def connect(self, address: str, port: int = PORT) -> Iterator[Dialogue]:
        """A connection whose greeting has been read."""
        plain = socket.create_connection((address, port), PATIENCE_S, (self.address, 0))
        with (
            plain,
            self.context().wrap_socket(plain, server_hostname=SERVER_NAME) as link,
            link.makefile("rb") as wire,
        ):
            yield Dialogue(link, wire, read_reply(wire))


@dataclass(slots=True)
class Dialogue:
    """Lines and replies."""

    link: ssl.SSLSocket
    wire: Any
    greeting: bytes = b""

    def say(self, line: str) -> bytes:
        """One line; the whole reply."""
        self.link.sendall(line.encode() + b"\r\n")
        return read_reply(self.wire)

    def code(self, line: str) -> int:
        """One line; the reply's code, 0 when the server has closed."""
        return int(self.say(line)[:3] or 0)

    def declarations(self, name: str) -> list[str]:
        """The MPC lines of the reply to EHLO."""
        reply = self.say(f"EHLO {name}")
        assert reply.startswith(b"250"), reply
        lines = reply.decode().split("\r\n")
        return [line[8:] for line in lines if line[4:8] == "MPC "]

    def plain_login(self, login: str, password: str) -> int:
        """AUTH PLAIN; its code."""
        response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
        return self.code(f"AUTH PLAIN {response}")

    def content(self, octets: bytes) -> bytes:
        """DATA and a message; the reply at its end."""
        assert self.code("DATA") == 354
        self.link.sendall(octets + b".\r\n")
        return read_reply(self.wire)


@dataclass
class World:
    """Two authorities, a name server, and what they know."""

    folder: Path
    records: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.maker = OpenSsl(self.folder / "made")
        self.public = self.maker.root("Public root")
        self.private = self.maker.root("Private root")
        self.own = self.maker.host(self.public, f"DNS:{SERVER_NAME}")
        self.address = loopback_address()

    def host(self, name: str, *, certificate: Made | None = None, **dns: Any) -> Caller:
        """A public host of that name, known to DNS both ways unless told otherwise."""
        caller = Caller(loopback_address(), certificate or self.maker.host(self.public, f"DNS:{name}"))
        self.know(caller.address, name, **dns)
        return caller

    def know(
        self, address: str, name: str, *, pointers: Sequence[str] | None = None, forward: str = ""
    ) -> None:
        """PTR and A records; `pointers` replaces the name, `forward` the address that it leads to."""
        reverse = ".".join(reversed(address.split(".")[1:]))
        for pointer in (name,) if pointers is None else pointers:
            self.pointers.append(f"{reverse} PTR {pointer}.")
        self.records.append(f"{name.removesuffix('.example')} A {forward or address}")

    def name_server(self, **options: str) -> BindServer:
        """BIND with all that is known so far."""
        zones = {"example": "\n".join(self.records), "127.in-addr.arpa": "\n".join(self.pointers)}
        return BindServer(zones, **options)

    def settings(self, dns: BindServer | None, **tables: Any) -> Settings:
        """The site alpha.example with a public AMTP listener, unless `listeners` says otherwise."""
        listeners = tables.pop("listeners", [{"protocol": "amtp", "address": self.address}])
        tls: dict[str, Any] = {
            "certificate": str(self.own.certificate),
            "key": str(self.own.key),
            "public_ca": [str(self.public.certificate)],
            **tables.pop("tls", {}),
        }
        servers = {"servers": [f"{dns.address}:{dns.port}"] if dns is not None else [], "timeout": 5.0}
        relay = tables.pop("relay", {"networks": []})
        return {
            **site("alpha.example", self.address, dns=servers, **tables),
            "listeners": [*listeners, {"protocol": "http", "address": self.address}],
            "tls": tls,
            "relay": relay,
        }


def rule(name: str, action: str, when: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A rule of the policy."""
    return {"name": name, "action": action, "when": dict(when), **more}


def metric(address: str, name: str, **labels: str) -> float:
    """One sample of the metrics page; 0 where there is none."""
    with urllib.request.urlopen(f"http://{address}:9464/metrics", timeout=PATIENCE_S) as page:
        text = page.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels.items() >= labels.items():
                return float(sample.value)
    return 0.0
