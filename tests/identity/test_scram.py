"""SCRAM: the vectors of RFC 7677, an independent client, and every way to tamper."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.saslprep import PreparationError, saslprep
from outrider.identity.scram import ScramError, ScramServer, ScramVerifier, decoy_verifier, make_verifier

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
VERIFIER = make_verifier("pencil", SALT, 4096)
BINDING = bytes(range(32))


def server(
    *, plus: bool = False, offered: bool = False, nonce: str = "serverNONCE", **known: ScramVerifier
) -> ScramServer:
    users = known or {"user": VERIFIER}

    def find(name: str) -> ScramVerifier:
        return users.get(name) or decoy_verifier(b"secret", name, 4096)

    return ScramServer(plus, BINDING if plus or offered else None, offered, nonce, find)


def client_final(
    server_first: bytes, first_bare: bytes, gs2: bytes, password: str = "pencil", **changed: bytes
) -> bytes:
    """What an honest client answers, with parts changed for the attack at hand."""
    parts = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts[b"s"]), int(parts[b"i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    nonce = changed.get("nonce", parts[b"r"])
    unproven = b"c=" + base64.b64encode(gs2 + changed.get("binding", b"")) + b",r=" + nonce
    said = first_bare + b"," + server_first + b"," + unproven
    signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return unproven + b",p=" + base64.b64encode(changed.get("proof", proof))


@pytest.mark.covers("SMTP-2b")
def test_the_exchange_of_rfc_7677() -> None:
    exchange = server(nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = exchange.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = exchange.final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert exchange.name == "user"


@pytest.mark.covers("SMTP-2b")
@pytest.mark.parametrize(
    ("name", "password"), [("user", "pencil"), ("a=b,c", "p,=ss"), ("jörg", "pâss\u00adword")]
)
def test_an_independent_client_logs_in(name: str, password: str) -> None:
    known = {saslprep(name): make_verifier(password, SALT, 5000)}
    exchange = server(**known)
    client = scramp.ScramClient(["SCRAM-SHA-256"], name, password)
    client.set_server_first(exchange.first(client.get_client_first().encode()).decode())
    client.set_server_final(exchange.final(client.get_client_final().encode()).decode())


@pytest.mark.covers("SMTP-2b", "SEC-107")
@pytest.mark.parametrize(("name", "password"), [("user", "wrong"), ("nobody", "pencil")])
def test_wrong_password_and_unknown_user_fail_alike(name: str, password: str) -> None:
    exchange = server()
    client = scramp.ScramClient(["SCRAM-SHA-256"], name, password)
    client.set_server_first(exchange.first(client.get_client_first().encode()).decode())
    with pytest.raises(ScramError, match=r"^wrong password or unknown user$"):
        exchange.final(client.get_client_final().encode())


@pytest.mark.covers("SEC-107")
def test_a_decoy_is_stable_and_looks_real() -> None:
    one, again = decoy_verifier(b"s", "Nobody", 4096), decoy_verifier(b"s", "nobody", 4096)
    assert one == again
    assert (len(one.salt), one.iterations) == (len(SALT), 4096)
    assert one.salt != decoy_verifier(b"s", "other", 4096).salt != decoy_verifier(b"t", "other", 4096).salt


@pytest.mark.covers("SMTP-2b", "SEC-108")
def test_plus_binds_to_the_session() -> None:
    first = b"n=user,r=abc"
    exchange = server(plus=True)
    said = exchange.first(b"p=tls-exporter,," + first)
    answer = client_final(said, first, b"p=tls-exporter,,", binding=BINDING)
    assert exchange.final(answer).startswith(b"v=")
    other = server(plus=True)
    said = other.first(b"p=tls-exporter,," + first)
    with pytest.raises(ScramError, match="channel binding"):
        other.final(client_final(said, first, b"p=tls-exporter,,", binding=bytes(32)))


@pytest.mark.covers("SEC-108")
@pytest.mark.parametrize(
    ("plus", "offered", "header", "because"),
    [
        (False, True, b"y,,", "downgrade"),
        (True, True, b"n,,", "without channel binding"),
        (True, True, b"y,,", "without channel binding"),
        (True, True, b"p=tls-unique,,", "type not supported"),
        (True, True, b"p=tls-server-end-point,,", "type not supported"),
        (False, False, b"p=tls-exporter,,", "mechanism without it"),
    ],
)
def test_channel_binding_cannot_be_stripped(plus: bool, offered: bool, header: bytes, because: str) -> None:
    with pytest.raises(ScramError, match=because):
        server(plus=plus, offered=offered).first(header + b"n=user,r=abc")


def test_a_client_without_binding_is_welcome_where_none_was_offered() -> None:
    assert server().first(b"y,,n=user,r=abc").startswith(b"r=abcserverNONCE,")


@pytest.mark.covers("SEC-108")
def test_tampering_with_nonce_proof_or_header_fails() -> None:
    first = b"n=user,r=abc"
    for changed, because in (
        ({"nonce": b"abc"}, "nonce"),
        ({"nonce": b"abcserverNONCEx"}, "nonce"),
        ({"proof": bytes(32)}, "wrong password"),
        ({"proof": bytes(31)}, "wrong length"),
        ({"binding": b"x"}, "channel binding"),
    ):
        exchange = server()
        said = exchange.first(b"n,," + first)
        with pytest.raises(ScramError, match=because):
            exchange.final(client_final(said, first, b"n,,", **changed))
    exchange = server()
    said = exchange.first(b"y,," + first)
    with pytest.raises(ScramError, match="channel binding"):
        exchange.final(client_final(said, first, b"n,,"))


@pytest.mark.covers("SEC-108")
def test_a_replayed_exchange_fails_under_a_new_nonce() -> None:
    first = b"n=user,r=abc"
    recorded = server(nonce="one")
    answer = client_final(recorded.first(b"n,," + first), first, b"n,,")
    recorded.final(answer)
    again = server(nonce="two")
    again.first(b"n,," + first)
    with pytest.raises(ScramError, match="nonce"):
        again.final(answer)


@pytest.mark.covers("SEC-105", "SEC-108")
@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user,r=a,b",
        b"n,,m=x,n=user,r=abc",
        b"n,,n=user,r=abc,m=x",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2Der,r=abc",
        b"n,,n=us\x00er,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,a=other,n=user,r=abc",
        b"n,,n=user,r=" + b"x" * 257,
        b"n,,n=" + b"u" * 300 + b",r=abc",
        b"x,,n=user,r=abc",
    ],
)
def test_malformed_first_messages(message: bytes) -> None:
    with pytest.raises(ScramError):
        server().first(message)


def test_the_own_name_may_stand_as_authorization_identity() -> None:
    assert server().first(b"n,a=user,n=user,r=abc")


@pytest.mark.covers("SEC-105")
@given(st.binary(max_size=200))
def test_any_octets_give_an_answer_or_a_scram_error(octets: bytes) -> None:
    for header in (b"", b"n,,n=user,r=abc"):
        exchange = server()
        try:
            if header:
                exchange.first(header)
                exchange.final(octets)
            else:
                exchange.first(octets)
        except ScramError:
            continue


@pytest.mark.covers("SEC-108")
@pytest.mark.parametrize("iterations", [1, 4095, 2**31])
def test_too_few_or_absurdly_many_iterations_are_not_made(iterations: int) -> None:
    with pytest.raises(ValueError, match="iterations"):
        make_verifier("pencil", SALT, iterations)


@pytest.mark.covers("SEC-211")
def test_keys_do_not_show() -> None:
    shown = repr(VERIFIER) + repr(replace(server(), name="x"))
    assert str(VERIFIER.stored_key) not in shown
    assert "stored_key" not in shown


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
    ],
)
def test_saslprep_examples_of_rfc_4013(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["", "\u0007", "a\x00", "\u0627\u0031", "\u0627a", "\u00ad"])
def test_saslprep_refuses(text: str) -> None:
    with pytest.raises(PreparationError):
        saslprep(text)
