"""File names out of mail, made fit for a person's disk (SEC-197)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

MAX_NAME: Final = 120
"""Characters; the extension is kept."""
_UNFIT: Final = re.compile(r'[<>:"|?*%;`$&\x00-\x1f\x7f]')
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE | re.DOTALL)
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EXTENSIONS: Final = {
    "text/plain": "txt",
    "text/html": "html",
    "text/calendar": "ics",
    "message/rfc822": "eml",
    "application/pdf": "pdf",
    "application/pgp-signature": "asc",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
}


def clean_name(name: str) -> str:
    """One component of a path, without what file systems, shells and readers stumble over; "" when nothing is
    left. What turns the direction of writing goes, so that `gpj.exe` cannot look like `exe.jpg`."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name[:1000])[-1])
    name = "".join(one for one in name if unicodedata.category(one) not in _INVISIBLE)
    name = re.sub(r"\s+", " ", _UNFIT.sub("_", name)).strip(" .")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return _shortened(name)


def _shortened(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 10:
        return name[:MAX_NAME].strip(" .")
    return f"{stem[: MAX_NAME - len(extension) - 1].strip(' .')}.{extension}"


def file_name(name: str, media_type: str, number: int) -> str:
    """The cleaned name, or one for a part that has none."""
    return clean_name(name) or f"part-{number}.{_EXTENSIONS.get(media_type, 'bin')}"


def saved_as(name: str) -> str:
    """A `Content-Disposition` that saves under a cleaned name (RFC 6266): plain ASCII for the old, RFC 8187
    for all others."""
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
