"""Is everything of an MT2 message as its sender and its hosts have sealed it? Pure (MT2-23a to MT2-23c).

`verify_trace` looks at envelope and seals, and at the digests of headers and body where they are at hand, and
lists what is wrong, each fault with its place: ``envelope sender``, ``headers``, ``body``, ``seal 3``, ...
No fault means: every octet is what proven holders of certificates have sealed, nothing was taken away, and
the last seal is of the very peer that the message came from.

It is done in two steps, as they cost different things. `open_trace` reads and computes: forms, signatures,
digests, the chain of hand-overs; 65 microseconds of a processor for each seal of P-256, most of them outside
the interpreter's lock. What it cannot know is whom the certificates stand for: those are its questions, which
somebody answers who has authorities at hand, or asks for them (`identity.seal_paths`). `judge_trace` puts
both together.

Where one change has several consequences, the place is named at which it was made: an entry that follows a
damaged one is not blamed for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Protocol

from outrider.identity.jws import CompactJws, JwsError, SignatureError, encode, thumbprint_of
from outrider.identity.seals import (
    MAX_SEALS,
    SEAL_TYP,
    AnySeal,
    Core,
    Entry,
    described,
    read_seal,
    seal_digest,
)
from outrider.message.objects.envelope import LayeredEnvelope, read_envelope, write_envelope
from outrider.message.objects.errors import ObjectError

MAX_SKEW_S = 300
"""Clocks may differ by that; more is a fault."""
TRACE, ENVELOPE = "trace", "envelope"


@dataclass(frozen=True, slots=True)
class ObjectDigest:
    """Digest and length of an object."""

    sha256: bytes
    """32 octets."""
    length: int


class ObjectCounter:
    """Digest and length of an object that streams by."""

    def __init__(self, octets: bytes = b"") -> None:
        self._hash = hashlib.sha256(octets)
        self._length = len(octets)

    def add(self, octets: bytes) -> None:
        """More of it."""
        self._hash.update(octets)
        self._length += len(octets)

    def digest(self) -> ObjectDigest:
        """Of all that was added."""
        return ObjectDigest(self._hash.digest(), self._length)


@dataclass(frozen=True, slots=True)
class SealedMessage:
    """A message as it is at hand."""

    envelope: bytes = field(repr=False)
    """The XML, as it came."""
    parsed: LayeredEnvelope | None = field(default=None, repr=False)
    """The same, for a caller that has read it already."""
    headers: ObjectDigest | None = None
    """None: not at hand (yet); then nothing is said about it."""
    body: ObjectDigest | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the verifier knows beside the message."""

    now: float
    """Seconds since the epoch: no seal can be later."""
    received: float | None = None
    """When the last sealer handed it to the receiver; None: not known, and the last seal's certificate is
    judged at the seal's own time alone."""
    peer: tuple[str, ...] | None = None
    """The proven names of the peer that it came from, lower case; () for none proven; None: not known here,
    so that a cut tail cannot be told."""
    receiver: tuple[str, ...] | None = None
    """The names of the host that has received it, lower case; None: not checked."""


class Problem(Enum):
    """What can be wrong."""

    MALFORMED = "malformed"
    UNSEALED = "unsealed"
    """There, but nobody has sealed it."""
    SIGNATURE = "signature"
    """The seal was changed, or is not by the key that it names."""
    CERTIFICATE = "certificate"
    """The sealer's certificate is missing, or does not prove his name at that time."""
    CHANGED = "changed"
    """Sealed, and now otherwise."""
    MISSING = "missing"
    MOVED = "moved"
    DUPLICATED = "duplicated"
    FOREIGN = "foreign"
    """Of another message."""
    GAP = "gap"
    """Handed to one host, passed on by another."""
    CUT = "cut"
    """Seals were taken away at the end."""
    TIME = "time"
    TOO_MANY = "too-many"


@dataclass(frozen=True, slots=True)
class TraceFinding:
    """One thing that is wrong, and where."""

    place: str
    """``envelope``, ``envelope sender`` (and so on for each part of it), ``headers``, ``body``, ``seal 0``
    (the core), ``seal 1``, ..., ``certificate 2`` (the third in the envelope), ``trace``."""
    problem: Problem
    text: str
    """One sentence for people; printable."""


