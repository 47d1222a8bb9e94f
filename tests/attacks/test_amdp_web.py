"""Strangers at the HTTPS of a running site with every service of AMDP: requests with two readings, requests
that never end or are far too large, forged forms, and mail whose every field is markup (SEC-186, SEC-195 to
SEC-204). After each of them mail still goes through."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sink import Sink
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.amdp_role_sites import amdp_server, letter, submit
from tests.system.sites import wait_mailbox

HOLDER, SERVICE = "mhf-1.alpha.example", "amdp-mis.alpha.example"
FORM = "application/x-www-form-urlencoded"
LINK = re.compile(rb"https://[^/\s]+(/m/[a-z2-7]{26}/[a-z2-7]{26})")
ENDPOINTS = (
    "/amdp/v1/query",
    "/amdp/v1/acknowledge",
    "/amdp/v1/message",
    "/amdp/v1/receipt",
)
SERVICES = (
    "/amdp/v1/subscriptions/apply",
    "/amdp/v1/subscriptions/confirm",
    "/amdp/v1/subscriptions/leave",
    "/amdp/v1/subscriptions/synchronise",
    "/amdp/v1/subscriptions/changes",
    "/amdp/v1/postage/receipt",
    "/amdp/v1/postage/balance",
    "/amdp/v1/postage/refund",
)


@dataclass(frozen=True, slots=True)
class Site:
    """Alpha with all services, and what a reader at a site without AMDP was sent."""

    server: OutriderServer
    address: str
    context: ssl.SSLContext
    sink: Sink

    def connect(self, host: str = HOLDER) -> ssl.SSLSocket:
        """From an address of its own, so that no limit of another test is met."""
        raw = socket.create_connection((self.address, 443), PATIENCE_S, (loopback_address(), 0))
        return self.context.wrap_socket(raw, server_hostname=host)

    def say(self, octets: bytes, host: str = HOLDER) -> bytes:
        """All that is answered until the server closes."""
        with self.connect(host) as link:
            with contextlib.suppress(OSError):  # it may have heard enough
                link.sendall(octets)
            return heard(link)

    def post(self, path: str, body: bytes, *fields: str, host: str = HOLDER) -> tuple[int, bytes]:
        """Status, and all that is answered."""
        answer = self.say(request("POST", path, host, *fields, body=body), host)
        return status_of(answer), answer

    def get(self, path: str, *fields: str, host: str = HOLDER) -> tuple[int, bytes]:
        answer = self.say(request("GET", path, host, *fields), host)
        return status_of(answer), answer

    def held(self, octets: bytes) -> str:
        """The path of the page of a message that ann wrote to erin, who has plain SMTP."""
        before = len(self.sink.arrivals)
        submit(self.address, "ann@alpha.example", octets, ["erin@far.example"])
        wait_until(lambda: len(self.sink.arrivals) > before, "an envelope")
        found = LINK.search(self.sink.arrivals[-1].content)
        assert found is not None
        return found[1].decode()

    def mail_goes_on(self) -> None:
        """Beside whatever else is under way."""
        token = f"t{time.monotonic_ns()}"
        submit(self.address, "ann@alpha.example", letter("ann@alpha.example", token), ["bob@alpha.example"])
        wait_until(lambda: any(token.encode() in one for one in wait_mailbox(self.server, "bob")), "mail")


def heard(link: ssl.SSLSocket) -> bytes:
    octets = b""
    with contextlib.suppress(OSError):
        while more := link.recv(65_536):
            octets += more
    return octets


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def request(method: str, path: str, host: str, *fields: str, body: bytes = b"") -> bytes:
    """One request, after which the connection is closed."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
    if method == "POST" and not any(one.lower().startswith("content-length") for one in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@contextmanager
def alphas_site(folder: Path, amdp: dict[str, Any], users: list[str], **running: Any) -> Iterator[Site]:
    """Alpha, which holds everything; its readers have plain SMTP. `amdp` is what it has beside that,
    `running` how its server is run."""
    authority = CertificateAuthority(folder)
    address, far = loopback_address(), loopback_address()
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {address}\nmhf-1 A {address}\namdp-mis A {address}",
        "far.example": f"@ MX 10 mx\nmx A {far}",
    }
    with ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))
        sink = stack.enter_context(Sink(far))
        settings = amdp_server(
            "alpha.example",
            address,
            names,
            authority,
            ["mx.alpha.example", HOLDER, SERVICE],
            {"outgoing": {"hold": "all", "classes": {"*": "Agent::Bulk"}}, **amdp},
            users=users,
        )
        server = stack.enter_context(OutriderServer(settings, **running))
        context = ssl.create_default_context(cafile=str(authority.authority))
        yield Site(server, address, context, sink)
        server.stop()
        assert "Traceback" not in server.log()
        assert not server.log_events("amdp_service_broke")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    amdp = {
        "roles": ["omg", "mhf", "mis", "img", "subscriptions"],
        "postage": {"provider": "ledger"},
        "subscriptions": {"requests_per_hour": 0},
    }
    folder = tmp_path_factory.mktemp("authority")
    with alphas_site(folder, amdp, ["ann", "bob", "postmaster"]) as made:
        yield made


