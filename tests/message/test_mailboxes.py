"""Addresses out of address fields."""

from __future__ import annotations

import pytest

from outrider.message.mailboxes import mailboxes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"ann@a.example", ["ann@a.example"]),
        (b"Ann <ann@a.example>, bob@B.example", ["ann@a.example", "bob@b.example"]),
        (b'"Fox, Ann" <ann@a.example>', ["ann@a.example"]),
        (b'"<evil@x.example>" <ann@a.example>', ["ann@a.example"]),
        (b"Ann (the <evil@x.example>) <ann@a.example> (x)", ["ann@a.example"]),
        (b"ann(nested (deeply))@a.example", ["ann@a.example"]),
        (b"Friends: ann@a.example, bob@b.example;", ["ann@a.example", "bob@b.example"]),
        (b"undisclosed-recipients:;", []),
        (b'"a\\"b"@a.example', ['"a\\"b"@a.example']),
        (b"no address here", []),
        (b"", []),
        (b"<>", []),
        ("Änne <änne@a.example>".encode(), ["änne@a.example"]),
    ],
)
def test_forms(value: bytes, expected: list[str]) -> None:
    assert [str(one) for one in mailboxes(value)] == expected


@pytest.mark.covers("SEC-116")
@pytest.mark.parametrize(
    "hostile", [b"(" * 60_000, b'"' * 60_000, b"<" * 60_000, b"a," * 30_000, b"\\" * 60_000]
)
def test_repetition_ends(hostile: bytes) -> None:
    assert mailboxes(hostile + b" <ann@a.example>") in ((), mailboxes(b"ann@a.example"))


@pytest.mark.covers("SEC-116")
def test_the_number_is_bounded() -> None:
    assert len(mailboxes(b", ".join(b"u%d@a.example" % n for n in range(5000)))) == 100
