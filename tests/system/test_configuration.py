"""A bad configuration: one clear line for each fault, with file, line and remedy; nothing is started."""

from __future__ import annotations

import datetime
import re
import subprocess
from pathlib import Path

import pytest

from tests.peers.certificates import CertificateAuthority
from tests.peers.images import PROJECT
from tests.peers.outrider_server import OUTRIDER, OutriderServer, to_toml
from tests.system.sites import Settings, site, smtp_dialogue

DAY = datetime.timedelta(days=1)


def run(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """An `outrider` command to its end."""
    return subprocess.run(
        [OUTRIDER, *words, "--config", path], capture_output=True, text=True, cwd=PROJECT, timeout=60
    )


def write(folder: Path, settings: Settings, extra: str = "") -> Path:
    """A configuration file in a folder of its own."""
    path = folder / "outrider.toml"
    text = to_toml({"data_dir": str(folder / "data"), **settings})
    path.write_text(text.replace("{dir}", str(folder)) + extra)
    return path


def assert_one_line(done: subprocess.CompletedProcess[str], path: Path, *parts: str) -> None:
    """Exit 1 and one line that names the file and its line, and has these parts."""
    assert done.returncode == 1, done
    [line] = done.stderr.strip().split("\n")
    assert re.match(rf"outrider: {re.escape(str(path))}:\d+: ", line), line
    for part in parts:
        assert part in line


FAULTS: dict[str, tuple[Settings, tuple[str, ...]]] = {
    "unknown-key": ({"limits": {"mesage_size": 1}}, ("limits.mesage_size", "message_size")),
    "wrong-type": (
        {"limits": {"recipients": "many"}},
        ("limits.recipients", "Expected a whole number, got text in quotes"),
    ),
    "unknown-word": ({"delivery": {"tls": "always"}}, ("delivery.tls", "opportunistic")),
    "bad-network": ({"relay": {"networks": ["127.0.0.0/64"]}}, ("relay.networks", "127.0.0.0/64")),
    "missing-file": ({"auth": {"users_file": "nowhere"}}, ("auth.users_file", "nowhere")),
    "bad-route": ({"routes": {"beta.example": "smpt:mx.beta.example"}}, ("smpt",)),
    "bad-rule": (
        {"policy": {"rules": [{"name": "r", "action": "refuse", "when": {"client.adress": "x"}}]}},
        ("client.adress",),
    ),
    "mailbox-nowhere": ({"domains": {"b.example": {"deliver": "mailbox:/x"}}}, ("mailbox",)),
}


@pytest.mark.covers("SMTP-9")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_file(fault: str, tmp_path: Path, address: str) -> None:
    tables, parts = FAULTS[fault]
    path = write(tmp_path, site("alpha.example", address, **tables))
    for word in ("check-config", "serve"):
        assert_one_line(run(path, word), path, *parts)
    assert not (tmp_path / "data").exists()


@pytest.mark.covers("SMTP-9")
def test_all_faults_are_told_at_once(tmp_path: Path, address: str) -> None:
    tables = {"limits": {"mesage_size": 1, "recipients": -1}, "delivery": {"tls": "always"}}
    done = run(write(tmp_path, site("alpha.example", address, **tables)), "check-config")
    assert done.returncode == 1
    assert len(done.stderr.strip().split("\n")) >= 2, done.stderr


@pytest.mark.covers("SMTP-9")
def test_no_toml_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "outrider.toml"
    missing = run(path, "serve")
    assert missing.returncode == 1
    assert str(path) in missing.stderr
    path.write_text('hostname = "mx.alpha.example"\ndata_dir = \n')
    assert_one_line(run(path, "serve"), path)


@pytest.mark.covers("TLS-7")
def test_a_key_that_does_not_match_and_an_expired_certificate(
    tmp_path: Path, address: str, authority: CertificateAuthority
) -> None:
    files, other = authority.issue("mx.alpha.example"), authority.issue("mx.alpha.example")
    settings = site("alpha.example", address, tls=files)
    settings["tls"]["key"] = other.key
    path = write(tmp_path, settings)
    assert_one_line(run(path, "serve"), path, "tls.", "key")
    expired = authority.issue("mx.alpha.example", valid_until=-DAY)
    path = write(tmp_path, site("alpha.example", address, tls=expired))
    assert_one_line(run(path, "check-config"), path, "tls.certificate", "expired")


@pytest.mark.covers("TLS-7")
def test_a_certificate_that_ends_soon_is_warned_of(
    tmp_path: Path, address: str, authority: CertificateAuthority
) -> None:
    files = authority.issue("mx.alpha.example", valid_until=3 * DAY)
    with OutriderServer(site("alpha.example", address, tls=files)) as server:
        [event] = server.wait_event("certificate_expires")
    assert event["level"] == "warning"
    assert 2 < float(str(event["days"])) <= 3


@pytest.mark.covers("SMTP-9")
def test_a_port_in_use_and_two_servers_on_one_spool(tmp_path: Path, address: str) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        path = write(tmp_path, site("alpha.example", address))
        assert_one_line(run(path, "serve"), path, f"{address}:25", "another process listens there")
        second = {**site("alpha.example", address), "data_dir": f"{server.folder}/data"}
        second["listeners"] = [{"protocol": "smtp", "address": address, "port": 26}]
        done = run(write(tmp_path, second), "serve")
        assert done.returncode == 1, done
        [line] = done.stderr.strip().split("\n")
        assert f"{server.folder}/data/spool/1 is in use by process {server.pid}" in line
        # The first one is not disturbed.
        assert smtp_dialogue(address, 25, b"QUIT")[-1].startswith(b"221")


@pytest.mark.covers("SMTP-9")
def test_a_folder_that_cannot_be_written(tmp_path: Path, address: str) -> None:
    (tmp_path / "file").write_text("no folder")
    settings = {**site("alpha.example", address), "data_dir": str(tmp_path / "file" / "data")}
    path = write(tmp_path, settings)
    assert_one_line(run(path, "serve"), path, "data_dir")


@pytest.mark.covers("SMTP-9")
def test_a_good_file_is_called_good_and_starts_nothing(tmp_path: Path, address: str) -> None:
    path = write(tmp_path, site("alpha.example", address))
    done = run(path, "check-config")
    assert done.returncode == 0, done
    assert "good" in done.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.covers("ITP-5")
@pytest.mark.parametrize("words", [("reload",), ("stop",), ("status",)])
def test_commands_for_a_running_server_say_that_none_runs(
    words: tuple[str, ...], tmp_path: Path, address: str
) -> None:
    done = run(write(tmp_path, site("alpha.example", address)), *words)
    assert done.returncode == 1
    assert "no server runs" in done.stderr
