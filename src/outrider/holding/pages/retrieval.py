"""The retrieval page: `/m/ID/SECRET` (AMDP-13, docs/protocols/amdp.md section 6).

GET and HEAD show what is held and change nothing, since link scanners open every link of a message. The
message is shown, saved and confirmed by POST only, and only by a button of the page itself: a page of
somebody else's that knows the link could otherwise let a reader's address appear as that of one who fetched
(SEC-195). There are no cookies and no redirects. Whatever is not to be had is answered alike (SEC-181,
SEC-186)."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from outrider.holding.pages import views as page_views
from outrider.holding.pages.file_names import clean_name, file_name, saved_as
from outrider.holding.pages.html import HEADERS, Page, page_response
from outrider.holding.pages.message_parts import FoundPart, decoder
from outrider.holding.pages.preview import examine, preview
from outrider.holding.pages.source import HeldDescription, PageBusy, PageSource
from outrider.holding.pages.texts import Texts, texts_for
from outrider.holding.web import WebRequest, WebResponse
from outrider.protocols.amdp.identifiers import is_identifier

ROOT: Final = "/m/"
FORM: Final = "application/x-www-form-urlencoded"
EXAMINED_AT_ONCE: Final = 4
"""Messages that are read through at the same time; a large one takes a while."""
REMEMBERED: Final = 256
"""Messages whose parts' places are known from before."""
_ACTION: Final = re.compile(rb"do=(open|received|message|part-[1-9][0-9]{0,2})")
_FILE_HEADERS: Final = {**HEADERS, "Content-Security-Policy": "default-src 'none'; sandbox"}


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request for a message."""

    request: WebRequest
    texts: Texts
    id: str
    secret: str


@dataclass(slots=True)
class _Known:
    """Where the parts of a message are, and the sizes of those that were counted; a message never changes."""

    parts: dict[int, FoundPart]
    sizes: dict[int, int] = field(default_factory=dict)


class RetrievalPages:
    """The page as a `WebService`."""

    def __init__(self, source: PageSource, hosts: Callable[[str], bool]) -> None:
        """`hosts`: whether a name is one of the facility's."""
        self._source = source
        self._hosts = hosts
        self._examining = asyncio.Semaphore(EXAMINED_AT_ONCE)
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def serves(self, host: str, path: str) -> bool:
        """See `WebService`."""
        return path.startswith(ROOT) and self._hosts(host)

    async def answer(self, request: WebRequest) -> WebResponse:
        """See `WebService`."""
        texts = texts_for(request.headers.get("accept-language", ""))
        parts = request.path.removeprefix(ROOT).split("/")
        if len(parts) != 2 or not all(map(is_identifier, parts)):
            return _missing(texts)
        asked = _Asked(request, texts, *parts)
        try:
            return await (self._act(asked) if request.method == "POST" else self._show(asked))
        except PageBusy as error:
            again = {"Retry-After": str(error.seconds)}
            status = 429 if error.guessing else 503
            return page_response(page_views.busy(texts, error.seconds), status, again)
        except LookupError:  # gone since it was opened
            return _missing(texts)

    async def _show(self, asked: _Asked) -> WebResponse:
        held = await self._source.describe(asked.id, asked.secret, asked.request.client)
        if held is None:
            return _missing(asked.texts)
        request = asked.request
        return page_response(page_views.waiting(held, asked.texts, request.host, request.now))

    async def _act(self, asked: _Asked) -> WebResponse:
        action = _action(asked.request)
        if action is None or not _is_own(asked.request):
            return page_response(page_views.foreign(asked.texts), 403)
        if action == "received":
            return await self._received(asked)
        held = await self._source.open(asked.id, asked.secret, asked.request.client)
        if held is None or held.received_at:
            return _missing(asked.texts)
        if action == "open":
            return page_response(await self._message(asked, held))
        if action == "message":
            return self._whole(asked, held)
        return await self._part(asked, held, int(action.removeprefix("part-")))

    async def _received(self, asked: _Asked) -> WebResponse:
        client = asked.request.client
        # Whom it was from is asked first: afterwards it may be gone.
        held = await self._source.describe(asked.id, asked.secret, client)
        if held is None or not await self._source.received(asked.id, asked.secret, client):
            return _missing(asked.texts)
        return page_response(page_views.received(held, asked.texts))

    # -- the message -------------------------------------------------------------------------------------

    async def _message(self, asked: _Asked, held: HeldDescription) -> Page:
        async with self._examining:
            found = await examine(self._source.content(asked.id, asked.secret))
        self._remember(held, _Known({part.number: part for part in found.parts}))
        return page_views.message(held, preview(found), asked.texts)

    def _whole(self, asked: _Asked, held: HeldDescription) -> WebResponse:
        name = clean_name(held.subject)[:80].strip(" .") or "message"
        content = self._source.content(asked.id, asked.secret)
        return _file(f"{name}.eml", "message/rfc822", content, held.size)

    async def _part(self, asked: _Asked, held: HeldDescription, number: int) -> WebResponse:
        known = self._known.get((held.id, held.digest)) or await self._found(asked, held)
        part = known.parts.get(number)
        if part is None:
            return _missing(asked.texts)
        if number not in known.sizes:
            async with self._examining:
                known.sizes[number] = await _counted(self._decoded(asked, part))
        name = file_name(part.headers.name, part.headers.media_type, number)
        content = self._decoded(asked, part)
        return _file(name, "application/octet-stream", content, known.sizes[number])

    async def _found(self, asked: _Asked, held: HeldDescription) -> _Known:
        """The parts of a message that was shown by another worker, or long ago."""
        async with self._examining:
            found = await examine(self._source.content(asked.id, asked.secret))
        known = _Known({part.number: part for part in found.parts})
        self._remember(held, known)
        return known

    def _remember(self, held: HeldDescription, known: _Known) -> None:
        self._known.setdefault((held.id, held.digest), known)
        self._known.move_to_end((held.id, held.digest))
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _decoded(self, asked: _Asked, part: FoundPart) -> AsyncIterator[bytes]:
        """The octets of a part, piece by piece."""
        undoing, left = decoder(part.headers.encoding), part.end - part.start
        content = self._source.content(asked.id, asked.secret, part.start)
        try:
            async for piece in content:
                wanted = undoing.feed(piece[:left])
                left -= min(left, len(piece))
                if wanted:
                    yield wanted
                if not left:
                    break
        finally:
            await _closed(content)
        if rest := undoing.finish():
            yield rest


def _action(request: WebRequest) -> str | None:
    """What a form of ours asks for; None for everything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = _ACTION.fullmatch(request.body) if kind == FORM else None
    return found[1].decode("ascii") if found else None


def _is_own(request: WebRequest) -> bool:
    """Whether the form was on our page. Browsers say so themselves, in one of two ways; the policy of no
    referrer lets Origin be `null` in ours, so that it proves nothing. A program that says neither is no
    browser that somebody else's page could have used."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin == f"https://{request.headers.get('host', request.host)}"


def _missing(texts: Texts) -> WebResponse:
    return page_response(page_views.missing(texts), 404)


def _file(name: str, media_type: str, content: AsyncIterator[bytes], size: int) -> WebResponse:
    headers = {**_FILE_HEADERS, "Content-Disposition": saved_as(name)}
    return WebResponse(200, content_type=media_type, headers=headers, stream=content, length=size)


async def _counted(pieces: AsyncIterator[bytes]) -> int:
    size = 0
    async for piece in pieces:
        size += len(piece)
    return size


async def _closed(content: AsyncIterator[bytes]) -> None:
    close = getattr(content, "aclose", None)
    if close is not None:
        await close()
