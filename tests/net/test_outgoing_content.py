"""A message's Mail Policy Code on its way out: a field for other protocols, never one for AMTP (AMTP-14)."""

from __future__ import annotations

import pytest
from tests.net.client_jobs import HELLO, TRACE, dialler, hop, job, script, serving

from outrider.model.mpc import parse_mpc
from outrider.model.result import Kind
from outrider.net.outgoing_content import OutgoingContent, prepare, prepare_for_amtp
from outrider.protocols.smtp.client_content import Unsendable

OPTIN = parse_mpc("com/optin")
BODY = b"hi\r\n"


async def by_others(content: bytes, **envelope: object) -> bytes:
    found = await prepare(job(content, **envelope).message)
    assert isinstance(found, OutgoingContent)
    assert found.survey.size == len(found.whole() or b"")
    return found.headers


@pytest.mark.covers("AMTP-14")
async def test_other_protocols_get_the_code_as_a_field_on_top_of_the_trace() -> None:
    assert await by_others(HELLO + BODY, mpc=OPTIN) == b"MPC: com/optin\r\n" + TRACE + HELLO
    assert await by_others(HELLO + BODY) == TRACE + HELLO


@pytest.mark.covers("AMTP-14")
async def test_what_the_content_says_of_itself_stays_as_it_is_there() -> None:
    own = b"MPC: gov/individual\r\n" + HELLO
    assert await by_others(own + BODY, mpc=OPTIN) == b"MPC: com/optin\r\n" + TRACE + own
    assert await by_others(own + BODY) == TRACE + own


@pytest.mark.covers("AMTP-14")
@pytest.mark.parametrize(
    ("field", "kept"),
    [(b"", True), (b"mpc:\tCom/OptIn\r\n", True), (b"MPC: com/optout\r\n", False), (b"MPC: x\r\n", False)],
)
async def test_amtp_gets_no_field_or_the_message_does_not_go(field: bytes, kept: bool) -> None:
    found = await prepare_for_amtp(job(field + HELLO + BODY, mpc=OPTIN).message)
    if kept:
        assert isinstance(found, OutgoingContent)
        assert found.headers == TRACE + HELLO
    else:
        assert isinstance(found, Unsendable)
        assert found.status == "5.6.0"


@pytest.mark.covers("AMTP-14", "AMTP-11")
async def test_smtp_carries_the_field_and_never_the_parameter(address: str) -> None:
    answers = ("220 hi", "250 mx", "250 ok", "250 ok", "354 go", "250 taken", "221 bye")
    async with serving(address, script(*answers)) as server:
        where = hop(address, 2525, level="none")
        connection = await dialler().connect(where, where.addresses[0])
        [result] = (await connection.send(job(HELLO + BODY, mpc=OPTIN))).values()
        await connection.close()
    assert result.kind is Kind.RELAYED
    assert b"MPC=" not in server.heard
    assert b"\r\nMPC: com/optin\r\nReceived:" in server.heard
