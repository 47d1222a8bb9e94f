"""Strangers at a running holder and incoming gateway: guesses, other people's copies, forged buttons, link
scanners, and envelopes that would have it call where it must not."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, repeat

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from outrider.model.address import parse_address, parse_domain
from outrider.protocols.amdp.envelope import HeldEnvelope
from tests.attacks.stub_dns import PORT, StubDns
from tests.faults.sink import Sink
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.reception.envelope_rig import held, octets
from tests.system.amdp_role_sites import amdp_server, letter, submit
from tests.system.sites import Settings, smtp_dialogue

HOLDER = "mhf-1.alpha.example"
OTHER_HOLDER = "mhf-1.gamma.example"
FORM = "application/x-www-form-urlencoded"
GUESS = "a" * 26
LINK = re.compile(rb"https://[^/\s]+/m/([a-z2-7]{26})/([a-z2-7]{26})")


@dataclass(frozen=True, slots=True)
class Holder:
    """A holder of two domains, and what the readers of one message were sent."""

    server: OutriderServer
    address: str
    context: ssl.SSLContext
    links: list[tuple[str, str]]
    """Id and link token of each reader."""
    private: str
    """An address that it must not call."""

    def ask(
        self, method: str, path: str, body: str = "", host: str = HOLDER, source: str = "", **headers: str
    ) -> tuple[int, bytes]:
        """Status and all that is answered, by a connection of its own, octet for octet as it is said here."""
        fields = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **headers}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name.replace('_', '-')}: {fields[name]}" for name in fields),
        ]
        place = (source, 0) if source else None
        with (
            socket.create_connection((self.address, 443), PATIENCE_S, place) as raw,
            self.context.wrap_socket(raw, server_hostname=host) as link,
        ):
            link.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
            answer = b"".join(iter(lambda: link.recv(65_536), b""))
        assert b"set-cookie" not in answer.lower(), "there are no sessions"
        return int(answer.split(b" ")[1]), answer

    def page(self, number: int = 0) -> str:
        identity, token = self.links[number]
        return f"/m/{identity}/{token}"


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    """One for all tests here, each of which comes from an address of its own; readers know SMTP only."""
    authority = CertificateAuthority(tmp_path_factory.mktemp("authority"))
    address, far, private = (loopback_address() for _ in range(3))
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {address}\nmhf-1 A {address}",
        "gamma.example": f"@ MX 10 mx\nmx A {address}\nmhf-1 A {address}",
        "far.example": f"@ MX 10 mx\nmx A {far}",
        "evil.example": f"mhf-1 A {private}\nmhf-1 A 127.0.0.1",
    }
    context = ssl.create_default_context(cafile=str(authority.authority))
    with ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))
        sink = stack.enter_context(Sink(far))
        settings: Settings = amdp_server(
            "alpha.example",
            address,
            names,
            authority,
            ["mx.alpha.example", HOLDER, OTHER_HOLDER],
            {"roles": ["omg", "mhf", "img"], "outgoing": {"hold": "all", "classes": {"*": "Agent::Bulk"}}},
        )
        settings["domains"]["gamma.example"] = settings["domains"]["alpha.example"]
        settings["net"]["private_destinations"] = [address, far]
        server = stack.enter_context(OutriderServer(settings))
        readers = ["bob@far.example", "carl@far.example"]
        submit(address, "ann@alpha.example", letter("ann@alpha.example", "secret"), readers)
        wait_until(lambda: len(sink.arrivals) == len(readers), "envelopes")
        links = []
        for arrival in sorted(sink.arrivals, key=lambda one: one.recipients):
            found = LINK.search(arrival.content)
            assert found is not None, arrival.content
            links.append((found[1].decode(), found[2].decode()))
        yield Holder(server, address, context, links, private)


@pytest.mark.covers("SEC-195", "SEC-201", "AMDP-13")
def test_looking_and_foreign_buttons_do_nothing(holder: Holder) -> None:
    """Link scanners, and pages elsewhere that press the button in the reader's browser."""
    page = holder.page()
    for method in ("GET", "HEAD"):
        for fields in ({}, {"Range": "bytes=0-0"}, {"X_HTTP_Method_Override": "POST"}):
            status, answer = holder.ask(method, page, **fields)
            assert status == 200
            assert b"begin secret" not in answer
            assert b"no-store" in answer
            assert b"no-referrer" in answer
    forged = (
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://mhf-1.alpha.example.evil.example"},
    )
    for fields in forged:
        status, answer = holder.ask("POST", page, "do=open", Content_Type=FORM, **fields)
        assert status == 403, fields
        assert b"begin secret" not in answer
    status, answer = holder.ask("GET", f"{page}?do=open")
    assert b"begin secret" not in answer
    assert not [one for one in holder.server.log_events("amdp_copy") if one["state"] != "notified"]


