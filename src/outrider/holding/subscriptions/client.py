"""The sender's side of synchronising (AMDP-19): which of these addresses accept our mail of this class?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.holding.policies.host_documents import HostKey
from outrider.holding.policies.peers import Peer
from outrider.holding.subscriptions.forms import (
    MOST_ADDRESSES,
    SYNCHRONISE_KIND,
    SYNCHRONISE_PATH,
    Synchronise,
    Synchronised,
)
from outrider.holding.web import CallFailed, WebCaller
from outrider.protocols.amdp.json_forms import FormError, decode

MAX_ANSWER = 8_388_608
"""Octets: every address of the largest submission, with its link."""
_WORDS = {
    400: "the request is not what that server wants",
    403: "this domain is none that it synchronises with",
    404: "there is no subscription service",
    429: "too many requests, or too few of the addresses had subscribed; try again later",
}


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted."""

    sender: str
    """An address or domain of ours."""
    mail_class: str
    addresses: Sequence[str]
    """All at one receiving site; at most MOST_ADDRESSES."""


async def synchronise(
    caller: WebCaller, key: HostKey, server: Peer, one: Submission, now: float, nonce: str
) -> Synchronised:
    """What the subscription service says. Raises CallFailed, DocumentError for a key that cannot sign,
    ValueError for too many addresses."""
    if len(one.addresses) > MOST_ADDRESSES:
        raise ValueError(f"at most {MOST_ADDRESSES} addresses at once")
    request = Synchronise(
        signer=key.host,
        audience=server.host,
        at=int(now),
        nonce=nonce,
        sender=one.sender,
        mail_class=one.mail_class,
        addresses=tuple(one.addresses),
    )
    document = key.sign(request, SYNCHRONISE_KIND)
    answer = await caller.post(server.host, server.port, SYNCHRONISE_PATH, document, limit=MAX_ANSWER)
    if answer.status != 200:
        words = _WORDS.get(answer.status, f"it answers {answer.status}")
        raise CallFailed(f"{server.host}: {words}", temporary=answer.status in (429, 503))
    try:
        return decode(answer.body, Synchronised, MAX_ANSWER)
    except FormError as error:
        raise CallFailed(f"{server.host}: {error}") from error
