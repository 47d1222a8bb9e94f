"""The reference classification service (AMDP-18): says what its operator's file says, signed, and takes
reports.

A report counts when a site that the service itself vouches for has signed it - otherwise anybody with ten
domains could take a competitor's class away - when it is about another than its reporter, and when the
enclosed envelope says what is reported. Enough of them withdraw the class until the operator has looked at it
(`outrider classification restore`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from outrider.holding.classification.forms import (
    CLASS_KIND,
    CLASS_PATH,
    MAX_REPORT,
    MOST_CLASSES,
    REPORT_KIND,
    REPORT_PATH,
    ClassAnswer,
    ClassReport,
    Taken,
)
from outrider.holding.classification.store import ClassificationStoreThread, KeptReport
from outrider.holding.pages.message_parts import PartFinder, UnreadableError
from outrider.holding.policies.host_documents import MOST_SKEW_S, HostCheck, HostKey, read_signed
from outrider.holding.subscriptions.api import is_json, json_failure, json_response
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.wishes import canonical_pattern
from outrider.holding.web import JSON, WebRequest, WebResponse
from outrider.identity.delegated_authorities import is_within, registered_domain
from outrider.message.header_fields import field_values
from outrider.model.address import AddressError, Domain, parse_domain
from outrider.protocols.amdp.mail_class import ClassError, matches_any, parse_class, parse_pattern
from outrider.tables.database import StoreUnavailable

SIGNED_ANSWERS = 1000
"""Kept, so that a question asked again costs no signature."""
MAX_FILE = 16_777_216
"""Octets of the operator's file."""

VouchedClasses = Mapping[Domain, tuple[str, ...]]
"""Patterns in canonical form, by domain."""


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the service works with; made anew by a reload."""

    vouched: VouchedClasses
    store: ClassificationStoreThread
    key: HostKey
    check: HostCheck
    observer: SubscriptionObserver
    clock: Callable[[], float]
    valid_s: float = 3600.0
    """How long an answer may be believed."""


class ReportError(ValueError):
    """A report that does not show what it says; the text may be shown."""


class ClassificationService:
    """See the module; a `WebService`."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._signed: OrderedDict[tuple[Domain, tuple[str, ...]], tuple[bytes, float]] = OrderedDict()

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return host == self._parts.key.host and path in (CLASS_PATH, REPORT_PATH)

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        try:
            if request.path == CLASS_PATH:
                return await self._classes(request)
            return await self._reported(request)
        except (ValueError, AddressError) as error:
            self._parts.observer.subscription_refused(str(request.client), "classification", str(error))
            return json_failure(400, str(error))
        except StoreUnavailable as error:
            self._parts.observer.subscriptions_failed("classification", error)
            return json_failure(503, "not now", {"Retry-After": "60"})

    # --- questions ------------------------------------------------------------------------------------------

    async def _classes(self, request: WebRequest) -> WebResponse:
        if request.method == "POST":
            return json_failure(405, "GET only", {"Allow": "GET, HEAD"})
        domain = parse_domain(request.query.get("domain", ""))
        classes = await self._vouched(domain)
        return WebResponse(200, self._document(domain, classes), JSON)

    async def _vouched(self, domain: Domain) -> tuple[str, ...]:
        listed = self._parts.vouched.get(domain, ())
        if not listed:
            return ()
        withdrawn = await self._parts.store.call(lambda store: store.withdrawn(domain))
        return tuple(one for one in listed if one not in withdrawn)

    def _document(self, domain: Domain, classes: tuple[str, ...]) -> bytes:
        now, key = self._parts.clock(), (domain, classes)
        known = self._signed.get(key)
        if known is not None and now < known[1]:
            self._signed.move_to_end(key)
            return known[0]
        answer = ClassAnswer(
            signer=self._parts.key.host,
            audience="",
            at=int(now),
            domain=str(domain),
            classes=classes,
            expires=int(now + self._parts.valid_s) + 1,
        )
        document = self._parts.key.sign(answer, CLASS_KIND)
        # Signed anew at half its time, so that nobody gets one that is as good as over.
        self._signed[key] = document, now + self._parts.valid_s / 2
        while len(self._signed) > SIGNED_ANSWERS:
            self._signed.popitem(last=False)
        return document

    # --- reports --------------------------------------------------------------------------------------------

    async def _reported(self, request: WebRequest) -> WebResponse:
        if request.method != "POST":
            return json_failure(405, "POST only", {"Allow": "POST"})
        if not is_json(request):
            return json_failure(415, "application/json only")
        parts, now = self._parts, self._parts.clock()
        one = read_signed(
            request.body,
            REPORT_KIND,
            ClassReport,
            parts.check,
            audience=parts.key.host,
            now=now,
            age_s=MOST_SKEW_S,
        )
        return json_response(await self.take(one, one.signer))

    async def take(self, one: ClassReport, by: str) -> msgspec.Struct:
        """Look at a report and keep it, if it counts. Raises ReportError, StoreUnavailable."""
        domain = parse_domain(one.domain)
        check_evidence(one.report, domain, one.mail_class)
        reporter = registered_domain(by)
        patterns = _patterns_of(self._parts.vouched.get(domain, ()), one.mail_class)
        counts = bool(patterns) and self._may_report(by) and reporter != registered_domain(domain)
        withdrawn = False
        if counts:
            for pattern in patterns:
                withdrawn |= await self._keep(one, str(domain), pattern, reporter)
        self._parts.observer.class_reported(
            str(domain), one.mail_class, by, counted=counts, withdrawn=withdrawn
        )
        return Taken(taken=counts)

    def _may_report(self, by: str) -> bool:
        return any(is_within(by, one) for one in self._parts.vouched)

    async def _keep(self, one: ClassReport, domain: str, pattern: str, reporter: str) -> bool:
        now = self._parts.clock()
        kept = KeptReport(domain, pattern, reporter, one.mail_class, now, one.report)
        return await self._parts.store.call(lambda store: store.report(kept, now))


