"""The SMTP driver over sockets: to Postfix, and to servers that do what they should not."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.net.client_jobs import (
    HELLO,
    TRACE,
    FileBody,
    Noted,
    dialler,
    file_content,
    hop,
    job,
    script,
    serving,
)
from tests.peers.postfix import PostfixServer
from tests.peers.tools import SmtpSink

from outrider.delivery.interface import ConnectFailed
from outrider.model.result import DeliveryResult, Kind
from outrider.net.smtp_client import SmtpDialler


async def carry(
    dial: SmtpDialler, where: str, what: bytes, *recipients: str, port: int = 25
) -> list[DeliveryResult]:
    connection = await dial.connect(hop(where, port, level="none"), ip_address(where))
    results = await connection.send(job(what, *recipients))
    await connection.close()
    return [results[position] for position in sorted(results)]


class TestPostfix:
    @pytest.mark.covers("SMTP-3")
    async def test_small_and_large_and_several_messages_on_one_connection(
        self, address: str, tmp_path: Path
    ) -> None:
        large = HELLO + b"".join(b".line %d with a dot\r\n" % n for n in range(100_000))
        with PostfixServer(address) as postfix:
            connection = await dialler().connect(hop(address), ip_address(address))
            for content in (HELLO + b".\r\n..\r\nhi\r\n", file_content(large, tmp_path / "body")):
                (result,) = (await connection.send(job(content))).values()
                assert (result.kind, result.code) == (Kind.DELIVERED, 250)
                assert connection.usable
            await connection.close()
            assert not connection.usable
            got = await asyncio.to_thread(postfix.wait_messages, "ann", 2)
            bodies = sorted((message.partition(b"\n\n")[2] for message in got), key=len)
            assert bodies[0] == b".\n..\nhi\n"
            assert bodies[1] == large.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")

    @pytest.mark.covers("SMTP-3", "SMTP-6")
    async def test_each_recipient_has_its_own_result(self, address: str) -> None:
        with PostfixServer(address):
            people = ("ann@peer.example", "nobody@peer.example", "bob@peer.example")
            results = await carry(dialler(), address, HELLO, *people)
        assert [result.kind for result in results] == [Kind.DELIVERED, Kind.FAILED, Kind.DELIVERED]
        assert results[1].status == "5.1.1"
        assert results[1].remote == f"mx.peer.example [{address}]:25"

    @pytest.mark.covers("SMTP-3")
    async def test_more_recipients_than_the_server_takes_at_once(self, address: str) -> None:
        users = tuple(f"user{number}" for number in range(12))
        with PostfixServer(address, users=users, main_cf={"smtpd_recipient_limit": "5"}) as postfix:
            results = await carry(dialler(), address, HELLO, *(f"{user}@peer.example" for user in users))
            assert {result.kind for result in results} == {Kind.DELIVERED}
            for user in users:
                assert len(await asyncio.to_thread(postfix.wait_messages, user)) == 1

    @pytest.mark.covers("SMTP-3", "SEC-28")
    async def test_eight_bit_to_a_server_without_8bitmime(self, address: str) -> None:
        text = "Viele Grüße aus der Ferne\r\n".encode()
        settings = {"smtpd_discard_ehlo_keywords": "8bitmime, chunking"}
        with PostfixServer(address, main_cf=settings) as postfix:
            (result,) = await carry(dialler(), address, HELLO + text)
            assert result.kind is Kind.DELIVERED
            (got,) = await asyncio.to_thread(postfix.wait_messages, "ann")
            assert got.isascii()
            assert b"Gr=C3=BC=C3=9Fe" in got
            signed = b"DKIM-Signature: v=1\r\n" + HELLO + text
            (result,) = await carry(dialler(), address, signed)
            assert (result.kind, result.status) == (Kind.FAILED, "5.6.3")

    @pytest.mark.covers("SMTP-3")
    async def test_size_is_honoured_before_sending(self, address: str) -> None:
        with PostfixServer(address, main_cf={"message_size_limit": "10000"}) as postfix:
            (result,) = await carry(dialler(), address, HELLO + b"x" * 998 + b"\r\n" + b"y\r\n" * 4000)
            assert (result.kind, result.status, result.code) == (Kind.FAILED, "5.3.4", 0)
            assert "message_size" not in postfix.log()

    @pytest.mark.covers("SEC-28")
    async def test_smtputf8_that_is_not_offered(self, address: str) -> None:
        with PostfixServer(address, main_cf={"smtputf8_enable": "no"}):
            results = await carry(dialler(), address, HELLO, "jörg@peer.example", "ann@peer.example")
        assert (results[0].kind, results[0].status) == (Kind.FAILED, "5.6.7")
        assert results[1].kind is Kind.DELIVERED


class TestSink:
    @pytest.mark.covers("SMTP-1", "SEC-26")
    @pytest.mark.parametrize("options", [(), ("-p",), ("-e",)])
    async def test_what_arrives_is_what_was_stored(self, address: str, options: tuple[str, ...]) -> None:
        content = HELLO + b".\r\n.leading\r\n..two\r\nend"
        with SmtpSink(address, 2525, *options) as sink:
            (result,) = await carry(dialler(), address, content, port=2525)
            # It offers DSN in reply to EHLO; option -e takes EHLO away.
            assert result.kind is (Kind.RELAYED if "-e" in options else Kind.DELIVERED)
            (got,) = sink.transactions()
        assert got.endswith(b"\n\n.\n.leading\n..two\nend\n\n")
        assert TRACE.strip() in got

    @pytest.mark.covers("SMTP-1", "SEC-26")
    async def test_stray_octets_never_reach_the_wire(self, address: str) -> None:
        with SmtpSink(address, 2525) as sink:
            for stray in (b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"a\rb", b"a\0b"):
                (result,) = await carry(dialler(), address, HELLO + b"x" + stray + b"y\r\n", port=2525)
                assert (result.kind, result.status) == (Kind.FAILED, "5.6.0")
            assert sink.transactions() == []

    @pytest.mark.covers("SMTP-6")
    @pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "."])
    @pytest.mark.parametrize(("option", "kind"), [("-r", Kind.DEFERRED), ("-f", Kind.FAILED)])
    async def test_refusals_at_each_command(
        self, address: str, command: str, option: str, kind: Kind
    ) -> None:
        with SmtpSink(address, 2525, option, command):
            (result,) = await carry(dialler(), address, HELLO, port=2525)
        assert result.kind is kind

    @pytest.mark.covers("SMTP-6", "SEC-31")
    @pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "."])
    async def test_disconnects_at_each_command(self, address: str, command: str) -> None:
        with SmtpSink(address, 2525, "-q", command):
            (result,) = await carry(dialler(), address, HELLO, port=2525)
        assert result.kind is Kind.DEFERRED
        assert ("may have been delivered" in result.text) is (command == ".")

    async def test_refused_greeting_is_permanent_for_this_host(self, address: str) -> None:
        with SmtpSink(address, 2525, "-f", "CONNECT"), pytest.raises(ConnectFailed) as failed:
            await dialler().connect(hop(address, 2525), ip_address(address))
        assert failed.value.result.kind is Kind.FAILED

    async def test_lmtp(self, address: str) -> None:
        with SmtpSink(address, 2525, "-L") as sink:
            connection = await dialler().connect(hop(address, 2525, "lmtp"), ip_address(address))
            results = await connection.send(job(HELLO, "a@peer.example", "b@peer.example"))
            await connection.close()
            assert [result.kind for result in results.values()] == [Kind.DELIVERED] * 2
            assert len(sink.transactions()) == 1


class TestBadServers:
    async def fails(self, state_address: str, **settings: object) -> DeliveryResult:
        with pytest.raises(ConnectFailed) as failed:
            await dialler(**settings).connect(hop(state_address, 2525), ip_address(state_address))
        return failed.value.result

    @pytest.mark.covers("SMTP-6")
    async def test_nobody_listens(self, address: str) -> None:
        result = await self.fails(address)
        assert (result.kind, result.status) == (Kind.DEFERRED, "4.4.1")
        assert "refused" in result.text

    @pytest.mark.covers("SEC-50")
    @pytest.mark.parametrize(
        ("greeting", "kind"),
        [
            ("354 go", Kind.DEFERRED),
            ("421 later", Kind.DEFERRED),
            ("554 never", Kind.FAILED),
            (b"220-" + b"x" * 100_000, Kind.DEFERRED),
            (b"220-x\r\n" * 1_000_000, Kind.DEFERRED),
        ],
    )
    async def test_greetings(self, address: str, greeting: bytes | str, kind: Kind) -> None:
        async with serving(address, script(greeting, hold=True)):
            assert (await self.fails(address)).kind is kind

    @pytest.mark.covers("SEC-50", "SEC-88")
    async def test_silence_is_bounded(self, address: str) -> None:
        async with serving(address, script(b"", hold=True)):
            result = await self.fails(address, command_timeout_s=0.3)
        assert (result.kind, result.status) == (Kind.DEFERRED, "4.4.2")

    @pytest.mark.covers("SEC-53")
    async def test_hostile_text_is_cleaned(self, address: str) -> None:
        said = b"550 5.1.1 \x1b[31m no \x00"[:-1] + b"\xff" * 600 + b"\r\n"
        async with serving(address, script("220 hi", "250 mx", "250 ok", said, hold=True)):
            (result,) = await carry(dialler(), address, HELLO, port=2525)
        assert result.kind is Kind.FAILED
        assert result.text.isprintable()
        assert len(result.text) <= 512

    @pytest.mark.covers("SEC-54", "SEC-55")
    @pytest.mark.parametrize(
        "replies",
        [
            ("250 ok", "354 go"),
            ("250 ok", "250 ok", "250 ok"),
            ("250 ok", b"250 ok\r\n250 ok\r\n", "354 go"),
            ("250 ok", b"250-ok\r\n550 no\r\n"),
        ],
    )
    async def test_replies_out_of_order_defer(self, address: str, replies: tuple[str | bytes, ...]) -> None:
        noted = Noted()
        async with serving(address, script("220 hi", "250 mx", *replies, hold=True)):
            (result,) = await carry(dialler(observer=noted), address, HELLO, port=2525)
        assert (result.kind, result.status) == (Kind.DEFERRED, "4.5.0")
        assert "misbehaved" in noted.names

    @pytest.mark.covers("SEC-89")
    async def test_a_server_that_stops_reading(self, address: str, tmp_path: Path) -> None:
        content = file_content(
            HELLO + b"x" * 70 + b"\r\n" + b"y" * 70 + b"\r\n" * 9_000_000, tmp_path / "body"
        )

        async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for reply in (b"220 hi\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                writer.write(reply)
                if reply[:3] != b"354":
                    await reader.readline()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3600)

        async with serving(address, stuck):
            dial = dialler(command_timeout_s=1.0)
            connection = await dial.connect(hop(address, 2525, level="none"), ip_address(address))
            (result,) = (await connection.send(job(content))).values()
            assert result.kind is Kind.DEFERRED
            assert not connection.usable
            await connection.close()

    async def test_an_idle_server_that_says_goodbye(self, address: str) -> None:
        async with serving(address, script("220 hi", b"250 mx\r\n", hold=True)) as server:
            connection = await dialler().connect(hop(address, 2525), ip_address(address))
            assert connection.usable
            assert server.connections == 1
        async with serving(address, script("220 hi", b"250 mx\r\n"), port=2526):
            connection = await dialler().connect(hop(address, 2526), ip_address(address))
            while connection.usable:
                await asyncio.sleep(0.01)
            (result,) = (await connection.send(job(HELLO))).values()
            assert result.kind is Kind.DEFERRED
            await connection.close()

    async def test_a_body_that_cannot_be_read_any_more(self, address: str, tmp_path: Path) -> None:
        content = file_content(HELLO + b"x\r\n" * 100_000, tmp_path / "body")
        assert isinstance(content.body, FileBody)
        script_of_two = script("220 hi", "250 mx", "250 ok", "250 ok", "354 go", "250 taken")
        async with serving(address, script_of_two):
            connection = await dialler().connect(hop(address, 2525), ip_address(address))
            content.body.path.unlink()
            (result,) = (await connection.send(job(content))).values()
            assert (result.kind, result.status) == (Kind.DEFERRED, "4.3.0")
            assert connection.usable
            content.body.path.write_bytes(b"x\r\n" * 99_999)
            (result,) = (await connection.send(job(content))).values()
            assert (result.kind, result.status) == (Kind.DEFERRED, "4.3.0")
            assert not connection.usable
            await connection.close()

    async def test_cancelled_means_aborted(self, address: str) -> None:
        async with serving(address, script("220 hi", "250 mx", b"", hold=True)):
            connection = await dialler().connect(hop(address, 2525), ip_address(address))
            task = asyncio.create_task(connection.send(job(HELLO)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not connection.usable

    async def test_source_address(self, address: str) -> None:
        from outrider.net.dialling import Dialling

        seen: list[str] = []

        async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(writer.get_extra_info("peername")[0])

        async with serving(address, look):
            await self.fails(address, dialling=Dialling(5.0, source_address=address))
        assert seen == [address]


class TestUnixSocket:
    async def test_lmtp_over_a_unix_socket(self, tmp_path: Path) -> None:
        path = str(tmp_path / "lmtp")

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await script("220 hi", b"250-mx\r\n250 PIPELINING\r\n", "250 ok", "250 ok", b"354 go\r\n")(
                reader, writer
            )
            writer.write(b"250 2.1.5 kept\r\n")
            await reader.readline()
            writer.close()

        server = await asyncio.start_unix_server(talk, path)
        try:
            connection = await dialler().connect(hop(path, protocol="lmtp"), path)
            (result,) = (await connection.send(job(HELLO))).values()
            assert (result.kind, result.status) == (Kind.DELIVERED, "2.1.5")
            assert path in result.remote
            await connection.close()
        finally:
            server.close()
