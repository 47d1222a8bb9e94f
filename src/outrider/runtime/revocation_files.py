"""Lists of revocations (CRLs) from the files that `[tls] crl` names, read again when one changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from outrider.identity.revocation import RevocationList, Revocations, RevocationSet, read_revocation_list

MAX_FILE_OCTETS = 33_554_432
"""A list of half a million certificates has about 20 MB; more is not what was meant (SEC-150)."""

_Stamp = tuple[int, int, int] | None


class RevocationFileError(Exception):
    """A list cannot be used; `number` is its place in the setting."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(problem)
        self.number = number


class RevocationFiles:
    """The files, and the place where all who judge certificates find what was in them."""

    def __init__(
        self, paths: Sequence[Path], authorities: Sequence[x509.Certificate], kept: Revocations
    ) -> None:
        """Nothing is read yet. `authorities`: of both CA sets, to check the lists' signatures by."""
        self._paths = tuple(paths)
        self._authorities = tuple(authorities)
        self._kept = kept
        self._stamps: tuple[_Stamp, ...] = ()

    @property
    def lists(self) -> tuple[RevocationList, ...]:
        """What is in use, for those who warn of lists that run out."""
        return self._kept.current.lists

    def files_changed(self) -> bool:
        """Whether a file was replaced or written since it was last read; a cheap question for a timer."""
        return self._stamp() != self._stamps

    def reload(self) -> None:
        """Read all files. Raises :class:`RevocationFileError`, and changes nothing, if one is bad."""
        stamps = self._stamp()
        lists = [self._read(number, path) for number, path in enumerate(self._paths)]
        if lists or self._kept.current.lists:
            self._kept.current = RevocationSet(lists)
        self._stamps = stamps

    def _read(self, number: int, path: Path) -> RevocationList:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_OCTETS + 1)
        except OSError as error:
            raise RevocationFileError(number, f"{path}: {error.strerror}") from None
        if len(content) > MAX_FILE_OCTETS:
            raise RevocationFileError(number, f"{path}: larger than {MAX_FILE_OCTETS // 1_048_576} MiB")
        try:
            return read_revocation_list(content, str(path), self._authorities)
        except ValueError as error:
            raise RevocationFileError(number, str(error)) from None

    def _stamp(self) -> tuple[_Stamp, ...]:
        return tuple(_file_stamp(path) for path in self._paths)


def _file_stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
