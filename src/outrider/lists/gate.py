"""Who may write to a list, as far as it follows from the settings. Pure."""

from __future__ import annotations

from outrider.lists.settings import MailList
from outrider.model.address import Address
from outrider.model.envelope import Arrival
from outrider.model.mpc import MailClass, Mpc
from outrider.model.reply import Reply

POLICY_VIOLATION = Reply(550, "5.7.1", "MPC policy violation")  # the draft's words
NOT_FOR_YOU = Reply(550, "5.7.2", "You may not post to this list")  # RFC 3463: list expansion prohibited


def class_refusal(mpc: Mpc | None, arrival: Arrival) -> Reply | None:
    """AMTP-16: from public connections a list takes posts of class individual and no other."""
    if arrival is not Arrival.AMTP_PUBLIC or (mpc is not None and mpc.mail_class is MailClass.INDIVIDUAL):
        return None
    return POLICY_VIOLATION


def size_refusal(mail_list: MailList, size: int) -> Reply | None:
    """A post that is too large, or declared to be (0 = not declared)."""
    limit = mail_list.settings.max_size
    return None if size <= limit else Reply(552, "5.3.4", f"A post to this list has at most {limit} octets")


def needs_membership(mail_list: MailList, sender: Address) -> bool:
    """Whether it depends on the members if this sender may post."""
    return mail_list.settings.posting == "members" and sender.key not in mail_list.moderators


def posting_refusal(mail_list: MailList, sender: Address, *, is_member: bool) -> Reply | None:
    """Whether the sender may post; `is_member` counts only where `needs_membership` says so."""
    if mail_list.settings.posting == "moderators" and sender.key not in mail_list.moderators:
        return NOT_FOR_YOU
    return NOT_FOR_YOU if needs_membership(mail_list, sender) and not is_member else None


def waits_for_moderator(mail_list: MailList, sender: Address, *, is_proven: bool) -> bool:
    """Whether a post is held. A moderator's address alone proves nothing: his word counts when he has logged
    in, or when his mail came by a private AMTP connection (`is_proven`)."""
    settings = mail_list.settings
    if sender.key in mail_list.moderators and is_proven:
        return False
    return settings.moderated or settings.posting == "moderators"
