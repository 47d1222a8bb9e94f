"""Results per recipient, as extensions of an answer (MT2-16).

``(RCPT=2;5 STATUS=5.1.1 ERR 99.0.5.31 No such recipient.)``: the numbers are positions in the envelope's list
of recipients, from 1. A recipient that is not named has the result of the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from outrider.protocols.mt2.codes import Result
from outrider.protocols.mt2.lines import Extension, Pair, find

MOST_POSITIONS: Final = 200
"""In one extension, so that several fit into a line."""
MAX_TEXT: Final = 400
_MAX_DIGITS: Final = 6


def recipient_extensions(results: Mapping[int, Result]) -> tuple[Extension, ...]:
    """Extensions that say these results, by position from 1; equal results share one.

    A ``(STATUS=...)`` extension of a result becomes a parameter.
    """
    alike: dict[Result, list[str]] = {}
    for position in sorted(results):
        alike.setdefault(results[position], []).append(str(position))
    return tuple(
        _extension(positions[start : start + MOST_POSITIONS], result)
        for result, positions in alike.items()
        for start in range(0, len(positions), MOST_POSITIONS)
    )


def _extension(positions: list[str], result: Result) -> Extension:
    status = find(result.extensions, "STATUS")
    params = (Pair("STATUS", status.values),) if status else ()
    said = replace(result, extensions=(), text=result.text[:MAX_TEXT])
    return Extension("RCPT", tuple(positions), params, said)


def recipient_results(answer: Result, count: int) -> tuple[Result, ...]:
    """The result of each of `count` recipients, in order. Positions outside are passed over."""
    results = [replace(answer, extensions=_without_recipients(answer))] * count
    for extension in answer.extensions:
        if extension.name == "RCPT" and extension.result is not None:
            status = extension.pair("STATUS")
            own = (Extension("STATUS", status),) if status else ()
            for digits in extension.values:
                if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS:
                    position = int(digits)
                    if 1 <= position <= count:
                        results[position - 1] = replace(extension.result, extensions=own)
    return tuple(results)


def _without_recipients(answer: Result) -> tuple[Extension, ...]:
    return tuple(extension for extension in answer.extensions if extension.name != "RCPT")
