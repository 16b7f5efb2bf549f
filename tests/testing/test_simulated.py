"""A simulated cluster under the control of a test, and hypothesis over it."""

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.testing import shops
from viewstamp.core.errors import CommandFailed, NotExecuted, OutcomeUnknown
from viewstamp.core.judge import InvariantViolated
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.testing import ClusterMachine, SimulatedCluster
from viewstamp.testing.fixtures import LentMachine


@pytest.mark.parametrize("protocol", ["raft", "viewstamped", "primary_backup"])
def test_calls_are_answered_when_the_leader_is_killed(protocol: str) -> None:
    cluster = SimulatedCluster(shops.Shop, protocol=protocol)
    assert cluster.call("deliver", "apple", 2) == 2
    leader = cluster.leader()
    assert leader is not None
    if protocol != "primary_backup":
        cluster.kill(leader)
    assert cluster.call("order", "apple", timeout_s=60) == 1
    with pytest.raises(CommandFailed):
        cluster.call("order", "pear", timeout_s=60)
    assert cluster.call("left", "apple", timeout_s=60) == 1
    cluster.check()


def test_call_ends_without_a_result_when_a_majority_is_cut_off() -> None:
    cluster = SimulatedCluster(shops.Shop)
    cluster.partition({0}, {1}, {2})
    with pytest.raises((NotExecuted, OutcomeUnknown)):
        cluster.call("deliver", "apple", 2, timeout_s=2)
    cluster.heal()
    cluster.pause(0, 0.5)
    cluster.slow_disk(1)
    cluster.clock(2, 5)
    cluster.bad_network()
    assert cluster.call("deliver", "pear", 1, client=1, timeout_s=60) == 1
    cluster.heal()
    cluster.run(3)
    cluster.wipe(0)
    cluster.check()
    assert {cluster.state(node).stock["pear"] for node in cluster.nodes} == {1}


class Fire(ClusterMachine):
    machine = shops.Shop


class Odd(StateMachine):
    total: int = 0

    @command
    def add(self) -> int:
        self.total += getattr(random, "get" + "randbits")(1)
        return self.total


class OddFire(ClusterMachine):
    machine = Odd


SETTINGS: Any = settings(
    max_examples=6, stateful_step_count=12, deadline=None, database=None, derandomize=True
)


def test_class_withstands_when_hypothesis_chooses_calls_and_faults() -> None:
    assert {"call_deliver", "call_order", "call_left"} <= set(dir(Fire))
    run_state_machine_as_test(Fire, settings=SETTINGS)


def test_class_is_accused_when_hypothesis_finds_what_differs() -> None:
    with pytest.raises(InvariantViolated, match="VS002 entropy"):
        run_state_machine_as_test(OddFire, settings=SETTINGS)


def test_machine_has_a_context_when_it_is_lent() -> None:
    lent = LentMachine(shops.Shop)
    with lent.command():
        assert lent.machine.deliver("apple", 1) == 1
    with lent.command(now=5):
        assert lent.machine.order("apple") == 1
    assert lent.restored().orders == [("apple", 5, 2 << 20)]
