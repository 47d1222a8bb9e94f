"""The four peer mail servers, and what each of them can do."""

from __future__ import annotations

from tests.peers.exim import EximServer
from tests.peers.mailserver import MailServer
from tests.peers.opensmtpd import OpenSmtpdServer
from tests.peers.postfix import PostfixServer
from tests.peers.sendmail import SendmailServer

PEERS: list[type[MailServer]] = [PostfixServer, EximServer, OpenSmtpdServer, SendmailServer]
TLS_SERVERS: list[type[MailServer]] = [PostfixServer, EximServer, SendmailServer]
"""OpenSMTPD cannot be a TLS server here; see its module."""
UTF8_PEERS: list[type[MailServer]] = [PostfixServer, EximServer]
"""Those that offer SMTPUTF8."""


def title(peer: object) -> str:
    """The peer's name for a test id."""
    return getattr(peer, "image_name", str(peer))
