"""Requests over kept connections, each after the answer to the one before: as plain as can be."""

from __future__ import annotations

import select
import socket
import time

STALL_S = 60.0
_READ = 65_536
_END = b"\r\n\r\n"


def put_requests(address: str, port: int, requests: int, connections: int, body: bytes) -> float:
    """Send so many requests of that body; seconds from the first to the last answer. Raises OSError."""
    head = b"POST / HTTP/1.1\r\nHost: bench.example\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    links = [socket.create_connection((address, port), timeout=STALL_S) for _ in range(connections)]
    try:
        return _exchange(links, request, requests)
    finally:
        for link in links:
            link.close()


def _exchange(links: list[socket.socket], request: bytes, requests: int) -> float:
    with select.epoll() as ready:
        by_number = {link.fileno(): link for link in links}
        began, asked, answered = time.monotonic(), 0, 0
        for link in links[:requests]:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(link.fileno(), select.EPOLLIN)
            link.sendall(request)
            asked += 1
        while answered < requests:
            events = ready.poll(STALL_S)
            if not events:
                raise TimeoutError(f"no answer for {STALL_S:g} s")
            for number, _ in events:
                link = by_number[number]
                if _END not in link.recv(_READ):  # the answer fits into one packet
                    raise ConnectionError("the connection was closed, or says something else")
                answered += 1
                if asked < requests:
                    link.sendall(request)
                    asked += 1
        return time.monotonic() - began
