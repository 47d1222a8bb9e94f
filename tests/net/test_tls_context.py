"""Certificates and keys from files: what is refused and how it is said; SNI; reloading; expiry."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from tests.net.tls_peers import der_of, pair
from tests.peers.certificates import DAY, CertificateAuthority, TlsFiles

from outrider.net.tls_context import ClientContext, ServerContexts
from outrider.net.tls_engine import TlsEngine
from outrider.net.tls_files import CertificateFiles, TlsConfigError, read_credentials


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "alpha")


@pytest.fixture
def host(authority: CertificateAuthority) -> TlsFiles:
    return authority.issue("mx.alpha.example")


def refused(files: CertificateFiles) -> TlsConfigError:
    with pytest.raises(TlsConfigError) as caught:
        ServerContexts(files)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.problem}; {caught.value.remedy}"
    return caught.value


def test_missing_files_are_named(host: TlsFiles, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    assert refused(CertificateFiles(gone, host.key)).path == gone
    error = refused(CertificateFiles(host.certificate, gone))
    assert (error.path, error.problem) == (gone, "the file does not exist")
    assert refused(CertificateFiles(tmp_path, host.key)).problem == "this is a directory"


def test_what_is_not_pem_is_refused(host: TlsFiles, tmp_path: Path) -> None:
    noise, damaged, large = tmp_path / "noise", tmp_path / "damaged", tmp_path / "large"
    noise.write_bytes(b"\0\1\2 no PEM")
    assert refused(CertificateFiles(noise, host.key)).problem == "it holds no PEM certificate"
    assert refused(CertificateFiles(host.certificate, noise)).problem == "it holds no PEM private key"
    damaged.write_bytes(host.certificate.read_bytes().replace(b"M", b"A", 20))
    assert refused(CertificateFiles(damaged, host.key)).problem == "a certificate in it is damaged"
    damaged.write_bytes(host.key.read_bytes()[:100] + b"\n-----END PRIVATE KEY-----\n")
    assert "damaged" in refused(CertificateFiles(host.certificate, damaged)).problem
    large.write_bytes(b"-" * 1_048_577)
    assert refused(CertificateFiles(large, host.key)).problem == "it is larger than 1 MiB"


def test_a_key_must_belong_to_the_certificate(
    authority: CertificateAuthority, host: TlsFiles, tmp_path: Path
) -> None:
    other = authority.issue("mx.beta.example")
    error = refused(CertificateFiles(host.certificate, other.key))
    assert error.problem == f"it is not the certificate of the key in {other.key}"
    reversed_chain = tmp_path / "reversed.pem"
    reversed_chain.write_bytes(authority.authority.read_bytes() + host.certificate.read_bytes())
    error = refused(CertificateFiles(reversed_chain, host.key))
    assert error.problem == "the certificate of the key is not the first in the file"


def test_a_key_that_cannot_sign_is_refused(host: TlsFiles, tmp_path: Path) -> None:
    path = tmp_path / "agreement.key"
    path.write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    assert refused(CertificateFiles(host.certificate, path)).problem == "a key of this kind cannot sign"


@pytest.mark.parametrize(
    ("passphrase", "problem"),
    [
        (None, "the key is encrypted and no passphrase is set"),
        (b"wrong", "the passphrase does not open it"),
        (b"open sesame", ""),
    ],
)
def test_an_encrypted_key_needs_its_passphrase(
    host: TlsFiles, tmp_path: Path, passphrase: bytes | None, problem: str
) -> None:
    path = tmp_path / "encrypted.key"
    key = serialization.load_pem_private_key(host.key.read_bytes(), None)
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    files = CertificateFiles(host.certificate, path, passphrase)
    assert "sesame" not in repr(files)
    if problem:
        assert refused(files).problem == problem
    else:
        assert ServerContexts(files).warnings == ()


def test_a_passphrase_for_an_open_key_is_a_mistake(host: TlsFiles) -> None:
    error = refused(CertificateFiles(host.certificate, host.key, b"x"))
    assert error.remedy == "remove the passphrase"


@pytest.mark.covers("TLS-7")
def test_an_expired_certificate_is_refused_or_on_request_warned_of(authority: CertificateAuthority) -> None:
    old = pair(authority.issue("mx.alpha.example", valid_until=-DAY))
    assert "expired on" in refused(old).problem
    contexts = ServerContexts(old, allow_expired=True)
    assert len(contexts.warnings) == 1
    assert "expired on" in contexts.warnings[0]


@pytest.mark.covers("TLS-7")
def test_dates_are_held_against_the_clock_that_is_given(host: TlsFiles) -> None:
    early = datetime.now(UTC) - timedelta(days=10)
    credentials = read_credentials(pair(host), now=early)
    assert "is not valid before" in credentials.warnings[0]
    (expiry,) = ServerContexts(pair(host)).certificate_expiry()
    assert (expiry.path, expiry.names) == (host.certificate, ("mx.alpha.example",))
    assert timedelta(days=29) < expiry.not_after - datetime.now(UTC) < timedelta(days=31)


def test_a_key_that_everybody_may_read_is_warned_of(host: TlsFiles) -> None:
    host.key.chmod(0o644)
    (warning,) = ServerContexts(pair(host)).warnings
    assert warning == f"{host.key}: every user of this machine may use this private key; chmod o= it"
    assert ClientContext(pair(host)).credentials is not None


# -- SNI ------------------------------------------------------------------------------------------------


def shown(contexts: ServerContexts, name: bytes | str, *, ask: bool = False) -> tuple[bytes, ...]:
    """The chain that a client asking for `name` is shown."""
    server = contexts.engine(alpn_protocols=(), request_client_certificate=ask)
    client = ClientContext().engine(server_hostname=name if isinstance(name, str) else "")
    if isinstance(name, bytes):
        client._connection.set_tlsext_host_name(name)
    wire, done = b"", False
    while not done:
        done = client.handshake(wire)
        if not done:
            server.handshake(client.outgoing())
            wire = server.outgoing()
    return client.info().peer_chain


@pytest.mark.covers("SEC-43")
@pytest.mark.parametrize("ask", [False, True])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "default"),
        ("mx.alpha.example", "default"),
        ("mx.beta.example", "beta"),
        ("MX.Beta.EXAMPLE.", "beta"),
        ("a.gamma.example", "gamma"),
        ("gamma.example", "default"),
        ("a.b.gamma.example", "default"),
        ("special.gamma.example", "beta"),
        ("unknown.example", "default"),
        ("192.0.2.1", "default"),
        ("2001:db8::1", "default"),
        (b"mx.beta.example\xff", "default"),
        (b"*.gamma.example", "gamma"),
        (b"." * 200, "default"),
        (b"x" * 255, "default"),
        (b"\x01\x02\x1b[31m", "default"),
        (b"192.0.2.1", "default"),
    ],
)
def test_the_certificate_follows_the_name(
    authority: CertificateAuthority, host: TlsFiles, name: bytes | str, expected: str, ask: bool
) -> None:
    beta, gamma = authority.issue("mx.beta.example"), authority.issue("*.gamma.example")
    contexts = ServerContexts(
        pair(host),
        {"mx.beta.example": pair(beta), "*.Gamma.example.": pair(gamma), "special.gamma.example": pair(beta)},
    )
    files = {"default": host, "beta": beta, "gamma": gamma}[expected]
    assert shown(contexts, name, ask=ask) == der_of(files.certificate)
    assert [entry.path for entry in contexts.certificate_expiry()] == [
        host.certificate,
        beta.certificate,
        gamma.certificate,
    ]


@pytest.mark.parametrize("name", ["", "*", "*.", "a.*.example", "**.example", "mx alpha", "müller.example"])
def test_names_that_cannot_be_asked_for_are_refused(host: TlsFiles, name: str) -> None:
    with pytest.raises(TlsConfigError, match="no host name"):
        ServerContexts(pair(host), {name: pair(host)})


def greeted(contexts: ServerContexts, client: TlsEngine, *, reload: bool = False) -> TlsEngine:
    """Shake hands with a new server's engine, reloading half way if told."""
    server = contexts.engine(alpn_protocols=(), request_client_certificate=True)
    wire = b""
    while not client.handshake(wire):
        server.handshake(client.outgoing())
        wire = server.outgoing()
        if reload:
            contexts.reload()
            gc.collect()
    assert server.handshake(client.outgoing())
    return server


