"""The certificates and keys of `[mt2]`: what proves this host and seals its mail (MT2-10b, MT2-23a)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.config.schema import Config
from outrider.delivery.mt2_sealing import SealingKey, SealingKeys
from outrider.identity.header_encryption import EncryptionError, encrypt_headers
from outrider.identity.seals import Sealer, SealError
from outrider.model.address import AddressError, parse_address, parse_domain

Resolve = Callable[[str], Path]
"""A file that the settings name."""


@dataclass(frozen=True, slots=True)
class Mt2Keys:
    """What an assembly holds of them."""

    sealing: SealingKeys | None = None
    """None: this host does not send by MT2."""
    header_certificates: Mapping[str, bytes] = field(default_factory=dict)
    """Certificates (DER) for which headers are encrypted, by address and domain (MT2-4)."""
    warning: str = ""
    """Why `sealing` is None although there is a certificate."""

    @property
    def sealer(self) -> Sealer | None:
        """The host's own: its `signer` also makes the proof in HELO."""
        return None if self.sealing is None else self.sealing.host.sealer


def read_mt2_keys(config: Config, resolve: Resolve) -> Mt2Keys:
    """Raises ValueError whose text begins with the key."""
    certificates = _header_certificates(config, resolve)
    host, warning = _host_key(config, resolve)
    users = {
        _address_key(f'mt2.identities."{text}"', text): _user_key(text, one.certificate, one.key, resolve)
        for text, one in config.mt2.identities.items()
    }
    process = None
    if config.mt2.process:
        process = users.get(_address_key("mt2.process", config.mt2.process))
        if process is None:
            raise ValueError(f"mt2.process: {config.mt2.process} is not among [mt2.identities]")
    if host is None:
        if users:
            raise ValueError("mt2.identities: users' seals need the host's; set certificate and key in [mt2]")
        return Mt2Keys(None, certificates, warning)
    return Mt2Keys(SealingKeys(host, users, process, config.auth.restrict_sender), certificates)


def _host_key(config: Config, resolve: Resolve) -> tuple[SealingKey | None, str]:
    mt2, tls = config.mt2, config.tls
    if bool(mt2.certificate) != bool(mt2.key):
        raise ValueError("mt2: certificate and key go together")
    if mt2.certificate and mt2.key:
        return _key("mt2.certificate", mt2.certificate, mt2.key, resolve, config.hostname.lower()), ""
    if not tls.certificate or not tls.key:
        return None, ""
    try:
        return _key("tls.certificate", tls.certificate, tls.key, resolve, config.hostname.lower()), ""
    except ValueError as error:
        # It was made for other purposes, and serves them.
        return None, f"mail is not sent by mt2: {error}"


def _user_key(text: str, certificate: str, key: str, resolve: Resolve) -> SealingKey:
    where = f'mt2.identities."{text}".certificate'
    return _key(where, certificate, key, resolve, text)


def _key(where: str, certificate: str, key: str, resolve: Resolve, name: str) -> SealingKey:
    try:
        sealer = Sealer.from_pem(resolve(certificate).read_bytes(), resolve(key).read_bytes())
        known = next((one for one in sealer.names if one.lower() == name.lower()), name)
        return SealingKey.of(sealer, known)
    except (OSError, SealError) as error:
        raise ValueError(f"{where}: {error}") from error


def _address_key(where: str, text: str) -> tuple[str, str]:
    try:
        return parse_address(text).key
    except AddressError as error:
        raise ValueError(f"{where}: {error}") from error


def _header_certificates(config: Config, resolve: Resolve) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, path in config.mt2.encrypt_headers.items():
        where = f'mt2.encrypt_headers."{name}"'
        try:
            key = "@".join(parse_address(name).key) if "@" in name else str(parse_domain(name))
            leaf = x509.load_pem_x509_certificates(resolve(path).read_bytes())[0]
            der = leaf.public_bytes(Encoding.DER)
            encrypt_headers(b"", [der])  # what it is not fit for is found out now
        except (OSError, ValueError, AddressError, EncryptionError) as error:
            raise ValueError(f"{where}: {error}") from error
        found[key] = der
    return found
