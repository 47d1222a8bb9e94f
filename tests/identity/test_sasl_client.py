"""The client's half of the login mechanisms, against the server's half and against liars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.sasl_client import (
    MAX_ITERATIONS,
    ClientCredentials,
    ClientExchange,
    LoginImpossible,
    choose_exchange,
)
from outrider.identity.scram import ScramError, ScramServer, make_verifier

SECRET = "gehe,im=ü"
VERIFIER = make_verifier(SECRET, b"0123456789abcdef")
BINDING = b"b" * 32
ALL = ("LOGIN", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL")


def credentials(**changes: object) -> ClientCredentials:
    values = {"username": "a,b=c", "password": SECRET, "nonce": "clientnonce", **changes}
    return ClientCredentials(**values)  # type: ignore[arg-type]


def server(*, plus: bool = False, binding: bytes | None = None, plus_offered: bool = False) -> ScramServer:
    return ScramServer(plus, binding, plus_offered, "servernonce", lambda _name: VERIFIER)


def run(client: ClientExchange, scram: ScramServer) -> None:
    first = client.initial()
    assert first is not None
    answer = client.respond(scram.first(first))
    assert client.respond(scram.final(answer)) == b""
    client.check_success()


@pytest.mark.covers("SMTP-2b")
@pytest.mark.parametrize(
    ("offered", "changes", "chosen"),
    [
        (ALL, {"channel_binding": BINDING}, "SCRAM-SHA-256-PLUS"),
        (ALL, {}, "SCRAM-SHA-256"),
        (("LOGIN", "PLAIN"), {}, "PLAIN"),
        (("LOGIN", "CRAM-MD5"), {}, "LOGIN"),
        (ALL, {"password": "", "certificate": True}, "EXTERNAL"),
    ],
)
def test_the_best_mechanism_is_chosen(
    offered: tuple[str, ...], changes: dict[str, object], chosen: str
) -> None:
    assert choose_exchange(credentials(**changes), offered).mechanism == chosen


@pytest.mark.parametrize(
    ("offered", "changes"),
    [
        (("CRAM-MD5",), {}),
        ((), {}),
        (("SCRAM-SHA-256-PLUS",), {}),
        (ALL, {"password": ""}),
        (("PLAIN",), {"password": "", "certificate": True}),
        (("SCRAM-SHA-256",), {"password": "a\u0007b"}),
    ],
)
def test_none_fits(offered: tuple[str, ...], changes: dict[str, object]) -> None:
    with pytest.raises(LoginImpossible) as caught:
        choose_exchange(credentials(**changes), offered)
    assert SECRET not in str(caught.value)


@pytest.mark.covers("SMTP-2b")
def test_scram_with_our_own_server() -> None:
    plain, bound = server(), server(plus=True, binding=BINDING, plus_offered=True)
    run(choose_exchange(credentials(), ("SCRAM-SHA-256",)), plain)
    assert plain.name == "a,b=c"
    run(choose_exchange(credentials(channel_binding=BINDING), ALL), bound)


@pytest.mark.covers("SMTP-2b")
def test_scram_finds_out_a_stripped_offer_and_another_channel() -> None:
    stripped = choose_exchange(credentials(channel_binding=BINDING), ("SCRAM-SHA-256",))
    with pytest.raises(ScramError):
        run(stripped, server(plus_offered=True))
    elsewhere = choose_exchange(credentials(channel_binding=b"c" * 32), ALL)
    with pytest.raises(ScramError):
        run(elsewhere, server(plus=True, binding=BINDING, plus_offered=True))


def test_scram_with_the_wrong_password() -> None:
    with pytest.raises(ScramError):
        run(choose_exchange(credentials(password="other"), ("SCRAM-SHA-256",)), server())


@pytest.mark.covers("SEC-108")
@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=clientnoncex,s=AAAA,i=%d" % (MAX_ITERATIONS + 1),
        b"r=clientnoncex,s=AAAA,i=99999999999",
        b"r=clientnoncex,s=AAAA,i=1",
        b"r=clientnoncex,s=AAAA,i=-5",
        b"r=clientnonce,s=AAAA,i=4096",
        b"r=othernonce,s=AAAA,i=4096",
        b"r=clientnoncex,s=A,i=4096",
        b"r=clientnoncex,s=,i=4096",
        b"m=x,r=clientnoncex,s=AAAA,i=4096",
        b"\xff",
    ],
)
def test_scram_servers_that_lie_at_first(challenge: bytes) -> None:
    client = choose_exchange(credentials(), ("SCRAM-SHA-256",))
    client.initial()
    with pytest.raises(LoginImpossible):
        client.respond(challenge)


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", b"v=!", b"e=invalid-proof", b"v=" + b"A" * 44])
def test_scram_servers_that_prove_nothing(final: bytes) -> None:
    client = choose_exchange(credentials(), ("SCRAM-SHA-256",))
    client.respond(server().first(client.initial() or b""))
    with pytest.raises(LoginImpossible):
        client.check_success()
    with pytest.raises(LoginImpossible):
        client.respond(final)
    with pytest.raises(LoginImpossible):
        client.check_success()


def test_simple_mechanisms() -> None:
    plain = choose_exchange(credentials(), ("PLAIN",))
    assert plain.initial() == f"\0a,b=c\0{SECRET}".encode()
    login = choose_exchange(credentials(), ("LOGIN",))
    assert login.initial() is None
    assert [login.respond(b"User:"), login.respond(b"Pass:")] == [b"a,b=c", SECRET.encode()]
    external = choose_exchange(credentials(password="", certificate=True), ("EXTERNAL",))
    assert external.initial() == b"a,b=c"
    for exchange in (plain, login, external):
        exchange.check_success()
        with pytest.raises(LoginImpossible):
            exchange.respond(b"more?")
    with pytest.raises(LoginImpossible):
        choose_exchange(credentials(password="a\0b"), ("PLAIN",)).initial()


@pytest.mark.covers("SEC-106")
def test_secrets_do_not_show() -> None:
    shown = repr(credentials(channel_binding=BINDING))
    for secret in (SECRET, "clientnonce", repr(BINDING)):
        assert secret not in shown


@given(st.lists(st.binary(max_size=80), max_size=4), st.sampled_from(ALL[:3]))
def test_any_challenge_is_answered_or_ends_the_login(challenges: list[bytes], mechanism: str) -> None:
    client = choose_exchange(credentials(), (mechanism,))
    client.initial()
    try:
        for challenge in challenges:
            client.respond(challenge)
    except LoginImpossible:
        pass
