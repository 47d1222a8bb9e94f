"""Delivery to Maildirs (SMTP-8): written to tmp, fsynced, renamed into new, the directory fsynced: delivered.

Deliveries that arrive while others are being written share a trip to a thread and one fsync of each
directory, so that the disk, not Python, sets the pace. The names in an address never become a path of their
own: what is put in for a placeholder is one path component, checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from outrider.delivery.durable_folders import DurableFolders
from outrider.delivery.interface import Job
from outrider.delivery.local_content import local_content, was_delivered_to
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.results import deferred, failed, own_failure
from outrider.model.address import Address
from outrider.model.message import StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import Mailbox
from outrider.routing.ways import replace_placeholders

THREADS = 4
"""Writers at once: fsyncs of several threads share a commit of the file system's journal."""
BATCH = 32
"""Deliveries that one thread takes at a time."""
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
MAX_COMPONENT = 200
"""Octets of a name in a path; file systems allow 255, Maildir readers append flags."""

MailboxOf = Callable[[Address], Mailbox | None]

_FULL = {
    errno.EDQUOT: ("4.2.2", "the mailbox is full"),
    errno.ENOSPC: ("4.3.1", "the mail system is full"),
    errno.EFBIG: ("4.2.2", "the message is larger than the mailbox's system allows"),
}


class UnsafeName(ValueError):
    """A name that cannot stand in a path."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One message for one mailbox."""

    message: StoredMessage
    recipient: Address
    directory: Path
    name: str


def mailbox_path(template: str, mailbox: Mailbox) -> Path:
    """The Maildir that the template means for a mailbox. Raises UnsafeName."""
    values = {
        "user": mailbox.user,
        "domain": mailbox.domain,
        "detail": mailbox.detail,
        "address": f"{mailbox.user}@{mailbox.domain}",
    }
    for name, value in values.items():
        if value or name != "detail":
            _check_component(value)
    parts = [part for part in template.split("/") if part]
    replaced = [replace_placeholders(part, values) for part in parts]
    for part in replaced:
        if part in ("..", "/") or "/" in part or len(part.encode()) > MAX_COMPONENT:
            raise UnsafeName(part)
    return Path("/", *(part for part in replaced if part not in ("", ".")))


def _check_component(value: str) -> None:
    if not value or value.startswith(".") or "/" in value or not value.isprintable():
        raise UnsafeName(value)


