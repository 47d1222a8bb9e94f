"""Configuration, commands and settings in the documents exist and are accepted."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from outrider.cli.main import main
from outrider.config.loader import parse
from outrider.config.schema import Config
from outrider.policy.lint import Surroundings, lint
from outrider.policy.policy import compile_policy
from outrider.routing.routes import RouteTable
from outrider.routing.ways import parse_way
from tests.docs.pages import blocks, page_name, pages, prose

CONFIGURATIONS = [(page, text) for page in pages() for text in blocks(page, "toml")]
_COMMAND = re.compile(r"(?:^|[\s`(])outrider ([a-z][^`\n|]*)")
_QUOTED_COMMAND = re.compile(r"`(outrider [^`]+)`")
_TEXT_ARGUMENT = re.compile(r"\"[^\"]*\"|'[^']*'")
_OPTION = re.compile(r"--[a-z-]+")
_SETTING = re.compile(r"`\[\[?([a-z_.]+)\]\]? ([a-z_0-9]+)`")


# -- configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "text"), CONFIGURATIONS, ids=[page_name(page) for page, _ in CONFIGURATIONS]
)
def test_an_example_configuration_is_accepted(page: Path, text: str) -> None:
    config = parse(text, page).config
    RouteTable(config)
    assert lint(compile_policy(config.policy, parse_way), Surroundings.of(config)) == ()


def _fields(section: str) -> dict[str, object]:
    """Settings of a section such as ``tls.sni``, each with its type."""
    struct: object = Config
    for part in section.split("."):
        assert isinstance(struct, type)
        kinds = {field.name: field.type for field in msgspec.structs.fields(struct)}
        assert part in kinds, f"there is no section [{section}]"
        struct = _struct_in(kinds[part])
    assert isinstance(struct, type), f"[{section}] is no section"
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def _struct_in(kind: object) -> object:
    """The struct in a type such as ``tuple[Listener, ...]`` or ``dict[str, str | Route]``."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    parts = getattr(kind, "__args__", ())
    return next((found for found in map(_struct_in, parts) if found is not None), None)


def _settings() -> list[tuple[str, str, str]]:
    named = ((page_name(page), found) for page in pages() for found in _SETTING.findall(prose(page)))
    return sorted({(page, section, key) for page, (section, key) in named})


@pytest.mark.parametrize(("page", "section", "key"), _settings())
def test_a_setting_exists(page: str, section: str, key: str) -> None:
    assert key in _fields(section), f"{page}: [{section}] {key}"


# -- commands ------------------------------------------------------------------------------------------


def _commands() -> list[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for page in pages():
        shown = [text for kind in ("sh", "console") for text in blocks(page, kind)]
        lines = [line for text in shown for line in text.split("\n")] + _QUOTED_COMMAND.findall(prose(page))
        for line in lines:
            # What a server logs is shown as well, and no command.
            if not line.startswith("{"):
                found |= {(page_name(page), command) for command in _COMMAND.findall(line)}
    return sorted(found)


def _fault(words: list[str]) -> str:
    """What is wrong with a command line; "" for nothing."""
    command: click.Command = main
    context = click.Context(main)
    words = list(words)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        if found is None and command.invoke_without_command:
            break  # it is a command itself
        if found is None:
            return f"no command {words[0]!r}"
        command, context = found, click.Context(found, parent=context)
        words.pop(0)
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in words if _OPTION.fullmatch(word) and word not in known]
    return f"no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize(("page", "line"), _commands())
def test_a_command_exists_with_its_options(page: str, line: str) -> None:
    words = re.split(r"[\s;=]+", _TEXT_ARGUMENT.sub("TEXT", line).strip())
    fault = _fault([word.rstrip(".,;:)") for word in words if word])
    assert not fault, f"{page}: outrider {line}: {fault}"
