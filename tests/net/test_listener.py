"""The listener: admission, limits, PROXY headers, exhaustion, stopping. On both event loops."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.net.tls_peers import LOOPS, App, connect, finished, run_on, server_tls
from tests.peers.certificates import CertificateAuthority

from outrider.net.listener import RETRY_S, AcceptedConnection, Listener, ListenerSettings
from outrider.net.listener_limits import ConnectionLimits, Refusal, network_key
from outrider.net.listener_sockets import ListenError, inherited_sockets, open_socket
from outrider.net.server_limits import LoadGauge
from outrider.net.tls import tls_server_side

BUSY = b"421 4.7.0 mx.alpha.example too many connections\r\n"
LOOPBACK = (IPv4Network("127.0.0.0/8"),)
both_loops = pytest.mark.parametrize("loop", list(LOOPS))


class Greeter(asyncio.Protocol):
    """Says 220, repeats what it hears, closes when told to drain."""

    def __init__(self, connection: AcceptedConnection, *, drains: bool = True) -> None:
        self.connection = connection
        self.transport: Any = None
        if drains:
            connection.on_drain(self.leave)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(f"220 {self.connection} {self.connection.local}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def leave(self) -> None:
        if self.transport is not None:
            self.transport.write(b"421 closing\r\n")
            self.transport.close()


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.refused: list[tuple[str, Refusal, str]] = []
        self.failures: list[OSError] = []

    def connection_opened(self, connection: AcceptedConnection) -> None:
        self.opened.append(str(connection))

    def connection_closed(self, connection: AcceptedConnection) -> None:
        self.closed.append(str(connection))

    def connection_refused(self, listener: str, peer: str, refusal: Refusal, detail: str) -> None:
        self.refused.append((peer, refusal, detail))

    def accept_failed(self, listener: str, error: OSError) -> None:
        self.failures.append(error)


@asynccontextmanager
async def listening(
    notes: Notes | None = None,
    *,
    factory: Any = Greeter,
    total: int = 100,
    per_address: int = 100,
    exempt: Any = (),
    address: str = "127.0.0.1",
    **settings: Any,
) -> AsyncIterator[tuple[Listener, ConnectionLimits]]:
    limits = ConnectionLimits(total=total, per_address=per_address, exempt=exempt)
    chosen = ListenerSettings("smtp", refusal=BUSY, **settings)
    listener = Listener(open_socket(address), factory, chosen, limits, notes)
    listener.start()
    try:
        yield listener, limits
    finally:
        await listener.stop(0)
        assert listener.open == 0
        assert limits.open == 0


class Client:
    """A plain client whose own loopback address can be chosen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, listener: Listener, source: str = "127.0.0.1") -> Client:
        host = "127.0.0.1" if ip_address(source).version == 4 else "::1"
        return cls(*await asyncio.open_connection(host, listener.port, local_addr=(source, 0)))

    async def line(self) -> bytes:
        return await self.reader.readline()

    async def rest(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        self.writer.close()


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def settled(condition: Any) -> None:
    """Give the other side's callbacks their turns until `condition` holds (the test's limit ends it)."""
    while not condition():
        await asyncio.sleep(0.001)


@both_loops
def test_a_connection_gets_its_protocol_and_its_addresses(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes) as (listener, limits):
            client = await Client.to(listener, "127.0.0.9")
            greeting = await client.line()
            assert greeting.startswith(b"220 127.0.0.9:")
            assert greeting.endswith(f" 127.0.0.1:{listener.port}\r\n".encode())
            assert (listener.open, limits.open) == (1, 1)
            await client.close()
            await settled(lambda: listener.open == 0)
            assert limits.open == 0
            assert limits.open_from(ip_address("127.0.0.9")) == 0
        assert notes.opened == notes.closed
        assert len(notes.opened) == 1

    run_on(loop, work())


@both_loops
def test_accepted_sockets_send_small_replies_at_once(loop: str) -> None:
    async def work() -> None:
        made: list[Greeter] = []

        def factory(connection: AcceptedConnection) -> Greeter:
            made.append(Greeter(connection))
            return made[-1]

        async with listening(factory=factory) as (listener, _):
            client = await Client.to(listener)
            await client.line()
            accepted = made[0].transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await client.close()

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SMTP-9", "SEC-90")
def test_limits_in_all_and_per_address_refuse_with_the_given_reply(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes, total=3, per_address=2) as (listener, _):
            first, second = await Client.to(listener, "127.0.0.2"), await Client.to(listener, "127.0.0.2")
            assert (await first.line()).startswith(b"220")
            assert (await second.line()).startswith(b"220")
            third = await Client.to(listener, "127.0.0.2")
            assert await third.rest() == BUSY
            other = await Client.to(listener, "127.0.0.3")
            assert (await other.line()).startswith(b"220")
            fourth = await Client.to(listener, "127.0.0.4")
            assert await fourth.rest() == BUSY
            await first.close()
            await settled(lambda: listener.open == 2)
            again = await Client.to(listener, "127.0.0.2")
            assert (await again.line()).startswith(b"220")
            for client in (second, other, again, third, fourth):
                await client.close()
        assert [refusal for _, refusal, _ in notes.refused] == [Refusal.ADDRESS_FULL, Refusal.SERVER_FULL]

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SMTP-9")
def test_a_listeners_own_limit_and_exempt_networks(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes, per_address=1, exempt=LOOPBACK, max_connections=2) as (listener, _):
            clients = [await Client.to(listener) for _ in range(3)]
            assert [(await client.line())[:3] for client in clients] == [b"220", b"220", b"421"]
            for client in clients:
                await client.close()
        assert [refusal for _, refusal, _ in notes.refused] == [Refusal.LISTENER_FULL]

    run_on(loop, work())


@pytest.mark.covers("SEC-90")
def test_addresses_of_one_ipv6_customer_count_together() -> None:
    limits = ConnectionLimits(total=10, per_address=2)
    assert limits.enter_from(ip_address("2001:db8:0:1::1"))
    assert limits.enter_from(ip_address("2001:db8:0:1:ffff::2"))
    assert not limits.enter_from(ip_address("2001:db8:0:1:abcd::3"))
    assert limits.enter_from(ip_address("2001:db8:0:2::1"))
    limits.leave_from(ip_address("2001:db8:0:1:ffff::9"))
    assert limits.enter_from(ip_address("2001:db8:0:1::4"))
    assert network_key(ip_address("::ffff:192.0.2.1")) == network_key(ip_address("192.0.2.1"))


@both_loops
@pytest.mark.covers("SMTP-9")
def test_a_limit_of_nought_is_none(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes, total=0, per_address=0, max_connections=0) as (listener, limits):
            clients = [await Client.to(listener) for _ in range(3)]
            assert [(await client.line())[:3] for client in clients] == [b"220"] * 3
            assert not LoadGauge(limits, 0.8).is_stressed()
            for client in clients:
                await client.close()
        assert notes.refused == []

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SEC-91")
def test_connections_that_come_and_go_leave_nothing_behind(loop: str) -> None:
    async def work() -> None:
        async with listening() as (listener, limits):
            first = await Client.to(listener)  # libuv opens a descriptor of its own with the first stream
            await first.line()
            await first.close()
            await settled(lambda: listener.open == 0)
            before = descriptors()
            for round_ in range(300):
                probe = socket.create_connection(("127.0.0.1", listener.port))
                if round_ % 2:
                    probe.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                    )  # close with RST
                probe.close()
                if round_ % 50 == 0:
                    await asyncio.sleep(0)
            await settled(lambda: listener.open == 0)
            client = await Client.to(listener)
            assert (await client.line()).startswith(b"220")
            await client.close()
            await settled(lambda: listener.open == 0)
            assert limits.open_from(ip_address("127.0.0.1")) == 0
            await settled(lambda: descriptors() <= before)

    run_on(loop, work())


