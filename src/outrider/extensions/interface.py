"""What an MT2 extension is: the three kinds, what each is told and what it may answer (MT2-19).

- A **transfer** extension works between two hosts: an option of OPT, a verb, a part of an answer.
- A **delivery** extension stands in the envelope, in clear, and is processed for a domain by the last host,
  before the headers and the body are asked for. It may refuse the message or recipients, add facts that the
  policy reads, and cause control messages.
- A **recipient** extension stands in the headers object and is processed for one user, after the message is
  in the mailbox, and only as far as that user has consented. Its errors are silent unless the user asked for
  them.

An extension decides; it does no I/O. What it must remember it keeps in its `Memory`, which is handed to it;
what it wants sent it returns as `ExtensionMessage`. The desk (`extensions.desk`) stands between extensions
and the rest of the house: who may use what, which is enabled, who has consented, and that nothing an
extension raises or returns costs more than itself.

Writing one takes an afternoon: docs/protocols/mt2-extensions.md, examples/outrider-chess.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol, TypeVar

from outrider.extensions.postage_office import PostageOffice
from outrider.model.address import Address
from outrider.model.facts import Fact

GROUP = "outrider.mt2_extensions"
"""Entry-point group. Each entry point is called with no argument and gives an `Extension`."""

MAX_DATA = 65_536
"""Characters of one extension's data."""
MAX_TEXT = 200
"""Characters of a text in an answer, a report or a list for people."""


class ExtensionError(Exception):
    """The data mean nothing to the extension. The text is one plain line for whoever may be told."""


class ExtensionUnavailable(Exception):
    """What the extension has to remember cannot be read or kept now: the mail waits, nothing is lost."""


class Rights(Enum):
    """Who may use an enabled extension as long as nobody has been named by `outrider extension grant`."""

    EVERYBODY = "everybody"
    PROVEN = "proven"
    """Hosts and users whose identity is proven."""
    GRANTED = "granted"
    """Nobody."""


class Consent(Enum):
    """What a user has said about a recipient extension and a sender."""

    ASK = "ask"
    """Nothing yet: it waits in `outrider consent list`."""
    ALLOWED = "allow"
    DENIED = "deny"
    """Silently ignored."""


@dataclass(frozen=True, slots=True)
class Carried:
    """An extension as it stands in an envelope (MT2-2) or a headers object (MT2-3)."""

    oid: str
    data: str = ""
    critical: bool = False
    """Delivery extensions only: a last host that does not know it refuses the whole message."""
    recipient: Address | None = None
    """Recipient extensions only: for whom; None = for every recipient."""
    errors: bool = False
    """Recipient extensions only: the sender wants to hear of errors."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """An object that the envelope lists."""

    media_type: str
    """``message/headers``, ``message/body``."""
    sha256: str
    """Lower-case hexadecimal."""
    length: int


@dataclass(frozen=True, slots=True)
class EnvelopeFacts:
    """What is known of a message when its envelope has come and nothing else."""

    message_id: str
    """The envelope's transfer-independent id."""
    transfer: str
    """Names this transfer for ever: ``peer/transfer id``. The same again when it is repeated after a lost
    connection, so that whatever an extension uses up is used up once (MT2-18a)."""
    sender: Address | None
    """None for control messages and other mail that is never answered."""
    recipients: tuple[Address, ...]
    """As they stand in the envelope. For a delivery extension: those of our own domains only."""
    positions: tuple[int, ...] = field(default=(), kw_only=True)
    """Of those in the envelope's list, from 1, where it is under way."""
    now: float
    date: float = 0.0
    """When its sender made it; seconds since the epoch, 0 = not said."""
    expires: float = 0.0
    peer: str = ""
    """Proven name of the host that hands it over, "" for none."""
    identities: frozenset[str] = frozenset()
    """Every proven name: hosts in lower case, users' addresses as ``local@domain``; of the peer and of the
    seals."""
    objects: tuple[ObjectFacts, ...] = ()
    report: bool = False
    """It is a control message: it is never answered with another (MT2-2)."""
    sender_is_claimed: bool = False
    """The host that sealed the message first has taken the sender's word for who he is (MT2-28c)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an extension does not want a message, or a recipient."""

    code: str
    """A result code of the core (``99.0.5.n``) or of the extension's branch; class 4 = try again (MT2-8)."""
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a control message reports: the metadata of its envelope (MT2-2)."""

    about: str
    """The message id of the envelope reported on."""
    oid: str
    """The extension that reports."""
    code: str
    """A result code: class 2 for good news."""
    text: str
    recipient: Address
    """Whom it concerns; of a message as a whole, its first recipient."""
    action: str = "reported"
    """What became of it: a lower-case word."""


@dataclass(frozen=True, slots=True)
class ExtensionMessage:
    """A message that an extension wants sent. The house makes objects, seals and a plain letter of it: a
    receiver that has no MT2 reads `subject` and `text`."""

    to: Address
    sender: Address | None = None
    """The user who consented; None = our process: ``process@domain`` signs it, and the reverse path is
    null)."""
    report: Report | None = None
    """Set: it is a control message, an envelope and nothing else."""
    delivery: tuple[Carried, ...] = ()
    recipient: tuple[Carried, ...] = ()
    """For the headers object; none where `report` is set."""
    subject: str = ""
    text: str = ""
    with_body: bool = False
    """`text` is also the message's body object, and the message is put into the mailbox. Else it is an
    envelope and headers, which the receiver's desk works through and nobody reads."""


