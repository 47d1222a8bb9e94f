"""Exim as a peer."""

from __future__ import annotations

import re

from tests.peers.mailserver import MailServer, QueuedMessage, lines

_TLS_HOSTS = {
    "none": "  hosts_avoid_tls = *",
    "may": None,
    "encrypt": "  hosts_require_tls = *",
    "verify": "  hosts_require_tls = *",
}


class EximServer(MailServer):
    """A running Exim; `main` and `acl_rcpt` add lines to those parts of its configuration."""

    image_name = "exim"
    foreground: tuple[str, ...] = ("/usr/sbin/exim4", "-bdf", "-q2s")

    def __init__(
        self, address: str, port: int = 25, *, main: str = "", acl_rcpt: str = "", **settings: object
    ) -> None:
        super().__init__(address, port, **settings)
        self._main = main
        self._acl_rcpt = acl_rcpt

    def configure(self) -> None:
        """Write the configuration file and the names of next hops whose certificates are verified."""
        self.room.folder("var/spool/exim4", mode=0o750, owner="Debian-exim")
        self.room.folder("var/log/exim4", owner="Debian-exim")
        self.room.write("etc/exim4/exim4.conf", self._configuration())
        self.name_next_hops()

    def _configuration(self) -> str:
        settings = self.settings
        return lines(
            f"primary_hostname = {self.hostname}",
            f"local_interfaces = <; [{self.address}]:{self.port}",
            "daemon_smtp_ports = 25",
            f"domainlist local_domains = {' : '.join(settings.local_domains)}",
            f"domainlist relay_domains = {' : '.join(settings.relay_to)}",
            "hostlist relay_hosts = 127.0.0.0/8",
            "acl_smtp_mail = check_sender",
            "acl_smtp_rcpt = check_recipient",
            "acl_smtp_data = accept",
            "host_lookup =",
            "dns_dnssec_ok = 0",
            "rfc1413_query_timeout = 0s",
            "exim_user = Debian-exim",
            "exim_group = Debian-exim",
            "never_users =",
            "trusted_users = root",
            "keep_environment =",
            # Its socket is abstract, hence shared by all rooms of the machine.
            "notifier_socket =",
            "spool_directory = /var/spool/exim4",
            "log_file_path = /var/log/exim4/%slog",
            "log_selector = +all_parents +received_recipients +tls_peerdn +smtp_confirmation -queue_run",
            "smtp_accept_max = 200",
            "smtp_accept_queue_per_connection = 0",
            "chunking_advertise_hosts = *",
            "smtputf8_advertise_hosts = *",
            "dsn_advertise_hosts = *",
            "prdr_enable = true",
            "message_size_limit = 50M",
            *self._tls_lines(),
            self._main,
            "begin acl",
            "check_sender:",
            *(
                ["  deny !encrypted = *", "       message = STARTTLS is required"]
                if settings.require_tls
                else []
            ),
            "  accept",
            "check_recipient:",
            self._acl_rcpt,
            "  accept  domains = +local_domains",
            "          endpass",
            "          message = unknown user",
            "          verify = recipient",
            "  accept  hosts = +relay_hosts",
            "  accept  authenticated = *",
            "  deny    message = relay not permitted",
            "begin routers",
            *self._router_lines(),
            "begin transports",
            *self._transport_lines(),
            "begin retry",
            "* * F,1h,2s",
            "begin authenticators",
            *self._authenticator_lines(),
        )

    def _tls_lines(self) -> list[str]:
        if self.settings.tls is None:
            return ["tls_advertise_hosts ="]
        certificate, key, authority = self.tls_paths(owner="Debian-exim")
        return [
            "tls_advertise_hosts = *",
            f"tls_certificate = {certificate}",
            f"tls_privatekey = {key}",
            f"tls_verify_certificates = {authority}",
            "tls_try_verify_hosts = *",
        ]

    def _router_lines(self) -> list[str]:
        """One router for the mailboxes and one per relayed domain; they name a transport each."""
        users = " : ".join(self.settings.users)
        local = [
            "mailboxes:",
            "  driver = accept",
            "  domains = +local_domains",
            f"  local_parts = {users}",
            "  transport = maildir",
        ]
        for number, (domain, (host, port)) in enumerate(self.settings.relay_to.items()):
            local += [
                f"relay_{number}:",
                "  driver = manualroute",
                f"  domains = {'! +local_domains' if domain == '*' else domain}",
                f"  transport = smtp_{number}",
                # By name where the certificate is to be verified: Exim checks it against the route.
                f'  route_list = "* {self.settings.relay_to_tls_name.get(domain, host)}::{port} byname"',
                # A next hop on loopback is another host here, not ourselves.
                "  self = send",
            ]
        return local

    def _transport_lines(self) -> list[str]:
        found = [
            "maildir:",
            "  driver = appendfile",
            "  directory = /mail/$local_part_data",
            "  maildir_format",
            "  create_directory",
            "  user = vmail",
            "  group = vmail",
            "  return_path_add",
            "  delivery_date_add",
        ]
        for number in range(len(self.settings.relay_to)):
            found += [
                f"smtp_{number}:",
                "  driver = smtp",
                "  allow_localhost",
                f"  interface = {self.address}",
                "  hosts_try_dane =",
                *self._client_tls_lines(),
                f"  hosts_try_auth = {'*' if self.settings.credentials else ''}",
            ]
        return found

    def _client_tls_lines(self) -> list[str]:
        settings = self.settings
        wanted = _TLS_HOSTS[settings.client_tls]
        found = [wanted] if wanted else []
        if settings.tls is not None and settings.client_tls != "none":
            found += ["  tls_certificate = /tls/certificate.pem", "  tls_privatekey = /tls/key.pem"]
        if settings.client_tls != "verify":
            return [*found, "  tls_verify_hosts =", "  tls_try_verify_hosts ="]
        assert settings.tls is not None, "verifying takes an authority"
        verify = ["  tls_verify_certificates = /tls/authority.pem", "  tls_verify_hosts = *"]
        return [*found, *verify, "  tls_verify_cert_hostnames = *"]

    def _authenticator_lines(self) -> list[str]:
        found = []
        if self.settings.accounts:
            pairs = "".join(
                f"{{and {{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}"
                for user, password in self.settings.accounts.items()
            )
            found += [
                "plain_server:",
                "  driver = plaintext",
                "  public_name = PLAIN",
                f"  server_condition = ${{if or {{{pairs}}}}}",
                "  server_set_id = $auth2",
                f"  server_advertise_condition = {'${if def:tls_in_cipher}' if self.settings.tls else 'yes'}",
            ]
        if self.settings.credentials:
            user, password = self.settings.credentials
            found += [
                "plain_client:",
                "  driver = plaintext",
                "  public_name = PLAIN",
                f"  client_send = ^{user}^{password}",
            ]
        return found

    def queue(self) -> list[QueuedMessage]:
        """List the queue by `exim -bp`."""
        shown = self.room.run("/usr/sbin/exim4", "-bp").stdout.decode()
        return [_queued(block) for block in shown.strip().split("\n\n") if block.strip()]

    def flush(self) -> None:
        """Try every message again by `exim -qf`."""
        self.room.run("/usr/sbin/exim4", "-qf")


def _queued(block: str) -> QueuedMessage:
    """Read ` 2m  1.1K 1abcde-000001-AB <from>` followed by lines of recipients (`D ` marks those done)."""
    first, *rest = block.strip().split("\n")
    match = re.search(r"(\S+-\S+-\S+) <(.*)>", first)
    assert match is not None, block
    recipients = tuple(line.strip() for line in rest if line.strip() and not line.strip().startswith("D "))
    return QueuedMessage(match[1], match[2], recipients, reason="")
