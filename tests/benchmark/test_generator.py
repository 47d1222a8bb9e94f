"""The generator against a server on a real socket."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from outrider.benchmark.driving import drive
from outrider.benchmark.generator import generate
from outrider.benchmark.plan import Plan
from tests.benchmark.server import Scripted, scripted
from tests.peers.certificates import CertificateAuthority, TlsFiles


def test_kept_sessions_send_all_messages_over_few_connections() -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=60, sessions=4))
    assert (outcome.accepted, outcome.failures, server.messages) == (60, {}, 60)
    assert server.connections == 4
    assert server.octets == [4096] * 60
    assert outcome.ended > outcome.began
    assert min(outcome.times) > 0


def test_new_connections_are_one_for_each_message() -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=30, sessions=4, kept=False))
    assert (outcome.accepted, server.connections) == (30, 30)


def test_more_sessions_than_messages_open_no_useless_connection() -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=3, sessions=50))
    assert (outcome.accepted, server.connections) == (3, 3)


def test_a_large_message_arrives_whole() -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=3, sessions=2, size=3_000_000))
    assert outcome.accepted == 3
    assert server.octets == [3_000_000] * 3


@pytest.mark.parametrize("kept", [True, False])
def test_messages_at_a_rate_are_all_sent(kept: bool) -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=40, sessions=5, rate=400.0, kept=kept))
    assert (outcome.accepted, server.messages) == (40, 40)
    # Forty messages that come by chance at 400 a second are never all there at once.
    assert outcome.ended - outcome.began > 0.01


def test_pipelined_envelopes_are_answered_one_by_one() -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=20, sessions=2, pipelining=True))
    assert (outcome.accepted, server.messages) == (20, 20)


def test_tls_is_begun_on_every_connection(tmp_path: Path) -> None:
    files = CertificateAuthority(tmp_path).issue("mx.bench.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with scripted(Scripted(context=context)) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=12, sessions=3, kept=False, starttls=True))
    assert (outcome.accepted, outcome.failures, server.handshakes) == (12, {}, 12)


def mutual(folder: Path) -> tuple[ssl.SSLContext, TlsFiles]:
    """What a server needs that looks at its clients' certificates, and a client's files."""
    authority = CertificateAuthority(folder)
    files = authority.issue("mx.bench.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(authority.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context, authority.issue("client.example")


def amtp_plan(server: Scripted, files: TlsFiles, **more: Any) -> Plan:
    return Plan(
        "127.0.0.1",
        server.port,
        amtp=True,
        certificate=os.fspath(files.certificate),
        key=os.fspath(files.key),
        **more,
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_amtp_sessions_show_a_certificate_and_a_code(tmp_path: Path, version: ssl.TLSVersion) -> None:
    context, files = mutual(tmp_path)
    context.minimum_version = context.maximum_version = version
    with scripted(Scripted(context=context, implicit=True)) as server:
        outcome = generate(amtp_plan(server, files, messages=12, sessions=3))
    assert (outcome.accepted, outcome.failures, server.handshakes) == (12, {}, 3)
    assert set(server.mail_commands) == {b"MAIL FROM:<load@client.example> MPC=com/individual\r\n"}
    shown = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert set(server.certificates) == {shown.public_bytes(serialization.Encoding.DER)}


def test_connections_without_mail_are_counted_by_their_greeting(tmp_path: Path) -> None:
    context, files = mutual(tmp_path)
    with scripted(Scripted(context=context, implicit=True)) as server:
        outcome = generate(amtp_plan(server, files, messages=9, sessions=2, kept=False, mail=False))
    assert (outcome.accepted, outcome.failures) == (9, {})
    assert (server.connections, server.messages) == (9, 0)


def test_a_client_without_a_certificate_gets_nowhere(tmp_path: Path) -> None:
    context, _ = mutual(tmp_path)
    with scripted(Scripted(context=context, implicit=True)) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=3, sessions=1, amtp=True))
    assert (outcome.accepted, outcome.failed) == (0, 3)


def test_the_local_address_can_be_chosen() -> None:
    with scripted(Scripted()) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=2, sessions=1, source="127.0.0.9"))
    assert outcome.accepted == 2
    assert server.clients == {"127.0.0.9"}


def test_refusals_are_counted_and_the_rest_goes_on() -> None:
    with scripted(Scripted(refuse_data_every=5)) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=50, sessions=3))
    assert outcome.accepted == 40
    assert outcome.failures == {"after the data: 451 not now": 10}


def test_a_lost_connection_costs_its_message_only() -> None:
    with scripted(Scripted(hang_up_after=4)) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=40, sessions=2))
    assert outcome.accepted + outcome.failed == 40
    assert outcome.accepted >= 28
    assert server.connections >= 10


def test_a_silent_server_is_given_up() -> None:
    with scripted(Scripted(silent=True)) as server:
        outcome = generate(Plan("127.0.0.1", server.port, messages=30, sessions=2, stall=0.2))
    assert (outcome.accepted, outcome.failures) == (0, {"no answer for 0.2 s": 30})


def test_nobody_listening_is_a_failure_of_each_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    outcome = generate(Plan("127.0.0.1", port, messages=3000, sessions=10))
    assert outcome.failures == {"Connection refused": 3000}


def test_several_generators_share_the_work() -> None:
    with scripted(Scripted()) as server:
        outcome = drive(Plan("127.0.0.1", server.port, messages=41, sessions=5), processes=2)
    assert (outcome.accepted, server.messages, server.connections) == (41, 41, 5)
    assert outcome.cpu > 0
