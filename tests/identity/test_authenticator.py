"""Mechanisms offered, exchanges run, failures told apart by nobody."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
import scramp
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from outrider.identity.authenticator import SaslAuthenticator
from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.client_certificate import ClientIdentifier
from outrider.identity.credentials import User, UserTable, make_user, parse_users
from outrider.identity.interface import (
    AuthContext,
    Challenge,
    CheckPassword,
    Exchange,
    Failed,
    Step,
    Succeeded,
)
from outrider.identity.login_limits import LoginLimits

NOW = 1_763_769_723.0
ADDRESS = ip_address("192.0.2.1")
CLEAR = AuthContext(ADDRESS, NOW)
TLS = AuthContext(ADDRESS, NOW, tls=True, channel_binding=bytes(32))


@pytest.fixture(scope="module")
def ann() -> User:
    return make_user("Ann", "secret", salt=b"s" * 16, scram_salt=b"t" * 16)


def authenticator(*users: User, limits: LoginLimits | None = None, **more: object) -> SaslAuthenticator:
    counter = itertools.count()
    return SaslAuthenticator(
        UserTable(users),
        limits or LoginLimits(10, 30, 600),
        make_nonce=lambda: f"nonce{next(counter)}nonce",
        secret=b"k" * 32,
        **more,  # type: ignore[arg-type]
    )


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def settled(exchange: Exchange | None, step: Step) -> Step:
    """Run a password check, as a driver would off the loop."""
    if isinstance(step, CheckPassword):
        assert exchange is not None
        return exchange.checked(step.check())
    return step


def run(
    one: SaslAuthenticator, mechanism: str, initial: bytes | None, *lines: bytes, context: AuthContext = TLS
) -> Step:
    exchange, step = one.begin(mechanism, initial, context)
    step = settled(exchange, step)
    for line in lines:
        assert isinstance(step, Challenge), step
        assert exchange is not None
        step = settled(exchange, exchange.step(line))
    return step


@pytest.mark.covers("SMTP-2b", "SEC-104")
def test_what_is_offered_depends_on_the_session(ann: User) -> None:
    one = authenticator(ann)
    assert one.mechanisms(CLEAR) == ("SCRAM-SHA-256",)
    assert one.mechanisms(TLS) == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
    unbound = AuthContext(ADDRESS, NOW, tls=True)
    assert one.mechanisms(unbound) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert authenticator(ann, mechanisms=["LOGIN"]).mechanisms(TLS) == ("LOGIN",)
    with pytest.raises(ValueError, match="CRAM-MD5"):
        authenticator(ann, mechanisms=["CRAM-MD5"])


@pytest.mark.covers("SEC-104")
@pytest.mark.parametrize(
    ("mechanism", "context", "code"),
    [
        ("PLAIN", CLEAR, 538),
        ("login", CLEAR, 538),
        ("CRAM-MD5", TLS, 504),
        ("EXTERNAL", TLS, 504),
        ("SCRAM-SHA-256-PLUS", CLEAR, 504),
    ],
)
def test_what_is_not_offered_does_not_begin(
    ann: User, mechanism: str, context: AuthContext, code: int
) -> None:
    exchange, step = authenticator(ann).begin(mechanism, b64(b"\0ann\0secret"), context)
    assert exchange is None
    assert isinstance(step, Failed)
    assert step.reply.code == code


@pytest.mark.covers("SMTP-2b", "SEC-104")
@pytest.mark.parametrize(
    ("mechanism", "initial", "lines"),
    [
        ("PLAIN", b64(b"\0ann\0secret"), []),
        ("plain", b64(b"ann\0ann\0secret"), []),
        ("PLAIN", None, [b64(b"\0ann\0secret")]),
        ("LOGIN", None, [b64(b"ann"), b64(b"secret")]),
        ("LOGIN", b64(b"ann"), [b64(b"secret")]),
    ],
)
def test_passwords_log_in(ann: User, mechanism: str, initial: bytes | None, lines: list[bytes]) -> None:
    step = run(authenticator(ann), mechanism, initial, *lines)
    assert step == Succeeded("Ann", mechanism.upper(), "password")
    assert isinstance(step, Succeeded)
    assert (step.reply.code, step.reply.status) == (235, "2.7.0")


def test_login_asks_in_its_usual_words(ann: User) -> None:
    exchange, step = authenticator(ann).begin("LOGIN", None, TLS)
    assert step == Challenge(b"VXNlcm5hbWU6")
    assert exchange is not None
    assert exchange.step(b64(b"ann")) == Challenge(b"UGFzc3dvcmQ6")


@pytest.mark.covers("SMTP-2b")
@pytest.mark.parametrize("context", [CLEAR, TLS])
def test_scram_logs_an_independent_client_in(ann: User, context: AuthContext) -> None:
    exchange, step = authenticator(ann, mechanisms=["SCRAM-SHA-256"]).begin("SCRAM-SHA-256", None, context)
    assert step == Challenge(b"")
    assert exchange is not None
    client = scramp.ScramClient(["SCRAM-SHA-256"], "ann", "secret")
    step = exchange.step(b64(client.get_client_first().encode()))
    assert isinstance(step, Challenge)
    client.set_server_first(base64.b64decode(step.line).decode())
    step = exchange.step(b64(client.get_client_final().encode()))
    assert isinstance(step, Challenge)
    client.set_server_final(base64.b64decode(step.line).decode())
    assert exchange.step(b"") == Succeeded("Ann", "SCRAM-SHA-256", "SCRAM-SHA-256")


@pytest.mark.covers("SEC-107")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_unknown_user_and_wrong_password_have_one_answer(ann: User, mechanism: str) -> None:
    def answer(name: bytes, password: bytes) -> tuple[object, float]:
        one = authenticator(ann)
        if mechanism == "PLAIN":
            step = run(one, mechanism, b64(b"\0" + name + b"\0" + password))
        else:
            step = run(one, mechanism, b64(name), b64(password))
        assert isinstance(step, Failed)
        return step.reply, step.delay_s

    assert answer(b"ann", b"wrong") == answer(b"nobody", b"secret")


@pytest.mark.covers("SEC-107")
def test_scram_tells_an_unknown_user_nothing(ann: User) -> None:
    def first_answer(name: str) -> tuple[int, int]:
        step = run(authenticator(ann), "SCRAM-SHA-256", b64(f"n,,n={name},r=abc".encode()))
        assert isinstance(step, Challenge)
        parts = dict(part.split(b"=", 1) for part in base64.b64decode(step.line).split(b","))
        return len(base64.b64decode(parts[b"s"])), int(parts[b"i"])

    assert first_answer("ann") == first_answer("nobody")


@pytest.mark.covers("SEC-105", "SEC-109")
@pytest.mark.parametrize(
    ("initial", "code"),
    [
        (b"!!!", 501),
        (b"YQ", 501),
        (b"YQ=", 501),
        (b" " + b64(b"\0a\0b"), 501),
        (b64(b"\0a\0b") + b"=", 501),
        (b"=", 501),
        (b64(b"annsecret"), 501),
        (b64(b"\0annsecret"), 501),
        (b64(b"\0ann\0sec\0ret"), 501),
        (b64(b"\0\xff\0secret"), 501),
        (b64(b"\0ann\0\xff"), 501),
        (b64(b"bob\0ann\0secret"), 535),
        (b64(b"\0\0secret"), 535),
        (b64(b"\0ann\0"), 535),
        (b64(b"\0ann\0" + b"x" * 1025), 535),
        (b64(b"\0" + b"n" * 256 + b"\0x"), 535),
        (b"A" * 12_292, 500),
        (b"*", 501),
    ],
)
def test_malformed_responses(ann: User, initial: bytes, code: int) -> None:
    step = run(authenticator(ann), "PLAIN", initial)
    assert isinstance(step, Failed)
    assert step.reply.code == code
    assert "secret" not in step.reason


@pytest.mark.covers("SEC-105")
def test_a_star_cancels_anywhere_and_equals_is_only_for_the_initial_response(ann: User) -> None:
    for lines in ([b"*"], [b64(b"ann"), b"*"]):
        step = run(authenticator(ann), "LOGIN", None, *lines)
        assert isinstance(step, Failed)
        assert (step.reply.code, step.reason) == (501, "cancelled by the client")
    step = run(authenticator(ann), "LOGIN", None, b"=")
    assert isinstance(step, Failed)
    assert step.reply.code == 501


@pytest.mark.covers("SEC-105")
@given(
    st.sampled_from(["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]),
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_lines_end_in_a_step(mechanism: str, lines: list[bytes], encoded: bool) -> None:
    exchange, step = authenticator(User("ann")).begin(mechanism, None, TLS)
    assert exchange is not None
    for line in lines:
        if not isinstance(step, Challenge):
            break
        step = exchange.step(b64(line) if encoded else line)
    assert isinstance(step, Challenge | CheckPassword | Failed)


@pytest.mark.covers("SEC-106")
def test_limits_apply_before_a_proof_is_looked_at(ann: User) -> None:
    limits = LoginLimits(3, 5, 600)
    one = authenticator(ann, limits=limits)
    for _ in range(3):
        run(one, "PLAIN", b64(b"\0ann\0wrong"))
    exchange, step = one.begin("PLAIN", b64(b"\0ann\0secret"), TLS)
    assert exchange is None
    assert isinstance(step, Failed)
    assert step.reply.code == 454
    for number in range(3):
        elsewhere = AuthContext(ip_address(f"198.51.100.{number}"), NOW, tls=True)
        run(one, "PLAIN", b64(b"\0ann\0wrong"), context=elsewhere)
    stranger = AuthContext(ip_address("203.0.113.1"), NOW, tls=True)
    for mechanism, initial in (("PLAIN", b"\0ann\0secret"), ("SCRAM-SHA-256", b"n,,n=ann,r=abc")):
        blocked = run(one, mechanism, b64(initial), context=stranger)
        assert isinstance(blocked, Failed)
        assert blocked.reply.code == 454
    later = AuthContext(ip_address("203.0.113.1"), NOW + 600, tls=True)
    assert isinstance(run(one, "PLAIN", b64(b"\0ann\0secret"), context=later), Succeeded)


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("Test", datetime.fromtimestamp(NOW - 3600, UTC))


def certified(authority: CertificateAuthority, trusted: bool = True) -> tuple[AuthContext, ClientIdentifier]:
    issued = authority.issue_host(["hub.b.example"], datetime.fromtimestamp(NOW - 60, UTC))
    chain = tuple(one.public_bytes(Encoding.DER) for one in (issued.certificate, *issued.chain))
    stores = CaStores.of(private=[authority.certificate]) if trusted else CaStores()
    return AuthContext(ADDRESS, NOW, tls=True, peer_chain=chain), ClientIdentifier(stores)


@pytest.mark.covers("SMTP-2b", "TLS-2b")
def test_external_logs_in_by_a_proven_name(authority: CertificateAuthority) -> None:
    context, clients = certified(authority)
    (hub,) = parse_users("hub certificates=hub.b.example").users
    one = authenticator(hub, clients=clients)
    assert "EXTERNAL" in one.mechanisms(context)
    expected = Succeeded("hub", "EXTERNAL", "certificate of hub.b.example, private CA set")
    assert run(one, "EXTERNAL", b"=", context=context) == expected
    assert run(one, "EXTERNAL", None, b"", context=context) == expected
    assert run(one, "EXTERNAL", b64(b"HUB"), context=context) == expected
    other = run(one, "EXTERNAL", b64(b"root"), context=context)
    assert isinstance(other, Failed)
    assert other.reply.code == 535


@pytest.mark.covers("SMTP-2b", "ITP-2a")
def test_external_logs_in_a_user_by_the_mail_address_that_a_private_ca_certified(
    authority: CertificateAuthority,
) -> None:
    issued = authority.issue_user("Ann@B.example", datetime.fromtimestamp(NOW - 60, UTC))
    context = AuthContext(ADDRESS, NOW, tls=True, peer_chain=(issued.certificate.public_bytes(Encoding.DER),))
    (ann,) = parse_users("ann certificates=ann@B.example").users
    private = ClientIdentifier(CaStores.of(private=[authority.certificate]))
    expected = Succeeded("ann", "EXTERNAL", "certificate of ann@b.example, private CA set")
    assert run(authenticator(ann, clients=private), "EXTERNAL", b"=", context=context) == expected
    public = ClientIdentifier(CaStores.of([authority.certificate]))
    assert "EXTERNAL" not in authenticator(ann, clients=public).mechanisms(context)


@pytest.mark.covers("SMTP-2b", "TLS-3")
def test_external_is_offered_only_when_the_certificate_leads_to_a_login(
    authority: CertificateAuthority,
) -> None:
    context, clients = certified(authority, trusted=False)
    (hub,) = parse_users("hub certificates=hub.b.example").users
    assert "EXTERNAL" not in authenticator(hub, clients=clients).mechanisms(context)
    assert "PLAIN" in authenticator(hub, clients=clients).mechanisms(context)


@pytest.mark.covers("SEC-211")
def test_no_step_shows_a_password(ann: User) -> None:
    exchange, step = authenticator(ann).begin("PLAIN", b64(b"\0ann\0hunter2"), TLS)
    assert "hunter2" not in repr(step) + repr(exchange)
