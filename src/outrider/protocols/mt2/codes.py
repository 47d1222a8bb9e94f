"""Response words and result codes (MT2-8); the table is the one of docs/protocols/mt2.md.

A response has a word that says whether the request was done, and a result code that says what exactly: an
OID whose last two arcs are a class (2 done, 3 go on, 4 transient failure, 5 permanent failure) and a number.
The arcs before them are the *branch*: ``99.0`` is the core's, an extension has its own and may use the core's
codes as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outrider.protocols.mt2.lines import Extension

CORE_BRANCH: Final = "99.0"
STAT_BRANCH: Final = "2.25.215328019274864168367399045512917948805"
"""The branch of STAT (MT2-13): under the arc for UUIDs, with one made for it."""


class Word(Enum):
    """What became of a request. The three words are reserved: no verb and no atom is called so."""

    OK = "OK"
    """Accepted and processed."""
    ERR = "ERR"
    """Refused, or failed for good or for now: the class of the result code tells which."""
    TMP = "TMP"
    """Something is awaited before the request is done."""


# -- class 2: done -----------------------------------------------------------------------------------
DONE: Final = "99.0.2.0"
IDENTIFIED: Final = "99.0.2.1"
OPTION_SET: Final = "99.0.2.2"
ENVELOPE_ACCEPTED: Final = "99.0.2.3"
FRAGMENT_HELD: Final = "99.0.2.4"
OBJECT_ACCEPTED: Final = "99.0.2.5"
MESSAGE_TAKEN: Final = "99.0.2.6"
ALREADY_TAKEN: Final = "99.0.2.7"
KILLED: Final = "99.0.2.8"
CLOSING: Final = "99.0.2.9"
ALIVE: Final = "99.0.2.10"
RECIPIENT_ACCEPTED: Final = "99.0.2.11"
# -- class 3: go on ----------------------------------------------------------------------------------
GREETING: Final = "99.0.3.1"
SEND_IDENTITY: Final = "99.0.3.2"
MORE_RESULTS: Final = "99.0.3.4"
SEND_ENVELOPE: Final = "99.0.3.5"
SEND_HEADERS: Final = "99.0.3.6"
SEND_BODY: Final = "99.0.3.8"
GOING_AWAY: Final = "99.0.3.9"
# -- class 4: not now --------------------------------------------------------------------------------
NOT_NOW: Final = "99.0.4.0"
TOO_BUSY: Final = "99.0.4.1"
TIMED_OUT: Final = "99.0.4.2"
NO_STORAGE: Final = "99.0.4.3"
LOOKUP_FAILED: Final = "99.0.4.4"
DEFERRED_BY_POLICY: Final = "99.0.4.5"
TOO_MANY_SESSIONS: Final = "99.0.4.6"
LEAVING: Final = "99.0.4.7"
RECIPIENT_NOT_NOW: Final = "99.0.4.8"
IN_TRANSFER: Final = "99.0.4.9"
TOO_MANY_TRANSFERS: Final = "99.0.4.10"
IDENTITY_NOT_CHECKED: Final = "99.0.4.11"
# -- class 5: no -------------------------------------------------------------------------------------
REFUSED: Final = "99.0.5.0"
MALFORMED: Final = "99.0.5.1"
UNKNOWN_VERB: Final = "99.0.5.2"
WRONG_PARAMETERS: Final = "99.0.5.3"
WRONG_ORDER: Final = "99.0.5.4"
NO_PIPELINING: Final = "99.0.5.5"
TOO_MANY_REQUESTS: Final = "99.0.5.6"
TOO_LATE: Final = "99.0.5.7"
NO_SUCH_REQUEST: Final = "99.0.5.8"
UNKNOWN_OPTION: Final = "99.0.5.9"
WRONG_OPTION_VALUE: Final = "99.0.5.10"
OPTION_NOT_GRANTED: Final = "99.0.5.11"
NOT_OVER_TLS: Final = "99.0.5.12"
TLS_REQUIRED: Final = "99.0.5.13"
UNKNOWN_VERSION: Final = "99.0.5.14"
TOO_MANY_ERRORS: Final = "99.0.5.15"
TAKES_NO_MAIL: Final = "99.0.5.16"
IDENTITY_REQUIRED: Final = "99.0.5.20"
INVALID_HOST_CERTIFICATE: Final = "99.0.5.21"
HOST_NAME_MISMATCH: Final = "99.0.5.22"
INVALID_SENDER_CERTIFICATE: Final = "99.0.5.23"
PROOF_FAILED: Final = "99.0.5.24"
HOST_REFUSED: Final = "99.0.5.25"
IDENTITY_TOO_LARGE: Final = "99.0.5.26"
SENDER_REFUSED: Final = "99.0.5.30"
UNKNOWN_RECIPIENT: Final = "99.0.5.31"
RECIPIENT_REFUSED: Final = "99.0.5.32"
NO_RECIPIENTS: Final = "99.0.5.33"
MESSAGE_TOO_LARGE: Final = "99.0.5.34"
FRAGMENT_TOO_LARGE: Final = "99.0.5.35"
WRONG_FRAGMENT_COUNT: Final = "99.0.5.36"
OBJECT_NOT_EXPECTED: Final = "99.0.5.37"
WRONG_SIZE: Final = "99.0.5.38"
WRONG_DIGEST: Final = "99.0.5.39"
INVALID_OBJECT: Final = "99.0.5.40"
CONTENT_REFUSED: Final = "99.0.5.41"
INVALID_TRACE: Final = "99.0.5.42"
LOOP: Final = "99.0.5.43"
UNKNOWN_CRITICAL_EXTENSION: Final = "99.0.5.44"
TRANSFER_ID_REUSED: Final = "99.0.5.45"
WRONG_OFFSET: Final = "99.0.5.46"
EXPIRED: Final = "99.0.5.47"
TRANSFER_KILLED: Final = "99.0.5.48"
MIME_SYNTAX: Final = "99.0.5.49"
ENCRYPTION_LEVEL: Final = "99.0.5.50"
EARLIER_PART_REFUSED: Final = "99.0.5.51"
EXTENSION_REFUSED: Final = "99.0.5.52"
# -- STAT's own branch -------------------------------------------------------------------------------
STAT_UNKNOWN: Final = f"{STAT_BRANCH}.2.0"
STAT_RECEIVING: Final = f"{STAT_BRANCH}.2.1"
STAT_QUEUED: Final = f"{STAT_BRANCH}.2.2"
STAT_DELIVERED: Final = f"{STAT_BRANCH}.2.3"
STAT_FAILED: Final = f"{STAT_BRANCH}.2.4"


@dataclass(frozen=True, slots=True)
class Result:
    """What a response says beside its tag."""

    word: Word
    code: str
    """The result code, an OID in dotted decimal."""
    text: str = ""
    """For people; free of controls. The table's text where empty."""
    extensions: tuple[Extension, ...] = ()

    @property
    def is_ok(self) -> bool:
        return self.word is Word.OK

    @property
    def is_transient(self) -> bool:
        """A failure that may pass: class 4, or one that nobody says is for good."""
        return self.word is Word.ERR and code_class(self.code) != 5


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One line of the published table."""

    code: str
    text: str
    """What we say with it, one short sentence."""
    status: str = ""
    """The enhanced status code (RFC 3463) it amounts to; "" for codes that end no message."""


def code_class(code: str) -> int:
    """The class of a result code of any branch: its last arc but one; 0 where it has none."""
    arcs = code.rsplit(".", 2)
    return int(arcs[1]) if len(arcs) == 3 and arcs[1] in {"2", "3", "4", "5"} else 0


TABLE: Final[tuple[CodeRow, ...]] = (
    CodeRow(DONE, "Done."),
    CodeRow(IDENTIFIED, "Identity accepted; options follow."),
    CodeRow(OPTION_SET, "Option set."),
    CodeRow(ENVELOPE_ACCEPTED, "Envelope accepted."),
    CodeRow(FRAGMENT_HELD, "Fragment held."),
    CodeRow(OBJECT_ACCEPTED, "Object accepted."),
    CodeRow(MESSAGE_TAKEN, "Message taken.", "2.0.0"),
    CodeRow(ALREADY_TAKEN, "Already taken.", "2.0.0"),
    CodeRow(KILLED, "Request killed."),
    CodeRow(CLOSING, "Closing."),
    CodeRow(ALIVE, "Here."),
    CodeRow(RECIPIENT_ACCEPTED, "Recipient accepted.", "2.1.5"),
    CodeRow(GREETING, "Ready."),
    CodeRow(SEND_IDENTITY, "Send the certificate data."),
    CodeRow(MORE_RESULTS, "More results follow."),
    CodeRow(SEND_ENVELOPE, "Send the envelope."),
    CodeRow(SEND_HEADERS, "Send the headers."),
    CodeRow(SEND_BODY, "Send the body."),
    CodeRow(GOING_AWAY, "Going away."),
    CodeRow(NOT_NOW, "Not now; try later.", "4.0.0"),
    CodeRow(TOO_BUSY, "Too busy; try later.", "4.3.2"),
    CodeRow(TIMED_OUT, "Timed out.", "4.4.2"),
    CodeRow(NO_STORAGE, "No storage; try later.", "4.3.1"),
    CodeRow(LOOKUP_FAILED, "A look-up failed; try later.", "4.4.3"),
    CodeRow(DEFERRED_BY_POLICY, "Deferred by local policy.", "4.7.1"),
    CodeRow(TOO_MANY_SESSIONS, "Too many sessions.", "4.3.2"),
    CodeRow(LEAVING, "Going away; send it again in another session.", "4.3.2"),
    CodeRow(RECIPIENT_NOT_NOW, "Recipient not now; try later.", "4.2.1"),
    CodeRow(IN_TRANSFER, "This transfer is already under way.", "4.3.0"),
    CodeRow(TOO_MANY_TRANSFERS, "Too many transfers at once.", "4.3.2"),
    CodeRow(IDENTITY_NOT_CHECKED, "Identity cannot be checked now.", "4.7.0"),
    CodeRow(REFUSED, "Refused.", "5.0.0"),
    CodeRow(MALFORMED, "Malformed frame.", "5.5.2"),
    CodeRow(UNKNOWN_VERB, "Unknown verb.", "5.5.1"),
    CodeRow(WRONG_PARAMETERS, "Wrong parameters.", "5.5.4"),
    CodeRow(WRONG_ORDER, "Not in this state of the session.", "5.5.1"),
    CodeRow(NO_PIPELINING, "Pipelining is not permitted.", "5.5.0"),
    CodeRow(TOO_MANY_REQUESTS, "Too many requests outstanding.", "5.5.0"),
    CodeRow(TOO_LATE, "Too late."),
    CodeRow(NO_SUCH_REQUEST, "No such request.", "5.5.4"),
    CodeRow(UNKNOWN_OPTION, "Unknown."),
    CodeRow(WRONG_OPTION_VALUE, "Value not understood."),
    CodeRow(OPTION_NOT_GRANTED, "Not granted."),
    CodeRow(NOT_OVER_TLS, "Not used over TLS."),
    CodeRow(TLS_REQUIRED, "TLS is required.", "5.7.10"),
    CodeRow(UNKNOWN_VERSION, "No common version.", "5.5.5"),
    CodeRow(TOO_MANY_ERRORS, "Too many errors.", "5.5.0"),
    CodeRow(TAKES_NO_MAIL, "No mail is taken in this direction.", "5.3.2"),
    CodeRow(IDENTITY_REQUIRED, "Identify first.", "5.7.0"),
    CodeRow(INVALID_HOST_CERTIFICATE, "Invalid host certificate.", "5.7.8"),
    CodeRow(HOST_NAME_MISMATCH, "Certificate and host name differ.", "5.7.8"),
    CodeRow(INVALID_SENDER_CERTIFICATE, "Invalid sender certificate.", "5.7.8"),
    CodeRow(PROOF_FAILED, "Proof of the key failed.", "5.7.8"),
    CodeRow(HOST_REFUSED, "Host refused.", "5.7.1"),
    CodeRow(IDENTITY_TOO_LARGE, "Certificate data is too large.", "5.7.8"),
    CodeRow(SENDER_REFUSED, "Sender refused.", "5.7.1"),
    CodeRow(UNKNOWN_RECIPIENT, "No such recipient.", "5.1.1"),
    CodeRow(RECIPIENT_REFUSED, "Recipient refused.", "5.7.1"),
    CodeRow(NO_RECIPIENTS, "No recipient is left.", "5.5.0"),
    CodeRow(MESSAGE_TOO_LARGE, "Message is too large.", "5.3.4"),
    CodeRow(FRAGMENT_TOO_LARGE, "Fragment is larger than MAXPART.", "5.5.4"),
    CodeRow(WRONG_FRAGMENT_COUNT, "Fragments do not count down to 0.", "5.5.4"),
    CodeRow(OBJECT_NOT_EXPECTED, "This object is not expected.", "5.5.1"),
    CodeRow(WRONG_SIZE, "Object is not as long as the envelope says.", "5.6.0"),
    CodeRow(WRONG_DIGEST, "Object is not what the envelope says.", "5.6.0"),
    CodeRow(INVALID_OBJECT, "Object is not valid.", "5.6.0"),
    CodeRow(CONTENT_REFUSED, "Content refused.", "5.7.1"),
    CodeRow(INVALID_TRACE, "Invalid trace.", "5.7.7"),
    CodeRow(LOOP, "Message loops.", "5.4.6"),
    CodeRow(UNKNOWN_CRITICAL_EXTENSION, "Unknown critical extension.", "5.6.3"),
    CodeRow(TRANSFER_ID_REUSED, "Transfer id belongs to another envelope.", "5.5.4"),
    CodeRow(WRONG_OFFSET, "Offset is not what is held.", "5.5.4"),
    CodeRow(EXPIRED, "Message has expired.", "5.4.7"),
    CodeRow(TRANSFER_KILLED, "Transfer killed."),
    CodeRow(MIME_SYNTAX, "MIME syntax is wrong.", "5.6.0"),
    CodeRow(ENCRYPTION_LEVEL, "Encryption is not as required.", "5.7.11"),
    CodeRow(EARLIER_PART_REFUSED, "An earlier part was refused."),
    CodeRow(EXTENSION_REFUSED, "Refused by an extension.", "5.7.1"),
    CodeRow(STAT_UNKNOWN, "Nothing is known of it."),
    CodeRow(STAT_RECEIVING, "Partly here."),
    CodeRow(STAT_QUEUED, "Taken, not yet delivered."),
    CodeRow(STAT_DELIVERED, "Delivered."),
    CodeRow(STAT_FAILED, "Failed after it was taken."),
)
ROWS: Final[dict[str, CodeRow]] = {row.code: row for row in TABLE}


def text_of(code: str) -> str:
    """The table's sentence for a code; "" for a code of another branch."""
    row = ROWS.get(code)
    return row.text if row else ""


def status_of(result: Result) -> str:
    """The enhanced status code of a result: its own ``(STATUS=x.y.z)``, or the table's, or the class's."""
    for extension in result.extensions:
        if extension.name == "STATUS" and extension.values:
            return extension.values[0]
    row = ROWS.get(result.code)
    if row and row.status:
        return row.status
    return "2.0.0" if result.is_ok else "4.0.0" if result.is_transient else "5.0.0"


def ok(code: str, *extensions: Extension, text: str = "") -> Result:
    return Result(Word.OK, code, text, extensions)


def err(code: str, *extensions: Extension, text: str = "") -> Result:
    return Result(Word.ERR, code, text, extensions)


def tmp(code: str, *extensions: Extension, text: str = "") -> Result:
    return Result(Word.TMP, code, text, extensions)
