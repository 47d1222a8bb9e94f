"""QMTP over real sockets: the server's driver, the client's, and both together (QMTP-1)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.net.client_jobs import HELLO, SETTINGS, TRACE, Noted, file_content, hop, job, script, serving
from tests.netstring_lengths import MALFORMED_LENGTHS

from outrider.delivery.interface import ConnectFailed, RequirementUnmet
from outrider.model.content import inline_content
from outrider.model.reply import Reply
from outrider.model.result import DeliveryResult, Kind
from outrider.model.transaction import RecipientRequest
from outrider.net import qmtp_server
from outrider.net.listener import Listener, ListenerSettings
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.listener_sockets import open_socket
from outrider.net.qmtp_client import QmtpDialler
from outrider.net.qmtp_server import QmtpServer, QmtpService
from outrider.net.tls_info import TlsFailure
from outrider.protocols.qmtp.events import QmtpLimits
from outrider.reception.interface import Session
from outrider.testing.reception import MemoryReception
from outrider.wire.netstring import encode_netstring

EXAMPLE = b"6:\ntest\n,13:a@example.com,17:13:b@example.com,,"
TAKEN = encode_netstring(b"KOk: queued as M1")
PORT = 2209


@dataclass
class Told:
    """A server observer that remembers."""

    lines: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def session_ended(self, session: Session, why: str, messages: int) -> None:
        self.lines.append(f"ended {why} {messages}")
        self.ended.set()

    def package_refused(self, session: Session, recipients: int, reply: Reply) -> None:
        self.lines.append(f"refused {recipients} {reply.status}")

    def tls_failed(self, session: Session, failure: TlsFailure) -> None:
        self.lines.append("tls failed")

    def session_broke(self, session: Session, error: BaseException) -> None:
        self.lines.append(f"broke {error!r}")


@dataclass
class Bench:
    address: str
    reception: MemoryReception
    told: Told
    listener: Listener

    async def say(self, octets: bytes, *, close: bool = True) -> bytes:
        """Everything that the server answers to these octets."""
        reader, writer = await asyncio.open_connection(self.address, PORT)
        writer.write(octets)
        if close:
            writer.write_eof()
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer

    @property
    def contents(self) -> list[bytes]:
        return [one.octets for one in self.reception.received]


@asynccontextmanager
async def bench(
    address: str, reception: MemoryReception | None = None, **limits: object
) -> AsyncIterator[Bench]:
    reception, told, ids = reception or MemoryReception(), Told(), itertools.count(1)
    service = QmtpService(
        "mx.example",
        QmtpLimits(**limits),  # type: ignore[arg-type]
        reception,
        lambda: f"s{next(ids)}",
        observer=told,
    )
    connections = ConnectionLimits(total=100, per_address=100)
    listening = open_socket(address, PORT)
    listener = Listener(listening, QmtpServer(service), ListenerSettings("qmtp test"), connections)
    listener.start()
    try:
        yield Bench(address, reception, told, listener)
    finally:
        await listener.stop(0)
        assert connections.open == 0


class TestServer:
    @pytest.mark.covers("QMTP-1", "SEC-175")
    async def test_the_example(self, address: str) -> None:
        async with bench(address) as at:
            assert await at.say(EXAMPLE) == TAKEN
            (message,) = at.reception.received
            assert message.octets == b"test\r\n"
            assert str(message.transaction.request.sender) == "a@example.com"
            assert message.session.with_protocol == "QMTP"
            assert message.session.client_address is not None
            await at.told.ended.wait()
            assert at.told.lines == ["ended the client closed the connection 1"]

    @pytest.mark.covers("QMTP-1")
    async def test_each_recipient_has_its_answer(self, address: str) -> None:
        def decide(request: RecipientRequest) -> Reply:
            return {"a": Reply(250, "2.1.5", "ok"), "b": Reply(450, "4.2.1", "busy")}.get(
                request.address.local, Reply(550, "5.1.1", "who")
            )

        octets = b"6:\ntest\n,0:," + encode_netstring(b"3:a@x,3:b@x,3:c@x,2:@x,3:a@y,")
        async with bench(address, MemoryReception(recipient_answer=decide)) as at:
            answer = await at.say(octets)
            assert answer.startswith(TAKEN + b"14:Zbusy (#4.2.1),13:Dwho (#5.1.1),")
            assert b"DRecipient address is malformed" in answer
            assert answer.endswith(TAKEN)
            (message,) = at.reception.received
            assert message.transaction.request.sender is None
            assert len(message.transaction.recipients) == 2

    @pytest.mark.covers("SEC-176")
    @pytest.mark.parametrize(
        "octets",
        [
            *MALFORMED_LENGTHS,
        ],
    )
    async def test_malformed_lengths_end_the_session(self, address: str, octets: bytes) -> None:
        async with bench(address) as at:
            assert await at.say(EXAMPLE + octets, close=False) == TAKEN
            assert len(at.contents) == 1

    @pytest.mark.covers("SEC-177")
    async def test_odd_envelopes(self, address: str) -> None:
        async with bench(address) as at:
            assert await at.say(b"6:\ntest\n,0:,0:,") == b""
            assert (
                await at.say(b"6:\ntest\n,3:a\n@,6:3:b@x,,") == b"37:DSender address is malformed (#5.1.7),"
            )
            assert (
                await at.say(b"6:\ntest\n,5:a\0@xy,6:3:b@x,,") == b"37:DSender address is malformed (#5.1.7),"
            )
            assert await at.say(b"6:\ntest\n,0:,5:9:b@x,,") == b""
            many = b"3:b@x," * 100_000
            assert await at.say(b"6:\ntest\n,0:," + encode_netstring(many)) == TAKEN * 100_000
            assert await at.say(b"6:\ntest\n,0:," + encode_netstring(many * 2)) == b""
            assert at.contents == [b"test\r\n"]

    @pytest.mark.covers("SEC-26", "SEC-178", "SMTP-1")
    async def test_forms_of_lines(self, address: str) -> None:
        async with bench(address) as at:
            tail = b",0:,6:3:b@x,,"
            for message in (b"\ra\nb", b"\na\r\nb\n", b"xtest", b"\na\0b"):
                answer = await at.say(encode_netstring(message)[:-1] + tail)
                assert answer.partition(b":")[2].startswith(b"DMessage")
            assert at.contents == []
            exact = b".\r\n..\r\n.\r\nMAIL FROM:<x@y>\r\nend"
            assert await at.say(encode_netstring(b"\r" + exact)[:-1] + tail)
            assert at.contents == [exact]

    @pytest.mark.covers("SEC-179")
    async def test_closed_before_the_last_comma(self, address: str) -> None:
        async with bench(address) as at:
            assert await at.say(EXAMPLE + EXAMPLE[:-1]) == TAKEN
            assert len(at.contents) == 1

    @pytest.mark.covers("SEC-179", "SMTP-5")
    async def test_closed_before_reading_the_answer(self, address: str) -> None:
        gate, begun = asyncio.Event(), asyncio.Event()

        async def later() -> Reply:
            begun.set()
            await gate.wait()
            return Reply(250, "2.0.0", "Ok")

        async with bench(address, MemoryReception(finish_answer=lambda *_: later())) as at:
            _, writer = await asyncio.open_connection(address, PORT)
            writer.write(EXAMPLE)
            await begun.wait()
            writer.transport.abort()
            await asyncio.sleep(0.05)
            gate.set()
            await at.told.ended.wait()
            assert len(at.contents) == 1

    @pytest.mark.covers("SEC-180")
    async def test_a_thousand_packages_without_reading_an_answer(self, address: str) -> None:
        async with bench(address) as at:
            answers = await at.say(EXAMPLE * 1000)
            assert answers.count(b"KOk") == 1000
            assert len(at.contents) == 1000

    @pytest.mark.covers("SEC-180", "SEC-89")
    async def test_what_waits_for_a_client_that_does_not_read_is_bounded(self, address: str) -> None:
        text = "x" * 3000
        package = b"6:\ntest\n,0:," + encode_netstring(b"3:b@x," * 100)
        reception = MemoryReception(finish_answer=lambda *_: Reply(250, "", text))
        async with bench(address, reception) as at:
            reader, writer = await asyncio.open_connection(address, PORT)
            writer.transport.pause_reading()
            sender = asyncio.create_task(_pour(writer, package, 200))
            before = -1
            while len(at.contents) > before:
                before = len(at.contents)
                await asyncio.sleep(0.3)
            assert before < 200
            writer.transport.resume_reading()
            async with asyncio.timeout(20):
                got = await reader.readexactly(200 * 100 * len(encode_netstring(b"K" + text.encode())))
            await sender
            assert got.count(b"K") == 200 * 100
            writer.close()

    @pytest.mark.covers("SEC-88")
    async def test_slow_clients(self, address: str) -> None:
        async with bench(address, package_timeout_s=0.3, idle_timeout_s=0.5) as at:
            assert await at.say(b"6:\nte", close=False) == b""
            assert await at.say(b"", close=False) == b""
            while len(at.told.lines) < 2:
                await asyncio.sleep(0.01)
            assert at.told.lines == ["ended timed out in a package 0", "ended idle for too long 0"]

    async def test_a_large_message_goes_through_a_file_and_a_stream(
        self, address: str, tmp_path: Path
    ) -> None:
        body = b"line\n" * 600_000
        async with bench(address) as at:
            package = encode_netstring(b"\nSubject: x\n\n" + body) + b"0:,6:3:b@x,,"
            assert await at.say(package + EXAMPLE) == TAKEN + encode_netstring(b"KOk: queued as M2")
            assert at.contents == [b"Subject: x\r\n\r\n" + body.replace(b"\n", b"\r\n"), b"test\r\n"]
            (stream,) = at.reception.streams
            assert stream.is_finished

    async def test_no_room_for_a_large_message(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(**_options: object) -> None:
            raise OSError(28, "No space left on device")

        package = encode_netstring(b"\nSubject: x\n\n" + b"line\n" * 600_000) + b"0:,6:3:b@x,,"
        async with bench(address) as at:
            monkeypatch.setattr(qmtp_server.tempfile, "TemporaryFile", full)
            answer = await at.say(package + EXAMPLE)
            assert answer.startswith(b"55:ZCannot store")
            assert answer.endswith(encode_netstring(b"KOk: queued as M1"))
        reception = MemoryReception(write_error=OSError(28, "full"))
        monkeypatch.undo()
        async with bench(address, reception) as at:
            assert (await at.say(package)).startswith(b"55:ZCannot store")
            assert reception.abandoned_because

    async def test_too_large(self, address: str) -> None:
        async with bench(address, message_size=10) as at:
            octets = encode_netstring(b"\n" + b"x" * 11) + b"0:,6:3:b@x,,"
            assert (
                await at.say(octets + EXAMPLE) == encode_netstring(b"DMessage is too large (#5.3.4)") + TAKEN
            )
            assert at.told.lines[0] == "refused 1 5.3.4"

    async def test_a_client_that_is_not_wanted(self, address: str) -> None:
        refusal = Reply(554, "5.7.1", "not you")
        async with bench(address, MemoryReception(connected_answer=lambda _session: refusal)) as at:
            assert await at.say(EXAMPLE) == b"17:Dnot you (#5.7.1),"
            assert not at.contents

    async def test_a_fault_of_ours_shows_nothing(self, address: str) -> None:
        def broken(_request: object) -> Reply:
            raise ZeroDivisionError("secret")

        async with bench(address, MemoryReception(sender_answer=broken)) as at:
            with contextlib.suppress(ConnectionError):
                assert await at.say(EXAMPLE, close=False) == b""
            assert at.told.lines[0].startswith("broke ZeroDivisionError")

    async def test_stopping_lets_a_package_finish(self, address: str) -> None:
        gate, begun = asyncio.Event(), asyncio.Event()

        async def later() -> Reply:
            begun.set()
            await gate.wait()
            return Reply(250, "2.0.0", "Ok")

        async with bench(address, MemoryReception(finish_answer=lambda *_: later())) as at:
            saying = asyncio.create_task(at.say(EXAMPLE, close=False))
            await begun.wait()
            stopping = asyncio.create_task(at.listener.stop(20))
            await asyncio.sleep(0.05)
            gate.set()
            assert await saying == encode_netstring(b"KOk")
            await stopping


async def _pour(writer: asyncio.StreamWriter, octets: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(octets)
        await writer.drain()


async def carry(address: str, what: bytes, *recipients: str, port: int = PORT) -> list[DeliveryResult]:
    dialler = QmtpDialler(SETTINGS)
    connection = await dialler.connect(hop(address, port, "qmtp"), ip_address(address))
    results = await connection.send(job(what, *recipients))
    await connection.close()
    return [results[position] for position in sorted(results)]


class TestClient:
    @pytest.mark.covers("QMTP-1")
    async def test_carried_to_our_own_server(self, address: str, tmp_path: Path) -> None:
        large = HELLO + b"x\xff" * 40 + b"\r\n" + b"long " * 1000 + b"\r\n.\r\n" * 100_000
        async with bench(address) as at:
            connection = await QmtpDialler(SETTINGS).connect(hop(address, PORT, "qmtp"), ip_address(address))
            for content in (HELLO + b".\r\nhi", file_content(large, tmp_path / "body")):
                (result,) = (await connection.send(job(content))).values()
                assert (result.kind, result.status, result.protocol) == (Kind.RELAYED, "2.0.0", "qmtp")
                assert connection.usable
            await connection.close()
            assert at.contents == [TRACE + HELLO + b".\r\nhi\r\n", TRACE + large]

    @pytest.mark.covers("QMTP-1", "SMTP-6")
    async def test_results(self, address: str) -> None:
        def decide(request: RecipientRequest) -> Reply:
            answers = {"a": Reply(250, "2.1.5", "ok"), "b": Reply(450, "4.2.1", "busy")}
            return answers.get(request.address.local, Reply(550, "5.1.1", "who"))

        async with bench(address, MemoryReception(recipient_answer=decide)):
            results = await carry(address, HELLO, "a@x.example", "b@x.example", "c@x.example")
        assert [(one.kind, one.status) for one in results] == [
            (Kind.RELAYED, "2.0.0"),
            (Kind.DEFERRED, "4.2.1"),
            (Kind.FAILED, "5.1.1"),
        ]
        assert results[2].remote == f"mx.peer.example [{address}]:{PORT}"

    @pytest.mark.covers("SEC-26", "SEC-28")
    async def test_what_cannot_be_carried_as_it_is(self, address: str) -> None:
        async with bench(address) as at:
            (result,) = await carry(address, HELLO + b"a\nb\r\n")
            assert (result.kind, result.status) == (Kind.FAILED, "5.6.0")
            connection = await QmtpDialler(SETTINGS).connect(hop(address, PORT, "qmtp"), ip_address(address))
            binary = inline_content(b"Content-Type: image/png\r\n\r\na\0\n\xff", is_binary=True)
            (result,) = (await connection.send(job(binary))).values()
            assert result.kind is Kind.RELAYED
            await connection.close()
            assert b"base64" in at.contents[0]

    async def test_no_connection_and_no_tls(self, address: str) -> None:
        dialler = QmtpDialler(SETTINGS)
        with pytest.raises(ConnectFailed) as failed:
            await dialler.connect(hop(address, PORT, "qmtp"), ip_address(address))
        assert failed.value.result.status == "4.4.1"
        with pytest.raises(RequirementUnmet):
            await dialler.connect(hop(address, PORT, "qmtp", level="encrypt"), ip_address(address))

    @pytest.mark.covers("SEC-31", "SMTP-6")
    @pytest.mark.parametrize(
        ("answer", "misbehaved"), [(b"", False), (b"2:X", False), (b"250 ok\r\n", True), (b"1:X,", True)]
    )
    async def test_servers_that_break_off(self, address: str, answer: bytes, misbehaved: bool) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"ann@peer.example,,")
            writer.write(answer)

        noted = Noted()
        async with serving(address, talk):
            dialler = QmtpDialler(SETTINGS, noted)
            connection = await dialler.connect(hop(address, 2525, "qmtp"), ip_address(address))
            (result,) = (await connection.send(job(HELLO))).values()
            assert result.kind is Kind.DEFERRED
            assert "may have been delivered" in result.text
            assert not connection.usable
            await connection.close()
        assert ("misbehaved" in noted.names) is misbehaved

    async def test_a_server_that_talks_first(self, address: str) -> None:
        async with serving(address, script("220 this is SMTP", hold=True)):
            (result,) = await carry(address, HELLO, port=2525)
        assert result.kind is Kind.DEFERRED