@contextmanager
def few_descriptors(spare: int) -> Iterator[list[int]]:
    """Leave room for `spare` more descriptors; the list holds those that fill the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 64, hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(spare):
            os.close(taken.pop())
        yield taken
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both_loops
@pytest.mark.covers("SEC-93")
def test_out_of_descriptors_tells_the_client_does_not_spin_and_recovers(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes) as (listener, _):
            old = await Client.to(listener)
            assert (await old.line()).startswith(b"220")
            with few_descriptors(spare=1):
                probe = socket.socket()  # takes the last one; the server's end would need one more
                probe.setblocking(False)
                began = asyncio.get_running_loop().time()
                await asyncio.get_running_loop().sock_connect(probe, ("127.0.0.1", listener.port))
                told = await asyncio.get_running_loop().sock_recv(probe, 4096)
                assert told == BUSY
                for _ in range(200):
                    await asyncio.sleep(0)
                pauses = (asyncio.get_running_loop().time() - began) / RETRY_S
                assert 1 <= len(notes.failures) <= 1 + pauses, "the accept loop spins"
                assert notes.failures[0].errno == errno.EMFILE
                old.writer.write(b"NOOP\r\n")
                assert await old.line() == b"NOOP\r\n"
                probe.close()
            new = await Client.to(listener)
            assert (await new.line()).startswith(b"220")
            await new.close()
            await old.close()
        assert [refusal for _, refusal, _ in notes.refused] == [Refusal.NO_DESCRIPTORS]

    run_on(loop, work())


# -- PROXY headers -----------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("cuts", [(), (1,), (6, 30), tuple(range(1, 43))])
def test_a_trusted_proxy_says_who_the_client_is(loop: str, cuts: tuple[int, ...]) -> None:
    async def work() -> None:
        wire = b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 25\r\nNOOP\r\n"
        async with listening(proxy_networks=LOOPBACK) as (listener, limits):
            client = await Client.to(listener)
            for start, end in zip((0, *cuts), (*cuts, len(wire)), strict=True):
                client.writer.write(wire[start:end])
                await asyncio.sleep(0)
            assert await client.line() == b"220 192.0.2.7:40001 198.51.100.1:25\r\n"
            assert await client.line() == b"NOOP\r\n"
            assert limits.open_from(ip_address("192.0.2.7")) == 1
            assert limits.open_from(ip_address("127.0.0.1")) == 0
            await client.close()

    run_on(loop, work())


@both_loops
def test_local_and_unknown_headers_leave_the_connections_own_addresses(loop: str) -> None:
    async def work() -> None:
        local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
        async with listening(proxy_networks=LOOPBACK) as (listener, _):
            for header in (b"PROXY UNKNOWN\r\n", local):
                client = await Client.to(listener, "127.0.0.9")
                client.writer.write(header)
                assert (await client.line()).startswith(b"220 127.0.0.9:")
                await client.close()

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SMTP-9")
def test_the_limit_per_address_counts_the_relayed_client(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes, proxy_networks=LOOPBACK, per_address=1) as (listener, _):
            clients = []
            for source in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
                clients.append(await Client.to(listener))
                clients[-1].writer.write(f"PROXY TCP4 {source} 198.51.100.1 40001 25\r\n".encode())
            assert [(await client.line())[:3] for client in clients] == [b"220", b"220", b"421"]
            for client in clients:
                await client.close()
        assert notes.refused == [("192.0.2.7:40001", Refusal.ADDRESS_FULL, "")]
        assert len(notes.opened) == len(notes.closed) == 2

    run_on(loop, work())


@both_loops
def test_nobody_else_is_believed(loop: str) -> None:
    async def work() -> None:
        networks = (ip_network("127.0.0.5/32"),)
        async with listening(proxy_networks=networks) as (listener, _):
            client = await Client.to(listener, "127.0.0.6")
            client.writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 25\r\n")
            assert (await client.line()).startswith(b"220 127.0.0.6:")
            assert (await client.line()).startswith(b"PROXY TCP4"), "the header is an ordinary command here"
            await client.close()

    run_on(loop, work())


@both_loops
@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"EHLO client.example\r\n", "no PROXY header"),
        (b"PROXY TCP4 nonsense\r\n", "malformed"),
        (b"PROXY " + b"x" * 200, "longer than 107"),
    ],
)
def test_a_trusted_proxy_without_a_proper_header_is_cut_off(loop: str, wire: bytes, reason: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes, proxy_networks=LOOPBACK) as (listener, _):
            client = await Client.to(listener)
            client.writer.write(wire)
            assert await client.rest() == b""
            await settled(lambda: listener.open == 0)
            await client.close()
        assert [(refusal, reason in detail) for _, refusal, detail in notes.refused] == [
            (Refusal.PROXY_HEADER, True)
        ]
        assert notes.opened == []

    run_on(loop, work())


@both_loops
@pytest.mark.covers("SEC-88")
def test_a_proxy_header_that_does_not_come_ends_the_connection(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes, proxy_networks=LOOPBACK, proxy_timeout_s=0.05) as (listener, _):
            client = await Client.to(listener)
            client.writer.write(b"PROXY TCP4")
            assert await client.rest() == b""
            await client.close()
        assert [(refusal, detail) for _, refusal, detail in notes.refused] == [
            (Refusal.PROXY_HEADER, "no PROXY header within 0.05 s")
        ]

    run_on(loop, work())


@both_loops
def test_tls_begins_behind_a_proxy_header(loop: str, tmp_path: Path) -> None:
    async def work() -> None:
        tls = server_tls(CertificateAuthority(tmp_path))
        server, client = App(echo=True), App()
        seen: list[AcceptedConnection] = []

        def factory(connection: AcceptedConnection) -> asyncio.Protocol:
            seen.append(connection)
            return tls_server_side(server, tls)

        async with listening(factory=factory, proxy_networks=LOOPBACK) as (listener, _):

            class Header(asyncio.Protocol):
                def connection_made(self, transport: Any) -> None:
                    transport.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 465\r\n")

            transport = await connect(("127.0.0.1", listener.port), client, placeholder=Header)
            transport.write(b"EHLO")
            assert await client.octets(4) == b"EHLO"
            transport.close()
            await finished(client, server)
        assert str(seen[0]) == "192.0.2.7:40001"

    run_on(loop, work())


# -- stopping ----------------------------------------------------------------------------------------


@both_loops
def test_stopping_lets_connections_finish_and_turns_new_ones_away(loop: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with listening(notes) as (listener, _):
            client = await Client.to(listener)
            assert (await client.line()).startswith(b"220")
            late = socket.create_connection(("127.0.0.1", listener.port))
            await listener.stop(grace_s=30)
            assert await client.rest() == b"421 closing\r\n"
            with late:
                assert late.recv(100) == BUSY
            with pytest.raises(ConnectionRefusedError):
                await Client.to(listener)
            await client.close()
            assert listener.open == 0
        assert [refusal for _, refusal, _ in notes.refused] == [Refusal.STOPPING]

    run_on(loop, work())


@both_loops
def test_stopping_aborts_what_does_not_end_in_time(loop: str) -> None:
    async def work() -> None:
        notes = Notes()

        def stubborn(connection: AcceptedConnection) -> Greeter:
            return Greeter(connection, drains=False)

        async with listening(notes, factory=stubborn) as (listener, limits):
            client = await Client.to(listener)
            assert (await client.line()).startswith(b"220")
            await listener.stop(grace_s=0.05)
            assert (listener.open, limits.open) == (0, 0)
            assert await client.rest() == b""
            await client.close()
        assert len(notes.closed) == 1

    run_on(loop, work())


@both_loops
def test_a_factory_that_fails_costs_only_its_connection(loop: str) -> None:
    async def work() -> None:
        complaints: list[str] = []
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda _, context: complaints.append(context["message"]))

        def broken(connection: AcceptedConnection) -> Greeter:
            raise RuntimeError("no session today")

        async with listening(factory=broken) as (listener, limits):
            client = await Client.to(listener)
            assert await client.rest() == b""
            await settled(lambda: listener.open == 0)
            assert limits.open_from(ip_address("127.0.0.1")) == 0
            await client.close()
        assert complaints == ["smtp: no protocol for a connection"]

    run_on(loop, work())


# -- sockets -----------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with open_socket("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            open_socket("127.0.0.1", port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: another process listens there; "
        f"stop it (ss -ltnp 'sport = :{port}' shows it) or choose another port"
    )


def test_processes_may_share_a_port() -> None:
    with (
        open_socket("127.0.0.1", reuse_port=True) as first,
        open_socket("127.0.0.1", first.getsockname()[1], reuse_port=True) as second,
    ):
        assert first.getsockname() == second.getsockname()


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("mx.alpha.example", "no address"),
        ("192.0.2.1", "no such address"),
        ("unix:/nonexistent/folder/socket", "No such file"),
        ("unix:/" + "x" * 200, "too long"),
    ],
)
def test_other_addresses_that_cannot_be_used_are_explained(address: str, problem: str) -> None:
    with pytest.raises(ListenError, match=problem):
        open_socket(address, 0)


@both_loops
def test_ipv6_and_unix_sockets_are_served(loop: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(address="::1") as (listener, _):
            assert listener.where == f"[::1]:{listener.port}"
            client = await Client.to(listener, "::1")
            assert (await client.line()).startswith(b"220 [::1]:")
            await client.close()
        path = tmp_path / "lmtp.sock"
        async with listening(address=f"unix:{path}") as (listener, _):
            assert listener.where == f"unix:{path}"
            assert path.stat().st_mode & 0o777 == 0o660
            client = Client(*await asyncio.open_unix_connection(str(path)))
            assert await client.line() == b"220 unix None\r\n"
            await client.close()

    run_on(loop, work())


def test_a_unix_socket_is_replaced_only_when_nobody_serves_it(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'lmtp.sock'}"
    first = open_socket(address)
    with pytest.raises(ListenError, match="another process listens there"):
        open_socket(address)
    first.close()
    open_socket(address).close()
    ordinary = tmp_path / "file"
    ordinary.write_text("precious")
    with pytest.raises(ListenError, match="another kind"):
        open_socket(f"unix:{ordinary}")
    assert ordinary.read_text() == "precious"


def test_sockets_of_systemd_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given = open_socket("127.0.0.1")
    monkeypatch.setattr("outrider.net.listener_sockets._FIRST_INHERITED", given.fileno())
    environ = {"LISTEN_PID": "4711", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}
    assert inherited_sockets(environ, pid=4712) == ()
    (inherited,) = inherited_sockets(environ, pid=4711)
    assert (inherited.name, inherited.where) == ("smtp", f"127.0.0.1:{given.getsockname()[1]}")
    assert not inherited.socket.getblocking()
    given.detach()
    inherited.socket.close()


@pytest.mark.parametrize("count", ["", "-1", "1_0", "257", "９"])
def test_a_strange_number_of_inherited_sockets_is_refused(count: str) -> None:
    with pytest.raises(ListenError, match="no sensible number"):
        inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": count}, pid=1)


def test_an_inherited_descriptor_must_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = socket.socketpair()
    with left, right:
        monkeypatch.setattr("outrider.net.listener_sockets._FIRST_INHERITED", left.fileno())
        with pytest.raises(ListenError, match="no listening stream socket"):
            inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, pid=1)
