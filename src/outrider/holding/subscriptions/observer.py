"""What subscriptions and classification have to record; `maillog` implements it."""

from __future__ import annotations

from typing import Protocol


class SubscriptionObserver(Protocol):
    """Told what happened; must not raise and must not wait."""

    def subscription_asked(self, address: str, about: str, wish: str, *, letter: bool) -> None:
        """Somebody applied for this address; `letter`: it is asked by a letter. The applicant learns
        neither."""
        ...

    def subscription_changed(self, address: str, about: str, standing: str, how: str) -> None:
        """A person's rule is a new one."""
        ...

    def subscription_refused(self, client: str, doing: str, why: str) -> None:
        """A request was refused: too many, a wrong link, a signature that is none."""
        ...

    def addresses_synchronised(
        self, sender: str, about: str, submitted: int, accepted: int, *, told: bool
    ) -> None:
        """A sender submitted its addresses; `told` = false: too few have subscribed, it learnt nothing."""
        ...

    def peer_synchronised(self, peer: str, changes: int, lists: int) -> None:
        """Another subscription server's changes were taken over."""
        ...

    def class_looked_up(self, domain: str, service: str, patterns: int, *, answered: bool) -> None:
        """A classification service was asked; "" where none knew the domain."""
        ...

    def class_reported(
        self, domain: str, mail_class: str, by: str, *, counted: bool, withdrawn: bool
    ) -> None:
        """The reference service got a report of a lie; `withdrawn`: the class is not vouched for any more."""
        ...

    def subscriptions_failed(self, doing: str, error: BaseException) -> None:
        """A fault of ours, a store that cannot be used, a peer that does not answer."""
        ...
