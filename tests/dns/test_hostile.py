"""Name servers that lie, stutter or forge: the resolver keeps to its errors, bounds and question."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.dns.answers import DnsError, DnsTemporary, NoData, NoSuchDomain, PtrAnswer, UnusableAnswer
from outrider.dns.decode import MAX_MX_HOSTS, MAX_PTR_NAMES, MAX_SRV_HOSTS, MAX_TEXT_OCTETS, MAX_TEXTS
from outrider.dns.reading import MAX_ALIASES, MAX_RECORDS
from tests.dns.resolvers import resolver_for
from tests.dns.scripted import Script, ScriptedServer, answering, reply, truncated

A, MX, SRV, TXT, PTR, CNAME = 1, 15, 33, 16, 12, 5
IN = dns.rdataclass.IN
QUESTION = b"\xc0\x0c"
"""A compression pointer to the question's name."""
GOOD_MX = "alpha.example. 60 IN MX 10 mx.alpha.example."


def raw(query: bytes, *records: bytes, count: int | None = None, flags: int = 0x8180) -> bytes:
    """Return a response of hand-made records; `count` is what the header claims."""
    question = dns.message.from_wire(query).question[0]
    header = query[:2] + struct.pack("!HHHHH", flags, 1, len(records) if count is None else count, 0, 0)
    end_of_question = 12 + len(question.name.to_wire() or b"") + 4
    return header + query[12:end_of_question] + b"".join(records)


def record(
    rdtype: int, rdata: bytes, *, owner: bytes = QUESTION, ttl: int = 60, length: int | None = None
) -> bytes:
    """Return one record; `length` is what its RDLENGTH claims."""
    size = len(rdata) if length is None else length
    return owner + struct.pack("!HHIH", rdtype, 1, ttl, size) + rdata


def over_tcp(script: Script, address: str) -> ScriptedServer:
    """A server that answers UDP by "too long", and TCP by the script."""
    return ScriptedServer(address, truncated, script)


# -- aliases ----------------------------------------------------------------------------------------------


def chain(length: int) -> list[str]:
    return [f"n{number}.example. 60 IN CNAME n{number + 1}.example." for number in range(length)]


@pytest.mark.covers("SEC-157")
@pytest.mark.parametrize("length", [1, MAX_ALIASES])
async def test_a_chain_of_aliases_within_the_bound_is_followed(address: str, length: int) -> None:
    script = answering(*chain(length), f"n{length}.example. 60 IN MX 10 mx.example.")
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        assert (await resolver.mx("n0.example")).hosts


@pytest.mark.covers("SEC-157")
@pytest.mark.parametrize(
    "answer",
    [
        [*chain(MAX_ALIASES + 1), f"n{MAX_ALIASES + 1}.example. 60 IN MX 10 mx.example."],
        [*chain(20), "n20.example. 60 IN MX 10 mx.example."],
        ["n0.example. 60 IN CNAME n0.example."],
        ["n0.example. 60 IN CNAME n1.example.", "n1.example. 60 IN CNAME n0.example."],
    ],
    ids=["one too many", "twenty", "itself", "each other"],
)
async def test_loops_and_long_chains_defer(address: str, answer: list[str]) -> None:
    async with (
        ScriptedServer(address, answering(*answer)) as server,
        resolver_for(server.endpoint) as resolver,
    ):
        with pytest.raises(DnsTemporary, match="alias"):
            await resolver.mx("n0.example")


@pytest.mark.covers("SEC-157")
async def test_a_chain_that_is_told_piece_by_piece_is_bounded_too(address: str) -> None:
    def one_step(query: bytes) -> Sequence[bytes]:
        name = dns.message.from_wire(query).question[0].name.to_text()
        number = int(name.split(".")[0][1:])
        return [reply(query, f"{name} 60 IN CNAME n{number + 1}.example.").to_wire()]

    async with ScriptedServer(address, one_step) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary, match="alias"):
            await resolver.mx("n0.example")
        assert server.asked == MAX_ALIASES + 1


@pytest.mark.covers("SEC-157")
async def test_the_longest_chain_may_be_told_piece_by_piece(address: str) -> None:
    def one_step(query: bytes) -> Sequence[bytes]:
        name = dns.message.from_wire(query).question[0].name.to_text()
        number = int(name.split(".")[0][1:])
        if number == MAX_ALIASES:
            return answering(f"{name} 60 IN MX 10 mx.example.")(query)
        return answering(f"{name} 60 IN CNAME n{number + 1}.example.")(query)

    async with ScriptedServer(address, one_step) as server, resolver_for(server.endpoint) as resolver:
        assert (await resolver.mx("n0.example")).hosts


