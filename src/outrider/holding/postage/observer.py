"""What postage gives occasion to record; `maillog` implements it."""

from __future__ import annotations

from typing import Protocol


class PostageObserver(Protocol):
    """Told what happened; must not raise and must not wait. Serials are no secrets, receipts are."""

    def postage_sold(self, account: str, payer: str, domain: str, amount: int) -> None:
        """A receipt was bought, or asked for again."""
        ...

    def postage_redeemed(self, serial: str, payer: str, amount: int, cause: str) -> None:
        """A receipt was spent or reserved, or was so already by the same cause."""
        ...

    def postage_refused(self, why: str, text: str, payer: str, cause: str) -> None:
        """A receipt was not taken."""
        ...

    def postage_returned(self, serial: str, account: str, amount: int, why: str) -> None:
        """An amount went back into its account."""
        ...

    def postage_asked_in_vain(self, client: str, account: str, text: str) -> None:
        """Somebody asked the ledger for what he may not have."""
        ...

    def postage_bought(self, domain: str, amount: int) -> None:
        """We paid for mail to a domain."""
        ...

    def postage_failed(self, doing: str, error: BaseException) -> None:
        """The ledger cannot be used now."""
        ...


class SilentPostage:
    """Implements `PostageObserver`; records nothing."""

    def postage_sold(self, account: str, payer: str, domain: str, amount: int) -> None:
        """See `PostageObserver`."""

    def postage_redeemed(self, serial: str, payer: str, amount: int, cause: str) -> None:
        """See `PostageObserver`."""

    def postage_refused(self, why: str, text: str, payer: str, cause: str) -> None:
        """See `PostageObserver`."""

    def postage_returned(self, serial: str, account: str, amount: int, why: str) -> None:
        """See `PostageObserver`."""

    def postage_asked_in_vain(self, client: str, account: str, text: str) -> None:
        """See `PostageObserver`."""

    def postage_bought(self, domain: str, amount: int) -> None:
        """See `PostageObserver`."""

    def postage_failed(self, doing: str, error: BaseException) -> None:
        """See `PostageObserver`."""
