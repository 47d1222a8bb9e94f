"""SEC-104 to SEC-111: logging in without being who one says."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import pytest
from scramp import ScramClient

from tests.attacks.target import LOGINS, SMTP, SMTPS, SUBMISSION, Target
from tests.attacks.wire import Wire
from tests.peers.addresses import loopback_address


@pytest.fixture(scope="module")
def module_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for this module, which forgets failures late and allows few."""
    folder = tmp_path_factory.mktemp("target")
    with Target(folder, auth={"failures_per_address": 2, "failures_per_user": 3}) as target:
        yield target


def b64(octets: bytes) -> bytes:
    """As AUTH wants it."""
    return base64.b64encode(octets)


def plain(name: str, password: str) -> bytes:
    """The command with its initial response."""
    return b"AUTH PLAIN " + b64(b"\x00" + name.encode() + b"\x00" + password.encode())


def submission(target: Target, source: str = "") -> Wire:
    """A session under TLS, from an address of its own: failures are counted by address."""
    wire = target.connect(SMTPS, source=source or loopback_address(), greet=False)
    wire.start_tls()
    wire.expect(b"220")
    wire.ehlo()
    return wire


@pytest.mark.covers("SEC-104")
def test_plain_text_needs_tls(target: Target) -> None:
    with target.session(SUBMISSION) as wire:
        wire.expect(b"538", after=plain("ann", LOGINS["ann"]))
        wire.expect(b"538", b"504", after=b"AUTH LOGIN")
        wire.expect(b"530", after=b"MAIL FROM:<ann@here.example>")
    with target.session(SMTP) as wire:
        wire.expect(b"502", b"503", b"538", after=plain("ann", LOGINS["ann"]))


@pytest.mark.covers("SEC-104")
def test_order_and_spelling(target: Target) -> None:
    with submission(target) as wire:
        wire.expect(b"504", after=b"AUTH GSSAPI")
        wire.expect(b"501", after=b"AUTH")
        wire.expect(b"530", after=b"MAIL FROM:<ann@here.example>")
        wire.expect(b"235", after=plain("ann", LOGINS["ann"]).replace(b"AUTH PLAIN", b"auth plain"))
        wire.expect(b"503", after=plain("ann", LOGINS["ann"]))
        wire.expect(b"250", after=b"MAIL FROM:<ann@here.example>")
        wire.expect(b"503", after=plain("ann", LOGINS["ann"]))


@pytest.mark.covers("SEC-105", "SEC-109")
@pytest.mark.parametrize(
    "response",
    [
        *(b"!!!", b"YQ", b"Y===", b"YWJj\xff", b64(b"no nul"), b64(b"\x00one"), b64(b"a\x00b\x00c\x00d")),
        *(b64(b"\x00\xff\xfe\x00x"), b64(b"\x00x\x00"), b64(b"\x00\x00secret"), b64(b"\x00x\x00a\x00b")),
        *(b64(b"x" * 9000), b64(b"\x00y\x00" + b"p" * 1_000_000), b64(b"\x00y\x00" + b"p" * 5000)),
    ],
    ids=lambda octets: f"{octets[:16]!r}-{len(octets)}",
)
@pytest.mark.parametrize("split", [True, False])
def test_malformed_responses(target: Target, response: bytes, split: bool) -> None:
    with submission(target) as wire:
        if split:
            wire.expect(b"334", after=b"AUTH PLAIN")
            answer = wire.command(response)
        else:
            answer = wire.command(b"AUTH PLAIN " + response)
        assert answer[:3] in (b"500", b"501", b"535"), answer
        assert wire.is_in_step()


@pytest.mark.covers("SEC-105")
def test_an_exchange_may_be_cancelled(target: Target) -> None:
    with submission(target) as wire:
        wire.expect(b"334", after=b"AUTH LOGIN")
        wire.expect(b"501", after=b"*")
        wire.expect(b"334", after=b"AUTH PLAIN")
        wire.expect(b"501", b"535", after=b"=")
        assert wire.is_in_step()


@pytest.mark.covers("SEC-106")
def test_guesses_from_one_address_end(target: Target) -> None:
    source = loopback_address()
    with submission(target, source) as wire:
        for name in ("x", "y"):
            wire.expect(b"535", after=plain(name, "guess"))
        # From now on not even the right one is looked at; nor on another connection.
        wire.expect(b"454", b"421", after=plain("ann", LOGINS["ann"]))
    with submission(target, source) as wire:
        wire.expect(b"454", b"421", after=plain("ann", LOGINS["ann"]))


