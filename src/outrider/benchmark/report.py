"""What a run says, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from outrider.benchmark.plan import Outcome, Plan, percentile

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}


@dataclass(frozen=True, slots=True)
class ServerCost:
    """What the server's processes used for the run, until its queue was empty if that is known."""

    cpu_s: float
    peak_mib: float


def summary(plan: Plan, outcome: Outcome, cost: ServerCost | None) -> dict[str, object]:
    """Every figure of a run, with its unit in the name."""
    ordered = sorted(outcome.times)
    result: dict[str, object] = {
        "plan": asdict(plan),
        "accepted": outcome.accepted,
        "failed": outcome.failed,
        "failures": dict(sorted(outcome.failures.items())),
        "seconds": round(outcome.ended - outcome.began, 3),
        "messages_per_s": round(outcome.rate, 1),
        "mib_per_s": round(outcome.rate * plan.size / 2**20, 2),
        "latency_ms": {
            name: round(1000 * percentile(ordered, share), 3) for name, share in SHARES.items() if ordered
        },
        "generator_cpu_ms_per_message": _each(outcome.cpu, outcome),
    }
    if cost is not None:
        result["server_cpu_ms_per_message"] = _each(cost.cpu_s, outcome)
        result["server_peak_mib"] = round(cost.peak_mib, 1)
    return result


def _each(cpu_s: float, outcome: Outcome) -> float | None:
    return round(1000 * cpu_s / outcome.accepted, 4) if outcome.accepted else None


def lines(result: dict[str, object]) -> list[str]:
    """The summary for a terminal."""
    latency = result["latency_ms"]
    assert isinstance(latency, dict)
    failures = result["failures"]
    assert isinstance(failures, dict)
    plan = result["plan"]
    assert isinstance(plan, dict)
    what, each = ("messages", "a message") if plan["mail"] else ("connections", "a connection")
    rate = f"{result['messages_per_s']:,.1f} {what}/s"
    if plan["mail"]:
        rate += f", {result['mib_per_s']:,.2f} MiB/s"
    rows = [("accepted", f"{result['accepted']:,} {what} in {result['seconds']} s"), ("rate", rate)]
    if latency:
        rows.append(("latency", "  ".join(f"{name} {value:g} ms" for name, value in latency.items())))
    if "server_peak_mib" in result:
        rows.append(("server", f"{result['server_cpu_ms_per_message']} ms CPU {each}, "
                     f"{result['server_peak_mib']} MiB at most"))  # fmt: skip
    rows.append(("generator", f"{result['generator_cpu_ms_per_message']} ms CPU {each}"))
    rows += [("failed", f"{count:,}: {what}") for what, count in failures.items()]
    if "explained" in result:
        rows.append(("checked", str(result["explained"])))
    return [f"{name:10} {text}" for name, text in rows]
