"""The core beyond the conformance vectors: results per recipient, broken connections, time, memory."""

from __future__ import annotations

import pytest
from tests.protocols.mt2.pair import (
    GENEROUS,
    NOW,
    Pair,
    Taker,
    Wire,
    events,
    greeted,
    identified,
    message,
)

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, Word, err, ok
from outrider.protocols.mt2.events import (
    BODY_TYPE,
    ENVELOPE_TYPE,
    Answered,
    DropReason,
    Limits,
    Mt2Event,
    ObjectOctets,
    ObjectOffered,
    OutgoingObject,
    PeerLeaves,
    PeerSettings,
    SessionEnded,
    Takes,
    TransferDropped,
    TransferEnded,
)
from outrider.protocols.mt2.lines import Extension
from outrider.protocols.mt2.options import Grant, Offer
from outrider.protocols.mt2.peer import Mt2Peer
from outrider.protocols.mt2.recipients import recipient_extensions, recipient_results
from outrider.protocols.mt2.status import TransferState, TransferStatus, read_status, status_result

# -- results per recipient ---------------------------------------------------------------------------


@pytest.mark.covers("MT2-16")
def test_recipients_of_an_answer() -> None:
    unknown = err(codes.UNKNOWN_RECIPIENT, Extension("STATUS", ("5.1.6",)), text="Moved away.")
    later = err(codes.RECIPIENT_NOT_NOW, text="Mailbox is full.")
    said = recipient_extensions({2: unknown, 4: later, 5: unknown})
    assert [extension.values for extension in said] == [("2", "5"), ("4",)]
    answer = ok(codes.ENVELOPE_ACCEPTED, *said)
    good = ok(codes.ENVELOPE_ACCEPTED)
    assert recipient_results(answer, 5) == (good, unknown, good, later, unknown)
    assert recipient_results(answer, 1) == (good,)  # positions beyond the list are passed over


@pytest.mark.covers("MT2-16")
def test_a_thousand_recipients_are_answered_over_several_lines() -> None:
    both = identified()
    refused = {n: err(codes.UNKNOWN_RECIPIENT, text=f"No user {n}.") for n in range(1, 1001, 2)}

    def refuse_some(event: Mt2Event) -> bool:
        if isinstance(event, ObjectOctets) and event.object_ended:
            result = ok(codes.MESSAGE_TAKEN, *recipient_extensions(refused))
            return both.server.peer.answer(event.tag, result, NOW)
        return False

    both.server.on_event = refuse_some
    both.client.peer.transfer("m1", [OutgoingObject(ENVELOPE_TYPE, 4, b"to..")], NOW)
    both.run()
    end = both.client.ended["m1"]
    assert end.result is not None
    results = recipient_results(end.result, 1000)
    assert [n for n, result in enumerate(results, 1) if not result.is_ok] == list(refused)
    assert results[998].text == "No user 999."


# -- broken connections ------------------------------------------------------------------------------


def frame_ends(octets: bytes) -> list[int]:
    """Where each frame of a stream ends."""
    ends, at = [], 0
    while at < len(octets):
        line_end = octets.index(b"\r\n", at) + 2
        head = octets[at:line_end]
        at = line_end + (int(head[1:-3].split(b" ")[1]) if head[:1] == b"{" else 0)
        ends.append(at)
    return ends


def sent_messages() -> Pair:
    both = identified()
    for name in ("m1", "m2"):
        both.client.peer.transfer(name, message(name, b"head", b"body " * 30), NOW)
    return both


@pytest.mark.covers("MT2-18a", "MT2-17", "MT2-12")
def test_cut_at_every_frame_boundary_no_message_is_thought_taken_that_was_not() -> None:
    """And what may have been taken is said to be doubtful: never lost, and never doubled but by doubt."""
    whole = sent_messages()
    begun = len(whole.to_server)
    whole.run()
    ends = [end - begun for end in frame_ends(bytes(whole.to_server)) if end >= begun]
    assert len(ends) > 10
    for limit in ends:
        both = sent_messages()
        run_until(both, limit)
        both.client.peer.receive_eof(NOW)
        both.server.peer.receive_eof(NOW)
        both.client.work()
        both.server.work()
        for name in ("m1", "m2"):
            end = both.client.ended[name]
            if end.result is not None:
                assert name in both.server.taken
            elif name in both.server.taken:
                assert end.may_be_taken


