"""Two sites become partners: one file each way, a link under mutual TLS, and then forgers on port 25 are
refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks, SwaksResult
from tests.system.amtp_sites import amtp_site, amtp_zone, hand_over, reverse_zone
from tests.system.mt2_sites import MT2_PORT
from tests.system.sites import CONTENT, body_of, wait_mailbox

PARTNER = {"alpha": "beta.example", "beta": "alpha.example"}


@dataclass(frozen=True)
class Pair:
    """Two running sites, each with an authority of its own that the other does not know."""

    alpha: OutriderServer
    beta: OutriderServer
    alpha_address: str
    beta_address: str
    papers: Path

    def exchange(self) -> None:
        """Each writes an invitation and accepts the other's, by its words."""
        for site in (self.alpha, self.beta):
            file = self.papers / f"{site.title}.json"
            authority = self.papers / site.title / "CA.pem"
            written = site.cli("partner", "invite", "--output", str(file), "--ca", str(authority))
            words = written.stderr.decode().split("\n")[1].strip()
            (self.papers / f"{site.title}.words").write_text(words)
        for site, other in ((self.alpha, "beta"), (self.beta, "alpha")):
            words = (self.papers / f"{other}.words").read_text()
            accepted = site.cli("partner", "accept", str(self.papers / f"{other}.json"), "--words", words)
            assert b"Accepted" in accepted.stdout

    def forge(self, swaks_client: Swaks, sender: str, *options: str, **more: Any) -> SwaksResult:
        """Mail whose From field names alpha's ann, brought to beta by SMTP."""
        more = {"sender": sender, "recipients": ["bob@beta.example"], "content": CONTENT, **more}
        return swaks_client.send(self.beta_address, 25, *options, **more)

    def trial(self, site: OutriderServer, *words: str) -> dict[str, dict[str, str]]:
        """The lines of `partner test` by subject."""
        done = site.cli("partner", "test", PARTNER[site.title], "--json", *words, check=False)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        bad = any(row["result"] == "bad" for row in rows)
        assert done.returncode == int(bad), done.stderr.decode()
        return {row["subject"]: row for row in rows}


@contextmanager
def strangers(
    folder: Path,
    *,
    reverse: bool = True,
    amtp: bool = True,
    mt2: Sequence[str] = (),
    published: bool = True,
) -> Iterator[Pair]:
    """Alpha and beta before they know each other; those of `mt2` take mail by MT2 too, and their DNS says so
    if `published`."""
    alpha_address, beta_address = loopback_address(), loopback_address()
    hosts = {alpha_address: "mx.alpha.example", beta_address: "mx.beta.example"}
    zones = {
        f"{name}.example": amtp_zone(address) if amtp else f"@ MX 10 mx\nmx A {address}"
        for name, address in (("alpha", alpha_address), ("beta", beta_address))
    }
    for name in mt2 if published else ():
        zones[f"{name}.example"] += f"\n_mt2._tcp SRV 10 1 {MT2_PORT} mx"
    authorities = {name: CertificateAuthority(folder / name, "CA") for name in ("alpha", "beta")}
    with BindServer({**zones, **reverse_zone(hosts if reverse else {})}) as names:

        def settings(name: str, address: str) -> dict[str, object]:
            users = ["ann", "bob", "postmaster"]
            plain = amtp_site(f"{name}.example", address, authorities[name], names, users=users)
            listeners = [one for one in plain["listeners"] if amtp or one["protocol"] != "amtp"]
            if name in mt2:
                listeners.append({"protocol": "mt2", "address": address})
            return {**plain, "listeners": listeners, "log": {"file": "{dir}/mail.log"}}

        with (
            Quiet(settings("beta", beta_address), title="beta") as beta,
            Quiet(settings("alpha", alpha_address), title="alpha") as alpha,
        ):
            yield Pair(alpha, beta, alpha_address, beta_address, folder)


class Quiet(OutriderServer):
    """A server whose log is a file of its own."""

    @property
    def logs(self) -> list[Path]:
        """Both: what is written before the log is open, and the log."""
        return [*super().logs, self.folder / "mail.log"]


