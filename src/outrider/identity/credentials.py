"""The users file: who may log in, with what, and which sender addresses are theirs.

One line a user, ``#`` begins a comment line. A name, then words ``key=value`` parted by blanks::

    ann argon2=$argon2id$... scram=SCRAM-SHA-256$4096:SALT$STORED:SERVER senders=ann@a.example,@b.example
    hub certificates=hub.b.example,sha256:0f1e...

The SCRAM form is the one PostgreSQL uses. ``senders`` lists addresses, ``@domain`` for all of a domain, or
``*``; without it a user may use the login itself when that is an address, else the login at any domain of
ours. ``certificates`` lists host names (proven by a configured CA), mail addresses (by a private one) and
``sha256:`` fingerprints of certificates or public keys, for EXTERNAL. There is no password in the file and
none can be had from it.
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

from outrider.identity.saslprep import PreparationError, saslprep
from outrider.identity.scram import MAX_ITERATIONS, MIN_ITERATIONS, ScramVerifier, make_verifier
from outrider.model.address import Address, AddressError, Domain, parse_address, parse_domain

MAX_PASSWORD_OCTETS = 1024
"""More is refused before it is hashed (SEC-109)."""
_HASHER = argon2.PasswordHasher()  # argon2id in the second recommended form of RFC 9106 section 4
_NAME = re.compile(r"[^\s=\x00-\x1f\x7f]{1,255}")
_SCRAM = re.compile(r"SCRAM-SHA-256\$([0-9]{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_DECOY_SALT = b"outrider: no user"


class UsersFileError(ValueError):
    """The file cannot be used; the text is ``file:line: what, and what to do``."""


@dataclass(frozen=True, slots=True)
class User:
    """One line of the file."""

    name: str
    password_hash: str = field(default="", repr=False)
    """argon2id; "" = no PLAIN or LOGIN."""
    scram: ScramVerifier | None = field(default=None, repr=False)
    senders: tuple[str, ...] = ()
    certificate_names: tuple[str, ...] = ()
    """Host names, or mail addresses (of users' certificates, by a private CA)."""
    fingerprints: tuple[str, ...] = ()
    """SHA-256 of certificate or public key, 64 lower-case hexadecimal digits."""

    def may_send_as(self, sender: Address, own_domains: Iterable[str] = (), separator: str = "+") -> bool:
        """Whether the reverse-path is this user's to use (SEC-110); ``ann+shop`` goes with ``ann``."""
        local, domain = sender.local.casefold(), sender.domain
        locals_ = {local, local.partition(separator)[0]} if separator else {local}
        if not self.senders:
            return self._is_own(locals_, domain, own_domains)
        return any(_covers(entry, locals_, domain) for entry in self.senders)

    def _is_own(self, locals_: set[str], domain: Domain, own_domains: Iterable[str]) -> bool:
        if "@" in self.name:
            return _covers(self.name.casefold(), locals_, domain)
        return self.name.casefold() in locals_ and domain in own_domains


def _covers(entry: str, locals_: set[str], domain: Domain) -> bool:
    if entry == "*":
        return True
    local, _, at_domain = entry.rpartition("@")
    return at_domain == domain and (not local or local in locals_)


@dataclass(slots=True)
class UserTable:
    """All users of a file, found by login, certificate name or fingerprint."""

    users: tuple[User, ...] = ()
    _by_name: dict[str, User] = field(init=False, repr=False)
    _by_certificate: dict[str, User] = field(init=False, repr=False)
    _decoy: str = field(init=False, default="", repr=False)

    def __post_init__(self) -> None:
        self._by_name = {user.name.casefold(): user for user in self.users}
        self._by_certificate = {
            key: user for user in self.users for key in (*user.certificate_names, *user.fingerprints)
        }

    def find(self, login: str) -> User | None:
        """By login, without regard to case."""
        return self._by_name.get(login.casefold())

    def find_by_certificate(self, names: Iterable[str], fingerprints: Iterable[str]) -> User | None:
        """By proven names or fingerprints of a client certificate; fingerprints first."""
        for key in (*fingerprints, *names):
            user = self._by_certificate.get(key)
            if user is not None:
                return user
        return None

    @property
    def knows_certificates(self) -> bool:
        """Whether anybody can log in by certificate."""
        return bool(self._by_certificate)

    @property
    def usual_iterations(self) -> int:
        """What most SCRAM verifiers have: decoys must look alike."""
        counts = Counter(user.scram.iterations for user in self.users if user.scram)
        return counts.most_common(1)[0][0] if counts else MIN_ITERATIONS

    def check_password(self, login: str, password: str) -> bool:
        """Whether it is that user's password; takes as long for a user who does not exist (SEC-107).

        Tens of milliseconds and tens of megabytes: not for the event loop.
        """
        user = self.find(login)
        known = user is not None and bool(user.password_hash)
        stored = user.password_hash if user is not None and known else self._decoy_hash()
        try:
            _HASHER.verify(stored, _prepared(password))
        except (Argon2Error, InvalidHashError):
            return False
        return known

    def _decoy_hash(self) -> str:
        """A hash that costs what the users' hashes cost."""
        if not self._decoy:
            hashes = [user.password_hash for user in self.users if user.password_hash]
            hasher = _HASHER
            if hashes:
                hasher = argon2.PasswordHasher.from_parameters(argon2.extract_parameters(hashes[0]))
            self._decoy = hasher.hash(b"", salt=_DECOY_SALT[:16])
        return self._decoy


def _prepared(password: str) -> str:
    try:
        return saslprep(password)
    except PreparationError:
        return password  # made before there was a rule, or by another program: compared as it is


def make_user(
    name: str,
    password: str,
    *,
    salt: bytes,
    scram_salt: bytes,
    iterations: int = MIN_ITERATIONS,
    senders: tuple[str, ...] = (),
    certificates: tuple[str, ...] = (),
) -> User:
    """An entry from a password; the salts are 16 random octets each. Raises ValueError with a reason."""
    if not 1 <= len(password.encode()) <= MAX_PASSWORD_OCTETS:
        raise ValueError(f"a password has between 1 and {MAX_PASSWORD_OCTETS} octets")
    prepared = saslprep(password)
    words = [f"senders={','.join(senders)}"] if senders else []
    words += [f"certificates={','.join(certificates)}"] if certificates else []
    extra = _parse_line(" ".join([name, *words]), complete=False)
    return User(
        extra.name,
        _HASHER.hash(prepared, salt=salt),
        make_verifier(password, scram_salt, iterations),
        extra.senders,
        extra.certificate_names,
        extra.fingerprints,
    )


def format_user(user: User) -> str:
    """The line of the file, without a line end."""
    words = [user.name]
    if user.password_hash:
        words.append(f"argon2={user.password_hash}")
    if user.scram is not None:
        keys = f"{_base64(user.scram.stored_key)}:{_base64(user.scram.server_key)}"
        words.append(f"scram=SCRAM-SHA-256${user.scram.iterations}:{_base64(user.scram.salt)}${keys}")
    if user.senders:
        words.append(f"senders={','.join(user.senders)}")
    certificates = (*user.certificate_names, *(f"sha256:{print_}" for print_ in user.fingerprints))
    if certificates:
        words.append(f"certificates={','.join(certificates)}")
    return " ".join(words)


def parse_users(text: str, filename: str = "users") -> UserTable:
    """The whole file. Raises UsersFileError for the first line that is wrong."""
    users: dict[str, User] = {}
    certificates: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            user = _parse_line(stripped)
            _check_unique(user, users, certificates)
        except ValueError as error:
            raise UsersFileError(f"{filename}:{number}: {error}") from error
        users[user.name.casefold()] = user
    return UserTable(tuple(users.values()))


def _check_unique(user: User, users: dict[str, User], certificates: dict[str, str]) -> None:
    if user.name.casefold() in users:
        raise ValueError(f"{user.name} is here twice; remove one of the lines")
    for key in (*user.certificate_names, *user.fingerprints):
        if key in certificates:
            raise ValueError(f"the certificate {key} belongs to {certificates[key]} already")
        certificates[key] = user.name


def _parse_line(line: str, *, complete: bool = True) -> User:
    name, *words = line.split()
    if _NAME.fullmatch(name) is None:
        raise ValueError("the line must begin with a user name of at most 255 characters, without =")
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in ("argon2", "scram", "senders", "certificates"):
            raise ValueError(f"unknown word {key!r}; known are argon2=, scram=, senders=, certificates=")
        if key in values:
            raise ValueError(f"{key}= is here twice")
        values[key] = value
    if complete and not values.keys() & {"argon2", "scram", "certificates"}:
        raise ValueError(f"{name} has no argon2=, scram= or certificates=, so nothing to log in with")
    names, fingerprints = _parse_certificates(values.get("certificates", ""))
    return User(
        name,
        _parse_argon2(values.get("argon2", "")),
        _parse_scram(values["scram"]) if "scram" in values else None,
        tuple(_parse_sender(entry) for entry in values.get("senders", "").split(",") if entry),
        names,
        fingerprints,
    )


def _parse_argon2(value: str) -> str:
    if not value:
        return ""
    try:
        parameters = argon2.extract_parameters(value)
    except InvalidHashError as error:
        raise ValueError("argon2= is not an argon2 hash; make the line with `outrider user`") from error
    if parameters.type is not argon2.Type.ID:
        raise ValueError("argon2= must be argon2id; make the line with `outrider user`")
    if parameters.memory_cost > 1_048_576 or parameters.time_cost > 100:
        raise ValueError("argon2= costs more than 1 GiB or 100 passes for each login")
    return value


def _parse_scram(value: str) -> ScramVerifier:
    parts = _SCRAM.fullmatch(value)
    if parts is None:
        raise ValueError("scram= must look like SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY")
    iterations = int(parts[1])
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise ValueError(
            f"scram= has {iterations} iterations; allowed are {MIN_ITERATIONS} to {MAX_ITERATIONS}"
        )
    try:
        salt, stored, server = (binascii.a2b_base64(parts[n], strict_mode=True) for n in (2, 3, 4))
    except binascii.Error as error:
        raise ValueError("scram= holds malformed base64") from error
    if len(stored) != 32 or len(server) != 32 or not 8 <= len(salt) <= 64:
        raise ValueError("scram= holds keys or a salt of the wrong length")
    return ScramVerifier(iterations, salt, stored, server)


def _parse_sender(entry: str) -> str:
    try:
        if entry == "*":
            return entry
        if entry.startswith("@"):
            return f"@{parse_domain(entry[1:])}"
        address = parse_address(entry)
    except AddressError as error:
        raise ValueError(f"senders= {entry!r}: {error}; write an address, @domain or *") from error
    return f"{address.local.casefold()}@{address.domain}"


def _parse_certificates(value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names: list[str] = []
    fingerprints: list[str] = []
    for entry in filter(None, value.split(",")):
        kind, colon, digits = entry.partition(":")
        if colon and kind.casefold() == "sha256":
            fingerprints.append(normal_fingerprint(digits))
            continue
        try:
            names.append(_certificate_name(entry))
        except AddressError as error:
            raise ValueError(
                f"certificates= {entry!r}: {error}; write a host name, a mail address or sha256:DIGITS"
            ) from error
    return tuple(names), tuple(fingerprints)


def _certificate_name(entry: str) -> str:
    """A host name, or a mail address in lower case, as `certificates.names_of` gives them."""
    local, at, domain = entry.rpartition("@")
    if at and not local:
        raise AddressError("nothing before the @")
    return f"{local.lower()}{at}{parse_domain(domain)}"


def normal_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hexadecimal digits, from a form with or without ``sha256:`` and
    colons. Raises ValueError."""
    digits = text.casefold().removeprefix("sha256:").replace(":", "")
    if _FINGERPRINT.fullmatch(digits) is None:
        raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits (colons between are allowed)")
    return digits


def _base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode("ascii")
