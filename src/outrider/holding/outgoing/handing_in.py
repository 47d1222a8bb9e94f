"""From the outgoing gateway to a holding facility that is another server: the fields on top (AMDP-2).

They are written when the message goes, for those recipients who are named to the facility with it, and from
the same facts each time: nothing is stored twice, and no copy shows whom else it went to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from outrider.delivery.interface import Job
from outrider.holding.outgoing.outgoing_terms import OutgoingTerms, terms_of
from outrider.holding.outgoing.sender_fields import sender_fields
from outrider.model.content import Content
from outrider.protocols.amdp.mail_class import ClassError, parse_class
from outrider.protocols.amdp.submission import HeldRecipient, Submission, write_submission
from outrider.protocols.amdp.values import EnvelopeError


@dataclass(frozen=True, slots=True)
class HandingIn:
    """Makes of a job for the facility what it takes."""

    route: str
    """The facility's, as recipients have it."""
    gateway: str
    """AMDP-OMG-Id."""

    def __call__(self, job: Job) -> Job:
        """The job with the fields; as it is where it goes elsewhere. The facility refuses what has none."""
        envelope, content = job.message.envelope, job.message.content
        terms = terms_of(job.message)
        if content is None or terms is None or envelope.recipients[job.recipients[0]].route != self.route:
            return job
        try:
            fields = self._fields(job, terms, content)
        except (EnvelopeError, ClassError):
            return job
        # What is on top of the trace is the first that the facility reads, and takes off again.
        message = replace(job.message, trace=fields + job.message.trace)
        return Job(message, job.recipients)

    def _fields(self, job: Job, terms: OutgoingTerms, content: Content) -> bytes:
        envelope = job.message.envelope
        addresses = [envelope.recipients[number].address for number in job.recipients]
        shown = sender_fields(content.headers, terms.sender, addresses, job.message.received_at)
        submission = Submission(
            terms.sender,
            tuple(map(HeldRecipient, addresses, shown.names)),
            parse_class(terms.mail_class),
            shown.sender_name,
            terms.language,
            int(terms.expires),
            self.gateway,
            terms.receipt,
        )
        utf8 = envelope.smtputf8 or not all(one.is_ascii for one in (terms.sender, *addresses))
        return write_submission(submission, utf8=utf8)
