"""The playground's large file: made in pieces, the same each time, and compared without being held."""

from __future__ import annotations

from pathlib import Path

from outrider.playground.film import FILM_SIZE, ends_in, film

MADE = film("olga@alpha.example", "carol@beta.example")


def test_it_is_as_large_as_it_says_and_needs_no_encoding() -> None:
    head, *reels = MADE()
    assert head.endswith(b"\r\n\r\n")
    assert sum(map(len, reels)) == FILM_SIZE == 200 * 1024**2
    assert max(map(len, reels)) < 1_000_000, "in pieces"
    lines = reels[-1].split(b"\r\n")
    assert {len(one) for one in lines[:-1]} == {62}
    assert lines[-1] == b""
    assert not any(one.startswith(b".") for one in lines)
    assert len(set(reels)) == len(reels)


def test_what_came_is_compared_octet_for_octet(tmp_path: Path) -> None:
    def short() -> list[bytes]:
        return [b"one\r\n", b"two\r\n"]

    path = tmp_path / "came"
    for octets, same in (
        (b"one\r\ntwo\r\n", True),
        (b"Received: by us\r\none\r\ntwo\r\n", True),
        (b"one\r\ntwo\r\nmore", False),
        (b"one\r\ntwO\r\n", False),
        (b"two\r\n", False),
        (b"", False),
    ):
        path.write_bytes(octets)
        assert ends_in(path, lambda: iter(short())) is same, octets
