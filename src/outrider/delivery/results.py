"""What an outcome means (SMTP-6): 4yz waits, 5yz is returned, an unforeseen failure of our own waits.

And how it is said: one sentence per result, the same in log, trail, queue list and report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from outrider.model.reply import status_for
from outrider.model.result import DeliveryResult, Kind

MAX_TEXT = 1024
"""Characters kept of what a remote host says: a reply of several lines, not a book (SEC-171)."""
TOO_MANY_RECIPIENTS = 452
LOCAL_PROTOCOLS = frozenset({"maildir", "pipe", "discard", "lmtp", "list", "amdp-retrieval"})
"""Where our delivery is the final one, so that a positive report is ours to make (RFC 3461 5.2.2)."""
NO_DSN_PROTOCOLS = frozenset({"qmtp"})


def from_reply(code: int, status: str, text: str, *, remote: str = "", protocol: str = "") -> DeliveryResult:
    """The result that an SMTP reply to the recipient or to the data stands for.

    A code outside 2yz, 4yz and 5yz is a peer that does not speak the protocol: temporary.
    """
    match code // 100:
        case 2:
            kind = Kind.DELIVERED
        case 5:
            kind = Kind.FAILED
        case 4:
            kind = Kind.DEFERRED
        case _:
            return deferred("4.5.0", f"unexpected reply {code}: {cleaned(text)}", remote, protocol)
    return DeliveryResult(kind, status_for(code, status), cleaned(text), code, remote, protocol)


def cleaned(text: str) -> str:
    """One line of printable text, bounded."""
    line = " ".join(text[: 4 * MAX_TEXT].split())
    printable = "".join(one if one.isprintable() else "?" for one in line)
    return printable[:MAX_TEXT]


def deferred(status: str, text: str, remote: str = "", protocol: str = "") -> DeliveryResult:
    """Try again later."""
    return DeliveryResult(Kind.DEFERRED, status, text, remote=remote, protocol=protocol)


def failed(status: str, text: str, remote: str = "", protocol: str = "") -> DeliveryResult:
    """Return it to the sender."""
    return DeliveryResult(Kind.FAILED, status, text, remote=remote, protocol=protocol)


def own_failure(doing: str) -> DeliveryResult:
    """A failure of ours that nobody foresaw: mail waits until it is mended. Details go to the log only."""
    return deferred("4.3.0", f"a fault in this server while {doing}; the mail waits")


def as_deferred(result: DeliveryResult) -> DeliveryResult:
    """The same result, waiting: an unmet TLS requirement of ours is no fault of the recipient's (TLS-4a)."""
    if result.kind is Kind.DEFERRED:
        return result
    return replace(result, kind=Kind.DEFERRED, status=f"4{result.status[1:]}")


def expired(last: DeliveryResult, age: float) -> DeliveryResult:
    """The last result of a message that has been tried for its whole lifetime (RFC 3463: X.4.7)."""
    text = f"delivery time expired after {duration(age)}; last: {last.text}"
    return replace(last, kind=Kind.FAILED, status="4.4.7", text=text[:MAX_TEXT])


def complete(recipients: Iterable[int], results: Mapping[int, DeliveryResult]) -> dict[int, DeliveryResult]:
    """A result for every recipient: a carrier that forgot one has not delivered to it."""
    return {index: results.get(index) or own_failure("delivering") for index in recipients}


def was_interrupted(results: Iterable[DeliveryResult]) -> bool:
    """Whether the conversation broke before the host said anything about any recipient.

    A status of class x.7 is a decision (a backup's denial that is not the last word), not a breach.
    """
    return all(one.kind is Kind.DEFERRED and one.code in (0, 421) and one.status[2] != "7" for one in results)


def said_too_many(result: DeliveryResult) -> bool:
    """452 to a RCPT beyond what the host takes in one transaction (RFC 5321 4.5.3.1.10)."""
    return result.code == TOO_MANY_RECIPIENTS and result.status in ("4.5.3", "4.0.0")


def sentence(result: DeliveryResult) -> str:
    """The one sentence about a result."""
    words = {
        Kind.DELIVERED: "delivered",
        Kind.RELAYED: "relayed",
        Kind.DEFERRED: "deferred",
        Kind.FAILED: "failed",
        Kind.DROPPED: "dropped",
    }[result.kind]
    by = f" by {result.protocol}" if result.protocol else ""
    to = f" {'to' if result.kind in (Kind.DELIVERED, Kind.RELAYED) else 'at'} {result.remote}"
    tls = f" ({result.tls})" if result.tls else ""
    code = f"{result.code} " if result.code else ""
    return f"{words}{by}{to if result.remote else ''}{tls}: {code}{result.status} {result.text}".rstrip()


def duration(seconds: float) -> str:
    """A span for people: "5 days", "4 hours", "90 seconds"."""
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{round(seconds)} seconds"
