"""What the subscription service writes to people: fixed and plain, in their language, with one link that asks
and never acts when it is only looked at."""

from __future__ import annotations

from outrider.holding.subscriptions.letter_texts import LETTERS, LetterTexts
from outrider.holding.subscriptions.store import Application
from outrider.holding.subscriptions.wishes import ANYBODY, Subject
from outrider.lists.letters import Letter
from outrider.model.address import Address


def in_words(subject: Subject, texts: LetterTexts) -> str:
    """What a rule is about: ``mail from news.example of the class Agent::Bulk::*``."""
    sender = texts.anybody if subject.sender == ANYBODY else subject.sender
    words = texts.mail.format(sender=sender)
    if subject.pattern != ANYBODY:
        words += texts.of_class.format(pattern=subject.pattern)
    if subject.pattern in texts.classes:
        words += f" ({texts.classes[subject.pattern]})"
    return words


def wish_in_words(application: Application, texts: LetterTexts) -> str:
    """What is asked for; in English behind `to`."""
    subject = application.subject
    return texts.wishes[application.kind].format(mail=in_words(subject, texts), sender=subject.sender)


def asks_to_confirm(application: Application, writer: Address, link: str) -> Letter:
    """Only who reads this address's mail gets the link (AMDP-19)."""
    texts = LETTERS[application.language]
    wish = wish_in_words(application, texts)
    return Letter(
        writer,
        application.address,
        texts.subjects.get(application.kind, texts.subject),
        texts.text.format(address=application.address, wish=wish, link=link),
        writer_name=texts.writer_name.format(site=writer.domain),
    )
