"""What supervisor and worker say to each other: lines over a pair of sockets.

A line is a word, and after a blank its argument as JSON where it has one. The worker says

- ``alive`` every few seconds: its event loop turns,
- ``ready``: it takes mail,
- ``failed "text"``: it cannot start, for the reason given, and ends,
- ``adopted 3``: it now delivers what lies in spool 3,
- ``reloaded``: it has taken over a changed configuration,
- ``stop``: somebody gave the command to stop the whole server;

the supervisor says

- ``adopt 3``: deliver what lies in spool 3, whose worker was given up,
- ``reload``: read the configuration anew, all workers in turn,
- ``refresh``: the same for this worker alone, which was being started when the others did it.

The end of the stream tells the worker that its supervisor is dead: it then stops in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ALIVE_INTERVAL_S: Final = 5.0
MAX_LINE: Final = 65_536
"""Octets; neither side has reason to send a hundredth of it."""
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Word:
    """One line."""

    name: str
    argument: int | str | None = None

    def encode(self) -> bytes:
        """As it is sent."""
        if self.argument is None:
            return self.name.encode() + b"\n"
        return f"{self.name} {json.dumps(self.argument)}\n".encode()


class WordReader:
    """Cuts a stream into words. What makes no sense is left out: the other side is our own program."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> list[Word]:
        """The words that are complete with these octets."""
        *lines, self._rest = (self._rest + octets).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""
        return [word for line in lines if (word := _decode(line)) is not None]


def _decode(line: bytes) -> Word | None:
    name, _, argument = line.partition(b" ")
    if not name.isalpha():
        return None
    try:
        value = json.loads(argument) if argument else None
    except ValueError:
        return None
    return Word(name.decode("ascii"), value) if value is None or type(value) in (int, str) else None


def receive_words(link: socket.socket, reader: WordReader) -> tuple[list[Word], bool]:
    """All that a non-blocking socket has now; and whether the other side is still there."""
    words: list[Word] = []
    while True:
        try:
            octets = link.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return words, True
        except OSError:
            return words, False
        if not octets:
            return words, False
        words += reader.feed(octets)


def send_word(link: socket.socket, word: Word) -> None:
    """Say one word; a reader that is gone or stuck is found out by other means."""
    with contextlib.suppress(OSError):
        link.send(word.encode(), socket.MSG_NOSIGNAL)


class SupervisorLink:
    """The worker's end."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._reader = WordReader()
        self._beating: asyncio.TimerHandle | None = None

    def tell(self, name: str, argument: int | str | None = None) -> None:
        """Say one word to the supervisor."""
        send_word(self._link, Word(name, argument))

    def attach(self, on_word: Callable[[Word], None], on_gone: Callable[[], None]) -> None:
        """From now on say that the loop turns, and have words, or the supervisor's death, passed on."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            words, there = receive_words(self._link, self._reader)
            for word in words:
                on_word(word)
            if not there:
                loop.remove_reader(self._link)
                on_gone()

        def beat() -> None:
            self.tell("alive")
            self._beating = loop.call_later(ALIVE_INTERVAL_S, beat)

        loop.add_reader(self._link, readable)
        beat()

    def detach(self) -> None:
        """Say and hear nothing more."""
        if self._beating is not None:
            self._beating.cancel()
        asyncio.get_running_loop().remove_reader(self._link)
