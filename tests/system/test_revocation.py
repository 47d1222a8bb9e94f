"""Lists of revocations before a running server: heeded, read again when they change, missed when they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.identity.openssl import Registry
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.amtp_callers import Caller, World
from tests.system.test_configuration import assert_one_line, run, write

NAME = "mail.beta.example"
AGREED = {"reload_interval": 1.0}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def greeted(world: World, caller: Caller) -> int:
    """The answer to EHLO."""
    with caller.connect(world.address) as link:
        return link.code(f"EHLO {NAME}")


@pytest.mark.covers("ITP-2a", "SEC-150", "AMTP-3")
def test_a_host_whose_certificate_is_revoked_is_refused_once_the_list_says_so(world: World) -> None:
    caller = world.host(NAME)
    assert caller.certificate is not None
    registry = Registry(world.public, world.folder / "registry")
    path = world.folder / "public.crl"
    path.write_bytes(registry.list())
    settings = {"crl": [str(path)], **AGREED}
    with world.name_server() as dns, OutriderServer(world.settings(dns, tls=settings)) as server:
        assert greeted(world, caller) == 250
        registry.revoke(caller.certificate)
        path.write_bytes(registry.list())
        server.wait_event("revocations_reloaded")
        assert greeted(world, caller) == 504
        [refused] = server.wait_event("amtp_refused")
        assert refused["check"] == "revoked"
        path.write_text("damaged")
        server.wait_event("revocation_reload_failed")
        assert greeted(world, caller) == 504


@pytest.mark.covers("AMTP-3", "SEC-150")
def test_a_list_that_has_run_out_is_told_and_means_451(world: World) -> None:
    caller = world.host(NAME)
    path = world.folder / "public.crl"
    path.write_bytes(Registry(world.public, world.folder / "registry").list(seconds=3))
    settings = {"crl": [str(path)], **AGREED}
    with world.name_server() as dns, OutriderServer(world.settings(dns, tls=settings)) as server:
        assert server.wait_event("revocation_list_stale")[0]["file"] == str(path)
        wait_until(lambda: greeted(world, caller) == 451, "451 for want of a list")


@pytest.mark.covers("SEC-150", "AMTP-19")
def test_lists_and_authorities_that_cannot_stand_are_found_at_the_start(world: World) -> None:
    bad = world.folder / "bad.crl"
    bad.write_text("damaged")
    stranger = Registry(world.maker.root("Public root"), world.folder / "stranger")
    forged = world.folder / "forged.crl"
    forged.write_bytes(stranger.list())
    public = str(world.public.certificate)
    for number, (table, words) in enumerate(
        (
            ({"crl": [str(bad)]}, ("tls.crl[0]", "no list of revocations")),
            ({"crl": [str(forged)]}, ("tls.crl[0]", "not signed by the CA")),
            ({"private_ca": [public]}, ("tls.private_ca", "Public root is in the public set too")),
        )
    ):
        folder = world.folder / f"{number}"
        folder.mkdir()
        settings = {
            **world.settings(None, tls=table),
            "listeners": [{"protocol": "smtp", "address": "127.0.0.1"}],
        }
        path = write(folder, settings)
        assert_one_line(run(path, "check-config"), path, *words)
