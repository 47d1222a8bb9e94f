"""An invitation: what a site says of itself to one that is to become its partner, signed by its host's key.

It carries everything that the other side needs for an entry under [partners]. Its signature proves only that
one hand has written all of it; that this hand is the bank's is shown by the certificate's path where a CA
that both know vouches for it, and otherwise by people who read the ten words to each other over the
telephone. `examine` says which of the claims are borne out by what, and what forbids to accept them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from cryptography import x509

from outrider.identity.authorities import CaStores
from outrider.identity.authority_sets import authorities_pem, authority_findings, parse_authorities
from outrider.identity.certificates import CertifiedNames, names_of
from outrider.identity.findings import Finding, Level, day
from outrider.identity.host_identity import HostRefusal, ServerIdentity, ServerQuestion, judge_server
from outrider.identity.signed_document import DocumentError, SignedDocument, read_document, sign_document
from outrider.model.address import AddressError, parse_domain
from outrider.model.mpc import Mpc, MpcError, parse_mpc

KIND = "mail-partner-invitation"
DAY_S = 86_400
LIFETIME_S = 30 * DAY_S
"""How long an invitation may wait for its answer."""
MAX_LIFETIME_S = 400 * DAY_S
CLOCK_SKEW_S = 3600
MAX_NAMES = 1000
MAX_CONTACT = 200

_NAME = re.compile(r"[a-z0-9](?:(?:[a-z0-9-]|\.(?!\.)){0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Invitation:
    """Terms that a site offers. All names are lower-case A-labels; sender domains may have a leading dot."""

    name: str
    """What the site calls itself; fit for a file's name."""
    hosts: tuple[str, ...]
    sender_domains: tuple[str, ...]
    authorities: tuple[x509.Certificate, ...] = field(repr=False)
    """Who may vouch for its hosts; () = any CA that the other side has configured."""
    codes: tuple[Mpc, ...]
    """The Mail Policy Codes that it sends."""
    amtp_port: int
    """0 = it does not take AMTP."""
    contact: str
    issued: int
    """Seconds since the epoch; also what orders a site's invitations."""
    expires: int
    mt2_port: int = 0
    """0 = it does not take MT2."""

    @property
    def authorities_pem(self) -> bytes:
        """The CA set, written anew: nothing but certificates."""
        return authorities_pem(self.authorities)


