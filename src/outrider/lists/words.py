"""What a list writes to people: fixed and plain, so that it can be tested and translated."""

from __future__ import annotations

from outrider.lists.letters import Letter
from outrider.lists.settings import MailList
from outrider.message.summary import summarize
from outrider.model.address import Address
from outrider.model.message import MessageId, StoredMessage
from outrider.routing.list_addresses import Purpose

SHOWN_TO_MODERATORS = 4096
"""Octets of a post's body."""


def asks_to_confirm(mail_list: MailList, to: Address, wish: str, token: str, message_id: str) -> Letter:
    """The second half of double opt-in: only who reads this address's mail can answer."""
    done = "subscribes this address to" if wish == "subscribe" else "ends this address's subscription to"
    text = f"""\
Somebody, we hope you, has sent mail that {done} the list

    {_title(mail_list)}

If you want this, just answer this letter; nothing has to be written in it.
If you do not, do nothing, and nothing will happen.

The answer goes to
    {mail_list.at(Purpose.CONFIRM, token)}
and is good for seven days.
"""
    return _letter(
        mail_list,
        to,
        f"Please confirm: {wish} {mail_list.name}",
        text,
        reply_to=mail_list.at(Purpose.CONFIRM, token),
        in_reply_to=message_id,
    )


def welcomes(mail_list: MailList, to: Address) -> Letter:
    """After a confirmed subscription."""
    text = f"""\
This address is now subscribed to the list

    {_title(mail_list)}

{_how_to_post(mail_list)}
To leave, write to {mail_list.at(Purpose.UNSUBSCRIBE)};
each message of the list also names, in its field List-Unsubscribe, an address that needs no confirmation.
The owners read {mail_list.at(Purpose.OWNER)}.
"""
    return _letter(mail_list, to, f"Welcome to {mail_list.name}", text)


def says_goodbye(mail_list: MailList, to: Address) -> Letter:
    """After a subscription has ended."""
    text = f"""\
This address is no longer subscribed to the list

    {_title(mail_list)}

If that is a mistake, write to {mail_list.at(Purpose.SUBSCRIBE)}.
"""
    return _letter(mail_list, to, f"You have left {mail_list.name}", text)


def helps(mail_list: MailList, to: Address, first: str = "") -> Letter:
    """What can be done by mail; `first` says why this is sent, where nobody asked for help."""
    joining = (
        f"to join:   write to {mail_list.at(Purpose.SUBSCRIBE)}"
        if mail_list.settings.subscription == "confirmed"
        else "to join:   ask the owners; this list is closed"
    )
    opening = f"{first}\n\n" if first else ""
    text = f"""\
{opening}The list {_title(mail_list)}

    {joining}
    to leave:  write to {mail_list.at(Purpose.UNSUBSCRIBE)}
    a person:  write to {mail_list.at(Purpose.OWNER)}

{_how_to_post(mail_list)}
"""
    return _letter(mail_list, to, f"About the list {mail_list.name}", text)


def asks_moderator(
    mail_list: MailList,
    to: Address,
    message: StoredMessage,
    held: MessageId,
    approve: Address,
    reject: Address,
) -> Letter:
    """A post waits: what it is, and where a word about it goes."""
    content = message.content
    headers = content.headers if content else b""
    summary = summarize(headers)
    shown = b"" if content is None else next(content.body.chunks(SHOWN_TO_MODERATORS), b"")
    text = f"""\
A post to {mail_list.name} waits for a moderator.

    sender:   {message.envelope.sender or "<>"}
    From:     {summary.sender}
    Subject:  {summary.subject}
    size:     {message.size} octets
    queue id: {held}

To let it go out, write to
    {approve}
To drop it, write to
    {reject}
Nothing has to be written in the mail. Whoever has these addresses can use them: do not pass this letter on.

The message begins:

{_quoted(shown[:SHOWN_TO_MODERATORS])}
"""
    return _letter(
        mail_list, to, f"Post to {mail_list.name} waits: {summary.subject}", text, reply_to=approve
    )


def tells_suspended(mail_list: MailList, to: Address, member: Address, days: int) -> Letter:
    """To an owner: a member's mail comes back."""
    text = f"""\
The member {member} of {mail_list.name} gets no more mail:
on {days} days copies could not be delivered to that address.

The subscription is kept. It goes on when that address writes to {mail_list.at(Purpose.SUBSCRIBE)},
or by `outrider list subscribe`.
"""
    return _letter(mail_list, to, f"Member suspended: {member}", text)


def _letter(
    mail_list: MailList,
    to: Address,
    subject: str,
    text: str,
    *,
    reply_to: Address | None = None,
    in_reply_to: str = "",
) -> Letter:
    return Letter(
        mail_list.at(Purpose.REQUEST),
        to,
        subject,
        text,
        writer_name=f"List {mail_list.name}",
        reply_to=reply_to,
        in_reply_to=in_reply_to,
    )


def _title(mail_list: MailList) -> str:
    description = mail_list.settings.description
    return f"{mail_list.name} ({description})" if description else mail_list.name


def _how_to_post(mail_list: MailList) -> str:
    who = {
        "members": "Members write to",
        "anyone": "Anybody may write to",
        "moderators": "Only its moderators write to",
    }[mail_list.settings.posting]
    return f"{who} {mail_list.address}."


def _quoted(octets: bytes) -> str:
    lines = octets.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return "\n".join(f"> {line}" for line in lines)