@pytest.mark.covers("SEC-106")
def test_strangers_do_not_lock_the_owner_out(target: Target) -> None:
    home = loopback_address()
    with submission(target, home) as wire:
        wire.expect(b"235", after=plain("bob", LOGINS["bob"]))
    for _ in range(3):
        with submission(target) as wire:
            wire.expect(b"535", after=plain("bob", "guess"))
    with submission(target) as wire:
        wire.expect(b"454", after=plain("bob", LOGINS["bob"]))
    with submission(target, home) as wire:
        wire.expect(b"235", after=plain("bob", LOGINS["bob"]))


@pytest.mark.covers("SEC-107")
def test_an_unknown_user_is_answered_as_a_wrong_password(target: Target) -> None:
    with submission(target) as one, submission(target) as other:
        assert one.command(plain("ann", "wrong")) == other.command(plain("nobody", "wrong"))
        first, second = (
            ScramClient(["SCRAM-SHA-256"], "ann", "x"),
            ScramClient(["SCRAM-SHA-256"], "nobody", "x"),
        )
        answers = []
        for wire, client in ((one, first), (other, second)):
            said = scram_first(wire, client)
            answers.append(said.partition(",i=")[2])
            wire.expect(b"501", after=b"*")
        assert answers[0] == answers[1], "the count of rounds tells who exists"


def scram_first(wire: Wire, client: ScramClient) -> str:
    """Begin SCRAM; what the server says to the client's first message."""
    answer = wire.expect(b"334", after=b"AUTH SCRAM-SHA-256 " + b64(client.get_client_first().encode()))
    return base64.b64decode(answer[4:]).decode()


@pytest.mark.covers("SEC-108")
def test_scram_works_once(target: Target) -> None:
    client = ScramClient(["SCRAM-SHA-256"], "fred", LOGINS["fred"])
    with submission(target) as wire:
        first = b64(client.get_client_first().encode())
        client.set_server_first(
            base64.b64decode(wire.expect(b"334", after=b"AUTH SCRAM-SHA-256 " + first)[4:]).decode()
        )
        final = b64(client.get_client_final().encode())
        client.set_server_final(base64.b64decode(wire.expect(b"334", after=final)[4:]).decode())
        wire.expect(b"235", after=b"")
    with submission(target) as wire:  # the same messages once more
        wire.expect(b"334", after=b"AUTH SCRAM-SHA-256 " + first)
        wire.expect(b"535", b"501", after=final)


@pytest.mark.covers("SEC-108")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("carl", lambda text: text.replace(b"r=", b"r=x")),
        # "y,,": the client says that it believes -PLUS not to be offered.
        ("carl", lambda text: text.replace(b"c=biws", b"c=eSws")),
        ("ann", lambda text: text.partition(b",p=")[0]),
        ("eva", lambda text: text + b",p=AAAA"),
        ("dora", lambda text: b""),
    ],
)
def test_scram_messages_that_were_changed(
    target: Target, name: str, change: Callable[[bytes], bytes]
) -> None:
    client = ScramClient(["SCRAM-SHA-256"], name, LOGINS[name])
    with submission(target) as wire:
        client.set_server_first(scram_first(wire, client))
        wire.expect(b"535", b"501", after=b64(change(client.get_client_final().encode())))


@pytest.mark.covers("SEC-110")
@pytest.mark.parametrize("sender", [b"bob@here.example", b"ann@open.example", b"postmaster@here.example"])
def test_a_login_sends_as_itself(target: Target, sender: bytes) -> None:
    with submission(target) as wire:
        wire.expect(b"235", after=plain("dora", LOGINS["dora"]))
        wire.expect(b"553", after=b"MAIL FROM:<" + sender + b">")
        wire.expect(b"250", after=b"MAIL FROM:<dora@here.example>")
        wire.expect(b"250", after=b"RCPT TO:<x@open.example>")
        wire.expect(b"354", after=b"DATA")
        wire.expect(b"553", b"550", after=b"From: <" + sender + b">\r\n\r\nx\r\n.")


@pytest.mark.covers("SEC-111")
def test_the_auth_parameter_of_a_stranger(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example> AUTH=dora@here.example")
        wire.expect(b"550", after=b"RCPT TO:<victim@far.example>")


@pytest.mark.covers("SEC-211")
def test_no_secret_is_logged(target: Target) -> None:
    target.new_log()
    with submission(target) as wire:
        wire.expect(b"535", after=plain("eva", "my-very-own-guess"))
        wire.expect(b"235", after=plain("eva", LOGINS["eva"]))
    log = target.new_log()
    assert b'"login_failed"' in log
    for secret in (b"my-very-own-guess", LOGINS["eva"].encode(), b64(b"\x00eva\x00my-very-own-guess")):
        assert secret not in log
