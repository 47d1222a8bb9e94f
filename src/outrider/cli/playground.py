"""`outrider playground`: the small Internet of `make run`."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from outrider.cli.output import fail


@click.command()
@click.option("--once", is_flag=True, help="End after the scenes: 0 only if all came out as they should.")
def playground(once: bool) -> None:
    """Run fourteen mail sites, a DNS server and a few CAs on loopback, and send real mail between them."""
    from outrider.playground.show import play

    once = once or os.environ.get("ONCE", "") not in ("", "0")
    try:
        good = asyncio.run(play(once=once))
    except (OSError, RuntimeError) as error:
        fail(str(error))
    sys.exit(0 if good or not once else 1)
