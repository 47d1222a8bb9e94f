"""Who may write to a list, asked at RCPT: what is refused there is never bounced to a forged sender.

The class of a post (AMTP-16) is reception's own affair; it knows the code that a message has.
"""

from __future__ import annotations

from collections.abc import Mapping

from outrider.lists.gate import needs_membership, posting_refusal, size_refusal
from outrider.lists.observer import ListsObserver
from outrider.lists.settings import MailList
from outrider.lists.store import ListStoreThread
from outrider.model.address import Address
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.routing.list_addresses import ListAddress, Purpose
from outrider.tables.database import StoreUnavailable

NOT_NOW = Reply(451, "4.3.0", "The list's members cannot be looked up now; try again later")


class ListGate:
    """Implements `reception.parts.ListRefusals`."""

    def __init__(
        self, lists: Mapping[str, MailList], store: ListStoreThread, observer: ListsObserver
    ) -> None:
        self._lists = lists
        self._store = store
        self._observer = observer

    async def refusal(self, address: Address, of_list: ListAddress, request: MailRequest) -> Reply | None:
        """Why mail is not taken for an address of a list; None when it is.

        A null sender is let through, and ignored later: some hosts ask with it whether an address exists.
        """
        mail_list = self._lists.get(f"{of_list.name}@{address.domain}")
        if mail_list is None or of_list.purpose is not Purpose.POST or request.sender is None:
            return None
        refusal = size_refusal(mail_list, request.size)
        if refusal is not None:
            return refusal
        if not needs_membership(mail_list, request.sender):
            return posting_refusal(mail_list, request.sender, is_member=False)
        return await self._by_membership(mail_list, request.sender)

    async def _by_membership(self, mail_list: MailList, sender: Address) -> Reply | None:
        try:
            found = await self._store.call(lambda store: store.member(mail_list.name, sender))
        except StoreUnavailable as error:
            self._observer.lists_failed("looking up a member", error, None)
            return NOT_NOW
        return posting_refusal(mail_list, sender, is_member=found is not None)