@pytest.fixture(autouse=True)
def stands(site: Site) -> Iterator[None]:
    """After each attack it lives, and takes and delivers mail."""
    yield
    assert site.server.is_running()
    site.mail_goes_on()


# --- requests with two readings (SEC-203) -------------------------------------------------------------------

HIDDEN = b"GET /.well-known/amdp-policy HTTP/1.1\r\nHost: amdp-mis.alpha.example\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
TOP = b"POST /amdp/v1/query HTTP/1.1\r\nHost: mhf-1.alpha.example\r\n"
SMUGGLED = {
    "both lengths": TOP + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "both, the other way": TOP + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": TOP + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "two lengths in one": TOP + b"Content-Length: 0, 44\r\n\r\n",
    "a length with a sign": TOP + b"Content-Length: +0\r\n\r\n",
    "a length in hex": TOP + b"Content-Length: 0x0\r\n\r\n",
    "a folded coding": TOP + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a folded field": TOP + b"X: a\r\n\tb\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": TOP + b"Content-Length : 0\r\n\r\n",
    "a tab before the colon": TOP + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": TOP + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": TOP + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a bare CR": TOP + b"X: a\rContent-Length: 44\r\n\r\n",
    "NUL": TOP + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a chunk of 2^64": TOP + CHUNKED + b"\r\nffffffffffffffffff\r\n",
    "a chunk with a sign": TOP + CHUNKED + b"\r\n-1\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: mhf-1.alpha.example\n\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": TOP + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SMTP": b"EHLO mx.evil.example\r\nMAIL FROM:<>\r\n",
}


@pytest.mark.covers("SEC-203")
def test_what_has_two_readings_is_refused_and_hides_nothing(site: Site) -> None:
    for name, octets in SMUGGLED.items():
        answer = site.say(octets + HIDDEN)
        assert status_of(answer) == 400, (name, answer[:300])
        assert answer.count(b"HTTP/1.") == 1, (name, answer[:600])
        assert b"DOMAIN alpha.example" not in answer, name


# --- too much, too slow (SEC-204) ---------------------------------------------------------------------------

DEEP = b"[" * 100_000
BOMBS = {
    "not JSON": b"{",
    "deep": DEEP,
    "deep in its place": b'{"queries": ' + DEEP,
    "a number of ten thousand digits": b'{"queries": [{"id": "a", "timestamp": ' + b"9" * 10_000 + b"}]}",
    "a number of a million digits": b"9" * 1_000_000,
    "1e999999": b'{"queries": [{"id": "a", "timestamp": 1e999999}]}',
    "not a number": b'{"queries": [{"timestamp": NaN}]}',
    "many questions": json.dumps({"queries": [{"id": "a" * 26}] * 20_000}).encode(),
    "many members": json.dumps({f"m{number}": number for number in range(60_000)}).encode(),
    "not UTF-8": b'{"queries": "\xff\xfe"}',
    "half a surrogate": b'{"id": "\\ud800", "confirmation": "\\udfff"}',
    "NUL": b'{"id": "\\u0000", "confirmation": "\\u0000"}',
    "an array": b"[]",
    "null": b"null",
    "nothing": b"",
}


@pytest.mark.covers("SEC-204")
@pytest.mark.parametrize("host", [HOLDER, SERVICE])
def test_documents_that_are_bombs_are_refused_everywhere(site: Site, host: str) -> None:
    kind = "Content-Type: application/json"
    for path in ENDPOINTS if host == HOLDER else SERVICES:
        for name, body in BOMBS.items():
            status, answer = site.post(path, body, kind, host=host)
            # An unknown member alone makes no document wrong, and NUL is in no id: what is not there is 404.
            assert status in (400, 403, 404, 413), (path, name, answer[:300])
            assert len(answer) < 2_000, "nothing of what was sent comes back"


