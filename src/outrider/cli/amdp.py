"""`outrider amdp`: policies that domains publish, and whether receivers would believe our facility."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows, shown
from outrider.protocols.amdp.prices import format_price
from outrider.protocols.amdp.report import PolicyReport, Problem, lint, write_report
from outrider.protocols.amdp.report_reader import MAX_OCTETS, parse_report

if TYPE_CHECKING:
    from outrider.model.address import Domain
    from outrider.runtime.assembly import Assembly


_PLAIN = (
    "domain",
    "mis",
    "super_auth",
    "max_mail_size",
    "messages_per_minute",
    "cache_hours",
    "amdp_share",
    "smtp_share",
    "contact",
    "restricted",
    "accept_reject",
    "pay",
    "pay_method",
    "pay_account",
    "pay_currency",
    "unvouched_price",
    "class_services",
    "subscribe_synch",
    "subscribe_agent",
    "accept_next_in",
)


@click.group()
def amdp() -> None:
    """AMDP: published policies, and whether receivers would believe our facility."""


@amdp.group()
def policy() -> None:
    """What domains publish of the mail that they take: ours, others', a file."""


@policy.command()
@click.argument("domain", required=False, default="")
@config_option
@json_option
def show(config_path: Path, domain: str, as_json: bool) -> None:
    """Print what is published for a DOMAIN of ours (default: each), made of the settings and the rules."""
    from outrider.runtime.amdp_checks import own_reports

    assembly = _assembly(config_path)
    reports = own_reports(assembly.config, assembly.policy)
    wanted = [_own(assembly, domain)] if domain else list(reports)
    for number, name in enumerate(wanted):
        if as_json:
            print_json(_as_json(reports[name]))
        else:
            click.echo("\n" * bool(number) + write_report(reports[name]), nl=False)


@policy.command()
@click.argument("domain")
@config_option
@json_option
def fetch(config_path: Path, domain: str, as_json: bool) -> None:
    """Fetch the policy of a DOMAIN as this server would, and print it with what is wrong with it.

    Exit code 1 when it has none or cannot be reached.
    """
    from outrider.holding.policies.directory import PolicyDirectory
    from outrider.holding.web import CallFailed
    from outrider.runtime.amdp_trial import calling

    assembly, name = _assembly(config_path), _domain(domain)

    async def ask() -> tuple[PolicyReport, bytes] | None:
        async with calling(assembly) as (caller, _):
            port = assembly.config.net.amdp_port
            return await PolicyDirectory(caller, lambda: 0.0, lambda: 0.0, port=port).fetch(name)

    try:
        found = asyncio.run(ask())
    except CallFailed as error:
        fail(str(error))
    if found is None:
        fail(f"{name} publishes no policy")
    report, octets = found
    if as_json:
        print_json(_as_json(report))
        return
    for line in octets[:MAX_OCTETS].decode("utf-8", "replace").splitlines():
        click.echo(shown(line))
    _print_problems(lint(report))


@policy.command("lint")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--domain", default="", help="Whose it should be.")
@json_option
def lint_(file: Any, domain: str, as_json: bool) -> None:
    """Say what is wrong with a policy in FILE (default standard input): nonsense, what is surely not meant.

    Exit code 1 when there is anything.
    """
    report = parse_report(file.read(MAX_OCTETS + 1), _domain(domain) if domain else "")
    problems = lint(report)
    if as_json:
        print_json(_as_json(report))
    else:
        _print_problems(problems)
    sys.exit(1 if problems else 0)


@amdp.command()
@click.argument("domain", required=False, default="")
@config_option
@json_option
def check(config_path: Path, domain: str, as_json: bool) -> None:
    """Would receivers believe us? Look at a DOMAIN of ours (default: each) as they do: DNS, HTTPS,
    certificates.

    Exit code 1 unless all is well.
    """
    from outrider.runtime.amdp_checks import own_reports
    from outrider.runtime.amdp_trial import Grade, check_domain

    assembly = _assembly(config_path)
    if not {"mhf", "mis"} & set(assembly.config.amdp.roles):
        fail("this server is neither a facility nor an information service ([amdp] roles)")
    wanted = [_own(assembly, domain)] if domain else list(own_reports(assembly.config, assembly.policy))

    async def look() -> list[Any]:
        return [point for name in wanted for point in await check_domain(assembly, name)]

    points = asyncio.run(look())
    print_rows(
        (
            {"status": one.grade.value, "what": one.what, "found": one.found, "remedy": one.remedy}
            for one in points
        ),
        tuple((key, key) for key in ("status", "what", "found", "remedy")),
        as_json=as_json,
    )
    sys.exit(0 if points and all(one.grade is Grade.OK for one in points) else 1)


def _assembly(config_path: Path) -> Assembly:
    from outrider.config.problems import ConfigError
    from outrider.runtime.starting import prepare

    try:
        return prepare(config_path)[1]
    except ConfigError as error:
        fail(str(error))


def _domain(text: str) -> Domain:
    from outrider.model.address import AddressError, parse_domain

    try:
        return parse_domain(text.rstrip("."))
    except AddressError as error:
        fail(f"{text}: {error}", 2)


def _own(assembly: Assembly, text: str) -> Domain:
    from outrider.runtime.amdp_checks import own_reports

    name = _domain(text)
    if name not in own_reports(assembly.config, assembly.policy):
        fail(f"{name} is none of [domains]")
    return name


def _print_problems(problems: Sequence[Problem]) -> None:
    """On standard error, so that the policy itself can be piped."""
    for problem in problems:
        where = f"line {problem.line}: " if problem.line else ""
        click.echo(f"{where}{shown(problem.text)}", err=True)


def _as_json(report: PolicyReport) -> dict[str, Any]:
    """All that was read of a policy."""
    values: dict[str, Any] = {name: getattr(report, name) for name in _PLAIN}
    return values | {
        "accept": {str(one.pattern): format_price(one.price) if one.price else "" for one in report.accept},
        "deny": [str(pattern) for pattern in report.deny],
        "unsolicited_hours": [str(hours) for hours in report.unsolicited_hours],
        "unknown": dict(report.unknown),
        "problems": [{"line": one.line, "text": one.text} for one in lint(report)],
    }
