"""The MPC field: found under any spelling, put on top, taken out without a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.message.mpc_field import mpc_fields, read_mpc_field, with_mpc, without_mpc
from outrider.model.mpc import LEGAL, Mpc, MpcError, parse_mpc

PLAIN = b"From: a@a.example\r\nSubject: MPC: com/optin\r\nX-MPC: com/optin\r\nMPC-Note: x\r\n\r\n"
OPTIN = parse_mpc("com/optin")


@pytest.mark.covers("AMTP-14")
@pytest.mark.parametrize(
    "field",
    [b"MPC: com/optin\r\n", b"mpc:com/optin\r\n", b"Mpc :  COM/OptIn \r\n", b"MPC:\r\n com/optin\r\n"],
)
def test_the_field_is_found_wherever_it_stands(field: bytes) -> None:
    for section in (field + PLAIN, PLAIN[:-2] + field + b"\r\n", b"A: b\r\n" + field + b"C: d\r\n\r\n"):
        assert read_mpc_field(section) == OPTIN
        assert mpc_fields(without_mpc(section)) == ()
    assert without_mpc(field + PLAIN) == PLAIN
    assert without_mpc(b"A: b\r\n" + field + b"C: d\r\n\r\n") == b"A: b\r\nC: d\r\n\r\n"


def test_what_only_looks_like_it_is_none() -> None:
    assert mpc_fields(PLAIN) == ()
    assert read_mpc_field(PLAIN) is None
    assert without_mpc(PLAIN) == PLAIN


@pytest.mark.covers("AMTP-9", "AMTP-14")
@pytest.mark.parametrize(
    "fields",
    [
        b"MPC: com/optin\r\nMPC: com/optin\r\n",
        b"MPC:\r\n",
        b"MPC: com\r\n",
        b"MPC: com/spam\r\n",
        b"MPC: mpc/optin\r\n",
        b"MPC: com/optin (really)\r\n",
        b"MPC: com/optin, per/individual\r\n",
        b"MPC: c\xc3\xb6m/optin\r\n",
        b"MPC: " + b"x" * 100_000 + b"\r\n",
        b"MPC: com/\r\n optin\r\n",
    ],
)
def test_what_is_no_single_code_is_refused(fields: bytes) -> None:
    with pytest.raises(MpcError):
        read_mpc_field(fields + PLAIN)
    assert without_mpc(fields + PLAIN) == PLAIN


@pytest.mark.covers("AMTP-14")
@given(st.sampled_from(LEGAL), st.binary(max_size=80))
def test_what_is_put_on_top_comes_off_again(code: Mpc, rest: bytes) -> None:
    section = b"A: " + rest.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\r\n"
    marked = with_mpc(section, code)
    assert marked == f"MPC: {code}\r\n".encode() + section
    assert read_mpc_field(marked) == code
    assert without_mpc(marked) == section


@given(st.binary(max_size=200))
def test_any_octets_lose_their_fields_and_nothing_else(section: bytes) -> None:
    assert len(mpc_fields(section)) <= 2
    rest = without_mpc(section)
    assert mpc_fields(rest) == ()
    assert rest == section or len(rest) < len(section)