@pytest.mark.covers("ITP-8", "AMTP-5", "AMTP-2a")
def test_from_strangers_to_partners(tmp_path: Path, swaks_client: Swaks) -> None:
    with strangers(tmp_path) as pair:
        alpha, beta = pair.alpha, pair.beta
        pair.exchange()

        found = pair.trial(alpha)
        assert found["connection"]["result"] == "ok", found
        assert "verified" in found["connection"]["text"]
        assert found["message"]["result"] == "ok", found
        wait_mailbox(beta, "postmaster")
        assert pair.trial(beta)["message"]["result"] == "ok"

        hand_over(swaks_client, pair.alpha_address)
        [message] = wait_mailbox(beta, "bob")
        assert body_of(message) == body_of(CONTENT)
        [event] = alpha.wait_event("delivered", protocol="amtp", recipient="bob@beta.example")
        assert event["tls"]

        # A forger at first is reported, and his mail arrives.
        forged = swaks_client.send(
            pair.beta_address,
            25,
            sender="ann@alpha.example",
            recipients=["bob@beta.example"],
            content=CONTENT,
        )
        assert forged.accepted, forged.transcript
        beta.wait_event("partner_terms_broken", partner="alpha.example", outcome="report")
        shown = beta.cli("partner", "enforce", "alpha.example", "--dry-run").stdout.decode()
        assert "must come by amtp, this came by plain SMTP" in shown
        beta.cli("partner", "enforce", "alpha.example", "--yes")

        # Then he is refused: by the envelope and by the From field alone; the partner's own mail goes on.
        by_envelope = swaks_client.send(
            pair.beta_address,
            25,
            sender="ann@alpha.example",
            recipients=["bob@beta.example"],
            content=CONTENT,
        )
        by_field = swaks_client.send(
            pair.beta_address, 25, sender="eve@evil.example", recipients=["bob@beta.example"], content=CONTENT
        )
        for refused in (by_envelope, by_field):
            assert not refused.accepted
            assert any(line.startswith("550 5.7.1") for line in refused.replies()), refused.transcript
        hand_over(swaks_client, pair.alpha_address)
        wait_mailbox(beta, "bob", 3)


@pytest.mark.covers("ITP-8", "ITP-7")
def test_mutual_tls_by_smtp_where_neither_speaks_amtp(tmp_path: Path, swaks_client: Swaks) -> None:
    with strangers(tmp_path, amtp=False) as pair:
        alpha, beta = pair.alpha, pair.beta
        pair.exchange()
        found = pair.trial(alpha)
        assert found["connection"]["result"] == "ok", found
        assert "verified mx.beta.example" in found["connection"]["text"]
        assert found["message"]["result"] == "ok", found
        beta.cli("partner", "enforce", "alpha.example", "--yes")
        hand_over(swaks_client, pair.alpha_address)
        wait_mailbox(beta, "bob")
        [event] = alpha.wait_event("delivered", recipient="bob@beta.example")
        assert event["protocol"] == "smtp"
        refused = pair.forge(swaks_client, "ann@alpha.example")
        assert any("must come by tls-mutual" in line for line in refused.replies()), refused.transcript
        # TLS alone is not enough, nor is a certificate of the forger's own.
        own = CertificateAuthority(tmp_path / "forger", "CA").issue("mx.alpha.example")
        for certificate in (None, own):
            refused = pair.forge(swaks_client, "ann@alpha.example", "--tls", tls=certificate)
            assert any(line.startswith("550 5.7.1") for line in refused.replies()), refused.transcript


@pytest.mark.covers("ITP-8", "AMTP-3")
def test_before_the_partner_has_accepted_the_trial_says_so(tmp_path: Path) -> None:
    with strangers(tmp_path) as pair:
        file, authority = tmp_path / "beta.json", tmp_path / "beta" / "CA.pem"
        pair.beta.cli("partner", "invite", "--output", str(file), "--ca", str(authority))
        pair.alpha.cli("partner", "accept", str(file), "--yes")
        found = pair.trial(pair.alpha)
        assert found["connection"]["result"] == "bad"
        assert "504" in found["connection"]["text"] or "Authentication failed" in found["connection"]["text"]
        assert "does not believe us" in found["connection"]["remedy"]
        assert "message" not in found


@pytest.mark.covers("AMTP-2a", "ITP-8")
def test_a_missing_ptr_is_seen_before_the_partner_complains(tmp_path: Path) -> None:
    with strangers(tmp_path, reverse=False) as pair:
        pair.exchange()
        found = pair.trial(pair.alpha, "--no-message")
        [ours] = [row for subject, row in found.items() if subject.startswith("our ptr")]
        assert ours["result"] == "note"
        assert "PTR" in ours["remedy"]
        assert found["connection"]["result"] == "bad"


def shown_invitation(pair: Pair, name: str) -> dict[str, Any]:
    shown = pair.alpha.cli("partner", "show", str(pair.papers / f"{name}.json"), "--json")
    return dict(json.loads(shown.stdout.decode().split("\n")[0]))


