"""A way is what a route means: to whom a message is handed next. Strings become values here.

The same strings serve `[routes]`, `deliver =` of a domain, a policy rule's `route`, and `queue reroute`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from outrider.model.address import AddressError, parse_domain
from outrider.model.reply import is_status
from outrider.routing.channels import ANY_CHANNEL, Channel
from outrider.routing.tls_policy import NO_TLS, OPPORTUNISTIC, TlsRequirement

IPAddress = IPv4Address | IPv6Address

DEFAULT_PORTS = {
    "smtp": 25,
    "submission": 587,
    "smtps": 465,
    "lmtp": 24,
    "qmtp": 209,
    "amtp": 10_125,
    "mt2": 10_126,
}
"""AMTP and MT2 have none assigned; what is taken for them is [amtp] and [mt2] port, see `HostOptions`."""
PLACEHOLDERS = {
    "maildir": frozenset({"user", "domain", "detail", "address"}),
    "pipe": frozenset({"user", "domain", "detail", "address", "sender", "id"}),
}
MAX_WAY_LENGTH = 4096
"""Characters: an operator's command line fits, a runaway table entry does not."""

_KNOWN_WAYS = (
    "write mx, amdp, mt2:, amtp:, smtp:, submission:, smtps:, lmtp:, qmtp:, maildir:, pipe:, discard: "
    "or error:"
)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PORT = re.compile(r"[0-9]{1,5}")


class WayError(ValueError):
    """The text names no way; the argument says why, in words for the operator."""


@dataclass(frozen=True, slots=True)
class MxWay:
    """Where the domain's own records say: MX (RFC 5321 section 5.1), or SRV (AMTP-7, MT2-27)."""

    tls: TlsRequirement = OPPORTUNISTIC
    channel: Channel = ANY_CHANNEL

    def __str__(self) -> str:
        return "mx"


@dataclass(frozen=True, slots=True)
class HostWay:
    """One host, named by the operator or by an address literal in the recipient's address."""

    protocol: str
    """mt2, amtp, smtp, submission, smtps, lmtp, qmtp."""
    host: str
    """A name, an IP address without brackets, or "" for a unix socket."""
    port: int
    address: IPAddress | None = None
    """Set when `host` is an IP address: nothing is looked up."""
    socket_path: str = ""
    tls: TlsRequirement = OPPORTUNISTIC
    username: str = ""
    password_file: str = ""
    chosen_by_operator: bool = True
    """Then the host may be private: SMTP-7 guards against strangers' DNS and strangers' literals."""

    def __str__(self) -> str:
        if self.socket_path:
            return f"{self.protocol}:unix:{self.socket_path}"
        host = f"[{self.host}]" if self.address is not None else self.host
        return f"{self.protocol}:{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LocalWay:
    """A transport on this machine: maildir, pipe, discard, list, those of AMDP."""

    transport: str
    instruction: str
    """The text after the colon, checked, placeholders not yet replaced."""

    def __str__(self) -> str:
        return f"{self.transport}:{self.instruction}"


AMDP_TRANSPORTS = frozenset({"amdp-hold", "amdp-callback", "amdp-fetch", "amdp-receipt"})
"""What AMDP does with a message is an attempt of the queue: holding it and sending its envelope; for an
envelope that came, asking its holder, fetching the message, and confirming that it was received."""
HOLD = LocalWay("amdp-hold", "")
"""What the word `amdp` means as a route."""


@dataclass(frozen=True, slots=True)
class ErrorWay:
    """No way: every recipient gets this status and text (4.x.x waits, 5.x.x is returned)."""

    status: str
    text: str

    def __str__(self) -> str:
        return f"error:{self.status} {self.text}"


Way = MxWay | HostWay | LocalWay | ErrorWay


