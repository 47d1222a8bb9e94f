"""What scenes read out of delivered mail."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from outrider.playground.stage import (
    Outcome,
    Refused,
    diagnosis_of,
    expect,
    headers_of,
    hops_of,
    plain_message,
    reason_in,
    trace_of,
    transact,
)

DELIVERED = b"""\
Received: from mx.alpha.example (mx.alpha.example [127.0.1.1])
\t(TLSv1.3, TLS_AES_256_GCM_SHA384; client certificate of mx.alpha.example)
\tby mx.beta.example (Outrider) with AMTP id 1M80HSQ
\tfor <carol@beta.example>;
\tSun, 22 Nov 2026 02:00:01 +0000
Received: from laptop.alpha.example (unknown [127.0.0.1])
\tby mx.alpha.example (Outrider) with ESMTPSA id 1M80HSP;
\tSun, 22 Nov 2026 02:00:00 +0000
Subject: Hello

"""
REPORT = b"""\
Content-Type: multipart/report

--x
Content-Type: message/delivery-status

Final-Recipient: rfc822;dave@beta.example
Action: failed
Diagnostic-Code: smtp; 550 5.7.1 MPC policy violation
\t(dave wants no offers)

--x--
"""


@pytest.fixture
def delivered(tmp_path: Path) -> Path:
    path = tmp_path / "message"
    path.write_bytes(DELIVERED.replace(b"\n", b"\r\n"))
    return path


FETCHED = b"""\
Received: from mhf-1.alpha.example (unknown [127.0.1.1]) (TLSv1.3, by HTTPS)
\tby mx.north.example (Outrider) with AMDP id 1M80HSR
\tfor <nora@north.example>; Sun, 22 Nov 2026 02:00:01 +0000

"""


def test_what_stands_in_comments_is_no_hop(tmp_path: Path) -> None:
    path = tmp_path / "fetched"
    path.write_bytes(FETCHED)
    assert hops_of(path) == ["mx.north.example AMDP TLSv1.3"]
    assert trace_of(path) == [("mx.north.example", "1M80HSR")]


def test_hops_are_told_from_the_first(delivered: Path) -> None:
    assert hops_of(delivered) == ["mx.alpha.example ESMTPSA in clear", "mx.beta.example AMTP TLSv1.3"]
    assert trace_of(delivered) == [("mx.alpha.example", "1M80HSP"), ("mx.beta.example", "1M80HSQ")]


def test_a_message_that_has_gone_says_nothing(tmp_path: Path) -> None:
    assert headers_of(tmp_path / "gone")["Subject"] is None


def test_a_report_says_why(tmp_path: Path, delivered: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(REPORT)
    assert diagnosis_of(path) == "550 5.7.1 MPC policy violation (dave wants no offers)"
    assert diagnosis_of(delivered) == "no reason given"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("deferred by amtp at mx [127.0.2.1]:10125: 504 4.7.8 not believed", "504 4.7.8 not believed"),
        ("deferred: 4.4.1 cannot connect: refused", "4.4.1 cannot connect: refused"),
        ("something else", "something else"),
    ],
)
def test_the_reason_is_found_in_an_events_text(text: str, reason: str) -> None:
    assert reason_in(text) == reason


def test_a_reply_that_was_not_hoped_for_is_a_refusal_in_one_line() -> None:
    assert expect((250, b"ok"), 250) == "ok"
    with pytest.raises(Refused, match=r"550 5\.7\.1 no / never"):
        expect((550, b"5.7.1 no\nnever"), 250)


class _Refusing(smtplib.SMTP):
    """A client whose server refuses the data."""

    def mail(self, sender: str, options: object = ()) -> tuple[int, bytes]:
        return 250, b"ok"

    def rcpt(self, recip: str, options: object = ()) -> tuple[int, bytes]:
        return 250, b"ok"

    def data(self, msg: object) -> tuple[int, bytes]:
        raise smtplib.SMTPDataError(451, b"not now")


def test_a_refusal_of_data_is_one_like_others() -> None:
    with pytest.raises(Refused, match="451 not now"):
        transact(_Refusing(), "a@alpha.example", ("b@beta.example",), b"", [])


def test_an_outcome_has_one_end() -> None:
    outcome = Outcome("title", False, "not yet")
    assert outcome.now_is("delivered", good=True) is outcome
    assert (outcome.good, outcome.verdict) == (True, "delivered")


def test_a_plain_message_is_one() -> None:
    assert plain_message("Hello", "b@beta.example").get_content() == "A line of text.\n"
