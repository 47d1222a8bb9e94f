"""QMTP: the server core, the client core, and the two wired together (QMTP-1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netstring_lengths import MALFORMED_LENGTHS

from outrider.model.address import Address, AddressError, Domain, parse_address
from outrider.model.reply import Reply
from outrider.protocols.qmtp.addresses import read_address, write_address
from outrider.protocols.qmtp.client import QmtpClient, status_of
from outrider.protocols.qmtp.events import (
    Answer,
    ClientEnded,
    MessageOctets,
    PackageAnswered,
    PackageReceived,
    PieceWanted,
    QmtpClientSettings,
    QmtpLimits,
    QmtpMail,
    QmtpOutcome,
    SessionEnded,
)
from outrider.protocols.qmtp.server import QmtpServer
from outrider.wire.netstring import encode_netstring

OK = Reply(250, "2.0.0", "Ok: queued as 1")
LIMITS = QmtpLimits(message_size=1000, envelope_size=2000)
EXAMPLE = b"6:\ntest\n,13:a@example.com,17:13:b@example.com,,"


def package(message: bytes, sender: bytes, *recipients: bytes) -> bytes:
    inner = b"".join(map(encode_netstring, recipients))
    return encode_netstring(message) + encode_netstring(sender) + encode_netstring(inner)


class Server:
    """A server core that notes what comes and answers as it is told."""

    def __init__(self, *answers: Reply, limits: QmtpLimits = LIMITS) -> None:
        self.core = QmtpServer(limits, 0.0)
        self.answers = answers
        self.now = 0.0
        self.message = b""
        self.packages: list[tuple[bytes, PackageReceived]] = []
        self.ended: SessionEnded | None = None
        self.said = b""

    def hear(self, octets: bytes, size: int = 1 << 30) -> Server:
        for start in range(0, len(octets), size):
            self.core.receive(octets[start : start + size], self.now)
            self.work()
        return self

    def close(self) -> Server:
        self.core.receive_eof(self.now)
        self.work()
        return self

    def work(self) -> None:
        while (event := self.core.next_event()) is not None:
            if isinstance(event, MessageOctets):
                self.message += event.octets
            elif isinstance(event, PackageReceived):
                self.packages.append((self.message, event))
                self.message = b""
                if self.answers:
                    self.answer(event)
            else:
                self.ended = event
        self.said += self.core.bytes_to_send()

    def answer(self, event: PackageReceived) -> None:
        replies = [event.fault or self.answers[n % len(self.answers)] for n in range(len(event.recipients))]
        self.core.answer(replies, self.now)


class TestServer:
    @pytest.mark.covers("QMTP-1", "SEC-175")
    @pytest.mark.parametrize("size", [1, 2, 7, 1000])
    def test_the_example(self, size: int) -> None:
        server = Server(OK).hear(EXAMPLE, size)
        assert [(message, one.sender, one.recipients) for message, one in server.packages] == [
            (b"test\r\n", b"a@example.com", (b"b@example.com",))
        ]
        assert server.said == b"16:KOk: queued as 1,"
        assert server.ended is None

    @pytest.mark.covers("QMTP-1", "SEC-175")
    def test_an_answer_for_each_recipient_in_order(self) -> None:
        replies = (OK, Reply(450, "4.2.1", "busy"), Reply(550, "5.1.1", "who\nis\x1bthat"))
        server = Server(*replies).hear(package(b"\r", b"", b"a@x", b"b@x", b"c@x", b"d@x"))
        taken = b"16:KOk: queued as 1,"
        assert server.said == taken + b"14:Zbusy (#4.2.1),21:Dwho is that (#5.1.1)," + taken

    @pytest.mark.covers("SEC-176")
    @pytest.mark.parametrize(
        "octets",
        [
            *MALFORMED_LENGTHS,
            b"1111111",
            b"EHLO x\r\n",
            b"6:\ntest\n;",
            b"6:\ntest\n,x",
            b"6:\ntest\n,13:a@example.com;",
            b"6:\ntest\n,99999:",
            b"6:\ntest\n,1:a,9999:",
        ],
    )
    def test_what_cannot_be_a_package_ends_the_session(self, octets: bytes) -> None:
        server = Server(OK).hear(octets)
        assert server.ended is not None
        assert not server.ended.orderly
        assert not server.packages
        assert server.said == b""

    @pytest.mark.covers("SEC-177")
    @pytest.mark.parametrize("inner", [b"13:b@example.com", b"99:b@example.com,", b"1:b", b"x", b"1:b,1"])
    def test_recipients_that_do_not_fit_their_string(self, inner: bytes) -> None:
        server = Server(OK).hear(b"6:\ntest\n,0:," + encode_netstring(inner))
        assert server.ended is not None
        assert not server.packages

    @pytest.mark.covers("SEC-177")
    def test_no_recipient_no_answer(self) -> None:
        server = Server(OK).hear(b"6:\ntest\n,0:,0:," + EXAMPLE)
        assert [one.recipients for _, one in server.packages] == [(), (b"b@example.com",)]
        assert server.said == b"16:KOk: queued as 1,"

    @pytest.mark.covers("QMTP-1", "SEC-178")
    @pytest.mark.parametrize(
        ("message", "stored"),
        [
            (b"\n", b""),
            (b"\r", b""),
            (b"\na\nb", b"a\r\nb"),
            (b"\n\n\n", b"\r\n\r\n"),
            (b"\n.\n..\n", b".\r\n..\r\n"),
            (b"\ra\r\n.\r\n..\r\nb", b"a\r\n.\r\n..\r\nb"),
            (b"\r\xff\r\n", b"\xff\r\n"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 1000])
    def test_both_forms_of_lines(self, message: bytes, stored: bytes, size: int) -> None:
        server = Server(OK).hear(package(message, b"", b"b@x"), size)
        assert server.packages[0][0] == stored
        assert server.said.startswith(b"16:K")

    @pytest.mark.covers("SMTP-1", "SEC-26", "SEC-178")
    @pytest.mark.parametrize(
        "message",
        [
            b"\na\r\nb\n",
            b"\na\rb",
            b"\na\n.\r\nb",
            b"\na\0b",
            b"\ra\nb",
            b"\ra\rb",
            b"\ra\r",
            b"\ra\r\n.\n",
            b"\ra\n.\r\nb",
            b"\ra\0b",
            b"\r\n\r",
            b"xtest",
            b"",
            b"\0",
        ],
    )
    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_stray_octets_are_refused_after_the_true_end(self, message: bytes, size: int) -> None:
        server = Server(OK).hear(package(message, b"", b"b@x", b"c@x") + EXAMPLE, size)
        fault = server.packages[0][1].fault
        assert fault is not None
        assert fault.is_permanent
        assert server.packages[1][1].fault is None
        assert server.said.count(b"D") == 2
        assert server.said.endswith(b"16:KOk: queued as 1,")

    def test_size_limit(self) -> None:
        server = Server(OK).hear(package(b"\r" + b"x" * 1000, b"", b"b@x"))
        assert server.packages[0][1].fault is None
        server.hear(package(b"\r" + b"x" * 1001, b"", b"b@x") + EXAMPLE)
        fault = server.packages[1][1].fault
        assert fault is not None
        assert fault.status == "5.3.4"
        assert server.packages[2][0] == b"test\r\n"
        assert Server(OK).hear(b"4001:").ended is not None

    @pytest.mark.covers("SEC-179")
    @pytest.mark.parametrize("kept", range(len(EXAMPLE)))
    def test_closed_before_the_last_comma(self, kept: int) -> None:
        server = Server(OK).hear(EXAMPLE[:kept]).close()
        assert not server.packages
        assert server.ended is not None
        assert server.ended.orderly is (kept == 0)

    @pytest.mark.covers("SEC-180")
    def test_nothing_is_read_while_a_package_waits(self) -> None:
        server = Server()
        server.hear(EXAMPLE * 1000)
        assert len(server.packages) == 1
        assert server.core.is_waiting
        server.close()
        assert server.ended is None
        server.answers = (OK,)
        server.answer(server.packages[0][1])
        server.work()
        assert len(server.packages) == 1000
        assert server.said.count(b"K") == 1000
        assert server.ended is not None
        assert server.ended.orderly

    @pytest.mark.covers("SEC-88")
    def test_a_package_has_a_deadline_that_dribbling_does_not_move(self) -> None:
        server = Server(OK)
        assert server.core.deadline() == 300.0
        server.hear(EXAMPLE[:5])
        deadline = server.core.deadline()
        assert deadline is not None
        for octet in EXAMPLE[5:-1]:
            server.now += 10
            server.hear(bytes((octet,)))
        assert server.core.deadline() == deadline
        server.core.timed_out(server.now)
        server.work()
        assert server.ended is not None

    def test_no_slowest_rate(self) -> None:
        server = Server(OK, limits=QmtpLimits(slowest_rate=0)).hear(EXAMPLE[:5])
        assert server.core.deadline() == float("inf")
        assert server.hear(EXAMPLE[5:]).said == b"16:KOk: queued as 1,"

    @given(st.binary(max_size=60), st.integers(1, 9))
    def test_any_octets(self, octets: bytes, size: int) -> None:
        Server(OK).hear(octets, size).close()
        Server(OK).hear(EXAMPLE + octets, size).close()


class Client:
    """A client core that takes what a test or a server core says."""

    def __init__(self) -> None:
        self.core = QmtpClient(QmtpClientSettings())
        self.outcomes: list[dict[int, QmtpOutcome]] = []
        self.ended: ClientEnded | None = None
        self.wanted = 0

    def hear(self, octets: bytes, now: float = 0.0) -> Client:
        self.core.receive(octets, now)
        return self.work()

    def work(self) -> Client:
        while (event := self.core.next_event()) is not None:
            if isinstance(event, PackageAnswered):
                self.outcomes.append(dict(event.outcomes))
            elif isinstance(event, PieceWanted):
                self.wanted += 1
            else:
                self.ended = event
        return self


def mail(content: bytes = b"test\r\n", **options: object) -> QmtpMail:
    return QmtpMail(
        b"a@example.com",
        {3: b"b@example.com", 5: b"c@x"},
        len(content),
        content=content,
        **options,  # type: ignore[arg-type]
    )


class TestClient:
    @pytest.mark.covers("QMTP-1")
    def test_a_package_and_its_answers(self) -> None:
        client = Client()
        client.core.send_mail(mail(), 0.0)
        assert client.core.bytes_to_send() == b"7:\rtest\r\n,13:a@example.com,23:13:b@example.com,3:c@x,,"
        client.hear(b"8:Kok 1234,18:Dno such (#5.1.1) ")
        assert not client.outcomes
        client.hear(b",")
        (outcomes,) = client.outcomes
        assert outcomes[3] == QmtpOutcome(Answer.TAKEN, "ok 1234")
        assert (outcomes[5].answer, status_of(outcomes[5])) == (Answer.NOT_AT_ALL, "5.1.1")
        assert client.core.takes_mail

    def test_a_line_end_is_added(self) -> None:
        client = Client()
        client.core.send_mail(mail(b"test", ends_with_crlf=False), 0.0)
        assert client.core.bytes_to_send().startswith(b"7:\rtest\r\n,")

    def test_piece_by_piece(self) -> None:
        client = Client()
        client.core.send_mail(QmtpMail(b"", {0: b"b@x"}, 6), 0.0)
        client.work()
        client.core.send_content(b"te", last=False, now=1.0)
        client.work()
        client.core.send_content(b"st\r\n", last=True, now=2.0)
        client.work()
        assert client.wanted == 2
        assert client.core.bytes_to_send() == b"7:\rtest\r\n,0:,6:3:b@x,,"

    @pytest.mark.parametrize(
        "answer", [b"5:hello,", b"0:,", b"-1:", b"5:Kabcd;", b"99999:", b"250 ok\r\n", b"2:K1,2:K1,2:K1,"]
    )
    def test_answers_that_are_none(self, answer: bytes) -> None:
        client = Client()
        client.core.send_mail(mail(), 0.0)
        client.hear(answer)
        assert client.ended is not None
        assert client.ended.misbehaved
        assert not client.core.takes_mail

    def test_spoken_unasked(self) -> None:
        assert Client().hear(b"2:K1,").ended is not None
        client = Client()
        client.core.send_mail(QmtpMail(b"", {0: b"b@x"}, 6), 0.0)
        client.work()
        client.hear(b"2:K1,")
        assert client.outcomes[0][0].answer is None
        assert not client.outcomes[0][0].complete

    @pytest.mark.covers("SMTP-6", "SEC-31")
    def test_lost_and_timed_out(self) -> None:
        for lose in (True, False):
            client = Client()
            client.core.send_mail(mail(), 0.0)
            client.hear(b"2:K1,", 5.0)
            if lose:
                client.core.receive_eof(9.0)
            else:
                client.core.timed_out(604.0)
                assert client.ended is None
                client.core.timed_out(605.0)
            client.work()
            assert client.outcomes[0][3].answer is Answer.TAKEN
            assert client.outcomes[0][5].answer is None
            assert client.outcomes[0][5].complete
            assert client.core.deadline() is None

    def test_text_is_cleaned(self) -> None:
        client = Client()
        client.core.send_mail(QmtpMail(b"", {0: b"b@x"}, 0, content=b""), 0.0)
        client.hear(encode_netstring(b"Z\x1b[2J\r\n\xff" + b"x" * 2000))
        text = client.outcomes[0][0].text
        assert text.isprintable()
        assert len(text) == 512


@given(
    st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 4)), max_size=5),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_client_and_server_wired_together(packages: list[tuple[bytes, int]], there: int, back: int) -> None:
    replies = (OK, Reply(450, "4.2.1", "busy"), Reply(550, "5.1.1", "no"))
    client, server = Client(), Server(*replies)
    for number, (raw, count) in enumerate(packages):
        content = raw.replace(b"\r", b"").replace(b"\0", b"").replace(b"\n", b"\r\n")
        people = {n: b"u%d@x.example" % n for n in range(count)}
        ended = not content or content.endswith(b"\r\n")
        if not people:
            continue
        client.core.send_mail(QmtpMail(b"a@x.example", people, len(content), ended, content), 0.0)
        server.hear(client.core.bytes_to_send(), there)
        for start in range(0, len(server.said), back):
            client.hear(server.said[start : start + back])
        server.said = b""
        message, received = server.packages[-1]
        assert message == (content if ended else content + b"\r\n")
        assert received.recipients == tuple(people.values())
        wanted = (Answer.TAKEN, Answer.NOT_NOW, Answer.NOT_AT_ALL)
        assert [one.answer for one in client.outcomes[-1].values()] == [wanted[n % 3] for n in range(count)]
        assert number >= 0


class TestAddresses:
    @pytest.mark.parametrize(
        ("octets", "local", "domain"),
        [
            (b"a@example.com", "a", "example.com"),
            (b"a b@EXAMPLE.com", "a b", "example.com"),
            (b"a@b@x.example", "a@b", "x.example"),
            ("jörg@bücher.example".encode(), "jörg", "xn--bcher-kva.example"),
            (b"postmaster", "postmaster", ""),
            (b"a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ],
    )
    def test_there_and_back(self, octets: bytes, local: str, domain: str) -> None:
        address = read_address(octets)
        assert address == Address(local, Domain(domain))
        assert read_address(write_address(address) or b"") == address

    @pytest.mark.covers("SEC-177")
    @pytest.mark.parametrize(
        "octets",
        [b"", b"@x.example", b"a", b"a@", b"a\n@x.example", b"a\0@x.example", b"a\xff@x.example", b"a@x y",
         b"a" * 65 + b"@x.example", "a\u2028@x.example".encode(), b"a@x.example\r\nb"],
    )  # fmt: skip
    def test_what_is_none(self, octets: bytes) -> None:
        with pytest.raises(AddressError):
            read_address(octets)

    def test_what_cannot_be_sent(self) -> None:
        assert write_address(None) == b""
        assert write_address(Address("a\nb", Domain("x.example"))) is None
        assert write_address(Address("a\udc80", Domain("x.example"))) is None
        assert write_address(parse_address('"a b"@x.example')) == b"a b@x.example"


@pytest.mark.covers("QMTP-1")
def test_our_own_side_may_end_the_session() -> None:
    server = Server()
    assert not server.core.is_closed
    server.core.shut_down("server stopping")
    assert not server.core.is_closed, "somebody is still to be told"
    server.work()
    assert server.ended == SessionEnded("server stopping", orderly=False)
    assert server.core.is_closed
