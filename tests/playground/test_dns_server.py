"""The small Internet's name server on the wire."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.playground.dns_server import DnsServer, Fault, main
from outrider.playground.zones import ZoneSet
from tests.peers.addresses import loopback_address

ZONES = {
    "alpha.example": {
        "@": {"MX": ["10 mx"]},
        "mx": {"A": ["127.0.1.1"]},
        "big": {"A": [f"10.0.{number >> 8}.{number & 255}" for number in range(200)]},
        "medium": {"A": [f"10.0.0.{number}" for number in range(50)]},
    }
}


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer(ZoneSet(ZONES), loopback_address()) as running:
        yield running


async def udp(server: DnsServer, query: dns.message.Message, timeout_s: float = 5) -> dns.message.Message:
    return await dns.asyncquery.udp(query, server.address, timeout_s, server.port)


async def tcp(server: DnsServer, query: dns.message.Message) -> dns.message.Message:
    return await dns.asyncquery.tcp(query, server.address, 5, server.port)


async def test_udp_and_tcp_give_the_same_authoritative_answer(server: DnsServer) -> None:
    query = dns.message.make_query("alpha.example", "MX")
    by_udp, by_tcp = await udp(server, query), await tcp(server, query)
    assert by_udp == by_tcp
    assert by_udp.flags & dns.flags.AA
    assert not by_udp.flags & dns.flags.RA
    assert by_udp.answer[0].to_text() == "alpha.example. 60 IN MX 10 mx.alpha.example."


async def test_a_name_outside_the_zones_is_refused(server: DnsServer) -> None:
    response = await udp(server, dns.message.make_query("beta.example", "MX"))
    assert (response.rcode(), response.flags & dns.flags.AA) == (dns.rcode.REFUSED, 0)


@pytest.mark.parametrize(
    ("name", "payload", "is_truncated"),
    [
        ("medium", None, True),
        ("medium", 512, True),
        ("medium", 1232, False),
        ("medium", 65535, False),
        ("big", 1232, True),
        ("big", 65535, True),
    ],
)
async def test_what_does_not_fit_is_truncated_and_whole_by_tcp(
    server: DnsServer, name: str, payload: int | None, is_truncated: bool
) -> None:
    query = dns.message.make_query(f"{name}.alpha.example", "A", payload=payload)
    response = await udp(server, query)
    assert bool(response.flags & dns.flags.TC) is is_truncated
    assert bool(response.answer) is not is_truncated
    whole = await tcp(server, query)
    assert len(whole.answer[0]) == len(ZONES["alpha.example"][name]["A"])


async def test_several_questions_in_one_tcp_connection(server: DnsServer) -> None:
    reader, writer = await asyncio.open_connection(server.address, server.port)
    queries = [dns.message.make_query(f"{name}alpha.example", "A") for name in ("", "mx.", "x.")]
    for query in queries:
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
    for query in queries:
        size = int.from_bytes(await reader.readexactly(2), "big")
        assert query.is_response(dns.message.from_wire(await reader.readexactly(size)))
    writer.close()


@pytest.mark.parametrize(
    ("fault", "rcode"), [(Fault.SERVFAIL, dns.rcode.SERVFAIL), (Fault.REFUSED, dns.rcode.REFUSED)]
)
async def test_misbehaviour_for_a_type_until_healed(server: DnsServer, fault: Fault, rcode: int) -> None:
    mx, soa = (dns.message.make_query("alpha.example", rdtype) for rdtype in ("MX", "SOA"))
    server.fail("Alpha.Example", fault, "MX")
    assert (await udp(server, mx)).rcode() == rcode
    assert (await udp(server, soa)).rcode() == dns.rcode.NOERROR
    server.fail("alpha.example", fault)
    assert (await udp(server, soa)).rcode() == rcode
    server.heal("alpha.example")
    server.heal("alpha.example", "MX")
    assert (await udp(server, mx)).rcode() == dns.rcode.NOERROR
    assert server.asked[0] == ("alpha.example", "MX")


def respond(query: dns.message.Message | bytes, *, authentic: bool = False) -> dns.message.Message | None:
    server = DnsServer(ZoneSet(ZONES), "127.0.0.1", authentic=authentic)
    wire = query if isinstance(query, bytes) else query.to_wire()
    response = server.respond(wire, 0)
    return None if response is None else dns.message.from_wire(response)


def test_silence_on_request() -> None:
    server = DnsServer(ZoneSet(ZONES), "127.0.0.1")
    server.fail("alpha.example", Fault.SILENT)
    assert server.respond(dns.message.make_query("alpha.example", "MX").to_wire(), 0) is None


def test_what_it_does_not_do_is_said_in_the_proper_code() -> None:
    update = dns.message.make_query("alpha.example", "MX")
    update.set_opcode(dns.opcode.STATUS)
    no_question = dns.message.make_query("alpha.example", "MX")
    no_question.question = []
    two_questions = dns.message.make_query("alpha.example", "MX")
    two_questions.question *= 2
    chaos = dns.message.make_query("alpha.example", "TXT", dns.rdataclass.CH)
    newer_edns = dns.message.make_query("alpha.example", "MX", use_edns=1)
    for query, rcode in (
        (update, dns.rcode.NOTIMP),
        (no_question, dns.rcode.FORMERR),
        (two_questions, dns.rcode.FORMERR),
        (chaos, dns.rcode.REFUSED),
        (newer_edns, dns.rcode.BADVERS),
    ):
        response = respond(query)
        assert response is not None
        assert response.rcode() == rcode
        assert not response.answer


def test_an_answer_is_never_answered() -> None:
    query = dns.message.make_query("alpha.example", "MX")
    query.flags |= dns.flags.QR
    assert respond(query) is None


@given(st.binary(max_size=100))
def test_any_bytes_bring_silence_or_a_message(wire: bytes) -> None:
    response = respond(wire)
    assert response is None or response.flags & dns.flags.QR


@pytest.mark.covers("ITP-2c")
def test_authentic_data_is_claimed_on_request_only() -> None:
    plain = dns.message.make_query("alpha.example", "MX")
    asking = dns.message.make_query("alpha.example", "MX", flags=dns.flags.RD | dns.flags.AD)
    for query, authentic, expected in ((plain, True, False), (asking, True, True), (asking, False, False)):
        response = respond(query, authentic=authentic)
        assert response is not None
        assert bool(response.flags & dns.flags.AD) is expected


async def test_noise_by_tcp_and_open_connections_do_not_hold_up_the_end() -> None:
    server = DnsServer(ZoneSet(ZONES), loopback_address())
    await server.start()
    _, idle = await asyncio.open_connection(server.address, server.port)
    _, noisy = await asyncio.open_connection(server.address, server.port)
    noisy.write(b"\x00\x05noise\xff\xff")
    await noisy.drain()
    assert (await tcp(server, dns.message.make_query("alpha.example", "MX"))).answer
    await server.aclose()
    idle.close()
    noisy.close()


# -- as a program -----------------------------------------------------------------------------------------


def zone_file(folder: Path, mx: str) -> Path:
    path = folder / "zones.json"
    path.write_text(json.dumps({"zones": {"alpha.example": {"@": {"MX": [mx]}}}}))
    return path


async def test_the_program_serves_reloads_and_stops(tmp_path: Path, address: str) -> None:
    path = zone_file(tmp_path, "10 mx1")
    arguments = (
        "-m",
        "outrider.playground.dns_server",
        "--zones",
        str(path),
        "--address",
        address,
        "--port",
        "53",
    )
    program = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stderr is not None
    try:
        assert await program.stdout.readline() == f"ready {address}:53\n".encode()
        query = dns.message.make_query("alpha.example", "MX")
        assert "mx1" in (await dns.asyncquery.udp(query, address, 5)).answer[0].to_text()
        zone_file(tmp_path, "10 mx2")
        program.send_signal(signal.SIGHUP)
        assert await program.stdout.readline() == b"reloaded\n"
        assert "mx2" in (await dns.asyncquery.udp(query, address, 5)).answer[0].to_text()
        path.write_text("{")
        program.send_signal(signal.SIGHUP)
        assert (await program.stderr.readline()).startswith(b"not reloaded: not JSON")
        assert "mx2" in (await dns.asyncquery.udp(query, address, 5)).answer[0].to_text()
        program.send_signal(signal.SIGTERM)
        assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


def test_the_program_says_why_it_cannot_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--zones", str(tmp_path / "missing.json")]) == 1
    assert "missing.json" in capsys.readouterr().err
