"""The partner folder: what `outrider partner` keeps beside the configuration.

For each partner NAME three files, 0600 and for the server's account: ``NAME.toml`` (the entry, as a table
``[partners."NAME"]`` would say it), ``NAME.pem`` (the CA set that may vouch for its hosts, if it has its
own) and ``NAME.invitation`` (what was accepted, so that nothing older is accepted after it). The entry is
written last and removed first: whatever interrupts us, an entry that is there is whole.
"""

from __future__ import annotations

import json
import os
import pwd
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from outrider.config.loader import Loaded
from outrider.config.schema import Partner
from outrider.identity.invitation import Received, is_partner_name, read_invitation
from outrider.identity.signed_document import MAX_OCTETS, DocumentError
from outrider.identity.trust_bundle import ReceivedBundle, read_bundle
from outrider.runtime.private_files import write_private

DEFAULT_FOLDER = "partners"
BUNDLES = "bundles"
_ALWAYS = ("inbound", "inbound_mode", "outbound")


class PartnerFileError(Exception):
    """A file of the folder cannot be used; the text names it and says why."""


def read_bounded(path: Path, limit: int = MAX_OCTETS) -> bytes:
    """A file that somebody sent us. Raises PartnerFileError."""
    try:
        with path.open("rb") as file:
            octets = file.read(limit + 1)
    except OSError as error:
        raise PartnerFileError(f"{path}: {error.strerror}") from error
    if len(octets) > limit:
        raise PartnerFileError(f"{path}: larger than {limit} octets")
    return octets


@dataclass(frozen=True, slots=True)
class PartnerFolder:
    """The folder, whether it is there yet or not. Every method raises PartnerFileError."""

    path: Path
    owner: tuple[int, int] | None = None
    """User and group who must be able to read the files; None = whoever writes them."""

    @classmethod
    def of(cls, loaded: Loaded) -> PartnerFolder:
        """The one that the configuration names."""
        folder = loaded.config.partner_folder or DEFAULT_FOLDER
        return cls(loaded.resolve(folder), _server_account(loaded))

    def entry_path(self, name: str) -> Path:
        """Where the entry is, or would be."""
        return self._file(name, ".toml")

    def authorities_path(self, name: str) -> Path:
        """Where the partner's CA set is, or would be."""
        return self._file(name, ".pem")

    def has(self, name: str) -> bool:
        """Whether the folder has an entry of that name."""
        return self.entry_path(name).exists()

    def entry(self, name: str) -> Partner | None:
        """The entry; None when there is none."""
        path = self.entry_path(name)
        if not path.exists():
            return None
        try:
            return msgspec.convert(tomllib.loads(read_bounded(path).decode("utf-8")), Partner)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise PartnerFileError(f"{path}: {error}") from error

    def invitation(self, name: str) -> Received | None:
        """What was accepted last; None when nothing was."""
        path = self._file(name, ".invitation")
        if not path.exists():
            return None
        try:
            return read_invitation(read_bounded(path))
        except DocumentError as error:
            raise PartnerFileError(f"{path}: {error}") from error

    def accept(self, name: str, entry: Partner, received: Received, octets: bytes) -> None:
        """Write all three files; `octets` is the invitation as it came."""
        authorities = received.invitation.authorities_pem
        if authorities:
            self._write(self.authorities_path(name), authorities)
        self._write(self._file(name, ".invitation"), octets)
        self.write_entry(name, entry)

    def write_entry(self, name: str, entry: Partner) -> None:
        """Write the entry anew."""
        self._write(self.entry_path(name), entry_text(name, entry).encode())

    def remove(self, name: str) -> None:
        """Remove all files of a partner; those that are not there are no fault."""
        for suffix in (".toml", ".pem", ".invitation"):
            self._unlink(self._file(name, suffix))

    # -- trust bundles ---------------------------------------------------------------------------------

    def bundle_names(self) -> list[str]:
        """The bundles that are followed."""
        found = self.path.joinpath(BUNDLES).glob("*.bundle")
        return sorted(path.stem for path in found if is_partner_name(path.stem))

    def bundle(self, name: str) -> ReceivedBundle | None:
        """The edition in use; None when there is none."""
        path = self._file(name, ".bundle", BUNDLES)
        if not path.exists():
            return None
        try:
            return read_bundle(read_bounded(path))
        except DocumentError as error:
            raise PartnerFileError(f"{path}: {error}") from error

    def set_path(self, bundle: str, set_name: str) -> Path:
        """Where a CA set of a bundle is, or would be, for `[tls] private_ca` or a partner's `ca`."""
        self._file(set_name, ".pem", BUNDLES)
        return self._file(bundle, "", BUNDLES) / f"{set_name}.pem"

    def apply_bundle(self, received: ReceivedBundle, octets: bytes) -> None:
        """Write every set of the edition, then the edition itself; sets that it no longer has are removed."""
        bundle = received.bundle
        for one in bundle.sets:
            self._write(self.set_path(bundle.name, one.name), one.pem)
        self._write(self._file(bundle.name, ".bundle", BUNDLES), octets)
        kept = {self.set_path(bundle.name, one.name) for one in bundle.sets}
        for path in self._file(bundle.name, "", BUNDLES).glob("*.pem"):
            if path not in kept:
                self._unlink(path)

    def remove_bundle(self, name: str) -> None:
        """Follow the bundle no longer, and forget its signer's key. Its CA sets stay where they are in use
        until the operator takes them out of the settings."""
        self._unlink(self._file(name, ".bundle", BUNDLES))

    def _file(self, name: str, suffix: str, below: str = "") -> Path:
        if not is_partner_name(name):
            raise PartnerFileError(f"{name!r} is no name: small letters, digits, - and . are, up to 64")
        return self.path / below / f"{name}{suffix}"

    def _write(self, path: Path, content: bytes) -> None:
        try:
            for folder in reversed([one for one in (path.parent, *path.parent.parents) if not one.exists()]):
                folder.mkdir(mode=0o700)
                self._give(folder)
            write_private(path, content)
            self._give(path)
        except OSError as error:
            raise PartnerFileError(f"{path}: {error.strerror}") from error

    def _give(self, path: Path) -> None:
        """To the account that the server becomes: it reads the files again at each reload."""
        if self.owner is not None and os.geteuid() == 0:
            os.chown(path, *self.owner)

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise PartnerFileError(f"{path}: {error.strerror}") from error


def _server_account(loaded: Loaded) -> tuple[int, int] | None:
    """Whom the server runs as: by the settings, or by what it has made of its data folder."""
    try:
        if loaded.config.user:
            account = pwd.getpwnam(loaded.config.user)
            return account.pw_uid, account.pw_gid
        found = loaded.resolve(loaded.config.data_dir).stat()
    except (OSError, LookupError):
        return None
    return found.st_uid, found.st_gid


def entry_text(name: str, entry: Partner) -> str:
    """The entry as a TOML file; what is at its default is left out, but for the terms."""
    lines = [f"# Partner {name}; made by `outrider partner`, which keeps what you change here."]
    for field in msgspec.structs.fields(Partner):
        value = getattr(entry, field.name)
        if field.name in _ALWAYS or value not in (field.default, None):
            lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: str | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # TOML's basic strings have JSON's escapes
