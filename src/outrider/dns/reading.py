"""What a response says about the question: records, their absence, or nothing that can be relied on."""

from dataclasses import dataclass
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from dns.rdata import Rdata

MAX_ALIASES = 8  # CNAMEs followed for one question; the longest honest chains seen are 4 or 5 (SEC-157)
MAX_RECORDS = 100  # of one set; no host that takes mail needs more (SEC-159)

Ending = Literal["records", "no such domain", "no data", "alias"]


class Senseless(Exception):
    """The response decides nothing; its text says why. The server is as good as one that answers SERVFAIL."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A response as far as it concerns the question.

    `canonical` is the end of the chain of aliases, `aliases` its length. An ending of "alias" means that
    the server knew the chain no further: `canonical` is to be asked for next.
    """

    ending: Ending
    canonical: dns.name.Name
    aliases: int
    records: tuple[Rdata, ...]
    ttl_s: int
    authentic: bool


def read_response(response: dns.message.Message) -> Reading:
    """Read a response that is known to belong to its query; raises `Senseless`.

    Only the answer section's chain from the question on counts: additional records, and records of
    other names, are not looked at (SEC-161).
    """
    rcode = response.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise Senseless(dns.rcode.to_text(rcode))
    if not isinstance(response, dns.message.QueryMessage):
        raise Senseless("not the response to a query")
    try:
        chain = response.resolve_chaining()
    except dns.message.ChainTooLong:
        raise Senseless("alias loop") from None
    except dns.exception.DNSException as error:
        raise Senseless(f"malformed response ({type(error).__name__})") from None
    if len(chain.cnames) > MAX_ALIASES:
        raise Senseless("too many aliases")
    return Reading(
        ending=_ending(response, chain),
        canonical=chain.canonical_name,
        aliases=len(chain.cnames),
        records=tuple(chain.answer)[:MAX_RECORDS] if chain.answer else (),
        ttl_s=chain.minimum_ttl,
        authentic=bool(response.flags & dns.flags.AD),
    )


def _ending(response: dns.message.QueryMessage, chain: dns.message.ChainingResult) -> Ending:
    """Tell records, NXDOMAIN, NODATA and an unfinished chain apart (RFC 2308 section 2)."""
    if chain.answer:
        return "records"
    if response.rcode() == dns.rcode.NXDOMAIN:
        return "no such domain"
    authority = {rrset.rdtype for rrset in response.authority}
    if dns.rdatatype.SOA in authority:
        return "no data"
    if chain.cnames:
        return "alias"
    if dns.rdatatype.NS in authority:
        # A referral: the server does not look things up for us. Taking it for NODATA would deny real records.
        raise Senseless("referral from a server that does not recurse")
    return "no data"
