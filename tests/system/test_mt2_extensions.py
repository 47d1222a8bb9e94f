"""Each shipped extension at work between two running sites (MT2-20, MT2-21a to MT2-21c)."""

from __future__ import annotations

import os
import re
import smtplib
import ssl
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.extensions.hashcash import SPENT
from outrider.extensions.hashcash_stamp import mint
from outrider.extensions.spam_trap import MATCHES
from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER, OutriderServer, to_toml
from tests.peers.rooms import wait_until
from tests.peers.tools import Swaks
from tests.system.mt2_sites import hand_over, mt2_pair, mt2_site, mt2_zone
from tests.system.sites import CONTENT, json_rows, mailbox, site, wait_mailbox

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "outrider-chess"
ANN, BOB = "ann@alpha.example", "bob@beta.example"


@contextmanager
def sites(
    address: str,
    authority: CertificateAuthority,
    alpha: dict[str, Any] | None = None,
    beta: dict[str, Any] | None = None,
    **tables: Any,
) -> Iterator[tuple[OutriderServer, OutriderServer]]:
    """Alpha and beta with these `[mt2.extensions]`; further tables are beta's."""
    near: dict[str, Any] = {"mt2": {"extensions": alpha or {}}}
    far: dict[str, Any] = {"mt2": {"extensions": beta or {}}, **tables}
    with mt2_pair(address, loopback_address(), authority, alpha=near, beta=far) as (a, b, _):
        yield a, b


def send(server: OutriderServer, name: str, to: str, data: str, *words: str, sender: str = ANN) -> None:
    server.cli("extension", "send", name, to, "--from", sender, "--data", data, *words)


def waiting(server: OutriderServer, user: str) -> list[dict[str, Any]]:
    return [row for row in json_rows(server, "consent", "list", user) if row["word"] == "waits"]


def wait_waiting(server: OutriderServer, user: str) -> dict[str, Any]:
    wait_until(lambda: waiting(server, user), f"a request for {user}")
    [row] = waiting(server, user)
    return row


@pytest.fixture
def near(address: str, tmp_path: Path) -> dict[str, Any]:
    """Of alpha: a submission port, at which Ann has a password."""
    users = tmp_path / "users"
    config = tmp_path / "outrider.toml"
    config.write_text(to_toml({**site("alpha.example", address), "data_dir": str(tmp_path / "data")}))
    with config.open("a") as file:
        file.write(f'\n[auth]\nusers_file = "{users}"\n')
    words = ("user", "add", "ann", "--sender", ANN, "--config", str(config))
    subprocess.run([OUTRIDER, *words], input=b"a long password\n", check=True, cwd=tmp_path)
    listeners = [{"protocol": one, "address": address} for one in ("smtp", "submission")]
    return {"auth": {"users_file": str(users)}, "listeners": listeners}


@pytest.mark.covers("MT2-21a", "MT2-2")
def test_a_probe_comes_back_from_the_hop(address: str, authority: CertificateAuthority) -> None:
    with sites(address, authority) as (alpha, beta):
        send(alpha, "trace", BOB, "probe")
        [report] = wait_mailbox(alpha, "ann")
        assert re.search(rb"mx\.beta\.example from mx\.alpha\.example by mt2 over TLSv1\.3", report)
        beta.wait_event("delivered")
        assert not mailbox(beta, "bob"), "there is nothing to read in a probe"


@pytest.mark.covers("MT2-21a", "MT2-2")
def test_a_probe_comes_back_from_every_hop(address: str, authority: CertificateAuthority) -> None:
    """Alpha sends to gamma by way of beta."""
    middle, last = loopback_address(), loopback_address()
    zones = {"gamma.example": mt2_zone(last)}
    near = {"routes": {"gamma.example": "mt2:mx.beta.example"}}
    with (
        mt2_pair(address, middle, authority, zones=zones, alpha=near) as (alpha, _, names),
        OutriderServer(mt2_site("gamma.example", last, authority, names), title="gamma") as gamma,
    ):
        send(alpha, "trace", "bob@gamma.example", "probe")
        reports = b"".join(wait_mailbox(alpha, "ann", 2))
        assert b"mx.beta.example from mx.alpha.example by mt2" in reports
        assert b"mx.gamma.example from mx.beta.example by mt2" in reports
        assert not mailbox(gamma, "bob")


