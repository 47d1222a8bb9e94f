"""Lists of revocations from files: read together, and again when one changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.certificate_authority import CertificateAuthority, Revocation
from outrider.identity.revocation import Revocations
from outrider.runtime import revocation_files
from outrider.runtime.revocation_files import RevocationFileError, RevocationFiles

NOW = datetime.now(UTC)
AUTHORITY = CertificateAuthority.create("Ours", NOW - timedelta(days=1))


def write_list(path: Path, *serials: int, number: int = 1) -> None:
    made = AUTHORITY.revocation_list([Revocation(one, NOW) for one in serials], NOW, number=number)
    path.write_bytes(made.public_bytes(Encoding.PEM))


@pytest.mark.covers("SEC-150")
def test_a_changed_file_is_read_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path, kept = tmp_path / "ca.crl", Revocations()
    write_list(path, 7)
    files = RevocationFiles([path], [AUTHORITY.certificate], kept)
    files.reload()
    assert kept.current.lists[0].serials == {7}
    assert not files.files_changed()
    write_list(path, 7, 8, number=2)
    assert files.files_changed()
    files.reload()
    assert kept.current.lists[0].serials == {7, 8}
    path.write_text("damaged")
    with pytest.raises(RevocationFileError, match="no list of revocations"):
        files.reload()
    assert kept.current.lists[0].serials == {7, 8}
    assert files.files_changed()


@pytest.mark.covers("SEC-150")
def test_files_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, missing, stranger = (tmp_path / name for name in ("good", "missing", "stranger"))
    write_list(good)
    impostor = CertificateAuthority.create("Ours", NOW)
    stranger.write_bytes(impostor.revocation_list([], NOW).public_bytes(Encoding.DER))
    for paths, number in (([good, missing], 1), ([stranger, good], 0)):
        with pytest.raises(RevocationFileError) as caught:
            RevocationFiles(paths, [AUTHORITY.certificate], Revocations()).reload()
        assert caught.value.number == number
    monkeypatch.setattr(revocation_files, "MAX_FILE_OCTETS", good.stat().st_size - 1)
    with pytest.raises(RevocationFileError, match="larger than"):
        RevocationFiles([good], [AUTHORITY.certificate], Revocations()).reload()


def test_no_files_are_no_lists(tmp_path: Path) -> None:
    kept = Revocations()
    before = kept.current
    files = RevocationFiles([], [], kept)
    files.reload()
    assert kept.current is before
    assert not files.files_changed()
