"""Would other hosts accept this one? What an AMTP peer would check, line by line, each with its remedy.

Pure: certificate and DNS answers come as values (`HostView`); who gathers them, for our own host or somebody
else's, is no matter here. The verdicts are those of `host_identity`: a peer that runs Outrider and believes
the same authorities comes to the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from outrider.identity.authorities import CaStores
from outrider.identity.certificates import normal_host
from outrider.identity.checks import Check
from outrider.identity.host_identity import (
    HostCertificate,
    HostRefusal,
    HostSettings,
    ReverseNames,
    ServerIdentity,
    ServerQuestion,
    examine_client,
    judge_hello,
    judge_server,
)
from outrider.model.envelope import Arrival

Result = Literal["ok", "bad", "note"]
SOON_S = 30 * 86_400.0
"""Before a certificate ends, when to say so."""

REMEDIES = {
    Check.NO_CERTIFICATE: "set certificate and key in [tls] (`outrider cert host` makes them for a group)",
    Check.CHAIN_TOO_LONG: "give the host's certificate and the CA's intermediate ones, nothing else",
    Check.MALFORMED: "get a new certificate",
    Check.WEAK_KEY: "use an EC key of P-256, P-384 or P-521, or RSA of 2048 to 8192 bits",
    Check.NAME: "get a certificate with the host's full name as dNSName",
    Check.SELF_SIGNED: "get a certificate from a CA that the peer knows, or give the peer its fingerprint",
    Check.EXPIRED: "renew the certificate (`outrider cert renew`)",
    Check.NOT_YET_VALID: "check the clock, or wait",
    Check.PURPOSE: "get a certificate for the server purpose (extendedKeyUsage serverAuth)",
    Check.UNKNOWN_CA: "give the whole chain in the file, or get a certificate from a CA that the peer knows",
    Check.NAME_CONSTRAINTS: "get a certificate from a CA that may issue for this name",
    Check.PATH: "have the CA look at what the verifier says",
    Check.REVOKED: "get a new certificate",
    Check.CRL_STALE: "fetch the CA's newest list of revocations",
    Check.EHLO_MISMATCH: "make `hostname` and the certificate's dNSName one name",
    Check.PTR_TIMEOUT: "see to the name servers of the address's reverse zone",
    Check.PTR_NONE: "have the address's owner (the provider) set a PTR record with the host's name",
    Check.PTR_MISMATCH: "have the address's owner (the provider) set the PTR record to the host's name",
    Check.PTR_NOT_FORWARD: "add an A or AAAA record for the host's name with this address",
}
"""What the host's operator can do about each."""


