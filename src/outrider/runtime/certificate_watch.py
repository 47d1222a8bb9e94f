"""What a running server does about files that age: certificates that are renewed or end soon, lists of
revocations that are exchanged or have run out."""

from __future__ import annotations

from collections.abc import Callable

from outrider.maillog.emitter import Emitter, Level
from outrider.net.tls_context import ServerContexts
from outrider.net.tls_files import TlsConfigError
from outrider.runtime.assembly import Assembly
from outrider.runtime.joining import Voices
from outrider.runtime.revocation_files import RevocationFileError

WARNING_INTERVAL_S = 86_400.0
"""Between two warnings of the same thing."""


class CertificateWatch:
    """Looks when it is told to, at the files of the present settings."""

    def __init__(self, voices: Voices, assembly: Callable[[], Assembly], *, warns: bool) -> None:
        """`warns` of certificates that end soon: one worker of several does it for all."""
        self._voices = voices
        self._assembly = assembly
        self._warns = warns
        self._warned_of_expiry_at = 0.0
        self._told_of_list_at: dict[str, float] = {}

    def look(self, now: float) -> None:
        """Look at everything."""
        self._look_at_certificates(now)
        self._look_at_revocations(now)

    def _look_at_certificates(self, now: float) -> None:
        """Load what was renewed, warn of what ends soon (TLS-7)."""
        contexts, voices = self._assembly().server_tls, self._voices
        if contexts is None:
            return
        try:
            if contexts.files_changed():
                contexts.reload()
                self._assembly().client_tls.reload()
                voices.emitter.emit(Level.INFO, "certificates_reloaded")
        except TlsConfigError as error:
            voices.emitter.emit(Level.ERROR, "certificate_reload_failed", text=str(error))
        self._look_at_expiry(contexts, now)

    def _look_at_expiry(self, contexts: ServerContexts, now: float) -> None:
        voices = self._voices
        warn = self._warns and now - self._warned_of_expiry_at >= WARNING_INTERVAL_S
        for expiry in contexts.certificate_expiry():
            ends_at = expiry.not_after.timestamp()
            voices.metrics.certificate_expiry.labels(str(expiry.path)).set(ends_at)
            if warn and ends_at - now < self._assembly().config.tls.expiry_warning:
                self._warned_of_expiry_at = now
                days = round((ends_at - now) / 86_400, 1)
                voices.emitter.emit(Level.WARNING, "certificate_expires", file=str(expiry.path), days=days)

    def _look_at_revocations(self, now: float) -> None:
        """Read lists that were exchanged; say so when one has run out: nothing is proven by its CA then."""
        files, emitter = self._assembly().revocation_files, self._voices.emitter
        try:
            if files.files_changed():
                files.reload()
                emitter.emit(Level.INFO, "revocations_reloaded", lists=len(files.lists))
        except RevocationFileError as error:
            emitter.emit(Level.ERROR, "revocation_reload_failed", text=str(error))
        for one in files.lists:
            if one.next_update < now:
                self._tell_of_stale_list(one.source, now, emitter)

    def _tell_of_stale_list(self, source: str, now: float, emitter: Emitter) -> None:
        if now - self._told_of_list_at.get(source, 0.0) >= WARNING_INTERVAL_S:
            self._told_of_list_at[source] = now
            emitter.emit(Level.ERROR, "revocation_list_stale", file=source)
