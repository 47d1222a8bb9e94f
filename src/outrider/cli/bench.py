"""`outrider bench`: how fast a server takes mail, on this machine."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from outrider.benchmark.driving import drive
from outrider.benchmark.explained import NotExplained
from outrider.benchmark.machine import machine_facts
from outrider.benchmark.own_server import RECIPIENT, OwnServer, ServerFailed
from outrider.benchmark.plan import MIN_SIZE, Outcome, Plan
from outrider.benchmark.processes import PeakMemory, cpu_s, family
from outrider.benchmark.report import ServerCost, lines, summary
from outrider.cli.options import bundle, json_option
from outrider.cli.output import fail, print_json

_FILE = click.Path(exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Target:
    """The server that is measured."""

    plan: Plan
    pid: int | None
    own: OwnServer | None = None


def _plan(
    *, new_connections: bool, no_mail: bool, certificate: str | None, key: str | None, **load: Any
) -> Plan:
    if load["amtp"] and load["starttls"]:
        fail("--amtp is under TLS from the first octet; leave --starttls out", 2)
    return Plan(
        host="",
        port=0,
        kept=not (new_connections or no_mail),
        certificate=certificate or "",
        key=key or "",
        mail=not no_mail,
        **load,
    )


_load = bundle(
    "plan",
    _plan,
    {
        "messages": click.option("--messages", default=10_000, show_default=True, type=click.IntRange(1)),
        "sessions": click.option(
            "--sessions", default=20, show_default=True, type=click.IntRange(1, 20_000), help="At once."
        ),
        "size": click.option(
            "--size", default=4096, show_default=True, type=click.IntRange(MIN_SIZE), help="Octets each."
        ),
        "new_connections": click.option(
            "--new-connections", is_flag=True, help="A connection for each message."
        ),
        "starttls": click.option(
            "--starttls", is_flag=True, help="On each connection; the certificate is not checked."
        ),
        "amtp": click.option(
            "--amtp", is_flag=True, help="TLS from the first octet, with a client certificate, and MPC=."
        ),
        "certificate": click.option(
            "--certificate", type=_FILE, help="With --server: what the client presents under TLS (PEM)."
        ),
        "key": click.option("--key", type=_FILE, help="Its key."),
        "no_mail": click.option(
            "--no-mail", is_flag=True, help="Connect, greet and leave; what counts is an EHLO answered 250."
        ),
        "pipelining": click.option("--pipelining", is_flag=True, help="MAIL, RCPT and DATA in one go."),
        "rate": click.option(
            "--rate", default=0.0, type=click.FloatRange(0), help="Messages a second; default: all it can."
        ),
    },
)


@click.command()
@click.option("--server", help="HOST:PORT of a running one; default: one is started here, mail discarded.")
@_load
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64), help="Generators.")
@click.option("--sender", default="load@client.example", show_default=True)
@click.option("--recipient", default=RECIPIENT, show_default=True, help="Whom the server takes mail for.")
@click.option("--pid", type=int, help="With --server: process whose family's CPU and memory are counted.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(0, 64), help="Of the server started."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="On which disk its spool is to lie; default: here.",
)
@json_option
def bench(
    server: str | None,
    plan: Plan,
    processes: int,
    sender: str,
    recipient: str,
    pid: int | None,
    workers: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Measure how fast a server accepts mail: rate, latency percentiles, CPU and memory.

    A message counts when its 250 has come, which Outrider gives once the message is on stable storage. With
    --rate, latency is counted from the moment a message was due, so that a slow server cannot hide it.
    Exit code 1 when any message is not accepted.
    """
    plan = replace(plan, sender=sender, recipient=recipient)
    try:
        with _target(plan, server, pid, workers, folder) as target:
            result = _measure(target, processes)
    except (ServerFailed, NotExplained, RuntimeError) as error:
        fail(str(error))
    result["machine"] = machine_facts(folder)
    if as_json:
        print_json(result)
    else:
        click.echo("\n".join(lines(result)))
    sys.exit(1 if result["failed"] else 0)


@contextlib.contextmanager
def _target(plan: Plan, server: str | None, pid: int | None, workers: int, folder: Path) -> Iterator[_Target]:
    if server is not None:
        host, port = _address(server)
        yield _Target(replace(plan, host=host, port=port), pid)
        return
    with OwnServer(folder.resolve(), workers, plan.starttls, amtp=plan.amtp) as own:
        plan = replace(plan, host=own.host, port=own.port, recipient=RECIPIENT)
        if plan.amtp and own.credentials is not None:
            files = own.credentials
            plan = replace(plan, certificate=f"{files.client_certificate}", key=f"{files.client_key}")
        yield _Target(plan, own.pid, own)


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        fail(f"{server!r} is not HOST:PORT", 2)
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        fail(f"{host}: {error.strerror}")
    return str(found[0][4][0]), int(port)


def _measure(target: _Target, processes: int) -> dict[str, object]:
    if target.pid is None:
        return summary(target.plan, drive(target.plan, processes), None)
    pid = target.pid
    before = cpu_s(pid)
    with PeakMemory(lambda: family(pid)) as memory:
        outcome = drive(target.plan, processes)
        _let_settle(target, outcome)
    cost = ServerCost(cpu_s(pid) - before, memory.kib / 1024)
    result = summary(target.plan, outcome, cost)
    if target.own is not None and outcome.accepted and target.plan.mail:
        result["explained"] = target.own.explain_one()
    return result


def _let_settle(target: _Target, outcome: Outcome) -> None:
    """Delivery belongs to the cost of a message, as far as one can see when it ends."""
    if target.own is not None and outcome.accepted:
        target.own.wait_empty()
