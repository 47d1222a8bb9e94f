"""CA sets from files, for commands that judge certificates without a server: its settings, leniently."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.config.loader import Loaded
from outrider.identity.authorities import CaStores, read_authorities
from outrider.runtime.revocation_files import RevocationFileError, RevocationFiles

_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


class CertificateFileError(Exception):
    """A file cannot be used; the text names it and says why."""


def system_ca_files() -> tuple[str, ...]:
    """The operating system's store of public CAs; () if there is none where we look."""
    return tuple(name for name in _SYSTEM_CA_FILES if Path(name).exists())[:1]


def read_pem_chain(path: Path) -> tuple[bytes, ...]:
    """A certificate and its chain from a PEM file, as DER, leaf first. Raises CertificateFileError."""
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateFileError(f"{path}: {error.strerror}") from None
    except (ValueError, x509.InvalidVersion):
        raise CertificateFileError(f"{path}: holds no PEM certificates") from None
    return tuple(one.public_bytes(Encoding.DER) for one in certificates)


def configured_stores(loaded: Loaded | None, more_public: Iterable[Path] = ()) -> CaStores:
    """The CA sets and lists of revocations of a configuration (None: the system's public set alone), and
    further files of public CAs. Raises CertificateFileError."""
    public, private, lists = _named(loaded)
    stores = CaStores.of(_authorities((*public, *more_public)), _authorities(private))
    try:
        RevocationFiles(lists, stores.authorities, stores.revocations).reload()
    except RevocationFileError as error:
        raise CertificateFileError(str(error)) from None
    return stores


def _named(loaded: Loaded | None) -> tuple[list[Path], list[Path], list[Path]]:
    if loaded is None:
        return [Path(name) for name in system_ca_files()], [], []
    tls = loaded.config.tls
    public = tls.public_ca if tls.public_ca is not None else system_ca_files()
    public_files, private_files, lists = (
        [loaded.resolve(name) for name in names] for names in (public, tls.private_ca, tls.crl)
    )
    return public_files, private_files, lists


def _authorities(paths: Iterable[Path]) -> list[x509.Certificate]:
    found: list[x509.Certificate] = []
    for path in paths:
        try:
            found += read_authorities(path.read_bytes())
        except OSError as error:
            raise CertificateFileError(f"{path}: {error.strerror}") from None
        except ValueError:
            raise CertificateFileError(f"{path}: holds no PEM certificates") from None
    return found
