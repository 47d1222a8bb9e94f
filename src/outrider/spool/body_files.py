"""The directory of bodies: its files are made before they are needed, used again, and removed at last.

A new file is durable by name only once its directory has been synced, and a sync of a directory costs as much
as one of a body. So files are made some at a time, empty, and one sync names them all; a body that arrives
takes one that is there. The first bodies after a start, and those that come faster than files are made, wait
for it. What is left of them at an end is removed like every file that no message names.

**Used again.** The file of a message that was settled for good, and that nobody reads, is kept for the next
body: its name is durable, its blocks are allotted and its pages at hand, so that to write and sync it takes
half the time, and nothing has to be removed. What it held stays in it until it is overwritten, for some
minutes at the most (`remove_used`); the files of messages that an operator dropped are removed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TypeVar

from outrider.delivery.durable_folders import sync_folder
from outrider.spool.bodies import BodyReference, FileBody, FileUse, Steps, device_error, no_steps
from outrider.spool.interface import SpoolUnavailable

AT_ONCE = 8
"""Files that are made together."""
FEW = 4
"""When no more are left, others are made meanwhile."""
MOST_USED = 16
"""Files of finished messages that are kept for others."""
LARGEST_USED = 2 * 1024 * 1024
"""Larger ones are removed."""
_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC

T = TypeVar("T")


class BodyFiles:
    """Makes, opens and removes; the event loop's, but for what is said to run in a thread."""

    def __init__(
        self, directory: Path, executor: Executor, *, inline_limit: int, steps: Steps = no_steps
    ) -> None:
        self.directory = directory
        self.inline_limit = inline_limit
        self._executor = executor
        self._steps = steps
        self._numbers = itertools.count(1)
        self._spare: deque[str] = deque()
        """Names of empty files that are durable."""
        self._used: deque[str] = deque()
        """Names of files whose messages are finished, the last one first."""
        self._uses: weakref.WeakValueDictionary[str, FileUse] = weakref.WeakValueDictionary()
        """Of files that messages have, as long as anybody could read them."""
        self._making: Future[None] | None = None

    def prepare(self) -> None:
        """Make the 256 subdirectories once, so that no message has to wait for one. Raises OSError."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for number in range(256):
            (self.directory / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.directory)
        sync_folder(self.directory.parent)

    # --- files for new bodies ---------------------------------------------------------------------------

    def take(self) -> tuple[str, int] | None:
        """A file with a durable name and nothing in it that is needed: the name, and a descriptor to write
        with. None: there is none for now, wait for `made`. Raises SpoolUnavailable."""
        taken = self._open_first(self._used) or self._open_first(self._spare)
        if len(self._used) + len(self._spare) <= FEW and (self._making is None or self._making.done()):
            self._making = self.submit(self._make)
        return taken

    def _open_first(self, names: deque[str]) -> tuple[str, int] | None:
        while names:
            name = names.popleft()
            try:
                return name, os.open(self.directory / name, _FLAGS)
            except FileNotFoundError:
                continue  # somebody tidied up
            except OSError as error:
                names.append(name)
                raise device_error(error) from error
        return None

    def can_take(self) -> bool:
        """Whether there is a file, or the making of some has ended."""
        return bool(self._used or self._spare) or self._making is None or self._making.done()

    async def made(self) -> None:
        """Wait until the files that `take` has asked for are made. Raises SpoolUnavailable, SpoolFull."""
        if self._making is None:
            return
        try:
            # Shielded: whoever gives up waiting does not call the work off.
            await asyncio.shield(asyncio.wrap_future(self._making))
        except OSError as error:
            raise device_error(error) from error

    def _make(self) -> None:
        """In a thread: some files in one directory, and their names durable."""
        numbers = [next(self._numbers) for _ in range(AT_ONCE)]
        folder = f"{numbers[0] // AT_ONCE & 0xFF:02x}"
        names = [f"{folder}/body.{number}" for number in numbers]
        try:
            for name in names:
                os.close(os.open(self.directory / name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600))
            self._steps("body created")
            sync_folder(self.directory / folder)
            self._steps("directory synced")
        except OSError:
            with contextlib.suppress(OSError):
                self.remove(names)
            raise
        self._spare.extend(names)

    def remove_spare(self) -> None:
        """In a thread, at the end: remove the files that nobody took."""
        with contextlib.suppress(OSError):  # the next start removes them
            self.remove((*self._used, *self._spare))
        self._used.clear()
        self._spare.clear()

    # --- bodies that are there --------------------------------------------------------------------------

    def open(self, reference: BodyReference, damaged: Callable[[str], None]) -> FileBody:
        """The body of a stored message; the file itself is opened when it is read."""
        path = self.directory / reference.name
        body = FileBody(path, reference, damaged, use=self.use_of(reference.name))
        body.adopted = True
        return body

    def use_of(self, name: str) -> FileUse:
        """What all know that read this file as the body that it holds now."""
        return self._uses.setdefault(name, FileUse())

    def give_back(self, names: Iterable[str]) -> None:
        """These bodies' messages were durably settled for good: keep the files for others, or remove them."""
        self.discard([name for name in names if not self._keep(name)])

    def discard(self, names: Collection[str]) -> None:
        """Have a thread remove these bodies; where none can be had any more the next start does."""
        if names:
            with contextlib.suppress(SpoolUnavailable):
                self.submit(lambda: self.remove(names))

    def _keep(self, name: str) -> bool:
        use = self._uses.pop(name, None)
        if (use is not None and not use.end()) or len(self._used) >= MOST_USED:
            return False
        try:
            size = (self.directory / name).lstat().st_size
        except OSError:
            return False
        if size > LARGEST_USED:
            return False
        self._used.appendleft(name)
        return True

    def remove_used(self) -> None:
        """Remove the files that are kept, and what is in them."""
        names = tuple(self._used)
        self._used.clear()
        self.discard(names)

    def remove(self, names: Collection[str]) -> None:
        """In a thread: remove bodies whose messages are finished; one that is gone already is no matter."""
        for name in names:
            (self.directory / name).unlink(missing_ok=True)

    def remove_orphans(self, named: Collection[str]) -> int:
        """Remove every file that no message names; how many of them held octets."""
        orphans = [(name, size) for name, size in self._files() if name not in named]
        self.remove([name for name, _ in orphans])
        self._used.clear()
        self._spare.clear()
        numbers = (int(name.rpartition(".")[2]) for name in named)
        self._numbers = itertools.count(max(numbers, default=0) + 1)
        return sum(size > 0 for _, size in orphans)

    def _files(self) -> Iterator[tuple[str, int]]:
        """Files of our own subdirectories with their sizes; no symbolic link is followed (SEC-209)."""
        for number in range(256):
            directory = self.directory / f"{number:02x}"
            if directory.is_symlink() or not directory.is_dir():
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        yield f"{directory.name}/{entry.name}", entry.stat(follow_symlinks=False).st_size

    # --- work -------------------------------------------------------------------------------------------

    async def run(self, work: Callable[[], T]) -> T:
        """Run file work in a thread. Raises SpoolFull or SpoolUnavailable for what the device refuses."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except OSError as error:
            raise device_error(error) from error
        except RuntimeError as error:  # the executor was shut down
            raise SpoolUnavailable("the spool is closed") from error

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have a thread do file work that is waited for later, if at all. Raises SpoolUnavailable."""
        try:
            return self._executor.submit(work)
        except RuntimeError as error:  # the executor was shut down
            raise SpoolUnavailable("the spool is closed") from error

    def step(self, name: str) -> None:
        """A step is done."""
        self._steps(name)
