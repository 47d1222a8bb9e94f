"""Maildirs for real, in a temporary directory."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.delivery.interface import Job
from outrider.delivery.local_content import local_content, was_delivered_to
from outrider.delivery.maildir import MaildirTransport, UniqueNames, UnsafeName, mailbox_path
from outrider.model.address import Address, Domain, parse_address
from outrider.model.content import Body, Content, InlineBody, inline_content, split_content
from outrider.model.message import NewMessage, StoredMessage
from outrider.model.mpc import parse_mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_users import Mailbox, is_mailbox_name
from tests.delivery.support import CONTENT, Observer, leased, new_message

ALPHA = Domain("alpha.example")
counter = itertools.count()


def anybody(address: Address) -> Mailbox | None:
    user, _, detail = address.local.partition("+")
    return Mailbox(user, detail, address.domain) if address.domain == ALPHA else None


def transport(observer: Observer | None = None) -> MaildirTransport:
    return MaildirTransport(
        anybody, UniqueNames(lambda: f"{next(counter):032x}", "host/x"), observer or Observer()
    )


def job(*addresses: str, octets: bytes = CONTENT, **options: Any) -> Job:
    message = leased(
        new_message("m", *(addresses or ("ann@alpha.example",)), octets=octets, **options)
    ).message
    return Job(message, tuple(range(len(message.envelope.recipients))))


async def deliver(template: str, one: Job, observer: Observer | None = None) -> list[DeliveryResult]:
    carrier = transport(observer)
    try:
        results = await carrier.deliver(one, template)
    finally:
        carrier.close()
    return [results[index] for index in one.recipients]


def files(maildir: Path) -> list[Path]:
    return sorted((maildir / "new").iterdir())


@pytest.mark.covers("SMTP-8")
async def test_a_message_arrives_whole_with_its_fields_on_top(tmp_path: Path) -> None:
    (result,) = await deliver(f"{tmp_path}/{{user}}", job())
    assert (result.kind, result.status, result.protocol) == (Kind.DELIVERED, "2.0.0", "maildir")
    (path,) = files(tmp_path / "ann")
    assert path.read_bytes() == (
        b"Return-Path: <ann@sender.example>\nDelivered-To: ann@alpha.example\n"
        b"Received: from x by mx.alpha.example; now\n" + CONTENT.replace(b"\r\n", b"\n")
    )
    assert path.name.endswith(f",S={path.stat().st_size}")
    assert ":" not in path.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "ann" / "tmp").iterdir()) == []


@pytest.mark.covers("SMTP-8")
async def test_a_missing_maildir_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    await deliver(f"{tmp_path}/deep/{{domain}}/{{user}}/Maildir", job())
    maildir = tmp_path / "deep/alpha.example/ann/Maildir"
    for directory in (tmp_path / "deep", maildir, *(maildir / name for name in ("tmp", "new", "cur"))):
        assert directory.stat().st_mode & 0o777 == 0o700


async def test_the_null_sender_is_written_as_such(tmp_path: Path) -> None:
    await deliver(f"{tmp_path}/{{user}}", job(sender=None))
    assert files(tmp_path / "ann")[0].read_bytes().startswith(b"Return-Path: <>\n")


@pytest.mark.covers("SMTP-8")
async def test_each_recipient_has_a_result_and_a_file(tmp_path: Path) -> None:
    one = job("ann@alpha.example", "bob+x@alpha.example", "eve@b.example")
    results = await deliver(f"{tmp_path}/{{user}}", one)
    assert [(one.kind, one.status) for one in results] == [
        (Kind.DELIVERED, "2.0.0"),
        (Kind.DELIVERED, "2.0.0"),
        (Kind.FAILED, "5.1.1"),
    ]
    assert b"Delivered-To: bob+x@alpha.example\n" in files(tmp_path / "bob")[0].read_bytes()


async def test_the_detail_may_name_a_folder(tmp_path: Path) -> None:
    await deliver(f"{tmp_path}/{{user}}/.{{detail}}", job("ann+lists@alpha.example", "ann@alpha.example"))
    assert len(files(tmp_path / "ann" / ".lists")) == 1
    assert len(files(tmp_path / "ann")) == 1


@pytest.mark.covers("SEC-69", "SMTP-8")
@pytest.mark.parametrize("name", ["../x", "..", ".", ".ssh", "a/b", "/etc", "x\x00y", "", "a\nb", "é" * 120])
async def test_a_hostile_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    carrier = MaildirTransport(lambda address: Mailbox(name, "", ALPHA), lambda: "unique", Observer())
    results = await carrier.deliver(job(), f"{tmp_path}/mail/{{user}}")
    carrier.close()
    assert results[0].kind is Kind.FAILED
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=64), st.text(max_size=64))
@pytest.mark.covers("SEC-69")
def test_every_mailbox_path_stays_below_the_template(user: str, detail: str) -> None:
    if not is_mailbox_name(user):
        return
    try:
        path = mailbox_path("/var/mail/{domain}/{user}/.{detail}", Mailbox(user, detail, ALPHA))
    except UnsafeName:
        return
    assert path.parts[:4] == ("/", "var", "mail", "alpha.example")
    assert ".." not in path.parts
    assert Path(os.path.normpath(path)) == path


# --- line ends: every octet comes back (ITP-6) ------------------------------------------------------


class Pieces:
    """A body that comes in given pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    @property
    def size(self) -> int:
        return sum(map(len, self._pieces))

    def chunks(self, size: int = 262_144) -> Any:
        return iter(self._pieces)


