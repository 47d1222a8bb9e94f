"""Two sites, one of which wants postage: bought over HTTPS, redeemed at the call-back (AMDP-20)."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.model.address import parse_address, parse_domain
from outrider.runtime.postage_parts import new_secret
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER, OutriderServer, to_toml
from tests.peers.rooms import wait_until
from tests.peers.tools import Swaks
from tests.reception.envelope_rig import held, octets
from tests.system.mt2_sites import hand_over, mt2_pair, mt2_zone
from tests.system.sites import Settings, body_of, json_rows, mailbox, site, smtp_dialogue, wait_mailbox

LETTER = b"From: Ann <ann@alpha.example>\r\nTo: bob@beta.example\r\nSubject: paid\r\n\r\nworth it\r\n"


PRICED = {"*": "0.001"}


def zone(address: str) -> str:
    return f"@ MX 10 mx\n@ A {address}\nmx A {address}\nmhf-1 A {address}\namdp-mis A {address}"


def settings(
    domain: str, address: str, authority: CertificateAuthority, names: BindServer, **amdp: Any
) -> Settings:
    hosts = (f"{one}.{domain}" for one in ("mx", "mhf-1", "amdp-mis"))
    made = site(domain, address, tls=authority.issue(*hosts))
    made["listeners"].append({"protocol": "amdp", "address": address})
    made["dns"] = {"servers": [f"{names.address}:{names.port}"]}
    made["amdp"] = amdp
    return made


@contextmanager
def running(
    authority: CertificateAuthority, key_file: Path, accept: Mapping[str, str] = PRICED, **tables: Any
) -> Iterator[tuple[OutriderServer, OutriderServer, str]]:
    """alpha holds, and has an account at beta, which wants what `accept` says for all mail; alpha's
    address. `tables` are beta's."""
    alpha_at, beta_at = loopback_address(), loopback_address()
    with BindServer({"alpha.example": zone(alpha_at), "beta.example": zone(beta_at)}) as names:
        beta = settings(
            "beta.example", beta_at, authority, names,
            roles=["img", "mis"], policy={"accept": dict(accept)}, incoming={"window": 0},
            postage={"provider": "ledger"},
        ) | tables  # fmt: skip
        with OutriderServer(beta, title="beta") as receiver:
            opened = ("postage", "account", "open", "alpha", "alpha.example", "--key-file", str(key_file))
            receiver.cli(*opened)
            alpha = settings(
                "alpha.example", alpha_at, authority, names,
                roles=["omg", "mhf", "mis"], outgoing={"hold": "all", "classes": {"*": "Agent::Business"}},
                postage={"accounts": {"beta.example": f"alpha:{key_file}"}},
            )  # fmt: skip
            with OutriderServer(alpha, title="alpha") as sender:
                yield sender, receiver, alpha_at


