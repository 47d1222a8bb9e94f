"""What supervisor and worker say to each other arrives whole, in order, and however it is cut."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.runtime.channel import MAX_LINE, SupervisorLink, Word, WordReader, receive_words, send_word

WORDS = [
    Word("alive"),
    Word("adopt", 3),
    Word("failed", "outrider.toml:3: spool: no room;\nmake some"),
    Word("failed", "Größe \ud800"),
]


@given(st.lists(st.integers(1, 40), max_size=20))
def test_words_arrive_however_they_are_cut(cuts: list[int]) -> None:
    octets = b"".join(word.encode() for word in WORDS)
    reader = WordReader()
    found: list[Word] = []
    for cut in cuts:
        found += reader.feed(octets[:cut])
        octets = octets[cut:]
    found += reader.feed(octets)
    assert found == WORDS


@pytest.mark.parametrize(
    "line", [b"", b" ", b"1", b"adopt {", b"adopt [3]", b"adopt 3.5", b"adopt true", b"ad opt 3", b"\xff 3"]
)
def test_nonsense_is_left_out(line: bytes) -> None:
    assert WordReader().feed(line + b"\nalive\n") == [Word("alive")]


def test_a_line_without_end_takes_no_memory() -> None:
    reader = WordReader()
    for _ in range(10):
        assert reader.feed(b"x" * MAX_LINE) == []
    assert len(reader._rest) <= MAX_LINE
    reader.feed(b"\n")
    assert reader.feed(b"alive\n") == [Word("alive")]


async def test_a_worker_hears_words_and_then_its_supervisors_death() -> None:
    ours, theirs = socket.socketpair()
    heard: list[Word] = []
    gone = asyncio.Event()
    link = SupervisorLink(theirs)
    link.attach(heard.append, gone.set)
    send_word(ours, Word("reload"))
    send_word(ours, Word("adopt", 2))
    link.tell("ready")
    ours.setblocking(False)
    words, there = receive_words(ours, WordReader())
    assert (words, there) == ([Word("alive"), Word("ready")], True)
    ours.close()
    await asyncio.wait_for(gone.wait(), 30)
    assert heard == [Word("reload"), Word("adopt", 2)]
    link.detach()
    link.tell("alive")  # to nobody: no harm is done
    theirs.close()


def test_a_supervisor_learns_that_a_worker_has_gone() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(Word("failed", "why").encode())
    theirs.close()
    assert receive_words(ours, WordReader()) == ([Word("failed", "why")], False)
    ours.close()