@dataclass(frozen=True, slots=True)
class TraceHop:
    """One seal, for people: who, when, how secured, what was verified. Only from verified payloads."""

    number: int
    seal: AnySeal
    how: str
    """What proves the sealer's name: ``private CA``; "" when nothing does."""


@dataclass(frozen=True, slots=True)
class TraceReport:
    """What became of a message on its way."""

    findings: tuple[TraceFinding, ...]
    hops: tuple[TraceHop, ...]
    """The seals with a good signature, in the order of the envelope; the core is number 0."""
    unchecked: tuple[str, ...] = ()
    """What could not be looked at: ``headers``, ``body``, ``peer``, ``receiver``."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def core(self) -> Core | None:
        """The sender's seal, if it is there and its signature is good."""
        first = self.hops[0].seal if self.hops else None
        return first if isinstance(first, Core) else None


# -- whom a certificate stands for -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealerQuestion:
    """Does this chain prove that name, during that time?"""

    chain: tuple[bytes, ...] = field(repr=False)
    """DER, leaf first."""
    name: str
    """A host name, or a mailbox where there is an ``@`` in it."""
    at: float
    """The seal's time, seconds since the epoch: the certificate must be valid then ..."""
    until: float
    """... and still when the next host had the message. Who has found an old key cannot seal with it into the
    past: the next honest hop says when it really was."""


@dataclass(frozen=True, slots=True)
class ProvenSealer:
    """It does."""

    names: tuple[str, ...]
    """All names that are proven with it, lower-case hosts or mailboxes."""
    how: str
    """``private CA``, ``public CA``, ``delegated CA of ...``."""


@dataclass(frozen=True, slots=True)
class UnprovenSealer:
    """It does not."""

    reason: str
    """For the operator, printable."""


SealerAnswer = ProvenSealer | UnprovenSealer


class SealPaths(Protocol):
    """Decides whom a sealer's certificate stands for (MT2-24)."""

    def sealer(self, question: SealerQuestion) -> SealerAnswer:
        """The answer. Never raises, never waits."""
        ...


# -- verifying -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenedSeal:
    """A seal whose signature is good."""

    number: int
    seal: AnySeal
    question: SealerQuestion | None
    """None where its chain is not whole."""


@dataclass(frozen=True, slots=True)
class OpenedTrace:
    """All that can be said of a message without authorities."""

    findings: tuple[TraceFinding, ...]
    seals: tuple[OpenedSeal, ...] = ()
    count: int = 0
    """Of all seals in the envelope."""
    links: frozenset[int] = frozenset()
    """The seals that are in their place: a core at the beginning, entries made over the seal before them."""
    unchecked: tuple[str, ...] = ()

    @property
    def questions(self) -> tuple[SealerQuestion, ...]:
        """What is to be answered for `judge_trace`."""
        return tuple(one.question for one in self.seals if one.question is not None)


def verify_trace(message: SealedMessage, paths: SealPaths, circumstances: Circumstances) -> TraceReport:
    """Look at everything that is at hand. Never raises; costs one signature verification for each seal."""
    opened = open_trace(message, circumstances)
    return judge_trace(opened, {one: paths.sealer(one) for one in opened.questions}, circumstances)


def verify_many(
    messages: Iterable[tuple[SealedMessage, Circumstances]], paths: SealPaths
) -> list[TraceReport]:
    """`verify_trace` for many: pure, so that a thread may run it off the latency path (MT2-23b)."""
    return [verify_trace(message, paths, circumstances) for message, circumstances in messages]


def open_many(messages: Iterable[tuple[SealedMessage, Circumstances]]) -> list[OpenedTrace]:
    """`open_trace` for many, for a thread: what costs time, and asks nobody."""
    return [open_trace(message, circumstances) for message, circumstances in messages]


def open_trace(message: SealedMessage, circumstances: Circumstances) -> OpenedTrace:
    """All that can be said without authorities. Never raises."""
    try:
        envelope = message.parsed or read_envelope(message.envelope)
    except ObjectError as error:
        return OpenedTrace((TraceFinding(ENVELOPE, Problem.MALFORMED, str(error)),))
    if not envelope.seals:
        return OpenedTrace((TraceFinding(TRACE, Problem.UNSEALED, "the message has no seals"),))
    if len(envelope.seals) > MAX_SEALS:
        return OpenedTrace((TraceFinding(TRACE, Problem.TOO_MANY, f"more than {MAX_SEALS - 1} hops"),))
    return _Opening(message, envelope, circumstances).run()


