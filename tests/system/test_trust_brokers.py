"""A trust broker installed beside the server: found by its entry point, asked, named in the refusal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OUTRIDER, OutriderServer, to_toml
from tests.peers.tools import Swaks, SwaksResult
from tests.system.sites import CONTENT, site

MODULE = """
from outrider.trust.brokers import BrokerAnswer

class Chamber:
    def __init__(self, listed):
        self.listed = listed
    async def ask(self, subject):
        return BrokerAnswer(subject.name in self.listed, "struck off the register")

def make_broker(options):
    if not isinstance(options.get("listed"), list):
        raise ValueError("`listed` must be a list of names")
    return Chamber(options["listed"])
"""
RULE = {
    "name": "known to the chamber",
    "action": "refuse",
    "when": {"trust.score": {"min": 3}},
    "reason": "The chamber knows you",
}


@pytest.fixture
def plug_in(tmp_path: Path) -> Path:
    """A folder that holds an installed package with one broker."""
    (tmp_path / "chamber_of_commerce.py").write_text(MODULE)
    about = tmp_path / "chamber_of_commerce-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: chamber-of-commerce\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[outrider.trust]\nchamber = chamber_of_commerce:make_broker\n")
    return tmp_path


def configuration(address: str, source: str = "chamber", **options: object) -> dict[str, Any]:
    chamber = {"kind": "block-broker", "source": source, "weight": 3, "options": options}
    trust = {"lists": {"chamber": chamber}}
    return site("alpha.example", address, trust=trust, policy={"rules": [RULE]})


def send(swaks: Swaks, server: str, sender: str) -> SwaksResult:
    return swaks.send(server, 25, sender=sender, recipients=["ann@alpha.example"], content=CONTENT)


@pytest.mark.covers("ITP-3")
def test_a_broker_is_asked_and_its_word_counts(address: str, swaks_client: Swaks, plug_in: Path) -> None:
    settings = configuration(address, listed=["spam.example"])
    with OutriderServer(settings, environment={"PYTHONPATH": os.fspath(plug_in)}) as server:
        refused = send(swaks_client, address, "eve@spam.example")
        assert "550 5.7.1 The chamber knows you (rule known to the chamber)" in refused.replies()
        assert send(swaks_client, address, "bob@fair.example").accepted
        shown = server.cli("trust", "check", "spam.example", check=False)
        assert shown.returncode == 1
        assert b"struck off the register" in shown.stdout


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("guild", {"listed": []}, "no installed package has a broker 'guild' (known: chamber)"),
        ("chamber", {"listed": 7}, "`listed` must be a list of names"),
    ],
)
def test_a_broker_that_cannot_be_used_refuses_the_start(
    plug_in: Path, tmp_path: Path, source: str, options: dict[str, object], words: str
) -> None:
    path = tmp_path / "outrider.toml"
    settings = configuration(loopback_address(), source, **options)
    path.write_text(to_toml({"data_dir": f"{tmp_path}/data", **settings}).replace("{dir}", str(tmp_path)))
    done = subprocess.run(
        [OUTRIDER, "check-config", "--config", path],
        env={**os.environ, "PYTHONPATH": os.fspath(plug_in)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "outrider.toml:" in done.stderr, "the line is not named"