@pytest.mark.covers("SEC-202", "SEC-181", "SEC-186")
def test_another_readers_copy_and_what_is_no_id_are_the_same_nothing(holder: Holder) -> None:
    (bobs, bobs_token), (carls, carls_token) = holder.links
    wrong = [
        f"/m/{bobs}/{carls_token}",
        f"/m/{carls}/{bobs_token}",
        f"/m/{bobs_token}/{bobs}",
        f"/m/{bobs}/{GUESS}",
        f"/m/{GUESS}/{bobs_token}",
        f"/m/{bobs}",
        f"/m/{bobs}/",
        f"/m/{bobs.upper()}/{bobs_token}",
        f"/m/{bobs}/{bobs_token}/../{bobs_token}",
        "/m/../../etc/passwd",
        "/m/..%2f..%2fetc%2fpasswd/x",
        f"/m/%252e%252e%252f/{bobs_token}",
        f"/m/{bobs}%00/{bobs_token}",
        f"/m/{bobs};/{bobs_token}",
        f"/m/{bobs[:13]}/{bobs_token}",
        f"/m/{'a' * 5_000}/{bobs_token}",
    ]
    for path in wrong:
        for method, body in (("GET", ""), ("POST", "do=open")):
            fields = {"Content_Type": FORM} if body else {}
            status, answer = holder.ask(method, path, body, source=loopback_address(), **fields)
            assert status in (400, 404), path
            assert b"begin secret" not in answer
            assert b"what was said" not in answer, "not even its subject"
    for identity, confirmation in ((bobs, carls_token), (bobs, GUESS), (GUESS, GUESS)):
        body = f'{{"id": "{identity}", "confirmation": "{confirmation}"}}'
        status, answer = holder.ask("POST", "/amdp/v1/message", body, source=loopback_address())
        assert status == 404
        assert b"begin secret" not in answer


@pytest.mark.covers("SEC-181", "AMDP-12")
def test_who_guesses_is_not_answered_and_others_are(holder: Holder) -> None:
    source = loopback_address()
    asked = f'{{"id": "{GUESS}", "timestamp": 1, "expires": 2, "fields": "{"0" * 64}", "keys": ""}}'
    query = f'{{"queries": [{asked}]}}'
    said = [holder.ask("POST", "/amdp/v1/query", query, source=source) for _ in range(40)]
    statuses = [status for status, _ in said]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert b"retry-after" in said[-1][1].lower()
    assert {answer.rpartition(b"\r\n\r\n")[2] for status, answer in said if status == 200} == {
        b'{"answers":[{"known":false}]}'
    }
    assert holder.ask("GET", holder.page(), source=source)[0] == 429
    assert holder.ask("GET", holder.page(), source=loopback_address())[0] == 200


# --- the incoming gateway -----------------------------------------------------------------------------------


@contextmanager
def listening(address: str, port: int) -> Iterator[list[str]]:
    """Who calls there."""
    callers: list[str] = []
    trap = socket.create_server((address, port))

    def take() -> None:
        with suppress(OSError):
            while True:
                link, (caller, _) = trap.accept()
                callers.append(caller)
                link.close()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield callers
    finally:
        trap.shutdown(socket.SHUT_RDWR)
        trap.close()
        thread.join()