@pytest.mark.covers("SEC-204")
def test_what_is_too_large_is_refused_before_it_has_come(site: Site) -> None:
    many = "a=b&" * 1_000_000
    parts = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" * 20_000
    cases = {
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n": (400,),
        request("GET", "/", HOLDER, "X: " + "a" * 100_000): (400,),
        request("GET", "/", HOLDER, *["X: y"] * 100_000): (400,),
        request("GET", "/subscriptions?" + "a=b&" * 1000, SERVICE): (400,),
        TOP + b"Connection: close\r\n" + CHUNKED + b"\r\n1;" + b"x" * 100_000 + b"\r\na\r\n0\r\n\r\n": (400,),
        request("POST", ENDPOINTS[0], HOLDER, "Content-Length: 1000000000"): (413,),
        request("POST", ENDPOINTS[0], HOLDER, f"Content-Length: {10**30}"): (400, 413),
        request("POST", "/subscriptions", SERVICE, f"Content-Type: {FORM}", body=many.encode()): (400, 413),
        request(
            "POST", "/subscriptions", SERVICE, "Content-Type: multipart/form-data; boundary=x", body=parts
        ): (400,),
    }
    for octets, statuses in cases.items():
        host = SERVICE if b"Host: amdp-mis" in octets[:500] else HOLDER
        answer = site.say(octets, host)
        assert status_of(answer) in (*statuses, 0), (octets[:80], answer[:200])
        assert status_of(answer) or len(octets) > 65_536, "only what is still being sent may be cut off"


@pytest.mark.covers("SEC-204")
def test_a_hundred_that_trickle_keep_nobody_waiting(site: Site) -> None:
    """Each has begun a request, or a body, and says no more; then one octet."""
    beginnings = (
        b"GET / HTTP/1.1\r\nHost: mhf-1.alpha.example\r\nX: ",
        TOP + b"Content-Length: 1000\r\n\r\n{",
        TOP + CHUNKED + b"\r\n5\r\nab",
        b"",
    )
    with ExitStack() as stack:
        with ThreadPoolExecutor(10) as threads:
            links = list(threads.map(lambda _: stack.enter_context(site.connect()), range(100)))
        for number, link in enumerate(links):
            link.sendall(beginnings[number % len(beginnings)])
        began = time.monotonic()
        status, answer = site.get("/.well-known/amdp-policy", host=SERVICE)
        assert status == 200
        site.mail_goes_on()
        assert time.monotonic() - began < PATIENCE_S, "no limit on time: nobody has waited for them"
        for link in links[:4]:
            link.sendall(b"x")
        assert answer.endswith(b"\n")


# --- paths and places (SEC-186, SEC-198 to SEC-200) ---------------------------------------------------------


@pytest.mark.covers("SEC-186", "SEC-200")
def test_no_path_leads_to_a_file(site: Site) -> None:
    up = (
        "../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "%252e%252e%252f", "..%c0%af", "..%e0%80%af",
        "..;/", "....//", ".%00./", "%uff0e%uff0e/", "..%ff/",
    )  # fmt: skip
    ends = ("etc/passwd", "outrider.toml", "data/amdp/held.sqlite", ".git/config", "proc/self/environ")
    roots = ("/", "/m/", "/static/", "/subscriptions/confirm/", "/amdp/v1/", "/.well-known/")
    for root in roots:
        for number, step in enumerate(up):
            for host in (HOLDER, SERVICE):
                status, answer = site.get(f"{root}{step * 6}{ends[number % len(ends)]}", host=host)
                assert status in (400, 404), (root, step, status)
                assert b"root:" not in answer
                assert b"hostname" not in answer
    for path in ("http://127.0.0.1:22/", "//evil.example/", "*", "/" + "a" * 7_000, "/%0d%0aSet-Cookie:x=y"):
        status, answer = site.get(path)
        assert status in (400, 404), path
        assert b"set-cookie" not in answer.lower()


