"""What a language has to say on the pages. `{name}` is filled in by the page; a count picks one of two forms.

To add a language: a module beside `english.py` with all of these, and a line in `__init__.py`. Texts are
plain: no markup. A test sees to it that every language fills in the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Counted = tuple[str, str]
"""For one, and for other numbers (`{count}`)."""


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of the retrieval page in one language."""

    language: str
    """Tag of RFC 5646, for `lang`."""

    # numbers and dates
    months: tuple[str, ...]
    date: str
    """{day} {month} {year} {hour} {minute}; UTC, since the page cannot know the reader's zone."""
    decimal_sign: str
    units: tuple[str, str, str, str]
    """Octets, and thousands, millions, milliards of them."""
    kept: str
    """{date} {left}"""
    days_left: Counted
    hours_left: Counted
    moments_left: str

    # what is waiting
    waiting_title: str
    """{site}"""
    waiting_heading: str
    from_label: str
    to_label: str
    about_heading: str
    """Over what nobody but the sender vouches for."""
    here_heading: str
    """Over what the holder knows."""
    subject_label: str
    no_subject: str
    kind_label: str
    kinds: Mapping[str, str]
    """Mail type of AMDP-17 in lower case to words."""
    written_label: str
    size_label: str
    attachments_label: str
    no_attachments: str
    kept_label: str

    # how the sender is proven
    proven_heading: str
    proven: str
    """{server} {site} {date}"""
    proven_limit: str
    unproven_heading: str
    unproven: str
    """{host}"""
    unproven_limit: str
    """{site}"""

    # the button
    open_button: str
    open_effect: str
    open_nothing_yet: str
    open_again_button: str
    opened_before: str
    """{date}"""
    received_before: str
    """{date}"""

    # explanation
    what_heading: str
    what_held: str
    """{site} {date}"""
    what_ignored: str
    what_page: str
    checksum_label: str
    checksum: str

    # the message
    message_title: str
    """{site}"""
    told: str
    """{date}"""
    text_heading: str
    text_from_html: str
    text_cut: str
    no_text: str
    unreadable: str
    attachments_heading: str
    attachments_care: str
    attachments_differ: str
    unnamed: str
    save_button: str
    whole_label: str
    whole_hint: str

    # receipt
    done_heading: str
    done_button: str
    done_effect: str
    done_not_needed: str
    """{date}"""
    done_title: str
    done: str
    """{sender}"""
    done_kept: str

    # what else may be the case
    missing_title: str
    missing: str
    missing_reasons: tuple[str, ...]
    busy_title: str
    busy: Counted
    """In minutes."""
    foreign_title: str
    foreign: str
