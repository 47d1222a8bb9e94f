"""`outrider partner`: files that two sites exchange, what is accepted of them, and what is written."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outrider.cli.main import main
from outrider.config.loader import load
from outrider.config.schema import Partner
from outrider.routing.partners import PartnerTable, meets
from outrider.runtime.partner_files import PartnerFileError, PartnerFolder, entry_text
from tests.identity.partner_papers import altered
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import to_toml


@dataclass(frozen=True)
class Site:
    """A folder with a configuration, and the commands of its operator."""

    folder: Path
    authority: CertificateAuthority

    @property
    def partners(self) -> Path:
        return self.folder / "partners"

    def run(self, *words: str, code: int = 0) -> Result:
        config = str(self.folder / "outrider.toml")
        result = CliRunner().invoke(main, ["partner", *words, "--config", config])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def invite(self, *words: str) -> Path:
        number = len(list(self.folder.glob("invitation-*")))
        path = self.folder / f"invitation-{number}.json"
        self.run("invite", "--output", str(path), "--ca", str(self.authority.authority), *words)
        return path

    def words(self, file: Path) -> str:
        result = self.run("show", str(file), "--json")
        return str(json.loads(result.stdout)["words"])


def make_site(folder: Path, name: str, **more: Any) -> Site:
    folder.mkdir()
    authority = CertificateAuthority(folder / "authority", f"{name} CA")
    tls = authority.issue(f"mx.{name}", name)
    settings = {
        "hostname": f"mx.{name}",
        "data_dir": str(folder / "data"),
        "listeners": [{"protocol": "amtp", "address": "127.0.0.1"}],
        "domains": {name: {"deliver": "discard:"}},
        "dns": {"servers": ["127.0.0.1:1"]},
        "tls": {"certificate": str(tls.certificate), "key": str(tls.key), "public_ca": []},
        "mpc": {"accounts": {"ann": "com/customer"}},
        **more,
    }
    (folder / "outrider.toml").write_text(to_toml(settings))
    return Site(folder, authority)


@pytest.fixture
def us(tmp_path: Path) -> Site:
    return make_site(tmp_path / "us", "us.example")


@pytest.fixture
def bank(tmp_path: Path) -> Site:
    return make_site(tmp_path / "bank", "bank.example")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.covers("ITP-8")
def test_an_invitation_becomes_an_entry(us: Site, bank: Site) -> None:
    invitation = bank.invite()
    result = us.run("accept", str(invitation), "--words", bank.words(invitation))
    assert "Accepted" in result.output
    names = ("bank.example.toml", "bank.example.pem", "bank.example.invitation")
    assert [mode(us.partners / name) for name in names] == [0o600] * 3
    assert mode(us.partners) == 0o700
    assert (us.partners / names[1]).read_bytes() == bank.authority.authority.read_bytes()
    [entry] = PartnerTable(load(us.folder / "outrider.toml").config).entries
    assert entry.name == "bank.example"
    assert entry.sender_domains.covers("bank.example")
    assert entry.hosts.covers("mx.bank.example")
    assert (entry.inbound, entry.mode, entry.outbound.channel) == ("amtp", "report", "amtp")
    assert entry.ca == (str(us.partners / "bank.example.pem"),)
    [row] = [json.loads(line) for line in us.run("list", "--json").stdout.splitlines()]
    assert row["inbound"] == "amtp (report)"
    assert row["ca_until"] > "2026"
    shown = json.loads(us.run("show", "bank.example", "--json").stdout)
    assert shown["invitation"]["mail_policy_codes"] == ["com/customer"]


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--words", "wrong words")])
def test_nothing_is_written_before_somebody_says_yes(us: Site, bank: Site, words: tuple[str, ...]) -> None:
    before = contents(us.folder)
    result = us.run("accept", str(bank.invite()), *words, code=0 if words == ("--dry-run",) else 1)
    assert contents(us.folder) == before
    assert not us.partners.exists()
    assert 'inbound = "amtp"' in result.output
    assert "compare the words" in result.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: parts["payload"].update(sender_domains=["us-bank.example"]), "changed, or damaged"),
        (lambda parts: parts["protected"].update(alg="none"), "algorithm"),
    ],
)
def test_a_tampered_file_is_not_accepted(us: Site, bank: Site, change: Any, says: str) -> None:
    invitation = bank.invite()
    invitation.write_bytes(altered(invitation.read_bytes(), change))
    assert says in us.run("accept", str(invitation), "--yes", code=1).stderr
    assert not us.partners.exists()


def test_a_file_that_is_none(us: Site, tmp_path: Path) -> None:
    for octets in (b"", b"\0" * 100, b"{}", b" " * 2_000_000):
        (tmp_path / "file").write_bytes(octets)
        us.run("accept", str(tmp_path / "file"), "--yes", code=1)
    us.run("accept", str(tmp_path / "missing"), "--yes", code=1)
    assert not us.partners.exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", ".hidden", "a/b", "", "..", "x" * 65, "a\nb"])
def test_a_name_leads_nowhere_else(us: Site, bank: Site, tmp_path: Path, name: str) -> None:
    before = set(tmp_path.rglob("*"))
    invitation = bank.invite()
    if name:
        us.run("accept", str(invitation), "--yes", "--name", name, code=2)
    assert set(tmp_path.rglob("*")) == before | {invitation}
    for word in ("remove", "enforce"):
        us.run(word, name, code=2)
    folder = PartnerFolder(us.partners)
    with pytest.raises(PartnerFileError):
        folder.write_entry(name, Partner())
    with pytest.raises(PartnerFileError):
        folder.set_path(name, "a")
    with pytest.raises(PartnerFileError):
        folder.set_path("a", name)


def test_a_link_laid_in_the_folder_is_not_written_through(us: Site, bank: Site, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    us.partners.mkdir()
    (us.partners / "bank.example.pem").symlink_to(victim)
    us.run("accept", str(bank.invite()), "--yes")
    assert victim.read_bytes() == b"precious"
    assert not (us.partners / "bank.example.pem").is_symlink()


@pytest.mark.covers("ITP-8")
def test_an_older_invitation_never_comes_back(us: Site, bank: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bank.invite()
    later = load_time_later(monkeypatch)
    second = bank.invite("--host", "mx2.bank.example")
    later.undo()
    us.run("accept", str(first), "--yes")
    load_time_later(monkeypatch)
    us.run("accept", str(second), "--yes")
    before = contents(us.partners)
    refused = us.run("accept", str(first), "--yes", code=1)
    assert "older than the one accepted last" in refused.output
    assert contents(us.partners) == before
    us.run("accept", str(second), "--yes")
    assert contents(us.partners) == before


def load_time_later(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A minute passes for the commands."""
    import time

    now = time.time()
    monkeypatch.setattr("outrider.cli.partner_invite.time.time", lambda: now + 60)
    return monkeypatch


