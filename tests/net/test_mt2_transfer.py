"""MT2 between two drivers under TLS: messages, many at once, refusals, damage, both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.net.mt2_harness import CLIENT, SERVER, Site, hop, message, results, running, until
from tests.peers.certificates import CertificateAuthority

from outrider.delivery.interface import ConnectFailed, RequirementUnmet
from outrider.identity.mt2_identity import Mt2Identity
from outrider.model.result import Kind
from outrider.net.mt2_incoming import HELD_OCTETS
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import err
from outrider.protocols.mt2.events import BODY_TYPE, ENVELOPE_TYPE, HEADERS_TYPE
from outrider.protocols.mt2.options import Offer


@pytest.fixture
def server(address: str, authority: CertificateAuthority) -> Site:
    return Site(SERVER, address, authority)


@pytest.fixture
def client(authority: CertificateAuthority) -> Site:
    return Site(CLIENT, "", authority)


@dataclass(frozen=True)
class Pieces:
    """A body of any size, which is nowhere as a whole; it may break off."""

    size: int
    breaks_at: int = 0

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        given = 0
        while given < self.size:
            if self.breaks_at and given >= self.breaks_at:
                raise OSError("damaged")
            piece = min(size, self.size - given)
            given += piece
            yield b"x" * piece


# --- the ordinary session ---------------------------------------------------------------------------


@pytest.mark.covers("MT2-10a", "MT2-10b", "MT2-17")
async def test_a_message_in_three_objects_from_a_proven_host(server: Site, client: Site) -> None:
    async with running(server):
        connection = await client.connect(hop(server.address))
        [result] = results(await connection.send(message(1)))
        await connection.close()
        await server.told.ended.wait()
    assert result.kind is Kind.DELIVERED
    assert result.protocol == "mt2"
    assert "TLSv1.3" in result.tls
    [kept] = server.reception.committed
    assert bytes(kept.objects[HEADERS_TYPE].octets).startswith(b"From: ann@a.example")
    assert bytes(kept.objects[BODY_TYPE].octets).endswith(b"hi\r\n")
    [found] = server.reception.found
    assert isinstance(found, Mt2Identity)
    assert found.name == CLIENT
    assert server.told.lines[-1] == "ended the other side ended the session by QUIT 1"
    assert server.reception.open_sessions == 0


@pytest.mark.covers("MT2-18d")
async def test_many_messages_are_under_way_on_one_connection(server: Site, client: Site) -> None:
    server.reception.commit_gate = asyncio.Event()
    async with running(server):
        connection = await client.connect(hop(server.address))
        assert connection.parallel == 32
        sending = [asyncio.create_task(connection.send(message(n))) for n in range(20)]
        await until(lambda: len(server.reception.transfers) == 20)
        assert not server.reception.committed
        server.reception.commit_gate.set()
        done = await asyncio.gather(*sending)
        await connection.close()
    assert all(results(one)[0].kind is Kind.DELIVERED for one in done)
    assert len(server.reception.committed) == 20
    assert server.told.lines.count("tls TLSv1.3") == 1


@pytest.mark.covers("MT2-18d")
async def test_where_pipelining_is_refused_messages_follow_each_other(server: Site, client: Site) -> None:
    server.reception.granted = Offer()
    async with running(server):
        connection = await client.connect(hop(server.address))
        assert connection.parallel == 1
        for number in range(3):
            [result] = results(await connection.send(message(number)))
            assert result.kind is Kind.DELIVERED
        await connection.close()


@pytest.mark.covers("MT2-14", "MT2-18c")
async def test_a_body_much_larger_than_the_window_waits_for_the_disk(server: Site, client: Site) -> None:
    size = 40 * HELD_OCTETS
    server.reception.write_gate = asyncio.Event()
    async with running(server):
        connection = await client.connect(hop(server.address))
        sending = asyncio.create_task(connection.send(message(1, Pieces(size))))
        await until(lambda: any(BODY_TYPE in one.objects for one in server.reception.transfers.values()))
        server.reception.write_gate.set()
        [result] = results(await sending)
        await connection.close()
    assert result.kind is Kind.DELIVERED
    assert server.reception.committed[0].objects[BODY_TYPE].size > size


# --- refusals and damage ----------------------------------------------------------------------------


@pytest.mark.covers("MT2-16")
async def test_each_recipient_has_its_own_result(server: Site, client: Site) -> None:
    answers = {
        "bob@peer.example": err(codes.UNKNOWN_RECIPIENT),
        "eve@peer.example": err(codes.RECIPIENT_NOT_NOW, text="The mailbox is busy."),
    }
    server.reception.refuse_recipient = answers.get
    people = ("ann@peer.example", *answers)
    async with running(server):
        connection = await client.connect(hop(server.address))
        found = results(await connection.send(message(1, b"hi\r\n", *people)))
        await connection.close()
    assert [one.kind for one in found] == [Kind.DELIVERED, Kind.FAILED, Kind.DEFERRED]
    assert [one.status for one in found] == ["2.0.0", "5.1.1", "4.2.1"]
    assert "The mailbox is busy." in found[2].text
    assert len(server.reception.committed) == 1


@pytest.mark.covers("MT2-15")
async def test_a_refused_envelope_ends_the_transfer_and_not_the_session(server: Site, client: Site) -> None:
    def refuse(request: object) -> codes.Result | None:
        media_type, transfer = getattr(request, "media_type", ""), getattr(request, "transfer", "")
        return err(codes.SENDER_REFUSED) if media_type == ENVELOPE_TYPE and "m1@" in transfer else None

    server.reception.refuse_object = refuse
    async with running(server):
        connection = await client.connect(hop(server.address))
        first, second = await asyncio.gather(*(connection.send(message(n)) for n in (1, 2)))
        await connection.close()
    assert [one.kind for one in results(first)] == [Kind.FAILED]
    assert results(first)[0].status == "5.7.1"
    assert [one.kind for one in results(second)] == [Kind.DELIVERED]


@pytest.mark.covers("MT2-12")
async def test_a_body_that_cannot_be_read_is_called_off(server: Site, client: Site) -> None:
    async with running(server):
        connection = await client.connect(hop(server.address))
        [broken] = results(await connection.send(message(1, Pieces(5_000_000, breaks_at=2_000_000))))
        [whole] = results(await connection.send(message(2)))
        await connection.close()
    assert (broken.kind, broken.status) == (Kind.DEFERRED, "4.3.0")
    assert whole.kind is Kind.DELIVERED
    assert [one.transfer for one in server.reception.committed] == [f"m2@{CLIENT}"]
    assert any(line.startswith(f"aborted m1@{CLIENT}") for line in server.reception.log)


@pytest.mark.covers("MT2-12")
async def test_a_send_that_is_cancelled_takes_back_its_own_message(server: Site, client: Site) -> None:
    async with running(server):
        connection = await client.connect(hop(server.address))
        server.reception.write_gate = asyncio.Event()
        sending = asyncio.create_task(connection.send(message(1, Pieces(20_000_000))))
        other = asyncio.create_task(connection.send(message(2)))
        await until(lambda: bool(server.reception.transfers))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.reception.write_gate.set()
        [result] = results(await other)
        await until(lambda: any(line.startswith("aborted m1@") for line in server.reception.log))
        await connection.close()
    assert result.kind is Kind.DELIVERED
    assert [one.transfer for one in server.reception.committed] == [f"m2@{CLIENT}"]


@pytest.mark.covers("MT2-18a")
async def test_a_message_that_was_taken_is_not_taken_again(server: Site, client: Site) -> None:
    async with running(server):
        connection = await client.connect(hop(server.address))
        first = results(await connection.send(message(1)))
        second = results(await connection.send(message(1)))
        await connection.close()
    assert first[0].kind is second[0].kind is Kind.DELIVERED
    assert codes.ALREADY_TAKEN in second[0].text
    assert len(server.reception.committed) == 1


@pytest.mark.covers("MT2-18a")
@pytest.mark.parametrize(
    ("code", "answered"),
    [("", True), (codes.CONTENT_REFUSED, True), (codes.TOO_BUSY, False), (codes.IN_TRANSFER, False)],
)
async def test_what_may_be_sent_again_is_not_called_answered(
    server: Site, client: Site, code: str, answered: bool
) -> None:
    """Whoever has written it down must keep it then."""
    server.reception.refuse_object = lambda request: err(code) if code else None
    async with running(server):
        connection = await client.connect(hop(server.address))
        await connection.send(message(1))
        await connection.close()
    expected = [("m1", f"m1@{CLIENT}", SERVER)] if answered else []
    assert client.assembler.answers == expected


@pytest.mark.covers("MT2-12")
async def test_a_server_that_goes_away_finishes_what_it_has(server: Site, client: Site) -> None:
    server.reception.commit_gate = asyncio.Event()
    async with running(server):
        connection = await client.connect(hop(server.address))
        sending = asyncio.create_task(connection.send(message(1)))
        await until(lambda: bool(server.reception.transfers))
        assert server.listener is not None
        stopping = asyncio.create_task(server.listener.stop(30))
        await until(lambda: not connection.usable)
        server.reception.commit_gate.set()
        [result] = results(await sending)
        await stopping
    assert result.kind is Kind.DELIVERED


@pytest.mark.covers("MT2-17")
async def test_a_message_is_stored_to_its_end_though_its_sender_is_gone(server: Site, client: Site) -> None:
    server.reception.commit_gate = asyncio.Event()
    async with running(server):
        connection = await client.connect(hop(server.address))
        sending = asyncio.create_task(connection.send(message(1)))
        await until(lambda: any(len(one.objects) == 2 for one in server.reception.transfers.values()))
        connection.abort()
        [result] = results(await sending)
        assert result.kind is Kind.DEFERRED
        server.reception.commit_gate.set()
        await until(lambda: server.reception.open_sessions == 0)
    assert len(server.reception.committed) == 1


# --- who is it --------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-10b", "MT2-27")
async def test_a_server_with_another_name_gets_no_mail(server: Site, client: Site) -> None:
    async with running(server):
        with pytest.raises(RequirementUnmet) as caught:
            await client.connect(hop(server.address, host="other.example"))
    assert caught.value.result.kind is Kind.DEFERRED
    assert "not proven" in caught.value.result.text
    assert server.reception.found == []


@pytest.mark.covers("MT2-9")
async def test_in_the_clear_mail_goes_where_both_sides_say_so(
    address: str, authority: CertificateAuthority, client: Site
) -> None:
    server = Site(SERVER, address, authority, with_tls=False)
    async with running(server):
        connection = await client.connect(hop(server.address, level="none"))
        [result] = results(await connection.send(message(1)))
        await connection.close()
    assert result.kind is Kind.DELIVERED
    assert result.tls == ""
    [found] = server.reception.found
    assert not isinstance(found, Mt2Identity)


@pytest.mark.covers("MT2-9")
async def test_a_server_without_tls_is_not_spoken_to(
    address: str, authority: CertificateAuthority, client: Site
) -> None:
    server = Site(SERVER, address, authority, with_tls=False)
    async with running(server):
        with pytest.raises(ConnectFailed) as caught:
            await client.connect(hop(server.address))
    assert caught.value.answered


@pytest.mark.covers("MT2-10b")
async def test_a_client_that_is_refused_waits_for_a_person(
    server: Site, client: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        server.reception, "identified", lambda *_: err(codes.HOST_REFUSED, text="Not from you.")
    )
    async with running(server):
        with pytest.raises(RequirementUnmet) as caught:
            await client.connect(hop(server.address))
    assert "Not from you." in caught.value.result.text
    assert any(line.startswith("not believed") for line in client.told.lines)


# --- both directions --------------------------------------------------------------------------------


@pytest.mark.covers("MT2-18e")
async def test_a_server_sends_its_own_mail_on_the_connection_of_a_proven_client(
    address: str, authority: CertificateAuthority
) -> None:
    server = Site(SERVER, address, authority, full_duplex=True)
    client = Site(CLIENT, "", authority, full_duplex=True)
    async with running(server):
        connection = await client.connect(hop(server.address))
        back = await server.connect(hop("127.99.99.99", host=CLIENT))
        assert "127.99.99.99" not in back.description
        there = asyncio.gather(*(connection.send(message(f"a{n}", Pieces(3_000_000))) for n in range(3)))
        home = asyncio.gather(*(back.send(message(f"b{n}", Pieces(3_000_000))) for n in range(3)))
        done = [*await there, *await home]
        await back.close()
        assert connection.usable
        await connection.close()
        await until(lambda: server.callers.find(CLIENT) is None)
    assert all(results(one)[0].kind is Kind.DELIVERED for one in done)
    assert len(server.reception.committed) == len(client.reception.committed) == 3
    assert client.told.errors == []


@pytest.mark.covers("MT2-18e")
async def test_mail_for_another_host_does_not_go_to_whoever_has_called(
    address: str, authority: CertificateAuthority
) -> None:
    server = Site(SERVER, address, authority, full_duplex=True)
    client = Site(CLIENT, "", authority, full_duplex=True)
    async with running(server):
        connection = await client.connect(hop(server.address))
        with pytest.raises(ConnectFailed):
            await server.connect(hop("127.99.99.99", host="third.example"))
        await connection.close()
