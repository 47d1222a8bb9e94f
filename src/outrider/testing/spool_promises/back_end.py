"""What every part of the contract needs of the back end that is tested."""

from __future__ import annotations

from outrider.spool.interface import Spool


class BackEnd:
    """A subclass provides the fixture `spool` (started, poison_after=3) and `reopen`."""

    windows: tuple[str, ...] = ()
    """Names of constants that say how far a search for due items looks, made small in one test."""
    pages: tuple[str, ...] = ()
    """Names of constants that say how many entries a page has."""

    async def reopen(self, spool: Spool, now: float, *, crash: bool) -> Spool:
        """End the spool, in order or not, and start it anew."""
        raise NotImplementedError