def _patterns_of(listed: tuple[str, ...], mail_class: str) -> list[str]:
    try:
        asked = parse_class(mail_class)
    except ClassError as error:
        raise ReportError(f"the class is malformed: {error}") from error
    return [one for one in listed if matches_any([parse_pattern(one)], asked)]


def check_evidence(report: bytes, domain: Domain, mail_class: str) -> None:
    """Whether a report of abuse (RFC 5965) shows that this domain's mail said to be of that class: its
    feedback names the domain, and the enclosed envelope is from there and bears the class. Raises
    ReportError."""
    if len(report) > MAX_REPORT:
        raise ReportError("the report is too large")
    feedback, headers = _parts_of(report)
    if _one(feedback, b"reported-domain").lower() != domain:
        raise ReportError("the report is about another domain")
    sender = _either(headers, b"from").strip("<> ")
    if sender.rpartition("@")[2].lower() != domain:
        raise ReportError("the enclosed envelope is not from that domain")
    if _either(headers, b"mail-class").strip().casefold() != mail_class.strip().casefold():
        raise ReportError("the enclosed envelope bears another class")


def _parts_of(report: bytes) -> tuple[bytes, bytes]:
    """The feedback and the header section of what is reported."""
    found: dict[str, bytes] = {}
    finder = PartFinder()
    try:
        finder.feed(report)
        for part in finder.finish():
            found.setdefault(part.headers.media_type, report[part.start : part.end])
    except UnreadableError as error:
        raise ReportError("the report cannot be read") from error
    headers = found.get("text/rfc822-headers") or found.get("message/rfc822")
    if "message/feedback-report" not in found or not headers:
        raise ReportError("this is no report of abuse (RFC 5965)")
    return found["message/feedback-report"], headers


def _either(headers: bytes, name: bytes) -> str:
    """A field as the sender wrote it, or as a gateway has renamed it (AMDP-10)."""
    return _one(headers, b"amdp-" + name) or _one(headers, b"amdp-verified-" + name)


def _one(section: bytes, name: bytes) -> str:
    values = field_values(section, name, 2)
    return values[0].decode("utf-8", "replace").strip() if len(values) == 1 else ""


def read_vouched(path: Path) -> VouchedClasses:
    """The operator's file: lines ``DOMAIN CLASS-PATTERN [CLASS-PATTERN ...]``, ``#`` begins a comment.

    Raises ValueError with the line that is wrong, OSError.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path}: larger than {MAX_FILE} octets")
    found: dict[Domain, tuple[str, ...]] = {}
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            domain, patterns = parse_domain(words[0]), tuple(canonical_pattern(one) for one in words[1:])
        except (AddressError, ClassError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        if not patterns or len(patterns) > MOST_CLASSES:
            raise ValueError(f"{path} line {number}: one to {MOST_CLASSES} classes behind the domain")
        found[domain] = tuple(dict.fromkeys((*found.get(domain, ()), *patterns)))
    return found
