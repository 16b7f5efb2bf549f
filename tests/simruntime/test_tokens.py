"""Clients that prove their names by tokens, in a world of faults: connections end with them, calls go on."""

from collections import Counter

import pytest

from viewstamp.cli.sim import BAD_INPUT, OK, sim
from viewstamp.sim.run.plan import RunPlan
from viewstamp.simruntime.run import PROTOCOLS, execute


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_invariant_holds_when_tokens_end_and_are_refused(protocol: str) -> None:
    seen = Counter[str]()
    for seed in (1, 2, 3):
        report = execute(RunPlan(protocol, seed, runtime=True, tokens=True))
        assert report.ok, (report.violation, report.replay)
        assert "--runtime --tokens" in report.replay
        assert report.committed > 0
        seen += Counter(report.faults)
    assert seen["token issued"] > 10
    assert seen["token to be refused"] > 0


def test_tokens_are_refused_where_no_hello_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert sim(seed=1, tokens=True) == BAD_INPUT
    assert "--tokens needs --runtime" in capsys.readouterr().err
    assert sim(seed=1, tokens=True, runtime=True) == OK


def test_a_run_with_tokens_repeats() -> None:
    plan = RunPlan("raft", 3, runtime=True, tokens=True)
    first = execute(plan)
    assert first.trace_hash == execute(plan).trace_hash
    assert first.trace_hash != execute(RunPlan("raft", 3, runtime=True)).trace_hash
