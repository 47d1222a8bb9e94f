"""The retrieval page, without a browser: what it answers, changes, and refuses (AMDP-13)."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from outrider.holding.pages.retrieval import RetrievalPages
from outrider.holding.pages.source import ListedAttachment, PageBusy, Proof
from outrider.holding.pages.style import STYLE
from outrider.holding.web import WebResponse
from tests.holding.page_support import (
    HOST,
    ID,
    LETTER,
    NOW,
    PATH,
    PDF,
    SECRET,
    Holder,
    asked,
    body_of,
    described,
    pressed,
)

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title><svg/onload=alert(1)>",
    "{sender} {site} {date}",
    "a\r\nSet-Cookie: x=1",
    "exe.\u202efdp\u2066",
    "\x00\x1b[2J\ud800",
)


def pages_of(holder: Holder) -> RetrievalPages:
    return RetrievalPages(holder, HOST.__eq__)


@pytest.fixture
def holder() -> Holder:
    return Holder()


@pytest.fixture
def pages(holder: Holder) -> RetrievalPages:
    return pages_of(holder)


def text(response: WebResponse) -> str:
    return response.body.decode()


@pytest.mark.covers("AMDP-13")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_shows_what_it_is_and_changes_nothing(
    pages: RetrievalPages, holder: Holder, method: str
) -> None:
    response = await pages.answer(asked(method))
    shown = re.sub(r"<[^>]*>", "", text(response))
    assert response.status == 200
    assert "ann@alpha.example" in shown
    assert "mx.beta.example" in shown
    for part in (
        "Figures for the third quarter",
        "business mail",
        "figures-q3.pdf",
        "1.4\u00a0MB",
        "14 days left",
    ):
        assert part in shown
    assert "The sender then learns that you fetched it" in shown
    assert "Dear Bob" not in shown
    assert holder.done == []


@pytest.mark.covers("AMDP-13", "AMDP-5a")
async def test_by_a_link_token_it_says_that_nobody_has_checked(holder: Holder, pages: RetrievalPages) -> None:
    holder.held = described(proof=Proof.LINK, proven_at=0.0, proven_by="")
    shown = text(await pages.answer(asked()))
    assert "Nobody has checked the sender" in shown
    assert HOST in shown
    assert "was checked" not in shown


@pytest.mark.covers("AMDP-13", "AMDP-6")
async def test_the_button_shows_the_message_and_another_confirms_it(
    pages: RetrievalPages, holder: Holder
) -> None:
    shown = text(await pages.answer(pressed("open")))
    assert holder.done == ["opened"]
    assert "Dear Bob,\n\nhere are the figures" in shown
    assert "growth in Köln" in shown
    assert "For old readers" not in shown
    done = await pages.answer(pressed("received"))
    assert holder.done == ["opened", "received"]
    assert "Receipt confirmed" in text(done)


@pytest.mark.covers("AMDP-13")
async def test_receipt_before_the_message_was_opened_is_none(pages: RetrievalPages, holder: Holder) -> None:
    assert (await pages.answer(pressed("received"))).status == 404
    assert holder.done == []


@pytest.mark.covers("AMDP-13", "SEC-197")
@pytest.mark.parametrize("piece", [262_144, 1000, 77])
async def test_parts_are_saved_decoded_and_the_message_as_it_is(piece: int) -> None:
    holder = Holder(piece=piece)
    pages = pages_of(holder)
    whole = await pages.answer(pressed("message"))
    part = await pages.answer(pressed("part-2"))
    assert (await body_of(whole), whole.length) == (LETTER, len(LETTER))
    assert (await body_of(part), part.length) == (PDF, len(PDF))
    assert part.content_type == "application/octet-stream"
    for response in (whole, part):
        assert response.headers["Content-Disposition"].startswith("attachment; ")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response.headers["Content-Security-Policy"]
    assert holder.open_readers == 0
    assert (await pages.answer(pressed("part-9"))).status == 404


@pytest.mark.covers("SEC-181", "SEC-186", "SEC-200")
@pytest.mark.parametrize(
    "path",
    [
        f"/m/{ID}/{SECRET[::-1]}",
        f"/m/{SECRET}/{ID}",
        f"/m/{ID}",
        f"/m/{ID}/",
        "/m/",
        f"/m/{ID.upper()}/{SECRET}",
        f"/m/{ID}/{SECRET}/",
        f"/m/{ID}/{SECRET}\n",
        "/m/../../etc/passwd",
        f"/m/..\\{ID}/{SECRET}",
        f"/m/{ID}\x00/{SECRET}",
        f"/m/{'a' * 10_000}/{SECRET}",
    ],
)
async def test_all_that_is_not_to_be_had_is_answered_alike(pages: RetrievalPages, path: str) -> None:
    constant = text(await pages.answer(asked(path=f"/m/{'a' * 26}/{'b' * 26}")))
    for request in (asked(path=path), pressed("open", path), pressed("message", path)):
        response = await pages.answer(request)
        assert (response.status, text(response)) == (404, constant)
    assert ID not in constant


@pytest.mark.covers("SEC-181", "SEC-188")
async def test_what_went_while_it_was_asked_for_is_not_there(pages: RetrievalPages, holder: Holder) -> None:
    await pages.answer(pressed("open"))
    saved = await pages.answer(pressed("message"))
    holder.gone = True
    with pytest.raises(LookupError):
        await body_of(saved)
    assert (await pages.answer(pressed("part-2"))).status == 404


@pytest.mark.covers("SEC-195", "AMDP-13")
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "cross-site", "origin": f"https://{HOST}"},
        {"sec_fetch_site": "", "origin": "null"},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": f"http://{HOST}"},
        {"origin": f"https://{HOST}.evil.example"},
        {"content_type": "text/plain"},
        {"content_type": "multipart/form-data"},
    ],
    ids=str,
)
async def test_only_a_button_of_the_page_counts(
    pages: RetrievalPages, holder: Holder, headers: dict[str, str]
) -> None:
    for action in (b"do=open", b"do=received", b"do=message"):
        given = (
            dict(headers) if "content_type" not in headers else {"sec_fetch_site": "same-origin", **headers}
        )
        response = await pages.answer(asked("POST", PATH, action, **given))
        assert response.status == 403
    assert holder.done == []


@pytest.mark.covers("SEC-195")
@pytest.mark.parametrize("body", [b"do=delete", b"do=open&do=received", b"do=part-0", b"", b"x" * 1_000_000])
async def test_a_form_that_is_not_ours_does_nothing(
    pages: RetrievalPages, holder: Holder, body: bytes
) -> None:
    response = await pages.answer(asked("POST", PATH, body, sec_fetch_site="same-origin"))
    assert response.status == 403
    assert holder.done == []


@pytest.mark.covers("SEC-195")
@pytest.mark.parametrize("headers", [{"origin": f"https://{HOST}"}, {}], ids=["old browser", "text browser"])
async def test_browsers_without_fetch_metadata_can_use_it_too(
    pages: RetrievalPages, holder: Holder, headers: dict[str, str]
) -> None:
    assert (await pages.answer(asked("POST", PATH, b"do=open", **headers))).status == 200
    assert holder.done == ["opened"]


@pytest.mark.covers("SEC-196", "AMDP-13")
@pytest.mark.parametrize("nasty", NASTY, ids=range(len(NASTY)))
async def test_nothing_of_a_stranger_becomes_markup(nasty: str) -> None:
    held = described(
        sender=f"{nasty}@alpha.example",
        recipient=f"{nasty}@beta.example",
        subject=nasty,
        mail_class=nasty,
        language=nasty,
        digest=nasty,
        proven_by=nasty,
        attachments=(ListedAttachment(nasty, nasty, 5),),
    )
    name = nasty.encode("utf-8", "replace").replace(b"\r\n", b" ").replace(b'"', b'\\"')
    letter = (
        b"Subject: %b\r\nTo: %b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\n%b\r\n--b\r\nContent-Type: text/html\r\n\r\n%b\r\n"
        b'--b\r\nContent-Type: x/y; name="%b"\r\n\r\n.\r\n--b--\r\n' % ((name,) * 5)
    )
    pages = pages_of(Holder(octets=letter, held=replace(held, size=len(letter))))
    plain = pages_of(Holder(held=described(attachments=())))
    saved = await pages.answer(pressed("message"))
    assert saved.headers["Content-Disposition"].isprintable()
    for request in (asked(), pressed("open"), pressed("received")):
        response = await pages.answer(request)
        usual = await plain.answer(request)
        shown = text(response)
        assert tags(shown) <= tags(text(usual)) | {("ul", ()), ("li", ())}
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
        assert response.headers.keys() == usual.headers.keys()


def tags(document: str) -> set[tuple[str, tuple[str, ...]]]:
    """Elements with the names of their attributes, as a parser of HTML sees them."""
    found: set[tuple[str, tuple[str, ...]]] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add((tag, tuple(name for name, _ in attrs if name != "lang")))

    Reader().feed(document)
    return found


@pytest.mark.covers("SEC-196", "SEC-198", "SEC-199")
async def test_the_policy_forbids_all_but_the_one_style_sheet(pages: RetrievalPages) -> None:
    for request in (asked(), pressed("open"), asked(path="/m/x/y")):
        response = await pages.answer(request)
        policy = response.headers["Content-Security-Policy"]
        digest = b64encode(sha256(STYLE.encode()).digest()).decode()
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert f"<style>{STYLE}</style>" in text(response)
        assert "script" not in {name for name, _ in tags(text(response))}
        assert not re.search(r"\s(?:src|href|action|style)=", text(response))
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert not {"set-cookie", "location"} & {name.lower() for name in response.headers}


@pytest.mark.covers("AMDP-12")
@pytest.mark.parametrize(("guessing", "status"), [(True, 429), (False, 503)])
async def test_not_now_says_when(pages: RetrievalPages, holder: Holder, guessing: bool, status: int) -> None:
    holder.busy = PageBusy(90, guessing=guessing)
    for request in (asked(), pressed("open")):
        response = await pages.answer(request)
        assert (response.status, response.headers["Retry-After"]) == (status, "90")
        assert "in 2 minutes" in text(response)


@pytest.mark.covers("AMDP-13")
@pytest.mark.parametrize(
    ("wanted", "language", "words"),
    [
        ("", "en", "A message is waiting for you"),
        ("de-AT,de;q=0.9,en;q=0.5", "de", "Eine Nachricht wartet auf Sie"),
        ("it, fr;q=0.8, en;q=0.7", "fr", "Un message vous attend"),
        ("de;q=0, en;q=0.1", "en", "A message is waiting for you"),
        ("x" * 100_000, "en", "A message is waiting for you"),
        (",;q=de,q=9", "en", "A message is waiting for you"),
    ],
)
async def test_the_readers_language(pages: RetrievalPages, wanted: str, language: str, words: str) -> None:
    response = await pages.answer(asked(accept_language=wanted))
    assert f'<html lang="{language}">' in text(response)
    assert response.headers["Content-Language"] == language
    assert f"<h1>{words}</h1>" in text(response)


@pytest.mark.covers("AMDP-4b")
async def test_other_attachments_than_announced_are_pointed_out(
    pages: RetrievalPages, holder: Holder
) -> None:
    assert "not those that were announced" not in text(await pages.answer(pressed("open")))
    holder.held = described(attachments=(), opened_at=NOW)
    assert "not those that were announced" in text(await pages.answer(pressed("open")))


@pytest.mark.covers("AMDP-13", "SEC-112")
async def test_a_message_that_cannot_be_taken_apart_can_be_saved() -> None:
    letter = b"Subject: x\r\n" + b"X: y\r\n" * 300_000
    holder = Holder(octets=letter, held=described(letter))
    response = await pages_of(holder).answer(pressed("open"))
    assert "cannot be shown here" in text(response)
    assert await body_of(await pages_of(holder).answer(pressed("message"))) == letter


@pytest.mark.covers("AMDP-13")
async def test_large_messages_are_read_through_few_at_a_time(holder: Holder, pages: RetrievalPages) -> None:
    holder.piece = 1000
    await asyncio.gather(*(pages.answer(pressed("open")) for _ in range(12)))
    assert holder.open_readers == 0
    assert holder.done == ["opened"] * 12
