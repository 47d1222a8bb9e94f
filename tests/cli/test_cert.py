"""`outrider cert`: an authority of one's own, judged by OpenSSL; and whether others would accept a host."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.cli.main import main
from outrider.identity.authorities import CaStores
from outrider.identity.checks import Check
from outrider.identity.host_identity import HostCertificate, HostIdentifier, HostRefusal
from outrider.identity.revocation import RevocationSet, read_revocation_list
from outrider.trust.issuers import issuer_domains
from tests.identity.openssl import run as openssl
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer

NAME = "mx.bank.example"
PORT = 10_125


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTRIDER_CONFIG", str(tmp_path / "outrider.toml"))
    return tmp_path


def cert(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["cert", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def chain(path: Path) -> tuple[bytes, ...]:
    return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(path.read_bytes()))


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


@pytest.mark.covers("AMTP-2b", "AMTP-19")
def test_an_authority_a_host_and_a_user_that_openssl_accepts(here: Path) -> None:
    cert("ca", "Bank CA")
    cert("host", NAME, "alt.bank.example", "--serves", "bank.example", "--address", "192.0.2.1")
    cert("user", "ann@bank.example", "--host", "laptop.bank.example")
    for purpose, name in (("sslserver", NAME), ("sslclient", NAME), ("sslclient", "ann@bank.example")):
        openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", f"{name}.pem", cwd=here)
    shown = openssl("x509", "-in", f"{NAME}.pem", "-noout", "-ext", "subjectAltName", cwd=here).decode()
    assert f"DNS:{NAME}, DNS:alt.bank.example, IP Address:192.0.2.1" in shown
    assert "1.3.6.1.5.5.7.8.7" in openssl("asn1parse", "-in", f"{NAME}.pem", cwd=here).decode() or (
        "othername" in shown
    )
    for name in ("ca", NAME, "ann@bank.example"):
        assert mode(here / f"{name}.key") == 0o600
        assert mode(here / f"{name}.pem") == 0o644


@pytest.mark.covers("MT2-24b")
def test_an_authority_that_a_domain_publishes_is_named_and_stays_so(here: Path) -> None:
    """The issuer's domain stands in what is issued, and in what is renewed, as others read it."""
    cert("ca", "Bank CA")
    domain = ("--issuer-domain", "bank.example")
    cert("host", NAME, *domain)
    cert("user", "process@bank.example", *domain)
    cert("renew", f"{NAME}.pem")
    for name in (NAME, "process@bank.example"):
        assert issuer_domains(chain(here / f"{name}.pem")[0]) == ("bank.example",)
        shown = openssl("x509", "-in", f"{name}.pem", "-noout", "-ext", "issuerAltName", cwd=here).decode()
        assert "DNS:bank.example" in shown
    assert "(says that bank.example has issued it)" in cert("inspect", f"{NAME}.pem").output
    cert("host", "mx.other.example")
    assert issuer_domains(chain(here / "mx.other.example.pem")[0]) == ()
    cert("host", "x.bank.example", "--issuer-domain", "no domain", code=2)


def test_a_public_authority_issues_through_another_and_for_servers_only(here: Path) -> None:
    cert("ca", "Root")
    cert("ca", "Below", "--under", "ca.pem", "--folder", ".", code=1)  # ca.pem exists
    (here / "below").mkdir()
    cert("ca", "Below", "--under", "ca.pem", "--folder", "below", "--permit", "bank.example")
    cert("host", NAME, "--ca", "below/ca.pem", "--server-only")
    words = (
        "verify",
        "-purpose",
        "sslserver",
        "-CAfile",
        "ca.pem",
        "-untrusted",
        "below/ca.pem",
        f"{NAME}.pem",
    )
    openssl(*words, cwd=here)
    purposes = openssl("x509", "-in", f"{NAME}.pem", "-noout", "-ext", "extendedKeyUsage", cwd=here).decode()
    assert "Server" in purposes
    assert "Client" not in purposes
    cert("host", "mx.evil.example", "--ca", "below/ca.pem")
    stores = CaStores.of([x509.load_pem_x509_certificate(Path("ca.pem").read_bytes())])
    outcome = HostIdentifier(stores).examine(chain(Path("mx.evil.example.pem")), time.time())
    assert isinstance(outcome, HostRefusal)
    assert outcome.check is Check.NAME_CONSTRAINTS


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing(here: Path) -> None:
    assert "would write ca.key (secret, 0600)" in cert("ca", "Bank CA", "--dry-run").output
    assert not list(here.iterdir())
    cert("ca", "Bank CA")
    before = (here / "ca.key").read_bytes()
    assert "nothing was written" in cert("ca", "Other", code=1).output
    assert (here / "ca.key").read_bytes() == before
    cert("ca", "Other", "--force")
    assert (here / "ca.key").read_bytes() != before
    assert mode(here / "ca.key") == 0o600


