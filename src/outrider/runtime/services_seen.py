"""Which domains speak AMTP or MT2, kept in small files beside the spool (AMTP-7: DNS that fails is not
absence).

``amtp-seen``, and likewise ``mt2-seen``, has a line for each time that a domain was noted: seconds since the
epoch, a blank, the domain. All worker processes append to it, each line in one write; it is read only when
DNS is silent about a domain, which is rare, and made smaller when it has grown. A line that is lost costs
nothing: the domain is noted again within a day. A line that is torn or foreign is passed over.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Final

NOTED_EVERY_S: Final = 86_400.0
"""A domain to which mail goes every minute is noted once a day."""
MAX_DOMAINS: Final = 10_000
"""Kept when the file is made smaller: the newest."""
MAX_OCTETS: Final = 1_048_576
"""Above it the file is made smaller. Ten thousand domains of forty characters take half of it."""
_LINE: Final = re.compile(r"([0-9]{1,12}) ([a-z0-9_.-]{1,255})")


class ServicesSeen:
    """Implements `delivery.service_memory.ServiceMemory` for one protocol."""

    def __init__(
        self,
        folder: Path,
        protocol: str,
        seen_for_s: float,
        clock: Callable[[], float],
        failed: Callable[[str, str], None] = lambda doing, reason: None,
    ) -> None:
        """`failed(doing, reason)` is told of a file that cannot be written or read."""
        self._path = folder / f"{protocol}-seen"
        self._protocol = protocol
        self._seen_for_s = seen_for_s
        self._clock = clock
        self._failed = failed
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._writing: set[asyncio.Future[None]] = set()

    def saw(self, domain: str) -> None:
        """See `ServiceMemory`."""
        now = self._clock()
        if 0 <= now - self._noted.get(domain, 0.0) < NOTED_EVERY_S:
            return
        self._noted[domain] = now
        self._noted.move_to_end(domain)
        if len(self._noted) > MAX_DOMAINS:
            self._noted.popitem(last=False)
        write = asyncio.get_running_loop().run_in_executor(None, self._append, domain, now)
        self._writing.add(write)
        write.add_done_callback(self._writing.discard)

    async def knows(self, domain: str) -> bool:
        """See `ServiceMemory`."""
        since = self._clock() - self._seen_for_s
        noted = self._noted.get(domain)
        if noted is None or noted < since:
            noted = (await asyncio.to_thread(self._read)).get(domain)
        return noted is not None and noted >= since

    async def written(self) -> None:
        """Wait until everything noted so far is in the file."""
        while self._writing:
            await asyncio.gather(*self._writing)

    # --- in threads ---------------------------------------------------------------------------------

    def _append(self, domain: str, now: float) -> None:
        line = f"{int(now)} {domain}\n".encode()
        try:
            with _appending(self._path) as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
                grown = file.tell() > MAX_OCTETS
            if grown:
                self._make_smaller(now)
        except OSError as error:
            self._failed(f"remembering who speaks {self._protocol}", str(error))

    def _read(self) -> dict[str, float]:
        try:
            return latest(self._path.read_text("ascii", errors="replace").split("\n"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._failed(f"recalling who speaks {self._protocol}", str(error))
            return {}

    def _make_smaller(self, now: float) -> None:
        """Only one process does; what others append meanwhile may be lost, and is noted again tomorrow."""
        with _appending(self._path.with_name(f"{self._path.name}.lock")) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            kept = sorted(self._read().items(), key=lambda one: -one[1])[:MAX_DOMAINS]
            since = now - self._seen_for_s
            lines = [f"{int(at)} {domain}\n".encode() for domain, at in kept if at >= since]
            new = self._path.with_name(f"{self._path.name}.new")
            new.unlink(missing_ok=True)
            with _appending(new) as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)


def latest(lines: Iterable[str]) -> dict[str, float]:
    """When each domain was last noted."""
    found: dict[str, float] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is not None:
            found[match[2]] = max(found.get(match[2], 0.0), float(match[1]))
    return found


def _appending(path: Path) -> BinaryIO:
    """The file, made for its owner alone if it is not there."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
