"""One fault at one message of a scenario, or two: the cluster recovers from each.

A failure prints the trial that repeats it. More of them: `make sim MISHAPS=200`.
"""

import os
from itertools import islice
from random import Random

import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.faults.scenarios import SCENARIOS
from viewstamp.sim.faults.search import Finding, Trial, drawn, perform, singles
from viewstamp.sim.faults.single_faults import KINDS

TRIALS = {"viewstamped": 6, "raft": 3, "primary_backup": 3}
"""Of each scenario. Any member of viewstamped can hold up a view, so it has most to get wrong."""
MORE = int(os.environ.get("MISHAPS") or "0")
"""Trials of each scenario, if that is more."""
LATE = ["duplicated, 1 timeouts later", "duplicated, after the next 2", "late by 1 timeouts"]
DISK = ["disk error", "disk full"]


def findings(trials: list[Trial]) -> list[Finding]:
    assert trials
    return [finding for trial in trials if (finding := perform(trial).finding) is not None]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_a_cluster_recovers_when_messages_go_wrong(protocol: str, scenario: str) -> None:
    rng = Random(f"{protocol} {scenario}")
    found = findings(list(islice(drawn(protocol, scenario, rng), max(MORE, TRIALS[protocol]))))
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("scenario", "message", "kinds"),
    [
        ("member-lost-of-4", "Chunk", DISK),  # a snapshot that arrived and could not be written
        ("lagging-slow-disk", "Position", LATE),  # late news of a transfer that was over
    ],
)
def test_a_transfer_goes_on_in_its_view_when_any_of_its_messages_goes_wrong(
    scenario: str, message: str, kinds: list[str]
) -> None:
    """Otherwise the backup would be removed and re-admitted, which would hide the defect."""
    undisturbed = perform(Trial("viewstamped", scenario)).view
    trials = singles("viewstamped", scenario, of=message, among=kinds)
    assert len(trials) > len(kinds)
    for trial in trials:
        outcome = perform(trial)
        assert outcome.finding is None, str(outcome.finding)
        assert outcome.view == undisturbed, trial


@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_two_candidates_do_not_outbid_each_other_endlessly(protocol: str) -> None:
    for seed in (1, 31):
        outcome = perform(Trial(protocol, "two-proposers", (), seed))
        assert outcome.finding is None, str(outcome.finding)
        assert len(outcome.messages) < 600, f"{protocol}, seed {seed}"


def test_a_trial_repeats_exactly() -> None:
    trial = Trial("raft", "leader-lost", ((7, "receiver stops for 3 timeouts"), (9, "lost")))
    assert perform(trial) == perform(trial)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_changes_the_run_when_it_hits_a_piece_of_a_snapshot(kind: str) -> None:
    undisturbed = perform(Trial("raft", "lagging")).trace_hash
    trials = singles("raft", "lagging", of="SnapshotChunk", among=[kind])
    assert any(perform(trial).trace_hash != undisturbed for trial in trials)


@pytest.mark.parametrize("scenario", ["lagging", "lagging-down", "wiped", "wiped-leader", "member-lost"])
@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_a_scenario_about_a_member_that_missed_much_sends_it_a_snapshot(protocol: str, scenario: str) -> None:
    pieces = singles(protocol, scenario, of="Chunk" if protocol == "viewstamped" else "SnapshotChunk")
    assert len(pieces) >= 3 * len(KINDS)


def test_a_scenario_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="there is no scenario 'hamlet': choose one of lagging"):
        singles("raft", "hamlet")
