"""Our JSON is RFC 8785's, and no other is read."""

from __future__ import annotations

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.identity.canonical import canonical, read_canonical
from outrider.identity.jws import JwsError
from outrider.identity.seals import Core, Entry, SealedRecipient


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    zeta: str
    alpha: int
    nested: dict[str, str] = {}
    items: tuple[str, ...] = ()


DECODER = msgspec.json.Decoder(Sample)
_KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-#", max_size=12)


@pytest.mark.covers("MT2-23b")
@given(
    st.text(), st.integers(-(2**53) + 1, 2**53 - 1), st.dictionaries(_KEYS, st.text()), st.lists(st.text())
)
@settings(deadline=None)
def test_what_we_write_is_what_rfc_8785_wants(
    zeta: str, alpha: int, nested: dict[str, str], items: list[str]
) -> None:
    sample = Sample(zeta, alpha, nested, tuple(items))
    try:
        wanted = rfc8785.dumps(msgspec.to_builtins(sample))
    except rfc8785.CanonicalizationError:
        with pytest.raises(JwsError, match="not Unicode"):
            canonical(sample)
        return
    assert canonical(sample) == wanted
    assert read_canonical(wanted, DECODER, "a sample") == sample


@pytest.mark.covers("MT2-23b")
def test_seals_are_canonical_json_too() -> None:
    common = {
        "by": "a.example",
        "to": "b.example",
        "time": 5,
        "received": 4,
        "id": "m1",
        "certificates": ("x",),
    }
    recipients = (SealedRecipient('"ü\u2028\\"@x.example', "NEVER", "rfc822;\x7f"),)
    core = Core(**common, recipients=recipients, verified={"spf": "pass", "dkim": "none"})  # type: ignore[arg-type]
    entry = Entry(**common, hop=1, previous="y", removed=("q@x.example",))  # type: ignore[arg-type]
    for seal in (core, entry):
        assert canonical(seal) == rfc8785.dumps(msgspec.to_builtins(seal, str_keys=True))


@pytest.mark.covers("MT2-23b")
@pytest.mark.parametrize(
    "octets",
    [
        b'{"alpha":1, "zeta":"x"}',
        b'{"zeta":"x","alpha":1}',
        b'{"alpha":1,"alpha":1,"zeta":"x"}',
        b'{"alpha":2,"alpha":1,"zeta":"x"}',
        b'{"alpha":1.0,"zeta":"x"}',
        b'{"alpha":1e0,"zeta":"x"}',
        b'{"alpha":-0,"zeta":"x"}',
        b'{"alpha":1,"zeta":"\\u0078"}',
        b'{"alpha":1,"items":[],"zeta":"x"}',
        b'{"alpha":1,"zeta":"x"}\n',
        b'\xef\xbb\xbf{"alpha":1,"zeta":"x"}',
        b'{"alpha":1,"more":2,"zeta":"x"}',
        b'{"alpha":1}',
        b'{"alpha":"1","zeta":"x"}',
        b"[" * 10_000,
        b"\xff",
        b"",
        b"null",
    ],
)
def test_no_other_form_is_read(octets: bytes) -> None:
    assert read_canonical(b'{"alpha":1,"zeta":"x"}', DECODER, "a sample") == Sample("x", 1)
    with pytest.raises(JwsError, match="a sample"):
        read_canonical(octets, DECODER, "a sample")