def run_until(both: Pair, octets: int) -> None:
    """Carry so many octets to the server, and what it answers to them; then its answers are lost."""
    while octets > 0:
        both.client.work()
        fresh = both.client.peer.bytes_to_send()
        if not fresh:
            return
        both.server.peer.receive(fresh[:octets], NOW)
        both.server.work()
        octets -= len(fresh)
        back = both.server.peer.bytes_to_send()
        if octets > 0:
            both.client.peer.receive(back, NOW)


@pytest.mark.covers("MT2-18b")
def test_a_transfer_is_resumed_on_another_connection() -> None:
    body = bytes(range(256)) * 40
    first = identified(Offer(maxpart=2000), server_offer=Offer(maxpart=2000))
    first.client.peer.transfer("m1", message("m1", b"head", body), NOW)
    run_until(first, 7000)
    held = {name: len(octets) for (_, name), octets in first.server.objects.items()}
    assert 0 < held[BODY_TYPE] < len(body)

    second = identified()
    second.server.objects = dict(first.server.objects)
    del second.server.objects["m1", ENVELOPE_TYPE]
    envelope, headers, whole = message("m1", b"head", body)
    second.client.peer.transfer(
        "m1",
        [
            envelope,
            OutgoingObject(headers.media_type, headers.size, headers.octets, offset=headers.size),
            OutgoingObject(whole.media_type, whole.size, whole.octets, offset=held[BODY_TYPE]),
        ],
        NOW,
    )
    before = len(second.to_server)
    second.run()
    assert second.server.message("m1") == (b"head", body)
    assert len(second.to_server) - before < len(body) - held[BODY_TYPE] + 1000
    assert second.client.ended["m1"].result == Result(Word.OK, codes.MESSAGE_TAKEN, "Message taken.")


@pytest.mark.covers("MT2-13")
@pytest.mark.parametrize("state", TransferState)
def test_stat_reads_as_it_was_answered(state: TransferState) -> None:
    status = TransferStatus(
        state, {ENVELOPE_TYPE: 12, "message/body": 10**12} if state.value == "receiving" else {}
    )
    both = identified()
    both.server.on_event = lambda event: (
        type(event).__name__ == "StatusAsked" and both.server.peer.answer_status(event.tag, status, NOW)  # type: ignore[union-attr]
    )
    both.client.peer.stat("m1", NOW)
    both.run()
    assert read_status(both.client.answers[-1].result) == status
    assert read_status(err(codes.IDENTITY_REQUIRED)) is None
    assert status_result(status).is_ok


# -- both directions ---------------------------------------------------------------------------------


@pytest.mark.covers("MT2-18e", "MT2-12")
def test_quit_waits_for_the_other_sides_mail() -> None:
    both = identified()
    both.server.peer.transfer("s1", message("s1", b"h", b"b" * 100_000), NOW)
    both.server.peer.transfer("s2", message("s2", b"h", b"b"), NOW)
    both.client.peer.quit(NOW)
    both.run()
    assert both.client.taken == ["s1"] or both.client.taken == []
    assert both.server.over[0].orderly
    assert both.client.over[0].orderly
    later = both.server.ended["s2"].result
    assert later is not None
    assert later.code == codes.LEAVING  # not begun: to be sent elsewhere


@pytest.mark.covers("MT2-12")
def test_a_side_that_leaves_finishes_what_was_begun() -> None:
    both = identified()
    both.client.peer.transfer("m1", message("m1", b"h" * 3000, b"b" * 300_000), NOW)
    both.client.work()
    both.server.peer.receive(both.client.peer.bytes_to_send(), NOW)
    both.server.work()
    both.server.peer.leave(NOW)
    assert not both.server.peer.can_transfer
    both.run()
    assert both.server.taken == ["m1"]
    assert any(isinstance(event, PeerLeaves) for event in both.client.log)
    assert both.client.ended["m1"].result is not None
    assert both.server.over == [SessionEnded("we go away", orderly=True)]
    assert not both.client.peer.can_transfer


@pytest.mark.covers("MT2-10a")
def test_both_sides_prove_themselves() -> None:
    both = greeted()
    both.client.peer.helo(b"client's proof", "mx.a.example", NOW, nonce="abc", prove=True)
    both.run()
    both.server.peer.helo(b"server's proof", "mx.b.example", NOW)
    both.run()
    offered = [
        event for taker in (both.client, both.server) for event in taker.log if hasattr(event, "certificate")
    ]
    assert [(event.certificate, event.host) for event in offered] == [
        (b"server's proof", "mx.b.example"),
        (b"client's proof", "mx.a.example"),
    ]
    assert [answer.verb for answer in both.server.answers] == ["HELO"]
    assert both.server.answers[0].offer == GENEROUS