def judge_trace(
    opened: OpenedTrace, answers: Mapping[SealerQuestion, SealerAnswer], circumstances: Circumstances
) -> TraceReport:
    """The report: what was found before, and what follows from whom the certificates stand for."""
    found = [one for one in opened.seals if isinstance(_answer(one, answers), ProvenSealer)]
    proven = {one.number: answers[one.question] for one in found if one.question is not None}
    names = {number: answer.names for number, answer in proven.items() if isinstance(answer, ProvenSealer)}
    hops = [TraceHop(one.number, one.seal, _how(_answer(one, answers))) for one in opened.seals]
    findings = [*opened.findings]
    findings += _certificate_findings(opened, answers)
    findings += _gaps(opened, names)
    findings += _ends(opened, names, circumstances)
    return TraceReport(tuple(findings), tuple(hops), _unchecked(opened, circumstances))


def _answer(one: OpenedSeal, answers: Mapping[SealerQuestion, SealerAnswer]) -> SealerAnswer | None:
    return answers.get(one.question) if one.question is not None else None


def _how(answer: SealerAnswer | None) -> str:
    return answer.how if isinstance(answer, ProvenSealer) else ""


def _unchecked(opened: OpenedTrace, circumstances: Circumstances) -> tuple[str, ...]:
    ends = {"peer": circumstances.peer, "receiver": circumstances.receiver}
    return (*opened.unchecked, *(name for name, value in ends.items() if value is None))


def _place(number: int) -> str:
    return f"seal {number}"


