"""The SMTP client core in dialogue: opening, envelope, content, endings."""

from __future__ import annotations

import base64

import pytest
from tests.protocols.smtp.client_dialogue import ALL, BODY, LMTP, SETTINGS, Dialogue, ehlo_reply, mail

from outrider.model.address import Address, Domain, parse_address
from outrider.model.envelope import BodyType, Notify, Recipient, Return
from outrider.protocols.smtp.client import QUIT_TIMEOUT_S, SmtpClient
from outrider.protocols.smtp.client_events import (
    ChallengeReceived,
    ClientSettings,
    ContentWanted,
    LoginEnded,
    Mail,
    SessionEnded,
    SessionOpened,
    StartTlsAccepted,
    StartTlsRefused,
)
from outrider.protocols.smtp.client_states import End, LocalProtocolError, Stage, State

STUFFED = b"Subject: hi\r\n\r\n..dot\r\nend\r\n.\r\n"
ENVELOPE = b"MAIL FROM:<ann@a.example>\r\nRCPT TO:<bob@b.example>\r\n"


class TestOpening:
    @pytest.mark.covers("SMTP-3")
    def test_greets_with_ehlo_and_reads_the_offers(self) -> None:
        dialogue = Dialogue().say("220 hello")
        assert dialogue.heard() == b"EHLO client.example\r\n"
        dialogue.say(ehlo_reply("PIPELINING", "SIZE 1000", "LIMITS RCPTMAX=7 MAILMAX=2", "auth PLAIN"))
        offers = dialogue.only(SessionOpened).offers
        assert offers.pipelining
        assert offers.largest_message == 1000
        assert offers.limit("RCPTMAX") == 7
        assert offers.mechanisms == ("PLAIN",)

    @pytest.mark.covers("SEC-49")
    def test_falls_back_to_helo(self) -> None:
        dialogue = Dialogue().say("220 hello", "500 what?")
        assert dialogue.heard() == b"EHLO client.example\r\nHELO client.example\r\n"
        dialogue.say("250 hi\r\nSIZE 10"[:6])
        assert not dialogue.only(SessionOpened).offers.extended

    @pytest.mark.covers("SEC-49")
    @pytest.mark.parametrize(
        ("reply", "how"),
        [
            ("220 no", End.MALFORMED),
            ("221 no", End.MALFORMED),
            ("354 go", End.MALFORMED),
            ("421 later", End.CLOSING),
            ("500 no", End.REFUSED),
            ("450 no", End.REFUSED),
        ],
    )
    def test_bad_answers_to_helo(self, reply: str, how: End) -> None:
        dialogue = Dialogue().say("220 hello", "502 what?", reply)
        assert dialogue.ending.how is how
        assert dialogue.core.state is State.CLOSED

    def test_lmtp_says_lhlo_and_never_helo(self) -> None:
        dialogue = Dialogue(LMTP).say("220 hello")
        assert dialogue.heard() == b"LHLO client.example\r\n"
        dialogue.say("500 what?")
        assert dialogue.ending.how is End.REFUSED

    @pytest.mark.covers("SEC-50")
    @pytest.mark.parametrize(
        ("greeting", "how"),
        [
            ("221 no", End.MALFORMED),
            ("250 no", End.MALFORMED),
            ("354 go", End.MALFORMED),
            ("421 later", End.CLOSING),
            ("450 later", End.REFUSED),
            ("500 no", End.REFUSED),
            ("501 no", End.REFUSED),
            ("530 no", End.REFUSED),
            ("554 no", End.REFUSED),
        ],
    )
    def test_greetings_that_are_no_welcome(self, greeting: str, how: End) -> None:
        dialogue = Dialogue().say(greeting)
        assert dialogue.ending.how is how
        assert dialogue.ending.stage is Stage.GREETING
        assert dialogue.heard() == b""

    @pytest.mark.covers("SEC-50")
    def test_greeting_without_end_is_bounded(self) -> None:
        dialogue = Dialogue()
        for _ in range(1000):
            dialogue.say("220-more")
        assert dialogue.ending.how is End.MALFORMED

    @pytest.mark.covers("SEC-50")
    def test_greeting_that_never_comes(self) -> None:
        dialogue = Dialogue().wait(299)
        assert not dialogue.events
        assert dialogue.wait(1).ending.how is End.TIMED_OUT

    def test_a_server_that_talks_ahead_is_not_believed(self) -> None:
        assert Dialogue().say(b"220 hi\r\n250 fine\r\n").ending.how is End.MALFORMED


