"""Lengths that no netstring may begin with (SEC-176), for whatever reads one."""

MALFORMED_LENGTHS = [
    b"99999999999:",
    b"-1:",
    b"007:",
    b" 6:",
    b"6 :",
    b"1_0:",
    b"+6:",
    "６:".encode(),
    b":",
    b"1" * 1_000_000,
]
