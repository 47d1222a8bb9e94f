"""The retrieval page's views: what is waiting, the message, the receipt, and what else may be (AMDP-13).

The reader may never have heard of AMDP. Each view therefore says first who wrote, and how far that is proven;
then what it is, how large, until when; and beside each button what pressing it does. What only the sender
vouches for stands under a heading that says so.
"""

from __future__ import annotations

from typing import Final

from outrider.holding.pages.file_names import file_name
from outrider.holding.pages.html import (
    NOTHING,
    Child,
    Html,
    Page,
    element,
    escaped,
    filled,
    joined,
    shown,
    shown_lines,
)
from outrider.holding.pages.preview import Preview
from outrider.holding.pages.source import HeldDescription, Proof
from outrider.holding.pages.texts import Texts, counted
from outrider.holding.pages.values import (
    address,
    date_words,
    facts,
    kept_words,
    kind_words,
    site_of,
    size_words,
    stranger,
)
from outrider.protocols.amdp.attachments import MOST
from outrider.protocols.amdp.values import clean_text

_MOST_LISTED: Final = 50
_NAME_COMPARED: Final = 60
_CHECK: Final = "M20 6 9 17l-5-5"
_CARE: Final = "M12 3 2 20h20L12 3zM12 10v4M12 17v.01"


def waiting(held: HeldDescription, texts: Texts, host: str, now: float) -> Page:
    """What GET shows: everything but the message."""
    site = site_of(held.sender)
    subject: Child = element("strong", stranger(held.subject)) if held.subject.strip() else texts.no_subject
    main = joined(
        element("h1", texts.waiting_heading),
        element("p", texts.from_label, class_="kicker"),
        element("p", address(held.sender), class_="sender"),
        _proof(held, texts, host),
        element("h2", texts.about_heading),
        facts(
            (texts.subject_label, subject),
            (texts.attachments_label, _announced(held, texts)),
            (texts.kind_label, kind_words(texts, held.mail_class) if held.mail_class else ""),
            (texts.written_label, date_words(texts, held.date)),
        ),
        element("h2", texts.here_heading),
        facts(
            (texts.size_label, size_words(texts, held.size)),
            (texts.kept_label, kept_words(texts, held.expires, now)),
            (texts.to_label, address(held.recipient)),
        ),
        _open_form(held, texts),
        _explanation(held, texts, site),
    )
    return Page(texts.waiting_title.replace("{site}", site), texts.language, main)


def message(held: HeldDescription, seen: Preview, texts: Texts) -> Page:
    """What the button shows: the text, what can be saved, and the receipt."""
    site = site_of(held.sender)
    title = shown(seen.subject or held.subject, 300).strip()
    opened = filled(texts.told, date=date_words(texts, held.opened_at)) if held.opened_at else NOTHING
    main = joined(
        element("h1", stranger(title) if title else texts.no_subject),
        element("p", opened, class_="quiet small") if opened.markup else NOTHING,
        facts(
            (texts.from_label, address(held.sender)),
            (texts.to_label, stranger(seen.to, 1000) if seen.to else address(held.recipient)),
            (texts.written_label, date_words(texts, held.date)),
        ),
        _note("care", texts.unproven_heading) if held.proof is Proof.LINK else NOTHING,
        element("h2", texts.text_heading, id="text"),
        _text(held, seen, texts),
        _savable(held, seen, texts),
        _receipt_form(held, texts),
    )
    return Page(texts.message_title.replace("{site}", site), texts.language, main)


def received(held: HeldDescription, texts: Texts) -> Page:
    """Behind the last button."""
    main = joined(
        element("h1", texts.done_title),
        element("p", filled(texts.done, sender=address(held.sender))),
        element("p", texts.done_kept),
    )
    return Page(texts.done_title, texts.language, main)


def missing(texts: Texts) -> Page:
    """The one page for all that is not to be had: it depends on nothing but the language (SEC-181)."""
    reasons = element("ul", *(element("li", reason) for reason in texts.missing_reasons), class_="plain")
    main = joined(element("h1", texts.missing_title), element("p", texts.missing), reasons)
    return Page(texts.missing_title, texts.language, main)


