"""Every kind of shape is measured with real servers, shortly; figures are to make sense, not to be high."""

from __future__ import annotations

from dataclasses import replace

import bench.run
import pytest
from bench.choosing import quick, selected, servers
from bench.measuring import measure
from bench.million import measure_million
from bench.subjects import (
    SUBJECTS,
    Aiohttp,
    Aiosmtpd,
    Exim,
    Inn,
    InnCyclic,
    OpenSmtpd,
    OpenSsl,
    OutriderEnvelopes,
    OutriderEnvelopesTwo,
    OutriderFacility,
    OutriderMt2,
    OutriderMt2Unverified,
    OutriderOne,
    OutriderPlain,
    OutriderPlainTwo,
    OutriderSmtpBulk,
    OutriderTwo,
    Postfix,
    PostfixBulk,
    Subject,
)
from bench.work import MIB, SHAPES, Figure, Kind, Shape


def shape_of(kind: Kind, sessions: int) -> Shape:
    return replace(next(shape for shape in SHAPES if shape.kind is kind), sessions=sessions)


@pytest.mark.parametrize("kind", [OutriderTwo, OutriderOne, Postfix, OpenSmtpd, Exim, Aiosmtpd])
def test_every_server_accepts(kind: type[Subject]) -> None:
    figure = measure(shape_of(Kind.ACCEPT, 5), kind, 1, 30)
    assert figure.messages == 30
    assert figure.rate > 0
    assert figure.cpu_ms > 0
    assert figure.peak_mib > 0
    assert kind.version()
    assert kind.durability
    assert ("the rule" in figure.note) == issubclass(kind, OutriderTwo)


@pytest.mark.parametrize("kind", [OutriderTwo, Postfix, OpenSmtpd, Exim])
def test_relayed_mail_arrives(kind: type[Subject]) -> None:
    figure = measure(shape_of(Kind.RELAY, 5), kind, 1, 30)
    assert (figure.messages, figure.rate > 0) == (30, True)


def test_mail_gets_past_a_dead_host() -> None:
    figure = measure(shape_of(Kind.DEAD_MX, 2), OutriderOne, 1, 20)
    assert figure.messages == 20
    assert "arrived in time" not in figure.note


@pytest.mark.parametrize("kind", [OutriderOne, Postfix])
def test_starttls_is_measured_with_its_latency(kind: type[Subject]) -> None:
    figure = measure(shape_of(Kind.TLS, 4), kind, 1, 20)
    assert figure.messages == 20
    assert 0 < figure.extra["p50_ms"] <= figure.extra["max_ms"]


@pytest.mark.parametrize("kind", [Kind.CLEAR, Kind.AMTP])
def test_our_own_generator_puts_load_in_the_clear_and_by_amtp(kind: Kind) -> None:
    figure = measure(shape_of(kind, 4), OutriderOne, 1, 40)
    assert (figure.messages, figure.cpu_ms > 0) == (40, True)
    assert "the rule" in figure.note


@pytest.mark.parametrize("kind", [OutriderOne, OpenSsl])
def test_handshakes_are_counted(kind: type[Subject]) -> None:
    figure = measure(shape_of(Kind.HANDSHAKE, 1), kind, 1, 0)
    assert figure.messages > 10
    assert figure.cpu_ms > 0


def test_latency_is_taken_at_the_rate_asked_for() -> None:
    figure = measure(shape_of(Kind.LATENCY, 5), OutriderOne, 1, 40, rate=200.0)
    assert figure.messages == 40
    assert figure.rate < 2000


def test_idle_sessions_cost_memory() -> None:
    figure = measure(shape_of(Kind.IDLE, 20), Postfix, 1, 0)
    assert figure.peak_mib > figure.extra["before_mib"]


def test_a_long_queue_is_started_on_and_goes_on() -> None:
    figure = measure_million(shape_of(Kind.MILLION, 0), OutriderTwo, 1, messages=2000, watched_s=0.5)
    assert 0 < figure.extra["ready_s"] <= figure.extra["accepted_s"]
    assert figure.messages >= 2


def test_servers_take_turns_in_changing_order() -> None:
    run = bench.run.Run(2, 0.01)
    tiny = [replace(shape, fewest=10, most=10) for shape in quick(selected("20 sessions kept"))]
    run.measure([next(shape for shape in tiny if shape.kind is Kind.ACCEPT)], servers("1 process; aiosmtpd"))
    order = [(figure.round, figure.subject) for figure in run.figures]
    one, other = OutriderOne.name, Aiosmtpd.name
    assert order == [(1, one), (1, other), (2, other), (2, one)]
    assert run.failures == []