@dataclass(frozen=True, slots=True)
class ExtensionVerdict:
    """What a delivery extension says of a message."""

    refusal: Refusal | None = None
    """Of the message as a whole; None = it may pass."""
    recipients: Mapping[Address, Refusal] = field(default_factory=dict)
    """Of single recipients (MT2-16)."""
    facts: tuple[Fact, ...] = ()
    """For policy, explain and log. Names begin with ``mt2.``."""
    messages: tuple[ExtensionMessage, ...] = ()
    """Sent once the message is accepted; dropped when it is refused or is itself a report."""
    asks: Mapping[Address, str] = field(default_factory=dict)
    """Users to whom the sender's wish is put, with the line that says what it is; `consented` follows if one
    says yes."""
    text: str = ""
    """For the extension's part of the answer where it may pass."""


PASSED = ExtensionVerdict()
"""Nothing to say."""


T = TypeVar("T")


class Memory(Protocol):
    """What one extension remembers: durable, bounded, forgotten when its time is over; shared by all workers.

    Keys have at most 512 characters, values 65,536. All methods raise ExtensionUnavailable; an entry that
    would be one too many is such a failure too.
    """

    def get(self, key: str) -> Awaitable[str | None]:
        """The value, None for none or one whose time is over."""
        ...

    def put(self, key: str, value: str, expires: float) -> Awaitable[None]:
        """Set it; durable when it returns. `expires` in seconds since the epoch."""
        ...

    def add(self, key: str, value: str, expires: float) -> Awaitable[str]:
        """The value that is there, set to `value` where there was none: of several that ask at once one
        wins."""
        ...

    def replace(self, key: str, old: str, new: str, expires: float) -> Awaitable[bool]:
        """Set it if it is still `old`; False when it is not."""
        ...

    def drop(self, key: str) -> Awaitable[bool]:
        """Forget it; False when it was not there."""
        ...

    def find(self, prefix: str, limit: int = 100) -> Awaitable[list[tuple[str, str]]]:
        """Up to `limit` entries whose keys begin so, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What every extension is given when it is set up."""

    hostname: str
    domains: frozenset[str]
    """Domains whose mail ends here."""
    options: Mapping[str, object]
    """``[mt2.extensions.options.NAME]`` of the configuration."""
    memory: Memory
    new_token: Callable[[], str]
    """128 random bits as lower-case letters and digits."""
    in_thread: Callable[[Callable[[], str]], Awaitable[str]]
    """For work that takes more than a millisecond: runs it elsewhere while the server goes on."""
    postage: PostageOffice | None = None
    """[amdp.postage]; None where this site neither takes nor pays any."""


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A message of one of our users that is about to leave by MT2 for the first time."""

    message: str
    """Our queue id: the same again at each attempt."""
    sender: Address
    recipients: tuple[Address, ...]
    now: float
    fields: Callable[[str], tuple[str, ...]]
    """What the header fields of a name say, in order."""


class Extension(Protocol):
    """What all three kinds have in common. Keep your own state out of the object: workers are many."""

    name: ClassVar[str]
    """Lower-case letters, digits and hyphens; named in answers, commands and settings."""
    oid: ClassVar[str]
    """Its branch; never another's."""
    summary: ClassVar[str]
    """One line for `outrider extension list`."""
    rights: ClassVar[Rights]
    enabled_by_default: ClassVar[bool]
    """Only where it can do no harm: installing must not enable what nobody chose (MT2-20)."""

    def set_up(self, context: Context) -> None:
        """Called once at start and again at each reload. Raises ValueError that begins with the option's
        name for options that mean nothing."""
        ...