class TestStartTls:
    def started(self) -> Dialogue:
        dialogue = Dialogue().opened("STARTTLS", "AUTH PLAIN")
        dialogue.core.start_tls(dialogue.now)
        assert dialogue.heard() == b"STARTTLS\r\n"
        return dialogue

    @pytest.mark.covers("TLS-1", "SEC-52")
    def test_everything_is_forgotten_and_only_the_second_list_counts(self) -> None:
        dialogue = self.started().say("220 go")
        dialogue.only(StartTlsAccepted)
        assert dialogue.core.offers.mechanisms == ()
        dialogue.core.tls_begun(dialogue.now)
        assert dialogue.heard() == b"EHLO client.example\r\n"
        dialogue.say(ehlo_reply("SIZE 5"))
        assert dialogue.only(SessionOpened).offers.mechanisms == ()
        assert dialogue.core.under_tls

    @pytest.mark.covers("SEC-45", "SEC-46", "TLS-1")
    @pytest.mark.parametrize(
        "octets",
        [
            b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n",
            b"220 go\r\n250 half",
            b"220 go\r\n\r\n",
            b"220 go\r\n\x16",
        ],
    )
    def test_plain_text_behind_the_220_ends_the_session(self, octets: bytes) -> None:
        dialogue = self.started().say(octets)
        assert dialogue.ending.how is End.MALFORMED
        assert not [event for event in dialogue.events if isinstance(event, StartTlsAccepted)]

    @pytest.mark.covers("SEC-46")
    def test_plain_text_that_comes_a_little_later_too(self) -> None:
        assert self.started().say("220 go").say(b"25").ending.how is End.MALFORMED

    @pytest.mark.covers("SEC-48")
    @pytest.mark.parametrize("reply", ["454 later", "500 no", "501 no", "502 no", "530 no"])
    def test_refusals_leave_the_session_as_it_was(self, reply: str) -> None:
        dialogue = self.started().say(reply)
        assert dialogue.only(StartTlsRefused).reply.code == int(reply[:3])
        assert dialogue.core.state is State.READY
        assert not dialogue.core.under_tls

    @pytest.mark.covers("SEC-48")
    @pytest.mark.parametrize(
        "reply", [b"354 go\r\n", b"221 bye\r\n", b"250 ok\r\n", b"22\r\n", b"\r\n", b"2" * 9000]
    )
    def test_nonsense_ends_the_session(self, reply: bytes) -> None:
        dialogue = self.started().say(reply)
        assert dialogue.ending.how is End.MALFORMED
        assert dialogue.heard() == b""


