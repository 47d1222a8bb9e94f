"""Targets of requests and calls, drawn at random: read in one way, or refused."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.holding.web import CallFailed
from outrider.net.amdp_web_request import MAX_PARAMETERS, RequestRefused, read_path, read_query
from outrider.net.amdp_web_targets import check_target

_pieces = st.sampled_from(
    [
        "/",
        "..",
        ".",
        "%2e",
        "%2F",
        "%5c",
        "\\",
        "%00",
        "%0d%0a",
        "?",
        "a",
        "%c3%a4",
        "%ff",
        ";",
        "%25",
        "#",
        " ",
    ]
)
TARGETS = st.one_of(st.text(max_size=40), st.lists(_pieces, max_size=12).map("".join))


@pytest.mark.covers("SEC-186", "SEC-200")
@settings(max_examples=400, deadline=None)
@given(TARGETS.map(lambda text: "/" + text))
def test_a_path_has_one_reading_or_none(target: str) -> None:
    try:
        path, _ = read_path(target)
    except RequestRefused:
        return
    parts = path[1:].split("/")
    assert path == "/" or not {"", ".", ".."} & set(parts)
    assert not any(ord(character) < 32 or character in "\\\x7f" for character in path)
    assert read_path(quote(path)) == (path, "")


@pytest.mark.covers("SEC-204")
@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="a=&%;+", max_size=80)))
def test_a_query_is_read_or_refused(query: str) -> None:
    try:
        read = read_query(query)
    except RequestRefused:
        return
    assert len(read) <= MAX_PARAMETERS


@pytest.mark.covers("SEC-185", "SEC-207")
@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="a1.-x0@:/[]%", max_size=20)))
def test_a_host_that_may_be_called_is_a_plain_name(host: str) -> None:
    try:
        check_target(host, 443, "/")
    except CallFailed:
        return
    assert set(host) <= set(string.ascii_lowercase + string.digits + "-._")
    labels = host.split(".")
    assert len(labels) > 1
    assert not labels[-1].isdigit()
