"""The subscription and the classification service as people and other sites have them: a real server, real
letters."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER, OutriderServer, to_toml
from tests.system.sites import headers_of, json_rows, site, smtp_dialogue, wait_mailbox

MIS = "amdp-mis.beta.example"
NEWS = "mhf-1.news.example"
LETTER = "Agent::Bulk::letter"


@dataclass
class World:
    """The receiving site beta.example, and the configuration of the sender news.example."""

    server: OutriderServer
    address: str
    sender: Path
    context: ssl.SSLContext

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, str]:
        """Ask the service as a stranger's program does."""
        headers = {"Host": MIS, "Content-Type": kind}
        request = urllib.request.Request(f"https://{self.address}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def apply(self, address: str, sender: str) -> None:
        body = json.dumps({"wish": "accept", "address": address, "sender": sender}).encode()
        assert self.ask("/amdp/v1/subscriptions/apply", body) == (200, '{"done":true}')

    def press(self, path: str) -> int:
        """The one button of a page."""
        return self.ask(path, b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded")[0]

    def at_news(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(OUTRIDER), *words, "--json", "--config", str(self.sender)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all tests here: each is about another person."""
    tmp_path = tmp_path_factory.mktemp("sites")
    authority = CertificateAuthority(tmp_path / "authority")
    address = loopback_address()
    zones = {"beta.example": f"@ MX 10 mx\nmx A {address}\namdp-mis A {address}", "news.example": "@ TXT x"}
    (tmp_path / "vouched").write_text("news.example Agent::Bulk::*\n")
    context = ssl.create_default_context(cafile=str(authority.authority))
    context.check_hostname = False  # called by address here
    with BindServer(zones) as names:
        dns = {"servers": [f"{names.address}:{names.port}"]}
        beta = site("beta.example", address, tls=authority.issue("mx.beta.example", MIS))
        beta["listeners"].append({"protocol": "amdp", "address": address})
        beta["domains"]["beta.example"]["lists"] = {"staff": {"owners": ["ann"], "posting": "anyone"}}
        beta["dns"] = dns
        beta["amdp"] = {
            "roles": ["mis", "subscriptions", "classification"],
            "subscriptions": {"synch_clients": ["news.example"], "min_ratio": 40},
            "classification": {"vouched": str(tmp_path / "vouched")},
        }
        news = site("news.example", address, tls=authority.issue(NEWS, "mx.news.example"))
        news["dns"] = dns
        news["amdp"] = {"classification": {"services": [f"https://{MIS}"]}}
        sender = tmp_path / "news.toml"
        sender.write_text(to_toml({**news, "data_dir": str(tmp_path)}).replace("{dir}", str(tmp_path)))
        with OutriderServer(beta) as server:
            yield World(server, address, sender, context)


def link_in(message: bytes) -> str:
    [path] = re.findall(rf"https://{re.escape(MIS)}(/\S+)", message.decode())
    return str(path)


@pytest.mark.covers("AMDP-19")
def test_a_wish_is_confirmed_by_letter_told_to_its_sender_and_ended_at_one_click(world: World) -> None:
    world.apply("ann@beta.example", "news.example")
    world.apply("nobody@beta.example", "news.example")
    [letter] = wait_mailbox(world.server, "ann")
    path = link_in(letter)
    assert world.ask(path)[0] == 200
    assert json_rows(world.server, "subscriptions", "list") == []
    assert world.press(path) == 200
    [wish] = json_rows(world.server, "subscriptions", "list")
    assert (wish["address"], wish["wish"], wish["sender"]) == ("ann@beta.example", "accept", "news.example")

    words = (
        "subscriptions",
        "synchronise",
        "beta.example",
        "-",
        "--sender",
        "news.example",
        "--class",
        LETTER,
    )
    told = world.at_news(*words, stdin="ann@beta.example\nbob@beta.example\n")
    assert told.returncode == 0, told.stderr
    [row] = [json.loads(line) for line in told.stdout.splitlines()]
    assert row["address"] == "ann@beta.example"
    harvest = world.at_news(*words, stdin="".join(f"{name}@beta.example\n" for name in ("ann", "bob", "x")))
    assert harvest.returncode == 1
    assert "too few" in harvest.stderr
    assert world.press(row["leave"].removeprefix(f"https://{MIS}")) == 200
    assert json_rows(world.server, "subscriptions", "list") == []


@pytest.mark.covers("AMDP-19")
def test_a_list_is_joined_by_its_letter_and_left_by_the_link_in_each_copy(world: World) -> None:
    world.apply("bob@beta.example", "staff@beta.example")
    [letter] = wait_mailbox(world.server, "bob")
    assert world.press(link_in(letter)) == 200
    assert [one["address"] for one in json_rows(world.server, "list", "members", "staff@beta.example")] == [
        "bob@beta.example"
    ]
    post = b"From: <eve@far.example>\r\nTo: <staff@beta.example>\r\nSubject: post\r\n\r\nx\r\n."
    lines = (
        b"EHLO x",
        b"MAIL FROM:<eve@far.example>",
        b"RCPT TO:<staff@beta.example>",
        b"DATA",
        post,
        b"QUIT",
    )
    smtp_dialogue(world.address, 25, *lines)
    copy = wait_mailbox(world.server, "bob", 2)[-1]
    headers = headers_of(copy).decode()
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click\n" in headers
    [link] = re.findall(r"List-Unsubscribe: <(https://[^>]+)>, <mailto:", headers)
    assert world.press(link.removeprefix(f"https://{MIS}")) == 200
    assert json_rows(world.server, "list", "members", "staff@beta.example") == []


@pytest.mark.covers("AMDP-18")
def test_another_site_asks_what_a_domain_is_vouched_for(world: World) -> None:
    known = world.at_news("classification", "show", "news.example")
    assert known.returncode == 0, known.stderr
    row = json.loads(known.stdout)
    assert (row["classes"], row["service"]) == (["Agent::Bulk::*"], MIS)
    unknown = world.at_news("classification", "show", "other.example")
    assert (unknown.returncode, json.loads(unknown.stdout)["result"]) == (1, "unknown")
