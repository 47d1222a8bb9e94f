"""AMDP's listener and commands as an operator has them: HTTPS by name, policies published and fetched."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.system.sites import Settings, site

NAMES = ("mx.alpha.example", "mhf-1.alpha.example", "amdp-mis.alpha.example")


def zone(address: str) -> str:
    return f"@ MX 10 mx\nmx A {address}\nmhf-1 A {address}\namdp-mis A {address}"


def settings(
    address: str, authority: CertificateAuthority, names: BindServer | None = None, **amdp: Any
) -> Settings:
    """A site with the roles mhf and mis; the policy's name has a certificate of its own, by SNI."""
    made = site("alpha.example", address, tls=authority.issue(*NAMES[:2]))
    by_name = authority.issue(NAMES[2])
    made["tls"] |= {
        "sni": [{"names": [NAMES[2]], "certificate": by_name.certificate, "key": by_name.key}],
    }
    made["listeners"].append({"protocol": "amdp", "address": address})
    made["amdp"] = {"roles": ["mhf", "mis"], "policy": {"contact": "postmaster@alpha.example"}} | amdp
    if names is not None:
        made["dns"] = {"servers": [f"{names.address}:{names.port}"]}
    return made


@contextmanager
def running(authority: CertificateAuthority, **amdp: Any) -> Iterator[OutriderServer]:
    address = loopback_address()
    with (
        BindServer({"alpha.example": zone(address)}) as names,
        OutriderServer(settings(address, authority, names, **amdp)) as server,
    ):
        yield server


def rows(server: OutriderServer, *words: str, code: int = 0) -> list[dict[str, Any]]:
    done = server.cli("amdp", *words, "--json", check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.covers("AMDP-16", "AMDP-8", "SEC-205")
def test_a_site_that_would_be_believed(authority: CertificateAuthority) -> None:
    """Asked as receivers ask: DNS, HTTPS at port 443, certificates by SNI; then changed by a reload."""
    with running(authority) as server:
        points = rows(server, "check", "alpha.example")
        assert [one["status"] for one in points] == ["ok"] * 3, points
        [shown] = rows(server, "policy", "show")
        [fetched] = rows(server, "policy", "fetch", "alpha.example")
        assert fetched == shown
        assert shown["contact"] == "postmaster@alpha.example"
        text = server.cli("amdp", "policy", "fetch", "alpha.example").stdout.decode()
        assert "DOMAIN alpha.example\n" in text

        changed = server.config_path.read_text().replace("postmaster@alpha", "someone@alpha")
        server.config_path.write_text(changed)
        stale = rows(server, "check", code=1)
        assert [one["remedy"] for one in stale if one["status"] == "wrong"] == ["outrider reload"]
        server.cli("reload")
        assert {one["status"] for one in rows(server, "check")} == {"ok"}
        _serves_its_names_only(server, authority)


def _serves_its_names_only(server: OutriderServer, authority: CertificateAuthority) -> None:
    """A client of its own kind; the certificate's name is the one it asked TLS for, whatever Host says."""
    [ready] = server.log_events("ready")
    [listener] = [one for one in json.loads(json.dumps(ready["listeners"])) if one.startswith("amdp ")]
    address = listener.removeprefix("amdp ").removesuffix(":443")
    context = ssl.create_default_context(cafile=str(authority.authority))
    context.check_hostname = False
    for host, status in ((NAMES[2], 200), (NAMES[1], 404), ("evil.example", 404)):
        request = urllib.request.Request(f"https://{address}/.well-known/amdp-policy", headers={"Host": host})
        if status == 200:
            with urllib.request.urlopen(request, context=context, timeout=60) as answer:
                assert answer.read().startswith(b"#")
        else:
            with pytest.raises(urllib.error.HTTPError, match=str(status)):
                urllib.request.urlopen(request, context=context, timeout=60)


@pytest.mark.covers("AMDP-8", "AMDP-16", "SEC-185")
def test_what_is_missing_is_told_with_its_remedy(authority: CertificateAuthority, address: str) -> None:
    """Nothing of it is in DNS."""
    with BindServer({"alpha.example": f"mx A {address}\n* A 127.0.0.9"}) as names:
        configured = settings(address, authority, names)
        configured["net"]["private_destinations"] = [address]
        with OutriderServer(configured) as server:
            facility, called, policy = rows(server, "check", "alpha.example", code=1)
            fetched = server.cli("amdp", "policy", "fetch", "alpha.example", check=False)
    assert fetched.returncode == 1
    assert b"private address" in fetched.stderr
    assert facility["status"] == "wrong"
    assert f"mhf-1.alpha.example. A {address}" in facility["remedy"]
    assert called["status"] == policy["status"] == "wrong"
    assert "private address" in policy["found"]
