"""Listeners other than plain SMTP: PROXY headers, LMTP, metrics and health; delayed release; TLS's edges."""

from __future__ import annotations

import datetime
import socket
import ssl
import struct
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.peers.addresses import loopback_address, shared_address_port
from tests.peers.certificates import CertificateAuthority
from tests.peers.exim import EximServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.rooms import PATIENCE_S
from tests.peers.tools import SmtpSink
from tests.system.sites import (
    CONTENT,
    Settings,
    body_of,
    headers_of,
    json_rows,
    queued,
    read_reply,
    site,
    smtp_dialogue,
    wait_mailbox,
)

STUFFED = CONTENT.replace(b"\r\n.", b"\r\n..") + b"."
CLIENT = "203.0.113.9"
PROXY_V1 = f"PROXY TCP4 {CLIENT} 192.0.2.1 40000 25\r\n".encode()
PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + struct.pack(
    "!4s4sHH", socket.inet_aton(CLIENT), socket.inet_aton("192.0.2.1"), 40000, 25
)


@pytest.mark.covers("SMTP-9", "ITP-1")
@pytest.mark.parametrize("header", [PROXY_V1, PROXY_V2], ids=["v1", "v2"])
def test_the_client_behind_a_balancer_is_known_by_its_proxy_header(header: bytes, address: str) -> None:
    settings = site("alpha.example", address, relay={"networks": ["127.0.0.0/8"]})
    settings["listeners"][0]["proxy_protocol"] = ["127.0.0.0/8"]
    with OutriderServer(settings) as server:
        with socket.create_connection((address, 25), timeout=PATIENCE_S) as link, link.makefile("rb") as wire:
            link.sendall(header)
            replies = [read_reply(wire)]
            for line in (b"EHLO c.example", b"MAIL FROM:<eve@c.example>", b"RCPT TO:<x@elsewhere.example>"):
                link.sendall(line + b"\r\n")
                replies.append(read_reply(wire))
            # The balancer's network may relay, its clients may not.
            assert replies[-1].startswith(b"550 5.7.1 ")
            for line in (b"RCPT TO:<ann@alpha.example>", b"DATA", STUFFED):
                link.sendall(line + b"\r\n")
                replies.append(read_reply(wire))
        assert replies[-1].startswith(b"250 ")
        [event] = server.wait_event("received")
        [message] = wait_mailbox(server, "ann")
    assert event["client"] == CLIENT
    assert f"[{CLIENT}]".encode() in headers_of(message)


@pytest.mark.covers("SMTP-9")
def test_a_proxy_header_of_anybody_else_is_not_believed(address: str) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        with socket.create_connection((address, 25), timeout=PATIENCE_S) as link, link.makefile("rb") as wire:
            assert read_reply(wire).startswith(b"220 ")
            link.sendall(PROXY_V1)
            assert read_reply(wire).startswith(b"500 ")
        assert CLIENT not in str(server.log_events())


@pytest.mark.covers("SMTP-8")
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_an_lmtp_listener_answers_for_each_recipient(family: str, address: str) -> None:
    settings = site("alpha.example", address)
    where = {"address": address, "port": 24} if family == "tcp" else {"address": "unix:{dir}/lmtp"}
    settings["listeners"].append({"protocol": "lmtp", **where})
    with OutriderServer(settings) as server:
        if family == "tcp":
            link = socket.create_connection((address, 24), timeout=PATIENCE_S)
        else:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(PATIENCE_S)
            link.connect(str(server.folder / "lmtp"))
        with link, link.makefile("rb") as wire:
            replies = [read_reply(wire)]
            for line in (
                b"LHLO c.example",
                b"MAIL FROM:<eve@c.example>",
                b"RCPT TO:<ann@alpha.example>",
                b"RCPT TO:<nobody@alpha.example>",
                b"RCPT TO:<bob@alpha.example>",
                b"DATA",
                STUFFED,
            ):
                link.sendall(line + b"\r\n")
                replies.append(read_reply(wire))
            replies.append(read_reply(wire))
        assert [reply[:3] for reply in replies[2:]] == [
            b"250",
            b"250",
            b"550",
            b"250",
            b"354",
            b"250",
            b"250",
        ]
        [message] = wait_mailbox(server, "ann")
        wait_mailbox(server, "bob")
    assert b" with LMTP id " in headers_of(message)


