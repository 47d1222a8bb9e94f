"""Lists on a running server: who is on one is refused with the list named, and silence costs no mail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.peers.tools import Swaks, SwaksResult
from tests.system.sites import CONTENT, json_rows, queue_id, site

RULES = [
    {
        "name": "listed clients",
        "action": "refuse",
        "when": {"client.listed": "zen"},
        "unless": {"client.vouched": "friends"},
        "reason": "Your address is on a list",
    },
    {
        "name": "too bad",
        "action": "refuse",
        "when": {"trust.score": {"min": 3}},
        "reason": "Too many lists know you",
    },
]


def reversed_octets(address: str) -> str:
    return ".".join(reversed(address.split(".")))


def trusting(bind: BindServer, address: str, **lists: dict[str, Any]) -> dict[str, Any]:
    all_lists: dict[str, Any] = {
        "zen": {"kind": "dnsbl", "source": "zen.example", "weight": 2, "timeout": 1.0},
        "mine": {"kind": "block-file", "source": "{dir}/block", "weight": 5},
        "friends": {"kind": "vouch-file", "source": "{dir}/friends", "weight": 3},
        **lists,
    }
    return site(
        "alpha.example",
        address,
        policy={"rules": RULES},
        dns={"servers": [f"{bind.address}:{bind.port}"], "timeout": 3.0},
        trust={"lists": all_lists, "cache": 1.0},
    )


class Trusting(OutriderServer):
    """With the files of its lists."""

    def write_configuration(self, configuration: Any) -> None:
        self.list_file("block", "")
        self.list_file("friends", "")
        super().write_configuration(configuration)

    def list_file(self, name: str, text: str) -> None:
        """Put a list in place as an operator does: at once."""
        path = Path(self.folder) / name
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)


def send(swaks: Swaks, server: str, source: str, sender: str = "eve@far.example") -> SwaksResult:
    return swaks.send(
        server,
        25,
        "--local-interface",
        source,
        sender=sender,
        recipients=["ann@alpha.example"],
        content=CONTENT,
    )


@pytest.mark.covers("ITP-3", "ITP-5")
def test_who_is_on_a_list_is_refused_and_who_is_vouched_for_is_not(address: str, swaks_client: Swaks) -> None:
    bad, good = loopback_address(), loopback_address()
    zone = f"2.0.0.127 A 127.0.0.2\n{reversed_octets(bad)} A 127.0.0.4"
    with (
        BindServer({"zen.example": zone}) as bind,
        Trusting(trusting(bind, address), title="alpha") as server,
    ):
        refused = send(swaks_client, address, bad)
        reply = next(line for line in refused.replies() if line.startswith("5"))
        assert reply == "554 5.7.1 Your address is on a list (rule listed clients)"
        passed = send(swaks_client, address, good)
        [row] = json_rows(server, "explain", queue_id(passed))
        facts = {fact["name"]: fact for fact in row["facts"]}
        assert facts["client.listed"]["value"] == []
        assert facts["trust.score"]["value"] == 0
        assert facts["trust.score"]["provenance"] == "vouched"
        server.list_file("friends", f"{bad}  # an old friend\n")
        wait_until(lambda: send(swaks_client, address, bad).status == 0, "the friend to be let in")
        server.list_file("block", ".far.example\n")
        wait_until(
            lambda: any(
                "Too many lists know you" in line for line in send(swaks_client, address, good).replies()
            ),
            "the domain to be refused",
        )
        [event] = server.wait_event("trust_file_read", list="friends")
        assert event["entries"] == 1


@pytest.mark.covers("ITP-3", "SEC-154")
def test_a_list_that_does_not_answer_blocks_nothing(address: str, swaks_client: Swaks) -> None:
    bad = loopback_address()
    zone = f"2.0.0.127 A 127.0.0.2\n{reversed_octets(bad)} A 127.0.0.4"
    with BindServer({"zen.example": zone}) as bind, Trusting(trusting(bind, address)) as server:
        bind.stop()
        for _ in range(4):
            assert send(swaks_client, address, bad).status == 0
        [event] = server.wait_event("trust_list_silent", list="zen")
        assert event["result"] == "silent"


@pytest.mark.covers("ITP-3", "ITP-5")
def test_the_commands(address: str) -> None:
    zone = "2.0.0.127 A 127.0.0.2\n7.2.0.192 A 127.0.0.4"
    with BindServer({"zen.example": zone}) as bind, Trusting(trusting(bind, address)) as server:
        server.list_file("block", ".spam.example\n")
        listed = server.cli("trust", "check", "192.0.2.7", check=False)
        assert listed.returncode == 1
        assert b"zen\tdnsbl\tclient 192.0.2.7\thit\t2\t127.0.0.4" in listed.stdout
        assert listed.stdout.endswith(b"score 2\n")
        clean = server.cli("trust", "check", "192.0.2.8")
        assert clean.stdout.endswith(b"score 0\n")
        domain = json_rows(server, "trust", "check", "eve@mx.spam.example", check=False)
        assert {"list": "mine", "said": "hit"}.items() <= domain[0].items()
        lists = server.cli("trust", "lists")
        assert b"zen\tdnsbl\tzen.example\t2\talive" in lists.stdout
        bind.stop()
        assert server.cli("trust", "lists", check=False).returncode == 1
        assert server.cli("trust", "check", "not a name", check=False).returncode == 2


@pytest.mark.covers("ITP-3", "ITP-4a")
def test_lists_that_cannot_be_used_refuse_the_configuration(address: str) -> None:
    with BindServer({"zen.example": ""}) as bind, Trusting(trusting(bind, address)) as server:
        server.list_file("block", "good.example\nnot a name\n")
        done = server.cli("check-config", check=False)
        assert done.returncode == 1
        assert b"trust.lists.mine.source" in done.stderr
        assert b"line 2: 'not a name'" in done.stderr
        Path(server.folder / "block").unlink()
        assert b"No such file" in server.cli("check-config", check=False).stderr
