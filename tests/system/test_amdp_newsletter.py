"""What a newsletter costs a site whose readers hardly open it: envelopes, and the message for the few."""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
from dataclasses import dataclass

import pytest

from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.newsletter_sites import HOLDER, LINE, ReaderBrowser, Sites, letter, newsletter_sites, send
from tests.system.sites import body_of, headers_of, json_rows, mailbox

SENDER = "news@alpha.example"
SUBJECT = b"The week in review"
OPENED = 20
"""One reader in so many opens it."""
MOST = 0.10
"""Of what SMTP costs."""
AT_ONCE = 100
"""Recipients that every server takes in one transaction (RFC 5321 4.5.3.1.8)."""
KIB = 1024
LONG_S = 20 * PATIENCE_S


@dataclass(frozen=True, slots=True)
class Cost:
    """To the receiving site, in octets."""

    moved: int
    disk: int

    def since(self, before: Cost) -> Cost:
        """What came in between."""
        return Cost(self.moved - before.moved, self.disk - before.disk)


def cost(sites: Sites) -> Cost:
    return Cost(sites.octets(), sites.disk())


def wait_arrived(sites: Sites, readers: list[str], count: int) -> None:
    """Every reader has so many messages, and nothing is left to do."""
    new = [sites.beta.folder / "mail" / reader / "new" for reader in readers]

    def all_there() -> bool:
        return all(folder.exists() and len(list(folder.iterdir())) >= count for folder in new)

    wait_until(all_there, f"{count} messages for each reader", LONG_S)
    wait_until(lambda: not json_rows(sites.beta, "queue", "list"), "an empty queue", LONG_S)


def opens(sites: Sites, reader: str) -> None:
    """The envelope in the reader's Maildir becomes the message."""
    holder = f"{HOLDER}={sites.relays[-1].address}"
    done = subprocess.run(
        [
            *(OUTRIDER, "fetch", sites.beta.folder / "mail" / reader, "--json"),
            *("--ca", sites.authority, "--private", "127.0.0.0/8", "--address", holder),
        ],
        capture_output=True,
        timeout=4 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == "fetched", done.stdout


def by_smtp(sites: Sites, readers: list[str], content: bytes, at_once: int) -> None:
    """Each with a return path of its own, as lists send; or many in one transaction."""
    address = sites.relays[0].address
    with smtplib.SMTP(address, 25, timeout=4 * PATIENCE_S) as connection:
        for start in range(0, len(readers), at_once):
            group = [f"{reader}@beta.example" for reader in readers[start : start + at_once]]
            send(address, f"news-{start}@elsewhere.example", group, content, connection)


def show(what: str, ours: int, theirs: int) -> None:
    print(f"{what:58} {ours / KIB:11,.0f} KiB of {theirs / KIB:11,.0f} KiB: {ours / theirs:.1%}")


def reads_at_postfix(sites: Sites, content: bytes) -> None:
    """At a server that knows SMTP only the envelope is a letter with a link, and the link opens."""
    [envelope] = sites.gamma.wait_messages("bob")
    text = body_of(envelope)
    assert SUBJECT in text
    assert len(envelope) < 8 * KIB
    [link] = re.findall(rb"^https://[a-z0-9.-]+/m/[a-z2-7]{26}/[a-z2-7]{26}$", text, re.MULTILINE)
    with ReaderBrowser(link.decode(), sites.relays[-1].address, sites.authority) as browser:
        status, page = browser.get()
        assert status == 200
        assert SUBJECT in page
        assert LINE not in page, "nothing is opened by looking"
        status, message = browser.press("message")
        assert status == 200
        assert message.endswith(content)
        assert browser.press("received")[0] == 200
    [row] = json_rows(sites.alpha, "held", "list", "--all")
    [copy] = [one for one in json_rows(sites.alpha, "held", "show", row["id"]) if "gamma" in one["recipient"]]
    assert (copy["state"], copy["by"]) == ("retrieved", "unauthenticated receiver")


@pytest.mark.covers("AMDP-22", "AMDP-5a", "AMDP-13")
@pytest.mark.parametrize(
    ("recipients", "size"),
    [
        pytest.param(60, 256 * KIB, id="short"),
        pytest.param(1000, 1024 * KIB, id="long", marks=pytest.mark.long),
    ],
)
def test_a_newsletter_costs_envelopes_and_what_is_opened(
    authority: CertificateAuthority, recipients: int, size: int
) -> None:
    readers, content = [f"reader{number}" for number in range(recipients)], letter(size)
    with newsletter_sites(authority, readers) as sites:
        first = cost(sites)
        everybody = [*(f"{one}@beta.example" for one in readers), "bob@gamma.example"]
        send(sites.alpha_address, SENDER, everybody, content)
        wait_arrived(sites, readers, 1)
        announced = cost(sites).since(first)
        for reader in readers[::OPENED]:
            opens(sites, reader)
        whole = cost(sites).since(first)
        reads_at_postfix(sites, content)
        before = cost(sites)
        by_smtp(sites, readers, content, 1)
        wait_arrived(sites, readers[1:2], 2)
        wait_until(lambda: not json_rows(sites.beta, "queue", "list"), "an empty queue", LONG_S)
        pushed = cost(sites).since(before)
        before = cost(sites)
        by_smtp(sites, readers, content, AT_ONCE)
        together = cost(sites).since(before)

        kinds = {reader: mailbox(sites.beta, reader)[0] for reader in readers[: OPENED + 1]}
        assert body_of(kinds["reader0"]) == body_of(content), "who opened it has all of it"
        assert b"AMDP-Verified-From: <news@alpha.example>" in headers_of(kinds["reader1"])
        assert len(kinds["reader1"]) < size // 10, "who did not has its envelope"
    print(f"\na newsletter of {size // KIB} KiB to {recipients} recipients, {100 // OPENED} % open it")
    show("octets before the receiver said yes, to SMTP", announced.moved, pushed.moved)
    show("octets in all, to SMTP", whole.moved, pushed.moved)
    show("disk in all, to SMTP", whole.disk, pushed.disk)
    show(f"octets in all, to SMTP with {AT_ONCE} recipients at once", whole.moved, together.moved)
    assert pushed.moved > recipients * size * 0.95
    assert whole.moved < MOST * pushed.moved
    assert whole.disk < MOST * pushed.disk
