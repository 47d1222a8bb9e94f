"""Mail that this server has made itself - reports, answers, copies of mailing lists - where its way is
`amdp-hold:`: it was submitted by nobody, so there is no account to vouch for it, and nobody to hold it for.

It goes on as ordinary mail. To refuse it as others' (AMDP-2) would lose the report of every failure.
"""

from __future__ import annotations

from dataclasses import replace

from outrider.delivery.interface import Expansion, Job
from outrider.lists.mailing import Mailing
from outrider.model.envelope import Recipient
from outrider.model.message import Event, NewMessage, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.routes import RouteTable
from outrider.routing.ways import AMDP_TRANSPORTS, LocalWay


def is_made_here(message: StoredMessage) -> bool:
    """Whether no session brought it: all that came by one has the fact of its listener."""
    return not any(fact.name == "listener" for fact in message.facts)


def passed_on(job: Job, instruction: str, mailing: Mailing, routes: RouteTable, now: float) -> Expansion:
    """The message once more for the same recipients, by the way of the instruction or of their domains, by MX
    where that would lead here again; stored with the end of this attempt."""
    message = job.message
    assert message.content is not None, "mail on its way has content"
    to = tuple(
        replace(one, route=_route(one, instruction, routes))
        for one in (message.envelope.recipients[number] for number in job.recipients)
    )
    onward = NewMessage(
        mailing.new_id(now),
        now,
        replace(message.envelope, recipients=to),
        message.trace,
        message.content,
        mailing.items(to, now),
        message.facts,
        (Event(now, "received", f"made here: {message.id}, which was not submitted and is not held"),),
        message.priority,
    )
    text = f"not held, as this server made it; goes on as {onward.id}"
    result = DeliveryResult(Kind.RELAYED, "2.0.0", text, protocol="amdp-hold")
    return Expansion(dict.fromkeys(job.recipients, result), (onward,))


def _route(recipient: Recipient, instruction: str, routes: RouteTable) -> str:
    if instruction:
        return instruction
    way = routes.find(replace(recipient, route="")).way
    return "mx" if isinstance(way, LocalWay) and way.transport in AMDP_TRANSPORTS else ""