def test_what_the_operator_has_decided_stays(us: Site, bank: Site) -> None:
    us.run("accept", str(bank.invite()), "--yes", "--inbound", "tls-mutual", "--outbound", "mutual")
    us.run("enforce", "bank.example", "--yes")
    us.run("accept", str(us.partners / "bank.example.invitation"), "--yes")
    [entry] = PartnerTable(load(us.folder / "outrider.toml").config).entries
    assert (entry.inbound, entry.mode, entry.outbound.channel) == ("tls-mutual", "refuse", "mutual")


def listening(*protocols: str) -> dict[str, Any]:
    """Listeners of a site."""
    return {"listeners": [{"protocol": one, "address": "127.0.0.1"} for one in protocols]}


@pytest.mark.covers("ITP-8", "MT2-27")
@pytest.mark.parametrize(
    ("ours", "theirs", "inbound", "outbound"),
    [
        (("mt2",), ("mt2",), "mt2", "mt2"),
        (("amtp", "mt2"), ("amtp", "mt2"), "amtp", "amtp"),
        (("mt2",), ("amtp", "mt2"), "mt2", "mt2"),
        (("smtp",), ("mt2",), "tls-mutual", "mt2"),
        (("mt2",), ("smtp",), "tls-mutual", "mutual"),
        (("amtp",), ("mt2",), "tls-mutual", "mt2"),
    ],
)
def test_both_sides_come_to_the_same_terms(
    tmp_path: Path, ours: tuple[str, ...], theirs: tuple[str, ...], inbound: str, outbound: str
) -> None:
    one = make_site(tmp_path / "one", "one.example", **listening(*ours))
    other = make_site(tmp_path / "other", "other.example", **listening(*theirs))
    one.run("accept", str(other.invite()), "--yes")
    other.run("accept", str(one.invite()), "--yes")
    [mine] = PartnerTable(load(one.folder / "outrider.toml").config).entries
    [others] = PartnerTable(load(other.folder / "outrider.toml").config).entries
    assert (mine.inbound, mine.outbound.channel) == (inbound, outbound)
    by_channel = {"mutual": "tls-mutual", "amtp": "amtp", "mt2": "mt2"}
    assert meets(by_channel[mine.outbound.channel], others.inbound)
    assert meets(by_channel[others.outbound.channel], mine.inbound)


def test_a_site_may_not_take_domains_of_others(us: Site, bank: Site, tmp_path: Path) -> None:
    us.run("accept", str(bank.invite()), "--yes")
    thief = make_site(tmp_path / "thief", "thief.example")
    for domain in ("bank.example", "us.example"):
        invitation = thief.invite("--sender-domain", domain, "--name", "thief.example")
        refused = us.run("accept", str(invitation), "--yes", code=1)
        assert domain in refused.output
    assert not (us.partners / "thief.example.toml").exists()


def test_an_entry_written_by_hand_is_left_alone(bank: Site, tmp_path: Path) -> None:
    entry = {"bank.example": {"sender_domains": ["bank.example"]}}
    us = make_site(tmp_path / "hand", "hand.example", partners=entry)
    refused = us.run("accept", str(bank.invite()), "--yes", code=1)
    assert "by hand" in refused.stderr
    assert "outrider.toml:" in refused.stderr


