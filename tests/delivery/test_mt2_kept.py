"""A transfer that would not come out alike a second time is the same one after a restart (MT2-18a)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outrider.delivery.interface import Job
from outrider.delivery.mt2_assembler import Mt2Assembler
from outrider.delivery.mt2_kept import FILE, KeptTransfersOnDisk, TransferKey, TransferStore, Written
from outrider.delivery.mt2_sealing import MessageSealer, SealingKeys
from outrider.model.message import MessageId
from outrider.model.result import Kind
from outrider.tables.database import PostgresDatabase, SqliteDatabase, StoreUnavailable
from tests.delivery.mt2_desk import SITE, checked, key, keys, mail, transfers
from tests.identity.mt2_papers import NOW, Site

LETTER = b"From: ann@sender.example\r\nTo: bob@b.example\r\nSubject: x\r\n\r\nHello.\r\n"
RSA = Site("rsa")
DAY = 86_400.0

Open = Callable[[], TransferStore]


@contextmanager
def server(folder: Path, sealing: SealingKeys, **options: object) -> Iterator[Mt2Assembler]:
    """An assembler for the time between start and end of a server whose data is in `folder`."""
    kept = KeptTransfersOnDisk(lambda: TransferStore(SqliteDatabase(folder / FILE)), lambda: NOW, 5 * DAY)
    try:
        yield Mt2Assembler(MessageSealer(sealing, lambda: NOW), lambda: NOW, kept=kept, **options)  # type: ignore[arg-type]
    finally:
        kept.close()


@pytest.mark.covers("MT2-18a", "MT2-18b", "MT2-23b")
async def test_seals_by_an_rsa_key_are_the_same_after_a_restart(tmp_path: Path) -> None:
    message = mail("bob@b.example", octets=LETTER)
    made = []
    for _ in range(3):
        with server(tmp_path, SealingKeys(key(RSA.a))) as made_by:
            made += await transfers(message, made_by)
    assert len({(one.transfer_id, one.envelope) for one in made}) == 1


@pytest.mark.covers("MT2-18a", "MT2-28c")
async def test_so_are_those_of_an_author_whose_key_alone_is_rsa(tmp_path: Path) -> None:
    author = RSA.user("ann@sender.example")
    message = mail("bob@b.example", octets=LETTER, authenticated_as="ann@sender.example")
    made = []
    for _ in range(2):
        with server(tmp_path, keys(author)) as made_by:
            made += await transfers(message, made_by)
    assert made[0].envelope == made[1].envelope


@pytest.mark.covers("MT2-18a", "MT2-4")
async def test_headers_are_encrypted_once(tmp_path: Path) -> None:
    message = mail("bob@b.example", octets=LETTER)
    known = {"b.example": SITE.user("bob@b.example").chain[0]}
    made = []
    for _ in range(2):
        with server(tmp_path, keys(), certificates=known) as made_by:
            made += await transfers(message, made_by)
    assert made[0] == made[1]
    assert made[0].headers_type == "application/jose+json"
    assert checked(made[1]).is_good


@pytest.mark.covers("MT2-18a")
async def test_with_keys_that_sign_alike_nothing_is_written_down(tmp_path: Path) -> None:
    message = mail("bob@b.example", octets=LETTER)
    with server(tmp_path, keys()) as made_by:
        await transfers(message, made_by)
    assert not (tmp_path / FILE).exists()


@pytest.mark.covers("MT2-18a")
async def test_a_new_certificate_makes_another_transfer(tmp_path: Path) -> None:
    """The old one's seal would be refused once that certificate has ended."""
    message = mail("bob@b.example", octets=LETTER)
    made = []
    for party in (RSA.a, RSA.host("mx.a.example")):
        with server(tmp_path, SealingKeys(key(party))) as made_by:
            made += await transfers(message, made_by)
    assert made[0].transfer_id != made[1].transfer_id


