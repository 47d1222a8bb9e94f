"""The certificates of [mt2]: whose they are is found out at the start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.identity.mt2_papers import Party, Site

from outrider.config.schema import Config
from outrider.runtime.mt2_keys import Mt2Keys, read_mt2_keys

SITE = Site()


def write(folder: Path, party: Party, title: str) -> dict[str, str]:
    files = {"certificate": folder / f"{title}.pem", "key": folder / f"{title}.key"}
    files["certificate"].write_bytes(party.issued.certificate_pem)
    files["key"].write_bytes(party.issued.key_pem)
    return {name: str(path) for name, path in files.items()}


def read(mt2: dict[str, Any] | None = None, **tables: Any) -> Mt2Keys:
    settings = {"hostname": "MX.a.example", "data_dir": "/nonexistent", "mt2": mt2 or {}, **tables}
    return read_mt2_keys(msgspec.convert(settings, Config), Path)


@pytest.mark.covers("MT2-22", "MT2-28c")
def test_host_users_and_process_each_have_their_own(tmp_path: Path) -> None:
    daemon = SITE.user("daemon@a.example")
    identities = {
        "alice@a.example": write(tmp_path, SITE.alice, "alice"),
        "daemon@a.example": write(tmp_path, daemon, "daemon"),
    }
    mt2 = {**write(tmp_path, SITE.a, "host"), "identities": identities, "process": "Daemon@a.example"}
    sealing = read(mt2, auth={"restrict_sender": False}).sealing
    assert sealing is not None
    assert sealing.host.name == "mx.a.example"
    assert {one.name for one in sealing.users.values()} == {"alice@a.example", "daemon@a.example"}
    assert sealing.process is sealing.users[("daemon", "a.example")]
    assert not sealing.logins_are_senders


def test_the_hosts_certificate_is_the_one_of_tls_unless_there_is_another(tmp_path: Path) -> None:
    files = write(tmp_path, SITE.a, "host")
    keys = read(tls=files)
    assert keys.sealer is not None
    assert keys.sealer.names == ("mx.a.example",)
    assert read() == Mt2Keys()


def test_a_certificate_of_tls_for_another_name_is_no_fault_but_seals_nothing(tmp_path: Path) -> None:
    keys = read(tls=write(tmp_path, SITE.b, "other"))
    assert keys.sealing is None
    assert "does not name mx.a.example" in keys.warning


@pytest.mark.covers("MT2-4")
def test_certificates_to_encrypt_for_are_known_by_address_and_domain(tmp_path: Path) -> None:
    path = write(tmp_path, SITE.alice, "alice")["certificate"]
    keys = read({"encrypt_headers": {"Alice@A.example": path, "b.example": path}})
    assert set(keys.header_certificates) == {"alice@a.example", "b.example"}
    assert set(keys.header_certificates.values()) == {SITE.alice.chain[0]}


@pytest.mark.parametrize(
    ("mt2", "key"),
    [
        ({"certificate": "{host}.pem"}, "mt2: "),
        ({"certificate": "{other}.pem", "key": "{other}.key"}, "mt2.certificate: "),
        ({"certificate": "/nonexistent", "key": "/nonexistent"}, "mt2.certificate: "),
        ({"identities": {"bob@a.example": "{alice}"}}, 'mt2.identities."bob@a.example".certificate: '),
        ({"identities": {"alice@a.example": "{alice}"}}, "mt2.identities: "),
        ({"process": "daemon@a.example"}, "mt2.process: "),
        ({"encrypt_headers": {"b.example": "/nonexistent"}}, 'mt2.encrypt_headers."b.example": '),
        ({"encrypt_headers": {"b.example": "{host}.key"}}, 'mt2.encrypt_headers."b.example": '),
    ],
)
def test_what_cannot_be_is_told_with_its_key(tmp_path: Path, mt2: dict[str, Any], key: str) -> None:
    people = {"host": SITE.a, "other": SITE.b}
    for name, party in people.items():
        write(tmp_path, party, name)

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {one: placed(inner) for one, inner in value.items()}
        if value == "{alice}":
            return write(tmp_path, SITE.alice, "alice")
        return value.format(**{name: tmp_path / name for name in people})

    with pytest.raises(ValueError, match="^" + re.escape(key)):
        read(placed(mt2))