@pytest.mark.covers("AMDP-20", "AMDP-3", "SEC-191")
def test_mail_waits_until_its_postage_can_be_paid_and_pays_once(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    with running(authority, tmp_path / "beta.postage") as (sender, receiver, address):
        lines = (b"EHLO client.example", b"MAIL FROM:<ann@alpha.example>", b"RCPT TO:<bob@beta.example>")
        assert smtp_dialogue(address, 25, *lines, b"DATA", LETTER + b".")[-1].startswith(b"250 ")
        receiver.wait_event("postage_refused", why="order", text="the account has too little")
        assert not mailbox(receiver, "bob")
        receiver.cli("postage", "credit", "alpha", "0.005", "--reference", "invoice 1")
        (message,) = wait_mailbox(receiver, "bob")
        assert body_of(message) == b"worth it\n"
        sender.wait_event("postage_bought", amount=1)
        receiver.wait_event("postage_redeemed", payer="alpha.example")
        assert sums(receiver) == ("0.004", "0.000", "0.001")


@pytest.mark.covers("AMDP-20", "AMDP-23")
def test_what_a_content_rule_refuses_after_the_fetch_costs_its_sender_nothing(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    rules = [{"name": "no offers", "action": "refuse", "when": {"header.x-kind": "offer"}}]
    with running(authority, tmp_path / "beta.postage", policy={"rules": rules}) as (
        _,
        receiver,
        address,
    ):
        receiver.cli("postage", "credit", "alpha", "0.005", "--reference", "invoice 1")
        lines = (b"EHLO client.example", b"MAIL FROM:<ann@alpha.example>", b"RCPT TO:<bob@beta.example>")
        for letter in (b"X-Kind: offer\r\n" + LETTER.replace(b"paid", b"refused"), LETTER):
            assert smtp_dialogue(address, 25, *lines, b"DATA", letter + b".")[-1].startswith(b"250 ")
        receiver.wait_event("postage_redeemed", count=2)
        receiver.wait_event("amdp_lost", why="refused")
        receiver.wait_event("postage_returned", account="alpha")
        (message,) = wait_mailbox(receiver, "bob")
        assert b"Subject: paid\n" in message, "the other is not even announced"
        assert sums(receiver) == ("0.004", "0.000", "0.001")


@pytest.mark.covers("AMDP-18", "AMDP-20", "ITP-4c")
def test_what_a_sender_calls_his_mail_makes_it_no_cheaper(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    """Business costs nothing here, for whom somebody vouches; nobody does for alpha. Alpha reads that, and
    pays; who does not is refused in the session."""
    accept = {"*": "", "*::Bulk::*": "0.001"}
    with running(authority, tmp_path / "beta.postage", accept=accept) as (_, receiver, address):
        receiver.cli("postage", "credit", "alpha", "0.005", "--reference", "invoice 1")
        lines = (b"EHLO client.example", b"MAIL FROM:<ann@alpha.example>", b"RCPT TO:<bob@beta.example>")
        assert smtp_dialogue(address, 25, *lines, b"DATA", LETTER + b".")[-1].startswith(b"250 ")
        wait_mailbox(receiver, "bob")
        assert sums(receiver) == ("0.004", "0.000", "0.001")
        envelope = held(
            sender=parse_address("ann@alpha.example"), recipient=parse_address("bob@beta.example"),
            holder=parse_domain("mhf-1.alpha.example"), date=1, timestamp=int(time.time()),
            expires=int(time.time()) + 999,
        )  # fmt: skip
        lines = (b"EHLO x.example", b"MAIL FROM:<ann@alpha.example> AMDP", b"RCPT TO:<bob@beta.example>")
        [where] = [one for one in receiver.log_events("ready")[0]["listeners"] if one.startswith("smtp ")]  # type: ignore[attr-defined]
        reply = smtp_dialogue(
            where.split()[1].partition(":")[0], 25, *lines, b"DATA", octets(envelope) + b"."
        )[-1]
        assert reply.startswith(b"550 5.7.1 "), reply
        assert b"PAY-UNVOUCHED 0.001" in reply


def submission(address: str, folder: Path) -> Settings:
    """Tables of alpha: a submission port, at which Ann has a password."""
    users, config = folder / "users", folder / "outrider.toml"
    config.write_text(to_toml({**site("alpha.example", address), "data_dir": str(folder / "data")}))
    with config.open("a") as file:
        file.write(f'\n[auth]\nusers_file = "{users}"\n')
    words = ("user", "add", "ann", "--sender", "ann@alpha.example", "--config", str(config))
    subprocess.run([OUTRIDER, *words], input=b"a long password\n", check=True, cwd=folder)
    listeners = [{"protocol": one, "address": address} for one in ("smtp", "submission")]
    return {"auth": {"users_file": str(users)}, "listeners": listeners}


def submit(address: str, authority: CertificateAuthority) -> None:
    context = ssl.create_default_context(cafile=str(authority.authority))
    context.check_hostname = False
    with smtplib.SMTP(address, 587, timeout=60) as client:
        client.starttls(context=context)
        client.login("ann", "a long password")
        client.sendmail("ann@alpha.example", ["bob@beta.example"], LETTER)


@pytest.mark.covers("MT2-21d", "AMDP-20", "SEC-191")
def test_mt2_s_mail_pays_at_the_same_ledger(
    address: str, authority: CertificateAuthority, tmp_path: Path, swaks_client: Swaks
) -> None:
    far_at, key_file = loopback_address(), tmp_path / "beta.postage"
    key_file.write_text(f"{new_secret()}\n")
    service = authority.issue("amdp-mis.beta.example")
    sni = [{"names": ["amdp-mis.beta.example"], "certificate": service.certificate, "key": service.key}]
    far: Settings = {
        "mt2": {"extensions": {"enabled": ["postage"], "options": {"postage": {"require": "always"}}}},
        "amdp": {"roles": ["mis"], "postage": {"provider": "ledger"}},
        "listeners": [{"protocol": one, "address": far_at} for one in ("smtp", "amdp")],
        "tls": {"sni": sni},
    }
    pays = {"enabled": ["postage"], "options": {"postage": {"pay": {"beta.example": "0.001"}}}}
    near: Settings = {
        **submission(address, tmp_path),
        "mt2": {"extensions": pays},
        "amdp": {"postage": {"accounts": {"beta.example": f"alpha:{key_file}"}}},
    }
    zones = {"beta.example": f"{mt2_zone(far_at)}\namdp-mis A {far_at}"}
    with mt2_pair(address, far_at, authority, zones=zones, alpha=near, beta=far) as (alpha, beta, _):
        beta.cli("postage", "account", "open", "alpha", "alpha.example", "--key-file", str(key_file))
        beta.cli("postage", "credit", "alpha", "0.005", "--reference", "invoice 1")
        alpha.reload()
        submit(address, authority)
        (message,) = wait_mailbox(beta, "bob")
        assert body_of(message) == b"worth it\n"
        alpha.wait_event("delivered", protocol="mt2")
        wait_until(lambda: sums(beta) == ("0.004", "0.000", "0.001"), "a receipt to be spent")
        hand_over(swaks_client, address)  # by nobody who has logged in: nothing is paid
        [failed] = alpha.wait_event("failed")
        assert "Postage of 0.001 USD" in str(failed["text"])


def sums(server: OutriderServer) -> tuple[str, str, str]:
    """Balance, open or reserved, spent."""
    [row] = json_rows(server, "postage", "ledger", "alpha")
    assert "0.000" in (row["open"], row["reserved"])
    return row["balance"], max(row["open"], row["reserved"]), row["spent"]
