"""What a server says at EHLO of the Mail Policy Codes that it takes (AMTP-10).

A list of declarations, ``ALLOW=com/*`` or ``DENY=*/optout``, read in order; for each code the last one that
matches decides. What none matches is the opposite of the list's first word: a list that begins with ALLOW
denies the rest, one that begins with DENY allows it. No list at all allows everything. ``mpc/individual``
stands above all lists.

Written is one declaration a line, in the form of the draft's grammar. Read are its examples' forms as well::

    250-MPC ALLOW=com/*              250-MPC DENY com/*              250-MPC-ALLOW */individual
    250-MPC ALLOW=com/*,net/* DENY=*/optout

What cannot be read is skipped and decides nothing, not even the rest: the server knows what it meant and
enforces that anyway, while mail that we hold back for a word misunderstood is lost to both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from typing import Final

from outrider.model.mpc import (
    ABOUT_POLICY,
    LEGAL,
    MailClass,
    Mpc,
    MpcError,
    MpcPattern,
    Role,
    parse_mpc_pattern,
)
from outrider.model.reply import Reply

MAX_DECLARATIONS: Final = 1000
"""Of a server; its list is not heeded when it is longer. The 37 codes can be told apart by 37."""

MAX_NAMED: Final = 5
"""Declarations that a refusal names."""

_LINE: Final = re.compile(r"MPC(?:-(ALLOW|DENY))?[ =](.*)", re.IGNORECASE)
_WORD: Final = re.compile(r"[^ ,=]+")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One of them. `str` is the form in which it is written."""

    allows: bool
    pattern: MpcPattern

    def __str__(self) -> str:
        return f"{'ALLOW' if self.allows else 'DENY'}={self.pattern}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a list says of one code."""

    allowed: bool
    because: str
    """The declaration that decides as it is written, or what follows from there being others."""


def read_declarations(ehlo: Reply) -> tuple[Declaration, ...]:
    """Those in a server's reply to EHLO, in order, whatever else it holds."""
    return parse_declarations(ehlo.text.split("\n")[1:])


def parse_declarations(lines: Iterable[str]) -> tuple[Declaration, ...]:
    """Those in lines that begin with the keyword ``MPC`` (other lines are passed over)."""
    found = tuple(declaration for line in lines for declaration in _in_line(line))
    return found if len(found) <= MAX_DECLARATIONS else ()


def _in_line(line: str) -> Iterator[Declaration]:
    match = _LINE.fullmatch(line.rstrip())
    if match is None:
        return
    action = (match[1] or "").upper()
    for word in _WORD.findall(match[2]):
        if "/" not in word:
            action = word.upper()  # one that we do not know makes the patterns behind it unreadable
        elif action in ("ALLOW", "DENY"):
            try:
                yield Declaration(action == "ALLOW", parse_mpc_pattern(word))
            except MpcError:
                continue


def evaluate(declarations: Sequence[Declaration], code: Mpc) -> Verdict:
    """Whether a server that declared this takes mail of the code."""
    if code == ABOUT_POLICY:
        return Verdict(True, f"{code} is never denied")
    for declaration in reversed(declarations):
        if declaration.pattern.matches(code):
            return Verdict(declaration.allows, str(declaration))
    if not declarations or not declarations[0].allows:
        return Verdict(True, "no declaration denies it")
    named = [str(one) for one in declarations if one.allows]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return Verdict(False, f"not among {', '.join(named[:MAX_NAMED])}{more}")


# -- what we announce -----------------------------------------------------------------------------------

# The codes are a grid of roles and classes, and a list is a way of painting it: a row (com/*), a column
# (*/optout) or a cell at a time, later paint over earlier, on a ground that is the implied rest. Read from
# its end a list settles one row or column after the other: cells of it that are not settled yet get its
# colour, except those that are declared singly. So the shortest list is the shortest path through the sets of
# settled cells, each step costing a declaration and its exceptions.

_GRID: Final = tuple(code for code in LEGAL if code != ABOUT_POLICY)
_ALL: Final = (1 << len(_GRID)) - 1


def _cells(pattern: MpcPattern) -> int:
    """The codes of a pattern as bits, in the order of `_GRID`."""
    return sum(1 << place for place, code in enumerate(_GRID) if pattern.matches(code))


_LINES: Final = tuple(
    (_cells(pattern), pattern)
    for pattern in (
        *(MpcPattern(role, None) for role in Role if role is not Role.MPC),
        *(MpcPattern(None, mail_class) for mail_class in MailClass),
    )
)


@dataclass(frozen=True, slots=True)
class _Step:
    """A row or column that is settled, before all that `later` settles."""

    line: Declaration
    singly: int
    """Its cells of the other colour."""
    later: _Step | None


def declarations_for(allowed: frozenset[Mpc]) -> tuple[str, ...]:
    """The shortest list that allows these codes and no others, each declaration as it is written.

    Each goes on a line of its own behind ``MPC``. Empty when all are allowed. Whether `allowed` holds
    mpc/individual does not matter.
    """
    return _shortest(sum(1 << place for place, code in enumerate(_GRID) if code in allowed))


@lru_cache(maxsize=256)
def _shortest(allowed: int) -> tuple[str, ...]:
    if allowed == _ALL:
        return ()
    if not allowed:
        return (str(Declaration(False, MpcPattern(None, None))),)
    step, singly = _search(allowed)
    lines: list[Declaration] = []
    while step is not None:
        lines.append(step.line)
        singly |= step.singly
        step = step.later
    cells = (
        Declaration(bool(allowed >> place & 1), MpcPattern(code.role, code.mail_class))
        for place, code in enumerate(_GRID)
        if singly >> place & 1
    )
    return tuple(str(declaration) for declaration in (*lines, *cells))


def _search(allowed: int) -> tuple[_Step | None, int]:
    """The earliest row or column of the shortest list, and the cells that differ from the ground."""
    found: tuple[_Step | None, int] = (None, 0)
    shortest = len(_GRID) + 1
    order = count()  # parts ways of the same cost, which are not compared
    cheapest = {0: 0}
    ways: list[tuple[int, int, int, _Step | None]] = [(0, next(order), 0, None)]
    while ways and ways[0][0] < shortest:
        cost, _, settled, step = heappop(ways)
        rest = _fewer(allowed, _ALL & ~settled)[1]
        if cost + rest.bit_count() < shortest:
            shortest, found = cost + rest.bit_count(), (step, rest)
        for cells, pattern in _LINES:
            open_cells = cells & ~settled
            allows, singly = _fewer(allowed, open_cells)
            longer = cost + 1 + singly.bit_count()
            if open_cells and longer < cheapest.get(settled | cells, shortest):
                cheapest[settled | cells] = longer
                before = _Step(Declaration(allows, pattern), singly, step)
                heappush(ways, (longer, next(order), settled | cells, before))
    return found


def _fewer(allowed: int, cells: int) -> tuple[bool, int]:
    """The colour that most of the cells have (True is allowed), and those that have the other."""
    yes, no = cells & allowed, cells & ~allowed
    return (True, no) if no.bit_count() < yes.bit_count() else (False, yes)
