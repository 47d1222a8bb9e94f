"""Partners in files of their own: read with the configuration, and at fault in their own lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.config.loader import load
from outrider.config.problems import ConfigError

BASE = 'hostname = "mx.a.example"\ndata_dir = "data"\n'
ENTRY = """\
# The bank
sender_domains = ["bank.example"]
hosts = ["out.bank.example"]
ca = ["bank.pem", "/etc/x.pem"]
"""


def site(folder: Path, text: str = BASE, **partners: str) -> Path:
    path = folder / "outrider.toml"
    path.write_text(text)
    (folder / "partners").mkdir(exist_ok=True)
    for name, entry in partners.items():
        (folder / "partners" / f"{name}.toml").write_text(entry)
    return path


@pytest.mark.covers("ITP-8")
def test_each_file_is_a_partner_and_paths_start_at_the_file(tmp_path: Path) -> None:
    loaded = load(site(tmp_path, bank=ENTRY, shop='sender_domains = ["shop.example"]\n'))
    assert list(loaded.config.partners) == ["bank", "shop"]
    ca = loaded.config.partners["bank"].ca
    assert ca == (str(tmp_path / "partners" / "bank.pem"), "/etc/x.pem")


@pytest.mark.covers("ITP-8")
def test_a_fault_found_later_is_placed_in_the_file(tmp_path: Path) -> None:
    loaded = load(site(tmp_path, bank=ENTRY))
    file = tmp_path / "partners" / "bank.toml"
    assert str(loaded.problem(("partners", "bank", "ca", 1), "not there")) == f"{file}:4: ca[1]: not there"
    assert str(loaded.problem_from("partners.bank.hosts: too few")) == f"{file}:3: hosts: too few"
    assert str(loaded.problem(("hostname",), "bad")).startswith(f"{tmp_path / 'outrider.toml'}:1: ")


@pytest.mark.covers("ITP-8")
def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(site(tmp_path, bank="hosts = 1\n", shop="nothing = 1\n", inn="[\n"))
    assert sorted(Path(problem.file).stem for problem in caught.value.problems) == ["bank", "inn", "shop"]


@pytest.mark.covers("ITP-8")
def test_a_partner_stands_in_one_place(tmp_path: Path) -> None:
    text = BASE + '[partners.bank]\nsender_domains = ["bank.example"]\n'
    with pytest.raises(ConfigError) as caught:
        load(site(tmp_path, text, bank=ENTRY))
    [problem] = caught.value.problems
    assert problem.file == str(tmp_path / "partners" / "bank.toml")


@pytest.mark.covers("ITP-8")
def test_other_files_in_the_folder_are_none_of_ours(tmp_path: Path) -> None:
    path = site(tmp_path)
    folder = tmp_path / "partners"
    for name in ("README.md", ".hidden.toml", "bank.pem", "Bank.toml~", "bank.invitation"):
        (folder / name).write_text("not TOML [")
    assert load(path).config.partners == {}


@pytest.mark.covers("ITP-8")
def test_the_folder_may_have_another_name_and_must_then_be_there(tmp_path: Path) -> None:
    text = f'partner_folder = "friends"\n{BASE}'
    with pytest.raises(ConfigError) as caught:
        load(site(tmp_path, text, bank=ENTRY))
    assert "partner_folder" in str(caught.value)
    (tmp_path / "friends").mkdir()
    (tmp_path / "friends" / "inn.toml").write_text('sender_domains = ["inn.example"]\n')
    assert list(load(tmp_path / "outrider.toml").config.partners) == ["inn"]


@pytest.mark.covers("ITP-8")
def test_without_a_folder_there_are_no_partners(tmp_path: Path) -> None:
    (tmp_path / "outrider.toml").write_text(BASE)
    assert load(tmp_path / "outrider.toml").config.partners == {}