def stored(content: Content) -> StoredMessage:
    message = new_message("m", "ann@alpha.example")
    with_content = NewMessage(message.id, 0.0, message.envelope, b"", content, message.items)
    return leased(with_content).message


def body_on_disk(content: Content) -> bytes:
    octets = b"".join(local_content(stored(content), parse_address("ann@alpha.example")))
    separator = b"\r\n" if content.is_binary else b"\n"
    return octets.split(separator, 2)[2]


@given(st.lists(st.binary(max_size=20), max_size=6))
@pytest.mark.covers("ITP-6", "SMTP-8")
def test_crlf_text_comes_back_octet_for_octet_however_it_is_cut(parts: list[bytes]) -> None:
    lines = [part.replace(b"\n", b"").replace(b"\r", b"") for part in parts]
    whole = b"Subject: x\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)
    headers, body = split_content(whole)
    for cut in range(1, 4):
        pieces = [body[n : n + cut] for n in range(0, len(body), cut)]
        on_disk = body_on_disk(Content(headers, Pieces(pieces)))
        assert b"\r" not in on_disk
        assert on_disk.replace(b"\n", b"\r\n") == whole


@pytest.mark.covers("ITP-6")
def test_binary_content_is_stored_as_it_came() -> None:
    whole = b"Subject: x\r\n\r\nbare\nlf\rcr\x00nul\r\n"
    assert body_on_disk(inline_content(whole, is_binary=True)) == whole


# --- loops ------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-168")
async def test_mail_that_was_in_this_mailbox_before_is_a_loop(tmp_path: Path) -> None:
    again = b"Delivered-To: Ann@Alpha.example\r\n" + CONTENT
    (result,) = await deliver(f"{tmp_path}/{{user}}", job(octets=again))
    assert (result.kind, result.status) == (Kind.FAILED, "5.4.6")
    (other,) = await deliver(f"{tmp_path}/{{user}}", job("bob@alpha.example", octets=again))
    assert other.kind is Kind.DELIVERED


def test_a_delivered_to_in_the_body_or_in_another_field_is_none() -> None:
    address = parse_address("ann@alpha.example")
    for octets in (
        b"Subject: x\r\n\r\nDelivered-To: ann@alpha.example\r\n",
        b"X-Old-Delivered-To: ann@alpha.example\r\n\r\n",
        b"Subject: Delivered-To: ann@alpha.example\r\n\r\n",
    ):
        assert not was_delivered_to(stored(inline_content(octets)), address)


# --- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-6", "SMTP-8")
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, "4.3.1"),
        (errno.EDQUOT, "4.2.2"),
        (errno.EFBIG, "4.2.2"),
        (errno.EROFS, "4.3.0"),
        (errno.EACCES, "4.3.0"),
        (errno.EIO, "4.3.0"),
    ],
)
async def test_trouble_with_the_disk_makes_mail_wait_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: str
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    await deliver(f"{tmp_path}/{{user}}", job())
    monkeypatch.setattr("outrider.delivery.maildir.os.fsync", full)
    (result,) = await deliver(f"{tmp_path}/{{user}}", job())
    assert (result.kind, result.status) == (Kind.DEFERRED, status)
    assert str(tmp_path) not in result.text
    assert len(files(tmp_path / "ann")) == 1
    assert list((tmp_path / "ann" / "tmp").iterdir()) == []


