"""Limits that make no sense are refused by name."""

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.replica.options import ClientOptions, ReplicaOptions, SessionLimits

ZERO_ALLOWED = {"sessions", "state_check_every", "disk_stall_ms"}


@pytest.mark.parametrize("name", SessionLimits.__struct_fields__)
def test_a_limit_of_sessions_is_refused_when_it_is_zero(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        SessionLimits(**{name: 0})


@pytest.mark.parametrize("name", sorted(set(ReplicaOptions.__struct_fields__) - ZERO_ALLOWED))
def test_a_limit_of_a_replica_is_refused_when_it_is_zero(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ReplicaOptions(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(set(ClientOptions.__struct_fields__) - {"session_time_to_live_ms"}))
def test_a_limit_of_a_client_is_refused_when_it_is_zero(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ClientOptions(**{name: 0})


def test_tokens_could_run_out_when_a_batch_or_the_sessions_were_too_many() -> None:
    with pytest.raises(ConfigurationError, match="524288"):
        ReplicaOptions(batch_commands_max=1 << 20)
    with pytest.raises(ConfigurationError, match="524288"):
        SessionLimits(sessions_max=1 << 20)


def test_a_minimum_may_not_exceed_its_maximum() -> None:
    with pytest.raises(ConfigurationError, match="answer_timeout_ms"):
        ClientOptions(answer_timeout_ms=10_000)
    with pytest.raises(ConfigurationError, match="backoff"):
        ClientOptions(backoff_min_ms=5_000)


def test_a_client_stays_within_what_the_servers_allow_when_both_use_defaults() -> None:
    client, replica = ClientOptions(), ReplicaOptions()
    assert client.window < replica.sessions.results_per_session_max
    assert client.message_calls_max <= replica.batch_commands_max
