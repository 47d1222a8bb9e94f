"""A certificate in words, and what Outrider would do with it: for `outrider cert inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from outrider.identity.authorities import CaStores
from outrider.identity.certificates import fingerprints_of, names_of
from outrider.identity.checks import Fault
from outrider.identity.client_certificate import ProvenClient, identify_client
from outrider.identity.host_identity import HostRefusal, HostSettings, examine_client
from outrider.identity.mt2_identity import Mt2Identity, Mt2IdentitySettings
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.server_tls import ProvenServer, verify_server
from outrider.model.envelope import Arrival

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "mail",
    ExtendedKeyUsageOID.CODE_SIGNING: "code signing",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
}


def certificate_report(der: bytes) -> dict[str, Any]:
    """What a certificate says, as plain values; nothing of it is believed. Never raises."""
    prints = fingerprints_of(der)
    try:
        report = _report(x509.load_der_x509_certificate(der))
    except Exception:  # hostile DER: the library may raise nearly anything
        report = {"malformed": True}
    return {**report, "sha256": prints.certificate, "key_sha256": prints.public_key}


def _report(certificate: x509.Certificate) -> dict[str, Any]:
    names = names_of(certificate)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S}Z",
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S}Z",
        "hosts": () if isinstance(names, Fault) else names.hosts,
        "services": () if isinstance(names, Fault) else names.services,
        "mailboxes": () if isinstance(names, Fault) else names.mailboxes,
        "common_name": "" if isinstance(names, Fault) else names.common_name,
        "oddities": (names.reason,) if isinstance(names, Fault) else names.oddities,
        "purposes": _purposes(certificate),
        "authority": _is_authority(certificate),
        "key": _key(certificate),
        "signature": _signature(certificate),
        "self_signed": certificate.subject == certificate.issuer,
    }


def _purposes(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(_PURPOSES.get(one, one.dotted_string) for one in usage)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey(key_size=bits):
            return f"RSA, {bits} bits"
        case ec.EllipticCurvePublicKey(curve=curve):
            return f"EC, {curve.name}"
        case other:
            return type(other).__name__.removesuffix("PublicKey").lstrip("_")


def _signature(certificate: x509.Certificate) -> str:
    algorithm = certificate.signature_hash_algorithm
    return algorithm.name if algorithm is not None else certificate.signature_algorithm_oid.dotted_string


def verdicts(
    chain: Sequence[bytes], host: str, stores: CaStores, settings: HostSettings, now: float
) -> Iterator[tuple[str, str]]:
    """What we would make of a peer that presents the chain: who asks, and the answer.

    `host` is the name that a server with it was found by; "" = it was not found at a server.
    """
    examined, _ = examine_client(chain, stores, settings, now)
    if isinstance(examined, HostRefusal):
        code = "451" if examined.temporary else "504"
        yield "AMTP client", f"{code}: {examined.check.value}: {examined.reason}"
    else:
        kind = "private" if examined.connection is Arrival.AMTP_PRIVATE else "public"
        names = ", ".join(examined.hosts[:3])
        further = ", if its PTR record agrees" if kind == "public" else ""
        yield "AMTP client", f"{kind} connection for EHLO {names}{further} ({examined.how})"
    client = identify_client(chain, stores, now)
    if isinstance(client, ProvenClient):
        named = ", ".join((*client.names, *client.mailboxes)[:3])
        yield "SMTP client", f"proves {named} ({client.ca_set} CA)"
    else:
        yield "SMTP client", f"proves nothing: {client.reason}"
    yield from _mt2_verdicts(chain, stores, settings, now)
    if host:
        server = verify_server(chain, host, stores, now)
        yield (
            f"server {host}",
            str(server) if isinstance(server, ProvenServer) else f"not verified: {server.reason}",
        )


def _mt2_verdicts(
    chain: Sequence[bytes], stores: CaStores, settings: HostSettings, now: float
) -> Iterator[tuple[str, str]]:
    """By our own CAs; whether the issuer's domain vouches, it alone can say (MT2-24b)."""
    peers = Mt2Peers(stores, Mt2IdentitySettings(settings))
    for whose, found in (
        ("MT2 host", peers.host_here(chain, None, now)),
        ("MT2 user", peers.user_here(chain, None, now)),
    ):
        if isinstance(found, Mt2Identity):
            said = [f"{one.kind} {one.value}" for one in found.descriptions]
            claimed = f"; claimed, not proven: {', '.join(said)}" if said else ""
            yield whose, f"{', '.join(found.names[:3])} ({found.how}){claimed}"
        else:
            where = ", ".join(found.issuer_domains)
            yield whose, f"{found}{f' (says that {where} has issued it)' if where else ''}"
