"""What may be set, and what is refused."""

from typing import Any

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.protocols.viewstamped.options import ViewstampedOptions


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"heartbeat_ms": 0}, "heartbeat_ms"),
        ({"uncommitted_entries_max": 0}, "uncommitted_entries_max"),
        ({"commit_announce_ms": -1}, "commit_announce_ms"),
        ({"bootstrap": "join"}, "contact"),
        ({"applies_per_step_max": 0}, "applies_per_step_max"),
    ],
)
def test_options_are_refused_when_a_value_makes_no_sense(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        ViewstampedOptions(**values)


def test_options_are_in_microseconds_when_a_core_reads_them() -> None:
    options = ViewstampedOptions(heartbeat_ms=1, paxos_timeout_ms=2, join_retry_ms=3, commit_announce_ms=0)
    assert (options.heartbeat_us, options.paxos_timeout_us) == (1_000, 2_000)
    assert (options.join_retry_us, options.commit_announce_us) == (3_000, 0)


def test_a_log_may_be_unlimited_and_a_contact_may_be_node_0() -> None:
    assert ViewstampedOptions(log_bytes_max=None, bootstrap="join", contact=NodeId(0)).contact == 0
