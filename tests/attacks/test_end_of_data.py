r"""SEC-1 to SEC-25: nothing but CRLF.CRLF ends a message, however the octets are cut.

What is sent behind each form are the commands of a second message: a second 354, or any reply more than
the one to the message, would show that they were run.
"""

from __future__ import annotations

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.attacks.target import Target
from tests.attacks.wire import Wire
from tests.wire import smuggling

SMUGGLED = b"MAIL FROM:<smuggled@a.example>\r\nRCPT TO:<ann@here.example>\r\nDATA\r\nSubject: inner\r\n\r\nx"
END = smuggling.END
STRAY = b"550 5.6.0 "
TAKEN = b"250 2.0.0 Ok: queued"

# Those up to row 15 hold a stray CR, LF or NUL: read to the true end, then refused. The others are what only
# some software takes for line ends or dots: data, kept as they are.
STRAY_FORMS = [(row, form) for row, forms in smuggling.ROWS.items() if row <= 15 for form in forms]
DATA_FORMS = [(row, form) for row, forms in smuggling.ROWS.items() if row > 15 for form in forms]


def rows(forms: list[tuple[int, bytes]]) -> list[object]:
    """Parameters, each marked with its row."""
    return [
        pytest.param(form, marks=pytest.mark.covers(f"SEC-{row}"), id=f"{row}-{form!r}")
        for row, form in forms
    ]


def message(form: bytes, token: bytes = b"outer", padding: int = 0) -> bytes:
    """A message with the form in it, then the smuggled commands, then the true end."""
    head = b"Subject: " + token + b"\r\n\r\n" + b"a" * 70 + b"\r\n"
    lines = b"p" * 76 + b"\r\n"
    filler = lines * (padding // len(lines)) + b"p" * (padding % len(lines))
    return head + filler + b"text" + form + SMUGGLED + END


def verdict(wire: Wire) -> bytes:
    """The reply to the message, after making sure that it is the only one."""
    answer = wire.reply()
    assert wire.is_in_step(), "there was a second reply: what was smuggled has been run"
    return answer


@pytest.mark.parametrize("form", rows(STRAY_FORMS))
def test_stray_line_ends_are_refused_at_the_true_end(target: Target, form: bytes) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(message(form))
        assert verdict(wire).startswith(STRAY)


@pytest.mark.parametrize("form", rows(DATA_FORMS))
def test_what_is_no_line_end_is_data(target: Target, form: bytes) -> None:
    token = b"data-" + form.hex().encode()
    with target.session() as wire:
        wire.begin(b"ann@open.example")
        wire.send(message(form, token))
        assert verdict(wire).startswith(TAKEN)
    # Text of eight bits is sent as it is; one leading dot is the wire's and goes.
    sent = message(form, token).removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
    assert target.arrival(token).endswith(sent)


@pytest.mark.covers("SEC-8")
def test_a_late_line_feed_makes_it_an_end(target: Target) -> None:
    with target.session() as wire:
        wire.begin()
        wire.drip((b"Subject: late\r\n\r\nx\r\n.\r", b"\n"), 0.2)
        assert verdict(wire).startswith(TAKEN)


@pytest.mark.covers("SEC-10")
def test_a_true_end_behind_a_stray_cr_is_an_end_and_refused(target: Target) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(b"Subject: x\r\n\r\ntext\r\r\n.\r\n")
        assert verdict(wire).startswith(STRAY)


MATRIX = [form for form in smuggling.MATRIX if not smuggling.is_true_end(form)]


@pytest.mark.covers("SEC-18")
def test_the_matrix_holds_no_end(target: Target) -> None:
    assert len(MATRIX) > 1100
    codes: Counter[bytes] = Counter()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda part: try_all(target, MATRIX[part::4]), range(4)):
            codes += found
    assert set(codes) == {STRAY, b"250 2.0.0 "}
    assert codes.total() == len(MATRIX)
    assert b"smuggled@a.example" not in target.new_log()


def try_all(target: Target, forms: list[bytes]) -> Counter[bytes]:
    """Send one message for each form over one session; how often there was which answer."""
    found: Counter[bytes] = Counter()
    with target.session() as wire:
        for form in forms:
            # One segment holds the message and the next transaction's beginning; it must get four replies.
            wire.begin()
            wire.send(message(form) + b"NOOP\r\n")
            found[wire.reply()[:10]] += 1
            assert wire.reply() == b"250 2.0.0 Ok\r\n", form
    return found


ROWS_1_TO_15 = [form for _, form in STRAY_FORMS] + [smuggling.TRUE_END_AFTER_STRAY_CR]


