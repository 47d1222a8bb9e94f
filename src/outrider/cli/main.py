"""`outrider`: the command line. Sub-commands are imported when they are called, so that each starts fast."""

from __future__ import annotations

import importlib
import sys

import click

from outrider import __version__

_COMMANDS = {
    "serve": ("outrider.cli.server", "serve"),
    "check-config": ("outrider.cli.server", "check_config"),
    "reload": ("outrider.cli.server", "reload"),
    "stop": ("outrider.cli.server", "stop"),
    "status": ("outrider.cli.server", "status"),
    "queue": ("outrider.cli.queue", "queue"),
    "explain": ("outrider.cli.explain", "explain"),
    "trace": ("outrider.cli.trace", "trace"),
    "policy": ("outrider.cli.policy", "policy"),
    "trust": ("outrider.cli.trust", "trust"),
    "user": ("outrider.cli.user", "user"),
    "list": ("outrider.cli.lists", "list_"),
    "vacation": ("outrider.cli.vacation", "vacation"),
    "extension": ("outrider.cli.extension", "extension"),
    "consent": ("outrider.cli.consent", "consent"),
    "held": ("outrider.cli.held", "held"),
    "postage": ("outrider.cli.postage", "postage"),
    "subscriptions": ("outrider.cli.subscriptions", "subscriptions"),
    "classification": ("outrider.cli.classification", "classification"),
    "cert": ("outrider.cli.cert", "cert"),
    "partner": ("outrider.cli.partner", "partner"),
    "amdp": ("outrider.cli.amdp", "amdp"),
    "dns": ("outrider.cli.dns", "dns"),
    "send": ("outrider.cli.send", "send"),
    "fetch": ("outrider.cli.fetch", "fetch"),
    "bench": ("outrider.cli.bench", "bench"),
    "playground": ("outrider.cli.playground", "playground"),
}


class LazyGroup(click.Group):
    """Knows its commands by name and loads the module of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table above."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="outrider")
def main() -> None:
    """Outrider: a mail transfer agent for sites that hold each other to account.

    Exit codes: 0 done, 1 refused or failed (the reason is on standard error), 2 usage.
    """


if __name__ == "__main__":
    sys.exit(main())
