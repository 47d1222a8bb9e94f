"""What a server offers in its reply to EHLO or LHLO (RFC 5321 section 4.1.1.1), and its limits (RFC 9422)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from outrider.model.reply import Reply

_KEYWORD: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,63})(?:[ =](.*))?")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")


@dataclass(frozen=True, slots=True)
class Offers:
    """The extensions of one server in one session; made anew after STARTTLS (TLS-1)."""

    extended: bool = False
    """EHLO or LHLO was accepted."""
    keywords: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Parameter text by keyword in upper case."""

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def largest_message(self) -> int:
        """SIZE (RFC 1870) in octets; 0 when there is none or no fixed limit."""
        return _number(self.keywords.get("SIZE", ""))

    @property
    def takes_chunks(self) -> bool:
        """BDAT may be used (RFC 3030)."""
        return "CHUNKING" in self.keywords

    @property
    def takes_binary(self) -> bool:
        """BODY=BINARYMIME may be used; it needs BDAT (RFC 3030 section 3)."""
        return "BINARYMIME" in self.keywords and self.takes_chunks

    @property
    def pipelining(self) -> bool:
        """Commands may be sent in groups (RFC 2920)."""
        return "PIPELINING" in self.keywords

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What may follow AUTH, in the server's order (RFC 4954 section 3)."""
        words = self.keywords.get("AUTH", "").upper().split(" ")
        return tuple(dict.fromkeys(word for word in words if _MECHANISM.fullmatch(word)))

    def limit(self, name: str) -> int:
        """A number from LIMITS (RFC 9422): MAILMAX, RCPTMAX, RCPTDOMAINMAX; 0 when not given."""
        for word in self.keywords.get("LIMITS", "").upper().split(" "):
            key, _, value = word.partition("=")
            if key == name:
                return _number(value)
        return 0


def read_offers(reply: Reply) -> Offers:
    """The offers in a positive reply to EHLO or LHLO. Its first line is a greeting; odd lines are skipped."""
    keywords: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        match = _KEYWORD.fullmatch(line.rstrip())
        if match is None:
            continue
        keyword, value = match[1].upper(), match[2] or ""
        if keyword == "AUTH" and keyword in keywords:
            value = f"{keywords[keyword]} {value}"  # old servers write "AUTH=LOGIN" as well
        keywords[keyword] = value
    return Offers(True, MappingProxyType(keywords))


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0
