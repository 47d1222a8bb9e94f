"""Bad configuration: every fault in one go, each with file, line, key and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from outrider.config.loader import parse
from outrider.config.problems import ConfigError

MINIMAL = """\
hostname = "mx.alpha.example"
data_dir = "/tmp/alpha"
workers = 1

[[listeners]]
protocol = "smtp"
address = "127.0.0.1"
port = 2525

[spool]
backend = "sqlite"

[dns]
servers = ["127.0.0.1:5353"]

[tls]
certificate = "alpha.pem"
key = "alpha.key"
public_ca = ["ca.pem"]
private_ca = []

[domains."alpha.example"]
deliver = "maildir:/tmp/alpha/mail/{user}"
users = ["ann", "bob"]

[relay]
networks = ["127.0.0.0/8"]

[net]
private_destinations = ["127.0.0.0/8"]

[routes]
"gamma.example" = "smtp:[127.0.0.1]:2526"
"""


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("outrider.toml"))
    return [str(problem) for problem in caught.value.problems]


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.split("\n"), 1) if part in line)


def test_the_minimal_configuration_of_the_contract_loads() -> None:
    loaded = parse(MINIMAL, Path("outrider.toml"))
    assert loaded.config.domains["alpha.example"].users == ("ann", "bob")
    assert loaded.config.routes["gamma.example"] == "smtp:[127.0.0.1]:2526"
    assert loaded.source.line(("listeners", 0, "port")) == 8


def test_unknown_key_names_line_and_the_likely_word() -> None:
    text = MINIMAL.replace("port = 2525", "prot = 2525")
    assert faults_of(text) == ["outrider.toml:8: listeners[0].prot: unknown key; did you mean `port`?"]


def test_wrong_type_names_the_entry_of_an_array() -> None:
    text = (
        MINIMAL
        + '\n[[policy.rules]]\nname = "a"\naction = "hold"\n[[policy.rules]]\nname = "b"\naction = 3\n'
    )
    (fault,) = faults_of(text)
    assert fault.startswith(f"outrider.toml:{line_of(text, 'action = 3')}: policy.rules[1].action: ")
    assert fault.endswith("one of: accept, refuse, defer, hold, tag, route")


def test_all_faults_at_once() -> None:
    text = MINIMAL.replace('hostname = "mx.alpha.example"\n', "").replace("workers = 1", 'workers = "many"')
    faults = faults_of(text)
    assert len(faults) == 2
    assert any("`hostname` is missing" in fault for fault in faults)
    assert any(":2: workers:" in fault for fault in faults)


def test_syntax_fault_names_its_line() -> None:
    (fault,) = faults_of(MINIMAL.replace("workers = 1", "workers = = 1"))
    assert fault.startswith("outrider.toml:3: not TOML:")


def test_missing_file_says_so(tmp_path: Path) -> None:
    from outrider.config.loader import load

    with pytest.raises(ConfigError, match="no such file; give the right path"):
        load(tmp_path / "absent.toml")


def test_lines_are_right_after_multiline_strings() -> None:
    text = MINIMAL + '\n[log]\nfile = """\nlevel = \n[x]\n"""\nlevle = "info"\n'
    (fault,) = faults_of(text)
    where = f"outrider.toml:{line_of(text, 'levle')}"
    assert fault == f"{where}: log.levle: unknown key; did you mean `level`?"


def test_key_texts_can_be_read_back() -> None:
    from outrider.config.loader import key_text, parse_key_text

    for path in [("listeners", 0, "port"), ("routes", "gamma.example"), ("domains", "a b", "users", 3)]:
        assert parse_key_text(key_text(path)) == path
    assert parse_key_text("no key at all") is None


def test_a_fault_from_another_room_gets_its_line() -> None:
    loaded = parse(MINIMAL, Path("outrider.toml"))
    where = line_of(MINIMAL, '"gamma.example"')
    problem = loaded.problem_from('routes."gamma.example": no such protocol; write smtp')
    assert str(problem) == f'outrider.toml:{where}: routes."gamma.example": no such protocol; write smtp'


AT_ONCE = """
import pathlib, sys, threading
from outrider.config.loader import parse
text = sys.stdin.read()
sys.setswitchinterval(1e-6)
start = threading.Barrier(6)
def work():
    start.wait()
    parse(text, pathlib.Path("outrider.toml"))
threads = [threading.Thread(target=work) for _ in range(6)]
[one.start() for one in threads]
[one.join() for one in threads]
"""


def test_threads_may_read_the_first_configuration_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE], input=MINIMAL, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
