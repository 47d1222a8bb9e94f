"""Tables of replies, events, metrics, RFC rows and requirement ids agree with the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tools.requirements_index import known_ids

from outrider.delivery.results import Kind
from outrider.identity import interface as logins
from outrider.maillog.metrics import Metrics
from outrider.model.reply import Reply
from outrider.net import incoming_content
from outrider.protocols.smtp import replies as protocol_replies
from outrider.reception import replies as reception_replies
from tests.docs.pages import PROJECT, page_name, pages

GUIDE = (PROJECT / "docs" / "operators-guide.md").read_text("utf-8")
SMTP = (PROJECT / "docs" / "protocols" / "smtp.md").read_text("utf-8")
ALERTS = (PROJECT / "packaging" / "prometheus" / "alerts.yml").read_text("utf-8")
SOURCE = PROJECT / "src" / "outrider"
_UNSAID = {"", "Ok"}


def test_every_reply_is_documented() -> None:
    modules = (protocol_replies, reception_replies, logins, incoming_content)
    replies = [value for module in modules for value in vars(module).values() if isinstance(value, Reply)]
    assert len(replies) > 80
    for reply in replies:
        if reply.text in _UNSAID:
            continue
        said = f"{reply} " if reply.code != 214 else "214 2.0.0 "
        assert said.strip() in SMTP, f"docs/protocols/smtp.md lacks: {reply}"


def test_no_reply_is_documented_that_nobody_gives() -> None:
    known = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    for code, text in re.findall(r"^\| `([245][0-9]{2}) (?:[245]\.[0-9]+\.[0-9]+ )?([^`]*)` \|", SMTP, re.MULTILINE):
        parts = [part for part in re.split(r"\.\.\.|<\.\.\.>|\b[A-Z]{2,}\b", text) if len(part.strip()) > 6]
        for part in parts:
            assert part.strip(" <>") in known, f"docs/protocols/smtp.md: {code} {text}"


def _emitted() -> Iterator[str]:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
                event = node.args[1] if len(node.args) > 1 else None
                if isinstance(event, ast.Constant):
                    yield str(event.value)


def test_every_event_is_in_the_catalogue() -> None:
    section = GUIDE.split("## The log")[1].split("\n## ")[0]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall("`([a-z_]+)`", row)}
    computed = {kind.value for kind in Kind} | {"destination_paused", "destination_resumed", "log_lines_lost"}
    assert listed == set(_emitted()) | computed


def _metric_names() -> set[str]:
    names = set()
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        names.add(family.name + suffix)
    return {name for name in names if name.startswith("outrider_")}


def test_every_metric_is_listed_and_every_alert_uses_one() -> None:
    listed = set(re.findall(r"`(outrider_[a-z_]+)`", GUIDE))
    assert listed - _metric_names() == set()
    used = {name.removesuffix("_bucket") for name in re.findall(r"\b(outrider_[a-z_]+)", ALERTS)}
    assert used - _metric_names() == set()


def test_every_metric_that_moves_is_documented() -> None:
    source = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    slots = re.findall(r"self\.([a-z_]+) = self\._(?:counter|gauge|histogram)\(\s*\"([a-z_]+)\"", source)
    assert len(slots) > 25
    for slot, name in slots:
        moves = len(re.findall(rf"(?:metrics|self)\.{slot}\b", source)) > 1
        if moves:
            assert f"`outrider_{name}" in GUIDE, f"docs/operators-guide.md lacks outrider_{name}"


def test_requirement_ids_that_are_named_exist() -> None:
    for page in pages():
        for name in re.findall(r"\b((?:SMTP|TLS|QMTP|ITP|SEC)-[0-9]+[a-d]?|FAULT-F[0-9]+)\b", page.read_text("utf-8")):
            assert name in known_ids() or _is_group(name), f"{page_name(page)}: {name}"


def _is_group(name: str) -> bool:
    """SMTP-2 stands for SMTP-2a and its like."""
    return any(known.startswith(name) for known in known_ids())


def test_files_that_are_named_exist() -> None:
    roots = (PROJECT, SOURCE, *(room for room in SOURCE.iterdir() if room.is_dir()))
    for page in pages():
        for name in re.findall(r"`((?:[a-z_]+/)+(?:[a-z_0-9]+\.(?:py|md|yml|toml|txt))?)`", page.read_text("utf-8")):
            assert any((root / name).exists() for root in roots), f"{page_name(page)}: {name}"


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in Path(PROJECT / "docs" / "decisions").glob("[0-9]*.md")]
    assert sorted(numbers) == [f"{n:04d}" for n in range(1, len(numbers) + 1)]
