"""Zones: what they answer, and descriptions that make no sense."""

from __future__ import annotations

import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from outrider.playground.zones import Lookup, ZoneError, ZoneSet, zones_from_json

ZONES = {
    "alpha.example": {
        "@": {"MX": ["10 mx"], "TXT": ['say "hi"; \\ ü']},
        "mx": {"A": ["127.0.1.1"]},
        "www": {"CNAME": ["mx"]},
        "far": {"CNAME": ["mx.beta.example."]},
        "out": {"CNAME": ["mx.elsewhere.test."]},
        "dead": {"CNAME": ["gone"]},
        "loop": {"CNAME": ["loop"]},
        "*.wild": {"A": ["127.0.1.9"]},
        "real.wild": {"TXT": ["no address here"]},
        "a.deep.name": {"A": ["127.0.1.2"]},
    },
    "beta.example": {"mx": {"A": ["127.0.2.1"]}},
    "sub.alpha.example": {"@": {"A": ["127.0.3.1"]}},
}


def ask(zones: ZoneSet, name: str, rdtype: str) -> Lookup:
    return zones.lookup(dns.name.from_text(name), dns.rdatatype.from_text(rdtype))


def answers(found: Lookup) -> list[str]:
    return [line for rrset in found.answer for line in rrset.to_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        ("alpha.example", "MX", ["alpha.example. 60 IN MX 10 mx.alpha.example."]),
        ("MX.Alpha.EXAMPLE", "A", ["MX.Alpha.EXAMPLE. 60 IN A 127.0.1.1"]),
        (
            "www.alpha.example",
            "A",
            ["www.alpha.example. 60 IN CNAME mx.alpha.example.", "mx.alpha.example. 60 IN A 127.0.1.1"],
        ),
        ("www.alpha.example", "CNAME", ["www.alpha.example. 60 IN CNAME mx.alpha.example."]),
        (
            "far.alpha.example",
            "A",
            ["far.alpha.example. 60 IN CNAME mx.beta.example.", "mx.beta.example. 60 IN A 127.0.2.1"],
        ),
        ("out.alpha.example", "A", ["out.alpha.example. 60 IN CNAME mx.elsewhere.test."]),
        ("any.wild.alpha.example", "A", ["any.wild.alpha.example. 60 IN A 127.0.1.9"]),
        ("x.y.wild.alpha.example", "A", ["x.y.wild.alpha.example. 60 IN A 127.0.1.9"]),
        ("sub.alpha.example", "A", ["sub.alpha.example. 60 IN A 127.0.3.1"]),
        ("alpha.example", "NS", ["alpha.example. 60 IN NS ns.outrider.invalid."]),
    ],
)
def test_what_is_there(name: str, rdtype: str, expected: list[str]) -> None:
    found = ask(ZoneSet(ZONES), name, rdtype)
    assert answers(found) == expected
    assert (found.rcode, found.authoritative, found.authority) == (dns.rcode.NOERROR, True, [])


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode"),
    [
        ("mx.alpha.example", "AAAA", dns.rcode.NOERROR),
        ("deep.name.alpha.example", "A", dns.rcode.NOERROR),
        ("real.wild.alpha.example", "A", dns.rcode.NOERROR),
        ("www.alpha.example", "MX", dns.rcode.NOERROR),
        ("missing.alpha.example", "A", dns.rcode.NXDOMAIN),
        ("x.real.wild.alpha.example", "A", dns.rcode.NXDOMAIN),
        ("dead.alpha.example", "A", dns.rcode.NXDOMAIN),
        ("x.sub.alpha.example", "A", dns.rcode.NXDOMAIN),
    ],
)
def test_what_is_not_there_is_said_with_the_soa(name: str, rdtype: str, rcode: int) -> None:
    found = ask(ZoneSet(ZONES), name, rdtype)
    assert found.rcode == rcode
    assert [rrset.rdtype for rrset in found.authority] == [dns.rdatatype.SOA]
    assert not [rrset for rrset in found.answer if rrset.rdtype != dns.rdatatype.CNAME]


def test_foreign_names_are_refused_and_loops_end() -> None:
    zones = ZoneSet(ZONES)
    found = ask(zones, "example", "A")
    assert (found.rcode, found.authoritative) == (dns.rcode.REFUSED, False)
    assert len(ask(zones, "loop.alpha.example", "A").answer) == 8


def test_a_root_zone_makes_all_other_names_nonexistent() -> None:
    zones = ZoneSet({**ZONES, ".": {}})
    assert ask(zones, "elsewhere.test", "MX").rcode == dns.rcode.NXDOMAIN
    assert answers(ask(zones, "beta.example", "SOA"))