@pytest.mark.covers("SEC-198", "SEC-199")
def test_nothing_that_is_asked_leads_elsewhere_or_ends_a_field(site: Site) -> None:
    """There are no redirects, and no field of an answer is made of a request."""
    page = site.held(letter("ann@alpha.example", "x"))
    targets = (
        "//evil.example", "/\\evil.example", "https:evil.example", "javascript:alert(1)", "%09//evil.example",
        "%0d%0aLocation:%20https://evil.example", "%E5%98%8A%E5%98%8DLocation:x", "\\r\\nLocation:x",
    )  # fmt: skip
    for target in targets:
        for name in ("next", "return", "url", "redirect", "lang", "sender", "kind", "class"):
            for path, host in ((page, HOLDER), ("/subscriptions", SERVICE)):
                status, answer = site.get(f"{path}?{name}={target}", host=host)
                head = answer.partition(b"\r\n\r\n")[0].lower()
                assert status in (200, 400, 404), (path, target, status)
                assert b"\r\nlocation:" not in head
                assert b"\r\nrefresh:" not in head
                assert b"\r\nset-cookie:" not in head
                assert b"http-equiv" not in answer.lower()
    for field in ("X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Forwarded", "Accept-Language"):
        answer = site.get(page, f"{field}: https://evil.example/")[1]
        assert b"evil.example" not in answer, field


# --- forms of others, and ids of others (SEC-195, SEC-201, SEC-202) -----------------------------------------


@pytest.mark.covers("SEC-195", "SEC-201")
def test_a_form_on_another_page_applies_for_nothing(site: Site) -> None:
    fields = b"kind=accept&address=ann%40alpha.example&sender=news.example&class="
    document = b'{"wish": "accept", "address": "ann@alpha.example", "sender": "news.example"}'
    foreign = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site")
    for field in foreign:
        status, answer = site.post("/subscriptions", fields, f"Content-Type: {FORM}", field, host=SERVICE)
        assert status == 403, field
        assert b"set-cookie" not in answer.lower()
    path = "/amdp/v1/subscriptions/apply"
    for kind in ("text/plain", FORM, "multipart/form-data; boundary=x", "text/plain; application/json"):
        status, _ = site.post(path, document, f"Content-Type: {kind}", host=SERVICE)
        assert status == 415, kind
    for method in ("GET", "HEAD"):
        for override in ("X-HTTP-Method-Override: POST", "X-Method: POST", "Purpose: prefetch"):
            query = "/subscriptions?kind=accept&address=ann%40alpha.example&sender=news.example&_method=POST"
            assert status_of(site.say(request(method, query, SERVICE, override), SERVICE)) == 200
    assert not site.server.log_events("subscription_asked")
    assert not [one for one in wait_mailbox(site.server, "ann", 0) if b"confirm" in one]


# --- markup in mail (SEC-196, SEC-197) ----------------------------------------------------------------------

NAUGHTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "</textarea><iframe src=javascript:alert(1)>",
    "<!--<script>-->",
    "]]><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "javascript:alert(1)",
    "\u202etxt.exe",
    "\ufeff<body onload=alert(1)>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
)


class Tags(HTMLParser):
    """Names of elements, and of attributes with their values."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


OURS = frozenset(
    {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "span", "strong"}
    | {"small", "bdi", "br", "code", "pre", "time", "dl", "dt", "dd", "ul", "ol", "li", "details", "summary"}
    | {"form", "button", "label", "input", "select", "option", "svg", "path"}
)
"""Elements that pages of ours are made of; the svg is a drawing of two lines."""


def harmless(answer: bytes) -> None:
    """A page of ours with nothing of a stranger's that acts."""
    top, _, body = answer.partition(b"\r\n\r\n")
    policy = re.search(rb"(?i)content-security-policy: ([^\r]*)", top)
    assert policy is not None
    assert b"default-src 'none'" in policy[1]
    assert b"script-src" not in policy[1]
    assert b"unsafe-inline" not in policy[1]
    assert b"nosniff" in top.lower()
    tags = Tags()
    tags.feed(body.decode())
    assert tags.names <= OURS, tags.names - OURS
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name in ("style", "srcdoc")]
    places = [value for name, value in tags.attributes if name in ("href", "src", "action", "formaction")]
    assert not [one for one in places if one.strip().lower().startswith(("javascript:", "data:", "http:"))]