class UniqueNames:
    """Names that no delivery anywhere has had: time, process, count, chance and host, as Maildir asks.

    `chance` gives a string of random hexadecimal digits.
    """

    def __init__(self, chance: Callable[[], str], host: str = "") -> None:
        self._chance = chance
        self._host = (host or socket.gethostname()).replace("/", r"\057").replace(":", r"\072")
        self._count = 0

    def __call__(self) -> str:
        """The next name."""
        now = time.time_ns()
        self._count += 1
        seconds, micro = divmod(now // 1000, 1_000_000)
        return f"{seconds}.M{micro}P{os.getpid()}Q{self._count}R{self._chance()}.{self._host}"


class MaildirTransport:
    """`maildir:PATH`. See the module."""

    def __init__(
        self, mailbox_of: MailboxOf, unique_name: Callable[[], str], observer: DeliveryObserver
    ) -> None:
        self._mailbox_of = mailbox_of
        self._unique_name = unique_name
        self._observer = observer
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="maildir")
        self._folders = DurableFolders()
        self._orders: list[tuple[_Order, asyncio.Future[DeliveryResult]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = 0
        """Tasks that will look at `_orders` once more before they end."""

    def close(self) -> None:
        """Wait for what is being written."""
        self._pool.shutdown(wait=True)

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult]:
        """Write the message into each recipient's Maildir."""
        results: dict[int, DeliveryResult] = {}
        waiting: dict[int, asyncio.Future[DeliveryResult]] = {}
        for index in job.recipients:
            recipient = job.message.envelope.recipients[index].address
            order = self._order(job.message, recipient, instruction)
            if isinstance(order, DeliveryResult):
                results[index] = order
            else:
                waiting[index] = self._hand_in(order)
        for index, future in waiting.items():
            results[index] = await future
        return results

    def _order(self, message: StoredMessage, recipient: Address, template: str) -> _Order | DeliveryResult:
        mailbox = self._mailbox_of(recipient)
        if mailbox is None:
            return failed("5.1.1", f"{recipient} has no mailbox here", protocol="maildir")
        if was_delivered_to(message, recipient):
            return failed(
                "5.4.6", f"mail forwarding loop: it was delivered to {recipient} before", protocol="maildir"
            )
        try:
            directory = mailbox_path(template, mailbox)
        except UnsafeName:
            return failed("5.1.3", f"{recipient} cannot be the name of a mailbox", protocol="maildir")
        return _Order(message, recipient, directory, self._unique_name())

    # --- batches ------------------------------------------------------------------------------------

    def _hand_in(self, order: _Order) -> asyncio.Future[DeliveryResult]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[DeliveryResult] = loop.create_future()
        self._orders.append((order, future))
        if self._writing < THREADS:
            self._writing += 1
            task = loop.create_task(self._write_batches())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _write_batches(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._orders:
                await self._write_batch(loop)
        finally:
            self._writing -= 1

    async def _write_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        # An even share for each thread: a burst is written by all of them.
        share = min(BATCH, -(-len(self._orders) // THREADS))
        batch, self._orders = self._orders[:share], self._orders[share:]
        orders = [order for order, _ in batch]
        try:
            results = await loop.run_in_executor(self._pool, self._write, orders)
        except Exception as error:
            self._observer.own_failure("writing to Maildirs", error, None)
            results = [own_failure("writing to a mailbox")] * len(orders)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _write(self, orders: Sequence[_Order]) -> list[DeliveryResult]:
        """In a thread: write each into tmp, rename each into new, then make the directories durable."""
        results: list[DeliveryResult] = []
        for order in orders:
            try:
                results.append(self._write_one(order))
            except OSError as error:
                results.append(_for_error(error))
            except Exception as error:
                self._observer.own_failure("writing to a Maildir", error, order.message.id)
                results.append(own_failure("writing to a mailbox"))
        self._make_durable(orders, results)
        return results

    def _make_durable(self, orders: Sequence[_Order], results: list[DeliveryResult]) -> None:
        for directory in {order.directory for order in orders}:
            try:
                self._folders.ensure(directory / "new")
            except OSError as error:
                for place, order in enumerate(orders):
                    if order.directory == directory and results[place].kind is Kind.DELIVERED:
                        # It may be there or not after a power cut: once more, rather than never.
                        results[place] = _for_error(error)

    def _write_one(self, order: _Order) -> DeliveryResult:
        temporary = order.directory / "tmp" / order.name
        try:
            size = self._write_file(temporary, order)
            temporary.rename(order.directory / "new" / f"{order.name},S={size}")
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return DeliveryResult(Kind.DELIVERED, "2.0.0", "delivered to mailbox", protocol="maildir")

    def _write_file(self, path: Path, order: _Order) -> int:
        """Write and fsync; the number of octets."""
        descriptor = self._open_new(path, order.directory)
        try:
            size = 0
            for piece in local_content(order.message, order.recipient):
                size += _write_all(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return size

    def _open_new(self, path: Path, directory: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, FILE_MODE)
        except FileNotFoundError:
            # `new` first: who finds `tmp` needs it.
            for name in ("new", "cur", "tmp"):
                self._folders.make(directory / name, DIRECTORY_MODE)
            return os.open(path, flags, FILE_MODE)


def _write_all(descriptor: int, octets: bytes) -> int:
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(octets)


def _for_error(error: OSError) -> DeliveryResult:
    """Mailbox trouble is the operator's to mend: mail waits. The path is not for the sender's eyes."""
    status, text = _FULL.get(error.errno or 0, ("4.3.0", f"the mailbox cannot be written ({_symbol(error)})"))
    return deferred(status, text, protocol="maildir")


def _symbol(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown error")
