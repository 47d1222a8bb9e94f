"""BIND as a peer: an authoritative name server for the zones that a test writes."""

from __future__ import annotations

from collections.abc import Mapping

from tests.peers.addresses import shared_address_port
from tests.peers.mailserver import lines
from tests.peers.rooms import Room
from tests.peers.tenant import Tenant


class BindServer(Tenant):
    """A running BIND, authoritative for `zones`: names without final dot, with their records.

    Records are lines of a zone file and may use names relative to the zone; the SOA and NS records are added.
    `options` adds lines to the options block, for example `recursion yes;`.
    """

    def __init__(self, zones: Mapping[str, str], *, options: str = "") -> None:
        # BIND takes only addresses that an interface lists, and lo lists this one.
        self.address = "127.0.0.1"
        self.port = shared_address_port()
        self._zones = dict(zones)
        self._options = options

    def make_room(self) -> Room:
        return Room("bind", f"bind {self.address}:{self.port}")

    def move_in(self) -> None:
        self._configure()
        self.start()

    def start(self) -> None:
        """Start the server (again, after `stop`) and wait until it accepts connections."""
        self.room.start("/usr/sbin/named", "-g", "-c", "/etc/named.conf", "-u", "bind", "-n", "1")
        self.room.wait_listening(self.address, self.port)

    def stop(self) -> None:
        """Stop the server."""
        self.room.stop()

    def log(self) -> str:
        """Return all that the server has logged."""
        return self.room.log()

    def _configure(self) -> None:
        self.room.folder("var/cache/bind", owner="bind")
        for number, (name, records) in enumerate(self._zones.items()):
            self.room.write(f"etc/zones/{number}", _zone_text(name, records))
        self.room.write("etc/named.conf", self._configuration())

    def _configuration(self) -> str:
        zones = [
            f'zone "{name}" {{ type primary; file "/etc/zones/{number}"; }};'
            for number, name in enumerate(self._zones)
        ]
        return lines(
            "options {",
            '  directory "/var/cache/bind";',
            f"  listen-on port {self.port} {{ {self.address}; }};",
            "  listen-on-v6 { none; };",
            "  recursion no;" if "recursion" not in self._options else None,
            "  dnssec-validation no;" if "dnssec-validation" not in self._options else None,
            "  empty-zones-enable no;",
            "  pid-file none;",
            "  session-keyfile none;",
            f"  {self._options}",
            "};",
            "controls { };",
            *zones,
        )


def _zone_text(name: str, records: str) -> str:
    return lines(
        f"$ORIGIN {name}.",
        "$TTL 300",
        "@ SOA ns hostmaster 1 3600 600 86400 60",
        "@ NS ns",
        "" if any(line.split()[:1] == ["ns"] for line in records.split("\n")) else "ns A 127.0.0.1",
        records,
    )