@pytest.mark.covers("SEC-157")
async def test_a_chain_that_the_server_did_not_finish_is_finished(address: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        if dns.message.from_wire(query).question[0].name.to_text() == "here.example.":
            return [reply(query, "here.example. 60 IN CNAME there.test.").to_wire()]
        return [reply(query, "there.test. 30 IN A 192.0.2.1").to_wire()]

    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        answer = await resolver.addresses("here.example")
        assert (answer.canonical_name, answer.ttl_s) == ("there.test", 30)


@pytest.mark.covers("SEC-157")
@pytest.mark.parametrize(
    ("rcode", "expected"), [(dns.rcode.NXDOMAIN, NoSuchDomain), (dns.rcode.NOERROR, NoData)]
)
async def test_absence_at_the_end_of_a_chain(address: str, rcode: int, expected: type[DnsError]) -> None:
    soa = ["test. 60 IN SOA ns.test. root.test. 1 3600 900 604800 60"]
    script = answering("here.example. 60 IN CNAME there.test.", authority=soa, rcode=rcode)
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(expected):
            await resolver.mx("here.example")
        assert server.asked == 1


# -- size -------------------------------------------------------------------------------------------------


def many(lines: Sequence[str]) -> Script:
    """A script for TCP: all the records in one message."""

    def script(query: bytes) -> Sequence[bytes]:
        response = dns.message.make_response(dns.message.from_wire(query))
        owner, ttl, _, rdtype, _ = lines[0].split(None, 4)
        values = [line.split(None, 4)[4] for line in lines]
        response.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", rdtype, *values))
        return [response.to_wire(max_size=65535)]

    return script


@pytest.mark.covers("SEC-159")
async def test_thousands_of_mail_exchangers_are_cut_to_the_best_few(address: str) -> None:
    lines = [f"alpha.example. 60 IN MX {2500 - number} h{number}.alpha.example." for number in range(2500)]
    async with over_tcp(many(lines), address) as server, resolver_for(server.endpoint) as resolver:
        hosts = (await resolver.mx("alpha.example")).hosts
    assert len(hosts) == min(MAX_MX_HOSTS, MAX_RECORDS)
    assert list(hosts) == sorted(hosts)


@pytest.mark.covers("SEC-159")
async def test_thousands_of_addresses_names_services_and_texts_are_cut(address: str) -> None:
    addresses = [f"a.example. 60 IN A 10.0.{number >> 8}.{number & 255}" for number in range(4000)]
    names = [f"1.2.0.192.in-addr.arpa. 60 IN PTR h{number}.alpha.example." for number in range(1000)]
    services = [f"_x._tcp.example. 60 IN SRV 0 0 25 h{number}.alpha.example." for number in range(1000)]
    texts = [f'a.example. 60 IN TXT "{number}"' for number in range(3000)]
    by_type = {A: many(addresses), 28: answering(), PTR: many(names), SRV: many(services), TXT: many(texts)}

    def script(query: bytes) -> Sequence[bytes]:
        return by_type[dns.message.from_wire(query).question[0].rdtype](query)

    async with over_tcp(script, address) as server, resolver_for(server.endpoint) as resolver:
        assert len((await resolver.addresses("a.example")).addresses) == MAX_RECORDS
        assert len((await resolver.ptr(ip_address("192.0.2.1"))).names) == MAX_PTR_NAMES
        assert len((await resolver.srv("_x._tcp.example")).hosts) == MAX_SRV_HOSTS
        assert len((await resolver.txt("a.example")).texts) == MAX_TEXTS


@pytest.mark.covers("SEC-159")
async def test_texts_of_empty_strings_and_texts_without_end(address: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        empty = record(TXT, b"\0" * 255)
        endless = record(TXT, (b"\xff" + b"x" * 255) * (MAX_TEXT_OCTETS // 255 + 1))
        return [raw(query, empty, endless)]

    async with over_tcp(script, address) as server, resolver_for(server.endpoint) as resolver:
        assert (await resolver.txt("a.example")).texts == (b"",)


@pytest.mark.covers("SEC-159")
async def test_too_long_for_udp_and_no_tcp_is_temporary(address: str) -> None:
    async with ScriptedServer(address, truncated) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary, match="refused"):
            await resolver.mx("alpha.example")


@pytest.mark.covers("SEC-159")
async def test_tcp_that_ends_early_is_temporary(address: str) -> None:
    async with over_tcp(lambda _: [], address) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary):
            await resolver.mx("alpha.example")


# -- malformed --------------------------------------------------------------------------------------------

MALFORMED: dict[str, Script] = {
    "pointer to itself": lambda query: [raw(query, record(MX, b"\0\x0a" + pointer_to_end(query, 14)))],
    "forward pointer": lambda query: [raw(query, record(MX, b"\0\x0a\xff\xff"))],
    "two pointers in a loop": lambda query: [raw(query, record(MX, b"\0\x0a\xc0\x0c", owner=b"\xc0\x0d"))],
    "label of 64": lambda query: [raw(query, record(MX, b"\0\x0a\x40" + b"a" * 64 + b"\0"))],
    "name of 300": lambda query: [raw(query, record(MX, b"\0\x0a" + (b"\x3f" + b"a" * 63) * 5 + b"\0"))],
    "MX of one octet": lambda query: [raw(query, record(MX, b"\0"))],
    "MX of no octets": lambda query: [raw(query, record(MX, b""))],
    "MX without a name": lambda query: [raw(query, record(MX, b"\0\x0a"))],
    "length beyond the packet": lambda query: [raw(query, record(MX, b"\0\x0a\xc0\x0c", length=4000))],
    "length into the name": lambda query: [raw(query, record(MX, b"\0\x0a\x05alpha\0", length=5))],
    "length beyond the name": lambda query: [raw(query, record(MX, b"\0\x0a\x05alpha\0junk"))],
    "more records counted than sent": lambda query: [raw(query, record(MX, b"\0\x0a\xc0\x0c"), count=65535)],
    "bytes behind the end": lambda query: [raw(query, record(MX, b"\0\x0a\xc0\x0c")) + b"junk"],
    "header only": lambda query: [query[:2] + b"\x81\x80" + b"\0" * 8],
    "half a header": lambda query: [query[:6]],
    "nothing": lambda _: [b""],
    "noise": lambda query: [query[:2] + bytes(range(256))],
}


def pointer_to_end(query: bytes, behind: int) -> bytes:
    """A compression pointer to its own place, `behind` octets after the question."""
    return (0xC000 | (len(raw(query)) + behind)).to_bytes(2, "big")


@pytest.mark.covers("SEC-160")
@pytest.mark.parametrize("script", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_datagram_is_no_answer(address: str, script: Script) -> None:
    async with (
        ScriptedServer(address, script) as server,
        resolver_for(server.endpoint, try_timeout_s=0.05) as resolver,
    ):
        with pytest.raises(DnsTemporary, match="time-out"):
            await resolver.mx("alpha.example")
        assert server.asked == 2


@pytest.mark.covers("SEC-160")
@pytest.mark.parametrize("script", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_by_tcp_is_like_servfail(address: str, script: Script) -> None:
    async with over_tcp(script, address) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary, match="malformed response"):
            await resolver.mx("alpha.example")
        assert server.asked == 2


@pytest.mark.covers("SEC-160")
async def test_the_true_answer_after_malformed_ones_is_taken(address: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        return [*(bad(query)[0] for bad in MALFORMED.values()), *answering(GOOD_MX)(query)]

    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        assert (await resolver.mx("alpha.example")).hosts
        assert server.asked == 1


@pytest.mark.covers("SEC-160")
@given(noise=st.binary(max_size=200), where=st.integers(0, 40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_end_in_an_answer_or_a_dns_error(address: str, noise: bytes, where: int) -> None:
    """By TCP, where each message is judged at once and none can be passed over."""

    def script(query: bytes) -> Sequence[bytes]:
        good = answering(GOOD_MX)(query)[0]
        return [query[:2] + good[2 : 2 + where] + noise]

    async with over_tcp(script, address) as server, resolver_for(server.endpoint) as resolver:
        with contextlib.suppress(DnsError):
            await resolver.mx("alpha.example")


# -- not an answer to this question -----------------------------------------------------------------------


def forged(query: bytes, change: str) -> bytes:
    """An answer with a forged host, wrong in one respect."""
    response = reply(query, "alpha.example. 60 IN MX 1 forged.example.")
    if change == "id":
        response.id ^= 1
    elif change == "name":
        response = reply(
            query.replace(b"\x05alpha", b"\x05omega"), "omega.example. 60 IN MX 1 forged.example."
        )
    elif change == "type":
        response.question = [dns.rrset.RRset(response.question[0].name, IN, dns.rdatatype.AAAA)]
    elif change == "class":
        response.question = [dns.rrset.RRset(response.question[0].name, dns.rdataclass.CH, dns.rdatatype.MX)]
    elif change == "no question":
        response.question = []
    elif change == "a query":
        response.flags &= ~dns.flags.QR
    elif change == "another operation":
        response.flags |= 5 << 11
    return response.to_wire()


CHANGES = ["id", "name", "type", "class", "no question", "a query", "another operation"]


@pytest.mark.covers("SEC-161")
@pytest.mark.parametrize("change", CHANGES)
async def test_an_answer_that_is_not_to_this_question_is_passed_over(address: str, change: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        return [forged(query, change), *answering(GOOD_MX)(query)]

    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        (host,) = (await resolver.mx("alpha.example")).hosts
        assert host.host == "mx.alpha.example"
        assert server.asked == 1


@pytest.mark.covers("SEC-161")
@pytest.mark.parametrize("change", CHANGES)
async def test_a_forged_answer_alone_is_none(address: str, change: str) -> None:
    async with (
        ScriptedServer(address, lambda query: [forged(query, change)]) as server,
        resolver_for(server.endpoint, try_timeout_s=0.05) as resolver,
    ):
        with pytest.raises(DnsTemporary):
            await resolver.mx("alpha.example")


@pytest.mark.covers("SEC-161")
async def test_an_answer_from_elsewhere_is_passed_over(address: str) -> None:
    """Right in every octet, but sent from another port than the one asked."""

    def script(query: bytes) -> Sequence[bytes]:
        other.send(forged(query, "nothing"), asked.clients[-1])
        return answering(GOOD_MX)(query)

    async with (
        ScriptedServer(address, lambda _: []) as other,
        ScriptedServer(address, script) as asked,
        resolver_for(asked.endpoint) as resolver,
    ):
        (host,) = (await resolver.mx("alpha.example")).hosts
    assert host.host == "mx.alpha.example"


@pytest.mark.covers("SEC-161", "SEC-164")
async def test_records_of_other_names_are_neither_believed_nor_remembered(address: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        if dns.message.from_wire(query).question[0].name.to_text() == "alpha.example.":
            stray = ["bank.example. 86400 IN MX 1 forged.example.", GOOD_MX]
            glue = ["mx.alpha.example. 86400 IN A 203.0.113.66", "bank.example. 86400 IN A 203.0.113.66"]
            return [reply(query, *stray, authority=glue[:1], additional=glue).to_wire()]
        return answering(rcode=dns.rcode.NXDOMAIN)(query)

    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        (host,) = (await resolver.mx("alpha.example")).hosts
        assert host.host == "mx.alpha.example"
        for name in ("bank.example", "mx.alpha.example"):
            with pytest.raises(NoSuchDomain):
                await resolver.addresses(name)
        with pytest.raises(NoSuchDomain):
            await resolver.mx("bank.example")


@pytest.mark.covers("SEC-161")
async def test_upper_and_lower_case_are_the_same_name(address: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        return [
            answering("aLPHa.eXAMPLe. 60 IN MX 10 MX.Alpha.Example.")(query)[0].replace(b"alpha", b"ALPHA")
        ]

    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        (host,) = (await resolver.mx("alpha.example")).hosts
        assert host.host == "mx.alpha.example"


@pytest.mark.covers("SEC-161")
async def test_a_dname_counts_by_the_alias_that_comes_with_it(address: str) -> None:
    script = answering(
        "example. 60 IN DNAME test.",
        "alpha.example. 60 IN CNAME alpha.test.",
        "alpha.test. 60 IN MX 10 mx.alpha.test.",
    )
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        (host,) = (await resolver.mx("alpha.example")).hosts
        assert host.host == "mx.alpha.test"


@pytest.mark.covers("ITP-2c")
async def test_authenticity_counts_only_if_every_piece_has_it_and_the_server_may_say_so(address: str) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        """Claims AD, asked or not, for the names that begin so."""
        name = dns.message.from_wire(query).question[0].name.to_text()
        target = {"proven-alias.test.": "unproven.test.", "unproven-alias.test.": "proven.test."}.get(name)
        answer = f"{name} 60 IN MX 1 a.test." if target is None else f"{name} 60 IN CNAME {target}"
        return answering(answer, flags=int(dns.flags.AD) if name.startswith("proven") else 0)(query)

    async with (
        ScriptedServer(address, script) as server,
        resolver_for(server.endpoint, validating=True) as trusting,
        resolver_for(server.endpoint) as wary,
    ):
        assert (await trusting.mx("proven.test")).secure
        for name in ("unproven.test", "proven-alias.test", "unproven-alias.test"):
            assert not (await trusting.mx(name)).secure
        assert not (await wary.mx("proven.test")).secure


@pytest.mark.covers("ITP-2c")
@pytest.mark.parametrize("unproven", [1, 28])
async def test_addresses_are_secure_only_if_both_families_are(address: str, unproven: int) -> None:
    def script(query: bytes) -> Sequence[bytes]:
        rdtype = dns.message.from_wire(query).question[0].rdtype
        value = "192.0.2.1" if rdtype == A else "2001:db8::1"
        flags = 0 if rdtype == unproven else int(dns.flags.AD)
        return answering(f"a.example. 60 IN {rdtype.name} {value}", flags=flags)(query)

    async with (
        ScriptedServer(address, script) as server,
        resolver_for(server.endpoint, validating=True) as trusting,
    ):
        answer = await trusting.addresses("a.example")
        assert (len(answer.addresses), answer.secure) == (2, False)


# -- answers that decide nothing --------------------------------------------------------------------------


@pytest.mark.covers("SEC-163")
@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 6, 9, 10, 15])
async def test_any_error_code_is_temporary(address: str, rcode: int) -> None:
    script = answering(rcode=rcode)
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary):
            await resolver.mx("alpha.example")
        assert server.asked == 1


@pytest.mark.covers("SEC-163")
async def test_a_referral_is_not_absence(address: str) -> None:
    script = answering(authority=["example. 60 IN NS ns.example."])
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary, match="referral"):
            await resolver.mx("alpha.example")


@pytest.mark.covers("SEC-163")
async def test_no_such_domain_with_records_for_it_makes_no_sense(address: str) -> None:
    script = answering(GOOD_MX, rcode=dns.rcode.NXDOMAIN)
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(DnsTemporary):
            await resolver.mx("alpha.example")


async def test_an_empty_answer_without_soa_is_absence(address: str) -> None:
    async with ScriptedServer(address, answering()) as server, resolver_for(server.endpoint) as resolver:
        with pytest.raises(NoData):
            await resolver.mx("alpha.example")


@pytest.mark.covers("SEC-164")
@pytest.mark.parametrize("ttl", [2**31, 2**32 - 1])
async def test_a_negative_time_to_live_counts_as_none(address: str, ttl: int) -> None:
    """RFC 2181 section 8."""

    def script(query: bytes) -> Sequence[bytes]:
        return [raw(query, record(MX, b"\0\x0a\x02mx\xc0\x0c", ttl=ttl))]

    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        assert (await resolver.mx("alpha.example")).ttl_s == resolver.settings.min_ttl_s


# -- hostile names in answers -----------------------------------------------------------------------------


@pytest.mark.covers("SEC-154")
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"\x04bank\x07example\0", ("bank.example",)),
        (b"\x04BANK\x07Example\0", ("bank.example",)),
        (b"\x09xn--bcher\x07example\0", ("xn--bcher.example",)),
        (b"\x0cbank.example\x04evil\x04test\0", ()),
        (b"\x05bank\0\x07example\0", ()),
        (b"\x06ba nk\r\x07example\0", ()),
        (b"\x05b\xc3\xa4nk\x07example\0", ()),
        (b"\0", ()),
        ((b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0", (".".join(["a" * 63] * 3 + ["a" * 61]),)),
    ],
    ids=["plain", "upper case", "IDN", "dot", "NUL", "space and CR", "UTF-8", "root", "255 octets"],
)
async def test_hostile_reverse_names(address: str, target: bytes, expected: tuple[str, ...]) -> None:
    script: Script = lambda query: [raw(query, record(PTR, target))]  # noqa: E731
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        try:
            answer = await resolver.ptr(ip_address("192.0.2.1"))
        except UnusableAnswer:
            answer = PtrAnswer(())
        assert answer.names == expected


@pytest.mark.covers("SEC-162")
async def test_service_records_at_the_ends_of_their_ranges(address: str) -> None:
    script = answering("_x._tcp.example. 60 IN SRV 65535 65535 65535 a.example.")
    async with ScriptedServer(address, script) as server, resolver_for(server.endpoint) as resolver:
        (host,) = (await resolver.srv("_x._tcp.example")).hosts
        assert (host.priority, host.weight, host.port) == (65535, 65535, 65535)