@pytest.mark.covers("ITP-8", "MT2-27", "MT2-10b")
def test_a_partner_that_takes_mt2_says_so_and_is_proven_by_it(tmp_path: Path, swaks_client: Swaks) -> None:
    with strangers(tmp_path, mt2=("alpha", "beta"), amtp=False) as pair:
        pair.exchange()
        assert shown_invitation(pair, "beta")["mt2_port"] == MT2_PORT
        found = pair.trial(pair.alpha)
        assert f"mt2:mx.beta.example:{MT2_PORT}" in found["way"]["text"]
        assert found["connection"]["result"] == "ok", found
        assert "verified" in found["connection"]["text"]
        assert found["message"]["result"] == "ok", found
        [proven] = pair.beta.wait_event("host_identified")
        assert proven["host"] == "mx.alpha.example"
        [by_mt2] = wait_mailbox(pair.beta, "postmaster")
        assert b"with MT2 id" in by_mt2
        assert "mt2 connection" not in found
        hand_over(swaks_client, pair.alpha_address)
        [event] = pair.alpha.wait_event("delivered", recipient="bob@beta.example")
        assert event["protocol"] == "mt2"


@pytest.mark.covers("ITP-8", "MT2-27")
def test_whose_invitation_names_mt2_alone_is_held_to_it(tmp_path: Path, swaks_client: Swaks) -> None:
    with strangers(tmp_path, mt2=("alpha", "beta"), amtp=False) as pair:
        pair.exchange()
        beta = pair.beta
        shown = json.loads(beta.cli("partner", "show", "alpha.example", "--json").stdout)
        assert (shown["inbound"], shown["outbound"]) == ("mt2", "mt2")
        beta.cli("partner", "enforce", "alpha.example", "--yes")
        hand_over(swaks_client, pair.alpha_address)
        wait_mailbox(beta, "bob")
        refused = pair.forge(swaks_client, "ann@alpha.example")
        assert any("must come by mt2" in line for line in refused.replies()), refused.transcript
        assert pair.trial(pair.alpha)["terms"]["result"] == "ok"


@pytest.mark.covers("ITP-8", "MT2-27")
@pytest.mark.parametrize("amtp", [True, False])
def test_what_the_invitation_says_of_mt2_is_tried_where_dns_does_not_say_it_yet(
    tmp_path: Path, amtp: bool
) -> None:
    with strangers(tmp_path, mt2=("alpha", "beta"), amtp=amtp, published=False) as pair:
        pair.exchange()
        found = pair.trial(pair.alpha, "--no-message")
        assert found["way"]["result"] == ("ok" if amtp else "bad")  # for mail goes by MT2 alone
        line = found["mt2 connection"]
        assert line["result"] == "note"
        assert f":{MT2_PORT}" in line["text"], found
        assert "verified mx.beta.example" in line["text"]
        assert "beta.example publishes no SRV record" in line["text"]
        assert "_mt2._tcp.beta.example" in line["remedy"]


@pytest.mark.covers("ITP-8", "MT2-27")
@pytest.mark.parametrize(("published", "result"), [(("beta",), "ok"), ((), None)])
def test_beside_the_way_of_mail_a_session_by_mt2_is_tried_where_there_is_a_server(
    tmp_path: Path, published: tuple[str, ...], result: str | None
) -> None:
    with strangers(tmp_path, mt2=published) as pair:
        pair.exchange()  # both take AMTP, and so that is agreed
        assert shown_invitation(pair, "beta")["mt2_port"] == (MT2_PORT if published else 0)
        found = pair.trial(pair.alpha, "--no-message")
        assert found["way"]["text"].startswith("amtp:"), found
        assert found["connection"]["result"] == "ok", found
        assert (found["mt2 connection"]["result"] if result else None) == result
        assert ("mt2 connection" in found) is bool(published)


@pytest.mark.covers("ITP-8", "MT2-10b")
def test_a_trial_of_a_partner_whose_mail_goes_by_mt2_alone(tmp_path: Path) -> None:
    with strangers(tmp_path, mt2=("beta",)) as pair:
        pair.exchange()
        file = pair.papers / "beta.json"
        pair.alpha.cli("partner", "accept", str(file), "--outbound", "mt2", "--yes")
        found = pair.trial(pair.alpha, "--no-message")
        assert found["terms"]["text"].startswith("mail to it goes by MT2 alone")
        assert found["connection"]["result"] == "ok", found
