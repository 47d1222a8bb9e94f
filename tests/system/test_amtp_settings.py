"""Settings of AMTP that cannot stand: one line for each, with file, line and remedy; nothing is started."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.system.amtp_callers import World
from tests.system.test_configuration import assert_one_line, run, write


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Authorities and a certificate for all of these."""
    return World(tmp_path_factory.mktemp("world"))


AMTP: dict[str, Any] = {"protocol": "amtp", "address": "127.0.0.1"}
PRIVATE = {**AMTP, "private": True, "port": 10200}
ASSIGNED = {"value": "net/individual", "networks": ["127.0.0.0/8"]}

FAULTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "public elsewhere": (
        {"listeners": [{**AMTP, "port": 10200}]},
        ("listeners[0].port", "port 10125 only (AMTP-6)", "private = true"),
    ),
    "starttls": ({"listeners": [{**AMTP, "tls": "starttls"}]}, ("listeners[0].tls", "first octet", "remove")),
    "auth": ({"listeners": [{**AMTP, "auth": False}]}, ("listeners[0].auth", "private_auth")),
    "no certificates": (
        {"listeners": [{**AMTP, "request_client_certificate": False}]},
        ("listeners[0].request_client_certificate", "AMTP-1"),
    ),
    "unix": ({"listeners": [{**AMTP, "address": "unix:/x"}]}, ("listeners[0].address",)),
    "private without authority": ({"listeners": [PRIVATE]}, ("listeners[0].private", "private_ca")),
    "private smtp": (
        {"listeners": [{"protocol": "smtp", "address": "127.0.0.1", "port": 25, "private": True}]},
        ("listeners[0].private", "remove it"),
    ),
    "bad account code": (
        {"mpc": {"accounts": {"ann": "com/nonsense"}}},
        ("mpc.accounts.ann", "unknown class"),
    ),
    "bad assigned code": (
        {"mpc": {"assigned": [{**ASSIGNED, "value": "mpc/optin"}]}},
        ("mpc.assigned[0].value", "mpc/individual"),
    ),
    "assigned about policy": (
        {"mpc": {"assigned": [{**ASSIGNED, "value": "mpc/individual"}]}},
        ("mpc.assigned[0].value", "bound"),
    ),
    "assigned from nowhere": (
        {"mpc": {"assigned": [{"value": "com/optin"}]}},
        ("mpc.assigned[0]", "names no source"),
    ),
    "assigned by a protocol that has codes": (
        {"mpc": {"assigned": [{**ASSIGNED, "listeners": ["amtp"]}]}},
        ("mpc.assigned[0].listeners", "amtp"),
    ),
    "bad field network": ({"mpc": {"field_from": ["10.0.0.0/99"]}}, ("mpc.field_from", "10.0.0.0/99")),
    "bad fingerprint": (
        {"amtp": {"private_fingerprints": ["abc"], "private_auth": "none"}},
        ("amtp.private_fingerprints",),
    ),
    "partner without hosts": (
        {"partners": {"bank": {"sender_domains": ["bank.example"], "inbound": "amtp"}}},
        ("partners.bank.hosts",),
    ),
    "partner with a missing authority": (
        {"partners": {"bank": {"sender_domains": ["bank.example"], "ca": ["nowhere.pem"]}}},
        ("partners.bank.ca", "nowhere.pem"),
    ),
    "missing partner folder": ({"partner_folder": "nowhere"}, ("partner_folder", "nowhere")),
    "illegal code in a rule": (
        {"policy": {"rules": [{"name": "r", "action": "refuse", "when": {"mpc": "com/nothing"}}]}},
        ("mpc", "com/nothing"),
    ),
    "backup without a private way": (
        {"relay": {"domains": ["primary.example"], "networks": []}},
        ("relay.domains[0]", "AMTP-21", "[routes]"),
    ),
}


