"""The policies of others: fetched once, remembered as they say, bounded; and when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from outrider.holding.policies import directory as policies
from outrider.holding.policies.directory import (
    FAILED_S,
    GIVE_UP_S,
    NONE_S,
    STALE_S,
    PolicyDirectory,
    PolicyUnknown,
)
from outrider.holding.web import CallAnswer, CallFailed, StreamedAnswer, WebResponse
from outrider.model.address import Domain
from outrider.protocols.amdp.report_reader import MAX_OCTETS
from tests.net.web_harness import PORT, Echo, web_caller, web_site
from tests.peers.certificates import CertificateAuthority

ALPHA = Domain("alpha.example")
HOUR = 3600.0
REPORT = b"DOMAIN alpha.example\nMAX-MAIL-SIZE 100\nCACHE-REFRESH 2\n"


@dataclass
class Caller:
    """Answers from a list, then the same again."""

    answers: list[CallAnswer | CallFailed]
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    waits_for: asyncio.Event | None = None

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        self.asked.append((host, port, path))
        if self.waits_for is not None:
            await self.waits_for.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CallFailed):
            raise answer
        return answer

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        raise AssertionError("nothing is posted")

    def stream(
        self, host: str, port: int, path: str, body: bytes, *, limit: int
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        raise AssertionError("nothing is streamed")


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def answer(body: bytes = REPORT, status: int = 200, kind: str = "text/plain") -> CallAnswer:
    return CallAnswer(status, body, kind, ip_address("192.0.2.1"))


DOWN = CallFailed("amdp-mis.alpha.example: nobody there")
NO_SUCH_NAME = CallFailed("NXDOMAIN", temporary=False)


def directory(
    *answers: CallAnswer | CallFailed, chance: Callable[[], float] = lambda: 0.0
) -> tuple[PolicyDirectory, Caller, Clock]:
    caller, clock = Caller(list(answers)), Clock()
    return PolicyDirectory(caller, clock, chance), caller, clock


@pytest.mark.covers("AMDP-16", "AMDP-3")
async def test_a_policy_is_remembered_for_as_long_as_it_says() -> None:
    known, caller, clock = directory(answer(), answer(REPORT.replace(b"100", b"200")))
    for _ in range(3):
        report = await known.of(ALPHA)
        assert report is not None
        assert report.max_mail_size == 100
    host, port, path = caller.asked[0]
    assert (host, port, path) == (
        "amdp-mis.alpha.example", 443, "/.well-known/amdp-policy?domain=alpha.example"
    )  # fmt: skip
    clock.now += 2 * HOUR - 1
    await known.of(ALPHA)
    assert len(caller.asked) == 1
    clock.now += 1
    report = await known.of(ALPHA)
    assert report is not None
    assert report.max_mail_size == 200


@pytest.mark.covers("AMDP-16")
async def test_renewals_are_spread_by_chance() -> None:
    known, caller, clock = directory(answer(), chance=lambda: 0.999)
    await known.of(ALPHA)
    clock.now += 2 * HOUR * 0.91
    await known.of(ALPHA)
    assert len(caller.asked) == 2


@pytest.mark.covers("AMDP-3")
async def test_all_who_ask_at_once_wait_for_one_answer() -> None:
    known, caller, _ = directory(answer())
    caller.waits_for = asyncio.Event()
    asking = [asyncio.create_task(known.of(ALPHA)) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()  # one who gives up stops nobody
    await asyncio.sleep(0)
    caller.waits_for.set()
    reports = await asyncio.gather(*asking[1:])
    assert len(caller.asked) == 1
    assert all(report is not None for report in reports)


@pytest.mark.covers("AMDP-16")
@pytest.mark.parametrize(
    "nothing",
    [NO_SUCH_NAME, answer(status=404), answer(b"<html>", kind="text/html")],
    ids=["name", "404", "page"],
)
async def test_that_there_is_none_is_remembered_too(nothing: CallAnswer | CallFailed) -> None:
    known, caller, clock = directory(nothing)
    for _ in range(3):
        assert await known.of(ALPHA) is None
    assert len(caller.asked) == 1
    clock.now += NONE_S
    assert await known.of(ALPHA) is None
    assert len(caller.asked) == 2


@pytest.mark.covers("AMDP-3")
@pytest.mark.parametrize("failure", [DOWN, answer(b"", status=503)], ids=["no answer", "503"])
async def test_a_service_that_is_down_is_waited_for_and_not_for_ever(
    failure: CallAnswer | CallFailed,
) -> None:
    known, caller, clock = directory(failure)
    began = clock.now
    while clock.now - began < GIVE_UP_S:
        with pytest.raises(PolicyUnknown):
            await known.of(ALPHA)
        clock.now += FAILED_S / 2
    assert len(caller.asked) == GIVE_UP_S / FAILED_S  # left in peace in between
    assert await known.of(ALPHA) is None


@pytest.mark.covers("AMDP-3", "AMDP-16")
async def test_an_older_policy_is_used_while_the_service_is_down() -> None:
    known, _, clock = directory(answer(), DOWN)
    await known.of(ALPHA)
    clock.now += 2 * HOUR + STALE_S - 1
    report = await known.of(ALPHA)
    assert report is not None
    assert report.max_mail_size == 100
    clock.now += 1 + FAILED_S
    with pytest.raises(PolicyUnknown):
        await known.of(ALPHA)


@pytest.mark.covers("AMDP-16")
async def test_nonsense_is_a_policy_with_defaults() -> None:
    known, _, _ = directory(answer(b"\xff\xfe\0 nonsense\nDENY-CLASS\n" * 100))
    report = await known.of(ALPHA)
    assert report is not None
    assert report.problems
    assert report.cache_hours == 24


@pytest.mark.covers("AMDP-16")
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "MOST_DOMAINS", 10)
    known, caller, _ = directory(answer())
    for number in range(30):
        await known.of(Domain(f"d{number}.example"))
    assert len(known._known) == 10
    await known.of(Domain("d29.example"))
    assert len(caller.asked) == 30


@pytest.mark.covers("AMDP-16", "SEC-207")
async def test_a_document_without_end_is_no_policy(authority: CertificateAuthority) -> None:
    """100 MB over HTTPS: no more is read than is of use."""
    host = "amdp-mis.alpha.example"
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1600):
            sent += MAX_OCTETS
            yield b"ACCEPT-CLASS *\n".ljust(MAX_OCTETS, b"#")

    service = Echo(WebResponse(200, stream=endless(), length=1600 * MAX_OCTETS), host=host)
    async with (
        web_site(authority, [service], host) as site,
        web_caller(authority, {host: [site.address]}) as caller,
    ):
        known = PolicyDirectory(caller, Clock(), lambda: 0.0, port=PORT)
        assert await known.of(ALPHA) is None
    assert sent < 20_000_000