def is_private(way: Way) -> bool:
    """Whether mail stays within what the operator has arranged: this machine, or a host that he named.

    What came over a public AMTP connection goes no other way (AMTP-18). The domain's own records, and address
    literals of strangers, lead to public connections; which, is not known before DNS is asked.
    """
    match way:
        case MxWay():
            return False
        case HostWay():
            return way.chosen_by_operator
        case LocalWay(transport=HOLD.transport):
            return False  # it is fetched by whoever its envelope reaches
        case _:
            return True


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What a table under [routes] adds to a host: terms of TLS and a login."""

    tls: TlsRequirement = OPPORTUNISTIC
    username: str = ""
    password_file: str = ""
    channel: Channel = ANY_CHANNEL
    """For `mx`."""
    amtp_port: int = DEFAULT_PORTS["amtp"]
    """[amtp] port."""
    mt2_port: int = DEFAULT_PORTS["mt2"]
    """[mt2] port."""


NO_OPTIONS = HostOptions()


@lru_cache(maxsize=1024)
def parse_way(text: str, options: HostOptions = NO_OPTIONS) -> Way:
    """The way that a route string means. Raises WayError."""
    if len(text) > MAX_WAY_LENGTH or not text.isprintable():
        raise WayError("a way is one printable line")
    kind, colon, rest = text.partition(":")
    if text == "mx":
        _refuse_login(options, "mx")
        return MxWay(options.tls, options.channel)
    if text == "amdp":
        _refuse_login(options, "amdp")
        return HOLD
    if not colon:
        raise WayError(f"unknown way {text!r}; {_KNOWN_WAYS}")
    if kind in DEFAULT_PORTS:
        return _host_way(kind, rest, options)
    return _hostless_way(kind, rest, options)


def _hostless_way(kind: str, rest: str, options: HostOptions) -> Way:
    _refuse_login(options, kind)
    if kind == "error":
        status, _, words = rest.strip().partition(" ")
        if not is_status(status) or status[0] == "2":
            raise WayError("error: needs a status such as 5.1.1 or 4.3.0, then a text")
        return ErrorWay(status, words.strip() or "mail for this destination is not accepted")
    if kind in ("discard", "list") or kind in AMDP_TRANSPORTS:
        return LocalWay(kind, rest.strip())
    if kind == "maildir":
        return LocalWay("maildir", _checked_maildir(rest))
    if kind == "pipe":
        _check_placeholders("pipe", " ".join(split_command(rest)))
        return LocalWay("pipe", rest.strip())
    raise WayError(f"unknown way {f'{kind}:'!r}; {_KNOWN_WAYS}")


def _refuse_login(options: HostOptions, kind: str) -> None:
    if options.username:
        raise WayError(f"a login is for one named host, not for {kind!r}")


def _host_way(protocol: str, rest: str, options: HostOptions) -> HostWay:
    if protocol == "qmtp" and options.tls.required:
        raise WayError(f"tls = {options.tls.level!r} cannot be met by qmtp")
    if protocol in ("smtps", "amtp") and options.tls.level == "none":
        raise WayError(f'{protocol} is TLS from the first octet, but tls = "none"')
    extra = (options.tls, options.username, options.password_file)
    if rest.startswith("unix:"):
        return _socket_way(protocol, rest.removeprefix("unix:"), extra)
    own_ports = {"amtp": options.amtp_port, "mt2": options.mt2_port}
    host, port = _split_port(rest, own_ports.get(protocol, DEFAULT_PORTS[protocol]))
    if host.startswith("["):
        address = _bracketed(host)
        return HostWay(protocol, str(address), port, address, "", *extra)
    try:
        return HostWay(protocol, parse_domain(host), port, None, "", *extra)
    except AddressError as error:
        raise WayError(f"{host!r} is no host name ({error}); an IP address stands in brackets") from error


def _socket_way(protocol: str, path: str, extra: tuple[TlsRequirement, str, str]) -> HostWay:
    if protocol != "lmtp":
        raise WayError("only lmtp: can go to a unix socket")
    if not path.startswith("/"):
        raise WayError("unix: needs an absolute path")
    _, username, password_file = extra
    # No stranger is on that line: TLS is not asked for, whatever holds for destinations in general.
    return HostWay(protocol, "", 0, None, path, NO_TLS, username, password_file)


def _split_port(text: str, default: int) -> tuple[str, int]:
    bracket = text.rfind("]")
    host, colon, port = text[bracket + 1 :].rpartition(":")
    if not colon:
        return text, default
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise WayError(f"{port!r} is no port")
    return text[: bracket + 1] + host, int(port)


def _bracketed(host: str) -> IPAddress:
    inner = host[1:-1]
    if inner[:5].casefold() == "ipv6:":
        inner = inner[5:]
    try:
        return ip_address(inner)
    except ValueError as error:
        raise WayError(f"{host!r} is no IP address in brackets") from error


def _checked_maildir(path: str) -> str:
    path = path.strip()
    if not path.startswith("/"):
        raise WayError("maildir: needs an absolute path")
    if ".." in path.split("/"):
        raise WayError("maildir: a path may not contain '..'")
    _check_placeholders("maildir", path)
    return path


def _check_placeholders(transport: str, text: str) -> None:
    known = PLACEHOLDERS[transport]
    for match in _PLACEHOLDER.finditer(text):
        if match[1] not in known:
            names = ", ".join(f"{{{name}}}" for name in sorted(known))
            raise WayError(f"unknown placeholder {match[0]} in {transport}: (known: {names})")
    if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise WayError(f"a brace without its partner in {transport}:")


@lru_cache(maxsize=256)
def split_command(command: str) -> tuple[str, ...]:
    """A pipe's command line as an argument vector: split once, before any placeholder is replaced, so that
    no value can ever become a second argument or be read by a shell (SEC-69). Raises WayError."""
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise WayError(f"pipe: {error}") from error
    if not words:
        raise WayError("pipe: needs a command")
    if not words[0].startswith("/") or "{" in words[0]:
        raise WayError("pipe: needs the command's absolute path, without placeholders")
    return words


def replace_placeholders(text: str, values: dict[str, str]) -> str:
    """The text with each ``{name}`` replaced once; what a value contains is never looked at again."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