def test_a_certificate_that_would_not_do_writes_no_invitation(us: Site) -> None:
    """Neither a configured CA vouches for it, nor is one sent along."""
    refused = us.run("invite", code=1)
    assert "our own certificate would not do" in refused.stderr


def test_private_authorities_are_sent_along_and_public_ones_are_not(tmp_path: Path) -> None:
    for kind, sent in (("private_ca", 1), ("public_ca", 0)):
        site = make_site(tmp_path / kind, "bank.example")
        text = (site.folder / "outrider.toml").read_text().replace('"public_ca" = []\n', "")
        tls = f'"{kind}" = ["{site.authority.authority}"]\n'
        head, mark, tail = text.partition("[tls]\n") if "[tls]\n" in text else text.partition('["tls"]\n')
        assert mark
        (site.folder / "outrider.toml").write_text(head + mark + tls + tail)
        site.run("invite", "--output", str(tmp_path / kind / "file"))
        described = json.loads(site.run("show", str(tmp_path / kind / "file"), "--json").stdout)
        assert len(described["ca_set"]) == sent


@pytest.mark.covers("ITP-8")
def test_enforcing_shows_first_what_would_have_been_refused(us: Site, bank: Site, tmp_path: Path) -> None:
    us.run("accept", str(bank.invite()), "--yes")
    breach = {"event": "partner_terms_broken", "partner": "bank.example", "client": "192.0.2.9", "time": "T1"}
    log = tmp_path / "log"
    lines = [
        {**breach, "text": "mail from bank.example must come by amtp"},
        {**breach, "text": "mail from bank.example must come by amtp", "time": "T2"},
        {**breach, "partner": "other", "text": "not this one"},
        {**breach, "event": "accepted", "text": "partner_terms_broken"},
    ]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "partner_terms_broken {torn\n")
    shown = us.run("enforce", "bank.example", "--log", str(log), "--dry-run").output
    assert "2 x mail from bank.example must come by amtp, from 192.0.2.9, last T2" in shown
    assert "not this one" not in shown
    us.run("enforce", "bank.example", "--log", str(log), code=1)  # nobody said yes
    assert load(us.folder / "outrider.toml").config.partners["bank.example"].inbound_mode == "report"
    us.run("enforce", "bank.example", "--log", str(log), "--yes")
    assert load(us.folder / "outrider.toml").config.partners["bank.example"].inbound_mode == "refuse"
    assert mode(us.partners / "bank.example.toml") == 0o600


def test_removing_leaves_nothing(us: Site, bank: Site) -> None:
    us.run("accept", str(bank.invite()), "--yes")
    us.run("remove", "bank.example", "--dry-run")
    assert len(contents(us.partners)) == 3
    us.run("remove", "bank.example")
    assert contents(us.partners) == {}
    us.run("remove", "bank.example", code=1)


def test_any_text_survives_the_entry(tmp_path: Path) -> None:
    folder = PartnerFolder(tmp_path)
    entry = Partner(
        contact='"quoted" \\ back\tü\U0001f600', hosts=("a.example",), ca=("x.pem",), fallback="never"
    )
    folder.write_entry("x", entry)
    assert folder.entry("x") == entry
    assert 'inbound_mode = "report"' in entry_text("x", entry)
    assert "sender_domains" not in entry_text("x", entry)


def test_bundles_are_followed_by_number(us: Site, bank: Site, tmp_path: Path) -> None:
    signer = bank.authority.issue("ca.group.example")
    stranger = us.authority.issue("ca.group.example")

    def edition(serial: int, *sets: str, by: Any = signer) -> str:
        path = str(tmp_path / f"edition-{serial}-{len(sets)}-{by is signer}")
        words = ["bundle", "make", "banks", *sets, "--serial", str(serial), "--output", path]
        made = CliRunner().invoke(
            main, ["partner", *words, "--certificate", str(by.certificate), "--key", str(by.key)]
        )
        assert made.exit_code == 0, (made.output, made.exception)
        return path

    eu, us_set = f"eu={bank.authority.authority}", f"us={us.authority.authority}"
    first, second, third = edition(1, eu), edition(2, eu, us_set), edition(3, us_set)
    us.run("bundle", "refresh", second, code=1)  # nobody said yes to an unknown key
    us.run("bundle", "refresh", second, "--yes")
    written = us.partners / "bundles" / "banks" / "eu.pem"
    assert written.read_bytes() == bank.authority.authority.read_bytes()
    assert mode(written) == 0o600
    us.run("bundle", "refresh", first, "--yes", code=1)
    us.run("bundle", "refresh", edition(9, eu, by=stranger), "--yes", code=1)
    assert "Nothing has changed" in us.run("bundle", "refresh", second, "--yes").output
    assert "set removed: eu" in us.run("bundle", "diff", third).output
    assert written.exists()
    us.run("bundle", "refresh", third, "--yes")
    assert not written.exists()
    shown = json.loads(us.run("bundle", "show", "banks", "--json").stdout)
    assert (shown["serial"], list(shown["sets"])) == (3, ["us"])
    us.run("bundle", "remove", "banks")
    us.run("bundle", "remove", "banks", code=1)
