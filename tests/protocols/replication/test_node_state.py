"""Which numbers a message may hold."""

from viewstamp.protocols.replication.node_state import NUMBER_MAX, in_range


def test_numbers_when_they_are_out_of_range() -> None:
    assert in_range(0, 1, NUMBER_MAX)
    assert not in_range(0, -1)
    assert not in_range(NUMBER_MAX + 1)
