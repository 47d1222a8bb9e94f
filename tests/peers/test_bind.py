"""BIND through the harness."""

from __future__ import annotations

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from tests.peers.bind import BindServer

ZONES = {
    "beta.example": "@ MX 10 mx\nmx A 127.0.2.1\n_submission._tcp SRV 0 1 587 mx\n",
    "2.0.127.in-addr.arpa": "1 PTR mx.beta.example.\n",
}


def ask(server: BindServer, name: str, kind: str, *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    return (dns.query.tcp if tcp else dns.query.udp)(query, server.address, port=server.port, timeout=10)


def test_answers_from_its_zones() -> None:
    with BindServer(ZONES) as server:
        [mx] = ask(server, "beta.example", "MX").answer
        assert [record.to_text() for record in mx] == ["10 mx.beta.example."]
        [pointer] = ask(server, "1.2.0.127.in-addr.arpa", "PTR", tcp=True).answer
        assert [record.to_text() for record in pointer] == ["mx.beta.example."]
        assert ask(server, "nothing.beta.example", "A").rcode() == dns.rcode.NXDOMAIN
        assert ask(server, "gamma.example", "A").rcode() == dns.rcode.REFUSED
