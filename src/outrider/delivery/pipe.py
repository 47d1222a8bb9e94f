"""Delivery to a command (SMTP-8): one run for each recipient, the message on its standard input.

No shell is ever involved. The command line was split when the configuration was read; placeholders are
replaced inside single arguments afterwards, so that nothing in an address can add an argument, and an address
that would turn into an option is refused (SEC-69). What the command may do is bounded: its time, its output,
its environment; it runs in a process group of its own, which is ended as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass

from outrider.delivery.interface import Job
from outrider.delivery.local_content import local_content, was_delivered_to
from outrider.delivery.maildir import MailboxOf
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.results import cleaned, deferred, failed, own_failure
from outrider.model.address import Address
from outrider.model.message import StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import Mailbox
from outrider.routing.ways import WayError, replace_placeholders, split_command

MAX_OUTPUT = 4096
"""Octets of the command's words that are kept for the report."""
AT_ONCE = 8
"""Commands at once for the recipients of one message."""
KILL_AFTER_S = 5.0
"""Between SIGTERM and SIGKILL."""
COMMAND_PATH = "/usr/local/bin:/usr/bin:/bin"

EXIT_STATUS: dict[int, tuple[Kind, str, str]] = {
    0: (Kind.DELIVERED, "2.0.0", "accepted by the command"),
    # Wrong use, missing input and configuration are our operator's mistakes: the mail waits (SMTP-6).
    64: (Kind.DEFERRED, "4.3.5", "command line usage error"),
    65: (Kind.FAILED, "5.6.0", "data format error"),
    66: (Kind.DEFERRED, "4.3.0", "cannot open input"),
    67: (Kind.FAILED, "5.1.1", "user unknown"),
    68: (Kind.FAILED, "5.1.2", "host name unknown"),
    69: (Kind.FAILED, "5.3.0", "service unavailable"),
    70: (Kind.FAILED, "5.3.0", "internal software error"),
    71: (Kind.DEFERRED, "4.3.0", "system resource problem"),
    72: (Kind.DEFERRED, "4.3.0", "critical system file missing"),
    73: (Kind.FAILED, "5.2.0", "cannot create user output file"),
    74: (Kind.DEFERRED, "4.3.0", "input/output error"),
    75: (Kind.DEFERRED, "4.3.0", "temporary failure"),
    76: (Kind.FAILED, "5.5.0", "remote error in protocol"),
    77: (Kind.FAILED, "5.7.0", "permission denied"),
    78: (Kind.DEFERRED, "4.3.5", "configuration error"),
}
"""sysexits.h. Any other exit status, and death by a signal, is unforeseen: temporary."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom commands run as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def account_named(name: str) -> Account | None:
    """The account of [delivery] pipe_user; None for "", which means the server's own. Raises ValueError."""
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"delivery.pipe_user: there is no account {name!r}") from None
    if entry.pw_uid == 0:
        raise ValueError("delivery.pipe_user: commands never run as root")
    return Account(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


class PipeTransport:
    """`pipe:COMMAND ARG ...`. See the module."""

    def __init__(
        self, mailbox_of: MailboxOf, observer: DeliveryObserver, *, timeout_s: float, account: Account | None
    ) -> None:
        self._mailbox_of = mailbox_of
        self._observer = observer
        self._timeout_s = timeout_s
        self._account = account

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult]:
        """Run the command for each recipient."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(index: int) -> DeliveryResult:
            async with turn:
                return await self._to(job.message, index, instruction)

        results = await asyncio.gather(*(one(index) for index in job.recipients))
        return dict(zip(job.recipients, results, strict=True))

    async def _to(self, message: StoredMessage, index: int, instruction: str) -> DeliveryResult:
        recipient = message.envelope.recipients[index].address
        mailbox = self._mailbox_of(recipient) or Mailbox(recipient.local, "", recipient.domain)
        if was_delivered_to(message, recipient):
            return failed(
                "5.4.6", f"mail forwarding loop: it was delivered to {recipient} before", protocol="pipe"
            )
        if os.geteuid() == 0 and self._account is None:
            return deferred(
                "4.3.5", "commands need [delivery] pipe_user when the server is root", protocol="pipe"
            )
        try:
            values = values_for(message, recipient, mailbox)
            command = command_for(instruction, values)
        except UnsafeArgument as error:
            return failed("5.1.3", str(error), protocol="pipe")
        except WayError as error:
            return deferred("4.3.5", str(error), protocol="pipe")
        try:
            return await self._run(command, environment_for(values), message, recipient)
        except OSError as error:
            return deferred("4.3.0", f"the command cannot be run ({error.strerror})", protocol="pipe")
        except Exception as error:
            self._observer.own_failure("running a command", error, message.id)
            return own_failure("running a command")

    async def _run(
        self,
        command: tuple[str, ...],
        environment: dict[str, str],
        message: StoredMessage,
        recipient: Address,
    ) -> DeliveryResult:
        account = self._account if os.geteuid() == 0 else None
        try:
            status, output = await run_command(
                command, environment, account, lambda: local_content(message, recipient), self._timeout_s
            )
        except TimeoutError:
            text = f"the command did not end within {self._timeout_s:g} seconds"
            return deferred("4.3.0", text, protocol="pipe")
        return result_for_exit(status, output)


async def run_command(
    command: tuple[str, ...],
    environment: dict[str, str],
    account: Account | None,
    content: Callable[[], Iterable[bytes]],
    timeout_s: float,
) -> tuple[int, bytes]:
    """Run a command with the content as its input; exit status and the first `MAX_OUTPUT` octets it says.

    Raises TimeoutError, and OSError where it cannot be run."""
    process = await _started(asyncio.to_thread(_spawn, command, environment, account, content))
    try:
        async with asyncio.timeout(timeout_s):
            output = await _output_of(process)
            await _exit_of(process)
            return process.wait(), output
    finally:
        if process.returncode is None:
            await _end(process)


async def _started(spawning: Coroutine[None, None, subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """The command, which a thread starts. Who is cancelled meanwhile ends what the thread has started."""
    starting = asyncio.ensure_future(spawning)
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise


class UnsafeArgument(ValueError):
    """An address that a command could take for an option."""


def values_for(message: StoredMessage, recipient: Address, mailbox: Mailbox) -> dict[str, str]:
    """What the placeholders stand for."""
    sender = message.envelope.sender
    return {
        "user": mailbox.user,
        "domain": mailbox.domain,
        "detail": mailbox.detail,
        "address": str(recipient),
        "sender": "" if sender is None else str(sender),
        "id": message.id,
    }


def command_for(instruction: str, values: dict[str, str]) -> tuple[str, ...]:
    """The argument vector. Raises UnsafeArgument, WayError."""
    words = split_command(instruction)
    command = tuple(replace_placeholders(word, values) for word in words)
    for template, argument in zip(words[1:], command[1:], strict=True):
        if argument.startswith("-") and not template.startswith("-"):
            raise UnsafeArgument("an address of this message would be read as an option by the command")
    return command


def environment_for(values: dict[str, str]) -> dict[str, str]:
    """All that the command sees of ours."""
    return {
        "PATH": COMMAND_PATH,
        "LANG": "C.UTF-8",
        "SENDER": values["sender"],
        "RECIPIENT": values["address"],
        "USER": values["user"],
        "EXTENSION": values["detail"],
        "DOMAIN": values["domain"],
        "MESSAGE_ID": values["id"],
    }


def _spawn(
    command: tuple[str, ...],
    environment: dict[str, str],
    account: Account | None,
    pieces: Callable[[], Iterable[bytes]],
) -> subprocess.Popen[bytes]:
    """In a thread: start the command with the content, in a file without a name, as its input.

    A file rather than a pipe: a command that reads little or late can then neither block us nor be mistaken
    for one that failed.
    """
    with tempfile.TemporaryFile() as content:
        for piece in pieces():
            content.write(piece)
        content.seek(0)
        return subprocess.Popen(
            command,
            stdin=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            start_new_session=True,
            umask=0o077,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else account.groups,
        )


async def _output_of(process: subprocess.Popen[bytes]) -> bytes:
    """The first `MAX_OUTPUT` octets that the command says; the rest is read and forgotten, so that it is
    not blocked by us."""
    assert process.stdout is not None
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    kept = b""
    try:
        while octets := await reader.read(65_536):
            kept = (kept + octets)[:MAX_OUTPUT]
    finally:
        transport.close()
    return kept


async def _exit_of(process: subprocess.Popen[bytes]) -> None:
    """Wait until the command has ended, without a thread or a signal handler for it; it is not reaped."""
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and all that it started. It stays unreaped until then, so that its group's number
    cannot have become another's."""
    _signal_group(process.pid, signal.SIGTERM)
    ended = asyncio.ensure_future(_exit_of(process))
    await asyncio.wait({ended}, timeout=KILL_AFTER_S)
    _signal_group(process.pid, signal.SIGKILL)
    await ended
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def result_for_exit(status: int | None, output: bytes) -> DeliveryResult:
    """What the exit status means (None: it is not known), with the command's own words."""
    if status is None:
        return own_failure("waiting for a command")
    if status < 0:
        known = (Kind.DEFERRED, "4.3.0", f"ended by signal {-status}")
    else:
        known = EXIT_STATUS.get(status, (Kind.DEFERRED, "4.3.0", f"unexpected exit status {status}"))
    kind, code, text = known
    words = cleaned(output.decode("utf-8", "replace"))
    return DeliveryResult(kind, code, f"{text}: {words}" if words else text, protocol="pipe")
