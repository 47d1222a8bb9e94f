"""AMDP's roles as servers of their own, each with a spool of its own, in the arrangements that sites have.

Alpha.example writes; beta.example reads, its gateway hands on to a mail store.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S
from tests.system.sites import Settings, site

CLASSES = {"ann@alpha.example": "Agent::Business", "news@alpha.example": "Agent::Bulk"}
"""The gateway fetches what ann writes; the envelopes of news go on to their readers."""
HOLDER_ID = "holder-7"
SOON = {"window": 0, "retry": [0.5]}
READERS = ("bob", "carl")


@dataclass(frozen=True, slots=True)
class Roles:
    """Who plays what; one server may play several."""

    gateway: OutriderServer
    holder: OutriderServer
    incoming: OutriderServer
    store: OutriderServer
    """Where beta's mailboxes are."""
    gateway_address: str
    holder_address: str
    """Where the holder is called."""
    sends_from: str
    """The holder's address as receivers see it."""
    authority: CertificateAuthority

    def hand_in(self, sender: str, content: bytes, *recipients: str) -> None:
        """One message from a user of alpha, who asks for receipts."""
        wanted = recipients or tuple(f"{one}@beta.example" for one in READERS)
        submit(self.gateway_address, sender, content, wanted)


def submit(address: str, sender: str, content: bytes, recipients: Sequence[str]) -> None:
    """Hand a message in whose sender wants to know when it was received. Raises smtplib.SMTPException."""
    with smtplib.SMTP(address, 25, timeout=4 * PATIENCE_S) as connection:
        connection.ehlo("client.example")
        refused = connection.sendmail(sender, list(recipients), content, [], ["NOTIFY=SUCCESS,FAILURE"])
        assert not refused, refused


