"""Partners: mail in their name comes by what is agreed, from their hosts, or is reported, held or refused."""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any

import pytest

from tests.identity.openssl import Made
from tests.peers.outrider_server import OutriderServer, to_toml
from tests.system.amtp_callers import World, metric
from tests.system.sites import CONTENT as PLAIN_CONTENT
from tests.system.sites import Settings, queued, smtp_dialogue, wait_mailbox

CONTENT = PLAIN_CONTENT.replace(b"\r\n.", b"\r\n..").replace(b"ann@alpha.example", b"ann@bank.example")
HOST = "out.bank.example"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Authorities and the server's certificate."""
    return World(tmp_path)


def bank(mode: str = "refuse", **more: Any) -> dict[str, Any]:
    """The entry of a partner."""
    entry = {"sender_domains": ["bank.example"], "hosts": [HOST], "inbound": "amtp", "inbound_mode": mode}
    return {"bank": {**entry, **more}}


def both_listeners(world: World) -> list[dict[str, Any]]:
    return [
        {"protocol": "amtp", "address": world.address},
        {"protocol": "smtp", "address": world.address, "port": 25},
    ]


def forge(address: str, sender: bytes, content: bytes = CONTENT) -> list[bytes]:
    """A message by plain SMTP; the replies from MAIL on, as far as they go."""
    lines = [b"EHLO mail.forger.example", b"MAIL FROM:<" + sender + b">", b"RCPT TO:<bob@alpha.example>"]
    replies = smtp_dialogue(address, 25, *lines)[2:]
    if replies[-1].startswith(b"250"):
        replies = smtp_dialogue(address, 25, *lines, b"DATA", content + b".")[2:]
    return replies


@pytest.mark.covers("ITP-8", "AMTP-2a")
def test_a_forger_on_port_25_is_refused_and_the_partner_is_not(world: World) -> None:
    caller = world.host(HOST)
    with world.name_server() as dns:
        settings = world.settings(dns, listeners=both_listeners(world), partners=bank())
        with OutriderServer(settings) as server:
            by_envelope = forge(world.address, b"ann@bank.example")
            by_field = forge(world.address, b"eve@forger.example")
            harmless = forge(world.address, b"eve@forger.example", CONTENT.replace(b"bank", b"other"))
            with caller.connect(world.address) as link:
                assert link.code(f"EHLO {HOST}") == 250
                assert link.code("MAIL FROM:<ann@bank.example> MPC=com/individual") == 250
                assert link.code("RCPT TO:<bob@alpha.example>") == 250
                assert link.content(CONTENT).startswith(b"250 ")
            wait_mailbox(server, "bob", 2)
            broken = server.log_events("partner_terms_broken")
            labels = {"partner": "bank", "outcome": "refuse"}
            assert metric(world.address, "outrider_partner_terms_broken_total", **labels) == 2
    assert by_envelope[0].startswith(b"550 5.7.1 ")
    assert b"must come by amtp, this came by plain SMTP" in by_envelope[0]
    assert by_field[-1].startswith(b"550 5.7.1 ")
    assert harmless[-1].startswith(b"250 ")
    assert [event["partner"] for event in broken] == ["bank", "bank"]


@pytest.mark.covers("ITP-8", "ITP-5")
def test_report_mode_lets_it_through_and_says_so(world: World) -> None:
    listeners = both_listeners(world)[1:]
    settings = world.settings(None, listeners=listeners, partners=bank("report"))
    with OutriderServer(settings) as server:
        assert forge(world.address, b"ann@bank.example")[-1].startswith(b"250 ")
        wait_mailbox(server, "bob")
        [received] = server.wait_event("received")
        shown = server.cli("explain", str(received["id"])).stdout.decode()
        [broken] = [one for one in server.log_events("partner_terms_broken") if one["id"] == received["id"]]
    assert broken["outcome"] == "report"
    assert "must come by amtp, this came by plain SMTP" in shown


@pytest.mark.covers("ITP-8")
def test_hold_mode_keeps_it_for_the_operator(world: World) -> None:
    listeners = both_listeners(world)[1:]
    with OutriderServer(world.settings(None, listeners=listeners, partners=bank("hold"))) as server:
        assert forge(world.address, b"ann@bank.example")[-1].startswith(b"250 ")
        [row] = queued(server)
    assert row["state"] == "held"


