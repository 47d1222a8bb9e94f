"""`[trust.lists]`, checked: what each list is asked about, and which answers count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from outrider.config.schema import Trust, TrustKind, TrustList
from outrider.model.address import AddressError, parse_domain
from outrider.trust.kinds import ROLES, VOUCHING
from outrider.trust.subjects import Subject

_ANSWERS = IPv4Network("127.0.0.0/8")
_ERRORS = IPv4Network("127.255.255.0/24")
_NOT_BY_DEFAULT = (IPv4Network("127.0.0.1"), IPv4Network("127.255.0.0/16"))
_MAX_ZONE = 150
"""Octets: an IPv6 address reversed (63) and a dot still fit before it (RFC 1035 section 2.3.4)."""

_PROVEN_ONLY = frozenset({"vbr", "vouch-broker"})


class TrustError(ValueError):
    """A list that cannot be used; the text begins with its key."""


@dataclass(frozen=True, slots=True)
class NamedList:
    """One list."""

    name: str
    """Ours for it."""
    kind: TrustKind
    source: str
    """A path, a zone in lower-case A-labels, or the name of a broker's entry point."""
    weight: int
    codes: tuple[IPv4Network, ...]
    """Answers that count; () = the default."""
    types: frozenset[str]
    """vbr: types of mail that count beside `all`."""
    timeout_s: float
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    """What a broker is called with."""

    @property
    def vouches(self) -> bool:
        """Whether a hit speaks for the subject."""
        return self.kind in VOUCHING

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and not in DNS."""
        return self.kind in ("block-file", "vouch-file") or (self.kind == "issuer" and "/" in self.source)

    @property
    def is_broker(self) -> bool:
        """Whether it is a plug-in."""
        return self.kind.endswith("-broker")

    def asks_about(self, subject: Subject) -> bool:
        """Whether the list knows such subjects.

        What is vouched for must be authenticated first (RFC 5518 section 1): a name that is merely claimed is
        not asked about.
        """
        return subject.role in ROLES[self.kind] and (subject.is_proven or self.kind not in _PROVEN_ONLY)

    def counts(self, answer: IPv4Address) -> bool:
        """Whether an A record says "listed" (RFC 5782 section 2.3)."""
        if answer not in _ANSWERS:
            return False  # a parked zone, or a resolver that answers with an advertisement
        if self.codes:
            return any(answer in network for network in self.codes)
        return not any(answer in network for network in _NOT_BY_DEFAULT)

    def is_refusal(self, answer: IPv4Address) -> bool:
        """Whether an A record says that the list does not answer *us*: too many queries, or an open resolver.

        127.255.255.0/24 is what lists use for it; some say 127.0.0.1. Nothing is learnt of the subject.
        """
        if any(answer in network for network in self.codes):
            return False
        return answer in _ERRORS or answer == IPv4Address("127.0.0.1")


def compile_lists(trust: Trust) -> tuple[NamedList, ...]:
    """All lists of the configuration. Raises TrustError naming the key."""
    return tuple(_compiled(name, one) for name, one in trust.lists.items())


def _compiled(name: str, one: TrustList) -> NamedList:
    key = f"trust.lists.{name}"
    if (
        not name
        or len(name) > 40
        or not name.replace("-", "").replace("_", "").isalnum()
        or not name.isascii()
    ):
        raise TrustError(f"trust.lists: {name!r}: a list's name has 1 to 40 letters, digits, hyphens")
    is_file = one.kind.endswith("-file") or (one.kind == "issuer" and "/" in one.source)
    is_broker = one.kind.endswith("-broker")
    if not one.source:
        what = "path of a file" if is_file else "name of a broker" if is_broker else "zone in DNS"
        raise TrustError(f"{key}.source: is empty; give the {what}")
    if one.options and not is_broker:
        raise TrustError(f"{key}.options: are for brokers; remove them")
    if is_broker and one.codes:
        raise TrustError(f"{key}.codes: are for lists in DNS; a broker has options")
    if is_file and one.codes:
        raise TrustError(f"{key}.codes: a file gives no answers to choose from; remove it")
    source = one.source if is_file or is_broker else _zone(f"{key}.source", one.source)
    types = frozenset(_types(f"{key}.codes", one.codes)) if one.kind == "vbr" else frozenset()
    codes = () if one.kind == "vbr" else tuple(_codes(f"{key}.codes", one.codes))
    return NamedList(name, one.kind, source, one.weight, codes, types, one.timeout, one.options)


def _zone(key: str, text: str) -> str:
    try:
        zone = parse_domain(text.removesuffix("."))
    except AddressError as error:
        raise TrustError(f"{key}: {text!r} is no zone: {error}") from error
    if zone.startswith("[") or "." not in zone or len(zone) > _MAX_ZONE:
        raise TrustError(f"{key}: {text!r} is no zone; write it like bl.example.org")
    return zone


def _codes(key: str, texts: tuple[str, ...]) -> Iterator[IPv4Network]:
    for text in texts:
        try:
            network = IPv4Network(text)
        except ValueError as error:
            raise TrustError(f"{key}: {error}; write it like 127.0.0.2 or 127.0.0.0/24") from error
        if not network.subnet_of(_ANSWERS):
            raise TrustError(f"{key}: {text}: lists answer within 127.0.0.0/8 (RFC 5782)")
        yield network


def _types(key: str, texts: tuple[str, ...]) -> Iterator[str]:
    for text in texts:
        if not text.isascii() or not text.isalnum():
            raise TrustError(f"{key}: {text!r} is no type of mail; write it like transaction or list")
        yield text.lower()
