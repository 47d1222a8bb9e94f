"""Everything that is counted, in one place (Prometheus names; no addresses, no domains in labels)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_AGES = (0.1, 0.5, 1, 5, 30, 60, 300, 900, 3600, 14_400, 86_400, 432_000)


class Metrics:
    """One registry with all families; made once for each process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._sessions()
        self._messages()
        self._trust()
        self._amdp_incoming()
        self._amdp_holding()
        self._delivery()
        self._spool()
        self._tls()
        # Looking a labelled child up costs as much as counting: those of every message are kept at hand.
        self.received_by = cache(self._received_by)
        self.result_of = cache(self.results.labels)
        self.connections_at = cache(self._connections_at)

    def _received_by(self, protocol: str) -> tuple[Counter, Counter]:
        return self.received.labels(protocol), self.received_octets.labels(protocol)

    def _connections_at(self, listener: str) -> tuple[Counter, Gauge]:
        return self.connections.labels(listener), self.connections_open.labels(listener)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def watch_queue(self, counts: Callable[[str], float]) -> None:
        """Have the queue gauges ask `counts("ready")` and so on at each scrape."""
        for state in ("ready", "active", "held"):
            self.queue_items.labels(state).set_function(partial(counts, state))
        self.queue_oldest.set_function(partial(counts, "oldest_s"))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"outrider_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"outrider_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"outrider_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _sessions(self) -> None:
        self.connections = self._counter("connections", "Connections accepted", "listener")
        self.connections_open = self._gauge("connections_open", "Connections open now", "listener")
        self.connections_refused = self._counter(
            "connections_refused", "Connections turned away", "listener", "why"
        )
        self.accept_failures = self._counter(
            "accept_failures", "Accepts that failed for want of resources", "listener"
        )
        self.logins = self._counter("logins", "AUTH exchanges", "mechanism", "result")

    def _messages(self) -> None:
        self.received = self._counter("messages_received", "Messages accepted and durable", "protocol")
        self.received_octets = self._counter("received_octets", "Octets of accepted content", "protocol")
        self.refused = self._counter("refusals", "Commands refused by reception", "stage", "status")
        self.amtp_refused = self._counter(
            "amtp_refused", "AMTP hosts that did not prove who they are", "check"
        )
        self.mt2_hosts = self._counter("mt2_hosts", "MT2 clients by what their HELO proved", "result")
        self.partner_breaches = self._counter(
            "partner_terms_broken", "Messages that broke terms agreed with a partner", "partner", "outcome"
        )
        self.list_copies = self._counter("list_copies", "Copies made for members", "list")
        self.list_members = self._counter(
            "list_members", "Members that joined, left, were suspended", "list", "what"
        )
        self.postage = self._counter(
            "postage", "Receipts for postage: sold, redeemed, refused, returned, bought", "what"
        )
        self.extensions = self._counter(
            "extensions", "What MT2 extensions did: spoke, asked a user, acted", "extension", "what"
        )
        self.policies = self._counter("policies_fetched", "Policies of others, asked for by AMDP", "result")
        self.web_answers = self._counter("web_answers", "Answers of AMDP's web services", "method", "status")
        self.subscriptions = self._counter(
            "subscriptions", "Subscription service: asked, changed, refused, synchronised", "what"
        )
        self.classes = self._counter("classes", "Classes looked up, reported, withdrawn", "result")
        self.vacation = self._counter("vacation", "Mail for users who are away", "result")
        self.rules = self._counter("policy_verdicts", "Verdicts of policy rules", "rule", "action")

    def _amdp_holding(self) -> None:
        self.held_copies = self._counter(
            "held_copies", "Copies of held mail by the state they went into", "state"
        )
        self.held_questions = self._counter(
            "held_questions", "Message ids that the holding facility was asked about", "what", "answer"
        )
        self.held_guessers = self._counter("held_guessers", "Addresses stopped for asking about unknown ids")
        self.held_errands = self._counter(
            "held_errands", "Receipts, hooks and refunds for held mail", "kind", "result"
        )

    def _amdp_incoming(self) -> None:
        self.amdp_questions = self._counter(
            "amdp_questions", "Envelopes that holders were asked about", "answer"
        )
        self.amdp_envelopes = self._counter("amdp_envelopes", "Envelopes by what became of them", "fate")
        self.amdp_fetches = self._counter("amdp_fetches", "Messages pulled from holders", "result")
        self.amdp_receipts = self._counter("amdp_receipts", "Receipts given to holders", "result")
        self.amdp_reports = self._counter("amdp_reports", "Reports of abuse (ARF)", "why")

    def _trust(self) -> None:
        self.trust_answers = self._counter(
            "trust_list_answers", "What lists of [trust] said when asked", "list", "result"
        )
        self.trust_seconds = self._histogram(
            "trust_list_seconds", "How long a list took to answer", _SECONDS, "list"
        )

        self.ca_lookups = self._counter(
            "ca_lookups", "Domains asked for the CA of an MT2 peer's certificate", "result"
        )
        self.ca_lookup_seconds = self._histogram("ca_lookup_seconds", "How long they took", _SECONDS)

    def _delivery(self) -> None:
        self.attempts = self._counter("delivery_attempts", "Delivery attempts")
        self.attempt_seconds = self._histogram("delivery_attempt_seconds", "Length of an attempt", _SECONDS)
        self.results = self._counter(
            "recipient_results", "Results for recipients", "result", "protocol", "status"
        )
        self.delivery_age = self._histogram("delivery_age_seconds", "From reception to delivery", _AGES)
        self.outgoing = self._counter("outgoing_connections", "Outgoing connections", "protocol", "result")
        self.amtp_servers = self._counter(
            "amtp_servers", "AMTP servers by what they proved, or that they refused our identity", "result"
        )
        self.mt2_servers = self._counter(
            "mt2_servers", "MT2 servers by what they proved, or that they refused our identity", "result"
        )
        self.fallbacks = self._counter(
            "delivery_fallback", "Deliveries that did not go the first way chosen", "from", "to", "why"
        )
        self.backoffs = self._counter("destination_backoffs", "Destinations backed off as a whole")
        self.reports = self._counter("status_reports", "Status reports", "result")
        self.in_memory = self._gauge(
            "delivery_items", "Items that the queue manager holds in memory", "state"
        )
        self.own_failures = self._counter("internal_failures", "Faults of this program", "where")
        self.worker_restarts = self._counter("worker_restarts", "Worker processes that were started again")

    def _spool(self) -> None:
        self.queue_items = self._gauge("queue_items", "Items in the queue", "state")
        self.queue_oldest = self._gauge("queue_oldest_seconds", "Age of the oldest message in the queue")
        self.commits = self._counter("spool_commits", "Group commits", "result")
        self.commit_requests = self._counter("spool_commit_requests", "Requests in group commits")
        self.commit_seconds = self._histogram("spool_commit_seconds", "Length of a group commit", _SECONDS)
        self.spool_available = self._gauge("spool_available", "1 while the spool takes mail")
        self.quarantined = self._counter("spool_quarantined", "Rows or contents found damaged", "kind")

    def _tls(self) -> None:
        self.handshakes = self._counter("tls_handshakes", "TLS handshakes", "role", "result", "version")
        self.tls_oddities = self._counter("tls_oddities", "STARTTLS refused after its offer, or gone", "what")
        self.misbehaviour = self._counter("server_misbehaviour", "Servers that broke the protocol", "stage")
        self.certificate_expiry = self._gauge(
            "certificate_not_after_seconds",
            "End of a certificate's life, seconds since the epoch",
            "certificate",
        )