@pytest.mark.covers("MT2-18d")
def test_a_client_without_pipe_has_one_request_outstanding() -> None:
    both = identified(None)
    assert both.client.peer.ours == Grant(window=65536, maxpart=65536)
    for number in range(3):
        both.client.peer.transfer(f"m{number}", message(f"m{number}", b"h", b"b"), NOW)
    outstanding = []

    def count(event: Mt2Event) -> bool:
        outstanding.append(both.server.peer.transfers_coming)
        return False

    both.server.on_event = count
    both.run()
    assert both.server.taken == ["m0", "m1", "m2"]
    assert max(outstanding) == 1


@pytest.mark.covers("MT2-15")
def test_a_refused_envelope_costs_no_octet_of_headers_or_body() -> None:
    """Counted on the wire: the requests are all that follows."""
    both = identified()

    def refuse(event: Mt2Event) -> bool:
        if isinstance(event, ObjectOctets):
            return both.server.peer.answer(event.tag, err(codes.INVALID_SENDER_CERTIFICATE), NOW)
        return False

    both.server.on_event = refuse
    before = len(both.to_server)
    both.client.peer.transfer("m1", message("m1", b"H" * 5000, b"B" * 50_000), NOW)
    both.run()
    sent = bytes(both.to_server[before:])
    assert b"HH" not in sent
    assert b"BB" not in sent
    assert len(sent) < 250
    assert both.client.ended["m1"].result == err(
        codes.INVALID_SENDER_CERTIFICATE, text="Invalid sender certificate."
    )


@pytest.mark.covers("MT2-12")
def test_an_aborted_large_body_leaves_the_session_usable() -> None:
    both = identified()
    both.client.streams["m1"] = b"x" * 3_000_000
    envelope = b"m1 1 3000000"
    objects = [*message("m1", b"h", b"", envelope)[:2], OutgoingObject(BODY_TYPE, 3_000_000)]

    def abort_midway(event: Mt2Event) -> bool:
        if isinstance(event, ObjectOctets) and len(both.server.objects.get(("m1", BODY_TYPE), b"")) > 900_000:
            both.client.peer.abort("m1", NOW)
        return False

    both.server.on_event = abort_midway
    both.client.peer.transfer("m1", objects, NOW)
    both.run()
    both.client.peer.transfer("m2", message("m2", b"h", b"b"), NOW)
    both.run()
    assert both.server.taken == ["m2"]
    assert both.server.dropped == [TransferDropped("m1", DropReason.KILLED, err(codes.TRANSFER_KILLED))]
    killed = both.client.ended["m1"].result
    assert killed is not None
    assert killed.code == codes.TRANSFER_KILLED
    assert len(both.server.objects["m1", BODY_TYPE]) < 3_000_000


# -- memory and refusal ------------------------------------------------------------------------------


@pytest.mark.covers("MT2-18c")
def test_a_large_body_never_holds_more_than_the_window() -> None:
    offer = Offer(pipe=True, window=100_000, maxpart=50_000)
    both = identified(offer, server_offer=offer)
    size = 20_000_000
    envelope = b"m1 1 %d" % size
    both.client.peer.transfer(
        "m1", [*message("m1", b"h", b"", envelope)[:2], OutgoingObject(BODY_TYPE, size)], NOW
    )
    most = came = 0
    piece = b"z" * 10_000

    def supply(event: Mt2Event) -> bool:
        if type(event).__name__ != "OctetsWanted":
            return False
        for _ in range(0, event.count, len(piece)):  # type: ignore[union-attr]
            both.client.peer.send_octets(event.tag, piece, NOW)  # type: ignore[union-attr]
        return True

    def take(event: Mt2Event) -> bool:
        nonlocal most, came
        most = max(most, both.server.peer.octets_held, both.server.peer.window_used)
        if isinstance(event, ObjectOctets) and event.media_type == BODY_TYPE:
            came += len(event.octets)
            if event.object_ended:
                both.server.peer.answer(event.tag, ok(codes.MESSAGE_TAKEN), NOW)
            elif event.fragment_ended:
                both.server.peer.taken(event.tag, NOW)
            return True
        return False

    both.client.on_event = supply
    both.server.on_event = take
    both.run()
    assert came == size
    assert most <= 100_000
    assert both.client.ended["m1"].result is not None


