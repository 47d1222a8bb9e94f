"""Records: what is not ours is not believed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.envelope import Arrival
from outrider.model.message import ItemKey, ItemState, MessageId
from outrider.spool import codec, transitions
from outrider.spool.codec import Malformed
from outrider.testing.spool_samples import message, messages

KEY = ItemKey(MessageId("ID"), 0)
TO = "b.example"
NAME = codec.item_name(KEY, TO)


def item_record() -> bytes:
    """Of some item."""
    return codec.encode_item(transitions.first_items(message(id_="ID"))[0])


@pytest.mark.covers("FAULT-F9")
@given(messages(), st.data())
def test_one_flipped_bit_anywhere_is_noticed(new: object, data: st.DataObject) -> None:
    record = bytearray(codec.encode_message(new))  # type: ignore[arg-type]
    place = data.draw(st.integers(0, len(record) * 8 - 1))
    record[place // 8] ^= 1 << place % 8
    with pytest.raises(Malformed):
        codec.decode_message(new.id, bytes(record))  # type: ignore[attr-defined]


@pytest.mark.covers("SEC-212")
@given(st.binary(max_size=200) | st.none() | st.integers() | st.text())
def test_anything_is_read_or_malformed(octets: object) -> None:
    sealed = codec.seal(octets, "ID") if isinstance(octets, bytes) else octets
    for value in (octets, sealed):
        with pytest.raises(Malformed):
            codec.decode_message("ID", value)
        with pytest.raises(Malformed):
            codec.decode_trail("ID", value)
        with pytest.raises(Malformed):
            codec.decode_item(KEY, "d", ItemState.READY, 0.0, value)


@pytest.mark.covers("SEC-212")
def test_a_record_under_another_name_is_refused() -> None:
    new = message(id_="ID")
    codec.decode_message("ID", codec.encode_message(new))
    with pytest.raises(Malformed):
        codec.decode_message("OTHER", codec.encode_message(new))


@pytest.mark.covers("SEC-212")
def test_a_format_of_the_future_is_refused() -> None:
    record = bytearray(codec.unseal(item_record(), NAME))
    assert record[1] == codec.ITEM_FORMAT
    record[1] = codec.ITEM_FORMAT + 1
    with pytest.raises(Malformed, match="format 3"):
        codec.decode_item(KEY, TO, ItemState.READY, 0.0, codec.seal(bytes(record), NAME))


@pytest.mark.covers("FAULT-F9")
def test_an_item_under_another_destination_or_number_is_refused() -> None:
    record = item_record()
    assert codec.decode_item(KEY, TO, ItemState.READY, 0.0, record).destination == TO
    for key, destination in ((KEY, "b.exampld"), (ItemKey(KEY.message, 1), TO)):
        with pytest.raises(Malformed, match="checksum"):
            codec.decode_item(key, destination, ItemState.READY, 0.0, record)


def test_an_item_of_an_earlier_release_is_read() -> None:
    row = msgspec.msgpack.decode(codec.unseal(item_record(), NAME))
    old = codec.seal(msgspec.msgpack.encode([codec.FORMAT, *row[1:]]), "ID")
    assert codec.decode_item(KEY, TO, ItemState.READY, 0.0, old).attempts == 0
    new_under_old_name = codec.seal(msgspec.msgpack.encode(row), "ID")
    with pytest.raises(Malformed, match="format 2"):
        codec.decode_item(KEY, TO, ItemState.READY, 0.0, new_under_old_name)


def test_fields_that_a_later_release_appends_do_not_matter() -> None:
    row = msgspec.msgpack.decode(codec.unseal(item_record(), NAME))
    longer = codec.seal(msgspec.msgpack.encode([*row, "new"]), NAME)
    assert codec.decode_item(KEY, TO, ItemState.READY, 0.0, longer).attempts == 0


OLD_FIELDS = 16
"""Of a message's record, as releases before AMTP wrote it."""


@pytest.mark.covers("AMTP-14")
def test_a_row_from_before_amtp_has_no_code() -> None:
    row = msgspec.msgpack.decode(codec.unseal(codec.encode_message(message(id_="ID")), "ID"))
    older = codec.seal(msgspec.msgpack.encode(row[:OLD_FIELDS]), "ID")
    envelope = codec.decode_message("ID", older).envelope
    assert (envelope.mpc, envelope.arrival) == (None, Arrival.OTHER)


@pytest.mark.covers("AMDP-5a")
def test_a_row_from_before_amdp_is_no_envelope() -> None:
    row = msgspec.msgpack.decode(codec.unseal(codec.encode_message(message(id_="ID")), "ID"))
    older = codec.seal(msgspec.msgpack.encode(row[: OLD_FIELDS + 2]), "ID")
    assert codec.decode_message("ID", older).envelope.link_token == ""


@pytest.mark.covers("AMTP-9", "SEC-212")
def test_a_row_with_a_code_that_does_not_exist_is_refused() -> None:
    row = msgspec.msgpack.decode(codec.unseal(codec.encode_message(message(id_="ID")), "ID"))
    row[OLD_FIELDS] = "individual/confirmed"
    with pytest.raises(Malformed, match="unknown role"):
        codec.decode_message("ID", codec.seal(msgspec.msgpack.encode(row), "ID"))