def forged(**more: object) -> HeldEnvelope:
    now = int(time.time())
    usual = held(
        sender=parse_address("eve@evil.example"),
        recipient=parse_address("ann@alpha.example"),
        date=now - 9,
        timestamp=now - 5,
        expires=now + 9999,
        holder=parse_domain("mhf-1.evil.example"),
    )
    return replace(usual, **more)  # type: ignore[arg-type]


def hand_over(holder: Holder, content: bytes) -> bytes:
    """The reply to an envelope."""
    lines = (b"EHLO mhf-1.evil.example", b"MAIL FROM:<eve@evil.example> AMDP", b"RCPT TO:<ann@alpha.example>")
    return smtp_dialogue(holder.address, 25, *lines, b"DATA", content + b".")[-1]


@pytest.mark.covers("SEC-185", "SEC-207", "AMDP-10")
def test_an_envelope_makes_it_call_nothing_of_its_own_network(holder: Holder) -> None:
    """In the session where the fields say it; at the call-back where only DNS tells."""
    usual = octets(forged())
    fields = (
        (
            b"AMDP-Auth-Port: 443",
            [b"AMDP-Auth-Port: " + port for port in (b"22", b"25", b"65536", b"-1")],
        ),
        (
            b"AMDP-MHF-Name: mhf-1.evil.example",
            [
                b"AMDP-MHF-Name: " + name
                for name in (
                    b"127.0.0.1",
                    b"[::1]",
                    b"[::ffff:127.0.0.1]",
                    b"0x7f000001",
                    b"2130706433",
                    b"localhost.",
                    b"good@127.0.0.1",
                    b"127.0.0.1#@mhf-1.evil.example",
                    b"mhf-1.evil.example/../x",
                    b"mhf-1.evil.example:5432",
                    b"http://mhf-1.evil.example",
                )
            ],
        ),
    )
    for line, others in fields:
        assert line in usual, usual
        for other in others:
            assert hand_over(holder, usual.replace(line, other)).startswith(b"550 5.6.0 "), other
    with listening(holder.private, 443) as callers:
        assert hand_over(holder, usual).startswith(b"250 ")
        [dropped] = holder.server.wait_event("amdp_dropped")
        assert not callers, dropped
        assert dropped["domain"] == "evil.example"


class Rebinding(StubDns):
    """`mhf-1.evil.example` is where its envelopes come from for the first answers, and then a place inside.
    No answer may be remembered."""

    def __init__(self, address: str, outside: str, inside: str, first: int) -> None:
        super().__init__(address)
        self.address, self.port = address, PORT
        self._places = chain([outside] * first, repeat(inside))

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        [question] = query.question
        if str(question.name) == "mhf-1.evil.example." and question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", next(self._places)))
        elif str(question.name) == "mhf-0.evil.example.":
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@pytest.mark.covers("SEC-185", "AMDP-10")
@pytest.mark.parametrize("first", [1, 2])
def test_a_name_that_leads_inside_when_it_is_called_is_not_called(
    authority: CertificateAuthority, first: int
) -> None:
    """What was looked up when it was checked is not what is connected to: each connection is checked."""
    here, outside, inside = (loopback_address() for _ in range(3))
    with Rebinding(loopback_address(), outside, inside, first) as names, listening(inside, 443) as callers:
        settings: Settings = amdp_server(
            "alpha.example", here, names, authority, ["mx.alpha.example"], {"roles": ["img"]}, users=["ann"]
        )
        settings["net"]["private_destinations"] = [here, outside]
        with OutriderServer(settings) as server:
            with smtplib.SMTP(here, 25, timeout=PATIENCE_S, source_address=(outside, 0)) as link:
                link.ehlo("mhf-1.evil.example")
                link.docmd("MAIL FROM:<eve@evil.example> AMDP")
                link.docmd("RCPT TO:<ann@alpha.example>")
                code, words = link.data(octets(forged()))
                assert code == 250, words
            [dropped] = server.wait_event("amdp_dropped")
            assert dropped["why"] == "not-genuine", dropped
            assert not server.log_events("amdp_confirmed")
            assert not callers
