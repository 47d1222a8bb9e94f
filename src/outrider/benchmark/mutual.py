"""What AMTP asks for before a first message: a CA, certificates for both sides, DNS that knows the client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from outrider.identity.certificate_authority import CertificateAuthority, Issued
from outrider.runtime.private_files import write_private

SERVER_NAME = "mx.bench.example"
CLIENT_NAME = "client.example"
_DAYS = 7


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files (PEM) of both sides."""

    authority: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path


def lay_down(folder: Path) -> Credentials:
    """Make a CA that anybody may use, and what it issues to server and client (P-256)."""
    now = datetime.now(UTC) - timedelta(days=1)
    authority = CertificateAuthority.create("bench", now, _DAYS, kind="public")
    found = Credentials(
        folder / "ca.pem",
        folder / "certificate.pem",
        folder / "key.pem",
        folder / "client.pem",
        folder / "client.key",
    )
    found.authority.write_bytes(authority.certificate_pem)
    _write(authority.issue_host([SERVER_NAME], now, _DAYS), found.certificate, found.key)
    _write(authority.issue_host([CLIENT_NAME], now, _DAYS), found.client_certificate, found.client_key)
    return found


def _write(issued: Issued, certificate: Path, key: Path) -> None:
    certificate.write_bytes(issued.certificate_pem)
    write_private(key, issued.key_pem)


class NameServer:
    """A DNS server on loopback that knows one host, forward and reverse, as a process of its own."""

    def __init__(self, folder: Path, name: str, address: str) -> None:
        self._zones = folder / "zones.json"
        self._name = name
        self._address = address
        self._process: subprocess.Popen[str] | None = None
        self.endpoint = ""
        """Address and port, as `[dns] servers` wants them."""

    def __enter__(self) -> Self:
        self._zones.write_text(json.dumps({"zones": _zones(self._name, self._address)}), "utf-8")
        command = [
            *(sys.executable, "-m", "outrider.playground.dns_server"),
            *("--zones", os.fspath(self._zones), "--address", "127.0.0.1", "--port", "0"),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        word, _, self.endpoint = self._process.stdout.readline().strip().partition(" ")
        if word != "ready":
            self.__exit__()
            raise RuntimeError("the name server for the benchmark did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.communicate()


def _zones(name: str, address: str) -> dict[str, dict[str, dict[str, list[str]]]]:
    kind = "A" if ip_address(address).version == 4 else "AAAA"
    reverse = ip_address(address).reverse_pointer
    return {name: {"@": {kind: [address]}}, reverse: {"@": {"PTR": [f"{name}."]}}}