@pytest.mark.covers("AMTP-6", "AMTP-19", "AMTP-21")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_setting_that_cannot_stand(fault: str, world: World, tmp_path: Path) -> None:
    tables, parts = FAULTS[fault]
    settings = world.settings(None, **dict(tables))
    settings["dns"] = {"servers": ["127.0.0.1"]}
    settings["listeners"] = [one for one in settings["listeners"] if one["protocol"] != "http"]
    path = write(tmp_path, settings)
    assert_one_line(run(path, "check-config"), path, *parts)


@pytest.mark.covers("AMTP-19", "SEC-156")
def test_a_private_authority_that_is_public_too_is_refused(world: World, tmp_path: Path) -> None:
    settings = world.settings(None, tls={"private_ca": [str(world.public.certificate)]})
    settings["dns"] = {"servers": ["127.0.0.1"]}
    settings["amtp"] = {"private_auth": "none"}
    path = write(tmp_path, settings)
    assert_one_line(run(path, "check-config"), path, "tls.private_ca", "public set")


@pytest.mark.covers("AMTP-19")
def test_logins_on_private_connections_need_a_users_file(world: World, tmp_path: Path) -> None:
    settings = world.settings(None, tls={"private_ca": [str(world.private.certificate)]})
    settings["dns"] = {"servers": ["127.0.0.1"]}
    path = write(tmp_path, settings)
    assert_one_line(run(path, "check-config"), path, "amtp", "users_file")


@pytest.mark.covers("AMTP-2a")
def test_public_connections_need_dns(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, world.settings(None))
    assert_one_line(run(path, "check-config"), path, "dns.servers", "AMTP-2")


@pytest.mark.covers("AMTP-21")
def test_a_backup_with_a_private_way_is_fine(world: World, tmp_path: Path) -> None:
    settings = world.settings(
        None,
        relay={"domains": ["primary.example"], "networks": []},
        routes={"primary.example": "amtp:mx.primary.example"},
    )
    settings["dns"] = {"servers": ["127.0.0.1"]}
    done = run(write(tmp_path, settings), "check-config")
    assert done.returncode == 0, done.stderr


PARTNER_FAULTS = {
    "hosts = 1\n": ("hosts", "Expected a list"),
    "sender_domians = []\n": ("sender_domians", "sender_domains"),
    'sender_domains = ["b.example"]\n\ninbound = "amtp"\n': ("hosts", "needs the names"),
    'sender_domains = ["b.example"]\n\nca = ["no.pem"]\n': ("ca", "no.pem"),
    "sender_domains = [}\n": ("not TOML",),
}


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize("text", PARTNER_FAULTS)
def test_a_fault_in_a_partner_file_names_that_file(text: str, world: World, tmp_path: Path) -> None:
    settings = world.settings(None)
    settings["dns"] = {"servers": ["127.0.0.1"]}
    path = write(tmp_path, settings)
    folder = tmp_path / "partners"
    folder.mkdir()
    (folder / "bank.toml").write_text(text)
    (folder / "README.md").write_text("not a partner")
    done = run(path, "check-config")
    assert done.returncode == 1, done
    [line] = done.stderr.strip().split("\n")
    assert re.match(rf"outrider: {re.escape(str(folder / 'bank.toml'))}:\d+: ", line), line
    for part in PARTNER_FAULTS[text]:
        assert part in line


@pytest.mark.covers("ITP-4a")
def test_a_fault_in_an_included_rule_names_its_file_and_line(world: World, tmp_path: Path) -> None:
    settings = world.settings(None, policy={"include": ["rules/shops.toml"]})
    settings["dns"] = {"servers": ["127.0.0.1"]}
    path = write(tmp_path, settings)
    (tmp_path / "rules").mkdir()
    rules = tmp_path / "rules" / "shops.toml"
    rules.write_text('[[rules]]\nname = "a"\naction = "refuse"\n\n[rules.when]\nmpc = "com/nothing"\n')
    done = run(path, "check-config")
    assert done.returncode == 1, done
    assert done.stderr.startswith(f"outrider: {rules}:6: "), done.stderr
    shutil.rmtree(tmp_path / "rules")
    done = run(path, "check-config")
    assert "policy.include[0]" in done.stderr
