"""Listeners and settings of AMDP: HTTPS, its port, and what is told before a server starts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outrider.config.loader import load
from outrider.config.problems import ConfigError
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.runtime.assembly import Assembly, assemble
from outrider.testing.ca import write_tls_files


def assembled(folder: Path, listener: str, amdp: str = 'roles = ["mis"]', rest: str = "") -> Assembly:
    """What follows from one listener with these keys."""
    authority = CertificateAuthority.create("CA", datetime.now(UTC))
    files = write_tls_files(folder, authority, authority.issue_host(["mx.a.example"], datetime.now(UTC)))
    file = folder / "outrider.toml"
    file.write_text(
        f'hostname = "mx.a.example"\ndata_dir = "{folder}/data"\n'
        f'[tls]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\npublic_ca = []\n'
        f'[[listeners]]\nprotocol = "amdp"\n{listener}\n'
        f'[domains."a.example"]\ndeliver = "discard:"\n[amdp]\n{amdp}\n{rest}\n'
    )
    return assemble(load(file))


@pytest.mark.covers("AMDP-9")
def test_https_on_the_port_of_amdp_is_usual(tmp_path: Path) -> None:
    made = assembled(tmp_path, 'address = "192.0.2.1"')
    [plan] = made.listeners
    assert (plan.tls, plan.port, plan.asks_for_certificate) == ("implicit", 443, False)
    assert made.amdp_stores is made.ca_stores
    [plan] = assembled(tmp_path, 'address = "192.0.2.1"', 'roles = ["mhf"]\nport = 8443').listeners
    assert plan.port == 8443


@pytest.mark.parametrize(
    ("listener", "amdp", "fault"),
    [
        ('address = "192.0.2.1"\ntls = "starttls"', "", "no STARTTLS"),
        ('address = "8.8.8.8"\ntls = "none"', "", "proxy on this machine"),
        ('address = "unix:/run/x"', "", "over a network"),
        ('address = "192.0.2.1"\nauth = true', "", "no logins"),
        ('address = "192.0.2.1"', "port = 444", "port 444"),
        ('address = "192.0.2.1"', '[amdp.holding]\nnetworks = ["x"]', "holding.networks"),
        ('address = "192.0.2.1"', 'roles = ["img"]\n[amdp.policy]\ndeny = ["Bulk"]', "policy.deny"),
        ('address = "192.0.2.1"', '[amdp.incoming]\nca = ["/nowhere.pem"]', "/nowhere.pem"),
    ],
)
def test_what_cannot_be_served_is_told_at_its_place(
    tmp_path: Path, listener: str, amdp: str, fault: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        assembled(tmp_path, listener, amdp)
    assert any(fault in str(problem) for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("amdp", "warning"),
    [
        ("", "none of the roles"),
        ('roles = ["mis"]\nport = 8443', "at port 443 only"),
        ('roles = ["mis"]', "no CONTACT-INFO"),
    ],
)
def test_what_is_surely_not_meant_is_a_warning(tmp_path: Path, amdp: str, warning: str) -> None:
    warnings = assembled(tmp_path, 'address = "192.0.2.1"', amdp).warnings
    assert any(warning in one for one in warnings), warnings


@pytest.mark.covers("AMDP-9")
def test_cas_of_facilities_may_be_others(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("Facilities", datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    made = assembled(tmp_path, 'address = "192.0.2.1"', f'[amdp.incoming]\nca = ["{tmp_path}/ca.pem"]')
    assert made.amdp_stores is not made.ca_stores
    assert [one.subject for one in made.amdp_stores.authorities] == [authority.certificate.subject]
