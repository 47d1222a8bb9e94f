"""The signatures of the playground: good over every octet they cover, and over nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from outrider.playground.dkim import record_of, signed, verifies

MESSAGE = (
    b"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nFrom:  Nora <nora@north.example>\r\n"
    b"To: erin@gamma.example\r\nSubject: folded\r\n\tand odd \r\nX-Odd: one\r\n\r\nHello.\r\n\r\n"
)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def test_a_signature_verifies_below_the_fields_of_hops(key: rsa.RSAPrivateKey) -> None:
    octets = signed(MESSAGE, "north.example", "play", key)
    assert octets.endswith(MESSAGE)
    assert verifies(octets, record_of(key))
    assert verifies(b"Received: from a\r\n\tby b; now\r\n" + octets, record_of(key))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"Hello", b"hello"), (b"From:  Nora", b"From: Nora"), (b"\tand", b" and"), (b"d=north", b"d=south")],
)
def test_one_changed_octet_breaks_it(key: rsa.RSAPrivateKey, old: bytes, new: bytes) -> None:
    octets = signed(MESSAGE, "north.example", "play", key).replace(old, new)
    assert not verifies(octets, record_of(key))


def test_another_key_is_not_the_signers(key: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(65537, 2048)
    assert not verifies(signed(MESSAGE, "north.example", "play", key), record_of(other))
