"""A transfer that broke off goes on where it stood, although one of the two was restarted meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.cutting_proxy import CuttingProxy
from tests.system.mt2_sites import MT2_PORT, mt2_pair
from tests.system.sites import mailbox, wait_mailbox
from tests.system.test_mt2_sending import SmtpFeeder, numbers

LINES = 120_000
"""Nearly eight million octets: more than what is asked about by STAT in any case."""
CUT_AT = 5_000_000
NEVER_THROUGH = [CUT_AT, *([400] * 10_000)]


@dataclass(frozen=True, slots=True)
class Broken:
    """Two sites, the connection between them cut amid a body for as long as `proxy` is not mended."""

    alpha: OutriderServer
    beta: OutriderServer
    proxy: CuttingProxy
    held: int


@contextmanager
def broken_off(address: str, authority: CertificateAuthority, *, with_rsa: bool = False) -> Iterator[Broken]:
    far, between = loopback_address(), loopback_address()
    zones = {"beta.example": f"@ MX 10 mx\nmx A {between}\n_mt2._tcp SRV 10 1 {MT2_PORT} mx"}
    files = authority.issue("mx.alpha.example", "alpha.example", with_rsa=with_rsa)
    sending = {
        "delivery": {"protocols": ["mt2"], "retry": [0.2]},
        "tls": {"certificate": files.certificate, "key": files.key},
    }
    with (
        CuttingProxy((between, MT2_PORT), (far, MT2_PORT), NEVER_THROUGH) as proxy,
        mt2_pair(address, far, authority, zones=zones, alpha=sending) as (alpha, beta, _),
    ):
        feeder = SmtpFeeder(address)
        feeder.send(1, LINES)
        feeder.close()
        [kept] = beta.wait_event("transfer_kept")
        yield Broken(alpha, beta, proxy, int(str(kept["octets"])))


def goes_on(sites: Broken) -> None:
    """What was held is not sent again, and the message arrives once."""
    sites.proxy.mend()
    assert numbers(wait_mailbox(sites.beta, "bob")) == [1]
    wait_until(lambda: len(sites.alpha.log_events("delivered")) == 1, "the end of it")
    resumed = [event for event in sites.beta.log_events("transfer_resumed") if event["octets"]]
    assert resumed
    assert int(str(resumed[-1]["octets"])) >= sites.held > 1_000_000
    assert len(mailbox(sites.beta, "bob")) == 1


@pytest.mark.covers("MT2-18a", "MT2-18b", "MT2-23b")
@pytest.mark.parametrize("with_rsa", [True, False], ids=["RSA", "EC"])
def test_a_sender_that_was_killed_goes_on_with_the_very_same_transfer(
    address: str, authority: CertificateAuthority, with_rsa: bool
) -> None:
    with broken_off(address, authority, with_rsa=with_rsa) as sites:
        sites.alpha.kill()
        sites.alpha.start()
        goes_on(sites)


@pytest.mark.covers("MT2-18b", "MT2-13")
def test_a_receiver_that_was_restarted_goes_on_with_what_it_had(
    address: str, authority: CertificateAuthority
) -> None:
    with broken_off(address, authority) as sites:
        sites.beta.restart()
        goes_on(sites)
        assert not list((sites.beta.folder / "data" / "mt2" / "partials").iterdir())


@pytest.mark.covers("MT2-18b", "MT2-18a")
def test_one_that_was_killed_takes_the_message_anew_and_once(
    address: str, authority: CertificateAuthority
) -> None:
    with broken_off(address, authority) as sites:
        sites.beta.kill()
        sites.beta.start()
        sites.proxy.mend()
        assert numbers(wait_mailbox(sites.beta, "bob")) == [1]
        wait_until(lambda: len(sites.alpha.log_events("delivered")) == 1, "the end of it")
        assert not sites.beta.log_events("transfer_resumed")
        assert len(mailbox(sites.beta, "bob")) == 1