def test_a_server_that_fails_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Subject) -> int:
        raise RuntimeError("no such program")

    monkeypatch.setattr(Aiosmtpd, "start", broken)
    run = bench.run.Run(1, 0.01)
    shape = replace(shape_of(Kind.ACCEPT, 2), fewest=10, most=10, few=False)
    run.measure([shape], [Aiosmtpd, OutriderOne])
    assert [figure.subject for figure in run.figures] == [OutriderOne.name]
    assert run.failures == [(shape.name, f"aiosmtpd, {shape.name}: no such program")]


def test_shapes_that_are_held_against_each_other_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.run, "_measured", without_servers)
    run = bench.run.Run(2, 0.01)
    clear, mutual = shape_of(Kind.CLEAR, 20), shape_of(Kind.AMTP, 20)
    run.measure([clear, mutual], [OutriderOne])
    order = [(figure.round, figure.shape) for figure in run.figures]
    assert order == [(1, clear.name), (1, mutual.name), (2, mutual.name), (2, clear.name)]


@pytest.mark.parametrize(("known", "starts"), [(0.0, [100, 700]), (900.0, [630])])
def test_what_is_known_of_a_server_saves_a_start(
    monkeypatch: pytest.MonkeyPatch, known: float, starts: list[int]
) -> None:
    warmed: list[int] = []

    def measured(shape: Shape, kind: type[Subject], number: int, messages: int, rate: float = 0.0) -> Figure:
        if not number:
            warmed.append(messages)
        return without_servers(shape, kind, number, messages, rate)

    monkeypatch.setattr(bench.run, "_measured", measured)
    shape = shape_of(Kind.ACCEPT, 1)
    run = bench.run.Run(1, 2.0, {(shape.name, OutriderOne.name): known})
    run.measure([shape], [OutriderOne])
    assert warmed == starts
    assert [figure.messages for figure in run.figures] == [2000]


def without_servers(
    shape: Shape, kind: type[Subject], number: int, messages: int, rate: float = 0.0
) -> Figure:
    """A thousand messages a second."""
    return Figure(shape.name, kind.name, number, messages, messages / 1000, 0.5, 50.0)


def test_names_are_told_apart() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    assert len({kind.name for kind in SUBJECTS}) == len(SUBJECTS)


FED = [OutriderMt2, OutriderMt2Unverified, OutriderSmtpBulk, PostfixBulk, Inn, InnCyclic]


@pytest.mark.covers("MT2-18d")
@pytest.mark.parametrize("kind", FED)
def test_bulk_goes_over_one_connection(kind: type[Subject]) -> None:
    shape = shape_of(Kind.BULK, 1)
    assert [one for one in SUBJECTS if one.takes_part(shape)] == FED
    figure = measure(shape, kind, 1, 40)
    assert figure.messages == 40
    assert figure.rate > 0
    assert kind.version()
    assert ("the rule" in figure.note) == issubclass(kind, OutriderTwo)


@pytest.mark.covers("MT2-18c")
@pytest.mark.parametrize("far", [shape for shape in SHAPES if shape.kind is Kind.BULK_FAR])
def test_bulk_goes_through_a_relay(far: Shape) -> None:
    assert [one for one in SUBJECTS if one.takes_part(far)] == [OutriderMt2]
    figure = measure(far, OutriderMt2, 1, 40)
    assert figure.messages == 40
    # Greeting, HELO, OPT and four turns for the messages: no answer is there before its time.
    assert figure.seconds >= 2 * far.delay_s


CALLED_BACK = [OutriderEnvelopesTwo, OutriderPlainTwo, OutriderEnvelopes, OutriderPlain, Aiohttp]


@pytest.mark.covers("AMDP-9")
@pytest.mark.parametrize("kind", [OutriderEnvelopes, OutriderPlain, Aiohttp])
def test_envelopes_are_called_back_and_settled(kind: type[Subject]) -> None:
    shape = shape_of(Kind.ENVELOPES, 5)
    assert [one for one in SUBJECTS if one.takes_part(shape)] == CALLED_BACK
    figure = measure(shape, kind, 1, 40)
    assert (figure.messages, figure.rate > 0, figure.cpu_ms > 0) == (40, True, True)
    assert ("the rule" in figure.note) == issubclass(kind, OutriderTwo)


@pytest.mark.covers("AMDP-13")
def test_a_page_and_a_download_are_measured() -> None:
    page = measure(shape_of(Kind.PAGE, 1), OutriderFacility, 1, 10)
    assert 0 < page.extra["p50_ms"] <= page.extra["max_ms"]
    assert page.extra["new_ms"] > 0
    shape = replace(shape_of(Kind.DOWNLOAD, 1), size=MIB)
    whole = measure(shape, OutriderFacility, 1, 1)
    assert whole.extra["mib"] >= 1
    assert whole.peak_mib > 0
