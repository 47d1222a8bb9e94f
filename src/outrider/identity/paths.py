"""Certificate paths, validated by the `cryptography` library's verifier; never by hand.

Three questions can be asked of it, each against one set of authorities at a time:

- `host_path`: is this the host of that name, for the *server* purpose? The profile of public CAs.
- `client_path`: is this a certificate for the *client* purpose, whatever alternative names it has?
- `path_by_policy`: is there a path at all, for one of some purposes? With an `ExtensionPolicy` of its own for
  certificates that the first two have no eye for: named by common name only (private CAs), by an SRVName,
  or by a mailbox. The names are then the caller's to judge, and so is `Path.constrained`.

What the verifier says is put under a named check, its own words kept. It is asked for the verdict, we only
find the words: a certificate that it accepts is never refused here, nor the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from outrider.identity.certificates import MAX_CHAIN, moment
from outrider.identity.checks import Check, Fault

SERVER_PURPOSE = frozenset({ExtendedKeyUsageOID.SERVER_AUTH})
CLIENT_PURPOSE = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH})
HOST_PURPOSES = SERVER_PURPOSE | CLIENT_PURPOSE
_WRONG_PURPOSE = "required EKU not found"
_WORDS = 160
"""Of the verifier's message, up to where it quotes the certificate."""

Purposes = frozenset[x509.ObjectIdentifier]


@dataclass(frozen=True, slots=True)
class Path:
    """A validated path: leaf first, then those between, then an authority of ours."""

    certificates: tuple[x509.Certificate, ...]

    @property
    def authority(self) -> str:
        """The name of the authority at the end (RFC 4514)."""
        return self.certificates[-1].subject.rfc4514_string()

    @property
    def not_after(self) -> float:
        """When the first certificate of the path ends, seconds since the epoch."""
        return min(one.not_valid_after_utc for one in self.certificates).timestamp()

    @property
    def not_before(self) -> float:
        """When the last certificate of the path begins, seconds since the epoch."""
        return max(one.not_valid_before_utc for one in self.certificates).timestamp()

    @property
    def constrained(self) -> bool:
        """Whether an authority on the path may issue for some names only; also where that cannot be read."""
        try:
            return any(_has(one, x509.NameConstraints) for one in self.certificates[1:])
        except Exception:  # an extension that the verifier had no need to look at
            return True


def host_path(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    name: x509.DNSName | x509.IPAddress,
    store: Store,
    now: float,
) -> Path | Fault:
    """A path for the server purpose to the holder of `name` at `now` (seconds since the epoch)."""
    return _verified(
        lambda: _builder(store, now).build_server_verifier(name).verify(leaf, list(others)), leaf, others, now
    )


def client_path(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], store: Store, now: float
) -> Path | Fault:
    """A path for the client purpose; the certificate must have alternative names."""
    return _verified(
        lambda: _builder(store, now).build_client_verifier().verify(leaf, list(others)).chain,
        leaf,
        others,
        now,
    )


def path_by_policy(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    store: Store,
    now: float,
    purposes: Purposes,
    *,
    demanded: bool = False,
) -> Path | Fault:
    """A path for any of the purposes, with or without alternative names.

    `demanded`: the certificate must state its purpose; otherwise one that states none is good for all.
    """
    ca_policy, leaf_policy = _extension_policies(purposes, demanded)
    builder = _builder(store, now).extension_policies(ca_policy=ca_policy, ee_policy=leaf_policy)
    return _verified(
        lambda: builder.build_client_verifier().verify(leaf, list(others)).chain, leaf, others, now
    )


def _builder(store: Store, now: float) -> PolicyBuilder:
    return PolicyBuilder().store(store).time(moment(now)).max_chain_depth(MAX_CHAIN)


@cache
def _extension_policies(purposes: Purposes, demanded: bool) -> tuple[ExtensionPolicy, ExtensionPolicy]:
    """For authorities and for leaves: the web's profile, but for names and purposes, and for the authority
    key identifier, which the tools of small authorities leave out."""

    def of_authority(_policy: Policy, _one: x509.Certificate, found: x509.ExtendedKeyUsage | None) -> None:
        if found is not None and not purposes.union((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)) & set(
            found
        ):
            raise ValueError(_WRONG_PURPOSE)

    def of_leaf(_policy: Policy, _one: x509.Certificate, found: x509.ExtendedKeyUsage | None) -> None:
        if (found is None and demanded) or (found is not None and not purposes & set(found)):
            raise ValueError(_WRONG_PURPOSE)

    leaf = (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, of_leaf)
    )
    authority = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.NON_CRITICAL, of_authority
    )
    return authority, leaf


