"""Tables of replies, events, metrics and facts, ids and paths in the documents agree with the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import click
from tools.requirements_index import known_ids

from outrider.cli.main import main
from outrider.identity import interface as logins
from outrider.identity.checks import Check
from outrider.maillog.emitter import Level, render_json
from outrider.maillog.metrics import Metrics
from outrider.model.facts import Provenance
from outrider.model.reply import Reply
from outrider.model.result import Kind
from outrider.net import incoming_content
from outrider.policy.fact_names import CATALOGUE
from outrider.protocols.amtp import replies as amtp_replies
from outrider.protocols.smtp import replies as protocol_replies
from outrider.reception import replies as reception_replies
from tests.docs.pages import PROJECT, page_name, pages

GUIDE = (PROJECT / "docs" / "operators-guide.md").read_text("utf-8")
POLICY = (PROJECT / "docs" / "policy.md").read_text("utf-8")
SMTP = (PROJECT / "docs" / "protocols" / "smtp.md").read_text("utf-8")
AMTP = (PROJECT / "docs" / "protocols" / "amtp.md").read_text("utf-8")
ALERTS = (PROJECT / "packaging" / "prometheus" / "alerts.yml").read_text("utf-8")
SOURCE = PROJECT / "src" / "outrider"
CODE = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))

_ROW = re.compile(r"^\| `([a-z0-9.-]+)` \| (.*) \|$", re.MULTILINE)
_REPLY_ROW = re.compile(r"^\| `[245][0-9]{2} (?:[245]\.[0-9]+\.[0-9]+ )?([^`]*)` \|", re.MULTILINE)
_FILLED_IN = re.compile(r"\.\.\.|\b[A-Z]{2,}\b")
_ID = re.compile(r"\b(?:SMTP|TLS|QMTP|AMTP|ITP|SEC)-[0-9]+[a-d]?\b|\bFAULT-F[0-9]+\b")
_PATH = re.compile(r"`((?:src|tests|docs|packaging)/[a-z_0-9/.]*|[a-z_/]+/[a-z_0-9]+\.py)`")


def section(page: str, heading: str) -> str:
    """The part of a page under one heading, up to the next of its rank or above."""
    rank = len(heading.partition(" ")[0])
    return re.split(rf"\n#{{1,{rank}}} ", page.split(f"\n{heading}\n")[1])[0]


# -- SMTP ------------------------------------------------------------------------------------------------


def test_every_reply_is_documented() -> None:
    modules = (protocol_replies, reception_replies, logins, incoming_content, amtp_replies)
    replies = [value for module in modules for value in vars(module).values() if isinstance(value, Reply)]
    assert len(replies) > 80
    for reply in replies:
        if reply.text and reply.code != 214:
            assert str(reply) in SMTP + AMTP, f"docs/protocols lacks: {reply}"


def test_no_reply_is_documented_that_nobody_gives() -> None:
    for text in _REPLY_ROW.findall(SMTP) + _REPLY_ROW.findall(AMTP):
        words = [part.strip(" <>") for part in _FILLED_IN.split(text)]
        for part in words:
            assert len(part) < 7 or part in CODE, f"docs/protocols: {text}"


def test_every_check_of_an_identity_is_documented() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section(AMTP, "## Who the client is"), re.MULTILINE)
    listed = {name for cell in rows for name in re.findall("`([a-z-]+)`", cell)}
    assert listed == {check.value for check in Check}


# -- log and metrics ---------------------------------------------------------------------------------------


def _emitted() -> Iterator[str]:
    """Names of events as they stand in the code."""
    for node in ast.walk(ast.parse(CODE.replace("from __future__ import annotations\n", ""))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
            event = node.args[1] if len(node.args) > 1 else None
            if isinstance(event, ast.Constant):
                yield str(event.value)


def test_every_event_is_in_the_catalogue() -> None:
    first_cells = re.findall(r"^\| (`.*?) \|", section(GUIDE, "## The log"), re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall("`([a-z_]+)`", cell)}
    computed = {kind.value for kind in Kind} | {"destination_paused", "destination_resumed", "log_lines_lost"}
    assert listed == set(_emitted()) | computed


def _metric_names() -> set[str]:
    families = Metrics().registry.collect()
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    return {name for name in names if name.startswith("outrider_")}


def test_every_metric_that_is_named_exists() -> None:
    assert set(re.findall(r"`(outrider_[a-z_]+)`", GUIDE)) <= _metric_names()
    alerted = {name.removesuffix("_bucket") for name in re.findall(r"\boutrider_[a-z_]+", ALERTS)}
    assert alerted
    assert alerted <= _metric_names()


def test_every_metric_that_moves_is_documented() -> None:
    families = re.findall(r"self\.([a-z_]+) = self\._(?:counter|gauge|histogram)\(\s*\"([a-z_]+)\"", CODE)
    assert len(families) > 25
    for slot, name in families:
        moves = len(re.findall(rf"(?:metrics|self)\.{slot}\b", CODE)) > 1
        assert not moves or f"`outrider_{name}" in GUIDE, f"docs/operators-guide.md lacks outrider_{name}"


# -- policy --------------------------------------------------------------------------------------------------


def test_the_page_lists_every_fact_as_it_is() -> None:
    rows = dict(_ROW.findall(section(POLICY, "## The facts")))
    assert rows.keys() == CATALOGUE.keys()
    for kind in CATALOGUE.values():
        worth = Provenance(kind.worth).name.lower()
        looked_up = " *Looked up.*" if kind.looked_up else ""
        wanted = f"{kind.type.value} | {kind.stage.value} | {worth} | {kind.meaning}{looked_up}"
        assert rows[kind.name] == wanted, f"docs/policy.md: {kind.name}"


# -- ids and paths -----------------------------------------------------------------------------------------


def test_requirement_ids_that_are_named_exist() -> None:
    for page in pages():
        for name in _ID.findall(page.read_text("utf-8")):
            # SMTP-2 stands for SMTP-2a and its like.
            assert any(known.startswith(name) for known in known_ids()), f"{page_name(page)}: {name}"


def test_files_that_are_named_exist() -> None:
    roots = (PROJECT, SOURCE, *(room for room in SOURCE.iterdir() if room.is_dir()))
    for page in pages():
        for name in _PATH.findall(page.read_text("utf-8")):
            assert any((root / name).exists() for root in roots), f"{page_name(page)}: {name}"


def test_decisions_are_numbered_once() -> None:
    numbers = sorted(path.name[:4] for path in (PROJECT / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]


# -- packaging ---------------------------------------------------------------------------------------------


def test_the_fail2ban_filter_finds_a_failed_login() -> None:
    text = (PROJECT / "packaging" / "fail2ban" / "outrider.conf").read_text("utf-8")
    pattern = re.search(r"^failregex = (.*)$", text, re.MULTILINE)
    assert pattern
    fields = {"session": "84f9735af9d7", "client": "2001:db8::7", "listener": "smtp [::1]:25", "login": "ann"}
    line = render_json(0.0, Level.WARNING, "login_failed", fields)
    found = re.match(pattern[1].replace("<HOST>", "(?P<host>[0-9a-f.:]+)"), line)
    assert found
    assert found["host"] == "2001:db8::7"


def test_the_units_start_commands_that_exist() -> None:
    unit = (PROJECT / "packaging" / "systemd" / "outrider.service").read_text("utf-8")
    commands = re.findall(r"^Exec\w+=/opt/outrider/bin/outrider ([a-z-]+)", unit, re.MULTILINE)
    assert commands == ["check-config", "serve", "reload"]
    assert all(main.get_command(click.Context(main), command) for command in commands)
