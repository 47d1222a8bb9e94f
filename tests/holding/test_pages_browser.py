"""The retrieval page in a real browser, by mouse, keyboard and screen reader (AMDP-13)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from outrider.config.amdp_schema import AmdpHolding
from outrider.holding.pages.retrieval import RetrievalPages
from outrider.holding.pages.source import ListedAttachment, Proof
from outrider.holding.web import WebService
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.envelope import retrieval_link
from tests.holding.facility_rig import FacilityRig, submitted
from tests.holding.page_support import HOST, LETTER, PATH, PDF, Holder, described
from tests.net.web_harness import PORT, Site, web_site
from tests.peers.certificates import CertificateAuthority
from tests.peers.chromium import BrowserPage, Chromium

LUMINANCE = """
(() => {
  const curve = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const part = value => curve(value / 255);
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const seen = [...document.querySelectorAll('main *')].filter(one =>
    [...one.childNodes].some(child => child.nodeType === 3 && child.data.trim()));
  return Math.min(...seen.map(one => {
    const pair = [light(colour(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    return (pair[0] + .05) / (pair[1] + .05);
  }));
})()
"""
"""The weakest contrast of any text with what is behind it (WCAG 2.2, 1.4.3)."""


@dataclass
class Scene:
    """A holder, its site, and a browser that reaches nothing else."""

    holder: Holder
    site: Site
    browser: Chromium

    @property
    def address(self) -> str:
        return f"https://{HOST}:{self.site.port}{PATH}"


@asynccontextmanager
async def scene(authority: CertificateAuthority, holder: Holder) -> AsyncIterator[Scene]:
    pages = RetrievalPages(holder, HOST.__eq__)
    async with web_site(authority, [pages], HOST) as site, Chromium({HOST: site.address}) as browser:
        yield Scene(holder, site, browser)
        assert site.observed.broken == []


@pytest.mark.covers("AMDP-13", "AMDP-15", "SEC-197")
async def test_a_person_reads_saves_and_confirms(authority: CertificateAuthority) -> None:
    async with scene(authority, Holder()) as here:
        page = await here.browser.page()
        await page.open(here.address)
        assert "ann@alpha.example" in await page.text()
        assert here.holder.done == []
        await page.press("open")
        assert here.holder.done == ["opened"]
        assert "The growth in Köln is real" in await page.text()
        saved = await page.save("part-2")
        assert (saved.name, saved.read_bytes()) == ("figures-q3.pdf", PDF)
        whole = await page.save("message")
        assert (whole.name, whole.read_bytes()) == ("Figures for the third quarter.eml", LETTER)
        await page.press("received")
        assert "Receipt confirmed" in await page.text()
        assert here.holder.done[-1] == "received"
        # Nothing was asked for but the page itself, and the browser had nothing to complain of.
        assert {address for _, address in page.requests} == {here.address}
        assert page.complaints == []


@pytest.mark.covers("AMDP-13")
async def test_the_keyboard_is_enough_and_a_screen_reader_is_told(authority: CertificateAuthority) -> None:
    async with scene(authority, Holder()) as here:
        page = await here.browser.page()
        await page.open(here.address)
        told = await page.accessible()
        assert ("button", "Show the message") in [(role, name) for role, name, _ in told]
        effect = next(description for role, _, description in told if role == "button")
        assert "The sender then learns that you fetched it" in effect
        assert [name for role, name, _ in told if role == "heading"] == [
            "A message is waiting for you",
            "What the sender says it is",
            "What is kept for you",
        ]
        assert "main" in [role for role, _, _ in told]
        await page.key("Tab", 9)
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.enter()
        assert here.holder.done == ["opened"]
        told = await page.accessible()
        assert sorted(name for role, name, _ in told if role == "button") == [
            "Confirm receipt",
            "Save: The whole message",
            "Save: figures-q3.pdf",
        ]
        assert ("region", "Text") in [(role, name) for role, name, _ in told]


@pytest.mark.covers("AMDP-13")
async def test_it_fits_and_is_legible_on_small_and_dark_screens(authority: CertificateAuthority) -> None:
    long = "Donaudampfschifffahrtsgesellschaftskapitän" * 6
    held = described(
        sender=f"{'a' * 64}@{'b' * 60}.{'c' * 60}.alpha.example",
        subject=long,
        proven_by=f"{'m' * 60}.beta.example",
        attachments=tuple(ListedAttachment(f"{long}{n}.pdf", "application/pdf", 5) for n in range(50)),
    )
    async with scene(authority, Holder(held=held)) as here:
        for scheme in ("light", "dark"):
            for proof in Proof:
                here.holder.held = replace(here.holder.held, proof=proof)
                features = {"prefers-color-scheme": scheme}
                page = await here.browser.page(320, 640, language="de", features=features)
                await page.open(here.address)
                assert await page.evaluate("document.documentElement.scrollWidth") == 320
                assert await page.evaluate(LUMINANCE) >= 4.5
                assert await page.evaluate("document.querySelector('button').offsetHeight") >= 44
                await page.press("open")
                assert await page.evaluate("document.documentElement.scrollWidth") == 320
                assert await page.evaluate(LUMINANCE) >= 4.5


@pytest.mark.covers("AMDP-5a", "AMDP-6", "AMDP-13")
async def test_from_a_real_holder_by_the_link_in_the_mail(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    """A receiver without AMDP: the link of the envelope opens what the facility holds."""
    rig = FacilityRig(tmp_path, AmdpHolding(guesses_per_minute=0), port=PORT)
    await rig.spool.start(rig.now)
    [sent] = await rig.hold(submitted("bob@beta.example", body="Grüße aus Köln\r\n".encode() * 50_000))
    token = sent.message.envelope.link_token
    assert token
    link = retrieval_link(sent.held, token)
    services: list[WebService] = [rig.facility, RetrievalPages(rig.pages, HOST.__eq__)]
    async with web_site(authority, services, HOST) as site, Chromium({HOST: site.address}) as browser:
        page = await browser.page()
        await page.open(link)
        assert "Nobody has checked the sender" in await page.text()
        assert "Grüße aus" not in await page.text()
        await page.press("open")
        assert "Grüße aus Köln" in await page.text()
        saved = await page.save("message")
        assert digest_of([saved.read_bytes()]) == sent.held.digest
        await page.press("received")
        assert "Receipt confirmed" in await page.text()
        await page.open(link)
        assert "You confirmed receipt on" in await page.text()
        assert await page.evaluate("document.querySelector('button')") is None
        assert site.observed.broken == []
    changed = [one[3:] for one in rig.observer.named("copy_changed")]
    assert changed == [
        ("authenticated", "opened: unauthenticated receiver"),
        ("retrieved", "receipt confirmed by a person"),
    ]
    rig.close()


HOSTILE = (
    b"From: x@alpha.example\r\nSubject: <script>document.title='owned'</script>\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
    b"<script>document.title='owned'</script>"
    b"<img src=https://track.example/1.png onerror=\"document.title='owned'\">"
    b"<meta http-equiv=refresh content='0;url=https://evil.example/'><base href=https://evil.example/>"
    b"<form action=https://evil.example/><button name=do value=open>Win</button></form>"
    b"<a href=javascript:document.title='owned'>click</a><svg onload=document.title='owned'></svg>"
    b"<iframe src=https://evil.example/></iframe><style>@import 'https://evil.example/x.css'</style>words\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\n</pre></main><script>document.title='owned'</script>\r\n"
    b'--b\r\nContent-Type: text/html; name="../../<img src=x onerror=alert(1)>.html"\r\n\r\n'
    b"<script>1</script>\r\n--b--\r\n"
)


@pytest.mark.covers("SEC-196", "SEC-197", "AMDP-13")
async def test_a_hostile_message_does_nothing_in_a_browser(authority: CertificateAuthority) -> None:
    nasty = "<script>document.title='owned'</script><img src=https://track.example/2.png>"
    held = described(HOSTILE, subject=nasty, mail_class=nasty, proven_by=nasty, attachments=())
    async with scene(authority, Holder(octets=HOSTILE, held=held)) as here:
        page = await here.browser.page()
        await page.open(here.address)
        await page.press("open")
        assert await page.evaluate("document.title") == "Message from alpha.example"
        assert "click <javascript:document.title='owned'>" in await page.text()
        assert (
            await page.evaluate("document.querySelectorAll('script, img, iframe, a, base, link').length") == 0
        )
        assert {address for _, address in page.requests} == {here.address}
        assert page.complaints == []
        saved = await page.save("part-3")
        assert saved.name == "_img src=x onerror=alert(1)_.html"
        assert await page.evaluate("document.title") == "Message from alpha.example"


@pytest.mark.covers("SEC-195", "AMDP-13")
async def test_a_page_of_somebody_else_cannot_press_the_button(
    authority: CertificateAuthority,
) -> None:
    async with scene(authority, Holder()) as here:
        page: BrowserPage = await here.browser.page()
        form = (
            f"<form method=post action={here.address}><button name=do value=open>Win a car</button></form>"
            f"<iframe src={here.address}></iframe>"
        )
        await page.open(f"data:text/html,{form}")
        await page.press("open")
        assert "Nothing was done" in await page.text()
        assert here.holder.done == []
