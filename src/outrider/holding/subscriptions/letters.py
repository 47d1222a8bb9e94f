"""What the subscription service writes to people: fixed and plain, with one link that asks and never acts
when it is only looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from outrider.holding.subscriptions.store import Application
from outrider.holding.subscriptions.wishes import ANYBODY, Subject
from outrider.lists.letters import Letter
from outrider.model.address import Address

CLASS_WORDS: Final[Mapping[str, str]] = {
    "*::Bulk::*": "newsletters and other bulk mail",
    "*::Commerce::*": "offers and orders",
    "*::Business::*": "business",
    "*::Government::*": "government",
    "*::Educational::*": "education",
    "*::Personal::*": "personal mail",
}
"""What people call the classes that they choose from."""


def in_words(subject: Subject) -> str:
    """What a rule is about: ``mail from news.example of the class Agent::Bulk::*``."""
    sender = "anybody" if subject.sender == ANYBODY else subject.sender
    of_class = "" if subject.pattern == ANYBODY else f" of the class {subject.pattern}"
    if subject.pattern in CLASS_WORDS:
        of_class += f" ({CLASS_WORDS[subject.pattern]})"
    return f"mail from {sender}{of_class}"


def wish_in_words(application: Application) -> str:
    """What is asked for, behind `to`."""
    subject = application.subject
    return {
        "accept": f"accept {in_words(subject)}",
        "deny": f"refuse {in_words(subject)}",
        "leave": f"end your subscription to {in_words(subject)}",
        "subscribe": f"subscribe to the list {subject.sender}",
        "unsubscribe": f"leave the list {subject.sender}",
        "show": "see what you have subscribed to here",
    }[application.kind]


def asks_to_confirm(application: Application, writer: Address, link: str) -> Letter:
    """Only who reads this address's mail gets the link (AMDP-19)."""
    text = f"""\
Somebody, we hope you, asks in the name of
    {application.address}
to {wish_in_words(application)}.

If you want this, open

    {link}

and press the button there. The link is for you alone and is good for seven days.
If you do not want it, do nothing, and nothing will happen.
"""
    subject = {
        "show": "Your subscriptions",
        "leave": "Please confirm: leave",
        "unsubscribe": "Please confirm: leave",
    }.get(application.kind, "Please confirm your subscription")
    name = f"Subscriptions at {writer.domain}"
    return Letter(writer, application.address, subject, text, writer_name=name)