class _Payload(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    version: Literal[1]
    name: str
    hosts: tuple[str, ...]
    sender_domains: tuple[str, ...]
    ca: tuple[str, ...]
    mpc: tuple[str, ...]
    amtp_port: int
    contact: str
    issued: int
    expires: int
    mt2_port: int = 0


_PAYLOAD = msgspec.json.Decoder(_Payload)


@dataclass(frozen=True, slots=True)
class Received:
    """An invitation whose signature is good, with its document."""

    invitation: Invitation
    document: SignedDocument


def write_invitation(invitation: Invitation, certificate_pem: bytes, key_pem: bytes) -> bytes:
    """The signed file. Raises DocumentError for terms that nobody would accept, or files that do not fit."""
    payload = {
        "version": 1,
        "name": invitation.name,
        "hosts": invitation.hosts,
        "sender_domains": invitation.sender_domains,
        "ca": [authorities_pem([one]).decode() for one in invitation.authorities],
        "mpc": [str(code) for code in invitation.codes],
        "amtp_port": invitation.amtp_port,
        "contact": invitation.contact,
        "issued": invitation.issued,
        "expires": invitation.expires,
    }
    if invitation.mt2_port:
        payload["mt2_port"] = invitation.mt2_port
    octets = json.dumps(payload, ensure_ascii=False).encode()
    _parse(octets)  # what we would not read we do not write
    return sign_document(octets, KIND, certificate_pem, key_pem)


def read_invitation(octets: bytes) -> Received:
    """An invitation with a good signature and well-formed terms. Raises DocumentError."""
    document = read_document(octets, KIND)
    return Received(_parse(document.payload), document)


def is_partner_name(text: str) -> bool:
    """Whether the text can name a partner: it becomes the name of files, so no separator, no dot ahead."""
    return bool(_NAME.fullmatch(text))


def _parse(payload: bytes) -> Invitation:
    try:
        raw = _PAYLOAD.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("the invitation has unknown or missing parts") from error
    if not is_partner_name(raw.name):
        raise DocumentError("the site's name in the invitation is not one of small letters, digits, - and .")
    if len(raw.contact) > MAX_CONTACT or not raw.contact.isprintable():
        raise DocumentError("the contact in the invitation is not one printable line")
    ports = (raw.amtp_port, raw.mt2_port)
    if not all(0 <= port <= 65535 for port in ports) or not 0 < raw.issued < raw.expires < 1 << 40:
        raise DocumentError("a number in the invitation is out of range")
    if not raw.hosts or not raw.sender_domains or len(raw.hosts) + len(raw.sender_domains) > MAX_NAMES:
        raise DocumentError("the invitation names no host, no sender domain, or too many")
    return Invitation(
        name=raw.name,
        hosts=tuple(dict.fromkeys(map(_domain, raw.hosts))),
        sender_domains=tuple(dict.fromkeys(map(_sender_domain, raw.sender_domains))),
        authorities=parse_authorities(raw.ca),
        codes=tuple(dict.fromkeys(map(_code, raw.mpc))),
        amtp_port=raw.amtp_port,
        contact=raw.contact,
        issued=raw.issued,
        expires=raw.expires,
        mt2_port=raw.mt2_port,
    )


def _sender_domain(text: str) -> str:
    return f".{_domain(text[1:])}" if text.startswith(".") else _domain(text)


def _domain(text: str) -> str:
    try:
        name = parse_domain(text)
    except AddressError as error:
        raise DocumentError("a name in the invitation is no domain") from error
    if name.startswith("["):
        raise DocumentError("a name in the invitation is an address")
    if "." not in name:
        raise DocumentError("a name in the invitation is a top-level domain, or not a full name")
    return name


def _code(text: str) -> Mpc:
    try:
        return parse_mpc(text)
    except MpcError as error:
        raise DocumentError("a Mail Policy Code in the invitation is none") from error


# -- may it be accepted? ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OurSide:
    """What the accepting site knows."""

    host_names: frozenset[str]
    own_domains: frozenset[str]
    taken_domains: Mapping[str, str]
    """Sender domains of its other partners, as written in their entries, to the partner's name."""
    stores: CaStores
    """Its configured CA sets."""


def examine(received: Received, ours: OurSide, known: Received | None, now: float) -> tuple[Finding, ...]:
    """All that is to be said before accepting; `known` is the partner's invitation accepted last.

    It may be accepted if no finding refuses; what is to be asked, people must answer. Never raises.
    """
    return (
        *_signer(received, ours, now),
        *_dates(received.invitation, now),
        *_names(received, ours),
        *_authorities(received.invitation, now),
        *_sequence(received, known),
    )


def _signer(received: Received, ours: OurSide, now: float) -> Iterator[Finding]:
    named = certified_hosts(received)
    if not named:
        yield Finding(Level.REFUSE, "signature", "the signer's certificate is for none of the hosts named")
        return
    own = vouched(received.document.chain, named[0], ours.stores, now)
    if isinstance(own, ServerIdentity):
        yield Finding(Level.OK, "signature", f"by {named[0]}, for which a CA of ours vouches ({own.ca_set})")
        return
    offered = received.invitation.authorities
    if not offered:
        yield Finding(Level.REFUSE, "signature", f"by {named[0]}, but: {own.reason}; a CA set is not offered")
        return
    by_offered = vouched(received.document.chain, named[0], CaStores.of((), offered), now)
    if isinstance(by_offered, ServerIdentity):
        text = f"by {named[0]}, for which only the offered CA set vouches: compare the words"
        yield Finding(Level.ASK, "signature", text)
    else:
        text = f"by {named[0]}, but under the offered CA set: {by_offered.reason}"
        yield Finding(Level.REFUSE, "signature", text)


def vouched(chain: Sequence[bytes], host: str, stores: CaStores, now: float) -> ServerIdentity | HostRefusal:
    """Whether these CAs vouch for the holder of the chain (DER, leaf first) as `host`. Never raises."""
    question = ServerQuestion("", host, partner_hosts=frozenset({host}))
    return judge_server(chain, question, stores, now)[0]


def certified_hosts(received: Received) -> tuple[str, ...]:
    """Those of the hosts that the signer's certificate names; whether to believe it is another question."""
    names = names_of(x509.load_der_x509_certificate(received.document.chain[0]))
    listed = names.hosts if isinstance(names, CertifiedNames) else ()
    return tuple(host for host in received.invitation.hosts if host in listed)


def _dates(invitation: Invitation, now: float) -> Iterator[Finding]:
    if invitation.issued > now + CLOCK_SKEW_S:
        yield Finding(Level.REFUSE, "dates", f"issued in the future ({day(invitation.issued)})")
    elif invitation.expires <= now:
        text = f"expired on {day(invitation.expires)}; ask for a new one"
        yield Finding(Level.REFUSE, "dates", text)
    elif invitation.expires - invitation.issued > MAX_LIFETIME_S:
        yield Finding(Level.REFUSE, "dates", "valid for longer than a year")
    else:
        dates = f"issued {day(invitation.issued)}, to be accepted until {day(invitation.expires)}"
        yield Finding(Level.OK, "dates", dates)


def _names(received: Received, ours: OurSide) -> Iterator[Finding]:
    invitation = received.invitation
    certified = certified_hosts(received)
    for host in invitation.hosts:
        if host in ours.host_names:
            yield Finding(Level.REFUSE, "hosts", f"{host} is our own name")
        elif host in certified:
            yield Finding(Level.OK, "hosts", f"{host} stands in the signer's certificate")
        elif invitation.authorities:
            text = f"{host} is only claimed, and the offered CA set could vouch for it: is it theirs?"
            yield Finding(Level.ASK, "hosts", text)
        else:
            yield Finding(Level.OK, "hosts", f"{host} must prove itself when it connects")
    for domain in invitation.sender_domains:
        yield _sender_finding(domain, certified, ours)


def _sender_finding(domain: str, certified: Sequence[str], ours: OurSide) -> Finding:
    own = next((one for one in sorted(ours.own_domains) if _overlap(domain, one)), "")
    if own:
        return Finding(Level.REFUSE, "sender domains", f"{domain} is our own, or has our {own} in it")
    other = next((one for one in sorted(ours.taken_domains) if _overlap(domain, one)), "")
    if other:
        text = f"{domain} is with partner {ours.taken_domains[other]} (as {other})"
        return Finding(Level.REFUSE, "sender domains", text)
    bare = domain.removeprefix(".")
    if any(host == bare or host.endswith(f".{bare}") for host in certified):
        return Finding(Level.OK, "sender domains", f"{domain} is the domain of a host in the certificate")
    return Finding(Level.ASK, "sender domains", f"{domain} is only claimed: is it theirs?")


def _overlap(one: str, other: str) -> bool:
    """Whether two entries cover a domain in common; a leading dot takes in all below."""
    return _covers(one, other.removeprefix(".")) or _covers(other, one.removeprefix("."))


def _covers(entry: str, name: str) -> bool:
    bare = entry.removeprefix(".")
    return name == bare or (entry.startswith(".") and name.endswith(entry))


def _authorities(invitation: Invitation, now: float) -> Iterator[Finding]:
    if not invitation.authorities:
        yield Finding(Level.OK, "CA set", "none of its own: any CA configured here may vouch for its hosts")
    yield from authority_findings(invitation.authorities, now, ", for its hosts alone")


def _sequence(received: Received, known: Received | None) -> Iterator[Finding]:
    if known is None:
        yield Finding(Level.OK, "sequence", "the first invitation of this partner")
    elif known.document.digest == received.document.digest:
        yield Finding(Level.OK, "sequence", "accepted before; accepting it again changes nothing")
    elif received.invitation.issued <= known.invitation.issued:
        text = f"older than the one accepted last, of {day(known.invitation.issued)}"
        yield Finding(Level.REFUSE, "sequence", text)
    elif known.document.key_fingerprint != received.document.key_fingerprint:
        text = "signed by another key than the one accepted last: compare the words"
        yield Finding(Level.ASK, "sequence", text)
    else:
        yield Finding(Level.OK, "sequence", "signed by the same key as the one accepted last")
