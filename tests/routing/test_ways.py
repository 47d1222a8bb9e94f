"""Route strings: every form, and what is wrong with those that are none."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from outrider.routing.tls_policy import NO_TLS, TlsRequirement
from outrider.routing.ways import (
    ErrorWay,
    HostOptions,
    HostWay,
    LocalWay,
    MxWay,
    Way,
    WayError,
    parse_way,
    replace_placeholders,
    split_command,
)

WAYS: list[tuple[str, Way]] = [
    ("mx", MxWay()),
    ("smtp:relay.example", HostWay("smtp", "relay.example", 25)),
    ("smtp:Relay.Example:2525", HostWay("smtp", "relay.example", 2525)),
    ("smtp:[192.0.2.1]", HostWay("smtp", "192.0.2.1", 25, IPv4Address("192.0.2.1"))),
    ("smtp:[192.0.2.1]:2526", HostWay("smtp", "192.0.2.1", 2526, IPv4Address("192.0.2.1"))),
    ("smtp:[2001:db8::1]:25", HostWay("smtp", "2001:db8::1", 25, IPv6Address("2001:db8::1"))),
    ("smtp:[IPv6:2001:db8::1]", HostWay("smtp", "2001:db8::1", 25, IPv6Address("2001:db8::1"))),
    ("submission:smart.example", HostWay("submission", "smart.example", 587)),
    ("smtps:smart.example", HostWay("smtps", "smart.example", 465)),
    ("qmtp:q.example", HostWay("qmtp", "q.example", 209)),
    ("lmtp:127-0-0-1.example:24", HostWay("lmtp", "127-0-0-1.example", 24)),
    (
        "lmtp:unix:/run/dovecot/lmtp",
        HostWay("lmtp", "", 0, None, "/run/dovecot/lmtp", NO_TLS),
    ),
    ("maildir:/var/mail/{domain}/{user}", LocalWay("maildir", "/var/mail/{domain}/{user}")),
    ("pipe:/usr/bin/filter -f {sender} {user}", LocalWay("pipe", "/usr/bin/filter -f {sender} {user}")),
    ("discard:", LocalWay("discard", "")),
    ("error:5.1.1 nobody here", ErrorWay("5.1.1", "nobody here")),
    ("error:4.3.0", ErrorWay("4.3.0", "mail for this destination is not accepted")),
]


@pytest.mark.covers("SMTP-7")
@pytest.mark.parametrize(("text", "way"), WAYS, ids=[text for text, _ in WAYS])
def test_a_route_string_becomes_its_way(text: str, way: Way) -> None:
    assert parse_way(text) == way


@pytest.mark.parametrize("way", [way for _, way in WAYS if not isinstance(way, MxWay)], ids=str)
def test_a_way_written_down_is_read_as_itself(way: Way) -> None:
    assert parse_way(str(way)) == way


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "unknown way"),
        ("relay.example", "unknown way"),
        ("carrier:pigeon", "unknown way"),
        ("smtp:", "host name"),
        ("smtp:192.0.2.1", "brackets"),
        ("smtp:[192.0.2.300]", "IP address in brackets"),
        ("smtp:relay.example:0", "port"),
        ("smtp:relay.example:65536", "port"),
        ("smtp:relay.example:٢٥", "port"),
        ("smtp:relay.example:25\nx", "printable"),
        ("smtp:unix:/x", "only lmtp"),
        ("lmtp:unix:run", "absolute"),
        ("maildir:mail/{user}", "absolute"),
        ("maildir:/mail/../{user}", "'..'"),
        ("maildir:/mail/{usr}", "{usr}"),
        ("maildir:/mail/{user", "brace"),
        ("pipe:", "needs a command"),
        ("pipe:filter", "absolute path"),
        ("pipe:/bin/{user}", "placeholders"),
        ("pipe:/bin/sh -c 'x", "quotation"),
        ("error:2.0.0 fine", "status"),
        ("error:nope", "status"),
        ("x" * 5000, "one printable line"),
    ],
)
def test_what_is_no_way_says_why(text: str, word: str) -> None:
    with pytest.raises(WayError, match=word.replace("{", r"\{").replace(".", r"\.")):
        parse_way(text)


@pytest.mark.covers("TLS-4a")
def test_options_that_a_way_cannot_meet_are_refused() -> None:
    strict = HostOptions(TlsRequirement("verify"))
    with pytest.raises(WayError, match="qmtp"):
        parse_way("qmtp:q.example", strict)
    with pytest.raises(WayError, match="smtps"):
        parse_way("smtps:q.example", HostOptions(TlsRequirement("none")))
    with pytest.raises(WayError, match="login"):
        parse_way("mx", HostOptions(username="ann"))


@pytest.mark.covers("SEC-69")
def test_values_cannot_add_arguments_or_be_replaced_again() -> None:
    words = split_command("/bin/x --to={user} 'two words'")
    assert words == ("/bin/x", "--to={user}", "two words")
    values = {"user": "a; rm -rf / {domain} $(x)", "domain": "never"}
    assert replace_placeholders(words[1], values) == "--to=a; rm -rf / {domain} $(x)"