@pytest.mark.covers("SMTP-2a")
def test_a_message_for_later_waits_until_then(address: str) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        for parameter in ("HOLDFOR=3", "HOLDFOR=86400"):
            replies = smtp_dialogue(
                address,
                25,
                b"EHLO c.example",
                f"MAIL FROM:<bob@alpha.example> {parameter}".encode(),
                b"RCPT TO:<ann@alpha.example>",
                b"DATA",
                STUFFED,
            )
            assert replies[-1].startswith(b"250 "), replies
        rows = queued(server)
        assert len(rows) == 2
        received, due = (
            datetime.datetime.fromisoformat(rows[1][key]) for key in ("received", "next_attempt")
        )
        assert abs(due - received - datetime.timedelta(days=1)) < datetime.timedelta(seconds=1)
        wait_mailbox(server, "ann")
        server.wait_event("delivered")
        assert [row["id"] for row in queued(server)] == [rows[1]["id"]]


@pytest.mark.covers("TLS-7")
def test_alpn_of_another_protocol_is_refused(address: str, authority: CertificateAuthority) -> None:
    files = authority.issue("mx.alpha.example")
    settings = site("alpha.example", address, tls=files)
    settings["listeners"].append({"protocol": "smtp", "address": address, "port": 465, "tls": "implicit"})
    with OutriderServer(settings) as server:
        for offered, taken in (([], True), (["smtp"], True), (["http/1.1"], False)):
            context = ssl.create_default_context(cafile=str(files.authority))
            if offered:
                context.set_alpn_protocols(offered)
            assert _greets(address, context) is taken
        server.wait_event("tls_failed")


def _greets(address: str, context: ssl.SSLContext) -> bool:
    """Whether the server greets within TLS."""
    with socket.create_connection((address, 465), timeout=PATIENCE_S) as link:
        try:
            with context.wrap_socket(link, server_hostname="mx.alpha.example") as secured:
                return secured.recv(4) == b"220 "
        except ssl.SSLError:
            return False


@pytest.mark.covers("TLS-1")
def test_what_is_sent_in_clear_behind_starttls_ends_the_session(
    address: str, authority: CertificateAuthority
) -> None:
    with (
        OutriderServer(site("alpha.example", address, tls=authority.issue("mx.alpha.example"))) as server,
        socket.create_connection((address, 25), timeout=PATIENCE_S) as link,
        link.makefile("rb") as wire,
    ):
        read_reply(wire)
        link.sendall(b"EHLO c.example\r\n")
        read_reply(wire)
        link.sendall(b"STARTTLS\r\nMAIL FROM:<injected@c.example>\r\n")
        rest = wire.read()
        assert b"250" not in rest
        assert server.is_running()


def page(address: str, path: str = "/metrics") -> str:
    """What the HTTP listener answers."""
    with urllib.request.urlopen(f"http://{address}:9464{path}", timeout=PATIENCE_S) as answer:
        return str(answer.read().decode())


def with_metrics(settings: Settings, address: str) -> Settings:
    """The settings, with an HTTP listener."""
    settings["listeners"].append({"protocol": "http", "address": address})
    return settings


def sample(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and one.labels.items() >= labels.items()
    )


