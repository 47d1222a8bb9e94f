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
from tests.peers.delay_relay import DelayRelay
from tests.peers.tools import SmtpSink, SourceResult, smtp_source

from bench import amdp
from bench.accounting import Account
from bench.bulk import TlsIdentity, run_feed
from bench.bulk_feeds import Feed, FeedRefused, Mt2Feed, NntpFeed, SmtpFeed
from bench.hosts import DeadHost, IdleSessions
from bench.subjects import OUTRIDER_NAME, Inn, OutriderMt2, Subject
from bench.work import (
    CLIENT_NAME,
    FEEDS,
    HELD,
    HOLDER_NAME,
    KIB,
    RECIPIENT,
    Figure,
    Kind,
    Shape,
    Work,
)
from outrider.benchmark.driving import drive
from outrider.benchmark.plan import Outcome, Plan, percentile
from outrider.benchmark.processes import PeakMemory, pss_kib
from outrider.benchmark.report import SHARES
from outrider.identity.seals import Sealer

PORT = 2525
SERVER_NAME = "mx.bench.example"
"""In the certificate of every server."""
EMPTY_LIMIT_S = 300.0
ARRIVAL_LIMIT_S = 90.0
GENERATORS = 2
"""Processes of our own generator."""
SINK_BACKLOG_PAUSE_S = 0.02
OFTEN_S = 0.05
"""Between looks at the memory, where a measurement is short."""
NEW_CONNECTIONS = 50
"""To the page, each with a handshake of its own."""
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
        shown = (self.room.path / "var/log/server").read_bytes()[-200:]
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
        kept = None
        if shape.kind in HELD:
            kept = stack.enter_context(SmtpSink(loopback_address(), PORT))
            hops.append((kept.address, PORT))
        mutual = shape.kind in (Kind.AMTP, Kind.HANDSHAKE)
        by_mt2 = shape.kind in FEEDS and issubclass(kind, OutriderMt2)
        tls = server_files() if mutual or by_mt2 or shape.kind is Kind.TLS else None
        client = loopback_address() if mutual else ""
        feeder = CLIENT_NAME if by_mt2 else ""
        holder = ""
        if shape.kind is Kind.ENVELOPES or shape.kind in HELD:
            tls, holder = holder_files(), loopback_address()
        work = Work(loopback_address(), PORT, shape.sessions, tuple(hops), tls, feeder, client, holder)
        account = stack.enter_context(Account())
        subject = stack.enter_context(kind(work))
        account.watch(subject.pid)
        blank = Figure(shape.name, kind.name, number, messages, 0.0, 0.0, 0.0)
        if shape.kind is Kind.IDLE:
            return _idle(blank, shape, subject, account)
        if kept is not None:
            return _held(blank, shape, subject, account, kept)
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
        wait_empty(subject)
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
    if shape.kind in FEEDS:
        return _bulk(shape, subject, messages)
    if shape.kind is Kind.ENVELOPES:
        try:
            seconds, outcome = amdp.put_envelopes(shape, subject, messages, GENERATORS)
        except amdp.LoadFailed as error:
            raise MeasurementFailed(f"{subject.name}, {shape.name}: {error}") from error
        return messages, seconds, outcome
    if shape.kind in (Kind.TLS, Kind.LATENCY, Kind.CLEAR, Kind.AMTP):
        outcome = _drive(shape, subject, messages, rate)
        return outcome.accepted, outcome.ended - outcome.began, outcome
    source = put_by_smtp_source(shape, subject, messages)
    if sink is None:
        return messages, source.duration_s, None
    return *wait_arrived(sink, messages, source.began), None


def put_by_smtp_source(shape: Shape, subject: Subject, messages: int) -> SourceResult:
    """Hand in so many messages. Raises MeasurementFailed when one is refused."""
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
    return result


def _drive(shape: Shape, subject: Subject, messages: int, rate: float) -> Outcome:
    """By our own generator, which knows TLS, rates and times."""
    work = subject.work
    files = client_files() if work.amtp_client else None
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


def wait_arrived(sink: CountingSink, messages: int, began: float) -> tuple[int, float]:
    """Wait for so many messages: how many arrived, and how long after `began` the last did."""
    limit = time.monotonic() + ARRIVAL_LIMIT_S
    while (count := sink.count()) < messages and time.monotonic() < limit:
        time.sleep(SINK_BACKLOG_PAUSE_S)
    return count, time.monotonic() - began