@pytest.mark.covers("MT2-14", "SEC-136")
def test_data_on_its_way_to_a_refused_request_is_skipped_up_to_what_was_granted() -> None:
    wire = Wire()
    wire.begin(1, size=100)
    wire.data(1, b"a" * 10)
    wire.peer.answer(1, err(codes.NO_STORAGE), NOW)
    assert wire.data(1, b"b" * 90) == []
    assert wire.say("[2 NOOP]") == []
    said = wire.data(1, b"c")
    assert isinstance(said[-1], SessionEnded)
    assert said[-1].misbehaved


@pytest.mark.covers("MT2-14")
def test_octets_of_a_frame_that_was_cut_by_a_refusal_are_skipped() -> None:
    wire = Wire()
    wire.begin(1, size=50_000)
    wire.give(b"{1 50000}\r\n" + b"a" * 20_000)  # large frames are handed on as they come
    wire.peer.refuse_transfer("m1", err(codes.CONTENT_REFUSED), NOW)
    assert wire.give(b"a" * 30_000 + b"[2 NOOP]\r\n") == []
    assert wire.heard[-1] == "[2 OK 99.0.2.10]"
    assert not wire.peer.window_used


@pytest.mark.covers("MT2-15")
def test_answers_after_the_end_of_a_transfer_are_ignored() -> None:
    wire = Wire()
    wire.begin(1)
    wire.say("[2 ABOR 1]")
    assert not wire.peer.grant(1, NOW)
    assert not wire.peer.answer(1, ok(codes.MESSAGE_TAKEN), NOW)
    assert not wire.peer.taken(1, NOW)
    assert not wire.peer.refuse_transfer("m1", err(codes.NOT_NOW), NOW)
    wire.peer.receive_eof(NOW)
    assert not wire.peer.grant(1, NOW)
    assert not wire.peer.abort("m1", NOW)
    assert wire.peer.deadline() is None


@pytest.mark.covers("MT2-14")
def test_what_only_a_faulty_driver_does_is_an_error() -> None:
    wire = Wire()
    wire.say("[1 XFER m1 message/envelope {5} {0}]")
    with pytest.raises(RuntimeError):
        wire.peer.answer(1, ok(codes.MESSAGE_TAKEN), NOW)  # it is not here
    wire.peer.grant(1, NOW)
    with pytest.raises(RuntimeError):
        wire.peer.grant(1, NOW)
    with pytest.raises(ValueError, match="OK or ERR"):
        wire.peer.answer(1, Result(Word.TMP, codes.SEND_BODY), NOW)
    with pytest.raises(RuntimeError):
        Mt2Peer.client(PeerSettings(), Offer(), NOW).noop(NOW)  # not greeted


@pytest.mark.covers("MT2-14")
def test_a_refused_transfer_may_be_tried_again_later() -> None:
    wire = Wire()
    wire.begin(1)
    wire.peer.answer(1, err(codes.NOT_NOW), NOW)
    assert isinstance(wire.begin(2)[0], ObjectOffered)


@pytest.mark.covers("MT2-18d", "SEC-136")
def test_who_may_not_pipeline_begins_few_transfers() -> None:
    wire = Wire()
    for tag in range(1, 9):
        wire.accept_envelope(tag, [(BODY_TYPE, 5)], transfer_id=f"m{tag}")
    wire.peer.bytes_to_send()
    wire.say("[9 XFER m9 message/envelope {5} {0}]")
    assert wire.heard == ["[9 ERR 99.0.4.10]"]
    wire.say("[10 ABOR 3]", "[11 XFER m9 message/envelope {5} {0}]")
    wire.peer.grant(11, NOW)
    assert wire.heard == ["[10 OK 99.0.2.8]", "[11 TMP 99.0.3.5]"]


# -- time --------------------------------------------------------------------------------------------


def server(limits: Limits) -> tuple[Mt2Peer, Taker]:
    peer = Mt2Peer.server(PeerSettings(Takes.ANYBODY, limits=limits), "b", "n", GENEROUS, 0.0)
    return peer, Taker(peer)