@pytest.mark.covers("MT2-21a", "MT2-11")
def test_the_final_answer_shows_the_hop(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with sites(address, authority, {"options": {"trace": {"ask": True}}}) as (alpha, beta):
        hand_over(swaks_client, address, BOB)
        [delivered] = alpha.wait_event("delivered", protocol="mt2")
        [kept] = beta.wait_event("delivered")
    assert "mx.beta.example from mx.alpha.example by mt2 over TLSv1.3" in str(delivered["text"])
    assert f"as {kept['id']}]" in str(delivered["text"])


@pytest.mark.covers("MT2-21b")
def test_a_duplicate_hashcash_is_refused(address: str, authority: CertificateAuthority) -> None:
    hashcash = {"enabled": ["hashcash"], "options": {"hashcash": {"bits": 12}}}
    with sites(address, authority, beta=hashcash) as (alpha, beta):
        stamp = mint(BOB, 12, time.time(), "twice")
        send(alpha, "hashcash", BOB, stamp, "--critical")
        alpha.wait_event("delivered", protocol="mt2")
        send(alpha, "hashcash", BOB, stamp, "--critical")
        [failed] = alpha.wait_event("failed")
        assert "spent already" in str(failed["text"])
        [spoke] = [one for one in beta.log_events("extension_spoke") if one["code"] == SPENT]
        assert spoke["extension"] == "hashcash"


@pytest.mark.covers("MT2-21c", "MT2-20")
def test_a_vcard_request_waits_for_consent(address: str, authority: CertificateAuthority) -> None:
    with sites(address, authority, {"enabled": ["vcard"]}, {"enabled": ["vcard"]}) as (alpha, beta):
        beta.cli("extension", "enable", "vcard", "--user", BOB)
        alpha.cli("extension", "enable", "vcard", "--user", ANN)
        card = b"BEGIN:VCARD\nVERSION:4.0\nFN:Bob of Beta\nEMAIL:bob@beta.example\nEND:VCARD\n"
        beta.cli("extension", "set", "vcard", BOB, "card", "-", stdin=card)
        send(alpha, "vcard", BOB, "request you are not in my address book")
        row = wait_waiting(beta, BOB)
        assert row["text"] == f"{ANN} asks for your vCard: you are not in my address book"
        assert row["proven"]
        assert not alpha.log_events("extension_acted"), "without his word nothing is answered"
        beta.cli("consent", "allow", str(row["number"]))
        alpha.wait_event("extension_acted", extension="vcard")
        assert waiting(beta, BOB) == []
        assert waiting(alpha, ANN) == [], "she has asked for it: it is kept without another word"


@pytest.mark.covers("MT2-21c", "MT2-2")
def test_a_disposition_is_told_when_the_user_says_so(address: str, authority: CertificateAuthority) -> None:
    with sites(address, authority, beta={"enabled": ["disposition"]}) as (alpha, beta):
        beta.cli("extension", "enable", "disposition", "--user", BOB)
        send(alpha, "disposition", BOB, "request")
        row = wait_waiting(beta, BOB)
        assert not mailbox(alpha, "ann")
        beta.cli("consent", "allow", str(row["number"]))
        [report] = wait_mailbox(alpha, "ann")
        assert b"manual-action/MDN-sent-manually; displayed" in report
        send(alpha, "disposition", BOB, "request")
        row = wait_waiting(beta, BOB)
        beta.cli("consent", "deny", str(row["number"]))
        assert waiting(beta, BOB) == []
        assert len(mailbox(alpha, "ann")) == 1


@pytest.mark.covers("MT2-21b", "MT2-20")
def test_an_allow_list_is_negotiated(address: str, authority: CertificateAuthority) -> None:
    both = {"enabled": ["allow-list"]}
    with sites(address, authority, both, both) as (alpha, beta):
        send(alpha, "allow-list", BOB, "request we met in Prague")
        row = wait_waiting(beta, BOB)
        beta.cli("consent", "allow", str(row["number"]))
        alpha.wait_event("extension_spoke", extension="allow-list", text="Noted.")
        send(alpha, "allow-list", BOB, "")  # carries the token that she was given
        beta.wait_event("extension_spoke", extension="allow-list", text="Welcome.")


@pytest.mark.covers("MT2-21b", "MT2-26")
def test_what_a_trap_caught_is_refused_to_others(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    options = {"spam-trap": {"traps": ["trap@beta.example"], "share_with": ["alpha.example"]}}
    far = {"enabled": ["spam-trap"], "options": options}
    domains = {
        "beta.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["bob", "trap", "postmaster"]}
    }
    near = {"enabled": ["spam-trap"]}
    with sites(address, authority, near, far, domains=domains) as (alpha, beta):
        alpha.cli("extension", "grant", "spam-trap", ".beta.example")
        hand_over(swaks_client, address, "trap@beta.example")
        beta.wait_event("extension_spoke", extension="spam-trap", text="Caught.")
        alpha.wait_event("extension_spoke", extension="spam-trap", text="1 noted.")
        hand_over(swaks_client, address, BOB)
        [failed] = alpha.wait_event("failed")
        assert "nobody has ever used" in str(failed["text"])
        assert beta.wait_event("extension_spoke", code=MATCHES)
        assert not mailbox(beta, "bob")


@pytest.mark.covers("MT2-21c")
def test_a_stranger_waits_until_he_has_answered(
    address: str, authority: CertificateAuthority, near: dict[str, Any]
) -> None:
    near["mt2"] = {"extensions": {"enabled": ["challenge"]}}
    far = {"mt2": {"extensions": {"enabled": ["challenge"]}}}
    with mt2_pair(address, loopback_address(), authority, alpha=near, beta=far) as (alpha, beta, _):
        beta.cli("extension", "enable", "challenge", "--user", BOB)
        alpha.cli("extension", "enable", "challenge", "--user", ANN)
        _submit(address, CONTENT)
        row = wait_waiting(alpha, ANN)
        assert "asks whether you have written to him" in row["text"]
        assert not mailbox(beta, "bob")
        alpha.cli("consent", "allow", str(row["number"]))
        assert len(wait_mailbox(beta, "bob")) == 1


@pytest.mark.covers("MT2-21c", "MT2-28c")
def test_nobody_is_challenged_whose_own_host_only_took_his_word(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    """Alpha seals what came to it by SMTP as Ann's claim; Ann may never have written."""
    both = {"enabled": ["challenge"]}
    with sites(address, authority, both, both) as (alpha, beta):
        beta.cli("extension", "enable", "challenge", "--user", BOB)
        alpha.cli("extension", "enable", "challenge", "--user", ANN)
        hand_over(swaks_client, address, BOB)
        beta.wait_event("deferred")
        assert not mailbox(beta, "bob")
        # A challenge would be stored with the deferral: it is neither in the queue nor gone already.
        assert len(json_rows(beta, "queue", "list")) == 1
        assert not beta.log_events("relayed")
        assert not waiting(alpha, ANN)


@pytest.mark.covers("MT2-21c")
def test_a_list_takes_a_command_from_the_headers_object(
    address: str, authority: CertificateAuthority
) -> None:
    lists = {"dev": {"owners": ["bob"]}}
    domains = {"beta.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["bob"], "lists": lists}}
    with sites(address, authority, beta={"enabled": ["list-command"]}, domains=domains) as (alpha, beta):
        send(alpha, "list-command", "dev-request@beta.example", "subscribe")
        [welcome] = wait_mailbox(alpha, "ann")
        assert b"Welcome to dev" in welcome
        [member] = json_rows(beta, "list", "members", "dev@beta.example")
        assert (member["address"], member["how"]) == (ANN, "by a command of MT2")


@pytest.mark.covers("MT2-19", "MT2-20")
def test_an_unknown_critical_extension_refuses_the_message(
    address: str, authority: CertificateAuthority
) -> None:
    with sites(address, authority, {"enabled": ["hashcash"]}) as (alpha, beta):
        send(alpha, "hashcash", BOB, "1:0:260101:x::y:z", "--critical")
        [failed] = alpha.wait_event("failed")
        assert "critical" in str(failed["text"]).lower()
        assert not beta.log_events("message_received")


@pytest.mark.covers("MT2-21b")
def test_a_notification_tells_that_it_is_in_the_mailbox(
    address: str, authority: CertificateAuthority, near: dict[str, Any]
) -> None:
    with mt2_pair(address, loopback_address(), authority, alpha=near) as (alpha, beta, _):
        _submit(address, b"MT2-Notification: delivered\r\n" + CONTENT)
        [message] = wait_mailbox(beta, "bob")
        assert b"MT2-Notification: delivered" in message
        [report] = wait_mailbox(alpha, "ann")
        assert b"bob@beta.example: delivered: In the mailbox." in report


def _submit(address: str, content: bytes) -> None:
    """As Ann, by a session of SMTP with a login."""
    with smtplib.SMTP(address, 587) as client:
        client.starttls(context=ssl._create_unverified_context())
        client.login("ann", "a long password")
        client.sendmail(ANN, [BOB], content)


@pytest.fixture
def chess_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as an installed package: its modules and its entry point."""
    about = tmp_path / "outrider_chess-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outrider-chess\nVersion: 0.1.0\n")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    [(group, points)] = project["entry-points"].items()
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (about / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(EXAMPLE / "src"))))


@pytest.mark.covers("MT2-21c", "MT2-20")
@pytest.mark.usefixtures("chess_installed")
def test_a_game_of_chess_is_played_by_mail(address: str, authority: CertificateAuthority) -> None:
    both = {"enabled": ["chess"]}
    with sites(address, authority, both, both) as (alpha, beta):
        [row] = [row for row in json_rows(alpha, "extension", "list") if row["name"] == "chess"]
        assert (row["from"], row["kind"]) == ("outrider-chess", "recipient")
        alpha.cli("extension", "enable", "chess", "--user", ANN)
        beta.cli("extension", "enable", "chess", "--user", BOB)
        send(alpha, "chess", BOB, "invite spring white")
        row = wait_waiting(beta, BOB)
        assert row["text"] == f"{ANN} invites you to a game of chess, spring, and plays white"
        beta.cli("consent", "allow", str(row["number"]))
        [accepted] = wait_mailbox(alpha, "ann")
        assert b"accepts the game spring" in accepted
        send(alpha, "chess", BOB, "move spring e2e4")
        [letter] = wait_mailbox(beta, "bob")
        assert b"4 . . . . P . . ." in letter
        send(beta, "chess", ANN, "move spring e7e5", sender=BOB)
        assert b"5 . . . . p . . ." in wait_mailbox(alpha, "ann", 2)[1]
        refused = alpha.cli(
            *("extension", "send", "chess", BOB, "--from", ANN, "--data", "move spring e4e5"), check=False
        )
        assert b"against the rules" in refused.stderr