@pytest.mark.covers("ITP-8", "SEC-152")
def test_a_partners_host_sends_for_its_own_domains_only(world: World) -> None:
    caller = world.host(HOST)
    with world.name_server() as dns, OutriderServer(world.settings(dns, partners=bank())) as server:
        with caller.connect(world.address) as link:
            assert link.code(f"EHLO {HOST}") == 250
            foreign = link.say("MAIL FROM:<ann@shop.example> MPC=com/individual")
            assert link.code("MAIL FROM:<> MPC=net/autoresponse") == 250
        [broken] = server.wait_event("partner_terms_broken")
    assert foreign.startswith(b"550 5.7.1 ")
    assert b"hosts of bank may not send for shop.example" in foreign
    assert broken["outcome"] == "refuse"


@pytest.mark.covers("ITP-8", "AMTP-1")
def test_a_partner_in_the_folder_may_have_an_authority_of_its_own(world: World) -> None:
    """And then nobody else's certificate for its host's name makes a host the partner's."""
    root = world.maker.root("Bank root")
    true = world.host(HOST, certificate=world.maker.host(root, f"DNS:{HOST}"))
    false = world.host(HOST)
    other = world.host("x.bank.example", certificate=world.maker.host(root, "DNS:x.bank.example"))
    with world.name_server() as dns, _PartnerSite(world.settings(dns), root) as server:
        with true.connect(world.address) as link:
            assert link.code(f"EHLO {HOST}") == 250
            assert link.code("MAIL FROM:<ann@bank.example> MPC=com/individual") == 250
        with false.connect(world.address) as link:
            assert link.code(f"EHLO {HOST}") == 250
            refused = link.say("MAIL FROM:<ann@bank.example> MPC=com/individual")
            assert link.code("MAIL FROM:<ann@shop.example> MPC=com/individual") == 250
        with other.connect(world.address) as link:
            assert link.code("EHLO x.bank.example") == 504
        [unknown] = server.wait_event("amtp_refused")
    assert b"must come from a host of bank" in refused
    assert unknown["check"] == "unknown-ca"


class _PartnerSite(OutriderServer):
    """A server with a partner folder, whose file names the CA beside it."""

    def __init__(self, settings: Settings, root: Made) -> None:
        super().__init__(settings)
        self._root = root

    def start(self) -> None:
        folder = self.folder / "partners"
        folder.mkdir(exist_ok=True)
        (folder / "bank.pem").write_bytes(self._root.certificate.read_bytes())
        (folder / "bank.toml").write_text(to_toml(bank(ca=["bank.pem"])["bank"]))
        super().start()


@pytest.mark.covers("ITP-8")
def test_a_partner_file_takes_effect_by_a_reload(world: World) -> None:
    with OutriderServer(world.settings(None, listeners=both_listeners(world)[1:])) as server:
        assert forge(world.address, b"ann@bank.example")[-1].startswith(b"250 ")
        folder = server.folder / "partners"
        folder.mkdir()
        (folder / "bank.toml").write_text(to_toml({**bank()["bank"], "host": 1}))
        server.reload()
        [refused] = server.wait_event("reload_refused")
        assert forge(world.address, b"ann@bank.example")[-1].startswith(b"250 ")
        (folder / "bank.toml").write_text(to_toml(bank()["bank"]))
        server.reload()
        server.wait_event("reloaded")
        assert forge(world.address, b"ann@bank.example")[0].startswith(b"550 5.7.1 ")
    assert f"{folder / 'bank.toml'}:" in str(refused["text"])


@pytest.mark.covers("ITP-8", "TLS-2b")
def test_mutual_tls_over_smtp_is_enough_where_that_is_agreed(world: World) -> None:
    made = world.maker.host(world.public, f"DNS:{HOST}")
    partners = bank(inbound="tls-mutual")
    settings = world.settings(None, listeners=both_listeners(world)[1:], partners=partners)
    with OutriderServer(settings):
        for certificate, code in ((made, 250), (None, 550)):
            caller = world.host("unused.example", certificate=certificate)
            context = caller.context() if certificate else _bare(world)
            with smtplib.SMTP(world.address, 25, local_hostname=HOST, timeout=30) as client:
                client.starttls(context=context)
                client.ehlo()
                assert client.mail("ann@bank.example")[0] == code


def _bare(world: World) -> Any:
    from tests.system.amtp_callers import Caller

    return Caller(world.address).context()
