"""AMDP over two workers of one server: what they know of guessers and of threads they know together."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from outrider.cli.fetch import fetch
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.rooms import PATIENCE_S
from tests.system.amdp_role_sites import Roles, all_in_one, letter
from tests.system.sites import headers_of, wait_mailbox

NEWS = "news@alpha.example"
LIMIT = 30
"""[amdp.holding] guesses_per_minute, where nothing is said."""
GUESS = json.dumps({"id": "a" * 26, "confirmation": "b" * 26}).encode()


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    authority = CertificateAuthority(tmp_path_factory.mktemp("authority"))
    with all_in_one(authority, workers=2) as made:
        yield made


def guess(roles: Roles, source: str) -> bytes:
    """The status of a question about an id that nobody drew, asked by a connection of its own."""
    context = ssl.create_default_context(cafile=str(roles.authority.authority))
    host = "mhf-1.alpha.example"
    head = (
        f"POST /amdp/v1/message HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len(GUESS)}"
    )
    with (
        socket.create_connection((roles.holder_address, 443), PATIENCE_S, (source, 0)) as raw,
        context.wrap_socket(raw, server_hostname=host) as link,
    ):
        link.sendall(head.encode() + b"\r\n\r\n" + GUESS)
        return link.recv(65_536).split(b" ")[1]


@pytest.mark.covers("AMDP-12", "SEC-181")
def test_a_guesser_is_stopped_by_all_workers_together(roles: Roles) -> None:
    source = loopback_address()
    said = [guess(roles, source) for _ in range(3 * LIMIT)]
    assert set(said) == {b"404", b"429"}
    assert LIMIT <= said.count(b"404") <= LIMIT + 1, "each worker hears an address once"
    answered = roles.holder.log_events("amdp_answered")
    workers = {one["worker"] for one in answered if one["client"] == source}
    assert workers == {1, 2}, "both were asked"
    assert guess(roles, loopback_address()) == b"404", "others do not suffer"


@pytest.mark.covers("AMDP-21", "AMDP-14")
def test_a_reader_sees_the_envelope_where_its_message_belongs(roles: Roles) -> None:
    """The second letter names the first, and only its holder has seen both."""
    first = letter(NEWS, "root")
    second = letter(NEWS, "reply").replace(b"Date: ", b"References: <root@alpha.example>\r\nDate: ")
    for number, content in enumerate((first, second), 1):
        roles.hand_in(NEWS, content, "bob@beta.example")
        envelopes = wait_mailbox(roles.store, "bob", number)
    [named] = [one for one in map(headers_of, envelopes) if b"\nReferences: " in one]
    thread = re.findall(rb"<([^>]+)>", named.partition(b"\nReferences: ")[2].partition(b"\nAMDP")[0])
    assert thread == [b"root@alpha.example", b"reply@alpha.example"]
    shown = CliRunner().invoke(fetch, [str(roles.store.folder / "mail" / "bob"), "--dry-run", "--json"])
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert sorted(one["thread"] for one in rows) == ["", "root@alpha.example"]
