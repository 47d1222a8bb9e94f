"""Envelopes of AMDP for those who do not call back (AMDP-5a): the token in their link opens the message.

Whether a server does, SMTP's client learns from EHLO; every other protocol and every mailbox gets the link.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from outrider.delivery.interface import Job
from outrider.model.message import StoredMessage
from outrider.protocols.amdp.envelope import EnvelopeError, with_link_token

SMTP_PROTOCOLS: Final = frozenset({"smtp", "smtps", "submission"})
"""Their clients decide when they know what the server offers."""


def with_links(job: Job) -> Job:
    """The job for a receiver that knows nothing of AMDP. Whatever is no envelope is left as it is."""
    if not job.message.envelope.link_token:
        return job
    return Job(with_link(job.message), job.recipients)


def with_link(message: StoredMessage) -> StoredMessage:
    """The envelope with the token in its link, from here on an ordinary message: the same octets at every
    attempt."""
    if message.content is None:
        return message
    try:
        content = with_link_token(message.content, message.envelope.link_token)
    except EnvelopeError:
        content = message.content  # it was changed on its way, and has no link of ours
    return replace(message, content=content, envelope=replace(message.envelope, link_token=""))
