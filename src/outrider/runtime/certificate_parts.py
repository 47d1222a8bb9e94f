"""Certificates, keys, CAs and lists of revocations, from the files that the settings name."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509

from outrider.config.schema import Route
from outrider.config.source_map import Path as KeyPath
from outrider.identity.authorities import CaStores, read_authorities, shared_authorities
from outrider.net.client_tls import ClientTls
from outrider.net.tls_context import ServerContexts
from outrider.net.tls_files import CertificateFiles, TlsConfigError
from outrider.routing.tls_policy import route_requirement
from outrider.runtime.ca_files import system_ca_files
from outrider.runtime.findings import Findings
from outrider.runtime.revocation_files import RevocationFileError, RevocationFiles

_NOT_YET_LEVELS = {"dane", "mta-sts"}


def server_tls(findings: Findings) -> ServerContexts | None:
    """What listeners show; None without a certificate."""
    tls = findings.config.tls
    if tls.certificate is None or tls.key is None:
        if tls.certificate or tls.key:
            findings.fault(("tls",), "certificate and key go together", "set both or neither")
        return None
    default = CertificateFiles(findings.loaded.resolve(tls.certificate), findings.loaded.resolve(tls.key))
    by_name = {
        name: CertificateFiles(findings.loaded.resolve(one.certificate), findings.loaded.resolve(one.key))
        for one in tls.sni
        for name in one.names
    }
    try:
        contexts = ServerContexts(default, by_name)
    except TlsConfigError as error:
        findings.fault(_key_of_file(findings, error.path), f"{error.path}: {error.problem}", error.remedy)
        return None
    findings.warnings.extend(contexts.warnings)
    return contexts


def client_tls(findings: Findings, stores: CaStores) -> ClientTls:
    """What is shown to servers, and whom of them we believe."""
    tls = findings.config.tls
    if tls.certificate is None or tls.key is None:
        return ClientTls(stores)
    return ClientTls(
        stores, CertificateFiles(findings.loaded.resolve(tls.certificate), findings.loaded.resolve(tls.key))
    )


def _key_of_file(findings: Findings, path: Path) -> KeyPath:
    """Which setting names that file."""
    tls = findings.config.tls
    named: list[tuple[KeyPath, str | None]] = [
        (("tls", "certificate"), tls.certificate),
        (("tls", "key"), tls.key),
    ]
    for number, one in enumerate(tls.sni):
        named += [
            (("tls", "sni", number, "certificate"), one.certificate),
            (("tls", "sni", number, "key"), one.key),
        ]
    return next((key for key, name in named if name and findings.loaded.resolve(name) == path), ("tls",))


def ca_stores(findings: Findings) -> CaStores:
    """The CAs of `[tls]`, public and private."""
    tls = findings.config.tls
    public = tls.public_ca if tls.public_ca is not None else system_ca_files()
    if not public and tls.public_ca is None:
        findings.warnings.append("no system CA store found: no public CA is trusted; set public_ca in [tls]")
    publicly = authorities(findings, ("tls", "public_ca"), public)
    privately = authorities(findings, ("tls", "private_ca"), tls.private_ca)
    for shared in shared_authorities(publicly, privately):
        findings.fault(
            ("tls", "private_ca"), shared, "keep it in one set: a private CA makes private connections"
        )
    return CaStores.of(publicly, privately)


def revocation_files(findings: Findings, stores: CaStores) -> RevocationFiles:
    """The lists of revocations, read into the stores (ITP-2a)."""
    paths = [findings.loaded.resolve(name) for name in findings.config.tls.crl]
    files = RevocationFiles(paths, stores.authorities, stores.revocations)
    try:
        files.reload()
    except RevocationFileError as error:
        remedy = "give a CRL file, PEM or DER, of a CA that is configured"
        findings.fault(("tls", "crl", error.number), str(error), remedy)
    return files


def authorities(findings: Findings, key: KeyPath, files: tuple[str, ...]) -> list[x509.Certificate]:
    """The CAs in files that the list at `key` names."""
    found: list[x509.Certificate] = []
    for number, name in enumerate(files):
        try:
            certificates = read_authorities(findings.loaded.resolve(name).read_bytes())
        except OSError as error:
            findings.fault((*key, number), f"{name}: {error.strerror}", "give the path of a PEM file")
        except ValueError:
            findings.fault((*key, number), f"{name}: holds no PEM certificates", "convert it to PEM")
        else:
            found.extend(certificates)
    return found


def check_route_files(findings: Findings, shown: ClientTls) -> None:
    """Certificates and passwords that single routes name."""
    for name, route in findings.config.routes.items():
        if isinstance(route, str):
            continue
        key = ("routes", name)
        if route.password_file and not os.access(findings.loaded.resolve(route.password_file), os.R_OK):
            findings.fault((*key, "password_file"), f"cannot read {route.password_file}", "create it, 0600")
        if route.certificate or route.tls == "mutual":
            _check_route_certificate(findings, key, route, shown)


def _check_route_certificate(findings: Findings, key: KeyPath, route: Route, shown: ClientTls) -> None:
    try:
        shown.context(route_requirement(route, findings.config.delivery))
    except TlsConfigError as error:
        findings.fault(key, f"{error.path}: {error.problem}", error.remedy)
    except ValueError as error:
        findings.fault(key, str(error))


def check_levels(findings: Findings) -> None:
    """Levels of TLS that can be written, and are not there yet."""
    config = findings.config
    named: list[tuple[KeyPath, str | None]] = [(("delivery", "tls"), config.delivery.tls)]
    named += [
        (("routes", name, "tls"), route.tls)
        for name, route in config.routes.items()
        if not isinstance(route, str)
    ]
    for key, level in named:
        if level in _NOT_YET_LEVELS:
            findings.fault(key, f"{level} is not built yet", "use verify until it is")
