"""Queue ids: fifteen characters of ``[0-9A-Z]`` without I, L, O and U, in the order of their making.

Nine characters hold the milliseconds since the epoch (enough for a thousand years), six hold 30 random bits:
two nodes at one millisecond meet once in a thousand million times, and then the spool refuses the second.
"""

from __future__ import annotations

from collections.abc import Callable

from outrider.model.message import MessageId

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
TIME_CHARACTERS = 9
RANDOM_BITS = 30


def make_id(now: float, chance: int) -> MessageId:
    """The id for a moment (seconds since the epoch) and 30 random bits."""
    number = (int(now * 1000) << RANDOM_BITS | chance & (1 << RANDOM_BITS) - 1) & (1 << 75) - 1
    pairs = _PAIRS
    return MessageId(
        _DIGITS[number >> 70]
        + pairs[number >> 60 & 1023]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def id_maker(random_bits: Callable[[int], int]) -> Callable[[float], MessageId]:
    """A maker that takes its chance from `random_bits(n)`, such as `random.SystemRandom().getrandbits`."""
    return lambda now: make_id(now, random_bits(RANDOM_BITS))
