"""The rules of chess, as far as mail needs them: is this move legal, and is the game over? Pure.

Written here and not taken from the `chess` package, which is under the GPL: an example is there to be
copied. A board is a string of 64 characters, a8 first, h1 last; white pieces are upper case, an empty square
is a dot. Moves are written as chess servers do: ``e2e4``, ``e7e8q`` for a promotion, ``e1g1`` for castling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

START = "rnbqkbnrpppppppp" + "." * 32 + "PPPPPPPPRNBQKBNR"
_MOVE = re.compile(r"([a-h][1-8])([a-h][1-8])([qrbn]?)")
_ORTHOGONAL = ((1, 0), (-1, 0), (0, 1), (0, -1))
_DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_KNIGHT = ((1, 2), (2, 1), (-1, 2), (-2, 1), (1, -2), (2, -1), (-1, -2), (-2, -1))
_RIDERS = {"B": _DIAGONAL, "R": _ORTHOGONAL, "Q": _ORTHOGONAL + _DIAGONAL}
_CASTLING_LOST = {"e1": "KQ", "a1": "Q", "h1": "K", "e8": "kq", "a8": "q", "h8": "k"}
"""Rights that go when something moves from or to the square."""
_BETWEEN = {
    "K": ("e1", "g1", ("f1", "g1"), ("e1", "f1", "g1")),
    "Q": ("e1", "c1", ("b1", "c1", "d1"), ("e1", "d1", "c1")),
    "k": ("e8", "g8", ("f8", "g8"), ("e8", "f8", "g8")),
    "q": ("e8", "c8", ("b8", "c8", "d8"), ("e8", "d8", "c8")),
}
"""Castling: from, to, squares that must be empty, squares that must not be attacked."""
_ROOKS = {"g1": ("h1", "f1"), "c1": ("a1", "d1"), "g8": ("h8", "f8"), "c8": ("a8", "d8")}


class IllegalMove(ValueError):
    """The move is none, or is against the rules; the text says which."""


@dataclass(frozen=True, slots=True)
class Position:
    """What is on the board, and whose turn it is."""

    board: str = START
    white_to_move: bool = True
    castling: str = "KQkq"
    passant: str = ""
    """The square behind a pawn that has just made two steps."""

    def after(self, move: str) -> Position:
        """The position after a legal move. Raises IllegalMove."""
        if _MOVE.fullmatch(move) is None:
            raise IllegalMove(f"{move[:10]!r} is no move; write e2e4")
        if move not in set(self.moves()):
            raise IllegalMove(f"{move} is against the rules")
        return self._made(move)

    def moves(self) -> Iterator[str]:
        """Every legal move."""
        for move in self._reachable():
            made = self._made(move)
            if not made.is_attacked(made.king(self.white_to_move), by_white=not self.white_to_move):
                yield move

    @property
    def in_check(self) -> bool:
        """Whether the king of the side to move is attacked."""
        return self.is_attacked(self.king(self.white_to_move), by_white=not self.white_to_move)

    @property
    def outcome(self) -> str:
        """``checkmate``, ``stalemate``, or "" while the game goes on."""
        if any(True for _ in self.moves()):
            return ""
        return "checkmate" if self.in_check else "stalemate"

    def king(self, white: bool) -> str:
        """Where the king is."""
        return _name(self.board.index("K" if white else "k"))

    def at(self, square: str) -> str:
        """The piece on a square."""
        return self.board[_index(square)]

    def is_attacked(self, square: str, *, by_white: bool) -> bool:
        """Whether a piece of that colour could take on the square."""
        column, row = _place(square)
        forward = 1 if by_white else -1
        for step, pieces in ((_KNIGHT, "N"), (_ORTHOGONAL + _DIAGONAL, "K")):
            if any(self._is(column + dx, row + dy, pieces, by_white) for dx, dy in step):
                return True
        if any(self._is(column + dx, row - forward, "P", by_white) for dx in (-1, 1)):
            return True
        return any(
            self._first(column, row, dx, dy) in ((kind, by_white), ("Q", by_white))
            for kind, steps in (("R", _ORTHOGONAL), ("B", _DIAGONAL))
            for dx, dy in steps
        )

    def drawn(self) -> str:
        """The board for a letter, white below."""
        rows = [" ".join(self.board[8 * row : 8 * row + 8]) for row in range(8)]
        lines = [f"  {8 - number} {row}" for number, row in enumerate(rows)]
        return "\n".join([*lines, "    a b c d e f g h"])

    # --- what a piece can reach, whether its king is left attacked or not -----------------------------------

    def _reachable(self) -> Iterator[str]:
        for index, piece in enumerate(self.board):
            if piece == "." or piece.isupper() is not self.white_to_move:
                continue
            square, kind = _name(index), piece.upper()
            if kind == "P":
                yield from self._by_pawn(square)
            else:
                steps = _RIDERS.get(kind) or (_KNIGHT if kind == "N" else _ORTHOGONAL + _DIAGONAL)
                yield from self._by_piece(square, steps, rides=kind in _RIDERS)
        yield from self._by_castling()

    def _by_piece(self, square: str, steps: tuple[tuple[int, int], ...], *, rides: bool) -> Iterator[str]:
        for dx, dy in steps:
            column, row = _place(square)
            while _inside(column := column + dx, row := row + dy):
                found = self.at(_at(column, row))
                if found == "." or found.isupper() is not self.white_to_move:
                    yield square + _at(column, row)
                if found != "." or not rides:
                    break

    def _by_pawn(self, square: str) -> Iterator[str]:
        column, row = _place(square)
        forward = 1 if self.white_to_move else -1
        ahead = _at(column, row + forward)
        if self.at(ahead) == ".":
            yield from _promoted(square, ahead)
            if row == (1 if self.white_to_move else 6) and self.at(_at(column, row + 2 * forward)) == ".":
                yield square + _at(column, row + 2 * forward)
        for dx in (-1, 1):
            if _inside(column + dx, row + forward):
                target = _at(column + dx, row + forward)
                taken = self.at(target)
                if (taken != "." and taken.isupper() is not self.white_to_move) or target == self.passant:
                    yield from _promoted(square, target)

    def _by_castling(self) -> Iterator[str]:
        for right in "KQ" if self.white_to_move else "kq":
            start, end, empty, safe = _BETWEEN[right]
            if right not in self.castling or any(self.at(one) != "." for one in empty):
                continue
            if not any(self.is_attacked(one, by_white=not self.white_to_move) for one in safe):
                yield start + end

    def _made(self, move: str) -> Position:
        start, end, promotion = move[:2], move[2:4], move[4:]
        piece, board = self.at(start), list(self.board)
        board[_index(start)] = "."
        is_pawn = piece in "Pp"
        if is_pawn and end == self.passant:
            board[_index(end[0] + start[1])] = "."
        if (
            piece in "Kk"
            and start in ("e1", "e8")
            and end in _ROOKS
            and abs(ord(start[0]) - ord(end[0])) == 2
        ):
            corner, beside = _ROOKS[end]
            board[_index(beside)], board[_index(corner)] = board[_index(corner)], "."
        placed = promotion or piece
        board[_index(end)] = placed.upper() if self.white_to_move else placed.lower()
        lost = _CASTLING_LOST.get(start, "") + _CASTLING_LOST.get(end, "")
        two_steps = is_pawn and abs(int(start[1]) - int(end[1])) == 2
        return replace(
            self,
            board="".join(board),
            white_to_move=not self.white_to_move,
            castling="".join(one for one in self.castling if one not in lost),
            passant=start[0] + ("3" if self.white_to_move else "6") if two_steps else "",
        )

    def _is(self, column: int, row: int, kind: str, white: bool) -> bool:
        wanted = kind if white else kind.lower()
        return _inside(column, row) and self.at(_at(column, row)) == wanted

    def _first(self, column: int, row: int, dx: int, dy: int) -> tuple[str, bool] | None:
        """The first piece in a direction, and whether it is white."""
        while _inside(column := column + dx, row := row + dy):
            found = self.at(_at(column, row))
            if found != ".":
                return found.upper(), found.isupper()
        return None


def _promoted(start: str, end: str) -> Iterator[str]:
    if end[1] in "18":
        yield from (f"{start}{end}{piece}" for piece in "qrbn")
    else:
        yield start + end


def _inside(column: int, row: int) -> bool:
    return 0 <= column < 8 and 0 <= row < 8


def _place(square: str) -> tuple[int, int]:
    return ord(square[0]) - ord("a"), int(square[1]) - 1


def _at(column: int, row: int) -> str:
    return f"{'abcdefgh'[column]}{row + 1}"


def _index(square: str) -> int:
    column, row = _place(square)
    return (7 - row) * 8 + column


def _name(index: int) -> str:
    return _at(index % 8, 7 - index // 8)


def played(moves: list[str]) -> Position:
    """The position after these moves. Raises IllegalMove."""
    position = Position()
    for move in moves:
        position = position.after(move)
    return position