# -- step one --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Opening:
    """The work on one message; `found` fills up."""

    message: SealedMessage
    envelope: LayeredEnvelope
    circumstances: Circumstances
    found: list[TraceFinding] = field(default_factory=list)
    seals: dict[int, AnySeal] = field(default_factory=dict)
    """Those with a good signature, by their place."""
    links: set[int] = field(default_factory=set)

    def run(self) -> OpenedTrace:
        self._look_at_form()
        there = [thumbprint_of(der) for der in self.envelope.certificates]
        chains = dict(zip(there, self.envelope.certificates, strict=True))
        for number, text in enumerate(self.envelope.seals):
            seal = self._opened(number, text, chains)
            if seal is not None:
                self.seals[number] = seal
        self._look_at_order()
        self._look_at_times()
        self._look_at_certificates(there)
        core = self.seals.get(0)
        unchecked = self._look_at_message(core) if isinstance(core, Core) else ("headers", "body")
        seals = [OpenedSeal(n, one, self._question(n, one, chains)) for n, one in self.seals.items()]
        count = len(self.envelope.seals)
        return OpenedTrace(tuple(self.found), tuple(seals), count, frozenset(self.links), unchecked)

    def _add(self, place: str, problem: Problem, text: str) -> None:
        self.found.append(TraceFinding(place, problem, text))

    def _look_at_form(self) -> None:
        """Seals cover what an envelope means; that its octets mean nothing else, the one form shows."""
        octets = self.message.envelope
        try:
            form = write_envelope(self.envelope)
        except ObjectError as error:
            self._add(ENVELOPE, Problem.MALFORMED, str(error))
            return
        if octets != form:
            place = next((n for n, (a, b) in enumerate(zip(octets, form, strict=False)) if a != b), len(form))
            text = f"the XML is not in its one form: octet {place} is covered by no seal"
            self._add(ENVELOPE, Problem.UNSEALED, text)

    def _opened(self, number: int, text: str, chains: Mapping[str, bytes]) -> AnySeal | None:
        """The verified payload; None after a finding."""
        try:
            jws = CompactJws.read(text, SEAL_TYP)
            certificate = chains.get(jws.thumbprint)
            if certificate is None:
                reason = "the certificate that it names is not in the envelope"
                self._add(_place(number), Problem.CERTIFICATE, reason)
                return None
            seal = read_seal(jws.verified(certificate))
        except JwsError as error:
            kind = Problem.SIGNATURE if isinstance(error, SignatureError) else Problem.MALFORMED
            self._add(_place(number), kind, str(error))
            return None
        if seal.certificates[0] != jws.thumbprint:
            self._add(_place(number), Problem.MALFORMED, "it states another certificate than it is signed by")
            return None
        return seal

    def _look_at_order(self) -> None:
        """Each entry names the seal before it; and all name the same message."""
        texts = self.envelope.seals
        digests = [seal_digest(text) for text in texts]
        for number, seal in self.seals.items():
            fault = _order_fault(number, seal, texts, digests, self.seals)
            if fault is not None:
                self._add(_place(number), *fault)
            elif isinstance(seal, Core) or seal.previous == digests[number - 1]:
                self.links.add(number)

    def _look_at_times(self) -> None:
        latest = self.circumstances.now + MAX_SKEW_S
        for number, seal in self.seals.items():
            if seal.time > latest:
                self._add(_place(number), Problem.TIME, "it was made in the future")
            if seal.received > seal.time + MAX_SKEW_S:
                self._add(_place(number), Problem.TIME, "the message was passed on before it was received")
            before = self.seals.get(number - 1) if number in self.links else None
            if before is not None and seal.received + MAX_SKEW_S < before.time:
                text = f"the message was received before seal {number - 1} was made"
                self._add(_place(number), Problem.TIME, text)

    def _look_at_certificates(self, there: Sequence[str]) -> None:
        """All that are there, once each, in the order in which seals name them."""
        used = list(dict.fromkeys(one for seal in self.seals.values() for one in seal.certificates))
        for number, one in enumerate(there):
            if one in there[:number]:
                self._add(f"certificate {number}", Problem.DUPLICATED, "it stands there twice")
            elif one not in used and len(self.seals) == len(self.envelope.seals):
                self._add(f"certificate {number}", Problem.UNSEALED, "no seal names it")
        expected = [one for one in used if one in there]
        actual = [one for one in dict.fromkeys(there) if one in used]
        if actual != expected:
            number = next(n for n, (a, b) in enumerate(zip(actual, expected, strict=True)) if a != b)
            self._add(f"certificate {number}", Problem.MOVED, "it is not in its place")

    def _look_at_message(self, core: Core) -> tuple[str, ...]:
        """Envelope, headers and body against the core; what was not at hand."""
        here = described(self.envelope)
        after = self._recipients_after(core)
        if after is not None and here["recipients"] != after:
            self._add("envelope recipients", Problem.CHANGED, "they are not those that the seals leave")
        if core.id != self.envelope.id:
            self._add("envelope id", Problem.CHANGED, "it is not the one that the sender sealed")
        for part in here.keys() - {"recipients"}:
            if here[part] != getattr(core, part):
                text = "not as the sender sealed it"
                self._add(f"envelope {part.replace('_', ' ')}", Problem.CHANGED, text)
        at_hand = {"headers": self.message.headers, "body": self.message.body}
        return tuple(part for part, digest in at_hand.items() if not self._look_at(part, digest, core))

    def _recipients_after(self, core: Core) -> object:
        """As the last hop hands them on; None if an entry cannot be read."""
        recipients = core.recipients
        for number in range(1, len(self.envelope.seals)):
            entry = self.seals.get(number)
            if not isinstance(entry, Entry):
                return None
            recipients = entry.recipients_after(recipients)
        return recipients

    def _look_at(self, part: str, digest: ObjectDigest | None, core: Core) -> bool:
        """Whether there was something to be looked at."""
        sealed = next((one for one in core.objects if one.part == part), None)
        if digest is None:
            return sealed is None
        if sealed is None:
            self._add(part, Problem.UNSEALED, "the sender has sealed no such object")
        elif digest.length != sealed.length:
            text = f"it has {digest.length} octets; the sender sealed {sealed.length}"
            self._add(part, Problem.CHANGED, text)
        elif encode(digest.sha256) != sealed.sha256:
            self._add(part, Problem.CHANGED, "its octets are not those that the sender sealed")
        return True

    def _question(self, number: int, seal: AnySeal, chains: Mapping[str, bytes]) -> SealerQuestion | None:
        missing = [one for one in seal.certificates if one not in chains]
        if missing:
            text = "a certificate of its chain is not in the envelope, or was changed"
            self._add(_place(number), Problem.CERTIFICATE, text)
            return None
        after = self.seals.get(number + 1)
        end = after.received if after is not None else None
        if number + 1 == len(self.envelope.seals):
            end = int(self.circumstances.received or 0)
        chain = tuple(chains[one] for one in seal.certificates)
        return SealerQuestion(chain, seal.by, seal.time, max(seal.time, end or 0))