class DeliveryExtension(Extension, Protocol):
    """Processed for ``@domain`` when the envelope has reached the last host."""

    screens: ClassVar[bool]
    """Also wants to see envelopes that do not carry it (`screen`)."""

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """What it says of an envelope that carries it. Raises ExtensionError for data that mean nothing:
        refused where the extension is critical, else reported by a control message; ExtensionUnavailable:
        the mail waits. May be called again for the same `EnvelopeFacts.transfer`, and must then say the
        same."""
        ...

    async def screen(self, envelope: EnvelopeFacts) -> ExtensionVerdict:
        """What it says of any envelope, where `screens` is set."""
        ...

    async def delivered(
        self, envelope: EnvelopeFacts, data: str, recipient: Address
    ) -> tuple[ExtensionMessage, ...]:
        """The message is in that recipient's mailbox. What is returned is sent exactly once."""
        ...

    async def ended(self, envelope: EnvelopeFacts, data: str) -> None:
        """The transfer of an envelope that `check` has seen is over: the message is stored, or was refused or
        given up. Not called for one that may be resumed, nor after a crash."""
        ...

    async def consented(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """A user has said yes to what `ExtensionVerdict.asks` put before him."""
        ...

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """What a message of ours is to carry; the same again at each attempt."""
        ...


@dataclass(frozen=True, slots=True)
class RecipientRequest:
    """A recipient extension that somebody has sent to a user."""

    user: Address
    """Whose mailbox, under the name in the envelope."""
    sender: Address
    message_id: str
    data: str
    at: float
    """When it came."""
    proven: bool
    """The sender's address is proven (MT2-22): a seal by a certificate for it, or a host of its own
    domain."""
    consent: Consent = Consent.ASK
    """In `act`: ALLOWED = by a standing choice, ASK = the user has just said yes to this one."""


class RecipientExtension(Extension, Protocol):
    """Processed for one user, who enables it and consents to what it does."""

    async def needs_consent(self, request: RecipientRequest) -> bool:
        """False only where the user has asked for it himself, as for the answer to a question of his."""
        ...

    def describe(self, request: RecipientRequest) -> str:
        """One line that lets the user decide: what was asked, by whom. Raises ExtensionError for data that
        mean nothing. Pure."""
        ...

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """What the headers object of a message of ours is to carry; the same again at each attempt."""
        ...

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """Do it, as the user consented; what is returned is sent in the user's name. Repeatable: after a
        crash it is called again. Raises ExtensionError or ExtensionUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What a recipient extension says of a message before it enters the mailbox."""

    waits: str = ""
    """Why it waits: it stays in the queue, and is looked at again at its next attempt; "" = deliver."""
    messages: tuple[ExtensionMessage, ...] = ()


class GuardingExtension(RecipientExtension, Protocol):
    """A recipient extension that also looks at a user's other mail before it is delivered, as the user chose
    by enabling it."""

    async def guard(self, request: RecipientRequest, *, has_body: bool) -> GuardVerdict | None:
        """None: nothing to say. `request.data` is what the message carries of this extension, "" for
        nothing. A message that waits is asked about again, and what is to be sent then must not be sent
        twice."""
        ...


@dataclass(frozen=True, slots=True)
class HopFacts:
    """This host, and how a message came to it: what a transfer extension may tell."""

    by: str
    """Our name."""
    peer: str
    """The proven name of the host before us, "" for none."""
    protocol: str
    tls: str
    """``TLSv1.3 TLS_AES_256_GCM_SHA384``, "" in clear."""
    at: float
    message: str
    """Our queue id."""


@dataclass(frozen=True, slots=True)
class Part:
    """One ``(NAME OK|ERR|TMP code text)`` of an answer, or one ``(NAME text)`` where `word` is empty."""

    name: str
    text: str
    word: str = ""
    code: str = ""


class TransferExtension(Extension, Protocol):
    """Works hop by hop, with errors in band."""

    options: ClassVar[tuple[str, ...]]
    """Names of OPT that are its own, upper case."""
    verbs: ClassVar[tuple[str, ...]]
    """Verbs that are its own, upper case."""
    asks_peers: tuple[str, ...]
    """Those of its options that our own sessions are to ask peers for, set by `set_up`. So far the core asks
    for TRACE only."""

    def option(self, name: str, values: tuple[str, ...]) -> Part:
        """The answer to one option; the word OK switches it on (or off) for this session."""
        ...

    async def verb(self, verb: str, parameters: tuple[str, ...], peer: str) -> Part:
        """The answer to a request with a verb of its own."""
        ...

    def final_part(self, hop: HopFacts, chosen: Mapping[str, tuple[str, ...]]) -> Part | None:
        """Its part of the last acknowledgement of a message; `chosen` holds the options that the peer has
        set in this session."""
        ...

    async def passed(self, envelope: EnvelopeFacts, data: str, hop: HopFacts) -> tuple[ExtensionMessage, ...]:
        """An envelope that carries its OID has been accepted here, whether this is the last host or not."""
        ...
