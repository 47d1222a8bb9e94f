"""A Postfix that speaks SMTP under TLS with a client certificate, at an AMTP port (AMTP-11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import TlsFiles
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.tools import Swaks
from tests.system.amtp_callers import PORT, World
from tests.system.sites import CONTENT

NAME = "mail.beta.example"


@pytest.mark.covers("AMTP-11", "AMTP-3")
def test_its_mail_is_refused_for_want_of_a_code_and_its_bounce_says_so(
    tmp_path: Path, swaks_client: Swaks
) -> None:
    world = World(tmp_path)
    address = loopback_address()
    world.know(address, NAME)
    made = world.maker.host(world.public, f"DNS:{NAME}")
    postfix = PostfixServer(
        address,
        hostname=NAME,
        local_domains=["beta.example"],
        users=["ann"],
        relay_to={"alpha.example": (world.address, PORT)},
        tls=TlsFiles(made.certificate, made.key, world.public.certificate),
        main_cf={"smtp_tls_wrappermode": "yes", "smtp_tls_security_level": "encrypt"},
    )
    with world.name_server() as dns, OutriderServer(world.settings(dns)) as server, postfix:
        sent = swaks_client.send(
            address, 25, sender="ann@beta.example", recipients=["bob@alpha.example"], content=CONTENT
        )
        assert sent.accepted, sent.transcript
        [bounce] = postfix.wait_messages("ann")
        refused = server.wait_event("command_refused")[0]  # what it pipelined behind MAIL fell with it
        assert not server.log_events("amtp_refused")
    assert b"MAIL needs an MPC parameter" in bounce
    assert refused["command"] == "MAIL"