@dataclass(frozen=True, slots=True)
class AcceptanceLine:
    """One thing that a peer would look at."""

    subject: str
    """certificate, name, an address, an SRV record's domain."""
    result: Result
    text: str
    remedy: str = ""
    """"" when there is nothing to do."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """What DNS says about who serves a domain by AMTP."""

    domain: str
    targets: tuple[tuple[str, int], ...] = ()
    """Hosts with their ports; () = there is no SRV record, or it says that there is no such service."""
    secure: bool = False
    """DNSSEC-secure, by a validating resolver."""
    failure: str = ""
    """Why nothing is known for the moment."""


@dataclass(frozen=True, slots=True)
class HostView:
    """A host as others see it."""

    name: str
    """What it says at EHLO."""
    chain: tuple[bytes, ...]
    """What it presents, DER, leaf first."""
    addresses: tuple[tuple[str, ReverseNames], ...] = ()
    """Those it connects from, each with its PTR names."""
    services: tuple[ServiceView, ...] = ()
    """Domains that it should serve."""


def acceptance(
    view: HostView, stores: CaStores, settings: HostSettings, port: int, now: float
) -> Iterator[AcceptanceLine]:
    """What a peer with these CA sets would find; `port` is the one for public connections (AMTP-6)."""
    certificate, _ = examine_client(view.chain, stores, settings, now)
    if isinstance(certificate, HostRefusal):
        yield _refused("certificate", certificate)
    else:
        yield from _certificate_lines(view, certificate, now)
        yield from _address_lines(view, certificate, settings)
    for service in view.services:
        yield from _service_lines(view, service, stores, port, now)


def _certificate_lines(view: HostView, certificate: HostCertificate, now: float) -> Iterator[AcceptanceLine]:
    ends = f"{datetime.fromtimestamp(certificate.not_after, UTC):%Y-%m-%d}"
    private = certificate.connection is Arrival.AMTP_PRIVATE
    by = f", {certificate.authority}" if certificate.authority else ""
    kind = "private connections" if private else "public connections"
    yield AcceptanceLine("certificate", "ok", f"{certificate.how}{by}: good for {kind}")
    if certificate.not_after - now < SOON_S:
        yield AcceptanceLine(
            "dates", "note", f"the certificate or its CA ends on {ends}", REMEDIES[Check.EXPIRED]
        )
    else:
        yield AcceptanceLine("dates", "ok", f"valid until {ends}")
    if normal_host(view.name) in certificate.hosts:
        yield AcceptanceLine("name", "ok", f"the certificate names {normal_host(view.name)}")
    else:
        names = ", ".join(certificate.hosts[:3])
        yield AcceptanceLine(
            "name",
            "bad",
            f"the certificate names {names}, EHLO says {view.name}",
            REMEDIES[Check.EHLO_MISMATCH],
        )


def _address_lines(
    view: HostView, certificate: HostCertificate, settings: HostSettings
) -> Iterator[AcceptanceLine]:
    if certificate.connection is Arrival.AMTP_PRIVATE:
        yield AcceptanceLine("ptr", "ok", "not asked for private connections")
        return
    if not view.addresses:
        yield AcceptanceLine(
            "ptr", "bad", f"{view.name} has no address in DNS", REMEDIES[Check.PTR_NOT_FORWARD]
        )
    for address, reverse in view.addresses:
        judged = judge_hello(certificate, view.name, reverse, settings)
        if not isinstance(judged, HostRefusal):
            yield AcceptanceLine(f"ptr {address}", "ok", f"PTR, certificate and EHLO say {judged.name}")
        elif judged.check not in (Check.EHLO_MISMATCH, Check.NAME):  # said once already
            yield _refused(f"ptr {address}", judged)


def _service_lines(
    view: HostView, service: ServiceView, stores: CaStores, port: int, now: float
) -> Iterator[AcceptanceLine]:
    subject = f"srv {service.domain}"
    record = f"_amtp._tcp.{service.domain}. SRV 0 0 {port} {normal_host(view.name) or view.name}."
    if service.failure:
        yield AcceptanceLine(
            subject, "bad", f"not to be learnt: {service.failure}", "see to the zone's name servers"
        )
        return
    ports = [found for host, found in service.targets if normal_host(host) == normal_host(view.name)]
    if not ports:
        what = "names other hosts only" if service.targets else "none: others will use SMTP"
        yield AcceptanceLine(subject, "note", what, f"publish {record}")
        return
    if port not in ports:
        found_ports = ", ".join(str(found) for found in ports)
        yield AcceptanceLine(subject, "bad", f"leads to port {found_ports}, not {port}", f"publish {record}")
        return
    yield AcceptanceLine(subject, "ok", f"leads here, port {port}")
    yield _server_line(view, service, stores, now)


def _server_line(view: HostView, service: ServiceView, stores: CaStores, now: float) -> AcceptanceLine:
    """Whether a sender would believe that this host may have the domain's mail (AMTP-5)."""
    subject = f"server for {service.domain}"
    question = ServerQuestion(service.domain, view.name, service.secure)
    judged, _ = judge_server(view.chain, question, stores, now)
    if isinstance(judged, HostRefusal):
        return _refused(subject, judged)
    if judged.proven:
        return AcceptanceLine(subject, "ok", f"proven: {judged.how}")
    return _merely_claimed(subject, service, judged)


def _merely_claimed(subject: str, service: ServiceView, judged: ServerIdentity) -> AcceptanceLine:
    remedy = (
        f"put {service.domain} into the certificate (dNSName, or SRVName _amtp.{service.domain}), "
        "sign the zone with DNSSEC, or have partners list this host"
    )
    return AcceptanceLine(
        subject, "note", f"claimed only ({judged.how}): not enough where proof is required", remedy
    )


def _refused(subject: str, refusal: HostRefusal) -> AcceptanceLine:
    text = f"{refusal.check.value}: {refusal.reason}"
    return AcceptanceLine(subject, "bad", text, REMEDIES[refusal.check])