@pytest.mark.covers("SEC-43", "TLS-3")
def test_clients_are_asked_for_their_certificate_whatever_name_they_give(
    authority: CertificateAuthority, host: TlsFiles
) -> None:
    beta, ours = authority.issue("mx.beta.example"), authority.issue("client.example")
    contexts = ServerContexts(pair(host), {"mx.beta.example": pair(beta)})
    for name in ("", "mx.beta.example"):
        server = greeted(contexts, ClientContext(pair(ours)).engine(server_hostname=name))
        assert server.info().peer_chain == der_of(ours.certificate)


@pytest.mark.covers("TLS-7")
@pytest.mark.parametrize("name", ["", "mx.beta.example"])
def test_a_handshake_under_way_survives_a_reload(
    authority: CertificateAuthority, host: TlsFiles, name: str
) -> None:
    contexts = ServerContexts(pair(host), {"mx.beta.example": pair(authority.issue("mx.beta.example"))})
    client = ClientContext().engine(server_hostname=name)
    server = greeted(contexts, client, reload=True)
    gc.collect()
    client.write(b"still there")
    assert server.read(client.outgoing()) == b"still there"


# -- reloading --------------------------------------------------------------------------------------------


@pytest.mark.covers("TLS-7")
def test_a_bad_file_leaves_everything_as_it_was(authority: CertificateAuthority, tmp_path: Path) -> None:
    first, second = authority.issue("mx.alpha.example"), authority.issue("mx.alpha.example")
    used = CertificateFiles(tmp_path / "mx.pem", tmp_path / "mx.key")
    used.certificate.write_bytes(first.certificate.read_bytes())
    used.key.touch(mode=0o600)
    used.key.write_bytes(first.key.read_bytes())
    contexts = ServerContexts(used, {"mx.beta.example": used})
    used.certificate.write_bytes(second.certificate.read_bytes())  # the key follows a moment later
    assert contexts.files_changed()
    with pytest.raises(TlsConfigError):
        contexts.reload()
    assert contexts.files_changed(), "it will be tried again"
    assert shown(contexts, "mx.beta.example") == der_of(first.certificate)
    used.key.write_bytes(second.key.read_bytes())
    contexts.reload()
    assert not contexts.files_changed()
    assert shown(contexts, "mx.beta.example") == der_of(second.certificate)
    used.key.unlink()
    assert contexts.files_changed()


def test_a_clients_certificate_is_replaced_too(authority: CertificateAuthority, tmp_path: Path) -> None:
    first, second = authority.issue("a.example"), authority.issue("b.example")
    used = CertificateFiles(tmp_path / "c.pem", tmp_path / "c.key")
    used.certificate.write_bytes(first.certificate.read_bytes())
    used.key.write_bytes(first.key.read_bytes())
    context = ClientContext(used)
    used.certificate.write_bytes(second.certificate.read_bytes())
    with pytest.raises(TlsConfigError):
        context.reload()
    assert context.credentials is not None
    assert context.credentials.names == ("a.example",)
    used.key.write_bytes(second.key.read_bytes())
    context.reload()
    assert context.credentials.names == ("b.example",)


def test_only_ascii_names_go_into_a_hello(host: TlsFiles) -> None:
    with pytest.raises(UnicodeEncodeError):
        ClientContext().engine(server_hostname="müller.example")
