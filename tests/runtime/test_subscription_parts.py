"""How subscriptions and classification are joined: which services there are, with which keys and faults."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from tests.holding.subscription_peers import LocalCaller
from tests.lists.support import Observer
from tests.peers.outrider_server import to_toml
from tests.system.sites import site

from outrider.config.loader import load
from outrider.config.problems import ConfigError
from outrider.holding.web import WebRequest
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.maillog.emitter import Emitter
from outrider.maillog.metrics import Metrics
from outrider.maillog.subscriptions_log import SubscriptionsLog
from outrider.model.address import Domain
from outrider.model.message import MessageId
from outrider.runtime.assembly import Assembly, assemble
from outrider.runtime.listing import make_list_store, make_mailing
from outrider.runtime.subscription_names import (
    host_key,
    is_for,
    service_base,
    speaking_names,
    subscription_faults,
    subscription_root,
)
from outrider.runtime.subscription_parts import StoresCheck, Subscriptions, Surroundings, storing
from outrider.testing.ca import TlsFiles, write_tls_files
from outrider.testing.memory_spool import MemorySpool

NOW = 1_800_000_000.0


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    begin = datetime.fromtimestamp(NOW, UTC)
    authority = CertificateAuthority.create("Test CA", begin, kind="public")
    issued = authority.issue_host(["mx.b.example", "amdp-mis.b.example", "*.c.example"], begin)
    return write_tls_files(tmp_path / "tls", authority, issued)


@pytest.fixture
def assembly_of(tmp_path: Path, tls: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes assemblies with settings for [amdp]."""

    def make(**amdp: Any) -> Assembly:
        settings = site("b.example", "127.0.0.1", users=["ben"], amdp=amdp)
        settings["tls"] = {
            "certificate": tls.certificate,
            "key": tls.key,
            "public_ca": [str(tls.authority)],
        }
        settings["domains"]["b.example"]["deliver"] = f"maildir:{tmp_path}/mail/{{user}}"
        settings["domains"]["b.example"]["lists"] = {"staff": {"owners": ["ben"]}}
        path = tmp_path / "outrider.toml"
        path.write_text(to_toml({**settings, "data_dir": str(tmp_path / "data")}))
        monkeypatch.chdir(tmp_path)
        return assemble(load(path))

    return make


@pytest.fixture
def around(assembly_of: Any) -> Iterator[Any]:
    """Makes surroundings for an assembly; what is posted lies in `spool`."""
    stores = []
    counter = itertools.count(1)

    def make(assembly: Assembly, spool: MemorySpool) -> Surroundings:
        stores.append(make_list_store(assembly))
        mailing = make_mailing(assembly, lambda _: MessageId(f"M{next(counter):014d}"), lambda _: 0)
        return Surroundings(
            mailing,
            storing(spool, None, lambda: NOW),
            stores[-1],
            LocalCaller(),
            Observer(),
            lambda: NOW,
        )

    yield make
    for one in stores:
        one.close()


@pytest.mark.covers("AMDP-19")
async def test_the_role_makes_pages_and_programs_way_and_a_letter_lies_in_the_spool(
    assembly_of: Any, around: Any
) -> None:
    assembly = assembly_of(roles=["subscriptions"], port=8443)
    spool = MemorySpool()
    await spool.start(NOW)
    subscriptions = Subscriptions(assembly)
    parts = subscriptions.make(assembly, around(assembly, spool))
    pages, api = parts.services
    assert (parts.classes, parts.wishes is None, len(parts.background)) == (None, False, 2)
    assert pages.serves("amdp-mis.b.example", "/subscriptions")
    assert not pages.serves("mx.elsewhere.example", "/subscriptions")
    running = [asyncio.ensure_future(run()) for run in parts.background]
    body = b'{"wish": "accept", "address": "ben@b.example", "sender": "news.example"}'
    request = WebRequest(
        "POST",
        "amdp-mis.b.example",
        "/amdp/v1/subscriptions/apply",
        {},
        {"content-type": "application/json"},
        body,
        ip_address("192.0.2.1"),
        NOW,
    )
    assert (await api.answer(request)).status == 200
    async with asyncio.timeout(60):
        while not (await spool.counts()).ready:
            await asyncio.sleep(0.01)
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    subscriptions.close()
    await spool.close()