@pytest.mark.covers("SEC-196", "SEC-197")
def test_markup_in_every_shown_field_is_text(site: Site) -> None:
    for number, words in enumerate(NAUGHTY):
        message = EmailMessage()
        message["From"] = "ann@alpha.example"
        message["To"] = "erin@far.example"
        message["Subject"] = f"{number} {words}"
        message["AMDP-Message-Type"] = "letter"
        message.set_content(f"text {words}\n")
        message.add_alternative(f"<html><body>html {words}</body></html>", subtype="html")
        name = f"../../{words}\\..\\{number}.html"
        message.add_attachment(b"<script>alert(1)</script>", "text", "html", filename=name)
        page = site.held(message.as_bytes(policy=message.policy.clone(linesep="\r\n", utf8=False)))
        status, answer = site.get(page)
        assert status == 200, words
        harmless(answer)
        own = (f"Content-Type: {FORM}", "Sec-Fetch-Site: same-origin")
        status, answer = site.post(page, b"do=open", *own)
        assert status == 200, words
        harmless(answer)
        for action in re.findall(rb'value="(part-[0-9]+|message)"', answer):
            status, saved = site.post(page, b"do=" + action, *own)
            assert status == 200, (words, action)
            top = saved.partition(b"\r\n\r\n")[0].lower()
            assert re.search(rb"content-type: (application/octet-stream|message/rfc822)", top), top
            [disposition] = re.findall(rb"content-disposition: ([^\r]*)", top)
            assert disposition.startswith(b"attachment")
            assert b"nosniff" in top
            named = re.findall(rb"filename\*?=([^;]*)", disposition)
            assert named
            assert not any(re.search(rb"[/\\<>]|%2f|%5c|%00|\.\.", one) for one in named), named


@pytest.mark.covers("SEC-196", "SEC-198")
def test_markup_in_a_form_comes_back_as_text(site: Site) -> None:
    for words in NAUGHTY:
        quoted = "".join(f"%{octet:02X}" for octet in words.encode())
        for name in ("sender", "class", "kind", "address"):
            status, answer = site.get(f"/subscriptions?{name}={quoted}", host=SERVICE)
            assert status == 200
            harmless(answer)
        fields = f"kind=accept&address={quoted}&sender={quoted}&class={quoted}".encode()
        status, answer = site.post("/subscriptions", fields, f"Content-Type: {FORM}", host=SERVICE)
        assert status == 400, words
        harmless(answer)


# --- many at once, and the end while it is read (SEC-188) ---------------------------------------------------

OWN = (f"Content-Type: {FORM}", "Sec-Fetch-Site: same-origin")


@pytest.mark.covers("SEC-188", "AMDP-13")
def test_two_who_fetch_and_confirm_at_once_are_one(site: Site) -> None:
    page = site.held(letter("ann@alpha.example", "twice"))
    with ThreadPoolExecutor(8) as threads:
        saved = list(threads.map(lambda _: site.post(page, b"do=message", *OWN), range(8)))
        assert {status for status, _ in saved} == {200}
        assert len({answer.partition(b"\r\n\r\n")[2] for _, answer in saved}) == 1
        said = list(threads.map(lambda _: site.post(page, b"do=received", *OWN)[0], range(8)))
    assert 200 in said
    assert set(said) <= {200, 404}
    assert site.post(page, b"do=message", *OWN)[0] == 404
    [held] = [one for one in site.server.log_events("amdp_held") if one["id"] == newest(site)]
    ends = site.server.wait_event("amdp_copy", id=held["id"], state="retrieved")
    assert len(ends) == 1


def newest(site: Site) -> str:
    """The queue id of what was held last."""
    return str(site.server.log_events("amdp_held")[-1]["id"])


@pytest.mark.covers("SEC-188", "AMDP-6")
def test_what_is_withdrawn_while_it_is_read_comes_to_nobody_whole(site: Site) -> None:
    page = site.held(letter("ann@alpha.example", "large", 40_000_000))
    with site.connect() as link:
        link.sendall(request("POST", page, HOLDER, *OWN, body=b"do=message"))
        began = link.recv(65_536)
        assert status_of(began) == 200
        length = re.search(rb"(?i)content-length: (\d+)", began)
        assert length is not None
        assert int(length[1]) > 40_000_000
        site.server.cli("held", "withdraw", newest(site))
        assert len(began) + len(heard(link)) < int(length[1])
    assert site.get(page)[0] == 404
