"""Positions and tokens."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.core.ids import COMMANDS_PER_ENTRY_MAX, ORIGIN, Seqno, View, Viewstamp, fencing_token

POSITIONS = st.tuples(
    st.integers(min_value=0, max_value=2**40), st.integers(min_value=0, max_value=COMMANDS_PER_ENTRY_MAX - 1)
)


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def test_view_decides_when_viewstamps_are_compared() -> None:
    assert stamp(2, 1) > stamp(1, 99)
    assert stamp(2, 1) < stamp(2, 2)
    assert stamp(0, 1) > ORIGIN


def test_viewstamp_reads_as_view_and_seqno_when_printed() -> None:
    assert str(stamp(3, 14)) == "3.14"


def test_viewstamp_is_an_array_of_two_when_encoded() -> None:
    encoded = msgspec.msgpack.encode(stamp(3, 14))
    assert encoded == b"\x92\x03\x0e"
    assert msgspec.msgpack.decode(encoded, type=Viewstamp) == stamp(3, 14)


@given(POSITIONS, POSITIONS)
def test_tokens_are_ordered_as_positions_are(one: tuple[int, int], other: tuple[int, int]) -> None:
    tokens = fencing_token(Seqno(one[0]), one[1]), fencing_token(Seqno(other[0]), other[1])
    assert (tokens[0] < tokens[1]) == (one < other)


@pytest.mark.parametrize("offset", [-1, COMMANDS_PER_ENTRY_MAX])
def test_token_is_our_own_fault_when_the_offset_is_out_of_range(offset: int) -> None:
    with pytest.raises(AssertionError):
        fencing_token(Seqno(1), offset)
