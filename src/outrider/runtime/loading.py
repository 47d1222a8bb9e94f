"""Loading what is large."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_modules() -> Iterator[None]:
    """Import within, without the cycle collector.

    Classes and functions come by the ten thousand and stay. The collector would look through all of them
    again and again and find nothing, for a tenth of the time that a server takes to start; later it leaves
    them out.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