@pytest.mark.parametrize(
    "words",
    [
        ("host", "no host name"),
        ("host", "mx..example"),
        ("host", "../../etc/passwd"),
        ("host", NAME, "--address", "300.0.0.1"),
        ("user", "nobody"),
        ("user", "a\nb@bank.example"),
        ("crl", "not a serial"),
    ],
)
def test_bad_names_are_usage_errors_and_write_nothing(here: Path, words: tuple[str, ...]) -> None:
    cert("ca", "Bank CA")
    cert(*words, code=2)
    assert sorted(path.name for path in here.iterdir()) == ["ca.key", "ca.pem"]


def test_a_missing_authority_is_said_plainly(here: Path) -> None:
    assert "outrider cert ca" in cert("host", NAME, code=1).output
    Path("ca.pem").write_text("nothing")
    Path("ca.key").write_text("nothing")
    cert("host", NAME, code=1)


def test_renewing_keeps_names_and_key_and_the_old_file(here: Path) -> None:
    cert("ca", "Bank CA")
    cert("host", NAME, "--serves", "bank.example")
    old, key = chain(here / f"{NAME}.pem"), (here / f"{NAME}.key").read_bytes()
    cert("renew", f"{NAME}.pem", "--dry-run")
    assert chain(here / f"{NAME}.pem") == old
    cert("renew", f"{NAME}.pem", "--days", "30")
    new = x509.load_pem_x509_certificate((here / f"{NAME}.pem").read_bytes())
    before = x509.load_der_x509_certificate(old[0])
    assert new.serial_number != before.serial_number
    assert new.public_key() == before.public_key()
    for extension in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage):
        assert new.extensions.get_extension_for_class(extension) == before.extensions.get_extension_for_class(
            extension
        )
    assert chain(here / f"{NAME}.pem.previous") == old
    assert (here / f"{NAME}.key").read_bytes() == key
    cert("renew", f"{NAME}.pem", "--new-key")
    assert (here / f"{NAME}.key").read_bytes() != key
    assert (here / f"{NAME}.key.previous").read_bytes() == key
    assert mode(here / f"{NAME}.key.previous") == 0o600
    cert("ca", "Other", "--force")
    assert "did not issue" in cert("renew", f"{NAME}.pem", code=1).output


@pytest.mark.covers("SEC-150")
def test_what_is_revoked_stays_revoked_from_list_to_list(here: Path) -> None:
    cert("ca", "Bank CA")
    for name in ("a.bank.example", "b.bank.example", "c.bank.example"):
        cert("host", name)
    cert("crl", "a.bank.example.pem", "--reason", "keyCompromise")
    assert "2 revoked" in cert("crl", f"{serial(here / 'b.bank.example.pem'):x}").output
    authority = x509.load_pem_x509_certificate(Path("ca.pem").read_bytes())
    stores = CaStores.of(private=[authority])
    found = read_revocation_list(Path("ca.crl").read_bytes(), "ca.crl", [authority])
    stores.revocations.current = RevocationSet([found])
    hosts = HostIdentifier(stores)
    for name, fine in (("a", False), ("b", False), ("c", True)):
        outcome = hosts.examine(chain(here / f"{name}.bank.example.pem"), time.time())
        assert isinstance(outcome, HostCertificate) is fine, outcome
    openssl("crl", "-in", "ca.crl", "-CAfile", "ca.pem", "-noout", cwd=here)
    words = (
        "openssl",
        "verify",
        "-crl_check",
        "-CRLfile",
        "ca.crl",
        "-CAfile",
        "ca.pem",
        "a.bank.example.pem",
    )
    verdict = subprocess.run(words, cwd=here, capture_output=True, check=False)
    assert b"certificate revoked" in verdict.stdout + verdict.stderr
    cert("ca", "Other", "--force")
    assert "not signed by this authority" in cert("crl", code=1).output


# -- looking ----------------------------------------------------------------------------------------------