async def test_a_file_in_the_place_of_the_maildir_makes_mail_wait(tmp_path: Path) -> None:
    (tmp_path / "ann").write_text("not a directory")
    (result,) = await deliver(f"{tmp_path}/{{user}}", job())
    assert result.kind is Kind.DEFERRED


class Damaged:
    """A body that cannot be read to its end."""

    size = 100

    def chunks(self, size: int = 262_144) -> Any:
        yield b"begins well\r\n"
        raise RuntimeError("checksum")


@pytest.mark.covers("SMTP-6")
async def test_a_body_that_breaks_off_is_never_delivered_in_part(tmp_path: Path) -> None:
    body: Body = Damaged()
    message = stored(Content(b"Subject: x\r\n\r\n", body))
    observer = Observer()
    (result,) = await deliver(f"{tmp_path}/{{user}}", Job(message, (0,)), observer)
    assert result.kind is Kind.DEFERRED
    assert files(tmp_path / "ann") == []
    assert list((tmp_path / "ann" / "tmp").iterdir()) == []
    assert observer.named("own_failure")


@pytest.mark.covers("SMTP-8")
async def test_the_file_is_durable_before_it_is_in_new_and_new_before_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(f"{tmp_path}/{{user}}", job())
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("fsync file" if path.parent.name == "tmp" else f"fsync {path.name}")
        fsync(descriptor)

    def watched_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr("outrider.delivery.maildir.os.fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    await deliver(f"{tmp_path}/{{user}}", job())
    assert steps[:4] == ["fsync file", "rename", "fsync new", "fsync ann"]


async def test_many_at_once_are_all_there_and_all_different(tmp_path: Path) -> None:
    carrier = transport()
    results = await asyncio.gather(*(carrier.deliver(job(), f"{tmp_path}/{{user}}") for _ in range(300)))
    carrier.close()
    assert {result[0].kind for result in results} == {Kind.DELIVERED}
    assert len(files(tmp_path / "ann")) == 300


async def test_an_order_handed_in_while_the_last_writer_ends_is_written(tmp_path: Path) -> None:
    carrier = transport()

    async def one_after_the_other() -> None:
        for _ in range(50):
            await carrier.deliver(job(), f"{tmp_path}/{{user}}")

    await asyncio.gather(*(one_after_the_other() for _ in range(8)))
    carrier.close()
    assert len(files(tmp_path / "ann")) == 400


@pytest.mark.covers("SMTP-8")
async def test_deliveries_under_way_together_share_the_directorys_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(f"{tmp_path}/{{user}}", job())
    synced: list[int] = []
    monkeypatch.setattr("outrider.delivery.durable_folders.sync_folder", lambda path: synced.append(1))
    carrier = transport()
    await asyncio.gather(*(carrier.deliver(job(), f"{tmp_path}/{{user}}") for _ in range(128)))
    carrier.close()
    assert len(synced) <= 32


def test_names_are_unique_and_safe() -> None:
    names = UniqueNames(lambda: "00ff", "host/with:both")
    first, second = names(), names()
    assert first != second
    assert "/" not in first
    assert ":" not in first


def test_a_body_may_be_inline_or_not() -> None:
    assert body_on_disk(Content(b"Subject: x\r\n\r\n", InlineBody(b""))) == b"Subject: x\n\n"


@pytest.mark.covers("SEC-119")
def test_lines_that_mbox_would_quote_are_left_as_they_are() -> None:
    """Each message is a file of its own: nothing has to be quoted, so nothing has to be unquoted."""
    whole = b"Subject: x\r\nContent-Length: 3\r\n\r\nFrom me\r\n>From you\r\n>>From them\r\n"
    on_disk = body_on_disk(inline_content(whole))
    assert on_disk.replace(b"\n", b"\r\n") == whole


@pytest.mark.covers("AMTP-14")
async def test_the_mail_policy_code_stands_on_top_where_there_is_one(tmp_path: Path) -> None:
    await deliver(f"{tmp_path}/{{user}}", job(mpc=parse_mpc("com/optin")))
    [path] = files(tmp_path / "ann")
    assert path.read_bytes().startswith(
        b"Return-Path: <ann@sender.example>\nDelivered-To: ann@alpha.example\nMPC: com/optin\nReceived:"
    )