def wait_empty(subject: Subject) -> None:
    """Wait until nothing is queued. Raises MeasurementFailed when that does not come about.

    What a server does after its 250 belongs to what a message costs.
    """
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


def _held(blank: Figure, shape: Shape, subject: Subject, account: Account, sink: SmtpSink) -> Figure:
    """The page, or the whole, of a message that the facility holds."""
    try:
        with PeakMemory(account.pids, OFTEN_S) as memory:
            path = amdp.hold(subject.work, sink, shape.size)
        take = _page if shape.kind is Kind.PAGE else _download
        return take(replace(blank, extra={"hold_mib": memory.kib / KIB}), subject, account, path)
    except amdp.LoadFailed as error:
        raise MeasurementFailed(f"{subject.name}, {shape.name}: {error}") from error


def _page(blank: Figure, subject: Subject, account: Account, path: str) -> Figure:
    cpu, began = account.cpu_s(), time.monotonic()
    with PeakMemory(account.pids) as memory:
        times = sorted(amdp.page_times(subject.work, path, blank.messages))
    seconds, cpu_ms = time.monotonic() - began, 1000 * (account.cpu_s() - cpu) / blank.messages
    new = sorted(amdp.first_page_times(subject.work, path, NEW_CONNECTIONS))
    extra = {f"{name}_ms": 1000 * percentile(times, share) for name, share in SHARES.items()}
    extra["new_ms"] = 1000 * percentile(new, 0.5)
    return replace(
        blank, seconds=seconds, cpu_ms=cpu_ms, peak_mib=memory.kib / KIB, extra={**blank.extra, **extra}
    )


def _download(blank: Figure, subject: Subject, account: Account, path: str) -> Figure:
    cpu = account.cpu_s()
    with PeakMemory(account.pids, OFTEN_S) as memory:
        first_s, seconds, octets = amdp.download(subject.work, path)
    cpu_ms = 1000 * (account.cpu_s() - cpu)
    extra = {"first_ms": 1000 * first_s, "mib": octets / KIB**2, **blank.extra}
    return replace(blank, seconds=seconds, cpu_ms=cpu_ms, peak_mib=memory.kib / KIB, extra=extra)


def _bulk(shape: Shape, subject: Subject, messages: int) -> _Result:
    """Over one connection; everything that is sent has been made before the clock starts."""
    work = subject.work
    feed: Feed
    identity = None
    if isinstance(subject, OutriderMt2):
        files = client_files()
        sealer = Sealer.from_pem(files.certificate.read_bytes(), files.key.read_bytes())
        feed = Mt2Feed(messages, shape.size, sealer, OUTRIDER_NAME)
        identity = TlsIdentity(files.certificate, files.key, files.authority, SERVER_NAME)
    elif isinstance(subject, Inn):
        feed = NntpFeed(messages, shape.size)
    else:
        feed = SmtpFeed(messages, shape.size)
    with ExitStack() as stack:
        where = (work.address, work.port)
        if shape.kind is Kind.BULK_FAR:
            relay = DelayRelay(loopback_address(), PORT, *where, shape.delay_s)
            stack.enter_context(relay)
            where = (relay.address, relay.port)
        try:
            return messages, run_feed(feed, messages, *where, identity), None
        except FeedRefused as error:
            raise MeasurementFailed(f"{subject.name}, {shape.name}: {error}") from error


def _handshakes(subject: Subject) -> _Result:
    """By OpenSSL's own client, one after the other for a fixed time."""
    work, files = subject.work, client_files()
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
def server_files() -> TlsFiles:
    """P-256, as most certificates are by now; the same for every server."""
    return _authority().issue(SERVER_NAME, OUTRIDER_NAME, client=False)


@cache
def client_files() -> TlsFiles:
    """As a public CA issues them today: for servers only, whoever shows them (AMTP-2b)."""
    return _authority().issue(CLIENT_NAME, client=False)


@cache
def holder_files() -> TlsFiles:
    """Of a holding facility: the stand-in that is called back, or ours."""
    return _authority().issue(HOLDER_NAME, client=False)
