"""What the project has set itself, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import report_amdp, report_amtp, report_cluster, report_mt2
from bench.report_mail import best_peer
from bench.sheet import Sheet, cpu, number, rate, table
from bench.subjects import (
    Inn,
    OutriderFacility,
    OutriderNode,
    OutriderNodes,
    OutriderOne,
    OutriderSmtpBulk,
    OutriderTwo,
    Postfix,
    PostfixBulk,
)
from bench.work import SHAPES, Figure, Kind, Shape

ONE, TWO, POSTFIX = OutriderOne.name, OutriderTwo.name, Postfix.name


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured of a target."""

    text: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Target:
    """One promise, of one server under one load."""

    shape: str
    server: str
    words: str
    read: Callable[[Sheet, Shape], Reading | None]
    """None where it was not measured."""


def beside(sheet: Sheet) -> str:
    """All targets, with what was measured; those not measured stand in the table too."""
    rows = []
    for target in TARGETS:
        shape = next(one for one in SHAPES if one.name == target.shape)
        reading = target.read(sheet, shape) if shape in sheet.shapes else None
        found = ("not measured", "-", "-")
        if reading is not None:
            found = (reading.text, "yes" if reading.reached else "**no**", sheet.measured(shape))
        rows.append((target.shape, target.server, target.words, *found))
    return table(["load", "server", "target", "measured", "reached", "when"], [], rows)


def _times(shape: str, server: str, factor: float, other: str, *, than: str = "", words: str = "") -> Target:
    """At least so many times another's rate; `than`: the other's shape, where it is not the same."""

    def read(sheet: Sheet, measured: Shape) -> Reading | None:
        base = next(one for one in SHAPES if one.name == (than or shape))
        return _compared(sheet.median(measured, server, rate), sheet.median(base, other, rate), factor)

    return Target(shape, server, words or f"{factor:g} x {other}", read)


def _ahead(shape: str, server: str, other: str) -> Target:
    def read(sheet: Sheet, measured: Shape) -> Reading | None:
        return _compared(sheet.median(measured, server, rate), sheet.median(measured, other, rate), None)

    return Target(shape, server, f"ahead of {other}", read)


def _best(shape: str, server: str, factor: float | None) -> Target:
    """So many times the best peer, or ahead of every peer."""

    def read(sheet: Sheet, measured: Shape) -> Reading | None:
        name, best = best_peer(sheet, measured)
        return _compared(sheet.median(measured, server, rate), best, factor, f" {name}")

    return Target(shape, server, f"{factor:g} x the best peer" if factor else "ahead of every peer", read)


def _compared(
    ours: float | None, theirs: float | None, factor: float | None, name: str = ""
) -> Reading | None:
    """Without a factor it has to be more than the other. What is judged is the ratio as it is shown."""
    if not ours or not theirs:
        return None
    found = round(ours / theirs, 2)
    return Reading(
        f"{found:.2f} x ({number(ours)} to{name} {number(theirs)})",
        found > 1 if factor is None else found >= factor,
    )


def _at_most(
    shape: str, server: str, words: str, limit: float, unit: str, of: Callable[[Figure], float]
) -> Target:
    def read(sheet: Sheet, measured: Shape) -> Reading | None:
        value = sheet.median(measured, server, of)
        if value is None:
            return None
        return Reading(f"{value:,.{2 if value < 10 else 0}f} {unit}", value <= limit)

    return Target(shape, server, words, read)


def _extra(name: str) -> Callable[[Figure], float]:
    return lambda figure: figure.extra[name]


def _peak(figure: Figure) -> float:
    return figure.peak_mib


def _named(kind: Kind) -> str:
    """The last shape of that kind."""
    return [shape.name for shape in SHAPES if shape.kind is kind][-1]


_KEPT = "accept, {} kept"
_MIB = "accept 1 MiB, {} kept"
_RELAY = "relay, 20 sessions kept"
_CPU = "CPU at most 0.25 ms a message"
_FACILITY = OutriderFacility.name

TARGETS: tuple[Target, ...] = (
    *(
        _ahead(name.format(sessions), ONE, POSTFIX)
        for name in (_KEPT, _MIB)
        for sessions in ("1 session", "20 sessions", "100 sessions")
    ),
    _ahead(_RELAY, ONE, POSTFIX),
    _times(_KEPT.format("20 sessions"), TWO, 4, POSTFIX),
    _times(_KEPT.format("100 sessions"), TWO, 4, POSTFIX),
    _best(_KEPT.format("100 sessions"), TWO, 3),
    _times("accept, 20 parallel, new connection each", TWO, 3, POSTFIX),
    _times(_KEPT.format("1 session"), TWO, 2, POSTFIX),
    _times("accept, 1 at a time, new connection each", TWO, 1.5, POSTFIX),
    _best(_MIB.format("10 sessions"), TWO, None),
    _times(_RELAY, TWO, 3, POSTFIX),
    _times("STARTTLS, 32 parallel, new connection each", TWO, 1.5, POSTFIX),
    *(_at_most(_KEPT.format("20 sessions"), name, _CPU, 0.25, "ms", cpu) for name in (TWO, ONE)),
    _at_most(_named(Kind.IDLE), TWO, "under 120 MiB in all", 120, "MiB", _peak),
    _at_most(_named(Kind.MILLION), TWO, "accepts within 10 s", 10, "s", _extra("accepted_s")),
    _at_most(_named(Kind.MILLION), TWO, "delivers within 10 s", 10, "s", _extra("delivered_s")),
    _times(
        _named(Kind.CLUSTER),
        OutriderNodes.name,
        report_cluster.TARGET,
        OutriderNode.name,
        words=f"{report_cluster.TARGET:g} x one node",
    ),
    *(
        _times(
            _named(Kind.AMTP),
            name,
            report_amtp.TARGET,
            name,
            than=_named(Kind.CLEAR),
            words=f"{report_amtp.TARGET:g} x in the clear",
        )
        for name in (TWO, ONE)
    ),
    _ahead(_named(Kind.BULK), report_mt2.SEALED, Inn.name),
    _times(_named(Kind.BULK), report_mt2.UNSEALED, 2, OutriderSmtpBulk.name),
    _times(_named(Kind.BULK), report_mt2.UNSEALED, 6, PostfixBulk.name),
    _times(
        _named(Kind.BULK_FAR),
        report_mt2.SEALED,
        report_mt2.FAR_TARGET,
        report_mt2.SEALED,
        than="bulk by MT2, relay of 0 ms",
        words=f"{report_mt2.FAR_TARGET:g} x without delay",
    ),
    *(
        _times(_named(Kind.ENVELOPES), ours, report_amdp.TARGET, plain)
        for ours, plain in report_amdp.PAIRS.items()
    ),
    _at_most(_named(Kind.PAGE), _FACILITY, "first octet under 20 ms, median", 20, "ms", _extra("p50_ms")),
    _at_most(_named(Kind.DOWNLOAD), _FACILITY, "under 100 MiB", 100, "MiB", _peak),
)