class TestEnvelope:
    @pytest.mark.covers("SMTP-3")
    def test_pipelines_the_envelope_with_data(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        assert dialogue.send(mail()) == ENVELOPE + b"DATA\r\n"
        dialogue.say("250 ok", "250 ok", "354 go")
        assert dialogue.heard() == STUFFED
        dialogue.say("250 2.0.0 taken")
        assert dialogue.result.outcomes[0].taken
        assert dialogue.core.takes_mail

    @pytest.mark.covers("SMTP-3")
    def test_small_content_goes_by_bdat_in_the_same_group(self) -> None:
        dialogue = Dialogue().opened("PIPELINING", "CHUNKING")
        assert dialogue.send(mail()) == ENVELOPE + b"BDAT %d LAST\r\n" % len(BODY) + BODY
        dialogue.say("250 ok", "250 ok", "250 taken")
        assert dialogue.result.outcomes[0].taken

    def test_without_pipelining_one_command_at_a_time(self) -> None:
        dialogue = Dialogue().opened()
        assert dialogue.send(mail("bob@b.example", "eve@b.example")) == b"MAIL FROM:<ann@a.example>\r\n"
        dialogue.say("250 ok")
        assert dialogue.heard() == b"RCPT TO:<bob@b.example>\r\n"
        dialogue.say("550 5.1.1 who?")
        assert dialogue.heard() == b"RCPT TO:<eve@b.example>\r\n"
        dialogue.say("250 ok")
        assert dialogue.heard() == b"DATA\r\n"
        dialogue.say("354 go")
        assert dialogue.heard() == STUFFED
        dialogue.say("250 taken")
        outcomes = dialogue.result.outcomes
        assert not outcomes[0].taken
        assert outcomes[1].taken

    @pytest.mark.parametrize("keywords", [(), ("PIPELINING",), ("CHUNKING",), ("CHUNKING", "PIPELINING")])
    def test_the_same_octet_by_octet(self, keywords: tuple[str, ...]) -> None:
        dialogue = Dialogue().opened(*keywords)
        said = dialogue.send(mail())
        dialogue.drip(b"250 ok\r\n250 ok\r\n" if "PIPELINING" in keywords else b"250 ok\r\n")
        if "PIPELINING" not in keywords:
            dialogue.drip(b"250 ok\r\n")
        if "CHUNKING" not in keywords:
            dialogue.drip(b"354 go\r\n")
        said += dialogue.heard()
        assert said.endswith(BODY if "CHUNKING" in keywords else STUFFED)
        dialogue.drip(b"250-2.0.0 all\r\n250 2.0.0 taken\r\n")
        outcome = dialogue.result.outcomes[0]
        assert outcome.reply is not None
        assert (outcome.reply.status, outcome.reply.text) == ("2.0.0", "all\ntaken")

    @pytest.mark.covers("SMTP-3", "SMTP-2a")
    def test_parameters_as_offered(self) -> None:
        dialogue = Dialogue().opened(*ALL)
        recipient = Recipient(
            parse_address("bob@b.example"), Notify.SUCCESS | Notify.DELAY, "rfc822;b+b@x.example"
        )
        message = Mail(
            sender=parse_address("jörg@a.example"),
            recipients={4: recipient},
            size=4,
            body_type=BodyType.EIGHT_BIT,
            smtputf8=True,
            ret=Return.HEADERS,
            envelope_id="a+b c",
            content=b"x\r\n\r\n"[:4],
        )
        assert dialogue.send(message).split(b"\r\n")[:2] == [
            "MAIL FROM:<jörg@a.example> SIZE=4 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+20c".encode(),
            b"RCPT TO:<bob@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bb@x.example",
        ]

    def test_parameters_left_out_where_they_are_not_offered(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        recipient = Recipient(parse_address("bob@b.example"), Notify.NEVER, "rfc822;x@y.example")
        message = Mail(None, {0: recipient}, 0, ret=Return.FULL, envelope_id="id", content=b"")
        assert dialogue.send(message) == b"MAIL FROM:<>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n"

    @pytest.mark.covers("SEC-54")
    def test_refused_sender_decides_for_all(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail("a@b.example", "c@b.example"))
        dialogue.say("550 5.7.1 not you", "503 what?", "503 what?", "503 what?")
        for outcome in dialogue.result.outcomes.values():
            assert outcome.stage is Stage.MAIL
            assert outcome.reply is not None
            assert outcome.reply.code == 550
        assert dialogue.core.takes_mail

    def test_354_although_all_recipients_were_refused(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail())
        dialogue.say("250 ok", "550 no", "354 go")
        assert dialogue.heard() == b".\r\n"
        dialogue.say("554 nobody")
        assert dialogue.result.outcomes[0].stage is Stage.RECIPIENT

    def test_an_unfinished_transaction_is_reset_before_the_next(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail())
        dialogue.say("250 ok", "550 no", "503 no")
        dialogue.events.clear()
        assert dialogue.send(mail()) == b"RSET\r\n" + ENVELOPE + b"DATA\r\n"
        dialogue.say("250 ok", "250 ok", "250 ok", "354 go", "250 ok")
        assert dialogue.result.outcomes[0].taken
        dialogue.heard()
        assert dialogue.send(mail()) == ENVELOPE + b"DATA\r\n"

    def test_reset_waits_for_its_answer_without_pipelining(self) -> None:
        dialogue = Dialogue().opened()
        dialogue.send(mail())
        dialogue.say("250 ok", "550 no")
        dialogue.heard()
        assert dialogue.send(mail()) == b"RSET\r\n"
        dialogue.say("250 ok")
        assert dialogue.heard() == b"MAIL FROM:<ann@a.example>\r\n"

    @pytest.mark.parametrize("refusal", ["452 4.5.3 enough", "452 enough", "552 enough", "552 5.5.3 enough"])
    def test_too_many_recipients_are_postponed(self, refusal: str) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail("a@b.example", "b@b.example", "c@b.example"))
        dialogue.say("250 ok", "250 ok", refusal, refusal, "354 go", "250 ok")
        assert dialogue.result.postponed == (1, 2)
        assert dialogue.result.outcomes.keys() == {0}

    @pytest.mark.parametrize("refusal", ["452 4.2.2 full", "552 5.2.2 full"])
    def test_a_full_mailbox_is_not_too_many(self, refusal: str) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail("a@b.example", "b@b.example"))
        dialogue.say("250 ok", "250 ok", refusal, "354 go", "250 ok")
        assert not dialogue.result.postponed

    def test_the_first_recipient_is_never_one_too_many(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail())
        dialogue.say("250 ok", "452 4.5.3 enough", "503 no")
        assert not dialogue.result.postponed

    def test_mailmax_is_heeded(self) -> None:
        dialogue = Dialogue().opened("PIPELINING", "LIMITS MAILMAX=1")
        dialogue.send(mail())
        dialogue.say("250 ok", "250 ok", "354 go", "250 ok")
        assert not dialogue.core.takes_mail

    @pytest.mark.covers("SEC-59")
    def test_orcpt_that_cannot_be_written_is_left_out(self) -> None:
        dialogue = Dialogue().opened("DSN", "PIPELINING")
        recipient = Recipient(parse_address("bob@b.example"), Notify.UNSPECIFIED, "rfc822;a\r\nRCPT TO:<x@y>")
        assert dialogue.send(Mail(None, {0: recipient}, 0, content=b"")).count(b"RCPT") == 1