def test_inspect_says_what_outrider_would_do(here: Path) -> None:
    cert("ca", "Bank CA")
    cert("host", NAME, "--serves", "bank.example", "--server-only")
    cert("user", "ann@bank.example")
    text = cert("inspect", f"{NAME}.pem", "--ca", "ca.pem").output
    assert f"AMTP client: public connection for EHLO {NAME}, if its PTR record agrees (public CA)" in text
    assert f"SMTP client: proves {NAME} (public CA)" in text
    Path("outrider.toml").write_text(
        f'hostname = "{NAME}"\ndata_dir = "data"\n[tls]\npublic_ca = []\nprivate_ca = ["ca.pem"]\n'
        "[dns]\nservers = []\n"
    )
    shown = json.loads(cert("inspect", f"{NAME}.pem", "--json").output)
    [report] = shown["chain"]
    assert report["hosts"] == [NAME]
    assert report["services"] == ["_amtp.bank.example", "_mt2.bank.example"]
    assert report["purposes"] == ["server"]
    assert shown["verdicts"]["AMTP client"] == f"private connection for EHLO {NAME} (private CA)"
    user = json.loads(cert("inspect", "ann@bank.example.pem", "--json").output)["verdicts"]
    assert user["AMTP client"].startswith("504: name:")
    assert user["SMTP client"] == "proves ann@bank.example (private CA)"
    assert user["MT2 host"].startswith("name: the certificate has no dNSName")
    assert user["MT2 user"] == (
        "ann@bank.example (private CA); claimed, not proven: common name ann@bank.example"
    )
    assert shown["verdicts"]["MT2 host"] == f"{NAME} (private CA)"


def test_inspect_of_what_is_none(here: Path) -> None:
    Path("file").write_text("nothing")
    cert("inspect", "file", code=1)
    cert("inspect", "neither-file-nor-host", code=2)
    cert("check", code=2)
    cert("check", "host.example", "--own", code=2)


@contextmanager
def tls_server(address: str, name: str) -> Iterator[None]:
    """OpenSSL's server, with a certificate from the folder."""
    words = ("-accept", f"{address}:{PORT}", "-cert", f"{name}.pem", "-key", f"{name}.key", "-quiet")
    server = subprocess.Popen(("openssl", "s_server", *words), stdin=subprocess.PIPE)
    try:
        yield
    finally:
        server.kill()
        server.wait()


def wait_inspect(target: str) -> dict[str, Any]:
    """The server needs a moment to listen."""
    for _ in range(100):
        result = CliRunner().invoke(main, ["cert", "inspect", target, "--json"])
        if result.exit_code == 0:
            shown: dict[str, Any] = json.loads(result.output)
            return shown
        time.sleep(0.1)
    raise AssertionError(result.output)


@pytest.mark.covers("AMTP-2a", "AMTP-5")
def test_check_sees_a_host_as_a_peer_would(here: Path) -> None:
    address = loopback_address()
    cert("ca", "Public CA")
    cert("host", NAME, "--serves", "bank.example", "--server-only")
    *_, third, fourth = address.split(".")
    reverse = ".".join(reversed(address.split(".")))
    zones = {
        "bank.example": f"mx A {address}\n_amtp._tcp SRV 0 0 {PORT} mx\n",
        f"{address.split('.')[1]}.127.in-addr.arpa": f"{fourth}.{third} PTR {NAME}.\n",
    }
    assert reverse.startswith(f"{fourth}.{third}.")
    with BindServer(zones) as bind, tls_server(address, NAME):
        Path("outrider.toml").write_text(
            f'hostname = "{NAME}"\ndata_dir = "data"\n[tls]\npublic_ca = ["ca.pem"]\n'
            f'certificate = "{NAME}.pem"\nkey = "{NAME}.key"\n'
            f'[dns]\nservers = ["127.0.0.1:{bind.port}"]\n[domains."bank.example"]\nusers = ["ann"]\n'
        )
        shown = wait_inspect(f"{NAME}:{PORT}")
        assert shown["verdicts"][f"server {NAME}"] == f"verified {NAME} (public CA)"
        for words in (("--own",), (NAME, "--domain", "bank.example")):
            result = cert("check", *words)
            assert "BAD" not in result.output
            for text in (f"ptr {address}: PTR, certificate and EHLO say {NAME}", "proven: SRVName"):
                assert text in result.output
        bad = cert("check", "--own", "--address", "127.0.0.9", "--json", code=1)
        rows = [json.loads(line) for line in bad.output.split("\n") if line]
        [ptr] = [row for row in rows if row["subject"] == "ptr 127.0.0.9"]
        assert ptr["result"] == "bad"
        assert ptr["remedy"]


def test_check_of_a_host_that_does_not_answer(here: Path) -> None:
    settings = f'hostname = "{NAME}"\ndata_dir = "data"\n[tls]\npublic_ca = []\n[dns]\nservers = []\n'
    Path("outrider.toml").write_text(settings)
    assert "port" in cert("check", f"{loopback_address()}", code=1).output
