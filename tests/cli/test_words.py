"""The list of words, and what a command loads before it does anything: no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from outrider.cli.main import main
from outrider.cli.words import WORDS

HEAVY = {
    "OpenSSL", "aiohttp", "argon2", "asyncio", "cryptography", "dns", "joserfc", "ldap", "lxml",
    "prometheus_client", "psycopg", "publicsuffixlist", "rich", "uvloop",
}  # fmt: skip
"""Top-level packages that take long to load."""

SHOW_LOADED = """
import sys
from outrider.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("", *sys.modules, sep="\\n", file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    """The modules in memory when the command has ended."""
    ended = subprocess.run(
        [sys.executable, "-c", SHOW_LOADED, *arguments], capture_output=True, text=True, check=True
    )
    return set(ended.stderr.split())


@pytest.mark.parametrize("name", WORDS)
def test_the_list_says_of_a_word_what_it_says_of_itself(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.get_short_help_str(1_000) == WORDS[name].short_help(1_000)
    assert command.get_short_help_str(40) == WORDS[name].short_help(40)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_list_of_words_loads_none_of_them(option: str) -> None:
    ours = {name for name in loaded_by(option) if name.partition(".")[0] == "outrider"}
    assert ours == {"outrider", "outrider.cli", "outrider.cli.main", "outrider.cli.words"}


@pytest.mark.parametrize(
    "arguments",
    [("queue", "list", "--help"), ("status", "--help"), ("explain", "--help")],
    ids=" ".join,
)
def test_a_command_that_asks_the_server_is_light(arguments: tuple[str, ...]) -> None:
    assert not {name.partition(".")[0] for name in loaded_by(*arguments)} & HEAVY
