"""Headers that only their recipient can read, over two sites that pass them on and verify their seals."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outrider.identity.certificate_authority import CertificateAuthority as UserAuthority
from outrider.identity.certificate_authority import Issued
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority, TlsFiles
from tests.peers.outrider_server import OUTRIDER
from tests.system.mt2_sites import MT2_PORT, mt2_pair
from tests.system.sites import CONTENT, body_of, headers_of, json_rows, wait_mailbox

SECRET = CONTENT.replace(b"Subject: system test", b"Subject: the merger\r\nX-Price: 12 million")


def user(address: str, folder: Path) -> tuple[Issued, Path, Path]:
    """A certificate for a mailbox, of an authority that no site knows, and its two files."""
    made = datetime.now(UTC) - timedelta(days=1)
    issued = UserAuthority.create("Users' authority", made).issue_user(address, made, 30)
    certificate, key = folder / f"{address}.pem", folder / f"{address}.key"
    certificate.write_bytes(issued.certificate_pem)
    key.write_bytes(issued.key_pem)
    return issued, certificate, key


def send(
    address: str, files: TlsFiles, *recipients: str, encrypt_for: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Hand SECRET to alpha by `outrider send`."""
    return subprocess.run(
        [
            str(OUTRIDER), "send", "--protocol", "mt2", "--server", f"{address}:{MT2_PORT}", "--name",
            "mx.alpha.example", "--certificate", str(files.certificate), "--key", str(files.key), "--ca",
            str(files.authority), "--from", "ann@client.example",
            *(word for one in recipients for word in ("--to", one)),
            *(word for one in encrypt_for for word in ("--encrypt-for", str(one))),
        ],
        input=SECRET, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.covers("MT2-4", "MT2-23c")
def test_a_sender_encrypts_headers_that_two_sites_pass_on_and_the_recipient_reads(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    _, certificate, key = user("bob@beta.example", tmp_path)
    far, files = loopback_address(), authority.issue("client.example")
    with mt2_pair(address, far, authority) as (alpha, beta, _):
        done = send(address, files, "bob@beta.example", "ann@beta.example", encrypt_for=(certificate,))
        assert done.returncode == 0, done.stdout + done.stderr
        [hidden], [plain] = wait_mailbox(beta, "bob"), wait_mailbox(beta, "ann")
        hops = alpha.wait_event("delivered", count=2)
        [file] = (beta.folder / "mail" / "bob" / "new").iterdir()
        [verified] = json_rows(beta, "trace", "verify", str(file))
        [shown] = json_rows(beta, "trace", "show", str(file))
        [opened] = json_rows(
            beta, "trace", "show", str(file), "--key", str(key), "--certificate", str(certificate)
        )
    assert {hop["protocol"] for hop in hops} == {"mt2"}
    # What everybody sees is what the envelope says; whoever has no certificate is sent the usual form.
    assert b"Subject: (encrypted)" in headers_of(hidden)
    assert b"merger" not in hidden
    assert b"million" not in hidden
    assert b"Subject: the merger" in headers_of(plain)
    assert body_of(hidden).endswith(body_of(SECRET))
    assert verified["good"] is True
    assert [hop["by"] for hop in shown["seals"]] == ["client.example", "mx.alpha.example"]
    fields = dict(opened["fields"])
    assert (fields["Subject"], fields["X-Price"]) == ("the merger", "12 million")


@pytest.mark.covers("MT2-4", "MT2-26")
def test_a_site_that_takes_no_encrypted_headers_refuses_them_before_they_are_sent(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    _, certificate, _ = user("bob@beta.example", tmp_path)
    rule = {"name": "in-clear", "when": {"mt2.encryption": "headers"}, "action": "refuse"}
    files = authority.issue("client.example")
    wants_to_read = {"policy": {"rules": [rule]}}
    with mt2_pair(address, loopback_address(), authority, alpha=wants_to_read) as (alpha, _, _names):
        done = send(address, files, "bob@beta.example", encrypt_for=(certificate,))
        assert done.returncode != 0
        assert not alpha.log_events("received")
