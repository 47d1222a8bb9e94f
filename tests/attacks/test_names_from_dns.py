"""SEC-80 with the attacker's own DNS: what an address is called goes into trace fields and the log."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.attacks.stub_dns import StubDns
from tests.attacks.target import Target
from tests.peers.addresses import loopback_address

NAMES = [
    (b"mail", b"honest"),
    (b"evil\r\nBcc: victim@far", b"x"),
    (b"a(b", b"x"),
    (b"a)b; from bank", b"x"),
    (b"\x1b[2J", b"x"),
    (b"\x00", b"x"),
    (b"a.b", b"x"),
    (b"\xff\xfe", b"x"),
    (b'"quoted"', b"\\"),
    (b"y" * 63, b"y" * 63, b"y" * 63),
]


@pytest.fixture(scope="module")
def stub() -> Iterator[StubDns]:
    """The attacker's."""
    with StubDns(loopback_address()) as server:
        yield server


@pytest.fixture(scope="module")
def module_target(tmp_path_factory: pytest.TempPathFactory, stub: StubDns) -> Iterator[Target]:
    """One server for this module, which asks the stub."""
    # A rule that wants to know the name makes sure that it is known in time.
    rule = {"name": "ask", "action": "tag", "value": "known", "when": {"client.ptr": "known.example"}}
    changes: dict[str, dict[str, object]] = {"dns": {"servers": [stub.endpoint]}, "policy": {"rules": [rule]}}
    with Target(tmp_path_factory.mktemp("target"), **changes) as target:
        yield target


@pytest.mark.covers("SEC-80", "SEC-210", "SEC-154")
@pytest.mark.parametrize("labels", NAMES, ids=repr)
def test_names_of_addresses(target: Target, stub: StubDns, labels: tuple[bytes, ...]) -> None:
    source = loopback_address()
    stub.name(source, *labels)
    token = b"ptr-%d" % (hash(labels) & 0xFFFFFFFF)
    target.new_log()
    with target.session(source=source) as wire:
        wire.begin(b"ann@open.example")
        wire.expect(b"250", after=b"Subject: " + token + b"\r\n\r\nx\r\n.")
    header = target.arrival(token).partition(b"\r\n\r\n")[0]
    assert b"\r\nBcc:" not in header
    received = re.match(rb"Received: ((?:[^\r]|\r\n[ \t])*)\r\n", header)
    assert received is not None
    trace = received[1].replace(b"\r\n", b"")
    assert re.fullmatch(rb"[\x09\x20-\x7e]+", trace)
    assert trace.count(b"(") == trace.count(b")") == 2
    assert trace.count(b";") == 1
    if labels[0] == b"mail":
        assert b"mail.honest.example [" + source.encode() + b"]" in trace
    log = target.new_log()
    assert not any(octet < 32 and octet != 10 for octet in log)
