"""Three sites in a row that speak every protocol: origin writes, hub takes by one and sends on by another,
sink keeps. By which is said by the address: `smtp@mt2.hub.example` reaches hub by MT2 and leaves by SMTP.

Hub is a holding facility of origin's domain too, under the name `mhf-2.origin.example`: only such may hold
its mail (AMDP-8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.system.amtp_sites import AMTP_PORT, CODE, reverse_zone
from tests.system.mt2_sites import MT2_PORT
from tests.system.proving_sites import proving_site
from tests.system.sites import Settings

PROTOCOLS = ("smtp", "qmtp", "amtp", "mt2", "amdp")
SITES = ("origin", "hub", "sink")
LOOP = "loop.example"
"""A domain that hub sends on to sink by SMTP, and sink to hub by MT2."""
LOOP_BY_ADDRESS = "loop2.example"
"""The same, but that hub knows sink by its address alone: seals cannot name sink then."""
MOST_HOPS = 12
HELD_FOR_ORIGIN = "mhf-2.origin.example"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The three, running."""

    origin: OutriderServer
    hub: OutriderServer
    sink: OutriderServer
    origin_address: str


def _zone(address: str) -> str:
    """What a site publishes for its host and for its five domains, each reached by one protocol."""
    lines = [f"@ MX 10 mx\nmx A {address}"]
    for name in ("@", *PROTOCOLS):
        prefix = "" if name == "@" else f".{name}"
        if name != "@":
            lines.append(f"{name} MX 10 mx")
        lines += [f"{host}{prefix} A {address}" for host in ("mhf-1", "amdp-mis")]
    lines.append(f"_amtp._tcp.amtp SRV 10 1 {AMTP_PORT} mx")
    lines.append(f"_mt2._tcp.mt2 SRV 10 1 {MT2_PORT} mx")
    return "\n".join(lines)


def _names(site: str) -> tuple[str, ...]:
    """What a site's certificate is good for."""
    zone = f"{site}.example"
    domains = (zone, *(f"{protocol}.{zone}" for protocol in PROTOCOLS))
    amdp = tuple(f"{host}.{domain}" for domain in domains for host in ("mhf-1", "amdp-mis"))
    further = (HELD_FOR_ORIGIN,) if site == "hub" else ()
    return (f"mx.{zone}", *domains, *amdp, *further)


def _ways(to: str, address: str) -> dict[str, Any]:
    """Routes to the next site's five domains."""
    return {
        f"smtp.{to}.example": f"smtp:[{address}]:25",
        f"qmtp.{to}.example": f"qmtp:[{address}]:209",
        f"amtp.{to}.example": {"to": "mx", "protocols": ["amtp"]},
        f"mt2.{to}.example": f"mt2:mx.{to}.example",
        f"amdp.{to}.example": "amdp",
    }


def _site(
    name: str, address: str, authority: CertificateAuthority, names: BindServer, routes: dict[str, Any]
) -> Settings:
    settings = proving_site(
        f"{name}.example",
        address,
        authority,
        names,
        {"protocol": "mt2"},
        certificate=_names(name),
        routes=routes,
        mt2={"pipe": ["*"]},
        mpc={
            "assigned": [{"value": CODE, "networks": ["127.0.0.0/8"]}],
            "field_from": ["127.0.0.0/8"],
        },
        amdp={"roles": ["omg", "mhf", "mis", "img"], "incoming": {"window": 0}},
        limits={"hops": MOST_HOPS},
    )
    for protocol in ("qmtp", "amtp", "amdp"):
        settings["listeners"].append({"protocol": protocol, "address": address})
    return settings


@contextmanager
def gateway(authority: CertificateAuthority) -> Iterator[Gateway]:
    """All of it."""
    address = {name: loopback_address() for name in SITES}
    hosts = {address[name]: f"mx.{name}.example" for name in SITES}
    zones = {f"{name}.example": _zone(address[name]) for name in SITES} | reverse_zone(hosts)
    zones["origin.example"] += f"\nmhf-2 A {address['hub']}"
    with ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))
        settings = {
            "origin": _site("origin", address["origin"], authority, names, _ways("hub", address["hub"])),
            "hub": _site("hub", address["hub"], authority, names, _ways("sink", address["sink"])),
            "sink": _site("sink", address["sink"], authority, names, {}),
        }
        for domain, way in (
            (LOOP, "smtp:mx.sink.example:25"),
            (LOOP_BY_ADDRESS, f"smtp:[{address['sink']}]:25"),
        ):
            settings["origin"]["routes"][domain] = f"qmtp:[{address['hub']}]:209"
            settings["hub"]["routes"][domain] = way
            settings["sink"]["routes"][domain] = "mt2:mx.hub.example"
        settings["hub"]["amdp"]["holding"] = {"names": {"origin.example": HELD_FOR_ORIGIN}}
        for protocol in PROTOCOLS:
            settings["hub"]["domains"][f"{protocol}.hub.example"] = {
                "deliver": "maildir:{dir}/mail/{user}",
                "users": ["postmaster"],
                "aliases": {out: [f"{protocol}@{out}.sink.example"] for out in PROTOCOLS},
            }
            settings["sink"]["domains"][f"{protocol}.sink.example"] = {
                "deliver": "maildir:{dir}/mail/{domain}/{user}",
                "users": list(PROTOCOLS),
            }
        servers = {
            name: stack.enter_context(OutriderServer(settings[name], title=name))
            for name in ("sink", "hub", "origin")
        }
        yield Gateway(servers["origin"], servers["hub"], servers["sink"], address["origin"])
