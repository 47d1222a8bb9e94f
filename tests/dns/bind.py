"""ISC BIND as a peer: an authoritative server for master files, or a validating resolver."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query

from tests.peers.addresses import shared_address_port
from tests.peers.rooms import Room, wait_until

# named serves only addresses that an interface has, so it cannot have one of its own as other peers do.
_ADDRESS = "127.0.0.1"
_STATE = "var/cache/bind"
_OPTIONS = """
options {{
    directory "/{state}";
    listen-on port {port} {{ {address}; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    querylog no;
    minimal-responses yes;
    forward only;
    forwarders {{ {forwarders} }};
    {options}
}};
controls {{ }};
"""


class Bind:
    """A `named`. `zones`: origin -> content of its master file.

    `options` are further statements for the options block, `statements` further top-level ones;
    `forwarder` is the server asked for all that is not in the zones. No root server is ever asked.
    """

    def __init__(
        self,
        zones: Mapping[str, str],
        *,
        options: str = "recursion no; dnssec-validation no;",
        statements: str = "",
        forwarder: str = "127.0.0.1 port 1;",
    ) -> None:
        self.address = _ADDRESS
        self.port = shared_address_port()
        self._zones = zones
        self._options = options
        self._statements = statements
        self._forwarder = forwarder

    @property
    def endpoint(self) -> str:
        """Where it listens, in the form of `[dns] servers`."""
        return f"{self.address}:{self.port}"

    def __enter__(self) -> Self:
        self._room = Room("bind", f"bind {self.endpoint}")
        try:
            self._room.folder(_STATE, owner="bind")
            self._room.write("etc/bind/named.conf", self._configuration())
            for number, text in enumerate(self._zones.values()):
                self._room.write(f"etc/bind/zone-{number}", text)
            self._room.start("named", "-g", "-n", "1", "-c", "/etc/bind/named.conf", user="bind")
            self._room.wait_listening(self.address, self.port)
            wait_until(self._answers, f"{self._room.title} answering")
        except BaseException:
            self._room.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.close()

    def _configuration(self) -> str:
        head = _OPTIONS.format(
            state=_STATE,
            port=self.port,
            address=self.address,
            options=self._options,
            forwarders=self._forwarder,
        )
        zones = [
            f'zone "{origin}" {{ type primary; file "/etc/bind/zone-{number}"; }};\n'
            for number, origin in enumerate(self._zones)
        ]
        return "".join([head, *zones, self._statements])

    def _answers(self) -> bool:
        """Tell whether the zones are loaded: named listens a moment before."""
        for origin in self._zones:
            try:
                answer = dns.query.udp(dns.message.make_query(origin, "SOA"), self.address, 2, self.port)
            except (OSError, dns.exception.Timeout):
                return False
            if not answer.answer:
                return False
        return self._room.is_running()
