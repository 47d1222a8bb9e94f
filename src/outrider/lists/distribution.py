"""From a post to the copies for the members: what is changed in it, how many at a time, and what goes on
later.

A list of any length is served in steps. Each step is one attempt of the queue: it makes copies for the next
members and, if more are left, one message to the list itself that stands for the rest (`rest_route`). Copies
and rest are stored in one transaction with the end of the step, so a crash between two steps neither loses
nor doubles a copy. Who joins meanwhile does not get the post: the first step fixes up to which number it
goes.

The content keeps every octet that a signature may cover: Subject and body are never touched. The fields that
speak of a list are replaced (RFC 2369 section 4), those that would have every member's program answer are
taken out, and so is an MPC field, as over AMTP no content may bear one (AMTP-14).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from outrider.lists.letters import MAX_SUBJECT
from outrider.lists.mailing import BULK, Mailing
from outrider.lists.settings import MailList
from outrider.lists.store import Member
from outrider.lists.tokens import Tokens
from outrider.message.encoded_words import encode_phrase
from outrider.message.header_fields import header_fields
from outrider.message.summary import displayable
from outrider.model.address import Address
from outrider.model.content import Content, InlineBody
from outrider.model.envelope import Envelope, Recipient
from outrider.model.message import Event, NewMessage, StoredMessage
from outrider.routing.list_addresses import Purpose

COPIES = 200
"""In one step."""
OCTETS = 8 * 1024 * 1024
"""Of copies in one step: a commit of that size takes a fraction of a second."""
APPROVED = "approved"
"""The instruction for a post that a moderator has let go."""

_REST = re.compile(r"members ([0-9]{1,18}) ([0-9]{1,18})")
_TAKEN_OUT = frozenset(
    {
        b"return-path", b"precedence", b"errors-to", b"mpc", b"bcc", b"resent-bcc", b"return-receipt-to",
        b"disposition-notification-to", b"x-confirm-reading-to", b"status", b"x-status",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Post:
    """A post that is to go out, with its body in memory."""

    mail_list: MailList
    message: StoredMessage
    headers: bytes
    """Without the fields that are replaced."""
    body: InlineBody
    is_ascii: bool
    is_binary: bool

    @property
    def copies_at_once(self) -> int:
        """How many copies one step makes."""
        return max(1, min(COPIES, OCTETS // (len(self.headers) + self.body.size + 1)))


def read_post(mail_list: MailList, message: StoredMessage) -> Post:
    """The post of a message. Raises LookupError without content, and the spool's errors."""
    content = message.content
    if content is None:
        raise LookupError("the message has no content any more")
    body = InlineBody(b"".join(content.body.chunks()))
    headers = message.trace + kept_fields(content.headers)
    return Post(mail_list, message, headers, body, content.is_ascii, content.is_binary)


def kept_fields(section: bytes) -> bytes:
    """A header section without the fields that a list replaces or takes out."""
    kept: list[bytes] = []
    position = 0
    for field in header_fields(section):
        name = field.name.lower()
        if name in _TAKEN_OUT or name.startswith(b"list-"):
            kept.append(section[position : field.start])
            position = field.end
    kept.append(section[position:])
    return b"".join(kept)


def list_fields(mail_list: MailList, leave: Address, leave_link: str = "") -> bytes:
    """The fields on top of one member's copy (RFC 2919, RFC 2369; `leave` works at one click: the address
    alone says who leaves). `leave_link`, where there is a subscription service, does so by one POST (RFC
    8058)."""
    post = "NO" if mail_list.settings.posting == "moderators" else f"<mailto:{mail_list.address}>"
    fields = [
        f"List-Id: {_list_phrase(mail_list)}<{mail_list.list_id}>",
        f"List-Post: {post}",
        f"List-Help: <mailto:{mail_list.at(Purpose.REQUEST)}?subject=help>",
        f"List-Unsubscribe: {f'<{leave_link}>, ' if leave_link else ''}<mailto:{leave}>",
        f"List-Owner: <mailto:{mail_list.at(Purpose.OWNER)}>",
        "Precedence: list",
        f"Delivered-To: {mail_list.address}",
    ]
    if leave_link:
        fields.insert(4, "List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    if mail_list.settings.subscription == "confirmed":
        fields.insert(3, f"List-Subscribe: <mailto:{mail_list.at(Purpose.SUBSCRIBE)}>")
    return ("\r\n".join(fields) + "\r\n").encode("ascii", "replace")


def _list_phrase(mail_list: MailList) -> str:
    text = displayable(mail_list.settings.description, MAX_SUBJECT)
    if not text:
        return ""
    if text.isascii():
        quoted = text.replace('"', " ").replace("\\", " ")
        return f'"{quoted}" '
    return f"{encode_phrase(text)} "


def copies(
    post: Post, members: Sequence[Member], tokens: Tokens, mailing: Mailing, now: float
) -> list[NewMessage]:
    """One message for each member, with an envelope sender that names him (VERP)."""
    return [_copy(post, member, tokens, mailing, now) for member in members]


def _copy(post: Post, member: Member, tokens: Tokens, mailing: Mailing, now: float) -> NewMessage:
    mail_list, original = post.mail_list, post.message
    name = mail_list.name
    token = tokens.for_member(name, Purpose.UNSUBSCRIBE, member.id)
    leave = mail_list.at(Purpose.UNSUBSCRIBE, token)
    pages = mailing.subscriptions(mail_list.address.domain)
    link = f"{pages}/leave/{name}/{token}" if pages else ""
    bounces = mail_list.at(Purpose.BOUNCES, tokens.for_member(name, Purpose.BOUNCES, member.id))
    fields = list_fields(mail_list, leave, link)
    content = Content(fields + post.headers, post.body, post.is_ascii, post.is_binary)
    envelope = Envelope(
        bounces,
        (Recipient(member.address),),
        original.envelope.body_type,
        original.envelope.smtputf8 or not member.address.is_ascii,
        mpc=mail_list.mpc,
    )
    return mailing.copy(
        content, envelope, now, f"copy of {original.id} from list {name} for {member.address}"
    )


def rest_route(after: int, up_to: int) -> str:
    """The way of the message that stands for the members still to be served."""
    return f"list:members {after} {up_to}"


def rest_of(instruction: str) -> tuple[int, int] | None:
    """(after, up to) from such a way; None for another."""
    found = _REST.fullmatch(instruction)
    return None if found is None else (int(found[1]), int(found[2]))


def again(post: Post, route: str, mailing: Mailing, now: float, about: str, held: str = "") -> NewMessage:
    """The same message to the list once more, by a way that says what is to be done with it; held with a
    reason, or at once. It keeps its envelope, its code and how it arrived."""
    original = post.message
    assert original.content is not None, "read_post has seen it"
    recipients = (Recipient(post.mail_list.address, route=route),)
    old = original.envelope
    envelope = Envelope(
        old.sender,
        recipients,
        old.body_type,
        old.smtputf8,
        old.ret,
        old.envelope_id,
        authenticated_as=old.authenticated_as,
        mpc=old.mpc,
        arrival=old.arrival,
    )
    content = Content(original.content.headers, post.body, post.is_ascii, post.is_binary)
    return NewMessage(
        mailing.new_id(now),
        now,
        envelope,
        original.trace,
        content,
        mailing.items(recipients, now, held),
        original.facts,
        (Event(now, "received", f"made here: {about} {original.id}"),),
        BULK,
    )
