"""Sendmail as a peer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.peers.mailserver import MailServer, QueuedMessage, lines
from tests.peers.rooms import MAIL_USER, USERS

_PROGRAM = "/usr/libexec/sendmail/sendmail"
_MACROS = "/usr/share/sendmail/cf"
_MAIL_ID = USERS[MAIL_USER][0]

# Sendmail has no Maildir of its own: a local delivery program writes one, as the recipient's user.
_DELIVER = """#!/bin/sh
set -eu
umask 022
cd /mail
mkdir -p "$1/new" "$1/tmp" "$1/cur"
file=$(mktemp "$1/tmp/$(date +%s.%N).XXXXXX")
cat > "$file"
mv "$file" "$1/new/"
"""


class SendmailServer(MailServer):
    """A running Sendmail; `mc` adds m4 lines to its configuration."""

    image_name = "sendmail"
    foreground = (_PROGRAM, "-bD", "-q2s")

    def __init__(self, address: str, port: int = 25, *, mc: str = "", **settings: object) -> None:
        super().__init__(address, port, **settings)
        self._mc = mc

    def configure(self) -> None:
        """Write sendmail.mc, have m4 make sendmail.cf of it, and build the tables."""
        settings = self.settings
        self.room.folder("var/spool/mqueue", mode=0o700)
        self.room.folder("etc/mail")
        self.room.write("usr/bin/deliver", _DELIVER, mode=0o755)
        users = "".join(f"{user}:*:{_MAIL_ID}:{_MAIL_ID}::/mail:/bin/sh\n" for user in settings.users)
        self.room.write("etc/passwd", (self.room.path / "etc/passwd").read_text() + users)
        self.room.write("etc/mail/service.switch", "hosts files\naliases files\n")
        self.room.write("etc/mail/sendmail.mc", self._macros())
        made = self.room.run(
            *("m4", f"-D_CF_DIR_={_MACROS}/", f"{_MACROS}/m4/cf.m4", "/etc/mail/sendmail.mc")
        ).stdout
        self.room.write("etc/mail/sendmail.cf", made)
        self.room.write("etc/mail/aliases", "")
        self.room.run(_PROGRAM, "-bi")
        self._build_map(
            "mailertable",
            [
                f"{'.' if domain == '*' else domain} relay{number}:[{host}]"
                for number, (domain, (host, _)) in enumerate(settings.relay_to.items())
            ],
        )
        # The room's own accounts (root, nobody, ...) are nobody's mailboxes.
        self._build_map(
            "virtusertable",
            [
                *(f"{user}@{domain} {user}" for domain in settings.local_domains for user in settings.users),
                *(f"@{domain} error:5.1.1:550 User unknown" for domain in settings.local_domains),
            ],
        )
        self._build_map("access", ["Connect:127 RELAY", *self._tls_rules()])

    def _build_map(self, name: str, entries: Sequence[str]) -> None:
        text = "".join(f"{entry}\n" for entry in entries)
        self.room.run("/usr/libexec/sendmail/makemap", "hash", f"/etc/mail/{name}", stdin=text.encode())

    def _macros(self) -> str:
        settings = self.settings
        return lines(
            "VERSIONID(`outrider test peer')",
            "OSTYPE(`linux')",
            f"define(`confDOMAIN_NAME', `{self.hostname}')",
            "define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')",
            "define(`confLOG_LEVEL', `12')",
            "define(`confDEF_USER_ID', `vmail:vmail')",
            "define(`confMAX_MESSAGE_SIZE', `52428800')",
            "define(`confMIN_QUEUE_AGE', `0')",
            "define(`confTO_QUEUERETURN', `1h')",
            "define(`confTO_IDENT', `0s')",
            "define(`confPID_FILE', `/run/sendmail.pid')",
            "define(`confPRIVACY_FLAGS', `goaway')",
            # Loads of the test machine are no reason to refuse.
            "define(`confREFUSE_LA', `1000')",
            "define(`confQUEUE_LA', `1000')",
            "define(`confDELAY_LA', `1000')",
            "define(`QUEUE_DIR', `/var/spool/mqueue')",
            "define(`STATUS_FILE', `/var/spool/mqueue/statistics')",
            "define(`ALIAS_FILE', `/etc/mail/aliases')",
            "define(`LOCAL_MAILER_PATH', `/usr/bin/deliver')",
            "define(`LOCAL_MAILER_ARGS', `deliver $u')",
            # P: write Return-Path; n: no mailbox separator line. Without m: one run for each recipient.
            "define(`LOCAL_MAILER_FLAGS', `Pn')",
            "FEATURE(`no_default_msa')",
            "FEATURE(`nocanonify')",
            "FEATURE(`nouucp', `reject')",
            "FEATURE(`accept_unresolvable_domains')",
            "FEATURE(`mailertable', `hash -o /etc/mail/mailertable')",
            "FEATURE(`virtusertable', `hash /etc/mail/virtusertable')",
            *(f"VIRTUSER_DOMAIN(`{domain}')" for domain in settings.local_domains),
            "FEATURE(`access_db', `hash -T<TMPF> /etc/mail/access')",
            f"DAEMON_OPTIONS(`Name=MTA, Family=inet, Addr={self.address}, Port={self.port}')",
            f"CLIENT_OPTIONS(`Family=inet, Addr={self.address}')",
            *self._tls_macros(),
            self._mc,
            "MAILER(`local')",
            "MAILER(`smtp')",
            "LOCAL_CONFIG",
            f"Cw {' '.join(settings.local_domains)}",
            "MAILER_DEFINITIONS",
            *(self._mailer(number, port) for number, (_, port) in enumerate(settings.relay_to.values())),
        )

    @staticmethod
    def _mailer(number: int, port: int) -> str:
        """The smtp mailer again, with the next hop's port."""
        rewriting = "S=EnvFromSMTP/HdrFromSMTP, R=EnvToSMTP"
        return (
            f"Mrelay{number}, P=[IPC], F=mDFMuXa8, {rewriting}, E=\\r\\n, L=990, "
            f"T=DNS/RFC822/SMTP, A=TCP $h {port}"
        )

    def _tls_macros(self) -> list[str]:
        if self.settings.tls is None:
            return []
        certificate, key, authority = self.tls_paths()
        return [
            "define(`confCACERT_PATH', `/tls')",
            f"define(`confCACERT', `{authority}')",
            f"define(`confSERVER_CERT', `{certificate}')",
            f"define(`confSERVER_KEY', `{key}')",
            f"define(`confCLIENT_CERT', `{certificate}')",
            f"define(`confCLIENT_KEY', `{key}')",
        ]

    def _tls_rules(self) -> list[str]:
        """Entries of the access table: what TLS is asked of clients, and of each next hop."""
        settings = self.settings
        rules = ["TLS_Clt: ENCR:112"] if settings.require_tls else []
        for domain, (host, _) in settings.relay_to.items():
            name = settings.relay_to_tls_name.get(domain)
            if settings.client_tls == "none":
                rules.append(f"Try_TLS:{host} NO")
            elif settings.client_tls == "encrypt":
                rules.append(f"TLS_Srv:{host} ENCR:112")
            elif settings.client_tls == "verify":
                rules.append(f"TLS_Srv:{host} VERIFY:112{f'+CN:{name}' if name else ''}")
        return rules

    def send(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        """Hand a message to the daemon's queue, as root may, without the submission program."""
        text = content.replace(b"\r\n", b"\n")
        self.room.run(_PROGRAM, "-Am", "-i", "-odb", "-f", sender, "--", *recipients, stdin=text)

    def queue(self) -> list[QueuedMessage]:
        """List the queue from its control files (`qf...`): mailq's columns cut addresses short."""
        files = sorted((self.room.path / "var/spool/mqueue").glob("[qQ]f*"))
        return [_queued(path.name[2:], path.read_text(errors="replace")) for path in files]

    def flush(self) -> None:
        """Try every message again."""
        self.room.run(_PROGRAM, "-q")


def _queued(name: str, control: str) -> QueuedMessage:
    """Read a control file: S is the sender, R a recipient after its flags, M the last status."""
    sender = re.search(r"^S<?(.*?)>?$", control, re.MULTILINE)
    reason = re.search(r"^M(.*)$", control, re.MULTILINE)
    return QueuedMessage(
        queue_id=name,
        sender=sender[1] if sender else "",
        recipients=tuple(re.findall(r"^R[^:\n]*:<?(.*?)>?$", control, re.MULTILINE)),
        reason=reason[1] if reason else "",
    )
