"""Every kind of shape is measured with real servers, shortly; figures are to make sense, not to be high."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.measuring import measure
from bench.million import measure_million
from bench.run import Run, quick, selected, servers
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
from bench.work import MIB, SHAPES, Kind, Shape


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
    run = Run(2, 0.01)
    tiny = [replace(shape, fewest=10, most=10) for shape in quick(selected("20 sessions kept"))]
    run.shape(next(shape for shape in tiny if shape.kind is Kind.ACCEPT), servers("1 process; aiosmtpd"))
    order = [(figure.round, figure.subject) for figure in run.figures]
    one, other = OutriderOne.name, Aiosmtpd.name
    assert order == [(1, one), (1, other), (2, other), (2, one)]
    assert run.failures == []


def test_a_server_that_fails_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Subject) -> int:
        raise RuntimeError("no such program")

    monkeypatch.setattr(Aiosmtpd, "start", broken)
    run = Run(1, 0.01)
    shape = replace(shape_of(Kind.ACCEPT, 2), fewest=10, most=10, few=False)
    run.shape(shape, [Aiosmtpd, OutriderOne])
    assert [figure.subject for figure in run.figures] == [OutriderOne.name]
    assert run.failures == [f"aiosmtpd, {shape.name}: no such program"]


def test_words_choose_shapes_and_servers() -> None:
    assert [shape.name for shape in selected("1 MiB; idle")] == [
        "accept 1 MiB, 1 session kept",
        "accept 1 MiB, 10 sessions kept",
        "1,000 idle sessions",
    ]
    assert servers("postfix") == [PostfixBulk, Postfix]
    assert selected("") == list(SHAPES)
    assert servers("") == list(SUBJECTS)


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
