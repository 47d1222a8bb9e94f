"""The transports of this machine, by the word that names them in a route."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outrider.config.schema import Delivery
from outrider.delivery.interface import Job, LocalTransport
from outrider.delivery.maildir import MaildirTransport
from outrider.delivery.observer import DeliveryObserver
from outrider.delivery.pipe import PipeTransport, account_named
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import RecipientTable

DISCARDED = DeliveryResult(Kind.DELIVERED, "2.0.0", "discarded, as configured", protocol="discard")


class DiscardTransport:
    """`discard:`: mail ends here on purpose, with a line in the trail."""

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult]:
        """Deliver to nobody."""
        del instruction
        return dict.fromkeys(job.recipients, DISCARDED)


def local_transports(
    settings: Delivery,
    tables: RecipientTable,
    unique_name: Callable[[], str],
    observer: DeliveryObserver,
) -> dict[str, LocalTransport]:
    """All of them. Raises ValueError naming the key when [delivery] pipe_user is no account."""
    return {
        "maildir": MaildirTransport(tables.mailbox_of, unique_name, observer),
        "pipe": PipeTransport(
            tables.mailbox_of,
            observer,
            timeout_s=settings.pipe_timeout,
            account=account_named(settings.pipe_user),
        ),
        "discard": DiscardTransport(),
    }
