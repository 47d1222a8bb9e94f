"""The rules, by counting positions (the numbers are known to everybody who writes chess programs)."""

from __future__ import annotations

import pytest
from outrider_chess.rules import IllegalMove, Position, played


def count(position: Position, depth: int) -> int:
    if depth == 1:
        return sum(1 for _ in position.moves())
    return sum(count(position.after(move), depth - 1) for move in position.moves())


def from_fen(text: str) -> Position:
    rows, turn, castling, passant = text.split()[:4]
    board = "".join("." * int(one) if one.isdigit() else one for one in rows.replace("/", ""))
    return Position(board, turn == "w", castling.replace("-", ""), passant.replace("-", ""))


@pytest.mark.parametrize(
    ("fen", "counts"),
    [
        ("rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq -", (20, 400)),
        ("r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq -", (48, 2039)),
        ("8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - -", (14, 191, 2812)),
        ("r3k2r/Pppp1ppp/1b3nbN/nP6/BBP1P3/q4N2/Pp1P2PP/R2Q1RK1 w kq -", (6, 264)),
    ],
)
def test_every_legal_move_and_no_other(fen: str, counts: tuple[int, ...]) -> None:
    assert tuple(count(from_fen(fen), depth) for depth in range(1, len(counts) + 1)) == counts


def test_a_game_ends_with_mate_or_without() -> None:
    assert played(["f2f3", "e7e5", "g2g4", "d8h4"]).outcome == "checkmate"
    assert from_fen("7k/5Q2/6K1/8/8/8/8/8 b - -").outcome == "stalemate"
    assert Position().outcome == ""


@pytest.mark.parametrize("move", ["e2e5", "e7e5", "e1g1", "", "e2", "e2e4q", "i9i8", "\u0665e2"])
def test_what_is_against_the_rules_is_refused(move: str) -> None:
    with pytest.raises(IllegalMove):
        Position().after(move)
