"""The SMTP server over real sockets: messages, decisions that take time, large bodies, ends of all kinds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.net.smtp_server_harness import HEAD, bench, limits

from outrider.config.schema import Limits
from outrider.model.content import InlineBody
from outrider.model.reply import Reply
from outrider.net.listener_limits import ConnectionLimits
from outrider.net.server_limits import LoadGauge, session_limits
from outrider.net.smtp_server import SmtpServerProtocol
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.testing.reception import MemoryReception

CONTENT = b"Subject: x\r\n\r\n" + b".leading dot\r\nand more\r\n" * 50
STUFFED = CONTENT.replace(b"\r\n.", b"\r\n..")


def later(reply: Reply) -> Callable[..., asyncio.Future[Reply]]:
    """A decision that takes a turn of the loop."""

    def decide(*_: object) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        loop.call_later(0.001, future.set_result, reply)
        return future

    return decide


OK = Reply(250, "2.0.0", "Ok")


@pytest.mark.covers("SMTP-1", "SEC-22")
async def test_a_message_arrives_byte_exact() -> None:
    async with bench() as at:
        client = await at.greeted()
        assert await client.mail(STUFFED) == [250, 250, 354, 250]
        assert "queued as M1" in client.text
        assert await client.say("QUIT") == 221
        assert await client.end() == b""
        (message,) = at.reception.received
        assert message.octets == CONTENT
        assert message.content.headers == b"Subject: x\r\n\r\n"
        assert isinstance(message.content.body, InlineBody)
        session = message.session
        assert (session.hello_name, session.extended, session.with_protocol) == (
            "client.example",
            True,
            "ESMTP",
        )
        assert str(session.client_address) == "127.0.0.1"
        assert session.server_port == at.address[1]
        assert await at.told.wait_for("ended") == "ended s1 QUIT 1"


@pytest.mark.covers("SMTP-2a", "SEC-60")
async def test_decisions_that_take_time_keep_their_order() -> None:
    reception = MemoryReception(
        connected_answer=later(Reply(220, "", "")),
        greeted_answer=later(OK),
        sender_answer=later(OK),
        recipient_answer=later(OK),
        content_answer=later(Reply(354, "", "")),
        finish_answer=later(OK),
    )
    async with bench(reception) as at:
        client = await at.greeted()
        client.send((HEAD + b"DATA\r\nx\r\n.\r\n") * 3 + b"QUIT\r\n")
        assert await client.replies(13) == [250, 250, 354, 250] * 3 + [221]
        assert len(at.reception.received) == 3


@pytest.mark.covers("SMTP-2a")
async def test_a_group_is_answered_in_one_piece() -> None:
    async with bench() as at:
        client = await at.greeted()
        client.send(HEAD + b"RCPT TO:<c@mx.example>\r\nNOOP\r\nDATA\r\n")
        assert await client.reply() == 250
        # All the rest was in the same segment, so nothing has to be waited for.
        assert [line[:3] for line in client.reader._buffer.split(b"\r\n")] == [  # type: ignore[attr-defined]
            b"250",
            b"250",
            b"250",
            b"354",
            b"",
        ]


@pytest.mark.covers("SMTP-1")
async def test_lmtp_answers_for_each_recipient() -> None:
    async with bench(settings=ServerSettings("mx.example", lmtp=True), protocol="lmtp") as at:
        client = await at.connect()
        await client.reply()
        assert await client.say("LHLO client.example") == 250
        client.send(HEAD + b"RCPT TO:<c@mx.example>\r\nDATA\r\n")
        assert await client.replies(4) == [250, 250, 250, 354]
        client.send(b"x\r\n.\r\n")
        assert await client.replies(2) == [250, 250]
        assert at.reception.received[0].session.with_protocol == "LMTP"


# -- large bodies ------------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-1", "SMTP-9")
@pytest.mark.parametrize("by", ["data", "bdat"])
async def test_a_large_body_is_written_down_while_it_arrives(by: str) -> None:
    headers = b"Subject: large\r\nX: " + b"y" * 2000 + b"\r\n\r\n"
    body = b"z" * 76 + b"\r\n"
    content = headers + body * 10_000
    seen: list[bytes] = []

    def look(found: bytes) -> Reply:
        seen.append(found)
        return OK

    async with bench(MemoryReception(inline_limit=1000, headers_answer=look)) as at:
        client = await at.greeted()
        client.send(HEAD)
        assert await client.replies(2) == [250, 250]
        if by == "data":
            assert await client.say("DATA") == 354
            client.send(content + b".\r\n")
        else:
            for n in range(0, len(content), 1000):
                client.send(b"BDAT %d\r\n" % len(content[n : n + 1000]) + content[n : n + 1000])
            client.send(b"BDAT 0 LAST\r\n")
            assert set(await client.replies(len(content) // 1000 + 1)) == {250}
        assert await client.reply() == 250
        (message,) = at.reception.received
        assert message.content.headers == headers
        assert message.octets == content
        assert seen == [headers]
        (stream,) = at.reception.streams
        assert stream.is_finished
        assert not stream.is_abandoned
        assert len(stream.writes) < len(content) / 30_000


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize(("size", "streams"), [(1000, 0), (1001, 1)])
async def test_the_body_alone_decides_what_is_large(size: int, streams: int) -> None:
    async with bench(MemoryReception(inline_limit=1000)) as at:
        client = await at.greeted()
        content = b"Subject: " + b"x" * 5000 + b"\r\n\r\n" + b"y" * (size - 2) + b"\r\n"
        assert await client.mail(content) == [250, 250, 354, 250]
        assert len(at.reception.streams) == streams
        assert at.reception.received[0].octets == content


@pytest.mark.covers("SMTP-1")
async def test_a_refusal_of_the_header_section_is_given_after_the_data() -> None:
    answer = later(Reply(550, "5.7.1", "Not with this subject"))
    async with bench(MemoryReception(inline_limit=1000, headers_answer=answer)) as at:
        client = await at.greeted()
        assert await client.mail(b"Subject: x\r\n\r\n" + b"y\r\n" * 100_000) == [250, 250, 354, 550]
        assert at.reception.streams == []
        assert at.reception.received == []
        assert at.reception.abandoned_because == ["refused: 550 5.7.1 Not with this subject"]
        assert (await client.mail())[-1] == 250


@pytest.mark.covers("SEC-92", "SMTP-9")
async def test_a_disk_that_is_full_in_the_middle_is_452() -> None:
    async with bench(MemoryReception(inline_limit=1000, write_error=OSError("disk full"))) as at:
        client = await at.greeted()
        assert await client.mail(b"Subject: x\r\n\r\n" + b"y\r\n" * 100_000) == [250, 250, 354, 452]
        assert at.reception.received == []
        assert at.reception.streams[0].is_abandoned
        assert await at.told.wait_for("storing failed") == "storing failed s1 M1 OSError('disk full')"
        at.reception.write_error = None
        assert (await client.mail(b"Subject: x\r\n\r\n" + b"y\r\n" * 100_000))[-1] == 250


@pytest.mark.covers("SEC-61", "SMTP-9")
async def test_a_slow_disk_slows_the_client_down() -> None:
    gate = asyncio.Event()
    async with bench(MemoryReception(inline_limit=1000, write_gate=gate)) as at:
        client = await at.greeted()
        client.send(HEAD + b"DATA\r\n")
        await client.replies(3)
        content = b"Subject: x\r\n\r\n" + b"y" * 62 + b"\r\n"
        client.send(content)
        octets = b"z" * 65_534 + b"\r\n"
        stuck = 0
        while stuck < 20 and client.writer.transport.get_write_buffer_size() < 10_000_000:
            # The kernel's buffers fill; then nothing moves any more, however long we wait.
            before = client.writer.transport.get_write_buffer_size()
            client.send(octets)
            await asyncio.sleep(0.01)
            stuck = stuck + 1 if client.writer.transport.get_write_buffer_size() > before else 0
        assert stuck == 20
        gate.set()
        client.send(b".\r\n")
        assert await client.reply() == 250


@pytest.mark.covers("SMTP-1")
async def test_stray_octets_in_a_large_body_leave_nothing() -> None:
    async with bench(MemoryReception(inline_limit=1000)) as at:
        client = await at.greeted()
        client.send(HEAD + b"DATA\r\nSubject: x\r\n\r\n" + b"y\r\n" * 10_000)
        assert await client.replies(3) == [250, 250, 354]
        while not at.reception.streams:
            await asyncio.sleep(0.01)
        client.send(b"\nz\r\n.\r\n")
        assert await client.reply() == 550
        assert at.reception.received == []
        assert await at.told.wait_for("content refused") == "content refused s1 M1 550"
        assert (await client.mail())[-1] == 250
        assert at.reception.streams[0].is_abandoned


# -- ends --------------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-91", "SEC-62", "SEC-96")
@pytest.mark.parametrize("how", ["leave", "reset"])
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"EHLO a.exa",
        b"EHLO a.example\r\n",
        b"HELO a.example\r\n",
        HEAD,
        HEAD + b"DATA\r\nhalf",
        HEAD + b"DATA\r\nSubject: x\r\n\r\n" + b"y\r\n" * 5000,
        HEAD + b"BDAT 10\r\nhalf",
    ],
)
async def test_a_client_that_goes_leaves_nothing_behind(octets: bytes, how: str) -> None:
    async with bench(MemoryReception(inline_limit=1000)) as at:
        hello = b"EHLO" not in octets and b"HELO" not in octets and octets
        client = await at.greeted() if hello else await at.connect()
        client.send(octets)
        await asyncio.sleep(0.02)
        getattr(client, how)()
        line = await at.told.wait_for("ended")
        assert at.reception.received == []
        assert at.reception.abandoned_because == (["connection lost"] if HEAD in octets else []), line
        assert all(stream.is_abandoned for stream in at.reception.streams)
        assert (await (await at.greeted()).mail())[-1] == 250


def sessions_in_memory() -> list[object]:
    """Also those that only the garbage collector could free."""
    return [one for one in gc.get_objects() if isinstance(one, ServerSession | SmtpServerProtocol)]


@pytest.mark.parametrize("end", ["QUIT", "leave"])
async def test_what_ended_goes_without_the_garbage_collector(end: str) -> None:
    """A million connections a day that wait to be collected would hold up all others each time."""
    async with bench() as at:
        gc.collect()
        gc.disable()
        try:
            client = await at.greeted()
            assert (await client.mail())[-1] == 250
            assert len(sessions_in_memory()) == 2
            if end == "QUIT":
                assert await client.say("QUIT") == 221
                assert await client.end() == b""
            client.leave()
            await at.told.wait_for("ended")
            await asyncio.sleep(0.01)
            assert sessions_in_memory() == []
        finally:
            gc.enable()


@pytest.mark.covers("SEC-62")
async def test_half_closing_after_the_dot_still_gets_the_answer() -> None:
    async with bench(MemoryReception(finish_answer=later(OK))) as at:
        client = await at.greeted()
        client.send(HEAD + b"DATA\r\nx\r\n.\r\n")
        client.writer.write_eof()
        assert await client.replies(4) == [250, 250, 354, 250]
        assert await client.end() == b""
        assert len(at.reception.received) == 1


@pytest.mark.covers("SEC-91", "SMTP-5")
async def test_a_commit_goes_on_without_its_client() -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    async def commit(*_: object) -> Reply:
        asked.set()
        await gate.wait()
        return OK

    async with bench(MemoryReception(finish_answer=commit)) as at:
        client = await at.greeted()
        client.send(HEAD + b"DATA\r\nx\r\n.\r\n")
        await asked.wait()
        client.reset()
        while at.listener.open:
            await asyncio.sleep(0.01)
        gate.set()
        await at.told.wait_for("ended")
        assert len(at.reception.received) == 1
        assert at.reception.abandoned_because == []
        assert not any(line.startswith("broke") for line in at.told.lines)


@pytest.mark.covers("SEC-215")
@pytest.mark.parametrize(
    "step", ["connected", "greeted", "sender", "recipient", "content", "headers", "finish"]
)
@pytest.mark.parametrize("kind", ["at once", "later"])
async def test_a_fault_ends_its_session_and_no_other(step: str, kind: str) -> None:
    async def fail_later() -> Reply:
        await asyncio.sleep(0)
        raise RuntimeError("secret detail")

    def fail(*_: object) -> Reply:
        raise RuntimeError("secret detail")

    def pass_for_one(*args: object) -> object:
        if at.told.lines or not armed:
            return Reply(354 if step == "content" else 250 if step != "connected" else 220, "", "ok")
        return fail(*args) if kind == "at once" else fail_later()

    armed = False
    async with bench(MemoryReception(inline_limit=100, **{f"{step}_answer": pass_for_one})) as at:  # type: ignore[arg-type]
        other = await at.greeted()
        armed = True
        client = await at.connect()
        client.send(b"")
        codes = [await client.reply()]
        if codes == [220]:
            codes.append(await client.say("EHLO x.example"))
        if codes == [220, 250]:
            client.send(HEAD + b"DATA\r\n")
            while codes[-1] in (220, 250):
                codes.append(await client.reply())
        if codes[-1] == 354:
            client.send(b"Subject: x\r\n\r\n" + b"y" * 500 + b"\r\n.\r\n")
            codes.append(await client.reply())
        assert codes[-1] == 421
        assert client.text == "421 4.3.0 Internal error; closing\r\n"
        assert await client.end() == b""
        assert await at.told.wait_for("broke s2") == "broke s2 RuntimeError('secret detail')"
        assert at.reception.received == []
        assert (await other.mail())[-1] == 250
        client.leave()
        await at.told.wait_for("ended s2")
        assert at.listener.open == 1


@pytest.mark.covers("SEC-214")
async def test_draining_ends_the_idle_and_lets_a_message_finish() -> None:
    async with bench() as at:
        idle, busy = await at.greeted(), await at.greeted()
        busy.send(HEAD + b"DATA\r\nhalf")
        assert await busy.replies(3) == [250, 250, 354]
        stopping = asyncio.create_task(at.listener.stop(LONG_S))
        assert await idle.reply() == 421
        assert idle.text.startswith("421 4.3.2 ")
        assert await idle.end() == b""
        busy.send(b" and half\r\n.\r\nMAIL FROM:<a@a.example>\r\n")
        assert await busy.replies(2) == [250, 421]
        assert await busy.end() == b""
        idle.leave()
        busy.leave()
        await stopping
        assert at.reception.received[0].octets == b"half and half\r\n"


LONG_S = 15.0


@pytest.mark.covers("SEC-214")
async def test_a_session_that_waits_is_drained_after_its_answer() -> None:
    gate: asyncio.Event = asyncio.Event()

    async def decide(*_: object) -> Reply:
        await gate.wait()
        return OK

    async with bench(MemoryReception(greeted_answer=decide)) as at:
        client = await at.connect()
        await client.reply()
        client.send(b"EHLO x.example\r\n")
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(at.listener.stop(LONG_S))
        await asyncio.sleep(0)
        gate.set()
        assert await client.replies(2) == [250, 421]
        client.leave()
        await stopping


@pytest.mark.covers("SEC-214")
async def test_a_reload_is_for_sessions_to_come() -> None:
    async with bench() as at:
        old = await at.greeted()
        service = at.server.service
        at.server.service = replace(
            service, settings=ServerSettings("new.example"), reception=MemoryReception()
        )
        assert await old.say("EHLO again.example") == 250
        assert old.text.startswith("250-mx.example ")
        new = await at.greeted()
        assert new.text.startswith("250-new.example ")
        await old.mail()
        assert len(at.reception.received) == 1


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-88", "SMTP-9")
@pytest.mark.parametrize("content", [False, True])
async def test_a_slow_writer_is_sent_away(content: bool) -> None:
    slow = limits(command_timeout_s=0.2, data_timeout_s=0.2, min_data_rate=100_000)
    async with bench(session_limits=slow) as at:
        client = await at.greeted()
        if content:
            client.send(HEAD + b"DATA\r\n")
            await client.replies(3)
        answer = asyncio.create_task(client.reply())
        while not answer.done():
            client.send(b"x")
            await asyncio.sleep(0.02)
        assert answer.result() == 421
        assert client.text.startswith("421 4.4.2 ")
        client.leave()
        assert "time-out" in await at.told.wait_for("ended")


@pytest.mark.covers("SEC-89", "SEC-61")
@pytest.mark.parametrize("flood", [b"NOOP\r\n", b"BDAT 0\r\n", b"RCPT TO:<b@mx.example>\r\n"])
async def test_a_client_that_never_reads_is_cut_off(flood: bytes) -> None:
    much = limits(junk_commands=10**9, recipients=10**9)
    async with bench(session_limits=much, slow_reader_s=0.2) as at:
        client = await at.greeted()
        client.send(HEAD)
        await client.replies(2)
        client.writer.transport.pause_reading()

        async def pour() -> None:
            while True:
                client.send(flood * 10_000)
                await client.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(pour(), LONG_S)
        client.leave()
        await at.told.wait_for("ended")


@pytest.mark.covers("SMTP-9")
async def test_stress_is_felt_by_sessions_under_way() -> None:
    async with bench(total=5) as at:
        clients = [await at.greeted() for _ in range(3)]
        assert await clients[0].say("FOO") == 500
        clients.append(await at.greeted())
        assert await clients[0].say("FOO") == 500
        assert await clients[0].reply() == 421
        clients[0].leave()
        await at.told.wait_for("ended")
        while at.listener.open > 3:
            await asyncio.sleep(0.01)
        assert await clients[1].say("FOO") == 500
        assert await clients[1].say("NOOP") == 250


@pytest.mark.covers("SEC-56")
async def test_who_talks_before_the_greeting_is_sent_away() -> None:
    async with bench(start=False) as at:
        client = await at.connect()
        client.send(b"EHLO early.example\r\n")
        await client.writer.drain()
        await asyncio.sleep(0.05)
        at.listener.start()
        assert await client.reply() == 554
        assert await client.end() == b""
        assert at.reception.sessions == []


@pytest.mark.covers("SEC-42")
async def test_a_web_client_is_sent_away() -> None:
    async with bench() as at:
        client = await at.connect()
        assert await client.reply() == 220
        client.send(b"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n")
        assert await client.reply() == 554
        assert await client.end() == b""


@pytest.mark.covers("SEC-87", "SEC-82")
async def test_a_last_reply_arrives_although_the_client_goes_on_sending() -> None:
    async with bench(session_limits=limits(errors=1)) as at:
        client = await at.greeted()
        client.send(b"FOO\r\n" + b"x" * 500_000)
        assert await client.replies(2) == [500, 421]
        assert await client.end() == b""


@pytest.mark.covers("SEC-18", "SEC-19")
async def test_smuggling_octet_by_octet_on_the_wire() -> None:
    async with bench() as at:
        client = await at.greeted()
        client.send(HEAD + b"DATA\r\n")
        await client.replies(3)
        for n in range(len(octets := b"x\n.\r\n" + HEAD + b"DATA\r\ny\r\n.\r\n")):
            client.send(octets[n : n + 1])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.reply() == 550
        assert await client.say("NOOP") == 250
        assert at.reception.received == []


@pytest.mark.covers("SMTP-9")
def test_zero_in_the_settings_is_no_limit() -> None:
    none = session_limits(Limits(message_size=0, recipients=0, errors=0, session_time=0, line_length=0))
    assert min(none.message_size, none.recipients, none.errors) > 10**15
    assert none.session_time_s > 10**8
    assert none.line_length == 4096
    assert session_limits(Limits()).message_size == Limits().message_size


@pytest.mark.covers("SMTP-9")
def test_the_gauge_compares_with_the_places_there_are() -> None:
    connections = ConnectionLimits(total=10, per_address=10)
    gauge = LoadGauge(connections, 0.5)
    for _ in range(4):
        connections.enter()
    assert not gauge.is_stressed()
    connections.enter()
    assert gauge.is_stressed()