class TestContent:
    @pytest.mark.covers("SMTP-1", "SEC-27")
    def test_large_content_by_data_is_asked_for_piece_by_piece(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail(content=None, size=11))
        dialogue.say("250 ok", "250 ok", "354 go")
        dialogue.only(ContentWanted)
        assert dialogue.give(b"a\r", last=False) == b"a\r"
        assert dialogue.give(b"\n.b\r\n", last=False) == b"\n..b\r\n"
        assert dialogue.give(b".cd\n"[:3] + b"x", last=True) == b"..cdx\r\n.\r\n"
        assert sum(isinstance(event, ContentWanted) for event in dialogue.events) == 3
        dialogue.say("250 ok")
        assert dialogue.result.outcomes[0].taken

    @pytest.mark.covers("SMTP-3")
    def test_large_content_by_bdat_keeps_a_window(self) -> None:
        dialogue = Dialogue().opened("PIPELINING", "CHUNKING")
        assert dialogue.send(mail(content=None, size=60)) == ENVELOPE
        dialogue.say("250 ok", "250 ok")
        for _ in range(4):
            assert dialogue.give(b"0123456789", last=False) == b"BDAT 10\r\n0123456789"
        assert sum(isinstance(event, ContentWanted) for event in dialogue.events) == 4
        dialogue.say("250 more")
        assert sum(isinstance(event, ContentWanted) for event in dialogue.events) == 5
        dialogue.give(b"0123456789", last=False)
        dialogue.say("250 ok", "250 ok")
        assert dialogue.give(b"0123456789", last=True) == b"BDAT 10 LAST\r\n0123456789"
        dialogue.say("250 ok", "250 ok", "250 2.6.0 taken")
        assert dialogue.result.outcomes[0].taken

    def test_bdat_refused_on_the_way_leaves_a_usable_session(self) -> None:
        dialogue = Dialogue().opened("PIPELINING", "CHUNKING")
        dialogue.send(mail(content=None, size=60))
        dialogue.say("250 ok", "250 ok")
        dialogue.give(b"0123456789", last=False)
        dialogue.give(b"0123456789", last=False)
        dialogue.say("552 5.3.4 too big")
        assert dialogue.give(b"0123456789", last=False) == b""
        dialogue.say("503 no")
        outcome = dialogue.result.outcomes[0]
        assert (outcome.stage, outcome.reply and outcome.reply.code) == (Stage.CONTENT, 552)
        assert dialogue.core.takes_mail
        assert dialogue.send(mail()).startswith(b"RSET\r\n")

    def test_the_declared_size_is_a_promise(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail(content=None, size=3))
        dialogue.say("250 ok", "250 ok", "354 go")
        with pytest.raises(LocalProtocolError):
            dialogue.give(b"four", last=True)

    @pytest.mark.covers("SEC-54")
    def test_an_early_yes_does_not_count(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail(content=None, size=4))
        dialogue.say("250 ok", "250 ok", "354 go")
        dialogue.give(b"ab", last=False)
        dialogue.say("250 taken")
        assert not dialogue.result.outcomes[0].taken
        assert dialogue.result.outcomes[0].reply is None
        assert dialogue.ending.how is End.MALFORMED

    @pytest.mark.covers("SEC-54")
    def test_a_yes_in_the_segment_of_the_354_does_not_count(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail())
        dialogue.say(b"250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n")
        assert not dialogue.result.outcomes[0].taken
        assert dialogue.heard() == b""

    @pytest.mark.covers("SEC-54")
    def test_a_doubled_reply_does_not_stand_for_the_content(self) -> None:
        dialogue = Dialogue().opened("PIPELINING", "CHUNKING")
        dialogue.send(mail())
        dialogue.say(b"250 ok\r\n250 ok\r\n250 ok\r\n554 not taken\r\n")
        assert not dialogue.result.outcomes[0].taken
        assert dialogue.result.outcomes[0].reply is None

    def test_a_refusal_while_content_flows_is_the_servers_word(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail(content=None, size=4))
        dialogue.say("250 ok", "250 ok", "354 go")
        dialogue.give(b"ab", last=False)
        dialogue.say("552 5.3.4 too big")
        outcome = dialogue.result.outcomes[0]
        assert outcome.reply is not None
        assert outcome.reply.code == 552
        assert dialogue.core.state is State.CLOSED

    @pytest.mark.covers("SEC-55")
    @pytest.mark.parametrize("replies", [("250 ok", "250 ok", "250 ok"), ("250 ok", "354 go"), ("354 go",)])
    def test_replies_of_the_wrong_kind(self, replies: tuple[str, ...]) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail())
        dialogue.say(*replies)
        assert dialogue.ending.how is End.MALFORMED
        assert dialogue.result.outcomes[0].reply is None
        assert dialogue.heard() == b""

    def test_354_behind_a_refused_sender(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.send(mail())
        dialogue.say("550 no", "503 no", "354 go")
        assert dialogue.ending.how is End.MALFORMED

    def test_a_farewell_behind_the_verdict_does_not_undo_it(self) -> None:
        for keywords in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            dialogue = Dialogue().opened(*keywords)
            dialogue.send(mail())
            if "CHUNKING" not in keywords:
                dialogue.say("250 ok", "250 ok", "354 go")
                dialogue.say(b"250 taken\r\n421 bye\r\n")
            else:
                dialogue.say(b"250 ok\r\n250 ok\r\n250 taken\r\n421 bye\r\n")
            assert dialogue.result.outcomes[0].taken
            assert dialogue.ending.how is End.CLOSING


class TestLmtp:
    def test_a_verdict_for_each_accepted_recipient(self) -> None:
        dialogue = Dialogue(LMTP).opened("PIPELINING")
        dialogue.send(mail("a@b.example", "b@b.example", "c@b.example"))
        dialogue.say("250 ok", "250 ok", "550 no", "250 ok", "354 go")
        dialogue.say(b"250 2.0.0 one\r\n452 4.2.2 full\r\n")
        outcomes = dialogue.result.outcomes
        assert outcomes[0].taken
        assert outcomes[1].stage is Stage.RECIPIENT
        assert outcomes[2].reply is not None
        assert outcomes[2].reply.status == "4.2.2"

    def test_bdat_has_a_verdict_for_each_too(self) -> None:
        dialogue = Dialogue(LMTP).opened("PIPELINING", "CHUNKING")
        dialogue.send(mail("a@b.example", "b@b.example"))
        dialogue.say("250 ok", "250 ok", "250 ok", "250 one", "550 two")
        assert [one.taken for one in dialogue.result.outcomes.values()] == [True, False]

    def test_connection_lost_between_the_verdicts(self) -> None:
        dialogue = Dialogue(LMTP).opened("PIPELINING")
        dialogue.send(mail("a@b.example", "b@b.example"))
        dialogue.say("250 ok", "250 ok", "250 ok", "354 go", "250 one").lose()
        outcomes = dialogue.result.outcomes
        assert outcomes[0].taken
        assert outcomes[1].ending is not None
        assert outcomes[1].ending.stage is Stage.VERDICT


class TestEnding:
    STEPS = ("220 hi", "250-mx\r\n250 PIPELINING", "250 ok", "250 ok", "354 go", "250 ok")
    STAGES = (Stage.GREETING, Stage.HELLO, Stage.MAIL, Stage.RECIPIENT, Stage.DATA, Stage.VERDICT)

    def at(self, step: int) -> Dialogue:
        dialogue = Dialogue()
        for number in range(step):
            dialogue.say(self.STEPS[number])
            if number == 1:
                dialogue.send(mail())
        dialogue.heard()
        return dialogue

    @pytest.mark.covers("SMTP-6", "SEC-31")
    @pytest.mark.parametrize("step", range(6))
    @pytest.mark.parametrize("how", [End.LOST, End.TIMED_OUT, End.CLOSING, End.MALFORMED])
    def test_every_ending_at_every_stage(self, step: int, how: End) -> None:
        dialogue = self.at(step)
        match how:
            case End.LOST:
                dialogue.lose()
            case End.TIMED_OUT:
                dialogue.wait(600)
            case End.CLOSING:
                dialogue.say("421 4.3.2 going down")
            case _:
                dialogue.say("what is this")
        assert dialogue.ending.how is how
        assert dialogue.ending.stage is self.STAGES[step]
        if step >= 2:
            outcome = dialogue.result.outcomes[0]
            assert outcome.ending == dialogue.ending
            assert not outcome.taken

    @pytest.mark.covers("SEC-88")
    def test_dribbled_replies_gain_no_time(self) -> None:
        dialogue = self.at(2)
        for octet in b"250-slow":
            dialogue.say(bytes((octet,))).wait(40)
        assert dialogue.ending.how is End.TIMED_OUT

    @pytest.mark.covers("SEC-88")
    def test_a_whole_transaction_is_bounded(self) -> None:
        dialogue = Dialogue().opened()
        recipients = [f"u{number}@b.example" for number in range(100)]
        dialogue.send(mail(*recipients))
        dialogue.say("250 ok")
        while not dialogue.events:
            dialogue.wait(299).say("250 ok")
        assert dialogue.ending.how is End.TIMED_OUT
        assert dialogue.now - 1000 < 4000

    def test_unasked_words_of_an_idle_server(self) -> None:
        dialogue = Dialogue().opened()
        assert dialogue.say("421 4.4.2 idle for too long").ending.how is End.CLOSING
        dialogue = Dialogue().opened()
        assert dialogue.say("250 and what now").ending.how is End.MALFORMED

    def test_quit(self) -> None:
        dialogue = Dialogue().opened()
        dialogue.core.quit(dialogue.now)
        assert dialogue.heard() == b"QUIT\r\n"
        assert dialogue.say("421 whatever").ending.how is End.QUIT
        dialogue = Dialogue().opened()
        dialogue.core.quit(dialogue.now)
        assert dialogue.wait(QUIT_TIMEOUT_S).ending.how is End.TIMED_OUT
        dialogue = Dialogue().opened()
        dialogue.core.quit(dialogue.now)
        assert dialogue.lose().ending.how is End.QUIT

    def test_nothing_is_sent_and_nothing_happens_after_the_end(self) -> None:
        dialogue = Dialogue().opened("PIPELINING")
        dialogue.core.send_mail(mail(), dialogue.now)
        dialogue.core.abandon("disk on fire")
        dialogue.say("250 ok").lose().wait(10_000)
        assert dialogue.heard() == b""
        assert dialogue.ending.text == "disk on fire"
        assert dialogue.core.deadline() is None

    def test_verbs_out_of_place_are_errors_of_ours(self) -> None:
        dialogue = Dialogue()
        with pytest.raises(LocalProtocolError):
            dialogue.core.send_mail(mail(), dialogue.now)
        with pytest.raises(LocalProtocolError):
            dialogue.core.quit(dialogue.now)
        dialogue.opened()
        with pytest.raises(LocalProtocolError):
            dialogue.core.tls_begun(dialogue.now)
        with pytest.raises(LocalProtocolError):
            dialogue.core.respond(b"", dialogue.now)


class TestLogin:
    @pytest.mark.covers("SMTP-2b")
    def test_never_without_tls(self) -> None:
        dialogue = Dialogue().opened("AUTH PLAIN")
        with pytest.raises(LocalProtocolError):
            dialogue.core.authenticate("PLAIN", b"\0u\0p", dialogue.now)
        assert dialogue.heard() == b""

    def test_exchange(self) -> None:
        dialogue = Dialogue(under_tls=True).opened("AUTH X")
        dialogue.core.authenticate("X", b"", dialogue.now)
        assert dialogue.heard() == b"AUTH X =\r\n"
        dialogue.say("334 " + base64.b64encode(b"who?").decode())
        assert dialogue.only(ChallengeReceived).octets == b"who?"
        dialogue.core.respond(b"me", dialogue.now)
        assert dialogue.heard() == b"bWU=\r\n"
        dialogue.say("235 2.7.0 welcome")
        assert dialogue.only(LoginEnded).reply.is_positive
        assert dialogue.core.takes_mail

    def test_cancelled(self) -> None:
        dialogue = Dialogue(under_tls=True).opened("AUTH X")
        dialogue.core.authenticate("X", None, dialogue.now)
        assert dialogue.heard() == b"AUTH X\r\n"
        dialogue.say("334 ")
        dialogue.core.respond(None, dialogue.now)
        assert dialogue.heard() == b"*\r\n"
        dialogue.say("501 cancelled")
        assert not dialogue.only(LoginEnded).reply.is_positive

    def test_a_challenge_that_is_not_base64(self) -> None:
        dialogue = Dialogue(under_tls=True).opened("AUTH X")
        dialogue.core.authenticate("X", None, dialogue.now)
        assert dialogue.say("334 not base64!").ending.how is End.MALFORMED


def test_hostile_addresses_do_not_become_commands() -> None:
    from outrider.protocols.smtp.client_commands import fits_in_path

    assert fits_in_path(parse_address('"a b>"@x.example'))
    for local in ("a\r\nRCPT TO:<x>", "a\0", "a\x85", "a\u2028", "\udc80"):
        assert not fits_in_path(Address(local, Domain("x.example")))


def test_session_ended_is_always_the_last_event() -> None:
    core = SmtpClient(ClientSettings("c.example"), 0.0)
    core.receive(b"220 hi\r\n", 0.0)
    core.receive_eof(1.0)
    assert isinstance(core.next_event(), SessionEnded)
    assert core.next_event() is None
    assert SETTINGS.hello_name
