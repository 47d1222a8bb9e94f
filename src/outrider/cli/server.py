"""`outrider serve`, `check-config`, `reload`, `stop`, `status`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import ask
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, shown
from outrider.runtime.loading import many_modules


@click.command()
@config_option
def serve(config_path: Path) -> None:
    """Run the server in the foreground, with its worker processes, until SIGTERM. SIGHUP reloads."""
    with many_modules():
        from outrider.runtime.starting import StartFailed, serve

    try:
        serve(config_path)
    except StartFailed as error:
        fail(str(error))


@click.command("check-config")
@config_option
@json_option
def check_config(config_path: Path, as_json: bool) -> None:
    """Check a configuration completely, and start nothing. Names file, line and remedy of every fault."""
    with many_modules():
        from outrider.config.problems import ConfigError
        from outrider.runtime.starting import prepare

    try:
        _, assembly = prepare(config_path)
    except ConfigError as error:
        for problem in error.problems:
            if as_json:
                print_json({slot: getattr(problem, slot) for slot in problem.__slots__})
            else:
                click.echo(f"outrider: {problem}", err=True)
        sys.exit(1)
    for warning in assembly.warnings:
        click.echo(f"outrider: warning: {warning}", err=True)
    if as_json:
        print_json({"ok": True, "warnings": list(assembly.warnings)})
    else:
        click.echo(f"{config_path}: good")


@click.command()
@config_option
def reload(config_path: Path) -> None:
    """Have the running server read its configuration anew. With faults in it nothing changes."""
    for row in ask(config_path, "server.reload", {}):
        click.echo(row["result"])


@click.command()
@config_option
def stop(config_path: Path) -> None:
    """Ask the running server to stop, as SIGTERM does."""
    for row in ask(config_path, "server.stop", {}):
        click.echo(row["result"])


@click.command()
@config_option
@json_option
def status(config_path: Path, as_json: bool) -> None:
    """Say whether the server runs and what it listens on."""
    for row in ask(config_path, "server.status", {}):
        if as_json:
            print_json(row)
            continue
        click.echo(
            f"{row['hostname']}: up {row['up_s']} s, {row['connections']} connections, ready: {row['ready']}"
        )
        for listener in row["listeners"]:
            click.echo(f"  {shown(listener['name'])}: {listener['connections']} connections")
        for worker in row.get("workers", ()):
            click.echo(f"  worker {worker['worker']}: {_worker_line(worker)}")


def _worker_line(worker: Mapping[str, Any]) -> str:
    if "pid" not in worker:
        return shown(worker["ready"])
    adopted = f", also has spool {shown(worker['adopted'])}" if worker["adopted"] else ""
    return (
        f"process {worker['pid']}, up {worker['up_s']} s, {worker['connections']} connections, "
        f"{worker['restarts']} restarts, ready: {shown(worker['ready'])}{adopted}"
    )
