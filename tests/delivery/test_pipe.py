"""Pipes for real: every exit status, time-out, flood, hostile values, what the command sees."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop

from outrider.delivery.interface import Job
from outrider.delivery.pipe import (
    EXIT_STATUS,
    MAX_OUTPUT,
    Account,
    PipeTransport,
    account_named,
    result_for_exit,
)
from outrider.model.address import Address
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import Mailbox
from tests.delivery.support import CONTENT, Observer, leased, new_message

NOBODY = Account(65534, 65534)


def mailbox(address: Address) -> Mailbox | None:
    user, _, detail = address.local.partition("+")
    return Mailbox(user, detail, address.domain)


def transport(timeout_s: float = 20.0, account: Account | None = NOBODY) -> PipeTransport:
    return PipeTransport(mailbox, Observer(), timeout_s=timeout_s, account=account)


def job(*addresses: str, **options: Any) -> Job:
    message = leased(new_message("m1", *(addresses or ("ann+x@alpha.example",)), **options)).message
    return Job(message, tuple(range(len(message.envelope.recipients))))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A place that the commands' account may enter and write to."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    place = tmp_path / "room"
    place.mkdir()
    place.chmod(0o777)
    return place


def script(room: Path, text: str, name: str = "command") -> str:
    path = room / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return str(path)


async def run(command: str, one: Job | None = None, **options: Any) -> DeliveryResult:
    results = await transport(**options).deliver(one or job(), command)
    return results[0]


@pytest.mark.covers("SMTP-8")
async def test_the_command_gets_the_message_on_its_input(room: Path) -> None:
    result = await run(script(room, f"cat > {room}/out"))
    assert (result.kind, result.status, result.protocol) == (Kind.DELIVERED, "2.0.0", "pipe")
    assert (room / "out").read_bytes() == (
        b"Return-Path: <ann@sender.example>\nDelivered-To: ann+x@alpha.example\n"
        b"Received: from x by mx.alpha.example; now\n" + CONTENT.replace(b"\r\n", b"\n")
    )


@pytest.mark.covers("SMTP-8", "SMTP-6")
@pytest.mark.parametrize("status", [*range(2), *sorted(EXIT_STATUS), 79, 100, 111, 127, 255])
async def test_every_exit_status(room: Path, status: int) -> None:
    result = await run(script(room, f"echo because; exit {status}"))
    expected = EXIT_STATUS.get(status, (Kind.DEFERRED, "4.3.0", f"unexpected exit status {status}"))
    assert (result.kind, result.status, result.text) == (*expected[:2], f"{expected[2]}: because")


@pytest.mark.covers("SMTP-6")
def test_only_what_sysexits_calls_the_mails_fault_is_returned() -> None:
    returned = {status for status, (kind, _, _) in EXIT_STATUS.items() if kind is Kind.FAILED}
    assert returned == {65, 67, 68, 69, 70, 73, 76, 77}
    for status in range(1, 256):
        result = result_for_exit(status, b"")
        assert (result.kind is Kind.FAILED) is (status in returned)
        assert result.status[0] == ("5" if status in returned else "4")
    assert result_for_exit(None, b"").kind is Kind.DEFERRED


async def test_death_by_a_signal_makes_mail_wait(room: Path) -> None:
    result = await run(script(room, "kill -9 $$"))
    assert (result.kind, result.text) == (Kind.DEFERRED, "ended by signal 9")


@pytest.mark.covers("SMTP-8")
async def test_a_command_that_does_not_end_is_ended_with_all_it_started(room: Path) -> None:
    child = script(room, f'echo $$ > {room}/child.pid; trap "" TERM; sleep 600; sleep 600', "child")
    command = script(room, f"{child} &\necho $$ > {room}/leader.pid\nwait")
    result = await run(command, timeout_s=1.0)
    assert result.kind is Kind.DEFERRED
    assert "did not end within 1 seconds" in result.text
    for name in ("leader.pid", "child.pid"):
        pid = int((room / name).read_text())
        await _gone(pid)


async def _gone(pid: int) -> None:
    for _ in range(500):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if text.rpartition(")")[2].split()[0] in ("Z", "X"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{pid} is still there")


@pytest.mark.covers("SMTP-8", "SEC-171")
async def test_a_flood_of_output_is_read_and_forgotten(room: Path) -> None:
    result = await run(script(room, "head -c 20000000 /dev/zero | tr '\\0' x; exit 67"))
    assert (result.kind, result.status) == (Kind.FAILED, "5.1.1")
    assert len(result.text) <= MAX_OUTPUT


async def test_output_becomes_one_printable_line(room: Path) -> None:
    result = await run(script(room, r"printf 'a\nSubject: b\033[31m\377'; exit 75"))
    assert result.text == "temporary failure: a Subject: b?[31m\N{REPLACEMENT CHARACTER}"


async def test_a_command_need_not_read_its_input(room: Path) -> None:
    big = b"Subject: x\r\n\r\n" + b"x" * 70 * 20_000 + b"\r\n"
    assert (await run(script(room, "exit 0"), job(octets=big))).kind is Kind.DELIVERED


@pytest.mark.covers("SEC-69")
@pytest.mark.parametrize(
    "hostile",
    [
        "$(touch pwned)",
        "`touch pwned`",
        ";touch pwned;",
        "|touch pwned",
        "a b  c",
        "{domain}",
        "*",
        "'\"",
        "../../etc/passwd",
    ],
)
async def test_values_reach_the_command_as_they_are_and_nothing_is_interpreted(
    room: Path, hostile: str
) -> None:
    seen = script(
        room, f'cd {room}; for one in "$@"; do printf "%s\\0" "$one"; done > args; printf %s "$USER" > user'
    )
    carrier = PipeTransport(
        lambda address: Mailbox(hostile, "", address.domain), Observer(), timeout_s=20, account=NOBODY
    )
    results = await carrier.deliver(job(), f"{seen} --user={{user}} {{user}} 'two words' end")
    assert results[0].kind is Kind.DELIVERED
    arguments = (room / "args").read_bytes().split(b"\0")[:-1]
    assert arguments == [f"--user={hostile}".encode(), hostile.encode(), b"two words", b"end"]
    assert (room / "user").read_text() == hostile
    assert sorted(path.name for path in room.iterdir()) == ["args", "command", "user"]


@pytest.mark.covers("SEC-69")
async def test_a_value_that_would_be_an_option_is_refused(room: Path) -> None:
    command = script(room, f"touch {room}/ran")
    carrier = PipeTransport(
        lambda address: Mailbox("-rf", "", address.domain), Observer(), timeout_s=20, account=NOBODY
    )
    results = await carrier.deliver(job(), f"{command} {{user}}")
    assert results[0].kind is Kind.FAILED
    sender = await run(f"{command} {{sender}}", job(sender="-x@b.example"))
    assert sender.kind is Kind.FAILED
    assert not (room / "ran").exists()
    assert (await run(f"{command} -f{{sender}}", job(sender="-x@b.example"))).kind is Kind.DELIVERED


@pytest.mark.covers("SMTP-8")
async def test_the_command_sees_little_of_us(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_SECRET", "do not tell")
    command = script(
        room, f"cd {room}; env -u PWD -u OLDPWD > env; readlink /proc/$$/cwd; id -u > id; umask > umask"
    )
    assert (await run(command)).kind is Kind.DELIVERED
    lines = (room / "env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    for shells_own in ("PWD", "SHLVL", "_", "OLDPWD"):
        environment.pop(shells_own, None)
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SENDER": "ann@sender.example",
        "RECIPIENT": "ann+x@alpha.example",
        "USER": "ann",
        "EXTENSION": "x",
        "DOMAIN": "alpha.example",
        "MESSAGE_ID": "m1",
    }
    assert (room / "umask").read_text() == "0077\n"
    if os.geteuid() == 0:
        assert (room / "id").read_text() == "65534\n"


@pytest.mark.covers("SMTP-8")
async def test_commands_never_run_as_root(room: Path) -> None:
    command = script(room, f"touch {room}/ran")
    result = await run(command, account=None)
    if os.geteuid() == 0:
        assert (result.kind, result.status) == (Kind.DEFERRED, "4.3.5")
        assert not (room / "ran").exists()
    else:
        assert result.kind is Kind.DELIVERED


def test_accounts_by_name() -> None:
    assert account_named("") is None
    with pytest.raises(ValueError, match="no account"):
        account_named("no-such-account-here")
    with pytest.raises(ValueError, match="never run as root"):
        account_named("root")
    nobody = account_named("nobody")
    assert nobody is not None
    assert nobody.uid != 0


@pytest.mark.parametrize("command", ["/nonexistent/command", "/etc/hostname"])
async def test_a_command_that_cannot_be_run_makes_mail_wait(command: str) -> None:
    result = await run(command)
    assert (result.kind, result.status) == (Kind.DEFERRED, "4.3.0")


@pytest.mark.covers("SMTP-8")
async def test_each_recipient_is_a_run_with_a_result_of_its_own(room: Path) -> None:
    command = script(room, '[ "$1" = bob ] && exit 67; exit 0')
    one = job("ann@alpha.example", "bob@alpha.example", "carol@alpha.example")
    results = await transport().deliver(one, f"{command} {{user}}")
    assert [results[n].kind for n in range(3)] == [Kind.DELIVERED, Kind.FAILED, Kind.DELIVERED]


@pytest.mark.covers("SEC-168")
async def test_a_loop_is_seen_before_the_command_is_run(room: Path) -> None:
    command = script(room, f"touch {room}/ran")
    again = b"Delivered-To: ann+x@alpha.example\r\n" + CONTENT
    result = await run(command, job(octets=again))
    assert (result.kind, result.status) == (Kind.FAILED, "5.4.6")
    assert not (room / "ran").exists()


async def test_a_delivery_that_is_broken_off_ends_its_command(room: Path) -> None:
    command = script(room, f"echo $$ > {room}/leader.part; mv {room}/leader.part {room}/leader; sleep 600")
    task = asyncio.ensure_future(run(command))
    while not (room / "leader").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    await _gone(int((room / "leader").read_text()))


async def test_a_delivery_that_is_broken_off_while_its_command_starts_ends_it(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = script(room, "sleep 600")
    started: list[int] = []
    running, go_on = threading.Event(), threading.Event()

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            started.append(self.pid)
            running.set()
            go_on.wait(60)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    task = asyncio.ensure_future(run(command))
    await asyncio.to_thread(running.wait, 60)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    await _gone(started[0])


async def test_the_loop_goes_on_while_a_command_runs(room: Path) -> None:
    command = script(room, f"while [ ! -e {room}/go ]; do sleep 0.01; done")
    task = asyncio.ensure_future(run(command))
    await asyncio.sleep(0.05)
    assert not task.done()
    (room / "go").touch()
    assert (await task).kind is Kind.DELIVERED


def test_it_runs_on_uvloop_too(room: Path) -> None:
    command = script(room, f"cat > {room}/out; exit 75")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(command))
    assert result.kind is Kind.DEFERRED
    assert (room / "out").stat().st_size > 0
