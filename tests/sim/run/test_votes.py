"""Replicas compare their states in simulated runs too, and take nothing for different that is equal."""

from typing import Any

import msgspec
import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.replica.events import DigestVote
from viewstamp.sim.run.plan import RunPlan
from viewstamp.sim.run.run import execute
from viewstamp.sim.world import network, tuning

SEEDS = range(3)


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_no_replica_doubts_when_votes_are_lost_duplicated_and_late(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doubt, and a verdict, would be a violation."""

    def with_checks(options: Any) -> Any:
        drawn = tuning.replica_options(options)
        return msgspec.structs.replace(drawn, state_check_every=options.state_check_every)

    votes = []
    send = network.Network.send

    def counted(self: Any, source: Any, to: Any, message: Any) -> None:
        if type(message) is DigestVote:
            votes.append(message)
        send(self, source, to, message)

    monkeypatch.setattr("viewstamp.sim.cluster.cluster.replica_options", with_checks)
    monkeypatch.setattr(network.Network, "send", counted)
    for seed in SEEDS:
        report = execute(RunPlan(protocol, seed))
        assert report.violation is None, report.violation
    assert len(votes) > 100
    assert {vote.kind for vote in votes} == {"state"}
