"""Three outages in every order: the cluster serves where it owes that, and comes back.

A failure prints the trial that repeats it. More of them: `make sim OUTAGES=1000`.
"""

import os
from itertools import islice
from random import Random

import pytest

from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.sim.faults.outages import PACES, Outages, Step, Verdict, drawn, perform, sequences

TRIALS = 8
MORE = int(os.environ.get("OUTAGES") or "0")
"""Trials of each protocol and size, if that is more."""
OUTAGES = 3


@pytest.mark.parametrize("servers", [3, 5])
@pytest.mark.parametrize("protocol", PROTOCOL_NAMES)
def test_a_cluster_comes_back_when_three_servers_go_in_any_order(protocol: str, servers: int) -> None:
    rng = Random(f"{protocol} {servers} {MORE}")
    trials = islice(drawn(protocol, servers, OUTAGES, rng), max(MORE, TRIALS))
    verdicts = [perform(trial) for trial in trials]
    found = [verdict.why for verdict in verdicts if verdict.why]
    assert not found, "\n".join(found)
    assert any(verdict.beyond is None for verdict in verdicts)


@pytest.mark.parametrize("pace", PACES)
def test_a_small_view_whose_member_lost_its_disk_goes_on_when_the_third_is_back(pace: str) -> None:
    """The stop that a stranger found (docs/faults.md#vn1): one down, another forgets, and both return."""
    steps: tuple[Step, ...] = (("stop", 1), ("lose", 0), ("return", 0), ("return", 1))
    assert perform(Outages("viewstamped", 3, steps, pace)).why == ""


def test_clients_leave_a_primary_that_is_cut_off_when_their_calls_are_short() -> None:
    """Found by this search: each call ended before its answer was overdue, so its client stayed."""
    first: tuple[Step, ...] = (
        ("cut", 0),
        ("stop", 1),
        ("return", 1),
        ("return", 0),
        ("stop", 1),
        ("return", 1),
    )
    second: tuple[Step, ...] = (
        ("cut", 1),
        ("return", 1),
        ("cut", 0),
        ("stop", 1),
        ("return", 1),
        ("return", 0),
    )
    for steps in (first, second):
        assert perform(Outages("viewstamped", 3, steps)).why == ""


def test_a_trial_repeats_exactly_when_it_is_performed_again() -> None:
    trial = Outages("raft", 3, (("lose", 0), ("cut", 1), ("return", 0), ("return", 1)), "quick")
    assert perform(trial) == perform(trial)


def test_a_disk_more_than_the_protocol_promises_is_not_lost() -> None:
    trial = Outages("raft", 3, (("lose", 0), ("lose", 1), ("return", 0), ("return", 1)))
    verdict = perform(trial)
    assert (verdict.beyond, verdict.why) == (("lose", 1), "")


def test_a_disk_may_be_lost_again_when_all_hold_everything_again() -> None:
    steps: tuple[Step, ...] = (
        ("lose", 0),
        ("return", 0),
        ("lose", 1),
        ("return", 1),
        ("lose", 2),
        ("return", 2),
    )
    assert perform(Outages("raft", 3, steps)) == Verdict(perform(Outages("raft", 3, steps)).trace_hash)


def test_each_sequence_is_listed_once_and_ends_with_all_servers_back() -> None:
    known = list(sequences(3, 2))
    assert len(known) == len(set(known))
    # One after the other 3 * 3 choices of servers, at once 3 * 2 with two orders of return; 3 * 3 of kinds.
    assert len(known) == 21 * 9
    for steps in known:
        gone = [node for what, node in steps if what != "return"]
        back = [node for what, node in steps if what == "return"]
        assert sorted(gone) == sorted(back)
