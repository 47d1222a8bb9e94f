"""What accepting an invitation and taking over a bundle have in common: findings, a question, a reload."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from outrider.cli.output import fail, shown
from outrider.config.loader import Loaded
from outrider.identity.findings import Finding
from outrider.identity.signed_document import SignedDocument
from outrider.runtime.control import CommandRefused, NoServer, call


def show_findings(findings: Sequence[Finding]) -> None:
    """One line each."""
    for finding in findings:
        click.echo(f"  {finding.level.value:7}{finding.subject}: {shown(finding.text)}")


def confirm(document: SignedDocument, words: str, *, dry_run: bool, yes: bool) -> None:
    """Ask whether it shall be done, unless the words or `yes` answer that; a dry run ends here."""
    if words and words.lower().split() != document.words.split():
        fail("these are not the words of this file: it is not what the partner wrote; nothing was changed")
    if dry_run:
        sys.exit(0)
    if yes or words:
        return
    if not sys.stdin.isatty():
        fail("nothing was changed; add --words with the words that the partner read to you, or --yes")
    if not click.confirm("\nHas the partner read these words to you, and shall it be done?"):
        fail("nothing was changed")


def reload_server(loaded: Loaded) -> None:
    """Have the running server read its files anew, if one runs."""
    try:
        for row in call(loaded.resolve(loaded.config.data_dir), "server.reload", {}):
            click.echo(shown(row["result"]))
    except NoServer:
        click.echo("No server runs; it will know when it is started.")
    except CommandRefused as refusal:
        fail(f"written, but the running server does not take it: {refusal}")