def busy(texts: Texts, seconds: int) -> Page:
    """Not now."""
    words = counted(texts.busy, max(1, -(-seconds // 60)))
    main = joined(element("h1", texts.busy_title), element("p", words))
    return Page(texts.busy_title, texts.language, main)


def foreign(texts: Texts) -> Page:
    """A POST that no button of ours sent."""
    main = joined(element("h1", texts.foreign_title), element("p", texts.foreign))
    return Page(texts.foreign_title, texts.language, main)


# -- parts of what is waiting --------------------------------------------------------------------------------


def _proof(held: HeldDescription, texts: Texts, host: str) -> Html:
    site = element("strong", element("bdi", site_of(held.sender)))
    if held.proof is Proof.CALLED_BACK:
        said = filled(
            texts.proven,
            server=element("bdi", shown(held.proven_by, 255)),
            site=site,
            date=date_words(texts, held.proven_at),
        )
        return _note("good", texts.proven_heading, said, escaped(texts.proven_limit))
    said = filled(texts.unproven, host=element("strong", element("bdi", shown(host, 255))))
    return _note("care", texts.unproven_heading, said, filled(texts.unproven_limit, site=site))


def _note(kind: str, heading: str, *sentences: Html) -> Html:
    drawn = element("path", d=_CHECK if kind == "good" else _CARE)
    icon = element("svg", drawn, viewBox="0 0 24 24", aria_hidden="true", focusable="false")
    head = [element("p", element("strong", heading), class_=kind)] if heading else []
    words = element("div", *head, *(element("p", one) for one in sentences))
    return element("div", icon, words, class_=f"note {kind}")


def _announced(held: HeldDescription, texts: Texts) -> Child:
    if not held.attachments:
        return texts.no_attachments
    items = [
        element(
            "li",
            stranger(one.name, 150) if one.name.strip() else texts.unnamed,
            " ",
            _kind_and_size(one.type, one.size, texts),
        )
        for one in held.attachments[:_MOST_LISTED]
    ]
    more = len(held.attachments) - len(items)
    return element("ul", *items, *([element("li", f"+ {more}")] if more else []))


def _kind_and_size(media_type: str, size: int, texts: Texts) -> Html:
    kind = element("bdi", shown(media_type, 80))
    return element("small", kind, ", ", size_words(texts, size), class_="quiet")


def _open_form(held: HeldDescription, texts: Texts) -> Html:
    if held.received_at:  # the last page: whoever has confirmed needs no button
        told: Child = filled(texts.received_before, date=date_words(texts, held.received_at))
        return element("p", told, class_="act")
    if held.opened_at:
        told = filled(texts.opened_before, date=date_words(texts, held.opened_at))
    else:
        told = joined(element("strong", texts.open_effect), " ", texts.open_nothing_yet)
    words = texts.open_again_button if held.opened_at else texts.open_button
    button = _button("open", words, class_="chief", aria_describedby="effect")
    return _form(joined(button, element("p", told, id="effect")), class_="act")


def _explanation(held: HeldDescription, texts: Texts, site: str) -> Html:
    expires = date_words(texts, held.expires)
    checksum = joined(element("code", shown(held.digest, 200)), element("br"), texts.checksum)
    return element(
        "details",
        element("summary", texts.what_heading),
        element("p", filled(texts.what_held, site=element("bdi", site))),
        element("p", filled(texts.what_ignored, date=expires)),
        element("p", texts.what_page),
        facts((texts.checksum_label, checksum if held.digest else "")),
    )


# -- parts of the message ------------------------------------------------------------------------------------


def _text(held: HeldDescription, seen: Preview, texts: Texts) -> Html:
    if not seen.readable:
        return element("p", texts.unreadable)
    if not seen.text.strip():
        return element("p", texts.no_text)
    hint = element("p", texts.text_from_html, class_="quiet small") if seen.from_html else NOTHING
    # Scrolled by keyboard too, so it must be reachable and have a name.
    text = element(
        "pre",
        shown_lines(seen.text),
        dir="auto",
        tabindex="0",
        role="region",
        aria_labelledby="text",
        lang=_language(held.language),
    )
    cut = element("p", texts.text_cut, class_="quiet small") if seen.cut else NOTHING
    return joined(hint, text, cut)


def _language(tag: str) -> str | bool:
    """A tag fit for `lang`; False (no attribute) for anything else."""
    parts = tag.strip().split("-")
    fits = all(part.isascii() and part.isalnum() and len(part) <= 8 for part in parts)
    return tag.strip() if fits and 2 <= len(parts[0]) <= 3 and parts[0].isalpha() else False


def _savable(held: HeldDescription, seen: Preview, texts: Texts) -> Html:
    about = joined(texts.whole_hint, ", ", size_words(texts, held.size))
    whole = _row("message", texts.whole_label, about, texts)
    rows = [
        _row(
            f"part-{part.number}",
            file_name(part.headers.name, part.headers.media_type, part.number),
            joined(element("bdi", shown(part.headers.media_type, 80)), ", ", size_words(texts, part.size)),
            texts,
        )
        for part in seen.attachments
    ]
    care = element("p", texts.attachments_care, class_="quiet small") if rows else NOTHING
    differ = _note("care", "", escaped(texts.attachments_differ)) if _differ(held, seen) else NOTHING
    heading = element("h2", texts.attachments_heading if rows else texts.whole_label)
    return joined(heading, care, differ, _form(element("ul", *rows, whole)))


def _row(action: str, name: str, about: Html, texts: Texts) -> Html:
    button = _button(action, texts.save_button, aria_label=f"{texts.save_button}: {shown(name, 150)}")
    words = element("span", stranger(name, 150), " ", element("small", about, class_="quiet"))
    return element("li", element("div", words, button, class_="row"))


def _differ(held: HeldDescription, seen: Preview) -> bool:
    """Whether other files came than were announced (AMDP-4b); of a message that cannot be read nothing is
    said. Names are compared by their beginnings: the envelope cuts long ones."""
    came = [_compared(one.headers.name) for one in seen.attachments[:MOST]]
    return seen.readable and came != [_compared(one.name) for one in held.attachments]


def _compared(name: str) -> str:
    return clean_text(name)[:_NAME_COMPARED]


def _receipt_form(held: HeldDescription, texts: Texts) -> Html:
    expires = date_words(texts, held.expires)
    effect = joined(texts.done_effect, " ", filled(texts.done_not_needed, date=expires))
    button = _button("received", texts.done_button, class_="chief", aria_describedby="effect")
    form = _form(joined(button, element("p", effect, id="effect")))
    return element("div", element("h2", texts.done_heading), form, class_="act")


def _form(content: Html, **attributes: str | bool) -> Html:
    """Back to the page's own address; there is no other to name, so none can be put in."""
    return element("form", content, method="post", **attributes)


def _button(action: str, words: str, **attributes: str | bool) -> Html:
    return element("button", words, name="do", value=action, type="submit", **attributes)
