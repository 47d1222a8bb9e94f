"""Certificates and keys from PEM files, checked before they are used, in words an operator can act on."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

MAX_FILE_OCTETS: Final = 1_048_576
"""A chain of ten certificates has about 20 kB; whatever is larger is not what was meant."""

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)


class TlsConfigError(Exception):
    """Certificate or key cannot be used. `path` is the file, `problem` the fault, `remedy` what helps."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate with its chain, and its key, are kept (PEM)."""

    certificate: Path
    """The host's certificate first, then the intermediate ones in order; the root may be left out."""
    key: Path
    """May be the same file as `certificate`."""
    passphrase: bytes | None = field(default=None, repr=False)
    """For an encrypted key."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate chain and its key, read and checked."""

    files: CertificateFiles
    chain: tuple[x509.Certificate, ...]
    """Leaf first."""
    key: PrivateKey = field(repr=False)
    warnings: tuple[str, ...] = ()
    """What works but should be mended, one sentence each."""

    @property
    def not_after(self) -> datetime:
        """When the first certificate of the chain to end ends (UTC)."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names of the leaf's subjectAltName, as written there."""
        try:
            names = self.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (x509.ExtensionNotFound, ValueError):
            return ()
        return tuple(names.value.get_values_for_type(x509.DNSName))


def read_credentials(files: CertificateFiles, *, now: datetime, allow_expired: bool = False) -> Credentials:
    """Read and check both files.

    `now` (UTC) is held against the dates. An expired leaf is an error, or with `allow_expired` a warning: to
    keep an opportunistic listener in service is better than to close it. Raises :class:`TlsConfigError`.
    """
    chain = _read_chain(files.certificate)
    key = _read_key(files)
    _check_match(files, chain, key)
    warnings = [*_check_dates(files.certificate, chain, now, allow_expired), *_check_mode(files.key)]
    return Credentials(files, chain, key, tuple(warnings))


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_OCTETS + 1)
    except FileNotFoundError:
        raise TlsConfigError(path, "the file does not exist", "correct the path or create the file") from None
    except IsADirectoryError:
        raise TlsConfigError(path, "this is a directory", "name the PEM file in it") from None
    except PermissionError:
        remedy = "let the user that the server runs as read it (owner or group), nobody else"
        raise TlsConfigError(path, "the server may not read it", remedy) from None
    except OSError as error:
        problem = f"it cannot be read ({os.strerror(error.errno or 0)})"
        raise TlsConfigError(path, problem, "check the file system") from None
    if len(content) > MAX_FILE_OCTETS:
        raise TlsConfigError(path, "it is larger than 1 MiB", "name a file with one chain or key only")
    return content


def _read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    content = _read_file(path)
    remedy = "give the certificate in PEM form, '-----BEGIN CERTIFICATE-----', with its chain below it"
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise TlsConfigError(path, "it holds no PEM certificate", remedy)
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except (ValueError, x509.InvalidVersion):
        raise TlsConfigError(path, "a certificate in it is damaged", remedy) from None


def _read_key(files: CertificateFiles) -> PrivateKey:
    path, content = files.key, _read_file(files.key)
    remedy = "give the certificate's private key in PEM form, '-----BEGIN PRIVATE KEY-----'"
    if b"PRIVATE KEY-----" not in content:
        raise TlsConfigError(path, "it holds no PEM private key", remedy)
    try:
        key = load_pem_private_key(content, files.passphrase)
    except TypeError:
        raise _passphrase_error(files) from None
    except (ValueError, UnsupportedAlgorithm):
        if files.passphrase is not None:
            raise TlsConfigError(path, "the passphrase does not open it", "correct the passphrase") from None
        raise TlsConfigError(path, "the key in it is damaged or of an unknown kind", remedy) from None
    if not isinstance(key, PrivateKey):
        raise TlsConfigError(path, "a key of this kind cannot sign", "use an EC, Ed25519 or RSA key")
    return key


def _passphrase_error(files: CertificateFiles) -> TlsConfigError:
    if files.passphrase is None:
        remedy = "give its passphrase, or decrypt it: openssl pkey -in KEY -out NEWKEY"
        return TlsConfigError(files.key, "the key is encrypted and no passphrase is set", remedy)
    return TlsConfigError(
        files.key, "a passphrase is set but the key is not encrypted", "remove the passphrase"
    )


def _check_match(files: CertificateFiles, chain: tuple[x509.Certificate, ...], key: PrivateKey) -> None:
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if _public_key(chain[0]) == wanted:
        return
    if any(_public_key(certificate) == wanted for certificate in chain[1:]):
        problem = "the certificate of the key is not the first in the file"
        raise TlsConfigError(
            files.certificate, problem, "put the host's certificate first, its issuers below"
        )
    problem = f"it is not the certificate of the key in {files.key}"
    raise TlsConfigError(files.certificate, problem, "use the pair that was made together")


def _public_key(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_dates(
    path: Path, chain: tuple[x509.Certificate, ...], now: datetime, allow_expired: bool
) -> list[str]:
    warnings: list[str] = []
    for position, certificate in enumerate(chain):
        which = "the certificate" if position == 0 else f"certificate {position + 1} of the chain"
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if end < now and position == 0 and not allow_expired:
            raise TlsConfigError(path, f"{which} expired on {end:%Y-%m-%d %H:%M} UTC", "renew it")
        if end < now:
            warnings.append(f"{path}: {which} expired on {end:%Y-%m-%d %H:%M} UTC")
        if begin > now:
            warnings.append(f"{path}: {which} is not valid before {begin:%Y-%m-%d %H:%M} UTC")
    return warnings


def _check_mode(path: Path) -> list[str]:
    if path.stat().st_mode & stat.S_IRWXO:
        return [f"{path}: every user of this machine may use this private key; chmod o= it"]
    return []
