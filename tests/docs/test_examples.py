"""Configuration and commands in the documents exist and are accepted."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from outrider.cli.main import main
from outrider.config.loader import parse
from outrider.config.schema import Config
from outrider.model.facts import Provenance
from outrider.policy.fact_names import CATALOGUE
from outrider.policy.policy import compile_policy
from outrider.routing.routes import RouteTable
from outrider.routing.ways import parse_way
from tests.docs.pages import PROJECT, blocks, page_name, pages, prose

GUIDE = PROJECT / "docs" / "operators-guide.md"
CONFIGURATIONS = [(page, text) for page in pages() for text in blocks(page, "toml")]
_COMMAND = re.compile(r"(?:^|[\s`(])outrider ([a-z][^`\n|]*)")
_KEY = re.compile(r"`\[\[?([a-z_.]+)\]\]? ([a-z_0-9]+)`")


def _ids(value: object) -> str:
    return page_name(value) if isinstance(value, Path) else "example"


@pytest.mark.parametrize(("page", "text"), CONFIGURATIONS, ids=_ids)
def test_an_example_configuration_is_accepted(page: Path, text: str) -> None:
    config = parse(text, page).config
    RouteTable(config)
    assert compile_policy(config.policy, parse_way).warnings() == ()


def _named_commands() -> list[tuple[str, str]]:
    found = []
    for page in pages():
        lines = [line for kind in ("sh", "console") for text in blocks(page, kind) for line in text.split("\n")]
        quoted = re.findall(r"`(outrider [^`]+)`", prose(page))
        for line in [*lines, *quoted]:
            found += [(page_name(page), match) for match in _COMMAND.findall(re.sub(r"\{.*", "", line))]
    return found


def _resolve(words: list[str]) -> str:
    """ "" when the words name a command, with options that it has; else what is wrong."""
    command: click.Command = main
    context = click.Context(main)
    words = list(words)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]!r}"
        command, context = found, click.Context(found, parent=context)
        words.pop(0)
    known = {option for parameter in command.params for option in (*parameter.opts, "--help", "-h")}
    wrong = [word for word in words if re.fullmatch(r"--[a-z-]+", word) and word not in known]
    return f"no option {wrong[0]}" if wrong else ""


@pytest.mark.parametrize(("page", "line"), sorted(set(_named_commands())), ids=lambda value: value[:50])
def test_a_command_exists_with_its_options(page: str, line: str) -> None:
    words = re.split(r"[\s;=]+", re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", line).strip())
    first = [word.rstrip(".,;:)") for word in words if word]
    assert not _resolve(first), f"{page}: outrider {line}"


def _struct_at(path: str) -> type:
    found: object = Config
    for part in path.split("."):
        kinds = {field: kind for field, kind in _fields(found).items()}
        assert part in kinds, f"there is no section [{path}]"
        found = kinds[part]
    assert isinstance(found, type)
    return found


def _fields(struct: object) -> dict[str, object]:
    import msgspec

    from outrider.config.reference import _struct_in

    assert isinstance(struct, type)
    return {
        field.name: _struct_in(field.type) or field.type
        for field in msgspec.structs.fields(struct)  # type: ignore[arg-type]
    }


def _named_keys() -> list[tuple[str, str, str]]:
    return [(page_name(page), section, key) for page in pages() for section, key in _KEY.findall(prose(page))]


@pytest.mark.parametrize(("page", "section", "key"), sorted(set(_named_keys())))
def test_a_setting_exists(page: str, section: str, key: str) -> None:
    assert key in _fields(_struct_at(section)), f"{page}: `[{section}] {key}`"


def test_the_guide_lists_every_fact_as_it_is() -> None:
    section = GUIDE.read_text("utf-8").split("\n### The facts\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z.-]+)` \| (.*) \|$", section, re.MULTILINE))
    for kind in CATALOGUE.values():
        worth = Provenance(kind.worth).name.lower()
        looked_up = " *Looked up.*" if kind.looked_up else ""
        wanted = f"{kind.type.value} | {kind.stage.value} | {worth} | {kind.meaning}{looked_up}"
        assert rows.get(kind.name) == wanted, f"docs/operators-guide.md: {kind.name}"
    assert rows.keys() <= CATALOGUE.keys()