def _verified(
    verify: Callable[[], list[x509.Certificate]],
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    now: float,
) -> Path | Fault:
    try:
        return Path(tuple(verify()))
    except VerificationError as error:
        objection = str(error)
    except Exception:  # a name that cannot stand in a certificate, one of a kind that the library lacks
        return Fault(Check.MALFORMED, "a name, in the certificate or asked for, is malformed")
    try:
        runs_on = "path length constraint" in objection or "max depth" in objection
        if runs_on and any(map(_signed_itself, others)):
            # An unknown root that the peer sent along is tried as the issuer of itself.
            objection = "no interior errors"
        return _fault(objection, leaf, moment(now))
    except Exception:  # what the verifier had no need to look at can be hostile too
        return Fault(Check.MALFORMED, "a part of the certificate is malformed")


_BY_WORDS = (
    (_WRONG_PURPOSE, Check.PURPOSE, "the certificate, or one above it, is for another purpose"),
    ("matching subjectAltName", Check.NAME, "the certificate is for another name"),
    ("name constraint", Check.NAME_CONSTRAINTS, "a CA on the path may not issue for its names"),
    ("directoryName matching", Check.NAME_CONSTRAINTS, "a CA on the path may not issue for its names"),
    ("max depth", Check.CHAIN_TOO_LONG, "the path to a CA is too long"),
    ("check limit", Check.CHAIN_TOO_LONG, "the path to a CA costs too much to find"),
    ("validation time", Check.EXPIRED, "a CA certificate of the path has expired or is not yet valid"),
    ("public key algorithm", Check.WEAK_KEY, "a key of the path is of a kind not in use"),
    ("public key size", Check.WEAK_KEY, "a key of the path is too short"),
    ("RSA", Check.WEAK_KEY, "an RSA key of the path is not acceptable"),
    ("signature algorithm", Check.WEAK_KEY, "a signature on the path is of a kind not in use"),
    ("no interior errors", Check.UNKNOWN_CA, "no path to a configured CA"),
    ("signature does not match", Check.UNKNOWN_CA, "no path to a configured CA"),
)
"""The verifier's words, the check that they are about, and how we say it."""


def _fault(message: str, leaf: x509.Certificate, when: datetime) -> Fault:
    """The verifier's objection under a named check; the faults that operators meet most come first."""
    words = "".join(filter(str.isprintable, message.removeprefix("validation failed: ")))
    words = words.partition(" (encountered")[0].partition(": malformed")[0][:_WORDS]
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if _signed_itself(leaf):
        return Fault(Check.SELF_SIGNED, f"the certificate is self-signed (verifier: {words})")
    if end.replace(tzinfo=None) < when:
        return Fault(Check.EXPIRED, f"the certificate expired on {end:%Y-%m-%d} (verifier: {words})")
    if begin.replace(tzinfo=None) > when:
        text = f"the certificate is not valid before {begin:%Y-%m-%d} (verifier: {words})"
        return Fault(Check.NOT_YET_VALID, text)
    if "missing required extension" in words and not _has(leaf, x509.SubjectAlternativeName):
        return Fault(Check.NAME, f"the certificate has no alternative names (verifier: {words})")
    for part, check, ours in _BY_WORDS:
        if part in words:
            return Fault(check, f"{ours} (verifier: {words})")
    return Fault(Check.PATH, f"the certificate's path is not valid (verifier: {words})")


def _signed_itself(certificate: x509.Certificate) -> bool:
    """Whatever else the verifier found first: nobody but its holder speaks for it."""
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except Exception:  # another key of the same name, or an algorithm that the library lacks
        return False
    return True


def _has(certificate: x509.Certificate, extension: type[x509.ExtensionType]) -> bool:
    try:
        certificate.extensions.get_extension_for_class(extension)
    except x509.ExtensionNotFound:
        return False
    return True


def authority_label(certificate: x509.Certificate) -> str:
    """An authority's name as people know it: its common name, or else the whole subject."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else certificate.subject.rfc4514_string()
