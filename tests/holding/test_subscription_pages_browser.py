"""The subscription service's pages in a real browser: applied, confirmed, left, by keyboard and without
scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outrider.holding.subscriptions.page_texts import PAGES, PageTexts
from outrider.holding.subscriptions.wishes import Fault
from tests.holding.subscription_support import ServiceRig, link_of
from tests.holding.test_pages_browser import LUMINANCE
from tests.net.web_harness import web_site
from tests.peers.certificates import CertificateAuthority
from tests.peers.chromium import BrowserPage, Chromium

SITE = "amdp-mis.alpha.example"
ANN = "ann@alpha.example"


async def submit(page: BrowserPage) -> None:
    """Press the page's button by keyboard alone."""
    while await page.evaluate("document.activeElement.localName") != "button":
        await page.key("Tab", 9)
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.enter()


async def seen(page: BrowserPage, name: str, language: str = "en") -> None:
    """Legible, without overflow, and said to be in its language; kept as a picture where somebody wants to
    look."""
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await page.evaluate(LUMINANCE) >= 4.5
    assert await page.evaluate("document.querySelectorAll('script').length") == 0
    assert await page.evaluate("document.documentElement.lang") == language
    heights = "[...document.querySelectorAll('button, input, select')].map(one => one.offsetHeight)"
    assert min(await page.evaluate(f"{heights}.concat(44)")) >= 44
    folder = os.environ.get("OUTRIDER_PICTURES")
    if folder:
        await page.picture(Path(folder) / f"{name}.png")


@pytest.mark.covers("AMDP-19", "SEC-195", "SEC-196")
async def test_a_person_subscribes_looks_and_leaves(authority: CertificateAuthority, tmp_path: Path) -> None:
    service = ServiceRig(tmp_path, host=SITE)
    async with web_site(authority, [service.pages], SITE) as site, Chromium({SITE: site.address}) as browser:
        root = f"https://{SITE}:{site.port}"
        page = await browser.page(320, 640)
        await page.open(f"{root}/subscriptions?sender=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
        assert await page.evaluate("document.getElementById('sender').value") == '"><script>alert(1)</script>'
        told = [(role, name) for role, name, _ in await page.accessible()]
        assert ("textbox", "Your mail address") in told
        assert ("button", "Send me the link") in told
        await seen(page, "form")
        await page.evaluate(
            f"document.getElementById('address').value = '{ANN}';"
            "document.getElementById('sender').value = 'news.example';"
            "document.getElementById('class').value = '*::Bulk::*'"
        )
        await submit(page)
        assert "Look into your mail" in await page.text()
        await seen(page, "applied")
        await service.office.write_letters()
        await page.open(root + link_of(service.letters[0], SITE))
        assert "accept mail from news.example of the class *::Bulk::*" in await page.text()
        await seen(page, "confirm")
        assert await service.wishes(ANN) == []
        await submit(page)
        assert await service.wishes(ANN) == [("accept", "news.example", "*::Bulk::*")]
        await page.open(root + await service.apply("show", ANN))
        await submit(page)
        assert "Wanted: mail from news.example" in await page.text()
        await seen(page, "mine")
        await submit(page)
        assert "You have left" in await page.text()
        assert await service.wishes(ANN) == []
        await seen(page, "left")
        assert page.complaints == []
        assert {address.partition("/subscriptions")[0] for _, address in page.requests} == {root}
        assert site.observed.broken == []
    service.close()


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("texts", PAGES.values(), ids=PAGES)
async def test_every_page_fits_and_is_legible_in_every_language(
    authority: CertificateAuthority, tmp_path: Path, texts: PageTexts, scheme: str
) -> None:
    """On a small screen, with a long name; a screen reader is told the language, and what is wrong."""
    language = texts.language
    service = ServiceRig(tmp_path, host=SITE)
    sender = f"{'n' * 60}@{'b' * 60}.{'c' * 60}.example"
    async with web_site(authority, [service.pages], SITE) as site, Chromium({SITE: site.address}) as browser:
        root = f"https://{SITE}:{site.port}"
        features = {"prefers-color-scheme": scheme}
        page = await browser.page(320, 640, language=language, features=features)

        async def shows(name: str, *words: str) -> None:
            await seen(page, f"{name}-{language}-{scheme}", language)
            assert [one for one in words if one not in (await page.text()).replace("\n", " ")] == []

        await page.open(f"{root}/subscriptions?class=Agent%3A%3A%2A")
        await shows("form", texts.form_title, texts.form_how, texts.address_label, texts.apply_button)
        await page.evaluate("document.getElementById('address').value = 'ann@alpha.example'")
        await page.evaluate("document.getElementById('class').value = '*'")
        await submit(page)
        await shows("fault", texts.faults[Fault.EVERYTHING])
        told = await page.accessible()
        wrong = [name for _, name, description in told if description == texts.faults[Fault.EVERYTHING]]
        assert wrong == [texts.sender_label, texts.class_label]
        await page.evaluate(f"document.getElementById('sender').value = '{sender}'")
        await page.evaluate("document.getElementById('class').value = '*::Bulk::*'")
        await submit(page)
        await shows("applied", texts.applied_title, texts.applied)
        await service.office.write_letters()
        confirm = root + link_of(service.letters[0], SITE)
        await page.open(confirm)
        await shows("confirm", sender, texts.wishes.classes["*::Bulk::*"], texts.confirm_button)
        await submit(page)
        await shows("done", texts.done_title)
        await page.open(confirm)
        await submit(page)
        await shows("before", texts.done_before)
        await page.open(root + await service.apply("show", ANN))
        await shows("show", texts.mine_title, texts.mine_button)
        await submit(page)
        await shows("mine", texts.wanted.partition("{")[0], texts.leave_button)
        [about] = [name for role, name, _ in await page.accessible() if role == "button"]
        assert about.startswith(texts.leave_one.partition("{")[0])
        assert sender in about
        leave = await page.evaluate("document.querySelector('form').action")
        await page.open(leave)
        await shows("leave", texts.leave_title, sender)
        await submit(page)
        await shows("left", texts.left.partition("{")[0])
        await page.open(f"{root}/subscriptions/confirm/{'a' * 26}")
        await shows("missing", texts.missing_title, texts.missing)
        assert site.observed.broken == []
    service.close()


@pytest.mark.covers("AMDP-19")
async def test_who_has_no_language_of_ours_reads_on_in_that_of_the_letter(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    service = ServiceRig(tmp_path, host=SITE)
    async with web_site(authority, [service.pages], SITE) as site, Chromium({SITE: site.address}) as browser:
        root = f"https://{SITE}:{site.port}"
        path = await service.apply("deny", ANN, "news.example", headers={"accept-language": "fr-CA"})
        page = await browser.page(320, 640, language="tlh")
        await page.open(root + path)
        assert "Souhaitez-vous refuser le courrier de news.example" in await page.text()
        await seen(page, "letters-language", "fr")
        await page.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": "nl, de;q=0.5"})
        await page.open(root + path)
        assert "Möchten Sie Post von news.example ablehnen?" in await page.text()
        await seen(page, "browsers-language", "de")
    service.close()