@pytest.mark.covers("AMDP-18", "AMDP-19")
def test_without_roles_there_is_nothing_and_services_chosen_make_a_directory(
    assembly_of: Any, around: Any, tmp_path: Path
) -> None:
    assembly = assembly_of()
    subscriptions = Subscriptions(assembly)
    spool = MemorySpool()
    parts = subscriptions.make(assembly, around(assembly, spool))
    assert (parts.services, parts.wishes, parts.classes, parts.background) == ((), None, None, ())
    (tmp_path / "classes").write_text("b.example *::Personal::*\n")
    classification = {"services": ["https://classes.example"], "vouched": "classes"}
    assembly = assembly_of(roles=["classification"], classification=classification)
    parts = subscriptions.make(assembly, around(assembly, spool))
    assert parts.classes is not None
    [service] = parts.services
    assert service.serves("amdp-mis.b.example", "/.well-known/amdp-class")
    assert list(subscription_faults(assembly.config)) == []
    subscriptions.close()


def test_links_lead_to_where_the_policy_says(assembly_of: Any) -> None:
    domain = Domain("b.example")
    assert service_base(assembly_of().config, domain) == "https://amdp-mis.b.example"
    assert subscription_root(assembly_of().config, domain) == ""
    config = assembly_of(roles=["subscriptions"], port=8443).config
    assert subscription_root(config, domain) == "https://amdp-mis.b.example:8443/subscriptions"
    config = assembly_of(roles=["subscriptions"], policy={"subscribe_synch": "lists.b.example"}).config
    assert subscription_root(config, domain) == "https://lists.b.example/subscriptions"


@pytest.mark.covers("SEC-207")
def test_a_host_signs_under_names_of_its_certificate_alone(assembly_of: Any, tls: TlsFiles) -> None:
    assembly = assembly_of()
    names = ("mhf-1.b.example", "amdp-mis.b.example")
    key = host_key(assembly.config, names)
    assert key is not None
    assert key.host == "amdp-mis.b.example"
    assert host_key(assembly.config, ("mhf-1.b.example", "x.y.c.example")) is None
    assert is_for(tls.certificate, "mhf-1.c.example")
    assert not is_for(tls.key, "amdp-mis.b.example")
    assert "mhf-16.b.example" in speaking_names(Domain("b.example"))
    certificate, secret = key.read()
    assert secret.decode() not in repr(key)
    assert b"CERTIFICATE" in certificate
    assert not StoresCheck(assembly.amdp_stores).belongs((b"nonsense",), "amdp-mis.b.example", NOW)


@pytest.mark.parametrize(
    ("amdp", "key"),
    [
        ({"subscriptions": {"peers": ["http://peer.example"]}}, "amdp.subscriptions.peers[0]"),
        ({"subscriptions": {"synch_clients": ["no domain"]}}, "amdp.subscriptions.synch_clients[0]"),
        ({"classification": {"services": ["classes.example"]}}, "amdp.classification.services[0]"),
        ({"classification": {"vouched": "missing"}}, "amdp.classification.vouched"),
        ({"roles": ["classification"], "policy": {"subscribe_synch": "a.example"}}, "amdp.roles"),
    ],
)
def test_faults_of_the_settings_are_named(assembly_of: Any, amdp: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assembly_of(**amdp)
    assert [one.key for one in caught.value.problems] == [key]


def test_what_happens_is_logged_and_counted(tmp_path: Path) -> None:
    lines: list[str] = []

    class Kept(Emitter):
        def __init__(self) -> None:
            pass

        def emit(self, level: Any, event: str, **values: Any) -> None:
            lines.append(event)

    metrics = Metrics()
    log = SubscriptionsLog(Kept(), metrics)
    log.subscription_asked("a@b.example", "x *", "accept", letter=True)
    log.subscription_changed("a@b.example", "x *", "accept", "test")
    log.subscription_refused("192.0.2.1", "apply", "too many")
    log.addresses_synchronised("x.example", "x *", 10, 1, told=True)
    log.peer_synchronised("peer.example", 1, 0)
    log.class_looked_up("x.example", "", 0, answered=False)
    log.class_reported("x.example", "a::b::c", "y.example", counted=True, withdrawn=True)
    log.subscriptions_failed("a page", RuntimeError("x"))
    assert len(lines) == 8
    page = metrics.page()
    assert b'what="asked"' in page if isinstance(page, bytes) else 'what="asked"' in page
