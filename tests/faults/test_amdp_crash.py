"""Holder, information service and incoming gateway killed between any two steps of AMDP-9 and of retrieval:
what every recipient got, what every sender was told, and what is left afterwards."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults import ledger
from tests.faults.wire_of_holders import AFTER, BEFORE, ENVELOPE, MIDDLE, HttpsWire, SmtpWire
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.amdp_role_sites import HOLDER_ID, SOON, letter, start_together, submit
from tests.system.sites import Settings, mailbox, site

LONG_S = 6 * PATIENCE_S
SENDER = "ann@alpha.example"
SIZE = 300_000
TOGETHER = 2
"""Recipients of each message."""
SERVICES = ("mhf-1.alpha.example", "amdp-mis.alpha.example", "amdp-mis.beta.example")
QUERY, ACKNOWLEDGE, MESSAGE, RECEIPT = "query", "acknowledge", "message", "receipt"
POLICY, GENUINE = "amdp-policy", "amdp-mhf"


MORTAL = (sys.executable, str(Path(__file__).with_name("mortal.py")))
DIES = "dies"
"""The file that `mortal.py` is told by."""
FAR = 60
"""More than there are transactions for one message."""


@dataclass(frozen=True, slots=True)
class Point:
    """Who is killed where; a step that is remembered is asked for again by a server that has just begun."""

    step: str
    moment: str
    victim: str
    fresh: str = ""

    def __str__(self) -> str:
        return f"{self.victim} {self.moment} {self.step}"


def points(
    step: str, victims: Sequence[str], moments: Sequence[str] = (BEFORE, AFTER), fresh: str = ""
) -> list[Point]:
    return [Point(step, moment, victim, fresh) for moment in moments for victim in victims]


BOTH = ("mhf", "img")
EVERY = [
    *points(POLICY, ("mis", "mhf"), fresh="mhf"),
    *points(ENVELOPE, BOTH),
    *points(GENUINE, ("mis", "img"), fresh="img"),
    *points(QUERY, BOTH),
    *points(ACKNOWLEDGE, BOTH),
    *points(MESSAGE, BOTH, (BEFORE, AFTER, MIDDLE)),
    *points(RECEIPT, BOTH),
]
SOME = [
    Point(GENUINE, BEFORE, "mis"),
    Point(ENVELOPE, AFTER, "mhf"),
    Point(ACKNOWLEDGE, AFTER, "img"),
    Point(ACKNOWLEDGE, AFTER, "mhf"),
    Point(MESSAGE, MIDDLE, "mhf"),
]
"""Those that are quick: a policy that could not be fetched is asked for again after a minute."""


@dataclass
class Parties:
    """The three, and the wires between them."""

    servers: dict[str, OutriderServer]
    address: str
    """Where mail is handed in."""
    sent: int = 0
    _armed: Point | None = None
    _may: threading.Event = field(default_factory=threading.Event)
    _died: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def at(self, step: str, moment: str) -> bool:
        """See `wire_of_holders.At`."""
        point = self._armed
        if point is None or (step, moment) != (point.step, point.moment):
            return False
        # What is handed in meanwhile is to hear its 250 first: it is not what is tried here.
        self._may.wait(LONG_S)
        with self._lock:
            if self._armed is not point:
                return False
            self._armed = None
            self.servers[point.victim].kill()
        self._died.set()
        return True

    def survive(self, point: Point) -> None:
        """A message that meets with this."""
        if point.fresh:
            self.servers[point.fresh].kill()
        self._may.clear()
        self._died.clear()
        self._armed = point
        if point.fresh:
            self.servers[point.fresh].start()
        self.hand_in()
        self._may.set()
        assert self._died.wait(LONG_S), f"nothing came to {point}"
        self.servers[point.victim].start()

    def hand_in(self) -> None:
        """One more message."""
        names = [_reader(self.sent, number) for number in range(TOGETHER)]
        content = letter(SENDER, f"m{self.sent}", SIZE)
        submit(self.address, SENDER, content, [f"{one}@beta.example" for one in names])
        self.sent += 1

    def readers(self) -> dict[str, str]:
        """Everybody who was written to, and what."""
        return {_reader(sent, number): f"m{sent}" for sent in range(self.sent) for number in range(TOGETHER)}

    def wait_settled(self) -> None:
        """Everybody has something, and nobody has anything left to do."""
        img = self.servers["img"]
        for reader in self.readers():
            wait_until(lambda: bool(mailbox(img, reader)), f"mail for {reader}", LONG_S)  # noqa: B023
        self._reports()
        for server in (self.servers["img"], self.servers["mhf"]):
            wait_until(lambda: not ledger.queue_list(server), f"{server.title} to be done", LONG_S)  # noqa: B023

    def is_settled(self) -> bool:
        """Whether what was handed in last has come to its end; False while somebody is dead."""
        last = [_reader(self.sent - 1, number) for number in range(TOGETHER)]
        try:
            return (
                all(mailbox(self.servers["img"], reader) for reader in last)
                and self._told() >= TOGETHER * self.sent
                and not any(ledger.queue_list(self.servers[name]) for name in ("img", "mhf"))
            )
        except (OSError, RuntimeError, SystemExit):
            return False

    def account(self) -> None:
        """Exactly one of everything. What was delivered by a server that died before it could note it is
        delivered a second time, under the same id (FAULT-F10), and is no second message."""
        self.wait_settled()
        mhf, img = self.servers["mhf"], self.servers["img"]
        got = {
            (reader, _token(content), _id(rb"(?ms)^Received: .*?\bid (\w+)", content))
            for reader in self.readers()
            for content in mailbox(img, reader)
        }
        assert sorted((reader, token) for reader, token, _ in got) == sorted(self.readers().items())
        told = {
            (_id(rb"(?i)Final-Recipient: rfc822; *(\S+)", report), _id(rb"(?m)^Message-ID: *(\S+)", report))
            for report in self._reports()
        }
        everybody = sorted(f"{reader}@beta.example" for reader in self.readers())
        assert sorted(reader for reader, _ in told) == everybody
        assert not mhf.cli("held", "list", "--json").stdout, "nothing can be had any more, nothing is locked"
        assert not img.log_events("amdp_lost")
        assert not img.log_events("amdp_incoming_failed")
        assert not mhf.log_events("amdp_holding_failed")

    def _told(self) -> int:
        return len({_id(rb"(?m)^Message-ID: *(\S+)", one) for one in mailbox(self.servers["mhf"], "ann")})

    def _reports(self) -> list[bytes]:
        """What the sender was told."""
        wait_until(lambda: self._told() >= TOGETHER * self.sent, "receipts", LONG_S)
        reports = mailbox(self.servers["mhf"], "ann")
        assert all(b"Action: delivered" in one for one in reports)
        return reports


def _token(content: bytes) -> str:
    whole = content.count(b"0123456789") == SIZE // 12
    return _id(rb"(?m)^begin (\w+)\r?$", content) if whole else "a piece"


def _id(pattern: bytes, content: bytes) -> str:
    """What it finds first."""
    found = re.search(pattern, content)
    return "nothing" if found is None else found[1].decode()


def _reader(sent: int, number: int) -> str:
    return f"r{sent}-{number}"


@contextmanager
def parties(authority: CertificateAuthority, messages: int, mortal: str = "") -> Iterator[Parties]:
    """Alpha's gateway and holder; the information service of both domains; beta's incoming gateway. The one
    that is `mortal` dies at transactions."""
    seen = {name: loopback_address() for name in ("mhf", "mis", "img")}
    real = {name: loopback_address() for name in seen}
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {real['mhf']}\nmhf-1 A {seen['mhf']}\namdp-mis A {seen['mis']}",
        "beta.example": f"@ MX 10 mx\nmx A {seen['img']}\namdp-mis A {seen['mis']}",
    }
    # What the wire before the gateway calls from is known to the information service alone.
    dynamic = {"id": HOLDER_ID, "networks": [seen["img"]]}
    tls = authority.issue(*SERVICES)
    with ExitStack() as stack:
        enter = stack.enter_context
        names = enter(BindServer(zones))

        def server(name: str, domain: str, amdp: Settings, *users: str) -> OutriderServer:
            made = site(
                domain,
                real[name],
                users=users,
                dns={"servers": [f"{names.address}:{names.port}"]},
                amdp={"roles": [name], "incoming": SOON, **amdp},
            )
            made["tls"] = {"public_ca": [str(authority.authority)]}
            # Who dies under several messages has not died of any of them.
            made["delivery"]["poison_after"] = 1_000
            if name != "img":
                made["tls"] |= {"certificate": tls.certificate, "key": tls.key}
                made["listeners"].append({"protocol": "amdp", "address": real[name]})
            if name == "mis":
                made["domains"]["beta.example"] = made["domains"]["alpha.example"]
            if name == mortal:
                dies = {"OUTRIDER_DIES": str(authority.folder / DIES)}
                return OutriderServer(made, title=name, command=MORTAL, environment=dies)
            return OutriderServer(made, title=name)

        readers = [_reader(sent, number) for sent in range(messages) for number in range(TOGETHER)]
        outgoing = {"hold": "all", "classes": {"*": "Agent::Business"}}
        holder = {"roles": ["omg", "mhf"], "holding": dynamic, "outgoing": outgoing}
        servers = {
            "mis": server("mis", "alpha.example", {"holding": dynamic}),
            "img": server("img", "beta.example", {}, *readers),
            "mhf": server("mhf", "alpha.example", holder, "ann"),
        }
        start_together(stack, servers.values())
        made = Parties(servers, real["mhf"])
        for name in ("mhf", "mis"):
            enter(HttpsWire(seen[name], real[name], made.at, tls))
        enter(SmtpWire((seen["img"], 25), (real["img"], 25), made.at, seen["img"]))
        yield made


@pytest.mark.covers("AMDP-9", "AMDP-11", "SEC-188")
def test_killed_at_some_steps_while_mail_goes_on(authority: CertificateAuthority) -> None:
    with parties(authority, len(SOME)) as three:
        for point in SOME:
            three.survive(point)
            three.wait_settled()
        three.account()


@pytest.mark.long
@pytest.mark.covers("AMDP-9", "AMDP-13", "FAULT-F2")
def test_killed_at_every_step(authority: CertificateAuthority) -> None:
    """Each by itself, then looked at."""
    with parties(authority, len(EVERY)) as three:
        for point in EVERY:
            three.survive(point)
            three.account()


@pytest.mark.long
@pytest.mark.covers("AMDP-9", "AMDP-13", "FAULT-F2")
@pytest.mark.parametrize("victim", BOTH)
def test_killed_at_every_transaction(authority: CertificateAuthority, victim: str) -> None:
    """Of its spool and of its tables, in the order in which they come."""
    dies = authority.folder / DIES
    with parties(authority, FAR, victim) as three:
        mortal = three.servers[victim]
        for number in range(1, FAR):
            dies.with_suffix(".new").write_text(str(number))
            if victim == "mhf":
                three.hand_in()  # what it answered counts; taking mail in is tried elsewhere
            dies.with_suffix(".new").rename(dies)
            if victim == "img":
                three.hand_in()
            wait_until(lambda: not mortal.is_running() or three.is_settled(), "an end", LONG_S)
            died = not mortal.is_running()
            dies.unlink(missing_ok=True)
            if not mortal.is_running():
                mortal.start()
            three.account()
            if not died:
                break
        assert 5 < number < FAR - 1
