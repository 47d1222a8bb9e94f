"""The subscription service's pages in a real browser: applied, confirmed, left, by keyboard and without
scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.holding.subscription_support import ServiceRig, link_of
from tests.holding.test_pages_browser import LUMINANCE
from tests.net.web_harness import web_site
from tests.peers.certificates import CertificateAuthority
from tests.peers.chromium import BrowserPage, Chromium

SITE = "amdp-mis.alpha.example"
ANN = "ann@alpha.example"


async def submit(page: BrowserPage) -> None:
    """Press the page's button by keyboard."""
    await page.evaluate("document.querySelector('button').focus()")
    await page.enter()


async def seen(page: BrowserPage, name: str) -> None:
    """Legible and without overflow; kept as a picture where somebody wants to look."""
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await page.evaluate(LUMINANCE) >= 4.5
    assert await page.evaluate("document.querySelectorAll('script').length") == 0
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