@pytest.mark.covers("MT2-12")
def test_data_must_come_at_the_least_rate() -> None:
    limits = Limits(rate_s=10, slowest_rate=100, idle_s=1000)
    peer, _ = server(limits)
    peer.receive(b"[1 XFER m1 message/envelope {5000} {0}]\r\n", 0.0)
    peer.grant(1, 0.0)
    for second in (9, 19, 29):  # 1000 octets in ten seconds are enough
        peer.receive(b"{1 1000}\r\n" + b"a" * 1000, float(second))
        peer.timed_out(second + 1.0)
    assert not any(isinstance(event, SessionEnded) for event in events(peer))
    assert peer.deadline() == 40.0
    peer.receive(b"{1 999}\r\n" + b"a" * 999, 35.0)
    peer.timed_out(40.0)
    assert [event.reason for event in events(peer) if isinstance(event, SessionEnded)] == [
        "data came too slowly"
    ]


@pytest.mark.covers("MT2-12")
def test_a_trickle_of_small_messages_is_no_slow_peer() -> None:
    """All that was due came: that the next is due already does not count."""
    peer, taker = server(Limits(rate_s=10, slowest_rate=500, idle_s=1000))
    peer.receive(b"[1 OPT (PIPE=ON)]\r\n[2 XFER a message/envelope {9} {0}]\r\n", 0.0)
    taker.work()
    for number in range(2, 12):
        at = number * 5.0
        peer.receive(b"[%d XFER m%d message/envelope {9} {0}]\r\n" % (number + 1, number), at)
        taker.work()
        peer.receive(b"{%d 9}\r\nenvelope." % number, at)
        taker.work()
        peer.timed_out(at)
        taker.work()
    assert not taker.over


@pytest.mark.covers("MT2-12")
def test_while_we_do_not_read_nothing_is_asked_of_the_other_side() -> None:
    peer, _ = server(Limits())
    peer.receive(b"[1 XFER m1 message/envelope {5000} {0}]\r\n", 0.0)
    peer.grant(1, 0.0)
    peer.reading_paused(1.0)
    assert peer.deadline() is None
    peer.timed_out(5000.0)
    peer.reading_resumed(5000.0)
    assert peer.deadline() == 5030.0
    assert not any(isinstance(event, SessionEnded) for event in events(peer))


@pytest.mark.covers("MT2-12")
def test_a_side_that_never_answers_is_given_up() -> None:
    wire = Wire(is_server=False)
    wire.peer.transfer("m1", [OutgoingObject(ENVELOPE_TYPE, 1, b"e")], NOW)
    wire.peer.receive(b"[* OK 99.0.2.0 News.]\r\n", NOW + 599)
    wire.peer.timed_out(NOW + 600)
    said = list(events(wire.peer))
    assert isinstance(said[-1], SessionEnded)
    assert said[-1].reason == "no answer"
    assert TransferEnded("m1", None, None, may_be_taken=False) in said


@pytest.mark.covers("MT2-9")
def test_tls_by_option_forgets_what_was_learnt() -> None:
    wire = Wire(takes=Takes.IDENTIFIED, offer=Offer(tls=True, pipe=True), over_tls=False)
    wire.say("[1 HELO {0}]")
    wire.peer.welcome(1, Offer(tls=True, pipe=True), NOW)
    wire.say("[2 OPT (PIPE=ON)]", "[3 OPT (TLS=ON)]")
    assert wire.peer.theirs.pipe
    wire.peer.bytes_to_send()
    wire.peer.tls_started(NOW, host="mx.b.example", nonce="new", offer=Offer())
    assert b"(NONCE=new)" in wire.peer.bytes_to_send()
    assert not wire.peer.theirs.pipe
    wire.say("[4 XFER m1 message/envelope {5} {0}]", "[5 OPT (TLS=ON)]")
    assert wire.heard == ["[4 ERR 99.0.5.20]", "[5 ERR 99.0.5.0 (TLS ERR 99.0.5.11)]"]


@pytest.mark.covers("MT2-11")
def test_trace_is_in_force_once_granted() -> None:
    both = identified(Offer(trace=True, pipe=True))
    assert both.client.peer.ours.trace
    assert both.server.peer.theirs.trace
    assert not both.client.peer.theirs.trace
    both.client.peer.opt([Extension("TRACE", ("OFF",))], NOW)
    both.run()
    assert not both.server.peer.theirs.trace
    assert all(isinstance(answer, Answered) for answer in both.client.answers)