def letter(sender: str, token: str, size: int = 0) -> bytes:
    """What a user writes; the token is in its body only."""
    head = f"From: <{sender}>\r\nTo: readers@beta.example\r\nSubject: what was said\r\n"
    head += f"Message-ID: <{token}@alpha.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n"
    return head.encode() + f"begin {token}\r\n".encode() + b"0123456789\r\n" * (size // 12) + b"end\r\n"


class NameServer(Protocol):
    """Where names are asked for."""

    address: str
    port: int


def amdp_server(
    domain: str,
    address: str,
    names: NameServer,
    authority: CertificateAuthority,
    certificate: Sequence[str],
    amdp: Mapping[str, Any],
    **tables: Any,
) -> Settings:
    """Settings of a server with some of the roles; it listens by HTTPS where others reach any of them."""
    made = site(
        domain,
        address,
        tls=authority.issue(*certificate),
        dns={"servers": [f"{names.address}:{names.port}"]},
        amdp={"incoming": SOON, **amdp},
        **tables,
    )
    if {"mhf", "mis"} & set(amdp["roles"]):
        made["listeners"].append({"protocol": "amdp", "address": address})
    return made


def _store(address: str) -> Settings:
    """The mail store of beta: LMTP for one, SMTP for the other."""
    made = site("beta.example", address, users=READERS)
    made["listeners"].append({"protocol": "lmtp", "address": address, "port": 24})
    return made


def start_together(stack: ExitStack, servers: Iterable[OutriderServer]) -> None:
    """Start servers, none of which needs another to begin; until the stack is closed."""
    begun = list(servers)
    with ThreadPoolExecutor(len(begun)) as threads:
        for one in [threads.submit(stack.enter_context, server) for server in begun]:
            one.result()


@contextmanager
def roles_apart(
    authority: CertificateAuthority, *, provider: bool = False, lmtp: bool = True
) -> Iterator[Roles]:
    """Every role a server of its own.

    The holder is alpha's own, and sends from an address that only alpha's information service knows; or a
    `provider`'s, under the name mhf-2.alpha.example, which DNS lists.
    """
    gateway, holder, sends_from, service, incoming, store = (loopback_address() for _ in range(6))
    name = "mhf-2.alpha.example" if provider else "mhf-1.alpha.example"
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {gateway}\namdp-mis A {service}\n"
        f"{name.partition('.')[0]} A {holder}",
        "beta.example": f"@ MX 10 mx\nmx A {incoming}\namdp-mis A {service}",
        "provider.example": f"@ MX 10 mx\nmx A {holder}",
    }
    dynamic = {} if provider else {"id": HOLDER_ID, "networks": [sends_from]}
    sends = holder if provider else sends_from
    own = "provider.example" if provider else "alpha.example"
    way = f"lmtp:[{store}]:24" if lmtp else f"smtp:[{store}]:25"
    with ExitStack() as stack:
        enter = stack.enter_context
        names = enter(BindServer(zones))

        def server(title: str, *rest: Any, **tables: Any) -> OutriderServer:
            settings = amdp_server(rest[0], rest[1], names, authority, *rest[2:], **tables)
            return OutriderServer(settings, title=title)

        mis = ("mis", "alpha.example", service, ("amdp-mis.alpha.example", "amdp-mis.beta.example"))
        services = server(
            *mis,
            {"roles": ["mis"], "holding": dynamic},
            domains={"beta.example": {"deliver": "maildir:{dir}/mail/{user}"}},
        )
        kept = OutriderServer(_store(store), title="store")
        at_beta = server(
            *("img", "beta.example", incoming, ("mx.beta.example",)),
            {"roles": ["img"]},
            domains={"beta.example": {"deliver": way, "users": list(READERS)}},
            relay={"networks": []},
        )
        holding = {"gateways": [gateway], "names": {"alpha.example": name}, **dynamic}
        at_holder = server(
            *("mhf", own, holder, (f"mx.{own}", name)),
            {"roles": ["mhf"], "holding": holding},
            net={"source_address": sends},
            relay={"networks": []},
            domains={"alpha.example": {"deliver": f"smtp:[{gateway}]:25", "users": ["ann", "news"]}},
        )
        outgoing = {"facility": f"[{holder}]:25", "hold": "all", "classes": CLASSES}
        at_gateway = server(
            *("omg", "alpha.example", gateway, ("mx.alpha.example",)),
            {"roles": ["omg"], "outgoing": outgoing},
            domains={"alpha.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["ann", "news"]}},
        )
        start_together(stack, (services, kept, at_beta, at_holder, at_gateway))
        yield Roles(at_gateway, at_holder, at_beta, kept, gateway, holder, sends, authority)


@contextmanager
def all_in_one(authority: CertificateAuthority, **tables: Any) -> Iterator[Roles]:
    """Two servers that play every role of their site; `tables` are added to the settings of both."""
    address = {"alpha": loopback_address(), "beta": loopback_address()}
    zones = {
        f"{name}.example": f"@ MX 10 mx\nmx A {where}\nmhf-1 A {where}\namdp-mis A {where}"
        for name, where in address.items()
    }
    users = {"alpha": ["ann", "news"], "beta": list(READERS)}
    with ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))
        servers = {}
        for name, where in address.items():
            domain = f"{name}.example"
            settings = amdp_server(
                domain,
                where,
                names,
                authority,
                [f"{host}.{domain}" for host in ("mx", "mhf-1", "amdp-mis")],
                {
                    "roles": ["omg", "mhf", "mis", "img"],
                    "outgoing": {"hold": "all", "classes": CLASSES},
                },
                domains={domain: {"deliver": "maildir:{dir}/mail/{user}", "users": users[name]}},
                **tables,
            )
            servers[name] = OutriderServer(settings, title=name)
        start_together(stack, servers.values())
        alpha, beta = servers["alpha"], servers["beta"]
        where = address["alpha"]
        yield Roles(alpha, alpha, beta, beta, where, where, where, authority)


@contextmanager
def two_nodes(authority: CertificateAuthority, dsn: str) -> Iterator[Roles]:
    """Alpha is two nodes with one database: mail is handed in to the first, and the second is the one that is
    called back. Both send, each as a facility of its own name."""
    first, second, beta = loopback_address(), loopback_address(), loopback_address()
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {first}\nmhf-1 A {second}\nmhf-2 A {first}\namdp-mis A {first}",
        "beta.example": f"@ MX 10 mx\nmx A {beta}\namdp-mis A {beta}",
    }
    spool = {"backend": "postgresql", "dsn": dsn, "reserve": 0, "lease": 3}
    with TemporaryDirectory() as mail, ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))

        def server(title: str, domain: str, address: str, roles: list[str], **tables: Any) -> OutriderServer:
            certificate = [f"{host}.{domain}" for host in ("mx", "mhf-1", "amdp-mis")]
            amdp = {"roles": roles, "outgoing": {"hold": "all", "classes": CLASSES}}
            settings = amdp_server(domain, address, names, authority, certificate, amdp, **tables)
            if "spool" in tables:
                settings["hostname"] = f"{title}.{domain}"
            return stack.enter_context(OutriderServer(settings, title=title))

        way = {"alpha.example": {"deliver": f"maildir:{mail}/{{user}}", "users": ["ann", "news"]}}
        at_beta = server("beta", "beta.example", beta, ["img", "mis"], users=READERS)
        holding = ["omg", "mhf", "mis"]
        nodes = [
            server(title, "alpha.example", address, holding, spool=spool, domains=way)
            for title, address in (("first", first), ("second", second))
        ]
        yield Roles(nodes[0], nodes[1], at_beta, at_beta, first, second, second, authority)
