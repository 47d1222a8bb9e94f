"""A scripted SMTP server on a loopback port, in threads."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Scripted:
    """What it is like, and what it saw."""

    refuse_data_every: int = 0
    """Answer 451 to every so-many-th message."""
    silent: bool = False
    """Say nothing, ever."""
    hang_up_after: int = 0
    """Close the connection after so many messages."""
    context: ssl.SSLContext | None = None
    implicit: bool = False
    """TLS from the first octet."""
    connections: int = 0
    messages: int = 0
    handshakes: int = 0
    octets: list[int] = field(default_factory=list)
    mail_commands: list[bytes] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    """Of clients (DER), for connections that were TLS from the first octet."""
    clients: set[str] = field(default_factory=set)
    """Their addresses."""
    port: int = 0


@contextlib.contextmanager
def scripted(server: Scripted) -> Iterator[Scripted]:
    """Run it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    server.port = listening.getsockname()[1]
    lock = threading.Lock()
    open_sockets: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, address = listening.accept()
                server.clients.add(address[0])
                open_sockets.append(client)
                server.connections += 1
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            _session(server, client, lock)
        with contextlib.suppress(OSError):
            client.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listening.close()
        for client in open_sockets:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


def _session(server: Scripted, client: socket.socket, lock: threading.Lock) -> None:
    if server.silent:
        client.recv(1)
        return
    if server.implicit:
        assert server.context is not None
        secured = server.context.wrap_socket(client, server_side=True)
        server.handshakes += 1
        server.certificates.append(secured.getpeercert(binary_form=True) or b"")
        client = secured
    client.sendall(b"220-two\r\n220 lines\r\n")
    lines = client.makefile("rb")
    sent = 0
    while line := lines.readline():
        verb = line.split()[0].upper()
        if verb == b"MAIL":
            server.mail_commands.append(line)
        if verb == b"STARTTLS" and server.context is not None:
            client.sendall(b"220 go on\r\n")
            client = server.context.wrap_socket(client, server_side=True)
            lines = client.makefile("rb")
            server.handshakes += 1
        elif verb == b"DATA":
            client.sendall(b"354 go on\r\n")
            size = 0
            while (part := lines.readline()) != b".\r\n":
                size += len(part)
            sent += 1
            with lock:
                server.messages += 1
                server.octets.append(size)
                refuse = server.refuse_data_every and server.messages % server.refuse_data_every == 0
            if sent == server.hang_up_after:
                return
            client.sendall(b"451 not now\r\n" if refuse else b"250 ok\r\n")
        else:
            client.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250-a\r\n250 b\r\n")
