"""`[mt2.validation]` is checked before anything is served (MT2-24b, MT2-24c)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outrider.config.loader import load
from outrider.config.problems import ConfigError
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.certificates import fingerprints_of
from outrider.net.ldap_search import LdapMissing
from outrider.runtime import mt2_validation
from outrider.runtime.assembly import Assembly, assemble


def assembled(folder: Path, validation: str, dns: str = "") -> Assembly:
    file = folder / "outrider.toml"
    file.write_text(
        f'hostname = "mx.bank.example"\ndata_dir = "{folder}/data"\n[tls]\npublic_ca = []\n'
        f'[[listeners]]\nprotocol = "smtp"\nport = 2525\n'
        f"[dns]\n{dns}\n[mt2.validation]\n{validation}\n"
    )
    return assemble(load(file))


def faults(folder: Path, validation: str, dns: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        assembled(folder, validation, dns)
    return [str(one) for one in caught.value.problems]


@pytest.mark.covers("MT2-24c", "MT2-22")
def test_gateways_and_the_trusted_set_are_read(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("Trusted", datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    lines = (
        f'interior_gateways = ["GW.bank.example"]\ntrusted_ca = ["{tmp_path}/ca.pem"]\nunsigned = "claimed"'
    )
    found = assembled(tmp_path, lines).mt2_identities
    assert found.gateways == {"gw.bank.example"}
    assert len(found.trusted) == 1
    assert found.unsigned == "claimed"
    assert all(len(one) == len(fingerprints_of(b"").certificate) for one in found.trusted)


@pytest.mark.covers("MT2-24b", "MT2-24c")
@pytest.mark.parametrize(
    ("lines", "dns", "key"),
    [
        ('interior_gateways = ["not a host"]', "", "mt2.validation.interior_gateways[0]"),
        ('trusted_ca = ["nowhere.pem"]', "", "mt2.validation.trusted_ca[0]"),
        ('delegation = ["dns"]', "servers = []", "mt2.validation.delegation"),
        ('delegation = ["whois"]', "", "mt2.validation.delegation[0]"),
    ],
)
def test_what_cannot_stand_is_named_with_its_key(tmp_path: Path, lines: str, dns: str, key: str) -> None:
    [fault] = faults(tmp_path, lines, dns)
    assert key in fault


@pytest.mark.covers("MT2-24b")
def test_ldap_without_its_library_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise LdapMissing("python-ldap cannot be loaded")

    monkeypatch.setattr(mt2_validation, "load_ldap", missing)
    [fault] = faults(tmp_path, 'delegation = ["dns", "ldap"]', 'servers = ["127.0.0.1"]')
    assert "delegation[1]" in fault
    assert "outrider[ldap]" in fault


@pytest.mark.covers("MT2-24b")
def test_records_that_could_never_count_are_warned_of(tmp_path: Path) -> None:
    lines = 'delegation = ["dns"]'
    plain = assembled(tmp_path, lines, 'servers = ["127.0.0.1"]').warnings
    assert any("CERT and TLSA records will never count" in one for one in plain)
    validating = assembled(tmp_path, lines, 'servers = ["127.0.0.1"]\nvalidating = true').warnings
    assert not any("CERT and TLSA" in one for one in validating)