def _order_fault(
    number: int, seal: AnySeal, texts: Sequence[str], digests: Sequence[str], seals: Mapping[int, AnySeal]
) -> tuple[Problem, str] | None:
    """What is wrong with the place at which a seal stands."""
    first, before = seals.get(0), seals.get(number - 1)
    if texts[number] in texts[:number]:
        return Problem.DUPLICATED, f"it is seal {texts.index(texts[number])} again"
    if isinstance(first, Core) and seal.id != first.id:
        return Problem.FOREIGN, "it belongs to another message"
    if isinstance(seal, Core):
        return None if number == 0 else (Problem.FOREIGN, "a second core: it belongs to another message")
    if number == 0:
        return Problem.MISSING, "the sender's core is missing: a hop's entry stands in its place"
    if seal.previous == digests[number - 1]:
        is_next = before is None or seal.hop == (before.hop if isinstance(before, Entry) else 0) + 1
        return None if is_next else (Problem.MALFORMED, f"it counts itself as hop {seal.hop}")
    if seal.previous in digests:
        after = digests.index(seal.previous)
        return Problem.MOVED, f"it was made after seal {after}, not after seal {number - 1}"
    if before is None and seal.hop == number:
        return None  # the one before was changed, and is named
    if seal.hop > number:
        return Problem.MISSING, f"the seal before it was removed (it was number {seal.hop})"
    return Problem.FOREIGN, "it was made over another seal than the one before it"


# -- step two --------------------------------------------------------------------------------------------


def _certificate_findings(
    opened: OpenedTrace, answers: Mapping[SealerQuestion, SealerAnswer]
) -> Iterator[TraceFinding]:
    for one in opened.seals:
        if one.question is None:
            continue
        answer = answers.get(one.question, UnprovenSealer("nobody has looked at its certificate"))
        if isinstance(answer, UnprovenSealer):
            text = f"it does not prove {one.seal.by}: {answer.reason}"
            yield TraceFinding(_place(one.number), Problem.CERTIFICATE, text)
        elif one.seal.by not in answer.names:
            text = f"its certificate is not for {one.seal.by}"
            yield TraceFinding(_place(one.number), Problem.CERTIFICATE, text)


def _gaps(opened: OpenedTrace, names: Mapping[int, Sequence[str]]) -> Iterator[TraceFinding]:
    """by(n+1) must be to(n), or another name that the same certificate proves."""
    for before, after in pairwise(opened.seals):
        if after.number not in opened.links or before.number != after.number - 1:
            continue
        if before.seal.to not in (after.seal.by, *names.get(after.number, ())):
            text = f"seal {before.number} handed the message to {before.seal.to}, not to {after.seal.by}"
            yield TraceFinding(_place(after.number), Problem.GAP, text)


def _ends(
    opened: OpenedTrace, names: Mapping[int, Sequence[str]], circumstances: Circumstances
) -> Iterator[TraceFinding]:
    """The receiver's peer must be by(last), and the receiver to(last)."""
    last = opened.seals[-1] if opened.seals else None
    if last is None or last.number != opened.count - 1 or last.number not in opened.links:
        return  # the last seal is named already
    own = (last.seal.by, *names.get(last.number, ()))
    peer, receiver = circumstances.peer, circumstances.receiver
    if peer is not None and not set(peer) & set(own):
        came = f"came from {' or '.join(peer)}" if peer else "came from a peer that proved no name"
        text = f"the last seal is of {last.seal.by}, but the message {came}: seals were cut from the tail"
        yield TraceFinding(TRACE, Problem.CUT, text)
    if receiver is not None and last.seal.to not in receiver:
        text = f"the last seal hands the message to {last.seal.to}, not to {' or '.join(receiver)}"
        yield TraceFinding(TRACE, Problem.GAP, text)
