"""Numbers as peers send them: a bounded run of ASCII digits and nothing else.

Python's own `int()` also takes signs, blanks, underscores and the digits of other scripts, and gives up on
none of them (SEC-97); every length and count on the wire goes through here instead.
"""

from __future__ import annotations


def maybe_number(octets: bytes, max_digits: int) -> int | None:
    """The value of 1 to `max_digits` digits, leading zeroes allowed; None for anything else."""
    if len(octets) > max_digits or not octets.isdigit():  # bytes.isdigit knows ASCII only
        return None
    return int(octets)
