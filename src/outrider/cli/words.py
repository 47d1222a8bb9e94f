"""The words of the command line: what each does in one sentence, and where it is.

The sentence stands here a second time, so that the list of words can be shown without loading what each of
them needs; a test keeps the two the same.
"""

from __future__ import annotations

import importlib
from typing import Final, NamedTuple

import click


class Word(NamedTuple):
    """A word, not loaded yet."""

    module: str
    name: str
    """Of the command in that module."""
    help: str
    """The first sentence of the command's own help."""

    def load(self) -> click.Command:
        """The command."""
        command: click.Command = getattr(importlib.import_module(self.module), self.name)
        return command

    def short_help(self, limit: int) -> str:
        """What the command is for, cut to so many characters as click cuts it."""
        return click.Command(self.name, help=self.help).get_short_help_str(limit)


WORDS: Final = {
    "serve": Word(
        "outrider.cli.server",
        "serve",
        "Run the server in the foreground, with its worker processes, until SIGTERM.",
    ),
    "check-config": Word(
        "outrider.cli.server",
        "check_config",
        "Check a configuration completely, and start nothing.",
    ),
    "reload": Word(
        "outrider.cli.server",
        "reload",
        "Have the running server read its configuration anew.",
    ),
    "stop": Word(
        "outrider.cli.server",
        "stop",
        "Ask the running server to stop, as SIGTERM does.",
    ),
    "status": Word(
        "outrider.cli.server",
        "status",
        "Say whether the server runs and what it listens on.",
    ),
    "queue": Word(
        "outrider.cli.queue",
        "queue",
        "List, show, hold, release, retry, fail, drop and reroute messages in the queue.",
    ),
    "explain": Word(
        "outrider.cli.explain",
        "explain",
        "Tell what is known of a message (the id of the 250 reply): facts, rules, and every event.",
    ),
    "trace": Word(
        "outrider.cli.trace",
        "trace",
        "Show and verify the sealed trace of a message that came by MT2.",
    ),
    "policy": Word(
        "outrider.cli.policy",
        "policy",
        "Test the policy without sending anything, look for mistakes in it, and list what rules can ask.",
    ),
    "trust": Word(
        "outrider.cli.trust",
        "trust",
        "Ask block and vouch lists, as the server would, and see whether they are alive.",
    ),
    "user": Word(
        "outrider.cli.user",
        "user",
        "Add, change, list and remove logins.",
    ),
    "list": Word(
        "outrider.cli.lists",
        "list_",
        "Make mailing lists, look after their members, approve posts that wait.",
    ),
    "vacation": Word(
        "outrider.cli.vacation",
        "vacation",
        "Set, show and end the answers for users who are away.",
    ),
    "extension": Word(
        "outrider.cli.extension",
        "extension",
        "List MT2 extensions, switch them on and off, and say who may use them.",
    ),
    "consent": Word(
        "outrider.cli.consent",
        "consent",
        "Show what waits for a user's word, and give it.",
    ),
    "held": Word(
        "outrider.cli.held",
        "held",
        "Look after mail that is kept here until its receivers ask for it.",
    ),
    "postage": Word(
        "outrider.cli.postage",
        "postage",
        "Accounts that senders have here, what is credited to them, and the receipts bought from them.",
    ),
    "subscriptions": Word(
        "outrider.cli.subscriptions",
        "subscriptions",
        "What people have said about whose mail they want; whose lists want to know it.",
    ),
    "classification": Word(
        "outrider.cli.classification",
        "classification",
        "Classes of senders: ask the services that this site has chosen, look after our own.",
    ),
    "cert": Word(
        "outrider.cli.cert",
        "cert",
        "Make certificates, look at them, and see whether others would accept this host.",
    ),
    "partner": Word(
        "outrider.cli.partner",
        "partner",
        "Agree on terms with another site: invite, accept, test, then enforce.",
    ),
    "amdp": Word(
        "outrider.cli.amdp",
        "amdp",
        "AMDP: published policies, and whether receivers would believe our facility.",
    ),
    "dns": Word(
        "outrider.cli.dns",
        "dns",
        "Print all records to publish for this configuration, as lines of a zone file.",
    ),
    "send": Word(
        "outrider.cli.send",
        "send",
        "Send MESSAGE (a file, - for standard input): header section, empty line, body.",
    ),
    "fetch": Word(
        "outrider.cli.fetch",
        "fetch",
        "Fetch what the envelope SOURCE announces (a file, - for standard input), or what all envelopes in "
        "the Maildir SOURCE announce: then each is replaced by its message.",
    ),
    "bench": Word(
        "outrider.cli.bench",
        "bench",
        "Measure how fast a server accepts mail: rate, latency percentiles, CPU and memory.",
    ),
    "playground": Word(
        "outrider.cli.playground",
        "playground",
        "Run fourteen mail sites, a DNS server and a few CAs on loopback, and send real mail between them.",
    ),
}
