"""One question to one name server, over UDP and, if the answer does not fit, TCP."""

import os
import socket
from dataclasses import dataclass

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype

from outrider.dns.reading import Reading, Senseless, read_response
from outrider.dns.servers import Server

_UDP_PAYLOAD_OCTETS = 1232  # fits an IPv6 packet of the least MTU: no fragments to forge (DNS flag day 2020)


class ServerFailed(Exception):
    """The server gave nothing to rely on. `silent`: it did not answer at all, so asking again may help."""

    def __init__(self, reason: str, silent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask. `want_authentic` sets the AD bit: tell us DNSSEC's verdict (RFC 6840 section 5.7)."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType
    want_authentic: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What the response said, and its size on the wire."""

    reading: Reading
    octets: int


async def exchange(server: Server, question: Question, timeout_s: float) -> Reply:
    """Ask `server`; each transport gets `timeout_s`. Raises `ServerFailed`.

    Responses with another id, source, question or name, and what cannot be parsed, are not answers and are
    passed over while waiting for the real one: a forger must not be able to end the wait (SEC-161).
    """
    flags = dns.flags.RD | (dns.flags.AD if question.want_authentic else 0)
    query = dns.message.make_query(
        question.name, question.rdtype, use_edns=0, payload=_UDP_PAYLOAD_OCTETS, flags=flags
    )
    try:
        response = await _ask(server, query, timeout_s)
        return Reply(read_response(response), len(response.wire or b""))
    except dns.exception.Timeout:
        raise ServerFailed("time-out", silent=True) from None
    except Senseless as error:
        raise ServerFailed(str(error), silent=False) from None
    except OSError as error:
        # asyncio puts its own words, with addresses, where the system's should be.
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise ServerFailed(reason, silent=True) from None
    except Exception as error:
        # dnspython raises its own, struct's, EOFError ... on hostile bytes. None of them may reach a
        # session, and an unforeseen failure is temporary (SEC-160).
        raise ServerFailed(f"malformed response ({type(error).__name__})", silent=False) from error


async def _ask(server: Server, query: dns.message.Message, timeout_s: float) -> dns.message.Message:
    """Return the response to the query, from TCP if UDP's was truncated."""
    backend = dns.asyncbackend.get_backend("asyncio")
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    # A connected socket, new for each query: the source port is random, the kernel drops other sources,
    # and a dead server is known at once by its "port unreachable".
    # dnspython annotates this method's class, not the method.
    sock = await backend.make_socket(  # type: ignore[no-untyped-call]
        family, socket.SOCK_DGRAM, destination=(server.address, server.port), timeout=timeout_s
    )
    async with sock:
        try:
            return await dns.asyncquery.udp(
                query,
                server.address,
                timeout_s,
                server.port,
                ignore_unexpected=True,
                raise_on_truncation=True,
                sock=sock,
                ignore_errors=True,
            )
        except dns.message.Truncated:
            pass
    return await dns.asyncquery.tcp(query, server.address, timeout_s, server.port, backend=backend)