def test_texts_arrive_as_they_were_written() -> None:
    zones = ZoneSet(ZONES)
    zones.put("long.alpha.example", "TXT", "x" * 600)
    zones.put("none.alpha.example", "TXT", "")
    (record,) = ask(zones, "alpha.example", "TXT").answer[0]
    assert b"".join(record.strings) == 'say "hi"; \\ ü'.encode()
    (record,) = ask(zones, "long.alpha.example", "TXT").answer[0]
    assert [len(part) for part in record.strings] == [255, 255, 90]
    (record,) = ask(zones, "none.alpha.example", "TXT").answer[0]
    assert record.strings == (b"",)


def test_a_host_is_known_forward_and_backward() -> None:
    zones = ZoneSet(ZONES)
    zones.add_host("new.alpha.example", "127.0.4.1", "127.0.5.1", "2001:db8:1:2::1")
    assert len(ask(zones, "new.alpha.example", "A").answer[0]) == 2
    assert ask(zones, "new.alpha.example", "AAAA").answer
    for reverse in ("1.4.0.127.in-addr.arpa", "1.5.0.127.in-addr.arpa"):
        assert answers(ask(zones, reverse, "PTR")) == [f"{reverse}. 60 IN PTR new.alpha.example."]
    assert "4.0.127.in-addr.arpa." in zones.origins()
    assert "2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa." in zones.origins()
    assert ask(zones, "2.4.0.127.in-addr.arpa", "PTR").rcode == dns.rcode.NXDOMAIN


def test_zones_change_live_and_the_serial_grows() -> None:
    zones = ZoneSet(ZONES)

    def serial() -> int:
        return int(answers(ask(zones, "alpha.example", "SOA"))[0].split()[6])

    before = serial()
    zones.put("new.alpha.example", "MX", "10 mx.alpha.example.", ttl_s=5)
    assert answers(ask(zones, "new.alpha.example", "MX")) == [
        "new.alpha.example. 5 IN MX 10 mx.alpha.example."
    ]
    middle = serial()
    zones.delete("new.alpha.example", "MX")
    assert ask(zones, "new.alpha.example", "MX").rcode == dns.rcode.NXDOMAIN
    zones.delete("mx.alpha.example")
    zones.delete("never.alpha.example")
    assert ask(zones, "mx.alpha.example", "A").rcode == dns.rcode.NXDOMAIN
    assert before < middle < serial()
    zones.remove_zone("alpha.example")
    assert ask(zones, "mx.alpha.example", "A").rcode == dns.rcode.REFUSED


def test_the_master_file_holds_the_whole_zone() -> None:
    text = ZoneSet(ZONES).master_file("alpha.example")
    zone = dns.zone.from_text(text, "alpha.example", relativize=False)
    assert text.splitlines()[0].split()[3] == "SOA"
    assert len(zone.nodes) == 10
    assert zone.get_rdataset("*.wild.alpha.example.", "A") is not None


@pytest.mark.parametrize(
    "zones",
    [
        {"alpha.example": {"mx": {"A": ["not an address"]}}},
        {"alpha.example": {"mx": {"A": ["127.0.0.1"], "CNAME": ["www"]}}},
        {"alpha.example": {"mx": {"CNAME": ["www"], "A": ["127.0.0.1"]}}},
        {"alpha.example": {"mx": {"NONSENSE": ["x"]}}},
        {"alpha.example": {"mx": {"A": []}}},
        {"alpha.example": {"a..b": {"A": ["127.0.0.1"]}}},
        {"alpha.example": {"x" * 64: {"A": ["127.0.0.1"]}}},
        {"alpha.example": {"mx": {"MX": ["ten mx"]}}},
    ],
)
def test_a_description_that_makes_no_sense(zones: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    with pytest.raises(ZoneError):
        ZoneSet(zones)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"zones": []}',
        '{"zones": {"alpha.example": []}}',
        '{"zones": {"alpha.example": {"mx": []}}}',
        '{"zones": {"alpha.example": {"mx": {"A": "127.0.0.1"}}}}',
        '{"zones": {"alpha.example": {"mx": {"A": [1]}}}}',
    ],
)
def test_json_of_another_shape(text: str) -> None:
    with pytest.raises(ZoneError):
        zones_from_json(text)


def test_json_of_the_right_shape() -> None:
    zones = zones_from_json('{"zones": {"alpha.example": {"@": {"MX": ["10 mx"]}}}}')
    assert answers(ask(zones, "alpha.example", "MX"))


def test_a_change_outside_all_zones_is_an_error() -> None:
    with pytest.raises(ZoneError):
        ZoneSet(ZONES).put("mx.elsewhere.test", "A", "127.0.0.1")
