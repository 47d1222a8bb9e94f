"""`outrider`: the command line. Only the word that is called is loaded (`words.py`): each starts fast."""

from __future__ import annotations

import sys

import click

from outrider import __version__
from outrider.cli.words import WORDS


class LazyGroup(click.Group):
    """Knows its commands by name and loads the module of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        del ctx
        return list(WORDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        del ctx
        word = WORDS.get(cmd_name)
        return None if word is None else word.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The section of `--help` with all words, as click writes it, and without loading any."""
        del ctx
        room = formatter.width - 6 - max(map(len, WORDS))  # two indents and the gap between the columns
        with formatter.section("Commands"):
            formatter.write_dl([(name, word.short_help(room)) for name, word in WORDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="outrider")
def main() -> None:
    """Outrider: a mail transfer agent for sites that hold each other to account.

    Exit codes: 0 done, 1 refused or failed (the reason is on standard error), 2 usage.
    """


if __name__ == "__main__":
    sys.exit(main())