@pytest.mark.covers("MT2-18a")
async def test_what_was_answered_is_forgotten_with_the_next_one(tmp_path: Path) -> None:
    with server(tmp_path, SealingKeys(key(RSA.a))) as made_by:
        message = mail(
            "bob@b.example", "cat@b.example", octets=LETTER.replace(b"bob@", b"cat@b.example, bob@")
        )
        [made] = await transfers(message, made_by)
        made_by.answered(message.id, made, "mx.b.example")
        await transfers(mail("dan@b.example", octets=LETTER), made_by)
    with server(tmp_path, SealingKeys(key(RSA.a))) as made_by:
        [again] = await transfers(message, made_by)
    assert again.envelope != made.envelope


async def test_without_a_place_to_write_the_mail_waits() -> None:
    def nowhere() -> TransferStore:
        raise StoreUnavailable("the disk is full")

    kept = KeptTransfersOnDisk(nowhere, lambda: NOW, DAY)
    sealer = MessageSealer(SealingKeys(key(RSA.a)), lambda: NOW)
    message = mail("bob@b.example", octets=LETTER)
    found = await Mt2Assembler(sealer, lambda: NOW, kept=kept).assemble(Job(message, (0,)), "mx.b.example")
    kept.close()
    assert not found.transfers
    assert (found.results[0].kind, found.results[0].status) == (Kind.DEFERRED, "4.3.0")


# --- the table ----------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store, the same one each time; whoever has opened it closes it."""
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgresql" else ""
    return lambda: TransferStore(PostgresDatabase(dsn) if dsn else SqliteDatabase(tmp_path / FILE))


def which(number: int) -> TransferKey:
    return TransferKey(MessageId(f"m{number}"), (0, 2), "mx.b.example")


def written(mark: bytes) -> Written:
    return Written(mark, b"\0\xff" + mark, "message/headers", (2, 0))


@pytest.mark.covers("MT2-18a")
async def test_the_first_that_was_kept_stays_until_it_is_answered_or_its_time_is_over(
    open_store: Open,
) -> None:
    """Of several nodes, too."""
    clock = NOW
    one, other = (KeptTransfersOnDisk(open_store, lambda: clock, DAY) for _ in range(2))
    first = await one.keep(which(1), "rsa", written(b"first"))
    assert first == written(b"first")
    assert await other.keep(which(1), "rsa", written(b"second")) == first
    assert await other.keep(which(1), "another key", written(b"third")) == written(b"third")
    other.forget(which(3))  # never kept
    other.forget(which(1))
    await other.keep(which(2), "rsa", written(b"of another message"))
    assert await one.keep(which(1), "rsa", written(b"fourth")) == written(b"fourth")
    clock += 3 * DAY
    assert await other.keep(which(2), "rsa", written(b"late")) == written(b"late")
    for kept in (one, other):
        kept.close()


async def test_answers_to_what_was_never_kept_are_not_remembered(tmp_path: Path) -> None:
    """Most servers keep nothing, and are answered a million times."""
    kept = KeptTransfersOnDisk(lambda: TransferStore(SqliteDatabase(tmp_path / FILE)), lambda: NOW, DAY)
    for number in range(100):
        kept.forget(which(number))
    await kept.keep(which(1), "rsa", written(b"x"))
    kept.forget(which(1))
    assert kept._answered == [which(1)]
    kept.close()


async def test_what_comes_while_one_is_written_shares_the_next_transaction(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(TransferStore):
        def change(self, new, answered, now, until):  # type: ignore[no-untyped-def]
            sizes.append(len(new))
            return super().change(new, answered, now, until)

    kept = KeptTransfersOnDisk(lambda: Counting(SqliteDatabase(tmp_path / FILE)), lambda: NOW, DAY)
    marks = [written(b"%d" % number) for number in range(50)]
    found = await asyncio.gather(*(kept.keep(which(n), "rsa", one) for n, one in enumerate(marks)))
    kept.close()
    assert found == marks
    assert sum(sizes) == len(marks)
    assert len(sizes) <= 2
