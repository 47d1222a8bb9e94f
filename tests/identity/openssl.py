"""Certificates made by OpenSSL's own command, so that they are not only what our maker thinks they are."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_LEAF = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "authorityKeyIdentifier=keyid",
    "subjectKeyIdentifier=hash",
)
_AUTHORITY = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
)


def run(*words: str, cwd: Path | None = None) -> bytes:
    """`openssl` with these words; its standard output."""
    done = subprocess.run(("openssl", *words), capture_output=True, check=False, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    above: tuple[Made, ...] = ()
    """Its issuers, nearest first."""

    @property
    def der(self) -> bytes:
        """As it goes over the wire."""
        return self.parsed.public_bytes(Encoding.DER)

    @property
    def parsed(self) -> x509.Certificate:
        """For CA stores."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    @property
    def chain(self) -> tuple[bytes, ...]:
        """As a peer presents it: without the root."""
        return (self.der, *(one.der for one in self.above[:-1]))


class OpenSsl:
    """Makes certificates in a folder; all are valid from now on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count = 0

    def root(self, name: str = "Root", extra: Sequence[str] = ()) -> Made:
        """A root authority, valid for ten years."""
        key, request = self._request(f"/CN={name}")
        return self._sign(request, key, None, (*_AUTHORITY, *extra), days=3650)

    def below(
        self, issuer: Made, name: str = "Intermediate", extra: Sequence[str] = (), limit: str = ""
    ) -> Made:
        """An authority below another; `limit` like ``,pathlen:0``."""
        key, request = self._request(f"/CN={name}")
        basic, *others = _AUTHORITY
        lines = (basic + limit, *others, "authorityKeyIdentifier=keyid", *extra)
        return self._sign(request, key, issuer, lines, days=3000)

    def host(
        self,
        issuer: Made | None,
        *names: str,
        subject: str = "/O=Test",
        usage: str | None = "serverAuth",
        days: int = 90,
        extra: Sequence[str] = (),
        public_key: Path | None = None,
        key_words: Sequence[str] = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    ) -> Made:
        """A host's certificate; `names` as in subjectAltName (``DNS:a.example``), none = no such extension.

        `issuer` None = self-signed. `public_key` stands in it instead of one with a private half.
        """
        key, request = self._request(subject, key_words)
        lines = [*(_LEAF if issuer is not None else _LEAF[:2]), *extra]
        if names:
            lines.append("subjectAltName=" + (names[0] if names[0].startswith("DER:") else ",".join(names)))
        if usage is not None:
            lines.append(f"extendedKeyUsage={usage}")
        return self._sign(request, key, issuer, lines, days, public_key)

    def _request(
        self,
        subject: str,
        key_words: Sequence[str] = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    ) -> tuple[Path, Path]:
        self._count += 1
        key, request = self.folder / f"{self._count}.key", self.folder / f"{self._count}.csr"
        words = ("-nodes", "-keyout", str(key), "-out", str(request), "-subj", subject, "-utf8")
        run("req", "-new", *key_words, *words)
        return key, request

    def _sign(
        self,
        request: Path,
        key: Path,
        issuer: Made | None,
        extensions: Sequence[str],
        days: int,
        public_key: Path | None = None,
    ) -> Made:
        stem = request.with_suffix("")
        settings = stem.with_suffix(".ext")
        settings.write_text("\n".join(extensions), "utf-8")
        signing = (
            ("-signkey", str(key))
            if issuer is None
            else ("-CA", str(issuer.certificate), "-CAkey", str(issuer.key), "-CAcreateserial")
        )
        forced = ("-force_pubkey", str(public_key)) if public_key else ()
        out = stem.with_suffix(".pem")
        words = ("-in", str(request), "-out", str(out), "-days", str(days), "-extfile", str(settings))
        run("x509", "-req", *words, *signing, *forced)
        above = () if issuer is None else (issuer, *issuer.above)
        return Made(out, key, above)


class Registry:
    """`openssl ca` for one authority: what it has revoked."""

    def __init__(self, authority: Made, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.txt").touch()
        (folder / "crlnumber").write_text("01\n")
        lines = (
            "[ca]",
            "default_ca = one",
            "[one]",
            f"database = {folder / 'index.txt'}",
            f"crlnumber = {folder / 'crlnumber'}",
            "default_md = sha256",
            "unique_subject = no",
            f"certificate = {authority.certificate}",
            f"private_key = {authority.key}",
            "crl_extensions = crl_ext",
            "[crl_ext]",
            "authorityKeyIdentifier = keyid:always",
        )
        self._settings = folder / "ca.cnf"
        self._settings.write_text("\n".join(lines))
        self._list = folder / "list.pem"

    def revoke(self, made: Made) -> None:
        """Take a certificate back."""
        run("ca", "-config", str(self._settings), "-revoke", str(made.certificate))

    def list(self, days: int = 7, seconds: int = 0) -> bytes:
        """The list of the moment, PEM; the next one is due after that time."""
        due = ("-crlsec", str(seconds)) if seconds else ("-crldays", str(days))
        run("ca", "-config", str(self._settings), "-gencrl", *due, "-out", str(self._list))
        return self._list.read_bytes()
