"""The lies that Mallory tells, one for each field of an envelope, and what is to come of each (the answers of
docs/protocols/amdp-fields.md, tried)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from outrider.model.address import Domain, parse_address
from outrider.protocols.amdp.envelope import HeldAttachment
from outrider.protocols.amdp.mail_class import parse_class

MALLORY, NORA, CAROL = "m@mallory.example", "nora@north.example", "carol@beta.example"
TRUTH: Final = "none"
DAY_S: Final = 86_400
_BANK: Final = "<security@bank.example>"
_COMMERCE: Final = {"mail_class": parse_class("Direct::Commerce::offer")}
"""Not vouched for: his envelope is given to its reader, whose server fetches nothing."""
_AS_ALPHA: Final = {
    "sender": parse_address("olga@alpha.example"),
    "holder": Domain("mhf-1.alpha.example"),
}
_AS_BANK: Final = {
    "sender": parse_address("security@bank.example"),
    "holder": Domain("mhf-1.bank.example"),
    "holder_id": "seven",
}
_HIS_WORD: Final = {"holder": Domain("mhf-1.alpha.example"), "holder_id": "mine"}


class End(Enum):
    """How an envelope may end."""

    REFUSED = "refused"
    """In the session."""
    DROPPED = "dropped"
    """After the call-back, or instead of it."""
    NOT_TAKEN = "not taken"
    """Fetched, and found to be something else."""
    FETCHED = "fetched"
    """In the mailbox, as mail of mallory.example."""
    ENVELOPE = "envelope"
    """In the mailbox, as an envelope of mallory.example."""


@dataclass(frozen=True, slots=True)
class Lie:
    """One field, and what it says."""

    name: str
    says: str
    end: End
    """What is to come of it."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of the envelope, instead of his own."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Header fields as he writes them by hand."""
    link: bool = False
    """The envelope's text has another link."""
    serves: Callable[[bytes], bytes] | None = None
    """What his facility hands out, where it is not the honest message."""
    announces: bool = False
    """The envelope tells of what is served, and not of the honest message."""
    used_id: bool = False
    """Its id is one that was used before."""
    to: str = NORA
    bait: str = ""
    """What must not stand in the text that its reader sees."""
    told: bool = False
    """The message is taken, and the lie is told."""


def lies(now: int) -> tuple[Lie, ...]:
    """All of them; the first is the truth, to compare with."""
    far = now + 10 * DAY_S
    invoice = {"attachments": (HeldAttachment("invoice.pdf", "application/pdf", 4),)}
    old = {"timestamp": now - 2 * DAY_S, "expires": now - DAY_S}
    paid = {"mail_class": parse_class("Agent::Bulk::letter"), "postage": "paid.in.full"}
    government = {"mail_class": parse_class("Agent::Government::notice")}
    other = {"recipient": parse_address("vera@north.example")}
    refused, dropped, fetched, envelope = End.REFUSED, End.DROPPED, End.FETCHED, End.ENVELOPE
    return (
        Lie(TRUTH, "nothing but the truth", fetched),
        Lie("AMDP-From, From", "olga, and alpha's facility", dropped, _AS_ALPHA),
        Lie("AMDP-From", "the bank, with his own facility", refused, fields={"AMDP-From": _BANK}),
        Lie("From", "the bank", refused, fields={"From": _BANK}),
        Lie("From, twice", "himself, and the bank", refused, fields={"From": f"<{MALLORY}>, {_BANK}"}),
        Lie("AMDP-From-Name", '"Your Bank"', envelope, {**_COMMERCE, "sender_name": "Your Bank"}),
        Lie("AMDP-To, To", "another than RCPT", refused, other),
        Lie("AMDP-To-Name", '"Dear Winner"', envelope, {**_COMMERCE, "recipient_name": "Dear Winner"}),
        Lie("AMDP-Subject", "another than Subject", refused, fields={"AMDP-Subject": "Your account"}),
        Lie(
            "AMDP-About", "an advertisement", envelope, {**_COMMERCE, "about": "Buy a watch"},
            bait="Buy a watch",
        ),
        Lie("AMDP-Attachments", "an invoice that is not there", fetched, invoice, told=True),
        Lie("AMDP-Mail-Class", "government, to be let in", envelope, government),
        Lie("AMDP-Mail-Class", "government, to pay nothing", dropped, government, to=CAROL),
        Lie("AMDP-Language", "Klingon", fetched, {"language": "tlh"}),
        Lie("AMDP-Encoding", "UTF-7, to be misread", fetched, {"encoding": "UTF-7"}),
        Lie("AMDP-Date", "ten days ahead, to be on top", fetched, {"date": far}),
        Lie("AMDP-Msg-Id", "one that was used before", dropped, used_id=True),
        Lie("AMDP-Msg-Id", "a path", refused, fields={"AMDP-Msg-Id": "../../etc/passwd"}),
        Lie("AMDP-Size", "10; the digest says otherwise", refused, fields={"AMDP-Size": "10 bytes"}),
        Lie(
            "AMDP-Size, -Digest", "small; 1 MiB is served", End.NOT_TAKEN,
            serves=lambda octets: octets + b"x" * 1_048_576,
        ),
        Lie(
            "AMDP-Digest", "of another message than is served", End.NOT_TAKEN,
            serves=lambda octets: octets.replace(b"true", b"evil"),
        ),
        Lie("AMDP-MHF-Name", "the bank's facility", refused, {"holder": Domain("mhf-1.bank.example")}),
        Lie("AMDP-MHF-Name", "localhost", refused, fields={"AMDP-MHF-Name": "localhost"}),
        Lie("AMDP-MHF-Id", "one for the bank to vouch for", dropped, _AS_BANK),
        Lie("AMDP-MHF-Name, -Id", "alpha's, and he vouches for it", dropped, _HIS_WORD),
        Lie("AMDP-Auth-Port", "25, to have others called", refused, fields={"AMDP-Auth-Port": "25"}),
        Lie("AMDP-Timestamp", "ten days ahead", refused, {"timestamp": far, "expires": far + 60}),
        Lie("AMDP-Expire-On", "yesterday", refused, old),
        Lie("AMDP-Auth-Keys", "a key that opens nothing", fetched, {"keys": "master=1"}),
        Lie("AMDP-Version", "2.0, with rules of his own", refused, fields={"AMDP-Version": "2.0"}),
        Lie("AMDP-Payment-Rcpt", "a receipt that he has made", dropped, paid, to=CAROL),
        Lie("AMDP-Verified-From", "the bank", refused, fields={"AMDP-Verified-From": _BANK}),
        Lie("AMDP-Trust", "a field that there is not", fetched, fields={"AMDP-Trust": "all"}),
        Lie("the text", "a link to elsewhere", envelope, _COMMERCE, link=True, bait="evil.example"),
        Lie(
            "the message's From", "the bank", End.NOT_TAKEN, announces=True,
            serves=lambda octets: octets.replace(f"<{MALLORY}>".encode(), _BANK.encode()),
        ),
    )  # fmt: skip
