"""Listeners for MT2: TLS unless the link is private (MT2-9)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outrider.config.loader import load
from outrider.config.problems import ConfigError
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.runtime.assembly import assemble
from outrider.runtime.listener_plans import ListenerPlan
from outrider.testing.ca import write_tls_files


def planned(folder: Path, listener: str, *, certificate: bool = True) -> ListenerPlan:
    """The plan of one listener with these keys."""
    tls = "public_ca = []"
    if certificate:
        authority = CertificateAuthority.create("CA", datetime.now(UTC))
        files = write_tls_files(folder, authority, authority.issue_host(["mx.a.example"], datetime.now(UTC)))
        tls = f'certificate = "{files.certificate}"\nkey = "{files.key}"\npublic_ca = []'
    file = folder / "outrider.toml"
    file.write_text(
        f'hostname = "mx.a.example"\ndata_dir = "{folder}/data"\n[tls]\n{tls}\n'
        f'[[listeners]]\nprotocol = "mt2"\n{listener}\n'
    )
    [plan] = assemble(load(file)).listeners
    return plan


@pytest.mark.covers("MT2-9")
def test_tls_from_the_first_octet_on_its_own_port_is_usual(tmp_path: Path) -> None:
    plan = planned(tmp_path, 'address = "192.0.2.1"')
    assert (plan.tls, plan.port) == ("implicit", 10_126)
    assert plan.asks_for_certificate


@pytest.mark.covers("MT2-9")
@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "fe80::1", "::1"])
def test_in_the_clear_over_private_links(tmp_path: Path, address: str) -> None:
    plan = planned(tmp_path, f'address = "{address}"\ntls = "none"', certificate=False)
    assert plan.tls == "none"


@pytest.mark.covers("MT2-9")
@pytest.mark.parametrize("address", ["8.8.8.8", "0.0.0.0", "::", "2001:4860::1"])
def test_and_nowhere_else(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, f'address = "{address}"\ntls = "none"')
    [problem] = caught.value.problems
    assert "loopback and private links" in str(problem)


@pytest.mark.covers("MT2-9")
def test_tls_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, 'address = "127.0.0.1"', certificate=False)
    assert any("TLS needs a certificate" in str(one) for one in caught.value.problems)
