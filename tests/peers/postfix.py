"""Postfix as a peer."""

from __future__ import annotations

import json

from tests.peers.mailserver import MailServer, QueuedMessage, lines
from tests.peers.rooms import MAIL_USER, USERS

_MAIL_ID = USERS[MAIL_USER][0]
_TLS_LEVELS = {"none": "none", "may": "may", "encrypt": "encrypt", "verify": "secure"}


class PostfixServer(MailServer):
    """A running Postfix; extra main.cf settings are given as `main_cf`."""

    image_name = "postfix"
    # -d: stay in the foreground, in our process group.
    foreground = ("/usr/lib/postfix/sbin/master", "-c", "/etc/postfix", "-d")

    def __init__(
        self, address: str, port: int = 25, *, main_cf: dict[str, str] | None = None, **settings: object
    ) -> None:
        super().__init__(address, port, **settings)
        self._main_cf = main_cf or {}

    def configure(self) -> None:
        """Write main.cf, master.cf and the tables; make the queue folders that a package would."""
        self._write_tables()
        parameters = {**self._base(), **self._tls(), **self._auth(), **self._main_cf}
        self.room.write(
            "etc/postfix/main.cf", "".join(f"{name} = {value}\n" for name, value in parameters.items())
        )
        self.room.write("etc/postfix/master.cf", self._master())
        self.room.folder("var/spool/postfix")
        for name in (
            "active",
            "bounce",
            "corrupt",
            "defer",
            "deferred",
            "flush",
            "hold",
            "incoming",
            "private",
        ):
            self.room.folder(f"var/spool/postfix/{name}", mode=0o700, owner="postfix")
        for name in ("saved", "trace"):
            self.room.folder(f"var/spool/postfix/{name}", mode=0o700, owner="postfix")
        self.room.folder("var/spool/postfix/maildrop", mode=0o730, owner="postfix")
        self.room.folder("var/spool/postfix/public", mode=0o710, owner="postfix")
        self.room.folder("var/spool/postfix/pid")
        self.room.folder("var/lib/postfix", owner="postfix")

    def _base(self) -> dict[str, str]:
        settings = self.settings
        return {
            "compatibility_level": "3.6",
            "myhostname": self.hostname,
            "mydestination": "",
            "inet_protocols": "ipv4",
            # Must be an address that an interface lists; where it listens is said in master.cf.
            "inet_interfaces": "127.0.0.1",
            # Deliveries leave from the peer's own address, so that the next hop can tell who calls.
            "smtp_bind_address": self.address,
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": ", ".join(
                ("permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination")
            ),
            "smtpd_peername_lookup": "no",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "virtual_mailbox_domains": ", ".join(settings.local_domains),
            "virtual_mailbox_base": "/mail",
            "virtual_mailbox_maps": "texthash:/etc/postfix/mailboxes",
            "virtual_uid_maps": f"static:{_MAIL_ID}",
            "virtual_gid_maps": f"static:{_MAIL_ID}",
            "virtual_alias_maps": "",
            "alias_maps": "",
            "alias_database": "",
            "transport_maps": "texthash:/etc/postfix/transport",
            "default_transport": "smtp",
            "message_size_limit": "52428800",
            "virtual_mailbox_limit": "0",
            "queue_run_delay": "5s",
            "minimal_backoff_time": "5s",
            "maximal_backoff_time": "5s",
            "in_flow_delay": "0",
            # Clients on loopback stand for strangers: what they send is not completed or rewritten.
            "local_header_rewrite_clients": "",
            "smtputf8_enable": "yes",
            "maillog_file": "",
        }

    def _tls(self) -> dict[str, str]:
        level = _TLS_LEVELS[self.settings.client_tls]
        parameters = {"smtp_tls_security_level": level, "smtp_tls_loglevel": "1", "smtpd_tls_loglevel": "1"}
        if self.settings.tls is None:
            return {**parameters, "smtpd_tls_security_level": "none"}
        certificate, key, authority = self.tls_paths()
        return {
            **parameters,
            "smtpd_tls_security_level": "encrypt" if self.settings.require_tls else "may",
            "smtpd_tls_chain_files": f"{key}, {certificate}",
            "smtpd_tls_CAfile": authority,
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_received_header": "yes",
            "smtp_tls_chain_files": f"{key}, {certificate}",
            "smtp_tls_CAfile": authority,
            "smtp_tls_policy_maps": "texthash:/etc/postfix/tls_policy",
        }

    def _auth(self) -> dict[str, str]:
        parameters: dict[str, str] = {}
        if self.settings.accounts:
            self._write_accounts()
            parameters |= {
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_type": "cyrus",
                "smtpd_sasl_path": "smtpd",
                "smtpd_sasl_local_domain": self.hostname,
                "smtpd_tls_auth_only": "yes" if self.settings.tls else "no",
                "smtpd_sasl_security_options": "noanonymous",
            }
        if self.settings.credentials:
            parameters |= {
                "smtp_sasl_auth_enable": "yes",
                "smtp_sasl_password_maps": "texthash:/etc/postfix/passwords",
                "smtp_sasl_security_options": "noanonymous",
            }
        return parameters

    def _write_accounts(self) -> None:
        self.room.write(
            "etc/postfix/sasl/smtpd.conf",
            lines(
                "pwcheck_method: auxprop",
                "auxprop_plugin: sasldb",
                "mech_list: PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256",
            ),
        )
        for user, password in self.settings.accounts.items():
            self.room.run(*("saslpasswd2", "-c", "-p", "-u", self.hostname, user), stdin=password.encode())
        (self.room.path / "etc/sasldb2").chmod(0o644)

    def _write_tables(self) -> None:
        settings = self.settings
        hops = {domain: f"[{host}]:{port}" for domain, (host, port) in settings.relay_to.items()}
        self.room.write(
            "etc/postfix/transport", "".join(f"{domain} smtp:{hop}\n" for domain, hop in hops.items())
        )
        self.room.write(
            "etc/postfix/mailboxes",
            "".join(
                f"{user}@{domain} {user}/\n" for domain in settings.local_domains for user in settings.users
            ),
        )
        level = _TLS_LEVELS[settings.client_tls]
        names = {hops[domain]: name for domain, name in settings.relay_to_tls_name.items()}
        self.room.write(
            "etc/postfix/tls_policy", "".join(f"{hop} {level} match={name}\n" for hop, name in names.items())
        )
        if settings.credentials:
            user, password = settings.credentials
            self.room.write(
                "etc/postfix/passwords", "".join(f"{hop} {user}:{password}\n" for hop in hops.values())
            )

    def _master(self) -> str:
        """Services without the inner chroot: the room is one already."""
        plain = ("smtp", "relay", "error", "retry", "discard", "virtual", "lmtp")
        programs = {"relay": "smtp", "retry": "error"}
        unprivileged = {"virtual"}
        return lines(
            f"{self.address}:{self.port} inet n - n - - smtpd",
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "showq unix n - n - - showq",
            "local unix - n n - - local",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            *(
                f"{name} unix - {'n' if name in unprivileged else '-'} n - - {programs.get(name, name)}"
                for name in plain
            ),
        )

    def queue(self) -> list[QueuedMessage]:
        """List the queue by `postqueue -j`."""
        shown = self.room.run("postqueue", "-j").stdout.decode()
        return [_queued(json.loads(line)) for line in shown.split("\n") if line]

    def flush(self) -> None:
        """Try every message again by `postqueue -f`."""
        self.room.run("postqueue", "-f")


def _queued(entry: dict[str, object]) -> QueuedMessage:
    recipients = entry["recipients"]
    assert isinstance(recipients, list)
    reasons = [str(item.get("delay_reason", "")) for item in recipients]
    return QueuedMessage(
        queue_id=str(entry["queue_id"]),
        sender=str(entry["sender"]),
        recipients=tuple(str(item["address"]) for item in recipients),
        reason="; ".join(reason for reason in reasons if reason),
    )
