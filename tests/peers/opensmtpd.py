"""OpenSMTPD as a peer.

The distribution's version 6.8 was written for OpenSSL 1.1 and cannot use a private key with OpenSSL 3 (the
key lives in another process, which the newer library bypasses): every handshake in which it has to show a
certificate fails. So it is a TLS client without a certificate only, and offers no STARTTLS as a server.
"""

from __future__ import annotations

from tests.peers.mailserver import MailServer, QueuedMessage, lines

# Of the URL schemes, "smtp" alone means opportunistic TLS.
_SCHEMES = {"none": "smtp+notls", "may": "smtp", "encrypt": "smtp+tls", "verify": "smtp+tls"}


class OpenSmtpdServer(MailServer):
    """A running OpenSMTPD; with `client_tls="verify"` it needs a `relay_to_tls_name` for every next hop."""

    image_name = "opensmtpd"
    foreground: tuple[str, ...] = ("/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf", "-T", "smtp")

    def configure(self) -> None:
        """Write smtpd.conf and make the folders that a package would."""
        for name in ("run/opensmtpd/empty", "var/lib/opensmtpd/empty"):
            self.room.folder(name)
        (self.room.path / "var/run").symlink_to("/run")
        self.room.folder("var/spool/smtpd", mode=0o711)
        # Local users reach the server's socket by this group, which a package's script would set.
        smtpctl = self.room.path / "usr/sbin/smtpctl"
        self.room.copy_in(smtpctl, "usr/sbin/smtpctl", mode=0o2755, owner="opensmtpq")
        if self.settings.require_tls:
            raise ValueError("this OpenSMTPD cannot be a TLS server, so it cannot require TLS")
        if self.settings.tls is not None:
            self.room.copy_in(self.settings.tls.authority, "etc/ssl/certs/ca-certificates.crt")
        self.name_next_hops()
        self.room.write("etc/mailname", f"{self.hostname}\n")
        self.room.write("etc/smtpd.conf", self._configuration())

    def _configuration(self) -> str:
        settings = self.settings
        domains = ", ".join(f'"{domain}"' for domain in settings.local_domains)
        mailboxes = ", ".join(
            f'"{user}@{domain}" = vmail' for domain in settings.local_domains for user in settings.users
        )
        return lines(
            f"table mailboxes {{ {mailboxes} }}",
            f"table domains {{ {domains} }}",
            f'listen on {self.address} port {self.port} hostname "{self.hostname}"',
            "listen on socket",
            'smtp max-message-size "50M"',
            'queue ttl "1h"',
            'action "mailbox" maildir "/mail/%{dest.user:lowercase}" virtual <mailboxes>',
            *(self._relay_action(number, domain) for number, domain in enumerate(settings.relay_to)),
            'match from any for domain <domains> action "mailbox"',
            *(
                match
                for number, domain in enumerate(settings.relay_to)
                for match in self._relay_matches(number, domain)
            ),
        )

    def _relay_action(self, number: int, domain: str) -> str:
        level = self.settings.client_tls
        host, port = self.settings.relay_to[domain]
        # It checks the certificate against the host of the URL, which /etc/hosts leads to the address.
        url = f"{_SCHEMES[level]}://{self.settings.relay_to_tls_name.get(domain, host)}:{port}"
        tls = {"encrypt": "tls no-verify", "verify": "tls"}.get(level, "")
        return f'action "relay{number}" relay host "{url}" {tls} src {self.address} helo "{self.hostname}"'

    @staticmethod
    def _relay_matches(number: int, domain: str) -> list[str]:
        target = "any" if domain == "*" else f'domain "{domain}"'
        sources = ("local", 'src "127.0.0.0/8"')
        return [f'match from {source} for {target} action "relay{number}"' for source in sources]

    def queue(self) -> list[QueuedMessage]:
        """List the queue by `smtpctl show queue`: one line per envelope, gathered by message."""
        shown = self.room.run("smtpctl", "show", "queue").stdout.decode()
        envelopes = [line.split("|") for line in shown.split("\n") if line]
        found: dict[str, QueuedMessage] = {}
        for fields in envelopes:
            # The first eight digits of an envelope's id name the message.
            message, sender, recipient, reason = fields[0][:8], fields[4], fields[6], fields[-1]
            before = found.get(message, QueuedMessage(message, sender, (), reason))
            found[message] = QueuedMessage(message, sender, (*before.recipients, recipient), reason)
        return list(found.values())

    def flush(self) -> None:
        """Try every message again, by a restart: `smtpctl schedule` leaves alone what waits for a route."""
        self.stop()
        self.start()
