"""What every back end of the spool must do: one class of tests, inherited for each.

A subclass provides the fixture `spool` (started, poison_after=3) and `reopen(spool, now, *, crash)`, which
ends this owner's spool in order or as a crash would and gives it back started anew. The promises stand in
`spool_promises`, by idea.
"""

from __future__ import annotations

from outrider.testing.spool_promises.changing import ChangingContract
from outrider.testing.spool_promises.keeping import KeepingContract
from outrider.testing.spool_promises.leasing import LeasingContract
from outrider.testing.spool_promises.listing import ListingContract
from outrider.testing.spool_promises.settling import SettlingContract
from outrider.testing.spool_promises.storing import StoringContract
from outrider.testing.spool_promises.transfers import TransferContract


class SpoolContract(
    StoringContract,
    LeasingContract,
    SettlingContract,
    ListingContract,
    ChangingContract,
    KeepingContract,
    TransferContract,
):
    """The contract of `spool.interface`."""