@pytest.mark.covers("SEC-19")
def test_the_verdict_does_not_depend_on_how_segments_are_cut(target: Target) -> None:
    cuts = [(form, cut) for form in ROWS_1_TO_15 for cut in range(len(form) + 1)]

    def send_cut(case: tuple[bytes, int]) -> bytes:
        form, cut = case
        whole = message(form)
        at = whole.index(b"text" + form) + 4 + cut
        return send_pieces(target, form, (whole[:at], whole[at:]))

    def send_singly(form: bytes) -> bytes:
        head, _, tail = message(form).partition(b"text" + form)
        return send_pieces(target, form, (head + b"text", *(form[i : i + 1] for i in range(len(form))), tail))

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(send_cut, cuts)) == {STRAY}
        assert set(pool.map(send_singly, ROWS_1_TO_15)) == {STRAY}


def send_pieces(target: Target, form: bytes, pieces: tuple[bytes, ...]) -> bytes:
    """Send a message in these segments; the beginning of the one answer to it."""
    with target.session() as wire:
        wire.begin()
        wire.drip(pieces, 0.05)
        answer = wire.reply()
        if smuggling.is_true_end(form):  # holds a true end: the smuggled commands are the client's next ones
            return answer[:10]
        assert wire.is_in_step(), form
        return answer[:10]


@pytest.mark.covers("SEC-20")
def test_forms_that_straddle_a_buffer(target: Target) -> None:
    sizes = [edge + offset for edge in (4_096, 8_192, 65_536) for offset in range(-6, 2)]
    with target.session() as wire:
        for form, size in itertools.product([form for _, form in STRAY_FORMS], sizes):
            fixed = message(form).index(b"text" + form) + 4
            wire.begin()
            wire.send(message(form, padding=size - fixed))
            assert wire.reply().startswith(STRAY)
            assert wire.is_in_step()


@pytest.mark.covers("SEC-21", "SEC-85")
@pytest.mark.parametrize("form", [form for _, form in STRAY_FORMS], ids=repr)
def test_discarded_data_end_in_no_other_way(target: Target, form: bytes) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(message(form, padding=210_000))
        assert verdict(wire).startswith(b"552 5.3.4 ")


@pytest.mark.covers("SEC-22")
@pytest.mark.parametrize(
    ("wire_form", "stored"),
    [
        (b"Subject: dots\r\n\r\n..\r\n", b"Subject: dots\r\n\r\n.\r\n"),
        (b"Subject: dots\r\n\r\n" + b"..\r\n" * 500, b"Subject: dots\r\n\r\n" + b".\r\n" * 500),
        (
            b"Subject: dots\r\n\r\n..." + b"x" * 990 + b"\r\n",
            b"Subject: dots\r\n\r\n.." + b"x" * 990 + b"\r\n",
        ),
        (b"Subject: dots\r\n\r\n.x\r\n", b"Subject: dots\r\n\r\nx\r\n"),
    ],
)
def test_one_dot_is_taken_off(target: Target, wire_form: bytes, stored: bytes) -> None:
    token = b"X-Token: %d-%d\r\n" % (len(wire_form), hash(wire_form))
    with target.session() as wire:
        wire.begin(b"ann@open.example")
        wire.send(token + wire_form + b".\r\n")
        assert verdict(wire).startswith(TAKEN)
    assert target.arrival(token).endswith(token + stored)


@pytest.mark.covers("SEC-22")
def test_empty_data_are_a_message(target: Target) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(b".\r\n")
        assert verdict(wire)[:3] in (b"250", b"554", b"550")


@pytest.mark.covers("SEC-23")
@pytest.mark.parametrize("octet", [b"\r", b"\n"])
@pytest.mark.parametrize(
    "place", [b"Subject: a%sb\r\n\r\nx", b"Subject: ab\r\n\r\nx%sy", b"Subject: ab%s\r\n\r\nx"]
)
def test_stray_octets_never_go_on(target: Target, octet: bytes, place: bytes) -> None:
    with target.session() as wire:
        wire.begin(b"ann@open.example")
        wire.send(place % octet + END)
        assert verdict(wire).startswith(STRAY)


@pytest.mark.covers("SEC-24")
@pytest.mark.parametrize(
    "line", [b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"NOOP\n", b"MAIL FROM:<a@b.example>\nRSET\r\n"]
)
def test_commands_end_with_crlf(target: Target, line: bytes) -> None:
    with target.session() as wire:
        wire.send(line)
        answer = wire.reply()
        assert answer.startswith((b"500", b"501")), answer
        if b"\n" in line.removesuffix(b"\r\n"):
            assert wire.until_closed() == b""
        else:
            assert wire.is_in_step()


@pytest.mark.covers("SEC-25")
@pytest.mark.parametrize("line", [b" folded\r\n", b"From x\r\n", b">From x\r\n"])
def test_leading_lines_count(target: Target, line: bytes) -> None:
    with target.session() as wire:
        wire.begin()
        wire.send(line * (210_000 // len(line)) + END[2:])
        assert verdict(wire).startswith(b"552 5.3.4 ")
