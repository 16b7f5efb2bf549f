import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.raft import RaftOptions


def test_options_when_nothing_is_said_are_fit_for_use() -> None:
    options = RaftOptions()
    assert options.election_timeout_us == 300_000
    assert options.heartbeat_us == 100_000


@pytest.mark.parametrize("name", list(RaftOptions.__struct_fields__))
def test_options_when_one_is_zero_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RaftOptions(**{name: 0})


def test_options_when_a_lost_heartbeat_would_make_an_election_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="heartbeat_ms"):
        RaftOptions(heartbeat_ms=100, election_timeout_ms=199)


def test_log_limit_when_it_is_none_means_never() -> None:
    assert RaftOptions(log_bytes_max=None).log_bytes_max is None