@pytest.mark.covers("SMTP-9", "TLS-6")
def test_metrics_can_be_parsed_and_move(address: str, authority: CertificateAuthority) -> None:
    with SmtpSink(loopback_address(), 25) as sink:
        settings = site(
            "alpha.example",
            address,
            tls=authority.issue("mx.alpha.example"),
            routes={"beta.example": f"smtp:[{sink.address}]:25"},
        )
        with (
            OutriderServer(with_metrics(settings, address)) as server,
            PostfixServer(
                loopback_address(),
                local_domains=["peer.example"],
                relay_to={"alpha.example": (address, 25), "beta.example": (address, 25)},
                client_tls="encrypt",
                tls=authority.issue("mx.peer.example"),
            ) as peer,
        ):
            before = page(address)
            assert sample(before, "outrider_messages_received_total") == 0
            peer.send("bob@peer.example", ["ann@alpha.example", "nobody@alpha.example"], CONTENT)
            peer.send("bob@peer.example", ["eve@beta.example"], CONTENT)
            server.wait_event("delivered", 2)
            after = page(address)
            assert page(address, "/healthz") == "alive\n"
            assert page(address, "/readyz") == "ready\n"
            with pytest.raises(urllib.error.HTTPError, match="404"):
                page(address, "/")
    assert sample(after, "outrider_messages_received_total", protocol="ESMTPS") == 2
    assert sample(after, "outrider_refusals_total", stage="recipient", status="5.1.1") == 1
    assert sample(after, "outrider_recipient_results_total", result="delivered") == 2
    assert sample(after, "outrider_tls_handshakes_total", role="server", result="ok") >= 1
    assert sample(after, "outrider_certificate_not_after_seconds") > 0
    assert sample(after, "process_resident_memory_bytes") > 0
    for private in ("alpha.example", "beta.example", "nobody"):
        assert private not in after.replace("mx.alpha.example", "")


@pytest.mark.covers("SMTP-1", "SMTP-2a")
def test_exim_sends_by_chunks_what_arrives_octet_for_octet(address: str) -> None:
    lines = [bytes((number % 95 + 32,)) * (number % 700) for number in range(400)]
    content = CONTENT + b"".join(line.rstrip() + b"\r\n" for line in lines)
    with (
        OutriderServer(site("alpha.example", address)) as server,
        EximServer(
            loopback_address(), local_domains=["beta.example"], relay_to={"alpha.example": (address, 25)}
        ) as beta,
    ):
        beta.send("bob@beta.example", ["ann@alpha.example"], content)
        [message] = wait_mailbox(server, "ann")
        # K in Exim's log: sent with CHUNKING.
        beta.wait_log(r"=> ann@alpha\.example .* K ")
    assert body_of(message) == body_of(content)


@pytest.mark.covers("SMTP-4", "ITP-1")
def test_explain_tells_the_facts_with_how_they_are_known(address: str) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        replies = smtp_dialogue(
            address,
            25,
            b"EHLO liar.example",
            b"MAIL FROM:<eve@c.example>",
            b"RCPT TO:<ann@alpha.example>",
            b"DATA",
            STUFFED,
        )
        [row] = json_rows(server, "explain", replies[-1].split()[-1].decode())
    known = {fact["name"]: (fact["value"], fact["provenance"]) for fact in row["facts"]}
    assert known["client.address"] == ("127.0.0.1", "proven")
    assert known["client.name"] == ("liar.example", "claimed")


@pytest.mark.covers("SMTP-7", "SMTP-4")
def test_mail_comes_and_goes_by_ipv6(address: str) -> None:
    port = shared_address_port()
    far = site("beta.example", address)
    far["listeners"] = [{"protocol": "smtp", "address": "::1", "port": port}]
    near = site("alpha.example", address, routes={"beta.example": f"smtp:[::1]:{port}"})
    near["net"]["private_destinations"] = ["::1/128"]
    with OutriderServer(far, title="beta") as beta, OutriderServer(near, title="alpha"):
        replies = smtp_dialogue(
            *(address, 25),
            *(
                b"EHLO c.example",
                b"MAIL FROM:<eve@c.example>",
                b"RCPT TO:<bob@beta.example>",
                b"DATA",
                STUFFED,
            ),
        )
        assert replies[-1].startswith(b"250 ")
        [message] = wait_mailbox(beta, "bob")
    assert b"[IPv6:::1]" in headers_of(message)
