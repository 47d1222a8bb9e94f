"""One measurement: one server started afresh, one shape of load."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority, TlsFiles
from tests.peers.tools import SmtpSink, smtp_source

from bench.accounting import Account
from bench.hosts import DeadHost, IdleSessions
from bench.subjects import Subject
from bench.work import CLIENT_NAME, KIB, RECIPIENT, Figure, Kind, Shape, Work
from outrider.benchmark.driving import drive
from outrider.benchmark.plan import Outcome, Plan, percentile
from outrider.benchmark.processes import PeakMemory, pss_kib
from outrider.benchmark.report import SHARES

PORT = 2525
EMPTY_LIMIT_S = 300.0
ARRIVAL_LIMIT_S = 90.0
GENERATORS = 2
"""Processes of our own generator."""
SINK_BACKLOG_PAUSE_S = 0.02
HANDSHAKES_S = 3
"""How long handshakes are counted; OpenSSL's client wants whole seconds."""


_Result = tuple[int, float, Outcome | None]
"""Messages that counted, seconds they took, and what the generator noted where it was ours."""


class MeasurementFailed(Exception):
    """A server did not do what was asked of it; the argument says which and what."""


class CountingSink(SmtpSink):
    """Postfix's smtp-sink, which says how many messages it has seen."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port, "-c", keep=False)

    def count(self) -> int:
        """Messages that arrived."""
        shown = (self._room.path / "var/log/server").read_bytes()[-200:]
        found = re.findall(rb"mesg=\s*(\d+)", shown)
        return int(found[-1]) if found else 0


def measure(shape: Shape, kind: type[Subject], number: int, messages: int, rate: float = 0.0) -> Figure:
    """One measurement with so many messages; `rate` is for shapes that have one. Raises MeasurementFailed."""
    with ExitStack() as stack:
        hops: list[tuple[str, int]] = []
        if shape.kind is Kind.DEAD_MX:
            hops.append((stack.enter_context(DeadHost(loopback_address(), PORT)).address, PORT))
        sink = None
        if shape.kind in (Kind.RELAY, Kind.DEAD_MX):
            sink = stack.enter_context(CountingSink(loopback_address(), PORT))
            hops.append((sink.address, PORT))
        mutual = shape.kind in (Kind.AMTP, Kind.HANDSHAKE)
        tls = _server_files() if mutual or shape.kind is Kind.TLS else None
        client = loopback_address() if mutual else ""
        work = Work(loopback_address(), PORT, shape.sessions, tuple(hops), tls, client)
        account = stack.enter_context(Account())
        subject = stack.enter_context(kind(work))
        account.watch(subject.pid)
        blank = Figure(shape.name, kind.name, number, messages, 0.0, 0.0, 0.0)
        if shape.kind is Kind.IDLE:
            return _idle(blank, shape, subject, account)
        return _loaded(
            shape, blank, account, subject, lambda: _put_load(shape, subject, messages, rate, sink)
        )


def _loaded(
    shape: Shape,
    blank: Figure,
    account: Account,
    subject: Subject,
    put_load: Callable[[], tuple[int, float, Outcome | None]],
) -> Figure:
    before = account.cpu_s()
    with PeakMemory(account.pids) as memory:
        messages, seconds, outcome = put_load()
        _wait_empty(subject)
    cpu_ms = 1000 * (account.cpu_s() - before) / messages if messages else 0.0
    extra = {}
    if outcome is not None:
        ordered = sorted(outcome.times)
        extra = {f"{name}_ms": 1000 * percentile(ordered, share) for name, share in SHARES.items()}
    note = "" if messages >= blank.messages else f"{messages} of {blank.messages} arrived in time"
    explained = "" if shape.kind is Kind.HANDSHAKE else subject.explained()
    return replace(
        blank,
        messages=messages,
        seconds=seconds,
        cpu_ms=cpu_ms,
        peak_mib=memory.kib / KIB,
        extra=extra,
        note="; ".join(part for part in (note, explained) if part),
    )


def _put_load(
    shape: Shape, subject: Subject, messages: int, rate: float, sink: CountingSink | None
) -> _Result:
    if shape.kind is Kind.HANDSHAKE:
        return _handshakes(subject)
    if shape.kind in (Kind.TLS, Kind.LATENCY, Kind.CLEAR, Kind.AMTP):
        outcome = _drive(shape, subject, messages, rate)
        return outcome.accepted, outcome.ended - outcome.began, outcome
    began = time.monotonic()
    accepted_s = _smtp_source(shape, subject, messages)
    if sink is None:
        return messages, accepted_s, None
    return _arrivals(sink, messages, began)


def _smtp_source(shape: Shape, subject: Subject, messages: int) -> float:
    work = subject.work
    result = smtp_source(
        work.address,
        work.port,
        messages=messages,
        sessions=min(shape.sessions, messages),
        size_bytes=shape.size,
        recipient=RECIPIENT,
        one_connection=shape.kept,
    )
    if result.status:
        raise MeasurementFailed(f"{subject.name}, {shape.name}: smtp-source failed: {result.output[:500]}")
    return result.duration_s


def _drive(shape: Shape, subject: Subject, messages: int, rate: float) -> Outcome:
    """By our own generator, which knows TLS, rates and times."""
    work = subject.work
    files = _client_files() if work.amtp_client else None
    plan = Plan(
        host=work.address,
        port=work.port,
        messages=messages,
        sessions=shape.sessions,
        size=shape.size,
        kept=shape.kept,
        starttls=shape.kind is Kind.TLS,
        amtp=files is not None,
        certificate=os.fspath(files.certificate) if files else "",
        key=os.fspath(files.key) if files else "",
        helo=CLIENT_NAME,
        source=work.amtp_client,
        rate=rate,
        recipient=RECIPIENT,
    )
    outcome = drive(plan, GENERATORS)
    if outcome.failed:
        raise MeasurementFailed(f"{subject.name}, {shape.name}: {outcome.failures}")
    return outcome


def _arrivals(sink: CountingSink, messages: int, began: float) -> tuple[int, float, None]:
    limit = time.monotonic() + ARRIVAL_LIMIT_S
    while (count := sink.count()) < messages and time.monotonic() < limit:
        time.sleep(SINK_BACKLOG_PAUSE_S)
    return count, time.monotonic() - began, None


def _wait_empty(subject: Subject) -> None:
    """What a server does after its 250 belongs to what a message costs."""
    if subject.work.hops[1:]:
        return  # it has a dead host to wait for, and has been given its time
    limit = time.monotonic() + EMPTY_LIMIT_S
    while subject.waiting():
        if time.monotonic() > limit:
            raise MeasurementFailed(f"{subject.name}: the queue does not empty")
        time.sleep(0.2)


def _idle(blank: Figure, shape: Shape, subject: Subject, account: Account) -> Figure:
    before_kib = pss_kib(account.pids())
    cpu = account.cpu_s()
    with IdleSessions(subject.work.address, subject.work.port, shape.sessions):
        time.sleep(1.0)
        kib = pss_kib(account.pids())
    extra = {"before_mib": before_kib / KIB, "session_kib": (kib - before_kib) / shape.sessions}
    cpu_ms = 1000 * (account.cpu_s() - cpu) / shape.sessions
    return replace(blank, messages=0, cpu_ms=cpu_ms, peak_mib=kib / KIB, extra=extra)


def _handshakes(subject: Subject) -> _Result:
    """By OpenSSL's own client, one after the other for a fixed time."""
    work, files = subject.work, _client_files()
    done = subprocess.run(
        [
            *("openssl", "s_time", "-new", "-tls1_3", "-connect", f"{work.address}:{work.port}"),
            *("-cert", os.fspath(files.certificate), "-key", os.fspath(files.key)),
            *("-CAfile", os.fspath(files.authority), "-time", str(HANDSHAKES_S)),
        ],
        capture_output=True,
        text=True,
        timeout=10 * HANDSHAKES_S + 60,
    )
    found = re.search(r"^(\d+) connections in (\d+) real seconds", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise MeasurementFailed(f"{subject.name}: s_time: {done.stdout[-200:]} {done.stderr[-300:]}")
    return int(found[1]), float(found[2]), None


@cache
def _authority() -> CertificateAuthority:
    folder = Path(tempfile.mkdtemp(prefix="outrider-bench-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return CertificateAuthority(folder)


@cache
def _server_files() -> TlsFiles:
    """P-256, as most certificates are by now; the same for every server."""
    return _authority().issue("mx.bench.example", client=False)


@cache
def _client_files() -> TlsFiles:
    """As a public CA issues them today: for servers only, whoever shows them (AMTP-2b)."""
    return _authority().issue(CLIENT_NAME, client=False)
